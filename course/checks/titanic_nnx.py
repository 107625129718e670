"""Checks of the exercises on compiling, accumulating, weights and short batches in NNX. Needs NumPy, JAX, flax, optax.

Lesson: 01b_titanic_nnx.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from course.checks.core import check, function, keyed, predicted_parts, same, wrong

LESSON = "01b_titanic_nnx"


class _Chain(nnx.Module):
    """Three linear layers with tanh between them, as torch's `_torch_chain` has them."""

    def __init__(self, d: int, width: int, seed: int):
        rngs = nnx.Rngs(seed)
        self.hidden = nnx.Linear(d, width, rngs=rngs)
        self.middle = nnx.Linear(width, width, rngs=rngs)
        self.out = nnx.Linear(width, 1, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        return self.out(jnp.tanh(self.middle(jnp.tanh(self.hidden(x))))).squeeze(-1)


def _torch_chain(d: int, width: int, seed: int) -> Any:
    import torch
    from torch import nn

    class Chain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden, self.middle, self.out = nn.Linear(d, width), nn.Linear(width, width), nn.Linear(width, 1)

        def forward(self, x: Any) -> Any:
            return self.out(torch.tanh(self.middle(torch.tanh(self.hidden(x))))).squeeze(-1)

    torch.manual_seed(seed)
    return Chain()


def _weights(chain: Any) -> dict[str, np.ndarray]:
    return {name: value.detach().numpy().copy() for name, value in chain.state_dict().items()}


@check(
    LESSON,
    "What decides is the structure of the objects, and the shapes and dtypes of the arrays.",
    "Values do not matter: weights, and numbers that are arguments, are inputs of the program.",
    "model.eval() sets a plain bool in the dropout layer. Is that an array, or structure?",
    points=2,
)
def nnx_compilations(rng: np.random.Generator, compiles: Any) -> None:
    """Which calls of an nnx.jit function compile, against a count of its traces."""
    keyed(compiles, ("seed", "scale", "integers", "width", "evaluation"))

    class MLP(nnx.Module):
        def __init__(self, width: int, *, rngs: nnx.Rngs):
            self.hidden = nnx.Linear(3, width, rngs=rngs)
            self.dropout = nnx.Dropout(0.5, rngs=rngs)
            self.out = nnx.Linear(width, 1, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            return self.out(self.dropout(nnx.relu(self.hidden(x)))).squeeze(-1)

    traces = []

    @nnx.jit
    def scaled_loss(model: Any, x: Any, y: Any, scale: Any) -> Any:
        traces.append(x.shape)
        return scale * ((model(x) - y) ** 2).mean()

    x, y = rng.normal(size=(4, 3)).astype("f"), rng.integers(0, 2, 4).astype("f")
    model = MLP(8, rngs=nnx.Rngs(0))
    scaled_loss(model, x, y, 1.0)
    calls: dict[str, Any] = {
        "seed": lambda: scaled_loss(MLP(8, rngs=nnx.Rngs(1)), x, y, 1.0),
        "scale": lambda: scaled_loss(model, x, y, 2.0),
        "integers": lambda: scaled_loss(model, x, y.astype(np.int32), 1.0),
        "width": lambda: scaled_loss(MLP(16, rngs=nnx.Rngs(0)), x, y, 1.0),
        "evaluation": lambda: scaled_loss(model, x, y, 1.0),
    }
    truth = {}
    for name, call in calls.items():
        if name == "evaluation":
            model.eval()
        before = len(traces)
        call()
        truth[name] = len(traces) > before
    predicted_parts(
        compiles, truth,
        {
            "seed": {True: "other weights are other values of the same arrays, and a new object of one structure is no "
                           "new program"},
            "scale": {True: "a Python number that is no static argument is an input of the program, like an array"},
            "integers": {False: "the dtype of an argument is part of what a program is compiled for"},
            "width": {False: "other shapes of the weights"},
            "evaluation": {False: "eval() changes a plain attribute of the layer, and that is structure"},
        },
        "compiles",
    )  # fmt: skip


@check(
    LESSON,
    "In torch the gradients add up in .grad. Here each call returns its own: who adds them?",
    "jax.tree.map(jnp.add, total, grads) adds two trees of gradients.",
    "One optimizer.update(model, mean_of_the_gradients), after the loop.",
    points=3,
)
def accumulated_step(rng: np.random.Generator, accumulated_step: Any) -> None:
    """One update from the gradients of several batches; against torch, where .grad adds up."""
    import torch

    answer = function(accumulated_step, "accumulated_step(model, optimizer, loss_fn, batches)")

    def loss_fn(model: Any, x: Any, y: Any) -> Any:
        return ((model(x) - y) ** 2).mean()

    d, width, n = (int(size) for size in rng.integers(3, 6, 3))
    seed, rate = int(rng.integers(10**6)), float(rng.uniform(0.02, 0.05))
    steps = [
        [(rng.normal(size=(5, d)).astype("f"), rng.normal(size=5).astype("f") + k) for k in range(n)] for _ in range(2)
    ]

    def by_torch(how: str) -> list[dict[str, np.ndarray]]:
        model = _torch_chain(d, width, seed)
        optimizer, after = torch.optim.SGD(model.parameters(), rate, momentum=0.9), []
        for batches in steps:
            for k, (x, y) in enumerate(batches):
                loss = loss_fn(model, torch.from_numpy(x), torch.from_numpy(y))
                (loss if how in ("sum", "last", "each", "first") else loss / n).backward()
                if how == "last" and k < n - 1:
                    optimizer.zero_grad()
                if how == "each" or (how == "first" and k == 0):
                    optimizer.step()
                    optimizer.zero_grad()
            if how not in ("each", "first"):
                optimizer.step()
            if how != "kept":
                optimizer.zero_grad()
            after.append(_weights(model))
        return after

    start = _weights(_torch_chain(d, width, seed))
    model = _Chain(d, width, 0)
    _fill(model, start)
    optimizer = nnx.Optimizer(model, optax.sgd(rate, momentum=0.9), wrt=nnx.Param)
    wanted = by_torch("mean")
    known = {how: by_torch(how) for how in ("sum", "last", "first", "each", "kept")}
    for turn, batches in enumerate(steps):
        losses = [float(loss_fn(model, x, y)) for x, y in batches]
        got = answer(model, optimizer, loss_fn, [(jnp.asarray(x), jnp.asarray(y)) for x, y in batches])
        before = wanted[turn - 1] if turn else start
        same(
            _read(model), wanted[turn], f"the weights after step {turn + 1}", rtol=1e-4,
            slips={
                "the weights did not move: optimizer.update(model, grads), in this order": before,
                "the sum of the gradients, not their mean": known["sum"][turn],
                "the last batch's gradients alone: nothing adds up by itself": known["last"][turn],
                "the first batch's gradients alone": known["first"][turn],
                "an update for each batch; add the gradients, then update once": known["each"][turn],
                "the gradients of the step before are still in the sum": known["kept"][turn],
            },
        )  # fmt: skip
        same(
            got, np.mean(losses), f"the loss that step {turn + 1} returns", rtol=1e-4, exact_shape=False,
            slips={"the last batch's loss, not the mean": losses[-1], "the sum of the losses": np.sum(losses)},
        )  # fmt: skip


@check(
    LESSON,
    "name, kind = key.split('.'); getattr(model, name) is the layer.",
    "torch's weight is (out, in), flax's kernel (in, out).",
    "A Param is a box: layer.kernel[...] = array writes into it, layer.kernel = array throws it away.",
    points=3,
)
def copied_weights(rng: np.random.Generator, copy_weights: Any) -> None:
    """torch's weights in an NNX model, whose parameters are still parameters; square layers, too."""
    answer = function(copy_weights, "copy_weights(model, weights)")
    import torch

    sizes = [(4, 4), tuple(int(size) for size in rng.permutation([3, 5]))]
    for d, width in sizes:
        source = _torch_chain(d, width, int(rng.integers(10**6)))
        weights = _weights(source)
        x = rng.normal(size=(6, d)).astype("f")
        model = _Chain(d, width, int(rng.integers(10**6)))
        optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
        drawn = _read(model)
        answer(model, weights)
        for name in ("hidden", "middle", "out"):
            for kind in ("kernel", "bias"):
                box = getattr(getattr(model, name), kind, None)
                if not isinstance(box, nnx.Param):
                    wrong(
                        f"model.{name}.{kind} is no nnx.Param any more, and will not be trained.",
                        got=f"a {type(box).__name__}",
                        slip=f"the Param was replaced; write into it: model.{name}.{kind}[...] = array",
                    )
        now = _read(model)
        swapped = {
            name: value.T if value.ndim == 2 and value.shape[0] == value.shape[1] else value
            for name, value in weights.items()
        }
        biases = {name: value if name.endswith("bias") else drawn[name] for name, value in weights.items()}
        kernels = {name: value if name.endswith("weight") else drawn[name] for name, value in weights.items()}
        same(
            now, weights, f"what the layers of {d} and {width} hold, in torch's layout",
            slips={
                "the model was not changed": drawn,
                "a weight is not transposed: torch's is (out, in), flax's kernel (in, out); a square one does not "
                "complain": swapped,
                "the biases alone were copied": biases,
                "the kernels alone were copied": kernels,
            },
        )  # fmt: skip
        with torch.no_grad():
            same(model(x), source(torch.from_numpy(x)), "the outputs", rtol=1e-4, atol=1e-5)
        gradients = jax.tree.map(jnp.ones_like, nnx.state(model, nnx.Param))
        try:
            optimizer.update(model, gradients)
        except Exception as error:  # flax versions raise different ones here
            wrong(
                "an optimizer that was made before can't update the model.", got=type(error).__name__,
                slip="the parameters' structure changed; write into the boxes that are there",
            )  # fmt: skip


@check(
    LESSON,
    "Every batch gets `size` rows. What tells the loss which of them are real?",
    "np.pad(x, ((0, missing), (0, 0))) puts rows of zeros at the end; np.arange(size) < len(x) tells the real ones.",
    "Divide by the number of real rows, weight.sum(), not by size.",
    points=3,
)
def full_batches(rng: np.random.Generator, padded: Any, weighted_loss: Any) -> None:
    """Batches of any length at one shape, and the loss of their real rows; against torch on the short batch."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits as bce

    fill = function(padded, "padded(x, y, size)")
    loss = function(weighted_loss, "weighted_loss(model, x, y, weight)")
    traces = []

    class Counted(_Chain):
        def __call__(self, x: Any) -> Any:
            traces.append(x.shape)
            return super().__call__(x)

    d, size = (int(number) for number in (rng.integers(3, 6), rng.integers(6, 10)))
    source = _torch_chain(d, 4, int(rng.integers(10**6)))
    model = Counted(d, 4, 0)
    _fill(model, _weights(source))
    compiled = nnx.jit(loss)
    for rows in (size, 1, int(rng.integers(2, size - 1))):
        x, y = rng.normal(size=(rows, d)).astype("f"), rng.integers(0, 2, rows).astype("f")
        got = fill(x, y, size)
        if not isinstance(got, tuple | list) or len(got) != 3:
            wrong("expected three arrays, (x, y, weight).", got=got)
        full_x, full_y, weight = got
        real = (np.arange(size) < rows).astype("f")
        for name, part, shape in (("x", full_x, (size, d)), ("y", full_y, (size,)), ("weight", weight, (size,))):
            if getattr(part, "shape", None) != shape:
                slip = "the rows that are missing up to size" if getattr(part, "shape", (0,))[:1] == (rows,) else ""
                wrong(f"{name} of a batch of {rows} rows: expected the shape {shape}.", got=part, slip=slip)
        same(
            np.asarray(weight, float), real, f"weight of a batch of {rows} rows",
            slips={
                "1 for padding, 0 for a real row: the other way round": 1 - real,
                "every row weighs the same, padding too": np.ones(size),
                "the padding stands in front; let it follow": real[::-1],
            },
        )  # fmt: skip
        same(full_x[:rows], x, "the real rows of x", dtype=np.float32)
        same(full_y[:rows], y, "the real labels", dtype=np.float32)
        filled = np.full((size, d), 3.0, "f"), np.ones(size, "f")  # padding may hold anything
        filled[0][:rows], filled[1][:rows] = x, y
        with torch.no_grad():
            losses = bce(source(torch.from_numpy(filled[0])), torch.from_numpy(filled[1]), reduction="none").numpy()
        expected = losses[:rows].mean()
        same(
            compiled(model, *filled, real), expected, f"the loss of {rows} real rows of {size}", rtol=1e-4,
            slips={
                "divided by all rows; divide by the real ones, weight.sum()": losses[:rows].sum() / size,
                "padding counts too: the weights are not used": losses.mean(),
                "the sum, not the mean": losses[:rows].sum(),
                "the logits are weighted, not the losses": _of_weighted_logits(source, filled, real),
            },
        )  # fmt: skip
        jax.block_until_ready(compiled(model, full_x, full_y, np.asarray(weight, np.float32)))
    if len(traces) > 1:
        wrong(
            f"the loss was traced {len(traces)} times for one shape.", expected=1, got=len(traces),
            slip="the model is to be called once, and with nothing that differs in dtype from batch to batch",
        )  # fmt: skip


def _of_weighted_logits(source: Any, filled: Any, real: np.ndarray) -> float:
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits as bce

    with torch.no_grad():
        logits = source(torch.from_numpy(filled[0])) * torch.from_numpy(real)
        return float(bce(logits, torch.from_numpy(filled[1]) * torch.from_numpy(real)))


def _fill(model: _Chain, weights: dict[str, np.ndarray]) -> None:
    for name in ("hidden", "middle", "out"):
        layer = getattr(model, name)
        layer.kernel[...] = jnp.asarray(weights[f"{name}.weight"].T)
        layer.bias[...] = jnp.asarray(weights[f"{name}.bias"])


def _read(model: _Chain) -> dict[str, np.ndarray]:
    """The model's weights in torch's names and layout."""
    layers = {name: getattr(model, name) for name in ("hidden", "middle", "out")}
    read = {f"{name}.weight": np.array(layer.kernel[...]).T for name, layer in layers.items()}
    return read | {f"{name}.bias": np.array(layer.bias[...]) for name, layer in layers.items()}
