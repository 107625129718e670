"""What limits the error in many dimensions: how many different points are seen, how many steps, or the learning rate?

Sine-Gordon with the two-body solution, 1,000 dimensions, 100 points a step, 16 sampled coordinates, float32. Points
come from a pool that is drawn once, of a third of, one or three times the dimension, or are fresh in every step; steps
and learning rates are varied independently (`make bench`). Lesson: 19_million_dimensions.
"""

from benchmarks import harness  # isort: skip  (asks for one core before JAX starts)

from functools import partial
from itertools import product

import jax
from tqdm import tqdm

from course import pde

QUICK = harness.quick()
SEED, DIMENSION, POINTS, SAMPLES = 0, 50 if QUICK else 1_000, 100, 16
POOLS = {"1/3": DIMENSION // 3, "1": DIMENSION, "3": 3 * DIMENSION, "fresh": None}
STEPS = (4,) if QUICK else (300, 1_000, 3_000)
RATES = (3e-3,) if QUICK else (1e-3, 3e-3, 1e-2)


def run(equation: pde.BallEquation, pool: jax.Array | None, steps: int, rate: float) -> pde.Comparison:
    """Train with points of a pool (n, d), or with fresh ones (None), and measure the error at other points."""

    def loss_fn(params, key):
        key_x, key_axes = jax.random.split(key)
        some = None if pool is None else pool[jax.random.randint(key_x, (POINTS,), 0, len(pool))]
        x = equation.sample(key_x, POINTS) if some is None else some

        def square(x):
            return equation.network_residual(partial(pde.mlp, params), x, key_axes, SAMPLES) ** 2

        return jax.vmap(square)(x).mean()

    optimizer = pde.scaled_cosine_adam(steps, rate, DIMENSION)
    params = pde.init_mlp(jax.random.key(SEED + 1), (DIMENSION, 128, 128, 128, 1))
    state = pde.start(params, optimizer, jax.random.key(SEED + 2))
    state, _ = pde.train(loss_fn, optimizer, state, steps, chunk=steps)
    u = equation.ansatz(partial(pde.mlp, state.params))
    return pde.relative_l2(equation, u, jax.random.key(SEED + 3))


def main() -> None:
    equation = pde.ball_equation("sine-gordon", DIMENSION, jax.random.key(SEED))
    pools = {name: None if n is None else equation.sample(jax.random.key(SEED + 4), n) for name, n in POOLS.items()}
    rows = []
    for (name, pool), steps, rate in tqdm(list(product(pools.items(), STEPS, RATES)), desc="runs", unit="run"):
        error = run(equation, pool, steps, rate)
        seen = steps * POINTS / DIMENSION
        rows.append(
            {
                "name": f"points / d: {name}, {steps} steps, rate {rate:g}",
                "points / d": float(POOLS[name] / DIMENSION) if pool is not None else seen,
                "pool": name, "steps": steps, "rate": rate, "relative_l2": error.relative_l2,
                "constant / error": error.best_constant / error.relative_l2,
            }
        )  # fmt: skip
    harness.report("pde_points", {"constant / error": rows}, [])


if __name__ == "__main__":
    main()
