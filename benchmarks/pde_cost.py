"""What a training step in many dimensions is made of, and how far the error falls with the points seen.

Three questions (`make bench`, on a GPU as it is): what the parts of a step cost, beside the time in which the machine
copies the bytes that a step must move; how the error of a natural-gradient step at a constant rate falls with the
number n of points seen in d dimensions; and what sharing weights of the first layer saves and costs. Sine-Gordon with
the two-body solution, float32. Lesson: 19_million_dimensions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from time import perf_counter

import jax
import jax.numpy as jnp
import optax
from tqdm import tqdm

from benchmarks import harness
from benchmarks.harness import Contender, Ratio
from benchmarks.pde_run import Setting, natural, problem
from course import pde

SEED, SAMPLES = 0, 16


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
      dimensions: d of the steps taken apart.
      points, width: of a step, and of Adam's network.
      law: d, points of a step, and the largest n / d.
      shares: n / d at which the error is measured.
      shared: d and steps of the runs in which something is shared.
      blocks: how many coordinates a unit of the first layer sees.
      rounds: turns that count.
    """

    dimensions: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    points: int = 100
    width: int = 128
    law: tuple[tuple[int, int, float], ...] = ((1_000, 25, 2), (10_000, 50, 2), (100_000, 100, 1))
    shares: tuple[float, ...] = (0.05, 0.1, 0.25, 0.5, 1, 2)
    shared: tuple[int, int] = (1_000, 3_000)
    blocks: tuple[int, ...] = (2, 5, 10, 50)
    rounds: int = 5


QUICK = Sizes((64,), 4, 8, ((64, 4, 0.25),), (0.125, 0.25), (60, 4), (2,), 1)
GPU = Sizes(law=((1_000, 25, 2), (10_000, 50, 2), (100_000, 100, 2), (1_000_000, 100, 2)), shared=(10_000, 3_000))


# --- a step taken apart --------------------------------------------------------------------------------------------


def copy_speed(floats: int = 2**26) -> float:
    """Bytes read and written in a second, by a pass over an array that no cache holds."""
    a = jnp.zeros(floats, jnp.float32)
    one = Contender("copy", lambda: (a,), jax.jit(lambda a: a + 1))
    harness.interleave([one], "copy")
    return 2 * a.nbytes / one.median


