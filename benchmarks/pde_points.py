"""What limits the error in many dimensions: how many different points are seen, how many steps, or the learning rate?

Sine-Gordon with the two-body solution, 1,000 dimensions, 100 points a step, 16 sampled coordinates, float32. Points
come from a pool that is drawn once, of a third of, one or three times the dimension, or are fresh in every step; steps
and learning rates are varied independently (`make bench`). Lesson: 19_million_dimensions.
"""

from dataclasses import dataclass
from functools import partial
from itertools import product

import jax
from tqdm import tqdm

from benchmarks import harness
from benchmarks.harness import Ratio
from course import pde

SEED, SAMPLES = 0, 16


@dataclass(frozen=True)
class Sizes:
    """How much is trained."""

    dimension: int = 1_000
    points: int = 100
    width: int = 128
    steps: tuple[int, ...] = (300, 1_000, 3_000)
    rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2)


QUICK = Sizes(dimension=30, points=4, width=8, steps=(2,), rates=(3e-3,))


def error_from(
    equation: pde.BallEquation, pool: jax.Array | None, steps: int, rate: float, sizes: Sizes
) -> pde.Accuracy:
    """Train with points of a pool (n, d), or with fresh ones (None), and measure the error at other points."""

    def loss_fn(params, key):
        key_x, key_axes = jax.random.split(key)
        some = None if pool is None else pool[jax.random.randint(key_x, (sizes.points,), 0, len(pool))]
        x = equation.sample(key_x, sizes.points) if some is None else some

        def square(x):
            return equation.network_residual(partial(pde.mlp, params), x, key_axes, SAMPLES) ** 2

        return jax.vmap(square)(x).mean()

    optimizer = pde.scaled_cosine_adam(steps, rate, sizes.dimension)
    params = pde.init_mlp(jax.random.key(SEED + 1), (sizes.dimension, *(sizes.width,) * 3, 1))
    state = pde.start(params, optimizer, jax.random.key(SEED + 2))
    state, _ = pde.train(loss_fn, optimizer, state, steps, chunk=steps)
    u = equation.ansatz(partial(pde.mlp, state.params))
    return pde.relative_l2(equation, u, jax.random.key(SEED + 3))


def bench(quick: bool) -> tuple[dict[str, list[dict]], list[Ratio]]:
    sizes = QUICK if quick else Sizes()
    d = sizes.dimension
    equation = pde.ball_equation("sine-gordon", d, jax.random.key(SEED))
    counts = {"1/3": d // 3, "1": d, "3": 3 * d}
    pools = {name: equation.sample(jax.random.key(SEED + 4), n) for name, n in counts.items()} | {"fresh": None}
    rows = []
    for (name, pool), steps, rate in tqdm(list(product(pools.items(), sizes.steps, sizes.rates)), unit="run"):
        error = error_from(equation, pool, steps, rate, sizes)
        rows.append(
            {
                "name": f"points / d: {name}, {steps} steps, rate {rate:g}",
                "points / d": (steps * sizes.points if pool is None else len(pool)) / d,
                "pool": name, "steps": steps, "rate": rate, "relative_l2": error.relative_l2,
                "constant / error": error.best_constant / error.relative_l2,
            }
        )  # fmt: skip
    return {"constant / error": rows}, []


def main() -> None:
    harness.command("pde_points", bench)


if __name__ == "__main__":
    main()
