"""Optimizers that step as PyTorch's do where optax's do not: AMSGrad, NAdam, a rate lowered on a plateau, clipping.

All are optax's own form, gradient transformations to be chained and jitted. Needs JAX and optax.
Lessons: 04_optimizers, 04b_training_rules.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

# --- Adam's relatives --------------------------------------------------------------------------------------


class AMSGradState(NamedTuple):
    """Of `scale_by_amsgrad`: updates so far, (), int32; the moments and the largest second moment, trees of params.

    Taught in 04_optimizers.
    """

    count: jax.Array  # type: ignore[assignment]  # tuple.count
    mu: optax.Updates
    nu: optax.Updates
    nu_max: optax.Updates


def amsgrad(
    learning_rate: optax.ScalarOrSchedule, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> optax.GradientTransformationExtraArgs:  # fmt: skip
    """torch.optim.Adam(amsgrad=True): the largest second moment is taken first, and its bias corrected afterwards.

    `optax.amsgrad` corrects first: a moment of the early steps, divided by a small number, then stays the largest.

    Args:
      learning_rate: a number or a schedule of the step, counted from 0.
      b1, b2: torch's `betas`, in [0, 1).
      eps: added to the root of the second moment.
      weight_decay: added to the gradient, times the weights, as torch's Adam does it; `update` needs `params` then, and
        under `optax.inject_hyperparams` always, which makes an array of the 0. For AdamW chain `scale_by_amsgrad`,
        `optax.add_decayed_weights` and `optax.scale_by_learning_rate`.
    Raises:
      ValueError: b1 or b2 is out of range.
    Example: >>> rule = amsgrad(1e-3)
    """
    links = scale_by_amsgrad(b1, b2, eps), optax.scale_by_learning_rate(learning_rate)
    return optax.chain(_decay(weight_decay), *links)


def scale_by_amsgrad(b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> optax.GradientTransformation:
    """The link of a chain that is `amsgrad` without weight decay and learning rate; arguments as there."""
    _check_betas(b1, b2)
    return _scale_by_amsgrad(b1, b2, eps)


def _scale_by_amsgrad(b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> optax.GradientTransformation:
    """Taught in 04_optimizers as `scale_by_amsgrad`."""

    def init(params: optax.Params) -> AMSGradState:
        zeros = (jax.tree.map(jnp.zeros_like, params) for _ in range(3))
        return AMSGradState(jnp.zeros((), jnp.int32), *zeros)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, AMSGradState]:
        count = jnp.asarray(optax.safe_increment(state.count))
        mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, updates)
        nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state.nu, updates)
        nu_max = jax.tree.map(jnp.maximum, state.nu_max, nu)

        def step(m: jax.Array, v: jax.Array) -> jax.Array:
            root = jnp.sqrt(v) / jnp.sqrt(one_minus_power(b2, count, v.dtype))
            return m / one_minus_power(b1, count, m.dtype) / (root + eps)

        return jax.tree.map(step, mu, nu_max), AMSGradState(count, mu, nu, nu_max)

    return optax.GradientTransformation(init, update)


class NAdamState(NamedTuple):
    """Of `scale_by_nadam`: updates so far, (), int32; the momenta's product, (); the moments, trees of params."""

    count: jax.Array  # type: ignore[assignment]  # tuple.count
    product: jax.Array
    mu: optax.Updates
    nu: optax.Updates


def nadam(
    learning_rate: optax.ScalarOrSchedule, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8,
    weight_decay: float = 0.0, momentum_decay: float = 4e-3,
) -> optax.GradientTransformationExtraArgs:  # fmt: skip
    """torch.optim.NAdam: Nesterov's momentum in Adam, raised from half of b1 to b1 as training goes on.

    `optax.nadam` has all of b1 from the first step, which torch's reaches for a large `momentum_decay`.

    Args:
      learning_rate, b1, b2, eps, weight_decay: as for `amsgrad`.
      momentum_decay: how fast the momentum rises: at step t it is b1 (1 - 0.96^(t momentum_decay) / 2).
    Raises:
      ValueError: b1 or b2 is out of range.
    Example: >>> rule = nadam(2e-3)   # torch's default rate
    """
    links = scale_by_nadam(b1, b2, eps, momentum_decay), optax.scale_by_learning_rate(learning_rate)
    return optax.chain(_decay(weight_decay), *links)


