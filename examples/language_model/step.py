"""The training state and the step, pure functions that `jit` compiles for any mesh. Needs JAX, flax and optax."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from examples.language_model import sharding
from examples.language_model.config import Config
from examples.language_model.model import GPT, Constrain


class State(NamedTuple):
    """All that changes in a training run, a pytree: what a checkpoint holds."""

    step: jax.Array  # (), int32: steps done
    params: Any
    ema: Any  # moving average of the parameters, which evaluation and sampling take
    optimizer: Any
    key: jax.Array  # draws what is dropped


def schedule(config: Config) -> optax.Schedule:
    """The learning rate of each step: a warm-up, then a cosine down to a tenth."""
    end = max(config.steps, config.warmup + 1)
    rule = optax.warmup_cosine_decay_schedule(0.0, config.rate, config.warmup, end, config.rate / 10)
    return lambda count: rule(jnp.asarray(count, float))  # an int32, divided, is float32 in a float64 run too


def optimizer(config: Config) -> optax.GradientTransformation:
    """AdamW on clipped gradients; only matrices decay."""
    matrices = partial(jax.tree.map, lambda p: p.ndim > 1)
    adam = optax.adamw(schedule(config), b2=0.95, weight_decay=config.weight_decay, mask=matrices)
    return optax.chain(optax.clip_by_global_norm(config.clip), adam)


def init(config: Config) -> State:
    """The state that a run begins with; pure, so that `jax.eval_shape(lambda: init(config))` gives its shapes."""
    weights, dropped = jax.random.split(jax.random.key(config.seed))
    params = nnx.state(GPT(config, rngs=nnx.Rngs(params=weights)), nnx.Param)
    average = jax.tree.map(jnp.copy, params)
    return State(jnp.zeros((), jnp.int32), params, average, optimizer(config).init(params), dropped)


def graphdef(config: Config) -> nnx.GraphDef[GPT]:
    """The model without its arrays: `nnx.merge(graphdef(config), params)` is a GPT."""
    return nnx.graphdef(nnx.eval_shape(lambda: GPT(config, rngs=nnx.Rngs(0))))


def make_loss(config: Config, constrain: Constrain = lambda x: x) -> Callable[..., jax.Array]:
    """`loss(params, tokens, key=None, counted=None)`: nats a token of tokens (batch, context + 1), int32.

    The mean over all; with `counted` (batch, context) the sum over those that are true.
    """
    graph = graphdef(config)

    def loss(params: Any, tokens: jax.Array, key: Any = None, counted: jax.Array | None = None) -> jax.Array:
        logits = nnx.merge(graph, params)(tokens[:, :-1], key, constrain)
        nats = optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:])
        return nats.mean() if counted is None else jnp.where(counted, nats, 0).sum()

    return loss


def make_step(config: Config, mesh: Mesh | None = None) -> Callable[[State, jax.Array], tuple[State, dict[str, Any]]]:
    """The training step: state and tokens (batch, context + 1), int32, to the next state and scalar metrics.

    The batch is taken in `config.accumulate` parts, one after the other, and the mean of their gradients is applied:
    the numbers are those of the whole batch. Without a mesh nothing is said of where arrays live.
    """
    rule, tx = schedule(config), optimizer(config)

    def split(x: jax.Array, name: str, *before: None) -> jax.Array:
        if mesh is None:
            return x
        axes = PartitionSpec(*before, *sharding.spec(name, mesh))
        return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, axes))

    loss = make_loss(config, lambda x: split(x, "activations"))

    def step(state: State, tokens: jax.Array) -> tuple[State, dict[str, Any]]:
        # every accumulate-th row is one part, so that each device keeps the rows that it has
        parts = split(tokens.reshape(-1, config.accumulate, tokens.shape[1]).swapaxes(0, 1), "tokens", None)
        keys = jax.random.split(jax.random.fold_in(state.key, state.step), config.accumulate)

        def gradient(tokens: jax.Array, key: jax.Array) -> tuple[jax.Array, Any]:
            return jax.value_and_grad(loss)(state.params, tokens, key if config.dropout else None)

        def add(total: Any, part: tuple[jax.Array, jax.Array]) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, total, gradient(*part)), None

        if config.accumulate == 1:
            value, grads = gradient(parts[0], keys[0])
        else:
            shapes = jax.eval_shape(gradient, parts[0], keys[0])
            zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
            value, grads = jax.tree.map(lambda x: x / config.accumulate, jax.lax.scan(add, zeros, (parts, keys))[0])
        updates, moments = tx.update(grads, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        # the first weights are soon forgotten
        share = jnp.minimum(config.ema, (1 + state.step) / (10 + state.step)).astype(jnp.float32)
        ema = jax.tree.map(lambda old, new: (share * old + (1 - share) * new).astype(old.dtype), state.ema, params)
        metrics = {"loss": value, "gradient_norm": optax.tree.norm(grads), "rate": rule(state.step)}
        return State(state.step + 1, params, ema, moments, state.key), metrics

    return step


def jit_step(config: Config, mesh: Mesh) -> Any:
    """`make_step` compiled for a mesh: states as `sharding.of_tree` says, tokens over the batch's axes.

    The state that goes in is given up: its buffers become those of the one that comes out. The result has `lower`.

    Raises:
      sharding.MeshError: the mesh does not divide a parameter, or the batch's parts.
    """
    states = sharding.of_tree(jax.eval_shape(lambda: init(config)), mesh)
    rows = config.batch // config.accumulate
    tokens = sharding.checked("tokens", (rows, config.context + 1), mesh)
    step = make_step(config, mesh)
    return jax.jit(step, in_shardings=(states, tokens), out_shardings=(states, None), donate_argnums=0)
