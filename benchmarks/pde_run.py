"""One long run: solve an equation in the unit ball and write a result file (`make pde DIM=1000000`).

It shows progress, saves itself every ten minutes and on Ctrl-C, and continues from the last checkpoint when it is
started again, killed or not. Results go to build/bench/, with hardware and date, and are published like the other
benchmarks'. Lesson: 19_million_dimensions.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter

import jax
import jax.numpy as jnp
import optax
from tqdm import tqdm

from benchmarks import harness
from course import pde
from course.train.resumable import FolderError, Run, SettingError, StoppedError

RUNS = harness.ROOT / "build" / "pde"
SEED = 0


@dataclass(frozen=True)
class Setting:
    """What is solved, and how.

    Attributes:
      kind, body: of the equation, see `pde.ball_equation`.
      dimension: d.
      points: collocation points a step.
      samples: coordinates drawn for the Laplacian of the network; None takes it exactly.
      steps, learning_rate: with cosine decay, of the natural gradient from `decay_from` on.
      in_bench: whether `make bench` runs it too.
      optimizer: "natural-gradient", on orthogonal points and exact Laplacians, or "adam", on independent points.
      width: of the hidden layers, three by Adam, two by the natural gradient.
      damping, decay_from: of the natural gradient; the share of the steps at the full rate.
    """

    kind: str
    body: str
    dimension: int
    points: int
    samples: int | None
    steps: int
    learning_rate: float
    in_bench: bool = False
    optimizer: str = "adam"
    width: int = 128
    damping: float = 0.0
    decay_from: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.kind} {self.body}, d = {self.dimension:,}, {self.optimizer}"

    @property
    def file(self) -> str:
        return f"pde_{self.kind}_{self.body}_{self.dimension}{'_adam' * (self.optimizer == 'adam')}"


def natural(body: str, d: int, points: int, steps: int, decay_from: float = 0.4, **others) -> Setting:
    """A run by the natural gradient, on orthogonal points: what d of them leave is noise, for a falling rate."""
    return Setting("sine-gordon", body, d, points, None, steps, 1.0, optimizer="natural-gradient", width=16,
                   decay_from=decay_from, **{"damping": 1e-4} | others)  # fmt: skip


SETTINGS = {
    setting.name: setting
    for setting in (
        natural("two-body", 100, 100, 60),
        natural("two-body", 1_000, 100, 50, in_bench=True),
        natural("two-body", 10_000, 200, 150),
        natural("two-body", 100_000, 200, 1_500),
        natural("two-body", 1_000_000, 50, 5_000, decay_from=1.0),
        natural("waves", 10_000, 500, 400),
        Setting("sine-gordon", "two-body", 100, 100, None, 1_000, 1e-2),
        Setting("sine-gordon", "two-body", 1_000, 100, 16, 3_000, 3e-3, in_bench=True),
        Setting("sine-gordon", "two-body", 10_000, 100, 16, 2_000, 3e-3),
        Setting("sine-gordon", "two-body", 100_000, 100, 16, 100, 1e-3, in_bench=True),
        Setting("sine-gordon", "two-body", 1_000_000, 16, 16, 60, 1e-4),
        Setting("sine-gordon", "waves", 10_000, 50, None, 3_000, 3e-3),
    )
}


def problem(setting: Setting) -> tuple:
    """Equation, loss, optimizer, the state at the start, and how parameters become a solution."""
    equation = pde.ball_equation(setting.kind, setting.dimension, jax.random.key(SEED), setting.body)
    if setting.optimizer == "adam":
        return equation, *by_adam(setting, equation)

    def linearized(params, key, step):
        x = pde.orthogonal_ball(jax.random.key(SEED + 4), step * setting.points, setting.points, setting.dimension)
        return pde.linearize_layered(equation.layer_residual, params, x)

    full, rate = round(setting.decay_from * setting.steps), setting.learning_rate
    fall = optax.cosine_decay_schedule(rate, max(1, setting.steps - full))
    schedule = optax.join_schedules([optax.constant_schedule(rate), fall], [full])
    optimizer = pde.NaturalGradient(schedule, setting.damping)
    params = pde.init_layered_mlp(jax.random.key(SEED + 1), (setting.dimension, setting.width, setting.width, 1))
    state = pde.start(params, optimizer, jax.random.key(SEED + 2))
    return equation, linearized, optimizer, state, equation.layer_ansatz


def by_adam(setting: Setting, equation: pde.BallEquation) -> tuple:
    """Loss, optimizer, state and solution of an ordinary network."""

    def loss_fn(params, key):
        key_x, key_axes = jax.random.split(key)
        x = equation.sample(key_x, setting.points)

        def square(x):
            return equation.network_residual(partial(pde.mlp, params), x, key_axes, setting.samples) ** 2

        return jax.vmap(square)(x).mean()

    compact = jnp.bfloat16 if setting.dimension >= 1_000_000 else None  # a quarter of a gigabyte less
    optimizer = pde.scaled_cosine_adam(setting.steps, setting.learning_rate, setting.dimension, mu_dtype=compact)
    sizes = (setting.dimension, *(setting.width,) * 3, 1)
    state = pde.start(pde.init_mlp(jax.random.key(SEED + 1), sizes), optimizer, jax.random.key(SEED + 2))
    return loss_fn, optimizer, state, lambda params: equation.ansatz(partial(pde.mlp, params))


def solve(setting: Setting, *, quick: bool = False, run: Run | None = None) -> dict:
    """Train and measure one setting; with a run, from its newest checkpoint."""
    if quick:
        setting = replace(setting, dimension=min(setting.dimension, 200), steps=4)
    begun = perf_counter()
    equation, loss_fn, optimizer, state, solution = problem(setting)

    with tqdm(total=setting.steps, desc=setting.name, unit="step") as bar:

        def report(state, losses):
            bar.update(int(state.step) - bar.n)
            bar.set_postfix(residual=f"{float(losses.mean()) ** 0.5:.1e}")

        chunk = max(1, setting.steps // 40)
        state, _ = pde.train(loss_fn, optimizer, state, setting.steps, chunk=chunk, report=report, run=run)
    seconds = run.seconds if run else perf_counter() - begun
    batch = 20 if quick else max(4, min(100, 10**7 // setting.dimension))
    error = pde.relative_l2(
        equation,
        solution(state.params),
        jax.random.key(SEED + 3),
        points=(40 if quick else 2_000) // batch * batch,
        batch=batch,
    )
    return {
        "name": setting.name, "relative_l2": error.relative_l2, "best_constant": error.best_constant,
        "seconds": seconds, "ms_per_step": 1e3 * seconds / setting.steps,
    }  # fmt: skip


def fingerprint(setting: Setting) -> dict:
    """What a checkpoint must have been made with to be continued; versions are added by the run itself."""
    dtype, platform = str(jnp.result_type(float)), jax.devices()[0].platform
    return asdict(setting) | {"seed": SEED, "dtype": dtype, "platform": platform}


def solve_and_report(setting: Setting, folder: Path, out: Path = harness.OUT) -> Path:
    """Solve a setting, resumable in a folder, and write the result; only then are the checkpoints removed."""
    with Run(folder, fingerprint(setting)) as run:
        row = solve(setting, run=run)
        written = harness.report(setting.file, {"run": [row]}, [], asdict(setting), out)
        run.remove()
    return written


def main() -> int:
    dimensions = sorted({setting.dimension for setting in SETTINGS.values()})
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dim", type=int, default=1_000, help=f"one of {dimensions}")
    parser.add_argument("--body", default="two-body", help="two-body or waves")
    parser.add_argument("--optimizer", default="natural-gradient", help="natural-gradient or adam")
    arguments = parser.parse_args()
    wanted = arguments.dim, arguments.body, arguments.optimizer
    found = [s for s in SETTINGS.values() if (s.dimension, s.body, s.optimizer) == wanted]
    if not found:
        known = ", ".join(f"DIM={s.dimension} BODY={s.body} OPTIMIZER={s.optimizer}" for s in SETTINGS.values())
        print(f"expected a known run, got DIM={wanted[0]} BODY={wanted[1]} OPTIMIZER={wanted[2]}; there are: {known}")
        return 2
    (setting,) = found
    try:
        solve_and_report(setting, RUNS / setting.file)
    except (StoppedError, FolderError, SettingError) as error:
        print(f"\n{error}")
        return 130 if isinstance(error, StoppedError) else 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