def scale_by_nadam(
    b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8, momentum_decay: float = 4e-3
) -> optax.GradientTransformation:
    """The link of a chain that is `nadam` without weight decay and learning rate; arguments as there."""
    _check_betas(b1, b2)

    def init(params: optax.Params) -> NAdamState:
        zeros = (jax.tree.map(jnp.zeros_like, params) for _ in range(2))
        return NAdamState(jnp.zeros((), jnp.int32), jnp.ones((), float), *zeros)

    def momentum(count: jax.Array) -> jax.Array:
        return b1 * (1 - 0.5 * jnp.exp(count * (momentum_decay * math.log(0.96))))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, NAdamState]:
        count = jnp.asarray(optax.safe_increment(state.count))
        now, following = momentum(count), momentum(count + 1.0)  # the count ends at int32's largest number
        product = state.product * now
        of_gradient, of_mean = (1 - now) / (1 - product), following / (1 - product * following)
        mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, updates)
        nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state.nu, updates)

        def step(g: jax.Array, m: jax.Array, v: jax.Array) -> jax.Array:
            root = jnp.sqrt(v / one_minus_power(b2, count, v.dtype))
            return (of_gradient.astype(g.dtype) * g + of_mean.astype(m.dtype) * m) / (root + eps)

        return jax.tree.map(step, updates, mu, nu), NAdamState(count, product, mu, nu)

    return optax.GradientTransformation(init, update)


# `optax.inject_hyperparams` makes arrays of all numbers: traced ones, in a jitted step, that no `if` may look at


def _decay(weight_decay: float | jax.Array) -> optax.GradientTransformation:
    none = not isinstance(weight_decay, jax.Array) and weight_decay == 0
    return optax.identity() if none else optax.add_decayed_weights(weight_decay)


def _check_betas(b1: float | jax.Array, b2: float | jax.Array) -> None:
    known = [b for b in (b1, b2) if not isinstance(b, jax.Array)]
    if not all(0 <= b < 1 for b in known):
        raise ValueError(f"expected b1 and b2 in [0, 1), got {b1} and {b2}; torch's `betas` are these two")


def one_minus_power(decay: float | jax.Array, count: jax.Array, dtype: Any) -> jax.Array:
    """1 - decay^count, which Adam divides by, without the cancellation that costs float32 its last digits.

    Args:
      decay: b1 or b2, in [0, 1); of the default type at least, where it is an array.
      count: updates so far, (), integer, >= 1.
      dtype: what to return.
    Returns:
      (), of dtype.
    Example: >>> one_minus_power(0.999, count, jnp.float32)
    """
    log: float | jax.Array
    if isinstance(decay, jax.Array):
        log = jnp.log(decay)
    elif decay == 0:
        log = -math.inf
    else:
        log = math.log(decay)
    exact = count.astype(jnp.promote_types(dtype, jnp.float32))  # float16 counts to 2048
    return -jnp.expm1(exact * log).astype(dtype)


# --- a rate that falls when progress ends ------------------------------------------------------------------


class PlateauState(NamedTuple):
    """Of `reduce_on_plateau`, each (): the factor on the updates, the best value, looks since, looks to sit out."""

    scale: jax.Array
    best: jax.Array
    bad: jax.Array
    cooldown: jax.Array


