"""How long 500 epochs of the Titanic loop take, rung by rung, and 256 or 64 models at once (`make bench`).

Batch 32, 837 rows, MLP 15-64-1, Adam, float32. Loops are measured over fewer epochs and scaled up; the compiled run is
measured whole. Lessons: 10_jit_speed, 11_ensembles.
"""

from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from flax import nnx
from flax.training.train_state import TrainState
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader

from benchmarks import harness
from benchmarks.harness import Contender, Ratio
from course import porting, torch_compile
from course.batching import numpy_collate
from course.data import Features, labels, load_titanic, split
from course.loaders import Passengers
from course.train import compiled, rungs, titanic_linen, titanic_nnx, titanic_torch

SEED, BATCH, RATE = 0, 32, 1e-3


@dataclass(frozen=True)
class Sizes:
    """How much is trained."""

    epochs: int = 500  # that the seconds are reported for
    slow_epochs: int = 1  # of an un-jitted loop; the rest is scaled
    loop_epochs: int = 50
    model_epochs: int = 25  # of many models
    models: tuple[int, int] = (256, 64)  # with their own shuffles, with shared batches
    rounds: int = 5
    backend: str | None = None  # of torch.compile; None: the best that this machine has


QUICK = Sizes(epochs=1, loop_epochs=1, model_epochs=1, models=(3, 2), rounds=1, backend="aot_eager")


class Start:
    """What all rungs begin with: the passengers, on both sides, and one model's weights."""

    def __init__(self, epochs: int):
        train, _, _ = split(load_titanic(), SEED)
        self.x, self.y = Features.fit(train)(train), labels(train)
        self.x_device, self.y_device = jnp.asarray(self.x), jnp.asarray(self.y)
        self.x_torch, self.y_torch = torch.from_numpy(self.x), torch.from_numpy(self.y)
        self.adam = optax.adam(RATE)
        torch.manual_seed(SEED)
        self.weights = titanic_torch.TitanicMLP()
        self.keys = jax.random.split(jax.random.key(SEED), epochs)
        self.loss_fn = rungs.split_loss(nnx.split(self.nnx_model()[0])[0])

    def orders(self, epochs: int) -> np.ndarray:
        """The batches of the first epochs, as every rung visits them: (steps, B)."""
        orders = jax.vmap(lambda key: compiled.batch_orders(key, len(self.x), BATCH))(self.keys[:epochs])
        return np.array(orders.reshape(-1, BATCH))

    def torch_model(self, **options):
        model = titanic_torch.TitanicMLP()
        model.load_state_dict(self.weights.state_dict())
        return model, torch.optim.Adam(model.parameters(), RATE, **options)

    def nnx_model(self):
        model = porting.torch_to_nnx(self.weights, titanic_nnx.TitanicMLP(rngs=nnx.Rngs(SEED)))
        return model, nnx.Optimizer(model, self.adam, wrt=nnx.Param)

    def params(self):
        return (nnx.split(self.nnx_model()[0])[1],)

    def loader(self, rows: np.ndarray, collate_fn=None):
        return DataLoader(Passengers(self.x, self.y), batch_sampler=rows.tolist(), collate_fn=collate_fn)

    def train(self, params, keys):
        """One compiled run: the parameters after it, and its losses."""
        return compiled.train_run(self.loss_fn, self.adam, params, self.x_device, self.y_device, keys, BATCH)


