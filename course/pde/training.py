"""A compiled trainer: the same losses whatever the chunks, interrupted or not. Needs JAX and optax.

Lessons: 19_million_dimensions, 20_high_order_pdes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import DTypeLike

from course.pde.equation import Field
from course.pde.natural_gradient import Linearized, NaturalGradient, Params
from course.taylor import arguments

if TYPE_CHECKING:  # Orbax comes along only where a run is to stay
    from course.train import resumable

Optimizer = optax.GradientTransformation | NaturalGradient


class State(NamedTuple):
    """Everything a run continues from; a pytree."""

    params: Params
    opt_state: Any
    key: jax.Array
    step: jax.Array  # steps done, () int32
    good: jax.Array  # whether every loss and gradient so far was finite, () bool


class DivergedError(ArithmeticError):
    """A loss or gradient was not finite. `step` is the step, `state` the state before it."""

    def __init__(self, step: int, loss: float, state: State):
        super().__init__(
            f"expected a finite loss and gradient, got loss {loss} at step {step}; `error.state` has the parameters "
            "before it: continue with another key if the points were at fault, else from an earlier state that "
            "`report` kept, with a lower learning rate or clipped gradients"
        )
        self.step, self.state = step, state


def _there(tree: Any, name: str, remedy: str) -> None:
    """Refuse arrays whose memory an earlier run took over."""
    if any(isinstance(leaf, jax.Array) and leaf.is_deleted() for leaf in jax.tree.leaves(tree)):
        raise ValueError(f"expected {name} with arrays that are still there, got some that `train` used up; {remedy}")


def start(params: Params, optimizer: Optimizer, key: jax.Array) -> State:
    """The state before the first step. It takes the parameters over: `train` writes the next ones into their memory."""
    _there(params, "parameters", "take `params` of the state that `train` returned, or draw new ones")
    state = State(params, optimizer.init(params), jax.random.clone(key), jnp.zeros((), jnp.int32), jnp.array(True))
    leaves, tree = jax.tree.flatten(state)
    seen: set[int] = set()  # memory can be taken over once: some optimizers hold an array twice, or the parameters
    for n, leaf in enumerate(leaves):
        if id(leaf) in seen:
            leaves[n] = jnp.copy(leaf)
        seen.add(id(leaf))
    return jax.tree.unflatten(tree, leaves)


def scaled_cosine_adam(
    steps: int, learning_rate: float, d: int, *, mu_dtype: DTypeLike | None = None
) -> optax.GradientTransformation:
    """Adam with a cosine decay to zero, the step of the weights that see d coordinates scaled by min(1, 3 / sqrt(d)).

    One Adam step moves each of d weights by the learning rate, and so what they sum up to by its sqrt(d)-fold.

    Args:
      steps: when the learning rate reaches zero.
      learning_rate: at the start.
      d: coordinates that the network sees. The first matrix with d rows, in the order of `jax.tree.leaves`, is scaled.
      mu_dtype: optax's; bfloat16 halves the memory of the first moment.
    Raises:
      ValueError: steps or d below 1.
      TypeError: they are no integers.
    """
    steps = arguments.integer("steps", steps, "the rate falls to zero over at least one step")
    d = arguments.integer("d", d, "the network sees at least one coordinate")

    def first_layer(params: Params) -> Params:
        leaves, tree = jax.tree.flatten(params)
        wide = [n for n, leaf in enumerate(leaves) if leaf.ndim == 2 and leaf.shape[0] == d]
        return jax.tree.unflatten(tree, [n in wide[:1] for n in range(len(leaves))])

    return optax.chain(
        optax.scale_by_adam(mu_dtype=mu_dtype),
        optax.masked(optax.scale(min(1.0, 3 / d**0.5)), first_layer),
        optax.scale_by_learning_rate(optax.cosine_decay_schedule(learning_rate, steps)),
    )


@partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=3)
def _run(loss_fn: Callable[..., Any], optimizer: Optimizer, steps: int, state: State) -> tuple[State, jax.Array]:
    """Some steps in one compiled loop that takes over the state's memory. A step that is not finite is not taken."""

    def step(state: State, _: None) -> tuple[State, jax.Array]:
        key = jax.random.fold_in(state.key, state.step)
        if isinstance(optimizer, NaturalGradient):
            batch = loss_fn(state.params, key, state.step)
            loss, updates, opt_state = optimizer.step(batch, state.opt_state, state.step)
            seen = updates
        else:
            loss, seen = jax.value_and_grad(loss_fn)(state.params, key)
            # a line search of optax hands on to value_fn what it does not know, and refuses what that does not take
            more = {"value": loss, "grad": seen, "value_fn": lambda params, parts=None: loss_fn(params, key)}
            if parts := getattr(loss_fn, "parts", None):
                more["parts"] = parts(state.params, key)  # for `gauss_newton`
            update = optax.with_extra_args_support(optimizer).update
            updates, opt_state = update(seen, state.opt_state, state.params, **more)
            # an optimizer that takes parts does without gradients: where nothing asks for them, they are not computed
            seen = updates if parts else seen
        finite = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((loss, seen))]
        good = state.good & jnp.stack(finite).all()
        params = optax.apply_updates(state.params, updates)
        params, opt_state = jax.tree.map(partial(jnp.where, good), (params, opt_state), (state.params, state.opt_state))
        return State(params, opt_state, state.key, state.step + good, good), loss

    return jax.lax.scan(step, state, None, steps)


