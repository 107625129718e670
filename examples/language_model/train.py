"""Train the GPT on the course's own text, in one process or many. Needs JAX, flax, optax, Orbax, Grain, pandas, tqdm.

    python -m examples.language_model.train [--steps 1000] [--width 128] …
    make train PROCESSES=2

Every field of `config.Config` is an option. What is written, into `--folder`: metrics.csv, checkpoints, and, where they
are asked for or installed, a profile and TensorBoard's events. The same command continues a run that was stopped.
Lesson: 14_many_processes.
"""

from __future__ import annotations

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
import pandas as pd
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tqdm import tqdm

from course import launch
from course.train.resumable import FolderError, Run, SettingError, StoppedError
from examples.language_model import corpus, data, sharding, step
from examples.language_model.baseline import ngram_bits
from examples.language_model.config import Config, OptionError

COLUMNS = ["step", "loss", "gradient_norm", "rate", "held_out_bits", "tokens_per_second"]
OF_THE_MACHINE = {"mesh", "folder", "evaluate_every", "save_every", "profile"}  # a run may continue with others


class Metrics:
    """Rows of metrics.csv, after those up to step `done`; TensorBoard's too where it is installed."""

    def __init__(self, folder: Path, done: int):
        self.path = folder / "metrics.csv"
        self.board: Any = None
        table = pd.read_csv(self.path, dtype=str) if self.path.exists() else pd.DataFrame(columns=COLUMNS)
        table[table["step"].astype(int) <= done].to_csv(self.path, index=False)
        if find_spec("torch") and find_spec("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(folder), purge_step=done)

    def write(self, step: int, values: dict[str, float]) -> None:
        """One row; columns without a value stay empty."""
        row = {"step": step} | {name: f"{value:.6g}" for name, value in values.items()}
        pd.DataFrame([row], columns=COLUMNS).to_csv(self.path, mode="a", header=False, index=False)
        for name, value in values.items() if self.board else ():
            self.board.add_scalar(name, value, step)


def make_evaluate(config: Config, mesh: Mesh, texts: list[str], pieces: data.Pieces) -> Callable[[Any], float]:
    """`evaluate(params)`: bits a character of the texts."""
    by_rows = sharding.checked("tokens", (config.batch, config.context), mesh)
    parts = []
    for array in data.held_out(texts, pieces, config.context):
        padded = np.pad(array, ((0, -len(array) % config.batch), (0, 0)))
        split = padded.reshape(-1, config.batch, padded.shape[1])
        parts.append([jax.make_array_from_callback(part.shape, by_rows, part.__getitem__) for part in split])
    total = jax.jit(step.make_loss(config), out_shardings=NamedSharding(mesh, PartitionSpec()))
    batches, characters = list(zip(*parts, strict=True)), sum(map(len, texts))
    return lambda params: sum(float(total(params, x, None, y)) for x, y in batches) / np.log(2) / characters


def sample(config: Config, mesh: Mesh, params: Any, pieces: data.Pieces, count: int = 200) -> str:
    """A text that the model writes, of `count` pieces."""
    graph = step.graphdef(config)

    def draw(params: Any, window: jax.Array, last: int, key: jax.Array) -> jax.Array:
        logits = nnx.merge(graph, params)(window[None])[0, last]
        return jax.random.categorical(key, logits / 0.7)  # the temperature

    drawn, compiled = [data.START], jax.jit(draw, out_shardings=NamedSharding(mesh, PartitionSpec()))
    for key in jax.random.split(jax.random.key(config.seed), count):
        seen = np.array(drawn[-config.context :], np.int32)
        window = np.pad(seen, (0, config.context - len(seen)))
        drawn.append(int(compiled(params, window, len(seen) - 1, key)))
    return pieces.decode(drawn[1:]).replace(chr(data.START), "\n\n")  # another document begins


def train(config: Config) -> float:
    """Train, and return the held-out bits a character of the averaged weights.

    Raises:
      sharding.MeshError: the mesh fits neither the devices nor the model.
      course.train.resumable.StoppedError: the process was asked to stop; the state is saved.
      SettingError, FolderError: of the same module: the folder is another run's, busy, damaged or can't be written.
    """
    first = jax.process_index() == 0  # of the processes: it alone prints and writes
    say = tqdm.write if first else (lambda _: None)
    mesh = sharding.make_mesh(config.mesh)
    learn, test = corpus.split(corpus.documents())
    pieces = data.Pieces(learn, config.vocab)
    tokens = data.stream(learn, pieces)
    sequences = data.sequences(tokens, config.context, config.seed)
    evaluate = make_evaluate(config, mesh, test, pieces)
    compiled = step.jit_step(config, mesh)
    states = sharding.of_tree(jax.eval_shape(lambda: step.init(config)), mesh)
    state = jax.jit(lambda: step.init(config), out_shardings=states)()
    say(
        f"{sum(p.size for p in jax.tree.leaves(state.params)):,} parameters, {len(tokens):,} tokens, "
        f"{sum(map(len, learn)):,} characters; {sum(map(len, test)):,} held out in {len(test)} documents\n"
        f"mesh {dict(mesh.shape)} of {len(mesh.devices.flat)} devices in {jax.process_count()} processes"
    )
    shape = config.batch, config.context + 1
    by_rows = sharding.checked("tokens", shape, mesh)

    def batch(number: int) -> jax.Array:
        def share(index: Any) -> np.ndarray:  # each process reads the rows of its own devices
            rows = range(number * config.batch, (number + 1) * config.batch)[index[0]]
            return np.stack([sequences[row] for row in rows])

        return jax.make_array_from_callback(shape, by_rows, share)

    folder = Path(config.folder)
    setting = {name: value for name, value in asdict(config).items() if name not in OF_THE_MACHINE}
    setting["text"] = hashlib.sha256(tokens.tobytes()).hexdigest()
    with Run(folder, setting, every_s=config.save_every) as run:
        state = jax.device_put(run.restore(state), states)
        begin = int(state.step)
        metrics = Metrics(folder, begin) if first else None
        bar = tqdm(total=config.steps, initial=begin, unit="step", disable=None if first else True)
        since = perf_counter(), begin
        for done in range(begin + 1, config.steps + 1):
            if config.profile and done == begin + 11:
                jax.profiler.start_trace(folder / "profile")
            state, values = compiled(state, batch(done - 1))
            if config.profile and begin + 11 <= done == min(begin + 20, config.steps):
                jax.block_until_ready(state)
                jax.profiler.stop_trace()
            bar.update()
            last = done == config.steps
            evaluated = last or done % config.evaluate_every == 0
            if evaluated or done % 10 == 0:
                row = {name: float(value) for name, value in values.items()}
                speed = (done - since[1]) * config.batch * config.context / (perf_counter() - since[0])
                if evaluated:
                    row["held_out_bits"] = evaluate(state.ema)
                    say(f"step {done}: loss {row['loss']:.3f}, held-out bits a character {row['held_out_bits']:.3f}")
                if metrics:
                    metrics.write(done, row | {"tokens_per_second": speed})
                bar.set_postfix(loss=f"{row['loss']:.3f}")
                since = perf_counter(), done
            if last:
                run.save(done, state)
            else:
                run.after(done, state)
        bar.close()
    bits, baseline = evaluate(state.ema), ngram_bits(learn, test)
    say(f"\n{sample(config, mesh, state.ema, pieces)}\n")
    say(f"held-out bits a character: {bits:.3f}; of a 5-gram (Kneser-Ney) on the same text: {baseline:.3f}")
    return bits


def main(options: list[str] | None = None) -> int:
    """The command line; 0, 1 where the folder's run is another, 2 for bad input, 130 where it was asked to stop."""
    try:
        config = Config.from_options(sys.argv[1:] if options is None else options)
        launch.join(timeout_s=60)
        train(config)
    except (OptionError, sharding.MeshError, FolderError, SettingError, StoppedError) as error:
        print(f"\n{error}", file=sys.stderr)
        return {OptionError: 2, sharding.MeshError: 2, StoppedError: 130}.get(type(error), 1)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
