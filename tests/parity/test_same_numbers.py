"""PyTorch = NNX = Linen: the same weights and the same batches give the same losses and weights.

Bounds on the loss, and where they come from (measured on jax 0.10.2, torch 2.13.0: the largest gap of any step, over
twenty seeds and 500 steps where no more is said). For any seed:
  float64: 1e-12; measured 2e-16 (SGD, Adam) and 2e-15 (AdamW), also in one run of 500 epochs.
  float32, a tanh network: 1e-6 for SGD (measured 1.2e-7), 5e-6 for Adam and AdamW (measured 1.4e-6). torch takes Adam's
  divisor 1 - 0.999^t in double precision, Optax in JAX's float32, where it is off by 1e-5 of itself, and so every step
  by half of that.
  float32, a ReLU network: the same bounds, until a unit meets its kink. There one rounding switches it on in one
  framework and not in the other, and its gradients differ by a passenger's share. From then on there is no bound, in
  torch against itself neither. Weights that are farther apart meet a kink sooner: of twenty seeds nine leave Adam's
  bound, of a hundred two leave SGD's, by a factor of ten at most. Adam, seed 3: up to step 41 the losses are 9.5e-7
  apart and the weights 3.9e-7; at step 42 unit 20 sees passenger 2 at 1.9e-7 in torch and -7.7e-7 in JAX, that step
  takes the weights 1.0e-4 apart, and the losses end at 4.8e-4.
  NNX and Linen run the same operations on the same arrays: no difference at all.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import linen as nn
from flax import nnx
from flax.training.train_state import TrainState

from course import batching, porting
from course.data import Features, labels, load_titanic, split
from course.train import titanic_linen, titanic_nnx, titanic_torch

RATE, BATCH, SEED = 1e-3, 32, 0
RULES = {
    "sgd": (lambda p: torch.optim.SGD(p, 0.1), optax.sgd(0.1)),
    "adam": (lambda p: torch.optim.Adam(p, RATE), optax.adam(RATE)),
    "adamw": (lambda p: torch.optim.AdamW(p, RATE), optax.adamw(RATE, weight_decay=0.01)),
}
nnx_step, linen_step = nnx.jit(titanic_nnx.train_step), jax.jit(titanic_linen.train_step)


@pytest.fixture(scope="module")
def rows():
    train, _, _ = split(load_titanic(), SEED)
    return Features.fit(train)(train), labels(train)


def run_all(rows, dtype, rule, epochs, jax_epochs):
    """Losses of every step, (steps,) each, and the hidden layer's last kernel, (15, 64) each.

    `jax_epochs` runs the two JAX sides: step by step, or in one scan.
    """
    make_torch, tx = RULES[rule]
    torch.manual_seed(SEED)
    model = titanic_torch.TitanicMLP().to(torch.float64 if dtype == np.float64 else torch.float32)
    module = porting.torch_to_nnx(model, titanic_nnx.TitanicMLP(rngs=nnx.Rngs(SEED)))
    linen = titanic_linen.TitanicMLP()
    template = linen.init(jax.random.key(SEED), jnp.zeros((1, 15)))["params"]
    state = TrainState.create(apply_fn=linen.apply, params=porting.torch_to_linen(model, template), tx=tx)
    optimizer = make_torch(model.parameters())
    arrays = [array.astype(dtype) for array in rows]
    orders = batching.epoch_permutations(len(arrays[0]), epochs, SEED)
    batches = [batch for order in orders for batch in batching.batches(arrays, order, BATCH)]
    losses, kernels = jax_epochs(module, nnx.Optimizer(module, tx, wrt=nnx.Param), state, batches)
    losses["torch"] = [
        titanic_torch.train_step(model, optimizer, torch.from_numpy(x), torch.from_numpy(y)) for x, y in batches
    ]
    kernels["torch"] = model.hidden.weight.detach().numpy().T
    return {k: np.array(v) for k, v in losses.items()}, {k: np.asarray(v) for k, v in kernels.items()}


def step_by_step(module, optimizer, state, batches):
    """As 01b and 01c train: one call of the jitted step per batch."""
    by_nnx, by_linen = [], []
    for x, y in batches:
        by_nnx.append(nnx_step(module, optimizer, x, y))
        state, loss = linen_step(state, x, y)
        by_linen.append(loss)
    kernels = {"nnx": module.hidden.kernel[...], "linen": state.params["hidden"]["kernel"]}
    return {"nnx": by_nnx, "linen": by_linen}, kernels


def in_one_scan(module, optimizer, state, batches):
    """As 07 trains: the same steps in one compiled loop."""
    x, y = (jnp.asarray(np.stack(column)) for column in zip(*batches, strict=True))
    graphdef, nnx_state = nnx.split((module, optimizer))

    def nnx_turn(nnx_state, batch):
        module, optimizer = nnx.merge(graphdef, nnx_state)
        loss = titanic_nnx.train_step(module, optimizer, *batch)
        return nnx.state((module, optimizer)), loss

    nnx_state, by_nnx = jax.jit(lambda s: jax.lax.scan(nnx_turn, s, (x, y)))(nnx_state)
    state, by_linen = jax.jit(lambda s: jax.lax.scan(lambda s, b: titanic_linen.train_step(s, *b), s, (x, y)))(state)
    trained, _ = nnx.merge(graphdef, nnx_state)
    kernels = {"nnx": trained.hidden.kernel[...], "linen": state.params["hidden"]["kernel"]}
    return {"nnx": by_nnx, "linen": by_linen}, kernels


def gap(a, b):
    return np.abs(a - b).max()


def test_one_step_gives_the_same_gradients(rows, x64):
    model = titanic_torch.TitanicMLP().double()
    module = porting.torch_to_nnx(model, titanic_nnx.TitanicMLP(rngs=nnx.Rngs(SEED)))
    x, y = (array[:BATCH].astype(np.float64) for array in rows)
    titanic_torch.loss_fn(model, torch.from_numpy(x), torch.from_numpy(y)).backward()
    grads = nnx.grad(titanic_nnx.loss_fn)(module, x, y)
    for layer in ("hidden", "out"):
        theirs = getattr(model, layer)
        assert gap(theirs.weight.grad.numpy().T, np.asarray(grads[layer]["kernel"][...])) < 1e-14
        assert gap(theirs.bias.grad.numpy(), np.asarray(grads[layer]["bias"][...])) < 1e-14


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["sgd", "adam", "adamw"])
def test_float64_over_a_whole_run(rows, x64, rule):
    epochs = 500 if rule == "adam" else 100  # the lesson's whole run once; the others take the same path
    losses, kernels = run_all(rows, np.float64, rule, epochs, in_one_scan)
    assert len(losses["torch"]) == epochs * 26
    assert losses["nnx"].dtype == np.float64
    assert gap(losses["torch"], losses["nnx"]) < 1e-12
    assert gap(kernels["torch"], kernels["nnx"]) < 1e-11  # weights add up what losses average out
    np.testing.assert_array_equal(losses["nnx"], losses["linen"])
    np.testing.assert_array_equal(kernels["nnx"], kernels["linen"])


# this seed meets no kink; under Adam, seed 3 leaves the bound at step 47
@pytest.mark.slow
@pytest.mark.parametrize(("rule", "bound"), [("sgd", 1e-6), ("adam", 5e-6)])
def test_float32_for_500_steps(rows, rule, bound):
    losses, kernels = run_all(rows, np.float32, rule, 20, step_by_step)
    assert losses["nnx"].dtype == np.float32
    assert gap(losses["torch"][:500], losses["nnx"][:500]) < bound
    np.testing.assert_array_equal(losses["nnx"], losses["linen"])
    np.testing.assert_array_equal(kernels["nnx"], kernels["linen"])


def test_the_comparison_can_fail(rows, x64):
    """AdamW's own defaults differ by a factor of 100 in weight decay, and 100 steps show it."""
    rule = RULES["adamw"]
    RULES["adamw"] = (rule[0], optax.adamw(RATE))
    try:
        losses, _ = run_all(rows, np.float64, "adamw", 4, step_by_step)
    finally:
        RULES["adamw"] = rule
    assert gap(losses["torch"], losses["nnx"]) > 1e-6


