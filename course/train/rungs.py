"""The Titanic loop in several forms, each faster than the last, for lesson 10 and its benchmark.

Needs JAX, flax, optax, pandas and tqdm. Lesson: 10_jit_speed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import jax
from flax import nnx

from course.train import titanic_nnx

State = TypeVar("State")
Loss = TypeVar("Loss")  # an array, or the number of a step that waits for it


def run_objects(
    step: Callable[..., Loss], model: nnx.Module, optimizer: nnx.Optimizer, batches: Iterable[tuple[Any, ...]]
) -> list[Loss]:
    """Call a step that changes model and optimizer in place, once per batch; returns the losses.

    Taught in 10_jit_speed.
    """
    return [step(model, optimizer, *batch) for batch in batches]


def run_state(step: Callable[..., tuple[State, Loss]], state: State, batches: Iterable[tuple[Any, ...]]) -> list[Loss]:
    """Call a step that takes a state and returns the next one, once per batch; returns the losses.

    Taught in 10_jit_speed.
    """
    losses = []
    for batch in batches:
        state, loss = step(state, *batch)
        losses.append(loss)
    return losses


def rows_step(model: nnx.Module, optimizer: nnx.Optimizer, x: jax.Array, y: jax.Array, rows: jax.Array) -> jax.Array:
    """One step on the given rows of tables that live on the device: x (n, d), y (n,), rows (B,).

    Taught in 10_jit_speed.
    """
    return titanic_nnx.train_step(model, optimizer, x[rows], y[rows])


def split_step(
    graphdef: nnx.GraphDef, state: nnx.State, x: jax.Array, y: jax.Array, rows: jax.Array
) -> tuple[nnx.State, jax.Array]:
    """The same step on what `nnx.split((model, optimizer))` gave; returns the next state and the loss.

    Taught in 10_jit_speed.
    """
    model, optimizer = nnx.merge(graphdef, state)
    loss = rows_step(model, optimizer, x, y, rows)
    return nnx.state((model, optimizer)), loss


def split_epochs(
    graphdef: nnx.GraphDef, state: nnx.State, x: jax.Array, y: jax.Array, orders: jax.Array
) -> tuple[nnx.State, jax.Array]:
    """All steps of one or more epochs in one `lax.scan`: orders (steps, B); returns the last state and (steps,) losses.

    Taught in 10_jit_speed.
    """
    return jax.lax.scan(lambda state, rows: split_step(graphdef, state, x, y, rows), state, orders)


def split_loss(graphdef: nnx.GraphDef) -> Callable[[nnx.State, jax.Array, jax.Array], jax.Array]:
    """The loss of an NNX model as a function of its parameters alone, for `compiled.train_run`.

    Taught in 10_jit_speed.
    """

    def loss_fn(params: nnx.State, x: jax.Array, y: jax.Array) -> jax.Array:
        return titanic_nnx.loss_fn(nnx.merge(graphdef, params), x, y)

    return loss_fn
