"""Train the GPT on the course's own text, in one process or many. Needs JAX, flax, optax, Orbax, Grain and tqdm.

    python -m examples.language_model.train [--steps 1000] [--width 128] …
    make train PROCESSES=2

Every field of `config.Config` is an option. What is written, into `--folder`: metrics.csv, checkpoints, and, where they
are asked for or installed, a profile and TensorBoard's events. The same command continues a run that was stopped.
Lesson: 14_many_processes.
"""

from __future__ import annotations

import csv
import hashlib
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from course import launch
from course.train.resumable import BusyError, DamagedError, Run, SettingError, StoppedError
from examples.language_model import data, sharding, step
from examples.language_model.config import Config, OptionError

COLUMNS = ("step", "loss", "gradient_norm", "rate", "held_out_bits", "tokens_per_second")
OF_THE_MACHINE = {"mesh", "folder", "evaluate_every", "save_every", "profile"}  # a run may continue with others


class Metrics:
    """Rows of metrics.csv, after those up to step `done`; TensorBoard's too where it is installed. Process 0 writes."""

    def __init__(self, folder: Path, done: int):
        self.writes = jax.process_index() == 0
        if not self.writes:
            return
        self.path, self.board = folder / "metrics.csv", None
        kept = []
        if self.path.exists():
            with self.path.open(newline="") as file:
                kept = [row for row in csv.DictReader(file) if int(row["step"]) <= done]
        with self.path.open("w", newline="") as file:
            table = csv.DictWriter(file, COLUMNS)
            table.writeheader()
            table.writerows(kept)
        if find_spec("torch") and find_spec("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(folder), purge_step=done)

    def write(self, number: int, **values: float) -> None:
        """One row; columns without a value stay empty."""
        if not self.writes:
            return
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, COLUMNS).writerow({"step": number, **{k: f"{v:.6g}" for k, v in values.items()}})
        for name, value in values.items() if self.board else ():
            self.board.add_scalar(name, value, number)

    def close(self) -> None:
        """Write what TensorBoard still holds."""
        if self.writes and self.board:
            self.board.close()


def spread(array: np.ndarray, where: jax.sharding.Sharding) -> jax.Array:
    """An array that all processes have, as one global array; each puts its part on its devices."""
    return jax.make_array_from_callback(array.shape, where, lambda index: array[index])


def make_evaluate(
    config: Config, mesh: jax.sharding.Mesh, texts: list[str], pieces: data.Pieces
) -> Callable[[Any], float]:
    """`evaluate(params)`: bits a character of the texts."""
    rows, counted = data.held_out(texts, pieces, config.context)
    missing = -len(rows) % config.batch
    rows, counted = (np.pad(array, ((0, missing), (0, 0))) for array in (rows, counted))
    by_rows = sharding.checked("tokens", (config.batch, config.context), mesh)
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    parts = [
        tuple(spread(array[k : k + config.batch], by_rows) for array in (rows, counted))
        for k in range(0, len(rows), config.batch)
    ]
    loss = step.make_loss(config)
    total = jax.jit(lambda params, rows, counted: loss(params, rows, None, counted), out_shardings=whole)
    characters = sum(map(len, texts))
    return lambda params: sum(float(total(params, *part)) for part in parts) / np.log(2) / characters


def sample(config: Config, mesh: jax.sharding.Mesh, params: Any, pieces: data.Pieces, count: int = 200) -> str:
    """A text that the model writes, of `count` pieces."""
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    draw = jax.jit(step.make_sample(config, count, temperature=0.7), out_shardings=whole)
    return pieces.decode(np.asarray(draw(params, data.START, jax.random.key(config.seed))))