# --- any seed ------------------------------------------------------------------------------------------------

SEEDS, STEPS = range(10), 500


class TanhTorch(titanic_torch.TitanicMLP):
    def forward(self, x):
        return self.out(torch.tanh(self.hidden(x))).squeeze(-1)


class TanhLinen(titanic_linen.TitanicMLP):
    @nn.compact
    def __call__(self, x):
        x = nn.tanh(nn.Dense(self.width, name="hidden")(x))
        return nn.Dense(1, name="out")(x).squeeze(-1)


NETWORKS = {"relu": (titanic_torch.TitanicMLP, titanic_linen.TitanicMLP()), "tanh": (TanhTorch, TanhLinen())}


@pytest.fixture(scope="module")
def streams():
    """Every seed's own split and batches: x (seeds, steps, 32, 15), y (seeds, steps, 32)."""
    passengers, found = load_titanic(), []
    for seed in SEEDS:
        train, _, _ = split(passengers, seed)
        arrays = Features.fit(train)(train), labels(train)
        orders = batching.epoch_permutations(len(train), 20, seed)
        batches = [batch for order in orders for batch in batching.batches(arrays, order, BATCH)][:STEPS]
        found.append([np.stack(column) for column in zip(*batches, strict=True)])
    return [np.stack(column) for column in zip(*found, strict=True)]


