"""How long 500 epochs of the Titanic loop take, rung by rung, and 256 or 64 models at once (`make bench`).

Batch 32, 837 rows, MLP 15-64-1, Adam, float32. Loops are measured over fewer epochs and scaled up; the compiled run is
measured whole, its first call also in fresh processes (`titanic_first`), and beside the same loop in C
(`titanic_floor`). What makes many models faster is measured one by one (`titanic_many`). Lessons: 10_jit_speed,
11_ensembles.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from flax import nnx
from flax.training.train_state import TrainState
from jax.typing import ArrayLike
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader

from benchmarks import harness, titanic_first, titanic_floor, titanic_many
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
    group: int = 32  # of the models that train together: their arrays fit the processor's nearer caches
    extras: bool = True  # forms of a first call, and ways to many models, beyond those that the ratios need
    rounds: int = 5
    backend: str | None = None  # of torch.compile; None: the best that this machine has


QUICK = Sizes(
    epochs=1, loop_epochs=1, model_epochs=1, models=(2, 2), group=2, extras=False, rounds=1, backend="aot_eager"
)


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


def check_equal_losses(contenders: list[Contender], start: Start, sizes: Sizes) -> np.ndarray:
    """Every rung computes the same: its losses agree with the compiled run's, which are returned."""
    *loops, whole = contenders
    expected = np.asarray(whole.run(*whole.setup())).ravel()
    for contender in loops:
        epochs = sizes.slow_epochs if contender.name == "nnx un-jitted + loader" else sizes.loop_epochs
        losses = contender.run(*contender.setup())
        if len(losses) != len(start.orders(epochs)):
            raise SystemExit(f"{contender.name}: expected a loss a step, got {len(losses)}")
        check_close(contender.name, [float(loss) for loss in losses], expected[: len(losses)])
    print(f"all {len(contenders)} rungs give the same losses within 5e-6 (first 500 steps)")
    return expected


def first_calls(start: Start, sizes: Sizes, eager: Contender, expected: np.ndarray) -> list[dict]:
    """The compiled run's first call in fresh processes, and a turn of PyTorch's loop before each round of them."""
    forms = titanic_first.FORMS if sizes.extras else titanic_first.FORMS[-1:]
    seen: dict[str, list[dict]] = {}
    with TemporaryDirectory() as folder:
        titanic_first.prepare(Path(folder), start.params(), start.x, start.y, start.keys, RATE, BATCH)
        for _ in range(sizes.rounds):
            eager.seconds.append(eager.turn())
            for name, call in titanic_first.one_round(Path(folder), forms).items():
                check_close(name, np.array(call.pop("losses")), expected)
                seen.setdefault(name, []).append(call)
    rows = [{"name": eager.name, "median_s": eager.median} | dict.fromkeys(titanic_first.STAGES)]
    for name, calls in seen.items():
        stages = {stage: float(np.median([call[stage] for call in calls])) for stage in titanic_first.STAGES}
        rows.append({"name": name, "median_s": float(np.median([sum(call.values()) for call in calls]))} | stages)
    return rows


def floor(start: Start, sizes: Sizes) -> list[dict]:
    """The compiled run beside the same loop in C, and beside the arithmetic and the traffic that a run must spend."""
    rows, train = start.orders(sizes.epochs), titanic_floor.compiled()
    way = titanic_many.Way(1, start.loss_fn, start.adam)
    given = jax.jit(titanic_many.run_of(way, start.x_device, start.y_device, BATCH))
    weights = [parameter.detach().numpy().T.ravel() for parameter in start.weights.parameters()]
    matrix, source = jnp.full((1024, 1024), 0.5), np.zeros(2**18, np.float32)
    product, target = jax.jit(jnp.matmul), np.empty_like(source)
    make = partial(Contender, rounds=sizes.rounds)
    contenders = [
        make("one compiled run, batches given", start.params, lambda params: given(params, rows)[1]),
        make("a product of 1024 x 1024 matrices", lambda: (matrix, matrix), product, calls=3),
        make("a copy of 1 MiB", lambda: (target, source), np.copyto, calls=100),
    ]
    if train is None:
        print("no C compiler: the floor is left out")
    else:
        flat = (lambda: (np.concatenate(weights),), lambda params: train(params, start.x, start.y, rows, RATE))
        contenders.insert(0, make("the same in C, batches given", *flat))
        check_close("the loop in C", train(*flat[0](), start.x, start.y, rows, RATE), given(*start.params(), rows)[1])
    seconds = {name: contender.median for name, contender in harness.interleave(contenders, "the floor").items()}
    flops, traffic = len(rows) * titanic_floor.FLOPS, len(rows) * titanic_floor.BYTES
    spent = {name: (flops, traffic) for name in seconds if "batches given" in name}
    spent |= {contenders[-2].name: (2 * 1024**3, None), contenders[-1].name: (None, 2 * source.nbytes)}
    work = {"arithmetic at the product's rate": flops * seconds[contenders[-2].name] / (2 * 1024**3),
            "traffic at the copy's rate": traffic * seconds[contenders[-1].name] / (2 * source.nbytes)}  # fmt: skip
    spent |= dict(zip(work, [(flops, None), (None, traffic)], strict=True))
    return [
        {
            "name": name, "median_s": taken,
            "Gflop": flop and flop / 1e9, "Gflop_per_s": flop and flop / taken / 1e9,
            "GB": byte and byte / 1e9, "GB_per_s": byte and byte / taken / 1e9,
        }
        for name, taken in (seconds | work).items()
        for flop, byte in [spent[name]]
    ]  # fmt: skip


