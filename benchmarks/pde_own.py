"""Long runs of lesson 21, resumable: Kuramoto-Sivashinsky, and two coefficients of Allen-Cahn found from noisy data.

    make pde-own EQUATION=kuramoto-sivashinsky     (or allen-cahn-coefficients)

Ctrl-C saves; the same command goes on. Results go to build/bench/, with hardware and date, and are published like the
other benchmarks'. Lesson: 21_your_own_equation.
"""

from __future__ import annotations

import argparse
import shutil
from contextlib import nullcontext
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import harness
from course import pde
from course.train.resumable import BusyError, DamagedError, Run, SettingError, StoppedError
from tools import environment

RUNS = harness.ROOT / "build" / "pde"
SEED = 0


def kuramoto_sivashinsky() -> pde.Problem:
    """u_t + 5 u u_x + 0.5 u_xx + 0.005 u_xxxx = 0, u(0, x) = -sin(pi x): Wang, Sankaran and Perdikaris (2022)."""
    domain = pde.Box(t=(0, 1), x=(-1, 1), periodic="x")

    def residual(u, p):
        value, u_t, u_x, u_xx, u_xxxx = domain.derivatives(u, p, "", "t", "x", "xx", "xxxx")
        return u_t + 5 * value * u_x + 0.5 * u_xx + 0.005 * u_xxxx

    reference = pde.etdrk4(
        domain, lambda x: -np.sin(np.pi * x), lambda d: -0.5 * d**2 - 0.005 * d**4, lambda u, d: -2.5 * d(u**2),
        points=256, steps=50,
    )  # fmt: skip
    return pde.Problem(domain, residual, [pde.given(t=0, u=lambda p: -jnp.sin(jnp.pi * p[1]))], reference=reference)


def allen_cahn(measured: int = 200, noise: float = 0.01) -> pde.Problem:
    """u_t = 0.001 k u_xx + c (u - u^3), u(0, x) = x^2 cos(pi x); k = 1 and c = 5 are sought from noisy values of u."""
    domain = pde.Box(t=(0, 1), x=(-1, 1), periodic="x")

    def residual(u, p, k, c):
        value, u_t, u_xx = domain.derivatives(u, p, "", "t", "xx")
        return u_t - 0.001 * k * u_xx - c * (value - value**3)

    reference = pde.etdrk4(
        domain, lambda x: x**2 * np.cos(np.pi * x), lambda d: 0.001 * d**2 + 5, lambda u, d: -5 * u**3
    )
    rng = np.random.default_rng(SEED)
    rows, columns = (rng.integers(0, size, measured) for size in reference.values.shape)
    at = np.stack([reference.coordinates[0][rows], reference.coordinates[1][columns]], axis=1)
    values = reference.values[rows, columns] + noise * rng.normal(size=measured)
    conditions = [
        pde.given(t=0, u=lambda p: p[1] ** 2 * jnp.cos(jnp.pi * p[1])), pde.data(at, values, weight=10.0)
    ]  # fmt: skip
    return pde.Problem(domain, residual, conditions, reference=reference)


SETTINGS: dict[str, dict] = {
    # an early error grows like exp(12 t): what float32 leaves over at t = 0.4 is a tenth of the solution at t = 1
    "kuramoto-sivashinsky": {
        "windows": 10,
        "steps": 200,
        "points": 2048,
        "width": 24,
        "depth": 3,
        "float64": True,
        "least_damping": 1e-10,
    },
    "allen-cahn-coefficients": {
        "windows": 1,
        "steps": 300,
        "points": 512,
        "width": 24,
        "depth": 3,
        "float64": False,
        "least_damping": 1e-5,
    },
}


def solve(name: str, setting: dict, folder: Path) -> dict[str, list[dict]]:
    """Solve an equation, resumable in a folder; the tables of its result."""
    with environment.double_precision() if setting["float64"] else nullcontext():
        return _solve(name, setting, folder)


def _solve(name: str, setting: dict, folder: Path) -> dict[str, list[dict]]:
    key, network = jax.random.key(SEED), pde.Mlp(setting["width"], setting["depth"])
    optimizer = pde.gauss_newton(least=setting["least_damping"])
    same = {"steps": setting["steps"], "points": setting["points"], "optimizer": optimizer}

    def run(n: int) -> Run:
        return Run(folder / str(n), {**setting, "equation": name, "part": n, "seed": SEED}, every_s=60)

    if name == "kuramoto-sivashinsky":
        problem = kuramoto_sivashinsky()
        solution = pde.march(problem, network, key, windows=setting["windows"], runs=run, **same)
    else:
        problem = allen_cahn()
        with run(0) as only:
            solution = pde.solve(problem, network, key, run=only, unknowns={"k": 3.0, "c": 2.0}, **same)
    found, exact = solution.grid(), problem.reference
    (t, x), gap = found.coordinates, found.values - exact.values
    end = np.linalg.norm(gap[-1]) / np.linalg.norm(exact.values[-1])
    row = {
        "name": name, "relative_l2": float(np.linalg.norm(gap) / np.linalg.norm(exact.values)),
        "relative_l2_at_the_end": float(end), "seconds": solution.seconds, **solution.unknowns,
    }  # fmt: skip
    by_time = np.linalg.norm(gap, axis=1) / np.linalg.norm(exact.values, axis=1)
    return {
        "run": [row],
        "error by time": [{"name": f"{t[n]:.2f}", "relative_l2": float(by_time[n])} for n in range(0, len(t), 5)],
        "at the end": [
            {"name": f"{x[n]:.4f}", "network": float(found.values[-1, n]), "reference": float(exact.values[-1, n])}
            for n in range(0, len(x), 2)
        ],
    }


def solve_and_report(name: str, setting: dict, folder: Path, out: Path = harness.OUT) -> Path:
    """Solve and write the result; only then are the checkpoints removed."""
    written = harness.report(f"pde_own_{name}", solve(name, setting, folder), [], setting, out)
    shutil.rmtree(folder)
    return written


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--equation", default="kuramoto-sivashinsky", choices=SETTINGS)
    name = parser.parse_args().equation
    try:
        solve_and_report(name, SETTINGS[name], RUNS / f"own_{name}")
    except (StoppedError, BusyError, DamagedError, SettingError) as error:
        print(f"\n{error}")
        return 130 if isinstance(error, StoppedError) else 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