@partial(jax.jit, static_argnums=(0, 1))
def linen_runs(linen, tx, params, x, y):
    """Losses (seeds, steps) and pre-activations (seeds, steps, 32, 64), all seeds in one program, one after another."""

    def turn(state, batch):
        hidden = state.params["hidden"]
        before = batch[0] @ hidden["kernel"] + hidden["bias"]
        state, loss = titanic_linen.train_step(state, *batch)
        return state, (loss, before)

    def run(start):
        params, *batches = start
        return jax.lax.scan(turn, TrainState.create(apply_fn=linen.apply, params=params, tx=tx), tuple(batches))[1]

    return jax.lax.map(run, (params, x, y))


def torch_run(model, optimizer, x, y):
    losses, before = [], []
    for xs, ys in zip(torch.from_numpy(x), torch.from_numpy(y), strict=True):
        with torch.no_grad():
            before.append(model.hidden(xs).numpy())
        losses.append(float(titanic_torch.train_step(model, optimizer, xs, ys)))
    return losses, np.stack(before)


def run_seeds(streams, dtype, rule, activation):
    """Losses of torch and of Linen, (seeds, steps) each, and their pre-activations, (seeds, steps, 32, 64) each."""
    (make_torch, tx), (torch_class, linen) = RULES[rule], NETWORKS[activation]
    x, y = (array.astype(dtype) for array in streams)
    by_torch, params = [], []
    template = linen.init(jax.random.key(0), jnp.zeros((1, 15)))["params"]
    for seed in SEEDS:
        torch.manual_seed(seed)
        model = torch_class().to(torch.float64 if dtype == np.float64 else torch.float32)
        params.append(porting.torch_to_linen(model, template))
        by_torch.append(torch_run(model, make_torch(model.parameters()), x[seed], y[seed]))
    by_linen = linen_runs(linen, tx, jax.tree.map(lambda *leaves: jnp.stack(leaves), *params), x, y)
    assert by_linen[0].dtype == dtype
    losses, before = (np.stack(column) for column in zip(*by_torch, strict=True))
    return losses, np.asarray(by_linen[0]), before, np.asarray(by_linen[1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "rule", "activation", "bound"),
    [
        (np.float64, "sgd", "relu", 1e-12),
        (np.float64, "adam", "relu", 1e-12),
        (np.float64, "adamw", "relu", 1e-12),
        (np.float32, "sgd", "tanh", 1e-6),
        (np.float32, "adam", "tanh", 5e-6),
        (np.float32, "adamw", "tanh", 5e-6),
    ],
)
def test_what_holds_for_any_seed(streams, request, dtype, rule, activation, bound):
    if dtype == np.float64:
        request.getfixturevalue("x64")
    by_torch, by_linen, *_ = run_seeds(streams, dtype, rule, activation)
    assert gap(by_torch, by_linen) < bound


@pytest.mark.slow
@pytest.mark.parametrize(("rule", "bound"), [("sgd", 1e-6), ("adam", 5e-6)])
def test_relu_in_float32_holds_until_a_unit_meets_its_kink(streams, rule, bound):
    """And there its pre-activation is 0 within rounding: of its sum, and of weights that are 1e-6 apart."""
    by_torch, by_linen, torch_before, linen_before = run_seeds(streams, np.float32, rule, "relu")
    gaps = np.abs(by_torch - by_linen)
    differ = (torch_before > 0) != (linen_before > 0)  # (seeds, steps, 32, 64)
    steps = differ.any(axis=(2, 3))
    parted = np.where(steps.any(axis=1), steps.argmax(axis=1), STEPS)
    for seed, step in enumerate(parted):
        assert gaps[seed, : step + 1].max() < bound  # the loss of that step does not know yet
        if step < STEPS:
            for before in (torch_before, linen_before):
                assert np.abs(before[seed, step][differ[seed, step]]).max() < 1e-5
    if rule == "adam":  # six of the ten seeds, where this was measured; three leave the bound
        assert (parted < STEPS).any() and gaps.max() > bound
