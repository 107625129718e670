"""How long 500 epochs of the Titanic loop take, rung by rung, and 256 or 64 models at once (`make bench`).

Batch 32, 837 rows, MLP 15-64-1, Adam, float32. Loops are measured over fewer epochs and scaled up; the compiled run is
measured whole. Lessons: 10_jit_speed, 11_ensembles.
"""

from benchmarks import harness  # isort: skip  (asks for one core before JAX starts)

from dataclasses import replace
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

from benchmarks.harness import Contender, Ratio
from course import porting, torch_compile
from course.batching import numpy_collate
from course.data import Features, labels, load_titanic, split
from course.loaders import Passengers
from course.train import compiled, rungs, titanic_linen, titanic_nnx, titanic_torch

QUICK = harness.quick()
SEED, BATCH, RATE, EPOCHS = 0, 32, 1e-3, 500
ROUNDS = 1 if QUICK else 5
LOOP_EPOCHS = {"slow": 1, "loop": 2 if QUICK else 50}  # of 500; the rest is scaled
MODEL_EPOCHS = 1 if QUICK else 25

torch.set_num_threads(harness.CORES)
train, _, _ = split(load_titanic(), SEED)
x, y = Features.fit(train)(train), labels(train)
x_device, y_device, x_torch, y_torch = jnp.asarray(x), jnp.asarray(y), torch.from_numpy(x), torch.from_numpy(y)
adam = optax.adam(RATE)
torch.manual_seed(SEED)
weights = titanic_torch.TitanicMLP()
keys = jax.random.split(jax.random.key(SEED), EPOCHS)


def orders(epochs: int) -> np.ndarray:
    """The batches of the first epochs, as every rung visits them: (steps, B)."""
    return np.array(jax.vmap(lambda key: compiled.batch_orders(key, len(x), BATCH))(keys[:epochs]).reshape(-1, BATCH))


def fresh_torch(**options):
    model = titanic_torch.TitanicMLP()
    model.load_state_dict(weights.state_dict())
    return model, torch.optim.Adam(model.parameters(), RATE, **options)


def fresh_nnx():
    model = porting.torch_to_nnx(weights, titanic_nnx.TitanicMLP(rngs=nnx.Rngs(SEED)))
    return model, nnx.Optimizer(model, adam, wrt=nnx.Param)


def fresh_params():
    return (nnx.split(fresh_nnx()[0])[1],)


def loader(rows: np.ndarray, collate_fn=None):
    return DataLoader(Passengers(x, y), batch_sampler=rows.tolist(), collate_fn=collate_fn)