def parts_of(setting: Setting, rounds: int, speed: float) -> list[dict]:
    """The parts of one step, each compiled alone, the whole, and the floor."""
    d, n = setting.dimension, setting.points
    equation, loss_fn, optimizer, state, _ = problem(setting)
    natural = setting.optimizer == "natural-gradient"
    key, first = jax.random.key(SEED + 4), jnp.int32(0)
    draw = jax.jit(lambda first: pde.orthogonal_ball(key, first, n, d)) if natural else None
    draw = draw or jax.jit(lambda first: equation.sample(jax.random.fold_in(key, first), n))
    x = draw(first)
    weight = state.params[0] if natural else state.params[0][0]
    delta = jnp.ones((n, weight.shape[1]))
    products = jax.jit(lambda x, w, g: (x @ w, x.T @ g, *([x @ x.T, w.T @ w] if natural else [])))
    grads = jax.tree.map(jnp.ones_like, state.params)

    def moved(params, opt_state):
        if natural:
            return optax.apply_updates(params, grads), opt_state
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    steps = max(2, min(50, 2_000_000 // d))

    def run(state):
        return pde.train(loss_fn, optimizer, state, steps, chunk=steps)[1]

    def fresh():
        return (problem(setting)[3],)

    sides = [
        Contender("points", lambda: (first,), draw),
        Contender("source", lambda: (x,), jax.jit(jax.vmap(equation.source))),
        Contender("products", lambda: (x, weight, delta), products),
        Contender("optimizer", lambda: (state.params, state.opt_state), jax.jit(moved)),
        Contender("a whole step", fresh, run, scale=1 / steps),
    ]
    for side in sides:
        side.rounds = rounds
    harness.interleave(sides, f"{setting.optimizer}, d = {d:,}")
    held = sum(leaf.nbytes for leaf in jax.tree.leaves((state.params, state.opt_state)))
    floor = 2 * (x.nbytes + held) / speed  # points written and read, parameters and moments read and written
    rows = [(side.name, side.median) for side in sides] + [("floor: bytes at copy speed", floor)]
    return [
        {"name": name, "optimizer": setting.optimizer, "dimension": d, "points": n, "width": setting.width,
         "step_ms": 1e3 * seconds, "ns_per_coordinate": 1e9 * seconds / (n * d)}
        for name, seconds in rows
    ]  # fmt: skip


# --- the law -------------------------------------------------------------------------------------------------------


def law(d: int, points: int, most: float, shares: tuple[float, ...]) -> list[dict]:
    """Errors at shares n / d of points seen, at a constant rate; seconds are those of the steps, compiling included."""
    counts = {share: max(1, round(share * d / points)) for share in shares if share <= most}
    setting = natural("two-body", d, points, max(counts.values()), decay_from=1.0)
    equation, loss_fn, optimizer, state, solution = problem(setting)
    batch = max(4, min(100, 10**7 // d))
    rows, seconds = [], 0.0
    for share, steps in tqdm(counts.items(), desc=f"d = {d:,}", unit="error"):
        begun = perf_counter()
        state, _ = pde.train(loss_fn, optimizer, state, steps, chunk=math.gcd(*counts.values()))
        seconds += perf_counter() - begun
        found = pde.relative_l2(equation, solution(state.params), jax.random.key(3), points=10 * batch, batch=batch)
        rows.append(
            {"name": f"d = {d:,}, n / d = {share:g}", "dimension": d, "points seen": steps * points, "n / d": share,
             "relative_l2": found.relative_l2, "constant / error": found.best_constant / found.relative_l2,
             "seconds": seconds}
        )  # fmt: skip
    return rows


# --- what the authors share ----------------------------------------------------------------------------------------


def shared_mlp(params, x: jax.Array) -> jax.Array:
    """A tanh network whose first layer is one unit for every block of coordinates; (d,) -> ()."""
    (weight, bias), *layers = params
    return pde.mlp(layers, jnp.tanh(x.reshape(-1, len(weight)) @ weight + bias))


def shared_row(d: int, block: int, own_axes: bool, steps: int, sizes: Sizes) -> dict:
    """Train with one first layer for all blocks of so many coordinates (1: none), and measure time, memory and error.

    The sampled coordinates are the same for all points of a batch, or each point has its own.
    """
    equation = pde.ball_equation("sine-gordon", d, jax.random.key(SEED))
    own, first = jax.random.split(jax.random.key(SEED + 1))
    params = pde.init_mlp(own, (d // block, *(sizes.width,) * 3, 1))
    if block > 1:
        params = [(jax.random.normal(first, (block,)) / block**0.5, jnp.zeros(())), *params]
    network = shared_mlp if block > 1 else pde.mlp

    def loss_fn(params, key):
        key_x, key_axes = jax.random.split(key)
        keys = jax.random.split(key_axes, sizes.points) if own_axes else key_axes
        residual = lambda x, key: equation.network_residual(partial(network, params), x, key, SAMPLES)  # noqa: E731
        return (
            jax.vmap(residual, (0, 0 if own_axes else None))(equation.sample(key_x, sizes.points), keys) ** 2
        ).mean()

    optimizer = pde.scaled_cosine_adam(steps, 3e-3, d // block)
    state = pde.start(params, optimizer, jax.random.key(SEED + 2))
    held = sum(leaf.nbytes for leaf in jax.tree.leaves((state.params, state.opt_state)))
    compiled = jax.jit(jax.value_and_grad(loss_fn)).lower(state.params, state.key).compile()
    state, _ = pde.train(loss_fn, optimizer, state, steps // 2, chunk=steps // 2)
    begun = perf_counter()
    state, _ = pde.train(loss_fn, optimizer, state, 2 * (steps // 2), chunk=steps // 2)
    seconds = perf_counter() - begun
    batch = min(100, 10**7 // d)
    found = pde.relative_l2(
        equation, equation.ansatz(partial(network, state.params)), jax.random.key(3), points=20 * batch, batch=batch
    )
    return {
        "name": f"blocks of {block}" if block > 1 else "nothing shared",
        "dimension": d, "block": block, "own axes": own_axes, "state_MB": held / 1e6,
        "temporary_MB": compiled.memory_analysis().temp_size_in_bytes / 1e6,
        "step_ms": 1e3 * seconds / (steps // 2), "steps": steps, "relative_l2": found.relative_l2,
        "constant / error": found.best_constant / found.relative_l2,
    }  # fmt: skip


def bench(quick: bool) -> tuple[dict[str, list[dict]], list[Ratio]]:
    gpu = jax.devices()[0].platform == "gpu"
    sizes = QUICK if quick else GPU if gpu else Sizes()
    speed = copy_speed(2**10 if quick else 2**26)
    tables: dict[str, list[dict]] = {"copy": [{"name": "bytes read and written", "GB_per_s": speed / 1e9}]}
    tables["parts of a step"] = [
        row
        for d in sizes.dimensions
        for setting in (natural("two-body", d, sizes.points, 1), Setting("sine-gordon", "two-body", d, sizes.points,
                                                                        SAMPLES, 1, 1e-3, width=sizes.width))
        for row in parts_of(setting, sizes.rounds, speed)
    ]  # fmt: skip
    tables["error against points seen"] = [
        row for d, points, most in sizes.law for row in law(d, points, most, sizes.shares)
    ]
    d, steps = sizes.shared
    alone = shared_row(d, 1, False, steps, sizes)
    tables["weights shared in the first layer"] = [
        alone, *(shared_row(d, block, False, steps, sizes) for block in sizes.blocks)
    ]  # fmt: skip
    tables["sampled coordinates"] = [
        alone | {"name": "the same for the batch"},
        shared_row(d, 1, True, steps, sizes) | {"name": "each point its own"},
    ]
    return tables, []


def main() -> None:
    harness.command("pde_cost", bench)


if __name__ == "__main__":
    main()
