"""Checks of the exercises on trees, state in boxes, and averages that somebody must move. Needs NumPy, JAX and flax.

Lesson: 03_state_and_trees.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx

from course.checks.core import check, function, predicted_parts, same, wrong

LESSON = "03_state_and_trees"


@check(
    LESSON,
    "jax.tree.leaves goes through a dict by sorted name, and names are sorted as text.",
    "None is an empty branch; a number and a text are leaves like any other.",
    "jax.tree.structure tells a list from a tuple.",
    points=1,
)
def tree_leaves(rng: np.random.Generator, prediction: Any) -> None:
    """What the leaves of a tree are, and in which order."""
    tree = {"layer9": {"scale": jnp.ones(3), "bias": None}, "layer10": [jnp.zeros(3), 2.5], "act": "relu"}
    other = {**tree, "layer10": tuple(tree["layer10"])}
    paths = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in jax.tree.leaves_with_path(tree)]
    plans: list[Any] = [jax.tree.structure(tree), jax.tree.structure(other)]
    truth = {
        "leaves": len(paths), "second": paths[1], "last": paths[-1],
        "same": bool(plans[0] == plans[1]),
    }  # fmt: skip
    slips: dict[str, dict[Any, str]] = {
        "leaves": {
            5: "None is no leaf: it is an empty branch",
            3: "text is no branch: whatever is no container is a leaf, a str too",
            2: "whatever is no container is a leaf: a number and a str too, not arrays alone",
        },
        "second": {
            "layer9.scale": "a dict's branches come sorted by name, not as they were written",
            "layer9.bias": "a dict's branches come sorted by name, and None is no leaf",
        },
        "last": {
            "act": "a dict's branches come sorted by name, not as they were written",
            "layer10.1": "names are sorted as text: '1' comes before '9'",
            "layer9.bias": "None is no leaf",
        },
        "same": {True: "a list and a tuple are different nodes, so jax.tree.map refuses the pair"},
    }
    predicted_parts(prediction, truth, slips)


@check(
    LESSON,
    "torch's buffer is an nnx.BatchStat here, and its parameter an nnx.Param; both are written with [...].",
    "model.train() and model.eval() set use_running_average where a module has such an attribute.",
    "detach() is jax.lax.stop_gradient.",
    "self.peak[...] = (1 - m) * self.peak[...] + m * jnp.abs(jax.lax.stop_gradient(x)).max(0), if it trains.",
    points=4,
)
def running_scale(rng: np.random.Generator, RunningScale: Any) -> None:
    """A layer with a weight and a buffer, compiled, in both modes; against torch's."""
    make = function(RunningScale, "RunningScale(size, momentum)")
    size, rows = (int(n) for n in rng.integers(3, 6, 2))
    momentum = float(rng.uniform(0.15, 0.35))
    layer = make(size, momentum)
    if not isinstance(layer, nnx.Module):
        wrong("expected a subclass of nnx.Module.", got=layer)
    kinds = {kind: jax.tree.leaves(nnx.state(layer, kind)) for kind in (nnx.Param, nnx.BatchStat)}
    if len(kinds[nnx.Param]) > 1:
        wrong("RunningScale has more than one Param.", slip="the buffer is a Param: the next optimizer would train it")
    for kind, leaves in kinds.items():
        if len(leaves) != 1 or leaves[0].shape != (size,):
            wrong(
                f"expected one {kind.__name__} of shape {(size,)}.",
                got=[leaf.shape for leaf in leaves] or "none",
                slip=f"a plain array is found by no filter; keep it as nnx.{kind.__name__}(array)",
            )
    if not hasattr(layer, "use_running_average"):
        wrong(
            "model.eval() changes nothing in this layer.",
            slip="train() and eval() set attributes that exist: give the layer use_running_average",
        )
    batches = rng.normal(size=(5, rows, size)).astype("f") * rng.uniform(1, 4, (5, 1, size)).astype("f")
    batches *= np.where(np.arange(size) % 2, 1, -1).astype("f") + 0.3
    gain = rng.uniform(0.5, 2, size).astype("f")
    next(iter(nnx.to_flat_state(nnx.state(layer, nnx.Param))))[1][...] = jnp.asarray(gain)
    compiled = function(nnx.jit(lambda layer, x: layer(x)), "layer(x), compiled by nnx.jit,")
    outputs = []
    for number, x in enumerate(batches):
        layer.train() if number < 3 else layer.eval()
        outputs.append(compiled(layer, jnp.asarray(x)))
    if any(getattr(output, "shape", None) != (rows, size) for output in outputs):
        wrong(
            f"layer(x) has another shape than x, {(rows, size)}.", got=outputs[0], slip="a forgotten return, or an axis"
        )

    def walked(m: float = momentum, absolute: bool = True, axis: Any = 0, use: str = "new", moves: int = 3,
               weight: Any = gain) -> np.ndarray:  # fmt: skip
        peak, rows = np.zeros(size, "f"), []
        for number, x in enumerate(batches):
            now = (np.abs(x) if absolute else x).max(axis)
            old, peak = peak, (1 - m) * peak + m * now if number < moves else peak
            used = {"new": peak, "old": old, "batch": now if number < 3 else peak}[use]
            rows.append(weight * x / (used + 1e-6))
        return np.stack(rows)

    same(
        np.stack(outputs), _torch_layer(batches, gain, momentum), "three calls in training mode, two after eval(),",
        rtol=1e-4, slips={
            "the peak never moves: the change is not kept": lambda: walked(moves=0),
            "the peak moves after eval() too": lambda: walked(moves=5),
            "momentum: it is the share of the new batch, as in torch": lambda: walked(1 - momentum),
            "the maximum of x; the peak is that of |x|": lambda: walked(absolute=False),
            "one peak for all; every feature has its own: axis 0": lambda: walked(axis=None),
            "the batch's own peak in training; torch's code divides by the running one": lambda: walked(use="batch"),
            "x is divided before the peak moves": lambda: walked(use="old"),
            "gain is left out": lambda: walked(weight=1.0),
        },
    )  # fmt: skip
    layer.train()
    x, peak = batches[0], np.asarray(jax.tree.leaves(nnx.state(layer, nnx.BatchStat))[0])
    slope = function(nnx.grad(lambda layer, x: (layer(x) ** 2).sum(), argnums=1), "nnx.grad of layer(x)")
    arrays = (x, peak.astype("f"), gain, momentum)
    attached = "the gradient flows through the peak: torch's code detaches x there"
    same(
        slope(layer, jnp.asarray(x)), _torch_slope(*arrays), "the gradient by x in training mode", rtol=1e-4,
        slips={attached: lambda: _torch_slope(*arrays, detach=False)},
    )  # fmt: skip


