"""Eight equations of the papers in time and a few dimensions, each solved by a network, beside their closed forms.

Every run is `pde.solve` with Gauss-Newton steps, float32, one core; its seconds hold compiling and tracing. The
gradient-enhanced run of KdV adds the residual's slope along a random direction at each point to what is fitted. Of each
picture the file keeps the gap between network and exact solution, on a grid of the last two coordinates (at the end of
time where there are three): exact plus gap is the network.
Lesson: 20b_all_equations.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from benchmarks import harness
from benchmarks.harness import Ratio
from course import pde
from course.pde.gauss_newton import Part
from course.pde.networks import drawn
from course.pde.solving import trained

SEED, SIDE = 0, 33


@dataclass(frozen=True)
class Run:
    """An equation, and what it is solved with; `gradient` weighs the slope of the residual."""

    make: Callable[[], Any]
    steps: int
    points: int = 256
    width: int = 24
    depth: int = 2
    gradient: float = 0.0


RUNS = {
    "KdV": Run(pde.kdv_equation, 120, depth=3),
    "KdV, gradient-enhanced": Run(pde.kdv_equation, 120, depth=3, gradient=0.01),
    "KdV 2-D": Run(pde.kdv_2d_equation, 60),
    "Kadomtsev-Petviashvili": Run(pde.kp_equation, 160, points=384, width=32),
    "Zakharov-Kuznetsov": Run(pde.zk_equation, 60),
    "sine-Gordon, u_tx": Run(pde.sine_gordon_equation, 60),
    "Kuramoto-Sivashinsky": Run(pde.ks_equation, 60),
    "plate": Run(pde.plate_equation, 60, points=128),
}


class GradientEnhanced(pde.Loss):
    """Residual^2 + weight (v . grad residual)^2 with random signs v: `pde.gradient_enhanced`, for Gauss-Newton."""

    weight = 0.0

    def parts(self, params: Any, key: jax.Array) -> list[Part]:
        (equation,) = super().parts(params, key)
        signs = jax.random.rademacher(jax.random.fold_in(key, 1), equation.batch.shape, equation.batch.dtype)

        def slope(params: Any, both: tuple[jax.Array, jax.Array]) -> jax.Array:
            x, v = both
            return jax.jvp(lambda x: self.residual(params, x), (x,), (v,))[1]

        return [equation, Part(slope, (equation.batch, signs), self.weight * equation.weight)]


def solve(run: Run) -> tuple[Any, pde.Solution]:
    """The equation and the network's solution of it."""
    equation, network, key = run.make(), pde.Mlp(run.width, run.depth), jax.random.key(SEED)
    if not run.gradient:
        return equation, pde.solve(equation, network, key, steps=run.steps, points=run.points, progress=False)
    own, drawing = jax.random.split(key)
    apply, params = drawn(network, own, equation.dimension)
    loss = GradientEnhanced(equation, apply, run.points)
    loss.weight = run.gradient
    params = {"network": params, "unknowns": {}}
    return equation, trained(loss, params, drawing, run.steps, pde.gauss_newton(), False, None)


def grid(equation: Any) -> jax.Array:
    """Points over the last two coordinates, (SIDE, SIDE, d); time, where it is a third, is at its end."""
    box = getattr(equation, "domain", equation)
    sides = [np.linspace(*ends, SIDE) for ends in zip(box.lower, box.upper, strict=True)]
    if len(sides) == 3:
        sides[0] = sides[0][-1:]
    return jnp.asarray(np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1).reshape(SIDE, SIDE, -1), float)


def measured(name: str, run: Run) -> tuple[dict, dict]:
    """The rows of one equation in the two tables."""
    begun = perf_counter()
    equation, solution = solve(run)
    seconds = perf_counter() - begun
    accuracy = pde.relative_l2(equation, solution.u, jax.random.key(SEED + 1))
    x = grid(equation)
    gaps = solution.values(x) - np.asarray(jax.jit(jax.vmap(jax.vmap(equation.solution)))(x))
    largest = float(abs(gaps).max())
    whole = np.rint(99 * gaps / largest).astype(int)  # in 99ths of the largest
    row = {
        "name": name, **accuracy._asdict(), "seconds": seconds, "steps": run.steps, "points": run.points,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(solution.params["network"])),
    }  # fmt: skip
    return row, {"name": name, "side": SIDE, "largest": largest, "gaps": " ".join(map(str, whole.ravel()))}


def bench(quick: bool) -> tuple[dict[str, list[dict]], list[Ratio]]:
    runs = RUNS
    if quick:
        runs = {n: replace(RUNS[n], steps=2, points=8, width=4, depth=1) for n in ("KdV, gradient-enhanced", "plate")}
    rows = [measured(name, run) for name, run in tqdm(runs.items(), desc="equations")]
    return {"waves": [row for row, _ in rows], "gaps": [gaps for _, gaps in rows]}, []


def main() -> None:
    harness.command("pde_waves", bench)


if __name__ == "__main__":
    main()