def one_model() -> tuple[list[Contender], Contender]:
    """The rungs, and the compiled run's first call."""
    slow, loop = orders(LOOP_EPOCHS["slow"]), orders(LOOP_EPOCHS["loop"])
    torch_rows, jax_rows = torch.from_numpy(loop).long(), [(x_device, y_device, rows) for rows in loop]
    scale = {"slow": EPOCHS / LOOP_EPOCHS["slow"], "loop": EPOCHS / LOOP_EPOCHS["loop"]}
    fused = partial(fresh_torch, fused=True)
    torch_step, nnx_step = titanic_torch.train_step, nnx.jit(titanic_nnx.train_step)
    nnx_rows_step, linen_step = nnx.jit(rungs.rows_step), jax.jit(titanic_linen.train_step)
    compiled_loss = torch.compile(titanic_torch.loss_fn, backend=torch_compile.backend())
    pair_def, _ = nnx.split(fresh_nnx())
    split_step = jax.jit(partial(rungs.split_step, pair_def))
    linen = titanic_linen.TitanicMLP()
    template = linen.init(jax.random.key(SEED), x[:1])["params"]
    loss_fn = rungs.split_loss(nnx.split(fresh_nnx()[0])[0])

    def preloaded():
        return ((x_torch[rows], y_torch[rows]) for rows in torch_rows)

    def compiled_torch_step(model, optimizer, x, y):
        optimizer.zero_grad()
        loss = compiled_loss(model, x, y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    def fresh_linen():
        params = porting.torch_to_linen(weights, template)
        return (TrainState.create(apply_fn=linen.apply, params=params, tx=adam),)

    def cached(model, optimizer):
        step = nnx.cached_partial(nnx_rows_step, model, optimizer)
        return [step(*batch) for batch in jax_rows]

    @jax.jit
    def whole_run(params, keys):
        return compiled.train_run(loss_fn, adam, params, x_device, y_device, keys, BATCH)[1]

    def whole(params):
        return whole_run(params, keys)

    objects, state, make = rungs.run_objects, rungs.run_state, partial(Contender, rounds=ROUNDS, scale=scale["loop"])
    contenders = [
        make("torch eager + DataLoader", fresh_torch, lambda m, o: objects(torch_step, m, o, loader(loop))),
        make("torch preloaded, fused Adam", fused, lambda m, o: objects(torch_step, m, o, preloaded())),
        make("torch.compile, fused Adam", fused, lambda m, o: objects(compiled_torch_step, m, o, preloaded())),
        make(
            "nnx un-jitted + loader",
            fresh_nnx,
            lambda m, o: objects(titanic_nnx.train_step, m, o, loader(slow, numpy_collate)),
            scale=scale["slow"],
        ),
        make("@nnx.jit + loader", fresh_nnx, lambda m, o: objects(nnx_step, m, o, loader(loop, numpy_collate))),
        make("@nnx.jit, preloaded", fresh_nnx, lambda m, o: objects(nnx_rows_step, m, o, jax_rows)),
        make("nnx.cached_partial, preloaded", fresh_nnx, cached),
        make(
            "nnx split, jax.jit, preloaded",
            lambda: (nnx.split(fresh_nnx())[1],),
            lambda s: state(split_step, s, jax_rows),
        ),
        make("Linen, jax.jit + loader", fresh_linen, lambda s: state(linen_step, s, loader(loop, numpy_collate))),
        make("one compiled run", fresh_params, whole, scale=1.0),
    ]
    first = make("one compiled run, first call", fresh_params, whole, scale=1.0, cold=True)
    return contenders, first


def compiled_memory() -> dict:
    """What the compiled run needs beside its arguments and results."""
    loss_fn = rungs.split_loss(nnx.split(fresh_nnx()[0])[0])

    def whole(params, keys):
        return compiled.train_run(loss_fn, adam, params, x_device, y_device, keys, BATCH)[1]

    memory = jax.jit(whole).lower(*fresh_params(), keys).compile().memory_analysis()
    return {"name": "one compiled run", "temporary_KiB": memory.temp_size_in_bytes / 1024}


def check_equal_losses(contenders: list[Contender]) -> None:
    """Every rung computes the same: its last loss agrees with the compiled run's loss of that step."""
    whole = np.asarray(contenders[-1].run(*contenders[-1].setup())).ravel()
    steps = {"nnx un-jitted + loader": len(orders(LOOP_EPOCHS["slow"]))}
    for contender in contenders:
        count = steps.get(contender.name, len(orders(LOOP_EPOCHS["loop"])))
        losses = contender.run(*contender.setup())
        if contender is contenders[-1]:
            continue
        gap = max(abs(float(loss) - float(expected)) for loss, expected in zip(losses[:500], whole, strict=False))
        if len(losses) != count or not gap < 5e-6:  # float32 Adam over at most 500 steps, see tests/parity
            raise SystemExit(
                f"{contender.name}: expected the compiled run's losses within 5e-6, got a gap of {gap:.1e}"
            )
    print(f"all {len(contenders)} rungs give the same losses within 5e-6 (first 500 steps)")


def many_models(models: int, shared: bool) -> list[Contender]:
    """Many models at once: `vmap` of the compiled run, and torch with a batch axis written by hand."""
    loss_fn = rungs.split_loss(nnx.split(fresh_nnx()[0])[0])

    def init(key):
        return nnx.split(titanic_nnx.TitanicMLP(rngs=nnx.Rngs(params=key)))[1]

    def run(params, keys):
        return compiled.train_run(loss_fn, adam, params, x_device, y_device, keys, BATCH)

    @jax.jit
    def train_all(key):
        params = jax.vmap(init)(jax.random.split(key, models))
        if shared:
            return jax.vmap(run, in_axes=(0, None))(params, jax.random.split(key, MODEL_EPOCHS))
        return jax.vmap(run)(params, jax.random.split(key, (models, MODEL_EPOCHS)))

    def torch_all():
        bound = 15**-0.5
        w1, b1 = torch.empty(models, 15, 64).uniform_(-bound, bound), torch.zeros(models, 1, 64)
        w2, b2 = torch.empty(models, 64, 1).uniform_(-1 / 8, 1 / 8), torch.zeros(models, 1, 1)
        parameters = [w.requires_grad_() for w in (w1, b1, w2, b2)]
        optimizer = torch.optim.Adam(parameters, RATE, fused=True)
        steps = len(x) // BATCH
        for _ in range(MODEL_EPOCHS):
            draws = torch.rand(1 if shared else models, len(x))
            epoch = draws.argsort(dim=1)[:, : steps * BATCH].reshape(-1, steps, BATCH)  # (M or 1, steps, B)
            for step in range(steps):
                rows = epoch[0, step] if shared else epoch[:, step]
                xb, yb = x_torch[rows], y_torch[rows].expand(models, BATCH)
                hidden = torch.relu(torch.matmul(xb, w1) + b1) if shared else torch.relu(torch.baddbmm(b1, xb, w1))
                logits = torch.baddbmm(b2, hidden, w2).squeeze(-1)  # (M, B)
                optimizer.zero_grad()
                binary_cross_entropy_with_logits(logits, yb, reduction="none").mean(dim=1).sum().backward()
                optimizer.step()
        return parameters

    kind, make = "shared batches" if shared else "own shuffles", partial(Contender, scale=EPOCHS / MODEL_EPOCHS)
    return [
        make(f"{models} models, {kind}: vmap", lambda: (jax.random.key(SEED),), train_all, rounds=ROUNDS),
        make(f"{models} models, {kind}: torch bmm", lambda: (), torch_all, rounds=ROUNDS),
    ]


def main() -> None:
    contenders, cold = one_model()
    single = harness.interleave(contenders, "one model")
    check_equal_losses(contenders)
    # apart, because dropping compiled programs would make every other JAX rung compile again
    eager_again = replace(contenders[0], name="torch eager + DataLoader, beside it", seconds=[])
    single |= harness.interleave([eager_again, cold], "first call")
    many = harness.interleave([*many_models(256, shared=False), *many_models(64, shared=True)], "many models")
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
    for models, kind, at_least in ((256, "own shuffles", 1.7), (64, "shared batches", 3.0)):
        name = f"{models} models, {kind}"
        ratios.append(
            Ratio(f"{name}: vmap vs torch bmm", seconds[f"{name}: torch bmm"] / seconds[f"{name}: vmap"], at_least)
        )
    tables = {
        "compiled run, memory": [compiled_memory()],
        "one model, seconds per 500 epochs": [c.row() for c in single.values()],
        "many models, seconds per 500 epochs": [c.row() for c in many.values()],
    }
    harness.report("titanic_speed", tables, ratios)


if __name__ == "__main__":
    main()
