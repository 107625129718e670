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
from tqdm import tqdm

from benchmarks import harness
from course import pde
from course.train.resumable import FolderError, Run, SettingError, StoppedError

RUNS = harness.ROOT / "build" / "pde"
SEED, WIDTH = 0, 128


@dataclass(frozen=True)
class Setting:
    """What is solved, and how.

    Attributes:
      kind, body: of the equation, see `pde.ball_equation`.
      dimension: d.
      points: collocation points a step.
      samples: coordinates drawn for the Laplacian of the network; None takes it exactly.
      steps, learning_rate: of Adam with cosine decay.
      in_bench: whether `make bench` runs it too.
    """

    kind: str
    body: str
    dimension: int
    points: int
    samples: int | None
    steps: int
    learning_rate: float
    in_bench: bool = False

    @property
    def name(self) -> str:
        return f"{self.kind} {self.body}, d = {self.dimension:,}"

    @property
    def file(self) -> str:
        return f"pde_{self.kind}_{self.body}_{self.dimension}"


SETTINGS = {
    setting.name: setting
    for setting in (
        Setting("sine-gordon", "two-body", 100, 100, None, 1_000, 1e-2),
        Setting("sine-gordon", "two-body", 1_000, 100, 16, 3_000, 3e-3, in_bench=True),
        Setting("sine-gordon", "two-body", 10_000, 100, 16, 2_000, 3e-3),
        Setting("sine-gordon", "two-body", 100_000, 100, 16, 100, 1e-3, in_bench=True),
        Setting("sine-gordon", "two-body", 1_000_000, 16, 16, 60, 1e-4),
        Setting("sine-gordon", "waves", 10_000, 50, None, 3_000, 3e-3),
    )
}


def problem(setting: Setting) -> tuple:
    """Equation, loss, optimizer and the state at the start."""
    equation = pde.ball_equation(setting.kind, setting.dimension, jax.random.key(SEED), setting.body)

    def loss_fn(params, key):
        key_x, key_axes = jax.random.split(key)
        x = equation.sample(key_x, setting.points)

        def square(x):
            return equation.network_residual(partial(pde.mlp, params), x, key_axes, setting.samples) ** 2

        return jax.vmap(square)(x).mean()

    compact = jnp.bfloat16 if setting.dimension >= 1_000_000 else None  # a quarter of a gigabyte less
    optimizer = pde.scaled_cosine_adam(setting.steps, setting.learning_rate, setting.dimension, mu_dtype=compact)
    sizes = (setting.dimension, WIDTH, WIDTH, WIDTH, 1)
    state = pde.start(pde.init_mlp(jax.random.key(SEED + 1), sizes), optimizer, jax.random.key(SEED + 2))
    return equation, loss_fn, optimizer, state


def solve(setting: Setting, *, quick: bool = False, run: Run | None = None) -> dict:
    """Train and measure one setting; with a run, from its newest checkpoint."""
    if quick:
        setting = replace(setting, dimension=min(setting.dimension, 200), steps=4)
    begun = perf_counter()
    equation, loss_fn, optimizer, state = problem(setting)

    with tqdm(total=setting.steps, desc=setting.name, unit="step") as bar:

        def report(state, losses):
            bar.update(int(state.step) - bar.n)
            bar.set_postfix(residual=f"{float(losses.mean()) ** 0.5:.1e}")

        chunk = max(1, setting.steps // 40)
        state, _ = pde.train(loss_fn, optimizer, state, setting.steps, chunk=chunk, report=report, run=run)
    seconds = run.seconds if run else perf_counter() - begun
    batch = 20 if quick else max(4, min(100, 10**7 // setting.dimension))
    u = equation.ansatz(partial(pde.mlp, state.params))
    error = pde.relative_l2(
        equation, u, jax.random.key(SEED + 3), points=(40 if quick else 2_000) // batch * batch, batch=batch
    )
    return {
        "name": setting.name, "relative_l2": error.relative_l2, "best_constant": error.best_constant,
        "seconds": seconds, "ms_per_step": 1e3 * seconds / setting.steps,
    }  # fmt: skip


def fingerprint(setting: Setting) -> dict:
    """What a checkpoint must have been made with to be continued; versions are added by the run itself."""
    return asdict(setting) | {"optimizer": "pde.scaled_cosine_adam", "width": WIDTH, "seed": SEED,
                              "dtype": str(jnp.result_type(float)), "platform": jax.devices()[0].platform}  # fmt: skip


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
    arguments = parser.parse_args()
    found = [s for s in SETTINGS.values() if s.dimension == arguments.dim and s.body == arguments.body]
    if not found:
        known = ", ".join(f"DIM={s.dimension} BODY={s.body}" for s in SETTINGS.values())
        print(f"expected a known run, got DIM={arguments.dim} BODY={arguments.body}; there are: {known}")
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