def train(config: Config) -> float:
    """Train, and return the held-out bits a character of the averaged weights.

    Raises:
      sharding.MeshError: the mesh fits neither the devices nor the model.
      course.train.resumable.StoppedError: the process was asked to stop; the state is saved.
      SettingError, BusyError, DamagedError: of the same module: the folder is another run's, busy, or damaged.
    """
    say = tqdm.write if jax.process_index() == 0 else (lambda _: None)
    mesh = sharding.make_mesh(config.mesh)
    compiled = step.jit_step(config, mesh)
    learn, test = data.split(data.documents())
    pieces = data.Pieces(learn, config.vocab)
    tokens = data.stream(learn, pieces)
    sequences = data.sequences(tokens, config.context, config.seed)
    states = sharding.of_tree(jax.eval_shape(lambda: step.init(config)), mesh)
    by_rows = sharding.checked("tokens", (config.batch, config.context + 1), mesh)
    evaluate = make_evaluate(config, mesh, test, pieces)
    state = jax.jit(lambda: step.init(config), out_shardings=states)()
    say(
        f"{sum(p.size for p in jax.tree.leaves(state.params)):,} parameters, {len(tokens):,} tokens, "
        f"{sum(map(len, learn)):,} characters; {sum(map(len, test)):,} held out in {len(test)} documents\n"
        f"mesh {dict(mesh.shape)} of {len(mesh.devices.flat)} devices in {jax.process_count()} processes"
    )

    def batch(number: int) -> jax.Array:
        def share(index: tuple[slice, ...]) -> np.ndarray:
            rows = range(number * config.batch, (number + 1) * config.batch)[index[0]]
            return np.stack([sequences[row] for row in rows])

        return jax.make_array_from_callback((config.batch, config.context + 1), by_rows, share)

    folder = Path(config.folder)
    setting = {name: value for name, value in asdict(config).items() if name not in OF_THE_MACHINE}
    setting["text"] = hashlib.sha256(tokens.tobytes()).hexdigest()
    with Run(folder, setting, every_s=config.save_every) as run:
        state = jax.device_put(run.restore(state), states)
        begin = int(state.step)
        metrics = Metrics(folder, begin)
        bar = tqdm(total=config.steps, initial=begin, unit="step", disable=jax.process_index() > 0 or None)
        since = perf_counter(), begin
        for number in range(begin, config.steps):
            if config.profile and number in (begin + 10, begin + 20):
                jax.profiler.start_trace(folder / "profile") if number == begin + 10 else jax.profiler.stop_trace()
            state, values = compiled(state, batch(number))
            done = number + 1
            bar.update()
            last = done == config.steps
            if last or done % 10 == 0 or done % config.evaluate_every == 0:
                numbers = {name: float(value) for name, value in values.items()}
                rate = (done - since[1]) * config.batch * config.context / (perf_counter() - since[0])
                if last or done % config.evaluate_every == 0:
                    numbers["held_out_bits"] = bits = evaluate(state.ema)
                    say(f"step {done}: loss {numbers['loss']:.3f}, held-out bits a character {bits:.3f}")
                metrics.write(done, **numbers, tokens_per_second=rate)
                bar.set_postfix(loss=f"{numbers['loss']:.3f}")
                since = perf_counter(), done
            if last:
                run.save(done, state)
            else:
                run.after(done, state)
        bar.close()
        metrics.close()
    bits, baseline = evaluate(state.ema), data.ngram_bits(learn, test)
    say(f"\n{sample(config, mesh, state.ema, pieces)}\n")
    say(f"held-out bits a character: {bits:.3f}; of a 5-gram (Kneser-Ney) on the same text: {baseline:.3f}")
    return bits


def main(options: list[str] | None = None) -> int:
    """The command line; 0, 1 where the folder's run is another, 2 for bad input, 130 where it was asked to stop."""
    try:
        config = Config.from_options(sys.argv[1:] if options is None else options)
        launch.join(timeout_s=60)
        train(config)
    except StoppedError as error:
        print(f"\n{error}", file=sys.stderr)
        return 130
    except (OptionError, sharding.MeshError, BusyError, DamagedError, SettingError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 2 if isinstance(error, (OptionError, sharding.MeshError)) else 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
