"""One training step on the Sine-Gordon equation, ours against the method of the STDE authors' one-file script; and
short whole runs with their errors (`make bench`).

The script (sail-sg/stde, sine_gordon.py) takes dense one-hot tangents, puts the boundary factor inside the jet,
computes the source coordinate by coordinate with XLA's sine and cosine, and dispatches one compiled step at a time; its
method is written here anew. Both sides have the same network (3 hidden tanh layers of 128), 100 points, 16 sampled
coordinates, Adam and float32. A third side has its method with our source, to tell the derivatives' share from the
source's.
Lesson: 19_million_dimensions.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax.experimental import jet

from benchmarks import harness
from benchmarks.harness import Contender, Ratio
from benchmarks.pde_run import SETTINGS, solve
from course import pde

SEED, SAMPLES = 0, 16


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    dimensions: tuple[int, ...] = (1_000, 10_000, 100_000)
    cost_dimensions: tuple[int, ...] = (100, 1_000, 10_000, 100_000, 1_000_000)
    points: int = 100
    width: int = 128
    rounds: int = 5
    most_steps: int = 100  # in a turn


QUICK = Sizes(dimensions=(20,), cost_dimensions=(20,), points=2, width=4, rounds=1, most_steps=2)


def start_state(d: int, optimizer, sizes: Sizes) -> pde.State:
    params = pde.init_mlp(jax.random.key(SEED), (d, *(sizes.width,) * 3, 1))
    return pde.start(params, optimizer, jax.random.key(SEED + 1))


def plain_source(equation: pde.BallEquation, x: jax.Array) -> jax.Array:
    """The same source by the product rule for every coordinate, gradient and second derivatives written out."""
    c, a, b = equation.coefficients, x[:-1], x[1:]
    angle = a + jnp.cos(b) + b * jnp.cos(a)
    by_a, by_b = 1 - b * jnp.sin(a), jnp.cos(a) - jnp.sin(b)
    s = (c * jnp.sin(angle)).sum()
    slope = jnp.zeros_like(x).at[:-1].add(c * jnp.cos(angle) * by_a).at[1:].add(c * jnp.cos(angle) * by_b)
    curved_a = -c * jnp.sin(angle) * by_a**2 - c * jnp.cos(angle) * b * jnp.cos(a)
    curved_b = -c * jnp.sin(angle) * by_b**2 - c * jnp.cos(angle) * jnp.cos(b)
    second = jnp.zeros_like(x).at[:-1].add(curved_a).at[1:].add(curved_b)
    factor = 1 - (x**2).sum()
    return (factor * second - 4 * x * slope - 2 * s).sum() + jnp.sin(factor * s)


def the_script(equation: pde.BallEquation, optimizer, source, points: int):
    """One dispatched step: normal points, one-hot tangents, the boundary factor differentiated with the network."""
    d = equation.dimension

    def residual(params, x, axes):
        def u(x):
            return equation.scale * (1 - x @ x) * (equation.offset + pde.mlp(params, x))

        tangents = jax.vmap(lambda i: jnp.eye(d)[i])(axes)
        value, (_, second) = jax.vmap(lambda v: jet.jet(u, (x,), ((v, jnp.zeros_like(x)),)))(tangents)
        return (d * second.mean() + jnp.sin(value[0]) - source(x)) / equation.source_rms

    def loss_fn(params, key):
        key_axes, key_radius, key_x = jax.random.split(key, 3)
        axes = jax.random.choice(key_axes, d, (SAMPLES,), replace=False)
        x = jax.random.normal(key_x, (points, d))
        x *= jax.random.uniform(key_radius, (points, 1)) / jnp.linalg.norm(x, axis=1, keepdims=True)
        return (jax.vmap(partial(residual, params), in_axes=(0, None))(x, axes) ** 2).mean()

    @jax.jit
    def step(state):
        params, opt_state, key = state
        key, own = jax.random.split(key)
        loss, grads = jax.value_and_grad(loss_fn)(params, own)
        updates, opt_state = optimizer.update(grads, opt_state)
        return (optax.apply_updates(params, updates), opt_state, key), loss

    def run(state, steps):
        losses = []
        for _ in range(steps):
            state, loss = step(state)
            losses.append(loss)
        return state, jnp.stack(losses)

    return run


def our_loss(equation: pde.BallEquation, points: int):
    """One-hot directions kept sparse, the boundary factor by the product rule."""

    def loss_fn(params, key):
        key_x, key_axes = jax.random.split(key)
        x = equation.sample(key_x, points)
        residual = lambda x: equation.network_residual(partial(pde.mlp, params), x, key_axes, SAMPLES)  # noqa: E731
        return (jax.vmap(residual)(x) ** 2).mean()

    return loss_fn


def ours(equation: pde.BallEquation, optimizer, points: int):
    """Steps in one compiled loop."""
    loss_fn = our_loss(equation, points)
    return lambda state, steps: pde.train(loss_fn, optimizer, state, steps, chunk=steps)


def steps_at(d: int, sizes: Sizes) -> dict[str, Contender]:
    """Mean milliseconds of a step over a few steps."""
    equation = pde.ball_equation("sine-gordon", d, jax.random.key(SEED + 2))
    steps = min(sizes.most_steps, max(3, 1_000_000 // d))
    optimizer, plain = pde.scaled_cosine_adam(steps, 1e-3, d), optax.adam(1e-3)
    sides = {"the script's method": partial(plain_source, equation), "the same, our source": equation.source}
    mine = ours(equation, optimizer, sizes.points)
    scripts = {name: the_script(equation, plain, source, sizes.points) for name, source in sides.items()}
    x = equation.sample(jax.random.key(SEED + 3), 4)
    gap = jnp.abs(jax.vmap(equation.source)(x) / jax.vmap(sides["the script's method"])(x) - 1).max()
    if not gap < 1e-3:  # float32 sums of d terms
        raise SystemExit(f"expected one source within 1e-3, got a gap of {gap:.1e}")

    def script_start():
        state = start_state(d, plain, sizes)
        return (state.params, state.opt_state, state.key), steps

    make = partial(Contender, rounds=sizes.rounds, scale=1e3 / steps)
    return harness.interleave(
        [
            *(make(name, script_start, lambda *args, run=run: run(*args)[1]) for name, run in scripts.items()),
            make("course.pde", lambda: (start_state(d, optimizer, sizes), steps), lambda *args: mine(*args)[1]),
        ],
        f"training steps, d = {d:,}",
    )


def cost_at(d: int, sizes: Sizes, points: int = 16) -> dict:
    """A step with the same few points and samples in every dimension: time, and memory beside and inside the loss."""
    equation = pde.ball_equation("sine-gordon", d, jax.random.key(SEED + 2))
    steps = min(sizes.most_steps, 2 if d > 10**5 else 10)
    optimizer = pde.scaled_cosine_adam(steps, 1e-3, d)
    mine = ours(equation, optimizer, points)
    one = Contender(
        f"d = {d:,}",
        lambda: (start_state(d, optimizer, sizes), steps),
        lambda *args: mine(*args)[1],
        rounds=min(sizes.rounds, 3),
        scale=1e3 / steps,
    )
    harness.interleave([one], f"a step of {points} points, d = {d:,}")
    state = start_state(d, optimizer, sizes)
    loss = jax.jit(jax.value_and_grad(our_loss(equation, points))).lower(state.params, state.key).compile()
    held = sum(leaf.nbytes for leaf in jax.tree.leaves((state.params, state.opt_state)))
    return {
        "name": one.name, "dimension": d, "points": points, "step_ms": one.median, "state_MB": held / 1e6,
        "temporary_MB": loss.memory_analysis().temp_size_in_bytes / 1e6,
    }  # fmt: skip


def bench(quick: bool) -> tuple[dict[str, list[dict]], list[Ratio]]:
    sizes = QUICK if quick else Sizes()
    tables, times = {}, {}
    for d in sizes.dimensions:
        times[d] = steps_at(d, sizes)
        tables[f"training step, d = {d:,}, milliseconds"] = [
            {"name": c.name, "median_ms": c.median, "first_call_s": c.first_s, "rounds": len(c.seconds)}
            for c in times[d].values()
        ]
    tables["one step of 16 points"] = [cost_at(d, sizes) for d in sizes.cost_dimensions]
    targets = {1_000: 2.5, 10_000: 5, 100_000: 7}
    ratios = [
        Ratio(
            f"training step, course.pde vs the script's method, d = {d:,}",
            pair["the script's method"].median / pair["course.pde"].median,
            targets.get(d),
        )
        for d, pair in times.items()
    ]
    runs = [solve(setting, quick=quick) for setting in SETTINGS.values() if setting.in_bench]
    tables["whole runs"] = runs
    for row in runs:
        ratios.append(Ratio(f"{row['name']}: best constant / error", row["best_constant"] / row["relative_l2"]))
    return tables, ratios


def main() -> None:
    harness.command("pde_training", bench)


if __name__ == "__main__":
    main()