def reduce_on_plateau(
    mode: str = "min", factor: float = 0.1, patience: int = 10, threshold: float = 1e-4, threshold_mode: str = "rel",
    cooldown: int = 0, min_lr: float = 0.0, eps: float = 1e-8, *, learning_rate: float = 1.0,
) -> optax.GradientTransformationExtraArgs:  # fmt: skip
    """torch's ReduceLROnPlateau, to be chained after an optimizer: `update(grads, state, params, value=loss)`.

    An update that is handed a value is one `schedule.step(value)`; without one it only scales, so that a validation
    loss is handed over once an epoch. The new rate holds for that same update; PyTorch, which looks after its step, has
    it for the next: hand an epoch's loss to the first update of the next. `optax.contrib.reduce_on_plateau` lowers the
    rate at the bad value number `patience`, PyTorch at the one after; optax's knows no "max", and its `min_scale` is
    no rate.

    Args:
      mode: "min" or "max", what is better.
      factor: on the rate, in [0, 1).
      patience: bad values let pass; the next one lowers the rate.
      threshold, threshold_mode: by how much a value must be better, "rel" a fraction of the best, "abs" a number.
      cooldown: values not counted as bad after the rate was lowered.
      min_lr: no lower rate than this.
      eps: the rate stays if it would fall by no more than this.
      learning_rate: the optimizer's own; min_lr and eps are compared with it, times the state's `scale`.
    Raises:
      ValueError: a mode is unknown, factor or learning_rate out of range, or value is no scalar.
    Example: >>> rule = optax.chain(optax.adam(1e-3), reduce_on_plateau(patience=5, learning_rate=1e-3))
    """
    if mode not in ("min", "max") or threshold_mode not in ("rel", "abs"):
        wanted = '"min" or "max", and "rel" or "abs"'
        raise ValueError(f"expected {wanted}, got {mode!r}, {threshold_mode!r}; name them by keyword")
    if not isinstance(factor, jax.Array) and not 0 <= factor < 1:
        raise ValueError(f"expected a factor in [0, 1), got {factor}; the rate is multiplied by it")
    if callable(learning_rate) or (not isinstance(learning_rate, jax.Array) and learning_rate <= 0):
        raise ValueError(f"expected a learning_rate above 0, got {learning_rate}; give the optimizer's, a number")
    sign = 1.0 if mode == "min" else -1.0

    def init(params: optax.Params) -> PlateauState:
        none = jnp.zeros((), jnp.int32)
        return PlateauState(jnp.ones((), float), jnp.array(sign * jnp.inf, float), none, none)

    def better(value: jax.Array, best: jax.Array) -> jax.Array:
        bar = best * (1 - sign * threshold) if threshold_mode == "rel" else best - sign * threshold
        return sign * value < sign * bar

    def look(state: PlateauState, value: jax.Array) -> PlateauState:
        improved = better(value, state.best)
        resting = state.cooldown > 0
        bad = jnp.where(improved | resting, 0, state.bad + 1)
        late = bad > patience
        rate = state.scale * learning_rate
        lower = jnp.maximum(rate * factor, min_lr)
        scale = jnp.where(late & (rate - lower > eps), lower / learning_rate, state.scale)
        waits = jnp.where(late, cooldown, jnp.maximum(state.cooldown - 1, 0))
        return PlateauState(scale, jnp.where(improved, value, state.best), jnp.where(late, 0, bad), waits)

    def update(
        updates: Any, state: Any, params: Any = None, *, value: Any = None, **extra_args: Any
    ) -> tuple[Any, PlateauState]:
        if value is not None:
            if jnp.shape(value) != ():
                raise ValueError(f"expected value (), got {jnp.shape(value)}; take the mean of the losses")
            state = look(state, jnp.asarray(value, float))
        return jax.tree.map(lambda u: state.scale.astype(u.dtype) * u, updates), state

    return optax.GradientTransformationExtraArgs(init, update)


# --- clipping ----------------------------------------------------------------------------------------------


def clip_grad_norm(
    grads: optax.Updates, max_norm: float, norm_type: float = 2.0, eps: float = 1e-6
) -> tuple[optax.Updates, jax.Array]:
    """torch.nn.utils.clip_grad_norm_ as a function: gradients times max_norm / (norm + eps) where that is below 1.

    `optax.clip_by_global_norm` divides by the norm alone: 1e-6 / norm off at every clip.

    Args:
      grads: a tree of arrays.
      max_norm: what the norm is brought down to, but for eps.
      norm_type: p of the p-norm of all entries together; `inf` is the largest one.
      eps: torch's.
    Returns:
      The clipped gradients, and the norm before, (). A norm that is NaN makes NaN of all of them, as in torch.
    Raises:
      ValueError: norm_type is not above 0.
    Example: >>> grads, norm = clip_grad_norm(grads, 1.0)
    """
    norm = total_norm(grads, norm_type)
    factor = jnp.minimum(1.0, max_norm / (norm + eps))
    return jax.tree.map(lambda g: (g * factor).astype(g.dtype), grads), norm


def clip_by_global_norm(max_norm: float, norm_type: float = 2.0, eps: float = 1e-6) -> optax.GradientTransformation:
    """`clip_grad_norm` as the link of a chain; arguments and errors as there."""
    _check_norm_type(norm_type)
    return optax.stateless(lambda grads, params: clip_grad_norm(grads, max_norm, norm_type, eps)[0])


def total_norm(grads: optax.Updates, norm_type: float = 2.0) -> jax.Array:
    """torch.nn.utils.get_total_norm: the p-norm of all entries of a tree together, (); 0 of an empty tree.

    In float32 where the entries are float16 or bfloat16: a sum of their squares may pass float16's largest number.
    """
    _check_norm_type(norm_type)
    sizes = [jnp.abs(leaf) for leaf in jax.tree.leaves(grads)]
    sizes = [leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)) for leaf in sizes]
    if not sizes:
        return jnp.zeros(())
    if math.isinf(norm_type):
        return jnp.stack([leaf.max(initial=0) for leaf in sizes]).max()
    if norm_type == 2:
        return jnp.sqrt(sum(jnp.sum(leaf * leaf) for leaf in sizes))
    return sum(jnp.sum(leaf**norm_type) for leaf in sizes) ** (1 / norm_type)


def _check_norm_type(norm_type: float) -> None:
    if not norm_type > 0:
        raise ValueError(f"expected a norm_type above 0, got {norm_type}; 2 is the usual one")
