"""PyTorch = NNX = Linen: the same weights and the same batches give the same losses and weights.

Bounds, and where they come from (measured on jax 0.10.2, torch 2.13.0; the largest gap of any step):
  float64, 500 epochs, loss: 1e-12; measured 2e-16 (SGD, Adam) and 2e-15 (AdamW).
  float32, 500 steps, loss: 1e-6 for SGD (measured 1.2e-7) and 5e-6 for Adam (measured 1.3e-6), which divides
  by the root of a small second moment and so magnifies rounding. No bound for longer float32 runs: a ReLU
  near its kink turns a difference in the last bit into another run, in torch against itself too.
  NNX and Linen run the same operations on the same arrays: no difference at all.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
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


@pytest.mark.parametrize(("rule", "bound"), [pytest.param("sgd", 1e-6, marks=pytest.mark.slow), ("adam", 5e-6)])
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