@check(
    LESSON,
    "What does nnx.state hand out: arrays, or the live boxes?",
    "Copy when the score is the best so far: jax.tree.map(jnp.copy, nnx.state(model)).",
    "All of the state: averages belong to the weights that they were gathered with.",
    "After the loop, nnx.update(model, best) writes it back.",
    points=2,
)
def best_weights(rng: np.random.Generator, train_best: Any) -> None:
    """A training that ends at its best step, averages included; against the weights that the check wrote down."""
    answer = function(train_best, "train_best(model, step, score, steps)")
    for steps in rng.integers(4, 8, 2):
        path = rng.normal(size=(steps + 1, 2, 3)).astype("f")  # what each step writes: weights, averages
        best, worst = (int(n) for n in rng.permutation(np.arange(1, steps))[:2])  # neither the start nor the last
        path[best, 0] *= 0.05
        path[worst, 0] *= 20
        path[0, 0] *= 0.001  # the start has the lowest score, and does not count
        done: list[int] = []
        model = _Walker(path[0])

        def step(model: Any, path: np.ndarray = path, done: list[int] = done) -> None:
            done.append(1)
            if len(done) < len(path):
                model.weight[...], model.mean[...] = jnp.asarray(path[len(done)])

        def score(model: Any) -> jax.Array:
            return (model.weight[...] ** 2).sum()

        given = answer(model, step, score, int(steps))
        if len(done) != steps:
            wrong(f"step was called {len(done)} times, not {steps}.", slip="once in every round of the loop")
        counts = [len(jax.tree.leaves(nnx.state(model, kind))) for kind in (nnx.Param, nnx.BatchStat)]
        if counts != [1, 1]:
            wrong(
                "a box is gone.", slip="an array assigned over a Param; write with [...], or nnx.update(model, state)"
            )
        scores = (path[:, 0] ** 2).sum(-1)
        slips = {
            "the last weights: nnx.state shares the live boxes, so that what was kept went along with the training; "
            "copy it, and write it back in the end": (path[-1, 0], path[-1, 1]),
            "the averages are not those of the best step; keep all of the state, not its Params alone": (
                path[best, 0], path[-1, 1]),
            "the largest score; less is better": (path[worst, 0], path[worst, 1]),
            "the start, which was not to be scored, or a copy of the model was trained": (path[0, 0], path[0, 1]),
        }  # fmt: skip
        now = (model.weight[...], model.mean[...])
        same(now, (path[best, 0], path[best, 1]), "(weight, mean) of the model afterwards", slips=slips)
        same(
            given, scores[best], "what train_best returns, the best score", exact_shape=False,
            slips={"the last score": scores[-1], "the score of the start": scores[0]},
        )  # fmt: skip


