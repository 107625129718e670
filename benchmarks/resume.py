"""Kill a run again and again, in the midst of saving above all: does it continue, and to the same bits?

A small training run, in one process or with its arrays sharded over two, saves after every chunk. One process, or all,
are killed (SIGKILL) at a random moment, others continue from what lies on the disk, are killed in turn, and so on; a run
that reaches its end makes room for a new one. What each process finds is compared, bit by bit, with the same step of a
run that nobody disturbed, and must be no older than the last checkpoint that was whole. Where one of two is killed the
other is ended a moment later, as `course.launch` does. Lessons: 14_many_processes, 19_million_dimensions.
"""

from __future__ import annotations

import hashlib
import os
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
from jax.sharding import NamedSharding, PartitionSpec
from tqdm import tqdm

from benchmarks import harness
from course import launch, pde
from course.train.resumable import Run

KILLS, QUICK_KILLS, SEED = 100, 3, 0
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


def victim(index: int, processes: int, address: str, folder: Path, log: Path, saving, saved) -> None:
    """What is killed: continue from the folder; its log gets a line for what was found there, and for each chunk."""
    if processes > 1:
        os.environ |= {"COURSE_COORDINATOR": address, "COURSE_PROCESSES": str(processes), "COURSE_PROCESS": str(index)}
        launch.join()
    optimizer = optax.adam(0.1)
    mesh = jax.make_mesh((processes,), ("data",))
    everywhere, split = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("data"))

    def start():
        return pde.start(jnp.zeros(SIZE), optimizer, jax.random.key(SEED))

    layout = jax.tree.map(lambda leaf: split if leaf.shape == (SIZE,) else everywhere, jax.eval_shape(start))
    state = jax.jit(start, out_shardings=layout)()

    def note(state, _=None):
        with log.open("a") as file:
            file.write(f"{int(state.step)} {hash_of(state)}\n")

    one = Watched if index == 0 else Run
    told = {"saving": saving, "saved": saved} if index == 0 else {}
    with one(folder, {"seed": SEED, "steps": STEPS}, every_s=0, **told) as run:
        state = run.restore(state)
        note(state)
        pde.train(loss_fn, optimizer, state, STEPS, chunk=CHUNK, report=note, run=run)


def hash_of(state: pde.State) -> str:
    """A hash of all bits of a state that this process has."""
    leaves = jax.tree.leaves(state._replace(key=jax.random.key_data(state.key)))
    shards = [np.asarray(shard.data) for leaf in leaves for shard in leaf.addressable_shards]
    return hashlib.sha256(b"".join(shard.tobytes() for shard in shards)).hexdigest()


def bench(quick: bool) -> tuple[dict[str, list[dict]], list[harness.Ratio]]:
    """What became of the kills; no ratios."""
    times = QUICK_KILLS if quick else KILLS
    return {"kills": [kill(times), kill(times, 2, all_of_them=False), kill(times, 2)]}, []


def kill(times: int, processes: int = 1, *, all_of_them: bool = True, seed: int = SEED) -> dict:
    """Kill so many times; a row with what was found afterwards.

    Processes are killed at a random moment of their life, every other time at a random moment after a save has begun.
    """
    context, rng = get_context("forkserver"), np.random.default_rng(seed)
    context.set_forkserver_preload(["benchmarks.harness", "course.launch", "course.pde", "course.train.resumable"])
    saving, saved = context.RawValue("i", 0), context.RawValue("i", -1)
    who = "1 process" if processes == 1 else f"{processes} processes, {'all' if all_of_them else 'one'}"
    row = {"name": f"{who} killed {times} times", "while saving": 0, "resumed to the same bits": 0, "other bits": 0,
           "older than the last save": 0, "died by itself": 0, "runs finished": 0}  # fmt: skip
    with TemporaryDirectory() as name, tqdm(total=times, desc=who, file=sys.stderr) as bar:
        folder, logs = Path(name) / "run", [Path(name) / f"log{index}" for index in range(processes)]

        def start(folder):
            address, all_started = f"127.0.0.1:{launch.free_port()}", []
            for index, log in enumerate(logs):
                log.write_text("")
                process = context.Process(target=victim, args=(index, processes, address, folder, log, saving, saved))
                process.start()
                all_started.append(process)
            return all_started

        def running(started):
            return all(process.is_alive() for process in started)

        begun = monotonic()
        for process in start(Path(name) / "undisturbed"):
            process.join()
        life, undisturbed = monotonic() - begun, [lines_of(log) for log in logs]
        kills = waiting = 0  # kills, and those that no process has come after yet
        saved.value = before = -1
        while kills < times or waiting:
            saving.value, started, end = 0, start(folder), monotonic() + rng.uniform(0, life)
            disturbed = kills < times
            if disturbed:
                while monotonic() < end and running(started):
                    sleep(0.001)
                if kills % 2:
                    while not saving.value and running(started):
                        sleep(0.0002)
                    sleep(rng.uniform(0, 0.03))
                disturbed = running(started)
                while_saving, last = saving.value, saved.value
                first = int(rng.integers(processes))
                started[first].kill()
                if not all_of_them:
                    sleep(rng.uniform(0, 0.2))
            if disturbed or not running(started):
                for process in started:
                    process.kill()
            for process in started:
                process.join()
            found = [lines_of(log) for log in logs]
            if all(found):
                step = min(next(iter(lines)) for lines in found)
                right = all(known[s] == bits for known, lines in zip(undisturbed, found, strict=True)
                            for s, bits in lines.items())  # fmt: skip
                row["resumed to the same bits"] += waiting * right
                row["other bits"] += not right
                row["older than the last save"] += step < before
                waiting = 0
            codes = {process.exitcode for process in started}
            if disturbed and -SIGKILL in codes:
                row["while saving"] += while_saving
                kills, waiting, before = kills + 1, waiting + 1, max(before, last)
                bar.update()
            elif codes == {0}:
                row["runs finished"] += 1
                shutil.rmtree(folder)
                saved.value = before = -1
            else:
                row["died by itself"] += 1
    return row


def lines_of(log: Path) -> dict[int, str]:
    """Step -> hash; a line that a kill has cut short is left out."""
    return {int(step): bits for step, bits in (line.split() for line in log.read_text().split("\n")[:-1])}


def main() -> None:
    harness.command("resume", bench)


if __name__ == "__main__":
    main()
