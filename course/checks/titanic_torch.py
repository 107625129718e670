"""Checks of the exercises on what a PyTorch step changes, leaks and measures. Needs NumPy, pandas and JAX.

Lesson: 01a_titanic_torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from course.checks.core import check, function, same, wrong

LESSON = "01a_titanic_torch"
PLACES = ("weights", "gradients", "buffers", "optimizer", "generator")


@check(
    LESSON,
    "Look before the step and after it: a list for each of the five places.",
    "In place means that a tensor kept from before changes too. Keep copies: t.detach().clone().",
    "A gradient may be None. The optimizer's tensors are in optimizer.state, a dict of dicts, empty before the first "
    "step; torch.get_rng_state() is the generator.",
    "Two lists are alike if they are of one length and each pair is: both None, or torch.equal.",
    points=4,
)
def changed(rng: np.random.Generator, changed: Any) -> None:
    """What a step changed behind its caller's back, for steps of which each does something else."""
    import torch
    from torch import nn

    answer = function(changed, "changed(step, model, optimizer, x, y)", writes=True)

    def network() -> nn.Module:
        width = int(rng.integers(3, 6))
        return nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width), nn.Dropout(0.5), nn.Linear(width, 1))

    def loss(model: Any, x: Any, y: Any) -> Any:
        return ((model(x)[:, 0] - y) ** 2).mean()

    def full(model: Any, optimizer: Any, x: Any, y: Any) -> None:
        optimizer.zero_grad()
        loss(model, x, y).backward()
        optimizer.step()

    def backward(model: Any, optimizer: Any, x: Any, y: Any) -> None:
        loss(model.eval(), x, y).backward()

    def cleared(model: Any, optimizer: Any, x: Any, y: Any) -> None:
        optimizer.zero_grad()

    def evaluated(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
        with torch.no_grad():
            return loss(model.eval(), x, y)

    def evaluated_badly(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
        with torch.no_grad():
            return loss(model.train(), x, y)

    def updated(model: Any, optimizer: Any, x: Any, y: Any) -> None:
        optimizer.step()

    def drawn(model: Any, optimizer: Any, x: Any, y: Any) -> None:
        model.eval()
        torch.randperm(len(x))

    def one_weight(model: Any, optimizer: Any, x: Any, y: Any) -> None:
        with torch.no_grad():
            model[3].bias[0] += 1e-3

    steps: dict[str, tuple[Callable[..., Any], set[str]]] = {
        "a training step": (full, set(PLACES)),
        "a second backward() in eval mode": (backward, {"gradients"}),
        "zero_grad()": (cleared, {"gradients"}),
        "an evaluation in eval mode": (evaluated, set()),
        "an evaluation in training mode": (evaluated_badly, {"buffers", "generator"}),
        "optimizer.step() alone": (updated, {"weights", "optimizer"}),
        "a draw from the global generator": (drawn, {"generator"}),
        "one bias written to": (one_weight, {"weights"}),
    }
    first, *others = steps  # the whole step goes first: most slips show there
    for name in [first, *rng.permutation(others)]:
        step, expected = steps[name]
        torch.manual_seed(int(rng.integers(10**6)))
        model = network()
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
        x, y = (torch.from_numpy(rng.normal(size=shape).astype("f")) for shape in ((6, 4), (6,)))
        if step is not full:  # the first step also creates Adam's moments: the others find them there
            full(model, optimizer, x, y)
        before = [weight.detach().clone() for weight in model.parameters()]
        calls: list[int] = []

        def counted(*arguments: Any, step: Any = step, calls: list[int] = calls) -> Any:
            calls.append(len(arguments))
            return step(*arguments)

        got = answer(counted, model, optimizer, x, y)
        if calls != [4]:
            slip = "the step is to be run once, on the model itself" if len(calls) != 1 else ""
            wrong(f"step(model, optimizer, x, y) was called {len(calls)} times.", slip=slip)
        now = [weight.detach() for weight in model.parameters()]
        if "weights" in expected and all(map(torch.equal, before, now)):
            wrong(f"{name} left no trace in the model.", slip="the step ran on a copy; look at the model itself")
        if not isinstance(got, set | frozenset | list | tuple) or not all(isinstance(part, str) for part in got):
            wrong("expected a set of names.", got=got, slip="return the names of what changed" if got is None else "")
        if set(got) - set(PLACES):
            wrong(f"expected names out of {', '.join(PLACES)}.", got=sorted(set(got) - set(PLACES)))
        missed = [place for place in PLACES if place in expected - set(got)]
        invented, said = sorted(set(got) - expected), ", ".join(sorted(got)) or "nothing"
        if missed:
            slip = {
                "weights": "kept weights are the live tensors, and change too: keep copies",
                "gradients": "a gradient that is added to is the same tensor, changed in place; one that becomes None "
                "or stops being None has changed as well",
                "buffers": "BatchNorm's averages are buffers, no parameters: model.buffers(); keep copies of them",
                "optimizer": "Adam's moments change in place, and are made in the first step: keep copies, and compare "
                "how many there are",
                "generator": "dropout and shuffling draw from the global generator: torch.get_rng_state()",
            }[missed[0]]
            wrong(f"{name} changed {', '.join(missed)}, which is not in the answer.", got=said, slip=slip)
        if invented:
            slip = "compare values, with torch.equal: an object of its own may hold the same ones"
            slip = "averages are buffers, no weights: state_dict() holds both" if "weights" in invented else slip
            wrong(f"{name} does not change {', '.join(invented)}.", got=said, slip=slip)


@check(
    LESSON,
    "Which passengers may a median, a mean, a standard deviation be computed from?",
    "`medians = train.groupby('pclass')['age'].median()`; `some_table['pclass'].map(medians)` looks them up.",
    "Fill first, then standardise with the mean and the deviation of the filled training ages.",
    "pandas divides by n - 1 unless told otherwise: std(ddof=0).",
    points=3,
)
def ages_by_class(rng: np.random.Generator, ages_by_class: Any) -> None:
    """Ages filled by class and standardised, with constants of the training passengers alone; in plain NumPy."""
    answer = function(ages_by_class, "ages_by_class(train, test)")

    def frame(n: int, shift: float) -> pd.DataFrame:
        pclass = np.concatenate([[1, 1, 1, 2, 2, 2, 3, 3, 3], rng.integers(1, 4, n - 9)])
        age = rng.normal(50 - 8 * pclass + shift, 4).round(1)
        age[[0, 4, 8]] = np.nan
        age[9:][rng.random(n - 9) < 0.3] = np.nan
        order = rng.permutation(n)
        return pd.DataFrame({"pclass": pclass[order], "age": age[order]}, index=rng.permutation(1000)[:n])

    def filled(pair: pd.DataFrame, source: pd.DataFrame, by_class: bool = True, middle: Any = np.median) -> np.ndarray:
        ages, known = source["age"].to_numpy(), source["age"].notna().to_numpy()
        out = pair["age"].to_numpy().copy()
        for i in np.flatnonzero(np.isnan(out)):
            chosen = known & (source["pclass"].to_numpy() == pair["pclass"].to_numpy()[i]) if by_class else known
            out[i] = middle(ages[chosen])
        return out

    def scaled(a: np.ndarray, b: np.ndarray, source: np.ndarray, ddof: int = 0) -> tuple[np.ndarray, np.ndarray]:
        return tuple((part - source.mean()) / source.std(ddof=ddof) for part in (a, b))

    for _ in range(2):
        train, test = frame(int(rng.integers(20, 30)), 0.0), frame(int(rng.integers(12, 18)), 6.0)
        kept = train.copy(), test.copy()
        both = pd.concat([train, test])
        a, b = filled(train, train), filled(test, train)
        of_test, everybody = filled(test, test), (filled(train, both), filled(test, both))
        expected = scaled(a, b, a)
        got = answer(train, test)
        if not (train.equals(kept[0]) and test.equals(kept[1])):
            wrong(
                "ages_by_class changed a table that it was given.",
                slip="work on a copy of the column: fillna returns one",
            )
        if isinstance(got, tuple | list) and len(got) == 2:
            got = tuple(np.asarray(part, dtype=float) if isinstance(part, pd.Series) else part for part in got)
        else:
            wrong("expected two arrays, for train and for test.", got=got if not hasattr(got, "columns") else None)
        overall = filled(train, train, by_class=False), filled(test, train, by_class=False)
        by_mean = filled(train, train, middle=np.mean), filled(test, train, middle=np.mean)
        known = train["age"].dropna().to_numpy()
        same(
            got, expected, "the pair of ages", rtol=1e-5,
            slips={
                "test's medians and scales were fitted on test; use those of train": (
                    scaled(a, a, a)[0], scaled(of_test, of_test, of_test)[1],
                ),
                "test's gaps were filled with test's medians; use those of train": scaled(a, of_test, a),
                "constants of train and test together: that carries test into training": scaled(
                    *everybody, np.concatenate(everybody)
                ),
                "medians of train and test together: that carries test into training": scaled(*everybody, everybody[0]),
                "test's ages were standardised by their own mean and deviation": (
                    expected[0], scaled(b, b, b)[0],
                ),
                "n - 1 in the standard deviation, pandas' default; say ddof=0": scaled(a, b, a, ddof=1),
                "one median for all; a class has its own": scaled(*overall, overall[0]),
                "the mean of the class, where the median is asked for": scaled(*by_mean, by_mean[0]),
                "mean and deviation of the known ages; fill first": scaled(a, b, known),
                "filled, not standardised": (a, b),
            },
        )  # fmt: skip


@check(
    LESSON,
    "Which batch is shorter than the others, and how much should it count?",
    "Sum each batch's losses, and divide once, by the number of rows.",
    "model.eval() for the layers that behave differently, torch.no_grad() for the graph; and afterwards?",
    "was_training = model.training; …; model.train(was_training)",
    points=3,
)
def mean_loss(rng: np.random.Generator, mean_loss: Any) -> None:
    """The mean loss of batches of uneven length, and a model that is left as it was."""
    import torch
    from torch import nn
    from torch.nn.functional import binary_cross_entropy_with_logits as bce

    class Network(nn.Module):
        def __init__(self, width: int):
            super().__init__()
            self.layers = nn.Sequential(
                nn.Linear(4, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.5), nn.Linear(width, 1)
            )

        def forward(self, x: Any) -> Any:
            return self.layers(x).squeeze(-1)

    answer = function(mean_loss, "mean_loss(model, loader)", writes=True)
    for training in (True, False):
        torch.manual_seed(int(rng.integers(10**6)))
        model = Network(int(rng.integers(4, 8)))
        x = torch.from_numpy(rng.normal(size=(19, 4)).astype("f"))
        y = torch.from_numpy(rng.integers(0, 2, 19).astype("f"))
        model(2 * x + 1)  # averages that are not those of any batch
        x[16:] *= 4  # the short batch is unlike the others
        loader = [(x[i : i + 8], y[i : i + 8]) for i in range(0, 19, 8)]
        with torch.no_grad():
            parts = torch.stack([bce(model.eval()(a), b) for a, b in loader])
            rows = torch.tensor([len(b) for _, b in loader])
            expected = float((parts * rows).sum() / rows.sum())
        model.train(training)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        got = answer(model, loader)
        if not all(torch.equal(before[name], value) for name, value in model.state_dict().items()):
            wrong("the model's averages changed.", slip="BatchNorm in training mode: model.eval() first")
        for module in model.modules():
            if module.training is not training:
                told = "training" if training else "eval"
                slip = "model.eval() stays in force; set the mode back to what it was: model.train(was_training)"
                wrong(f"the model came in {told} mode, and does not leave in it.", slip=slip)
        if any(weight.grad is not None for weight in model.parameters()):
            wrong("weights have a gradient now.", slip="nothing is trained here: no backward()")
        if getattr(got, "requires_grad", False):
            wrong("the loss records a graph.", slip="with torch.no_grad(): around the forward passes; and .item()")
        same(
            got, expected, f"the mean loss of 19 rows, a model in {'training' if training else 'eval'} mode",
            exact_shape=False, slips={
                "the mean of the batches' means: a short batch counts as much as a full one": float(parts.mean()),
                "the sum of the batches' means": float(parts.sum()),
                "the sum over the rows, not their mean": 19 * expected,
                "the last batch alone": float(parts[-1]),
                "the short batch is left out": float((parts * rows)[:-1].sum() / rows[:-1].sum()),
                "divided by the batches, not by the rows": 19 * expected / 3,
            },
        )  # fmt: skip


@check(
    LESSON,
    "Shapes: the batch is as long as its longest sequence, rounded up; what stands in the rest?",
    "-(-longest // multiple) * multiple rounds up.",
    "x = torch.zeros(len(samples), length, d); x[i, :len(sequence)] = sequence",
    points=2,
)
def padded_collate(rng: np.random.Generator, padded_collate: Any) -> None:
    """Sequences of uneven length in one batch, with a mask; few lengths occur."""
    import torch

    answer = function(padded_collate, "padded_collate(samples, multiple)")
    for multiple in rng.choice([3, 4, 5, 6], 3, replace=False):
        d, n = (int(size) for size in rng.integers(2, 5, 2))
        lengths = rng.integers(1, 2 * multiple, n)
        lengths[0] = multiple if multiple % 2 else multiple + 1  # a whole number of multiples, or not
        lengths[1:] = np.minimum(lengths[1:], lengths[0] - 1)
        order = rng.permutation(n)
        sequences = [rng.normal(size=(lengths[i], d)).astype("f") for i in order]
        sequences[int(np.argmax(order == 0))][0] = 0.0  # a real row of zeros
        labels = [float(label) for label in rng.integers(0, 2, n)]
        longest = int(lengths.max())
        length = longest + (-longest) % int(multiple)
        x, mask = np.zeros((n, length, d), "f"), np.zeros((n, length), bool)
        for i, sequence in enumerate(sequences):
            x[i, : len(sequence)], mask[i, : len(sequence)] = sequence, True
        samples = [(torch.from_numpy(a), label) for a, label in zip(sequences, labels, strict=True)]
        got = answer(samples, int(multiple))
        if not isinstance(got, tuple | list) or len(got) != 3:
            wrong("expected three tensors, (x, mask, y).", got=got)
        for name, part in zip(("x", "mask", "y"), got, strict=True):
            if not isinstance(part, torch.Tensor):
                wrong(f"{name}: expected a tensor, got {type(part).__name__}.")
        if got[0].ndim == 3 and got[0].shape[1] != length:
            slip = "the length is that of the longest sequence, rounded up to a multiple" if longest != length else ""
            slip = "a longest sequence that is a whole number of multiples needs no more" if longest == length else slip
            wrong("x has another length.", expected=length, got=int(got[0].shape[1]), slip=slip)
        same(
            got[0], x, "x",
            slips={"the padding stands in front; let it follow": lambda x=x, m=mask: np.stack(
                [np.concatenate([a[~b], a[b]]) for a, b in zip(x, m, strict=True)])},
        )  # fmt: skip
        if got[1].dtype is not torch.bool:
            wrong("the mask has another dtype.", expected="bool", got=str(got[1].dtype))
        same(
            got[1], mask, "the mask",
            slips={
                "True where there is padding; it is to say what is real": ~mask,
                "read off the values: a real row may hold zeros": lambda x=x: (x != 0).any(-1),
            },
        )  # fmt: skip
        same(got[2], np.array(labels, "f"), "y", dtype=np.float32)