def check_close(name: str, losses: ArrayLike, expected: ArrayLike) -> None:
    """The first 500 losses agree, as far as float32 and Adam let them: see tests/parity."""
    gap = float(np.abs(np.ravel(losses)[:500] - np.ravel(expected)[:500]).max())
    if not gap < 5e-6:
        raise SystemExit(f"{name}: expected the compiled run's losses within 5e-6, got a gap of {gap:.1e}")


def many_models(start: Start, sizes: Sizes, models: int, shared: bool) -> list[Contender]:
    """Many models at once: `vmap` of the compiled run, and torch with a batch axis written by hand."""
    epochs = sizes.model_epochs

    @jax.jit
    def train_all(key):
        params = jax.vmap(init_model)(jax.random.split(key, models))
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


BEST = "that, with one division in Adam"


def ways(start: Start, sizes: Sizes) -> dict[str, titanic_many.Way]:
    """What may make many models faster: each of the first on top of the last, then one thing more at a time."""
    product = partial(titanic_many.loss_fn, nnx.split(start.nnx_model()[0])[0])
    outside = titanic_many.Way(sizes.group, start.loss_fn, start.adam)
    best = replace(outside, loss_fn=product, optimizer=titanic_many.adam(RATE))
    ladder = {
        f"vmap in groups of {sizes.group}": replace(outside, outside=False),
        "that, batches sorted by NumPy": outside,
        "that, with a product that XLA is fast at": replace(outside, loss_fn=product),
        BEST: best,
    }
    extras = {
        "the last, unrolled by 2": replace(best, unroll=2),
        "the last, with donated parameters": replace(best, donate=True),
        "the last, with one flat vector in Adam": replace(best, optimizer=optax.flatten(best.optimizer)),
        "the last, all models in one group": replace(best, group=sizes.models[0]),
    }
    return ladder | extras if sizes.extras else {BEST: best}


def faster_models(start: Start, sizes: Sizes) -> list[Contender]:
    """`many_models` with their own shuffles, in `ways`; the first one's losses are those of a single run."""
    models, key = sizes.models[0], jax.random.key(SEED)
    keys = jax.random.split(key, (models, sizes.model_epochs))
    init = jax.jit(lambda key: jax.vmap(init_model)(jax.random.split(key, models)))
    single, first = jax.jit(start.train), jax.tree.map(lambda leaf: leaf[0], init(key))
    expected = single(first, keys[0])[1]
    contenders = []
    for name, way in ways(start, sizes).items():
        train = titanic_many.trainer(way, start.x_device, start.y_device, BATCH)
        check_close(name, train(init(key), keys)[1][0], expected)
        run = partial(lambda train, key: train(init(key), jax.random.split(key, keys.shape)), train)
        scale = sizes.epochs / sizes.model_epochs
        contenders.append(Contender(f"{models} models, {name}", lambda: (key,), run, scale, sizes.rounds))
    return contenders


def init_model(key: jax.Array) -> nnx.State:
    return nnx.split(titanic_nnx.TitanicMLP(rngs=nnx.Rngs(params=key)))[1]


def bench(quick: bool) -> tuple[dict[str, list[dict]], list[Ratio]]:
    sizes = QUICK if quick else Sizes()
    start = Start(sizes.epochs)
    contenders, cold = one_model(start, sizes)
    single = harness.interleave(contenders, "one model")
    losses = check_equal_losses(contenders, start, sizes)
    # apart, because dropping compiled programs would make every other JAX rung compile again
    eager_again = replace(contenders[0], name="torch eager + DataLoader, beside it", seconds=[])
    single |= harness.interleave([eager_again, cold], "first call")
    fresh = replace(eager_again, name="torch eager + DataLoader", seconds=[])
    processes = first_calls(start, sizes, fresh, losses)
    apart, together = sizes.models
    many = harness.interleave(
        [
            *many_models(start, sizes, apart, shared=False),
            *faster_models(start, sizes),
            *many_models(start, sizes, together, shared=True),
        ],
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
    for row in processes[1:]:
        at_least = 15 if "warm" in row["name"] else 2.5
        what = f"first call in a fresh process, {row['name']}, vs torch eager"
        ratios.append(Ratio(what, fresh.median / row["median_s"], at_least))
    for models, kind, at_least in ((apart, "own shuffles", 1.7), (together, "shared batches", 3.0)):
        name = f"{models} models, {kind}"
        ratios.append(
            Ratio(f"{name}: vmap vs torch bmm", seconds[f"{name}: torch bmm"] / seconds[f"{name}: vmap"], at_least)
        )
    torch_bmm, best = seconds[f"{apart} models, own shuffles: torch bmm"], seconds[f"{apart} models, {BEST}"]
    ratios.append(Ratio(f"{apart} models, own shuffles: the fastest way vs torch bmm", torch_bmm / best, 5))
    bounds = floor(start, sizes)
    if "in C" in bounds[0]["name"]:
        ratios.append(Ratio("the loop in C vs one compiled run", run / bounds[0]["median_s"]))
    tables = {
        "compiled run, memory": [compiled_memory(start)],
        f"one model, seconds per {sizes.epochs} epochs": [c.row() for c in single.values()],
        f"first call in a fresh process, seconds per {sizes.epochs} epochs": processes,
        f"the floor of one compiled run, seconds per {sizes.epochs} epochs": bounds,
        f"many models, seconds per {sizes.epochs} epochs": [c.row() for c in many.values()],
    }
    return tables, ratios


def main() -> None:
    harness.command("titanic_speed", bench)


if __name__ == "__main__":
    main()
