"""One long run: solve an equation in the unit ball and write a result file (`make pde DIM=1000000`).

It shows progress, saves itself every ten minutes and on Ctrl-C, and continues from the last save when it is started
again. Results go to build/bench/, with hardware and date, and are published like the other benchmarks'.
Lesson: 19_million_dimensions.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import perf_counter

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from tqdm import tqdm

from benchmarks import machine
from course import pde, timing

BUILD = Path(__file__).resolve().parents[1] / "build"
SEED, SAVE_EVERY_S = 0, 600


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
    sizes = (setting.dimension, 128, 128, 128, 1)
    state = pde.start(pde.init_mlp(jax.random.key(SEED + 1), sizes), optimizer, jax.random.key(SEED + 2))
    return equation, loss_fn, optimizer, state


def solve(name: str, quick: bool = False, folder: Path | None = None) -> dict:
    """Train and measure one setting; with a folder, save there and continue from what is found there."""
    setting = SETTINGS[name]
    if quick:
        setting = replace(setting, dimension=min(setting.dimension, 200), steps=4)
    begun = perf_counter()
    equation, loss_fn, optimizer, state = problem(setting)
    saved = Saved(folder) if folder else None
    spent = 0.0
    if saved and saved.path.exists():
        state, spent = saved.load(state)
    chunk = max(1, setting.steps // 40)

    with tqdm(total=setting.steps, initial=int(state.step), desc=name, unit="step") as bar:

        def report(state, losses):
            bar.update(len(losses))
            bar.set_postfix(residual=f"{float(losses.mean()) ** 0.5:.1e}")
            if saved and (saved.stopping or perf_counter() - saved.last > SAVE_EVERY_S):
                saved.save(state, spent + perf_counter() - begun)
                if saved.stopping:
                    raise KeyboardInterrupt

        try:
            state, _ = pde.train(loss_fn, optimizer, state, setting.steps, chunk=chunk, report=report)
        except pde.DivergedError as error:
            if saved:
                saved.save(error.state, spent + perf_counter() - begun)
            raise
    seconds = spent + perf_counter() - begun
    batch = 20 if quick else max(4, min(100, 10**7 // setting.dimension))
    u = equation.ansatz(partial(pde.mlp, state.params))
    error = pde.relative_l2(
        equation, u, jax.random.key(SEED + 3), points=(40 if quick else 2_000) // batch * batch, batch=batch
    )
    if saved:
        saved.remove()
    return {
        "name": setting.name, "relative_l2": error.relative_l2, "best_constant": error.best_constant,
        "seconds": seconds, "ms_per_step": 1e3 * seconds / setting.steps,
    }  # fmt: skip


class Saved:
    """A run's state on disk, written by Orbax; Ctrl-C is noted, and obeyed after the next chunk."""

    def __init__(self, folder: Path):
        self.path, self.last, self.stopping = folder / "state", perf_counter(), False
        self.checkpointer = ocp.PyTreeCheckpointer()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.stop)

    def stop(self, *_) -> None:
        self.stopping = True

    def save(self, state: pde.State, seconds: float) -> None:
        """Seconds spent go along, so that a continued run adds up."""
        content = {"state": state._replace(key=jax.random.key_data(state.key))._asdict(), "seconds": seconds}
        self.checkpointer.save(self.path, content, force=True)
        self.last = perf_counter()

    def load(self, like: pde.State) -> tuple[pde.State, float]:
        example = {"state": like._replace(key=jax.random.key_data(like.key))._asdict(), "seconds": 0.0}
        arguments = ocp.checkpoint_utils.construct_restore_args(example)
        content = self.checkpointer.restore(self.path, item=example, restore_args=arguments)
        state = pde.State(**content["state"])
        return state._replace(key=jax.random.wrap_key_data(state.key)), float(content["seconds"])

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


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
    folder = BUILD / "pde" / setting.file
    try:
        row = solve(setting.name, folder=folder)
    except KeyboardInterrupt:
        print("\nstopped and saved; the same command continues from here")
        return 130
    row["peak_memory_GiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    device = jax.devices()[0]
    where = {"software": timing.where(), "device": device.device_kind, "cores": len(os.sched_getaffinity(0))}
    content = {
        "conditions": where | {"cpu": machine.cpu_name(), "date": f"{datetime.now(UTC):%Y-%m-%d}"},
        "setting": asdict(setting),
        "tables": {"run": [row]},
    }
    path = BUILD / "bench" / f"{setting.file}-{device.platform}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    print(json.dumps(row, indent=1))
    print(f"wrote {path.relative_to(BUILD.parent)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
