"""Kill a run again and again, in the midst of saving above all: does it continue, and to the same bits?

A small training run saves after every chunk. A process of its own is killed (SIGKILL) at a random moment, a second one
continues from what lies on the disk, is killed in turn, and so on; a run that reaches its end makes room for a new one.
What each process finds is compared, bit by bit, with the same step of a run that nobody disturbed, and must be no older
than the last checkpoint that was whole. Lesson: 19_million_dimensions.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from multiprocessing import get_context
from pathlib import Path
from signal import SIGKILL
from tempfile import TemporaryDirectory
from time import monotonic, sleep

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

from benchmarks import harness
from course import pde
from course.train.resumable import Run

KILLS, QUICK_KILLS, SEED = 200, 5, 0
SIZE, STEPS, CHUNK = 200_000, 60, 2  # a state of 2.4 MB, saved 30 times


class Watched(Run):
    """A run that tells another process whether it is saving, and the last step that it has saved."""

    def __init__(self, folder, setting, saving, saved, **how):
        super().__init__(folder, setting, **how)
        self.saving, self.saved = saving, saved

    def save(self, step, state):
        self.saving.value = 1
        super().save(step, state)
        self.saved.value, self.saving.value = step, 0


def loss_fn(params, key):
    return ((params - jax.random.normal(key, params.shape)) ** 2).mean()


def victim(folder: Path, log: Path, saving, saved) -> None:
    """What is killed: continue from the folder; the log gets a line for what was found there, and for each chunk."""
    optimizer = optax.adam(0.1)
    state = pde.start(jnp.zeros(SIZE), optimizer, jax.random.key(SEED))

    def note(state, _=None):
        with log.open("a") as file:
            file.write(f"{int(state.step)} {hash_of(state)}\n")

    with Watched(folder, {"seed": SEED, "steps": STEPS}, saving, saved, every_s=0) as run:
        state = run.restore(state)
        note(state)
        pde.train(loss_fn, optimizer, state, STEPS, chunk=CHUNK, report=note, run=run)


def hash_of(state: pde.State) -> str:
    """A hash of all bits of a state."""
    leaves = jax.tree.leaves(state._replace(key=jax.random.key_data(state.key)))
    return hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in leaves)).hexdigest()


def bench(quick: bool) -> tuple[dict[str, list[dict]], list[harness.Ratio]]:
    """What became of the kills; no ratios."""
    return {"kills": [kill(QUICK_KILLS if quick else KILLS)]}, []


def kill(times: int, seed: int = SEED) -> dict:
    """Kill so many times; a row with what was found afterwards.

    Each process is killed at a random moment of its life, every other one at a random moment after a save has begun.
    """
    context, rng = get_context("forkserver"), np.random.default_rng(seed)
    context.set_forkserver_preload(["benchmarks.harness", "course.pde", "course.train.resumable"])
    saving, saved = context.RawValue("i", 0), context.RawValue("i", -1)
    row = {"name": f"killed {times} times", "while saving": 0, "resumed to the same bits": 0, "other bits": 0,
           "older than the last save": 0, "died by itself": 0, "runs finished": 0}  # fmt: skip
    with TemporaryDirectory() as name, tqdm(total=times, desc="kills", file=sys.stderr) as bar:
        folder, log = Path(name) / "run", Path(name) / "log"

        def start(folder):
            log.write_text("")
            process = context.Process(target=victim, args=(folder, log, saving, saved))
            process.start()
            return process

        begun = monotonic()
        start(Path(name) / "undisturbed").join()
        life, undisturbed = monotonic() - begun, lines_of(log)
        kills = waiting = 0  # kills, and those that no process has come after yet
        saved.value = before = -1
        while kills < times or waiting:
            saving.value, process, end = 0, start(folder), monotonic() + rng.uniform(0, life)
            if kills < times:
                while monotonic() < end and process.is_alive():
                    sleep(0.001)
                if kills % 2:
                    while not saving.value and process.is_alive():
                        sleep(0.0002)
                    sleep(rng.uniform(0, 0.03))
                last = saved.value
                process.kill()
            process.join()
            found = lines_of(log)
            if found:
                step = next(iter(found))
                right = all(undisturbed[s] == bits for s, bits in found.items())
                row["resumed to the same bits"] += waiting * right
                row["other bits"] += not right
                row["older than the last save"] += step < before
                waiting = 0
            if process.exitcode == -SIGKILL:
                row["while saving"] += saving.value
                kills, waiting, before = kills + 1, waiting + 1, last
                bar.update()
            elif process.exitcode:
                row["died by itself"] += 1
            else:
                row["runs finished"] += 1
                shutil.rmtree(folder)
                saved.value = before = -1
    return row


def lines_of(log: Path) -> dict[int, str]:
    """Step -> hash; a line that a kill has cut short is left out."""
    return {int(step): bits for step, bits in (line.split() for line in log.read_text().split("\n")[:-1])}


def main() -> None:
    harness.command("resume", bench)


if __name__ == "__main__":
    main()