def one_model(start: Start, sizes: Sizes) -> tuple[list[Contender], Contender]:
    """The rungs, and the compiled run's first call."""
    slow, loop = start.orders(sizes.slow_epochs), start.orders(sizes.loop_epochs)
    torch_rows = torch.from_numpy(loop).long()
    jax_rows = [(start.x_device, start.y_device, rows) for rows in loop]
    fused = partial(start.torch_model, fused=True)
    torch_step, nnx_step = titanic_torch.train_step, nnx.jit(titanic_nnx.train_step)
    nnx_rows_step, linen_step = nnx.jit(rungs.rows_step), jax.jit(titanic_linen.train_step)
    compiled_loss = torch.compile(titanic_torch.loss_fn, backend=sizes.backend or torch_compile.backend())
    pair_def, _ = nnx.split(start.nnx_model())
    split_step = jax.jit(partial(rungs.split_step, pair_def))
    linen = titanic_linen.TitanicMLP()
    template = linen.init(jax.random.key(SEED), start.x[:1])["params"]

    def preloaded():
        return ((start.x_torch[rows], start.y_torch[rows]) for rows in torch_rows)

    def compiled_torch_step(model, optimizer, x, y):
        optimizer.zero_grad()
        loss = compiled_loss(model, x, y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    def fresh_linen():
        params = porting.torch_to_linen(start.weights, template)
        return (TrainState.create(apply_fn=linen.apply, params=params, tx=start.adam),)

    def cached(model, optimizer):
        step = nnx.cached_partial(nnx_rows_step, model, optimizer)
        return [step(*batch) for batch in jax_rows]

    @jax.jit
    def whole_run(params, keys):
        return start.train(params, keys)[1]

    def whole(params):
        return whole_run(params, start.keys)

    objects, state = rungs.run_objects, rungs.run_state
    make = partial(Contender, rounds=sizes.rounds, scale=sizes.epochs / sizes.loop_epochs)
    contenders = [
        make("torch eager + DataLoader", start.torch_model, lambda m, o: objects(torch_step, m, o, start.loader(loop))),
        make("torch preloaded, fused Adam", fused, lambda m, o: objects(torch_step, m, o, preloaded())),
        make("torch.compile, fused Adam", fused, lambda m, o: objects(compiled_torch_step, m, o, preloaded())),
        make(
            "nnx un-jitted + loader",
            start.nnx_model,
            lambda m, o: objects(titanic_nnx.train_step, m, o, start.loader(slow, numpy_collate)),
            scale=sizes.epochs / sizes.slow_epochs,
        ),
        make(
            "@nnx.jit + loader",
            start.nnx_model,
            lambda m, o: objects(nnx_step, m, o, start.loader(loop, numpy_collate)),
        ),
        make("@nnx.jit, preloaded", start.nnx_model, lambda m, o: objects(nnx_rows_step, m, o, jax_rows)),
        make("nnx.cached_partial, preloaded", start.nnx_model, cached),
        make(
            "nnx split, jax.jit, preloaded",
            lambda: (nnx.split(start.nnx_model())[1],),
            lambda s: state(split_step, s, jax_rows),
        ),
        make("Linen, jax.jit + loader", fresh_linen, lambda s: state(linen_step, s, start.loader(loop, numpy_collate))),
        make("one compiled run", start.params, whole, scale=1.0),
    ]
    first = make("one compiled run, first call", start.params, whole, scale=1.0, cold=True)
    return contenders, first


def compiled_memory(start: Start) -> dict:
    """What the compiled run needs beside its arguments and results."""
    losses = jax.jit(lambda params, keys: start.train(params, keys)[1])
    memory = losses.lower(*start.params(), start.keys).compile().memory_analysis()
    return {"name": "one compiled run", "temporary_KiB": memory.temp_size_in_bytes / 1024}


def check_equal_losses(contenders: list[Contender], start: Start, sizes: Sizes) -> None:
    """Every rung computes the same: its last loss agrees with the compiled run's loss of that step."""
    *loops, whole = contenders
    expected = np.asarray(whole.run(*whole.setup())).ravel()
    for contender in loops:
        epochs = sizes.slow_epochs if contender.name == "nnx un-jitted + loader" else sizes.loop_epochs
        losses = contender.run(*contender.setup())
        gap = max(abs(float(loss) - float(of_run)) for loss, of_run in zip(losses[:500], expected, strict=False))
        if len(losses) != len(start.orders(epochs)) or not gap < 5e-6:  # float32 Adam, 500 steps: see tests/parity
            raise SystemExit(
                f"{contender.name}: expected the compiled run's losses within 5e-6, got a gap of {gap:.1e}"
            )
    print(f"all {len(contenders)} rungs give the same losses within 5e-6 (first 500 steps)")


def many_models(start: Start, sizes: Sizes, models: int, shared: bool) -> list[Contender]:
    """Many models at once: `vmap` of the compiled run, and torch with a batch axis written by hand."""
    epochs = sizes.model_epochs

    def init(key):
        return nnx.split(titanic_nnx.TitanicMLP(rngs=nnx.Rngs(params=key)))[1]

    @jax.jit
    def train_all(key):
        params = jax.vmap(init)(jax.random.split(key, models))
        if shared:
            return jax.vmap(start.train, in_axes=(0, None))(params, jax.random.split(key, epochs))
        return jax.vmap(start.train)(params, jax.random.split(key, (models, epochs)))

    def torch_all():
        bound = 15**-0.5
        w1, b1 = torch.empty(models, 15, 64).uniform_(-bound, bound), torch.zeros(models, 1, 64)
        w2, b2 = torch.empty(models, 64, 1).uniform_(-1 / 8, 1 / 8), torch.zeros(models, 1, 1)
        parameters = [w.requires_grad_() for w in (w1, b1, w2, b2)]
        optimizer = torch.optim.Adam(parameters, RATE, fused=True)
        steps = len(start.x) // BATCH
        for _ in range(epochs):
            draws = torch.rand(1 if shared else models, len(start.x))
            epoch = draws.argsort(dim=1)[:, : steps * BATCH].reshape(-1, steps, BATCH)  # (M or 1, steps, B)
            for step in range(steps):
                rows = epoch[0, step] if shared else epoch[:, step]
                xb, yb = start.x_torch[rows], start.y_torch[rows].expand(models, BATCH)
                hidden = torch.relu(torch.matmul(xb, w1) + b1) if shared else torch.relu(torch.baddbmm(b1, xb, w1))
                logits = torch.baddbmm(b2, hidden, w2).squeeze(-1)  # (M, B)
                optimizer.zero_grad()
                binary_cross_entropy_with_logits(logits, yb, reduction="none").mean(dim=1).sum().backward()
                optimizer.step()
        return parameters

    kind = "shared batches" if shared else "own shuffles"
    make = partial(Contender, scale=sizes.epochs / epochs, rounds=sizes.rounds)
    return [
        make(f"{models} models, {kind}: vmap", lambda: (jax.random.key(SEED),), train_all),
        make(f"{models} models, {kind}: torch bmm", lambda: (), torch_all),
    ]


def bench(quick: bool) -> tuple[dict[str, list[dict]], list[Ratio]]:
    sizes = QUICK if quick else Sizes()
    start = Start(sizes.epochs)
    contenders, cold = one_model(start, sizes)
    single = harness.interleave(contenders, "one model")
    check_equal_losses(contenders, start, sizes)
    # apart, because dropping compiled programs would make every other JAX rung compile again
    eager_again = replace(contenders[0], name="torch eager + DataLoader, beside it", seconds=[])
    single |= harness.interleave([eager_again, cold], "first call")
    apart, together = sizes.models
    many = harness.interleave(
        [*many_models(start, sizes, apart, shared=False), *many_models(start, sizes, together, shared=True)],
        "many models",
    )
    seconds = {name: contender.median for name, contender in (single | many).items()}
    eager, unjitted = seconds["torch eager + DataLoader"], seconds["nnx un-jitted + loader"]
    run, first = seconds["one compiled run"], seconds["one compiled run, first call"]
    ratios = [
        Ratio("@nnx.jit step vs un-jitted NNX", unjitted / seconds["@nnx.jit + loader"], 20),
        Ratio("one compiled run vs un-jitted NNX", unjitted / run, 1000),
        Ratio("one compiled run vs torch eager + DataLoader", eager / run, 30),
        Ratio("the same with its compilation, vs torch eager", eager_again.median / first, 2.5),
        Ratio("the same with its compilation, vs un-jitted NNX", unjitted / first, 100),
    ]
    for models, kind, at_least in ((apart, "own shuffles", 1.7), (together, "shared batches", 3.0)):
        name = f"{models} models, {kind}"
        ratios.append(
            Ratio(f"{name}: vmap vs torch bmm", seconds[f"{name}: torch bmm"] / seconds[f"{name}: vmap"], at_least)
        )
    tables = {
        "compiled run, memory": [compiled_memory(start)],
        f"one model, seconds per {sizes.epochs} epochs": [c.row() for c in single.values()],
        f"many models, seconds per {sizes.epochs} epochs": [c.row() for c in many.values()],
    }
    return tables, ratios


def main() -> None:
    harness.command("titanic_speed", bench)


if __name__ == "__main__":
    main()