@check(
    LESSON,
    "A call that changes a collection says mutable=[...], and then returns a pair.",
    "The pair's second half goes into the next call: variables = {**variables, **changed}.",
    "A key of its own for every batch: jax.random.fold_in(key, i), i from enumerate.",
    points=3,
)
def refreshed_averages(rng: np.random.Generator, refreshed: Any) -> None:
    """Running averages of a Linen network after several batches; against NumPy."""
    answer = function(refreshed, "refreshed(net, variables, batches, key)")
    for count in rng.integers(2, 5, 2):
        size = int(rng.integers(2, 5))
        net = _Recorder(size)
        batches = list(rng.normal(1, 1, (int(count), 6, size)).astype("f"))
        key = jax.random.key(int(rng.integers(1000)))
        weight, start = rng.normal(size=(size, size)).astype("f"), rng.normal(size=size).astype("f")
        stats = {"mean": jnp.asarray(start), "draws": jnp.zeros(8, jnp.float32), "calls": jnp.zeros((), jnp.int32)}
        variables = {"params": {"weight": jnp.asarray(weight)}, "batch_stats": stats}
        got = answer(net, variables, [jnp.asarray(batch) for batch in batches], key)
        if isinstance(got, tuple):
            wrong("expected a dict of variables.", got=got, slip="the pair of output and changes; unpack it")
        if not hasattr(got, "keys"):
            wrong("expected a dict of variables.", got=got, slip="a forgotten return")
        if "batch_stats" not in got and "mean" in got:
            wrong("expected both collections.", slip="the averages without their collection's name, and no params")
        if set(got) != {"params", "batch_stats"}:
            wrong(
                f"expected the collections params and batch_stats, got {', '.join(map(str, got)) or 'none'}.",
                slip="only the changed collection; {**variables, **changed} keeps the others",
            )
        same(dict(got["params"]), {"weight": weight}, "the weights, which were to stay,")

        def average(chosen: Any, start: Any = start, weight: Any = weight, keep: float = 0.9) -> np.ndarray:
            mean = start
            for batch in chosen:
                mean = keep * mean + (1 - keep) * (batch @ weight).mean(0)
            return mean

        stats = dict(got["batch_stats"])
        same(
            stats.get("mean"), average(batches), f"the running mean after {count} batches", rtol=1e-4,
            slips={
                "the averages that they began with: train=True is missing, or the pair's second half is dropped": start,
                "the last batch alone has moved them: every call began with the old averages": average(batches[-1:]),
                "the first batch alone has moved them": average(batches[:1]),
                "a batch too few": average(batches[:-1]),
                "all rows as one batch; it is one call a batch": average([np.concatenate(batches)]),
            },
        )  # fmt: skip
        draws = np.asarray(stats["draws"])[: int(count)]
        if len(set(draws.tolist())) < count:
            wrong(
                "two batches got the same mask.", got=draws,
                slip="one key for every batch; fold the batch's number into it: jax.random.fold_in(key, i)",
            )  # fmt: skip


# --- inside ------------------------------------------------------------------------------------------------


def _torch_layer(batches: np.ndarray, gain: np.ndarray, momentum: float) -> np.ndarray:
    import torch

    class RunningScale(torch.nn.Module):
        gain: Any
        peak: Any

        def __init__(self, size: int, momentum: float) -> None:
            super().__init__()
            self.momentum = momentum
            self.gain = torch.nn.Parameter(torch.ones(size))
            self.register_buffer("peak", torch.zeros(size))

        def forward(self, x: Any) -> Any:
            if self.training:
                self.peak.lerp_(x.detach().abs().amax(0), self.momentum)
            return self.gain * x / (self.peak + 1e-6)

    layer = RunningScale(len(gain), momentum)
    with torch.no_grad():
        layer.gain.copy_(torch.tensor(gain))
        return np.stack([layer.train(number < 3)(torch.tensor(x)).numpy() for number, x in enumerate(batches)])


def _torch_slope(x: Any, peak: Any, gain: Any, momentum: float, detach: bool = True) -> np.ndarray:
    import torch

    x, peak, gain = torch.tensor(x, requires_grad=True), torch.tensor(peak), torch.tensor(gain)
    peak = peak.lerp((x.detach() if detach else x).abs().amax(0), momentum)
    slope: np.ndarray = torch.autograd.grad(((gain * x / (peak + 1e-6)) ** 2).sum(), x)[0].numpy()
    return slope


class _Walker(nnx.Module):
    """A model that stands where it is told."""

    def __init__(self, start: np.ndarray) -> None:
        self.weight, self.mean = nnx.Param(jnp.asarray(start[0])), nnx.BatchStat(jnp.asarray(start[1]))


class _Recorder(nn.Module):
    """A dense layer that keeps a running mean of its output, and what it drew."""

    size: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        weight = self.param("weight", nn.initializers.ones, (self.size, self.size))
        mean = self.variable("batch_stats", "mean", jnp.zeros, self.size)
        draws = self.variable("batch_stats", "draws", jnp.zeros, 8)
        calls = self.variable("batch_stats", "calls", jnp.zeros, (), jnp.int32)
        hidden = x @ weight
        if train:
            drawn = jax.random.uniform(self.make_rng("dropout"), dtype=jnp.float32)
            mean.value = 0.9 * mean.value + 0.1 * hidden.mean(0)
            draws.value = draws.value.at[calls.value].set(drawn)
            calls.value = calls.value + 1
        return hidden
