"""The papers' equations in many dimensions: errors, times and baselines, in two tables (`make bench`).

`ball`: Poisson, Sine-Gordon and Allen-Cahn with two-body and three-body solutions, by the natural gradient on
orthogonal points, as in `benchmarks.pde_run`; the network also sees |x|^2. `value`: equations in time, asked at one
point, from several seeds; a tanh network of t and x, which knows of no symmetry, by the natural gradient on points of
paths, with exact Laplacians. Lesson: 20_high_order_pdes.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import Any

import jax
import optax
from tqdm import tqdm

from benchmarks import harness, pde_run
from benchmarks.harness import Ratio
from course import pde
from course.pde import parabolic

SEED = 0
KINDS = ("poisson", "sine-gordon", "allen-cahn")
IN_TIME: dict[str, Callable[[int], pde.Parabolic]] = {
    **{kind: partial(pde.semilinear_equation, kind) for kind in parabolic.REACTIONS},
    "HJB": pde.hjb_equation,
    "Black-Scholes": pde.black_scholes_equation,
}


@dataclass(frozen=True)
class Sizes:
    """How much is solved.

    Attributes:
      ball: d -> points a step, steps.
      value: d -> points a step, steps.
      seeds: of the equations in time: other parameters and points.
      width: of their networks' two hidden layers.
      tested: points that an error in the ball is taken over.
      bodies, kinds, in_time: the rows.
    """

    ball: dict[int, tuple[int, int]]
    value: dict[int, tuple[int, int]]
    seeds: int
    width: int
    tested: int
    bodies: tuple[str, ...] = ("two-body", "three-body")
    kinds: tuple[str, ...] = KINDS
    in_time: tuple[str, ...] = tuple(IN_TIME)


FULL = Sizes({100: (100, 60), 1_000: (100, 50), 10_000: (200, 150)}, {20: (100, 300), 100: (100, 800)}, 3, 32, 2_000)
QUICK = Sizes({20: (10, 10)}, {3: (10, 10)}, 2, 4, 40, ("three-body",), KINDS[:1], ("HJB",))


def timed(loss_fn: Callable, optimizer: pde.NaturalGradient, state: pde.State, steps: int) -> tuple[Any, float]:
    """Parameters after so many steps, a multiple of ten, and their seconds but for what compiling takes."""
    marks: list[float] = []
    state, _ = pde.train(
        loss_fn, optimizer, state, steps, chunk=steps // 10, report=lambda *_: marks.append(perf_counter())
    )
    return state.params, (marks[-1] - marks[0]) * 10 / 9  # the first tenth was compiled on the way


def in_ball(kind: str, body: str, d: int, sizes: Sizes) -> dict:
    """Solve an equation in the unit ball; its row."""
    points, steps = sizes.ball[d]
    setting = replace(pde_run.natural(body, d, points, steps), kind=kind)
    begun = perf_counter()
    equation, loss_fn, optimizer, state, solution = pde_run.problem(setting)
    params, stepping = timed(loss_fn, optimizer, state, steps)
    seconds = perf_counter() - begun
    batch = min(sizes.tested, 100)
    error = pde.relative_l2(equation, solution(params), jax.random.key(SEED + 3), sizes.tested, batch)
    return {
        "name": f"{kind}, {body}", "d": d, "relative_l2": error.relative_l2, "best_constant": error.best_constant,
        "seconds": seconds, "steps_seconds": stepping, "points": points * steps,
    }  # fmt: skip


def at_a_point(name: str, d: int, sizes: Sizes) -> dict:
    """Solve an equation in time from each seed; the row has the run with the median gap."""
    points, steps = sizes.value[d]
    begun = perf_counter()
    equation = IN_TIME[name](d)

    def residual(params, point):
        return equation.network_residual(partial(pde.mlp, params), point)

    def linearized(params, key, step):
        return pde.linearize(residual, params, equation.sample(key, points))

    # the damping grows: without it a batch's points weigh less the larger their gradients, to the end, and what the
    # network cannot fit of g pulls the value to one side
    damping = optax.exponential_decay(1e-2, steps, 1e3)
    optimizer = pde.NaturalGradient(optax.cosine_decay_schedule(1.0, steps), damping)
    value = jax.jit(lambda params: equation.ansatz(partial(pde.mlp, params))(equation.asked))
    found, stepping, seconds = [], [], []
    for seed in range(sizes.seeds):
        params = pde.init_mlp(jax.random.key(SEED + seed), (equation.dimension, sizes.width, sizes.width, 1))
        state = pde.start(params, optimizer, jax.random.key(SEED + seed + 100))
        params, stepped = timed(linearized, optimizer, state, steps)
        found.append(float(value(params)))
        stepping.append(stepped)
        seconds.append(perf_counter() - begun)
    reference = float(equation.solution(equation.asked))
    found.sort(key=lambda value: abs(value / reference - 1))
    gaps = [abs(value / reference - 1) for value in found]
    middle = (len(found) - 1) // 2
    return {
        "name": name, "d": d, "value": found[middle], "reference": reference,
        "published": parabolic.PUBLISHED[name].get(d), "gap": gaps[middle], "worst_gap": gaps[-1],
        "baseline": equation.mean, "baseline_gap": abs(equation.mean / reference - 1),
        "seconds": seconds[0], "steps_seconds": statistics.median(stepping), "points": points * steps,
    }  # fmt: skip


def bench(quick: bool) -> tuple[dict[str, list[dict]], list[Ratio]]:
    sizes = QUICK if quick else FULL
    asked = {
        "ball": [
            partial(in_ball, kind, body, d, sizes)
            for body in sizes.bodies for kind in sizes.kinds for d in sizes.ball
        ],
        "value": [partial(at_a_point, name, d, sizes) for name in sizes.in_time for d in sizes.value],
    }  # fmt: skip
    return {title: [row() for row in tqdm(rows, title, unit="row")] for title, rows in asked.items()}, []


def main() -> None:
    harness.command("pde_table", bench)


if __name__ == "__main__":
    main()