def train(
    loss_fn: Callable[..., jax.Array | Linearized],
    optimizer: Optimizer,
    state: State,
    steps: int,
    *,
    chunk: int = 100,
    report: Callable[[State, jax.Array], None] | None = None,
    run: resumable.Run | None = None,
) -> tuple[State, jax.Array]:
    """Train up to a number of steps, compiled in chunks; the same losses whatever the chunks, interrupted or not.

    Args:
      loss_fn: (params, key) -> scalar; draws its own points from the key. The same object again continues without
        compiling again.
      optimizer: an optax optimizer; one that searches along a line, such as `optax.lbfgs`, is given what it needs. Or a
        `NaturalGradient`; loss_fn is then (params, key, step) -> `Linearized`, as `linearize` makes it.
      state: from `start`, or from an earlier call; its arrays are used up.
      steps: where to stop, counted from the beginning of the run; an integer >= 0.
      chunk: steps between two reports, >= 1.
      report: called after each chunk with the state and the chunk's losses; the place for a progress bar or a file.
      run: where checkpoints are kept: the newest one there takes the place of `state`; one is written after the last
        step, and between chunks when it is time or the process is asked to stop.
    Returns:
      The state after `steps`, and the losses of the steps made in this call.
    Raises:
      ValueError: chunk below 1, steps below 0, or a state that an earlier call used up.
      TypeError: chunk or steps is no integer, or the state does not come from `start`.
      DivergedError: a loss or gradient is not finite; it names the step and keeps the last good state.
      resumable.StoppedError: the process was asked to stop, and the state is saved.
    """
    chunk = arguments.integer("chunk", chunk, "report after every step at most")
    steps = arguments.integer("steps", steps, "with 0 nothing is trained", least=0)
    if not isinstance(state, State):
        raise TypeError(f"expected a state from pde.start, got {type(state).__name__}; pass start(params, ...)")
    _there(state, "a state", "continue with the state that it returned, or make another by `start`")
    if run is not None:
        state = run.restore(state)
    done, found = int(state.step), []
    while done < steps:
        state, losses = _run(loss_fn, optimizer, min(chunk, steps - done), state)
        if not bool(state.good):
            bad = int(state.step)
            raise DivergedError(bad, float(losses[bad - done]), state._replace(good=jnp.array(True)))
        done += len(losses)
        found.append(losses)
        if report is not None:
            report(state, losses)
        if run is not None:
            run.after(done, state)
    if run is not None:
        run.save(done, state)
    return state, jnp.concatenate(found) if found else jnp.zeros(0)


def gradient_enhanced(residual: Field, x: jax.Array, key: jax.Array, weight: float) -> jax.Array:
    """residual^2 + weight |grad residual|^2 with the gradient's square estimated from one random direction.

    Args:
      residual: (d,) -> ().
      x: point, (d,).
      key: PRNG key, consumed once.
      weight: of the second term.
    Returns:
      Scalar (), unbiased: for Rademacher v, the mean of (v . grad r)^2 is |grad r|^2. It costs one jvp of the residual
      where the whole gradient costs d of them, or one pass backwards through the residual and its memory.
    Source: Yu et al., gradient-enhanced PINNs (2022); amortised as in Shi et al. (2024).
    """
    v = jax.random.rademacher(key, x.shape, x.dtype)
    r, slope = jax.jvp(residual, (x,), (v,))
    return r**2 + weight * slope**2
