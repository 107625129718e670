"""Checks of the capstone on a sequence model with packed input. Needs NumPy, JAX and flax.

Lesson: 07b_real_checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from course import layers, porting
from course.checks.core import check, function, same, wrong
from course.checks.porting_layers import filled, numbers_of

LESSON = "capstone_07_sequence"
WORDS, CLASSES, LENGTH = 20, 3, 12


class _Reader(nnx.Module):
    """A reader of the check's own, for the steps that are not about the model."""

    def __init__(self, width: int, hidden: int, *, rngs: nnx.Rngs):
        self.embed = layers.Embed(WORDS, width, padding_idx=0, rngs=rngs)
        forward, backward = (nnx.RNN(layers.LSTMCell(width, hidden, rngs=rngs), rngs=rngs) for _ in range(2))
        self.rnn = nnx.Bidirectional(forward, backward, rngs=rngs)
        self.out = nnx.Linear(2 * hidden, CLASSES, rngs=rngs)

    def __call__(self, tokens: Any, lengths: Any) -> Any:
        carries, _ = self.rnn(self.embed(jnp.asarray(tokens)), seq_lengths=jnp.asarray(lengths), return_carry=True)
        return self.out(jnp.concatenate([carry[1] for carry in carries], axis=1))


@cache
def _drawn(width: int, hidden: int) -> _Reader:
    return _Reader(width, hidden, rngs=nnx.Rngs(0))


def _source(rng: np.random.Generator, width: int, hidden: int) -> Any:
    """A torch reader with random weights."""
    import torch

    from course.checks.programs.capstone_07_sequence import TorchReader

    torch.manual_seed(int(rng.integers(10**6)))
    return TorchReader(WORDS, width, hidden, CLASSES)


def _filled_up(part: Any, labels: np.ndarray, size: int) -> tuple[np.ndarray, ...]:
    """One batch of the shape that exercise 2 asks for."""
    tokens, lengths = np.zeros((size, LENGTH), np.int32), np.ones(size, np.int32)
    targets, real = np.zeros(size, np.int32), np.arange(size) < len(part)
    for row, sentence in enumerate(part):
        tokens[row, : len(sentence)], lengths[row], targets[row] = sentence, len(sentence), labels[row]
    return tokens, lengths, targets, real


@check(
    LESSON,
    "Embed with padding_idx and LSTMCell are in course.layers; the rest is nnx.RNN, nnx.Bidirectional, nnx.Linear.",
    "Pass seq_lengths=lengths: the backward RNN then starts at the last word, and the carries are those of the ends.",
    "carries, _ = self.rnn(x, seq_lengths=lengths, return_carry=True); a carry is (c, h), and torch's out reads h.",
    points=3,
)
def reader_model(rng: np.random.Generator, Reader: Any) -> None:
    """The reader's logits for sentences of unlike length, with torch's weights."""
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    make = function(Reader, "Reader(words, width, hidden, classes, rngs=rngs)")
    width, hidden = (int(n) for n in rng.permutation([3, 4, 5])[:2])
    source = _source(rng, width, hidden)
    with torch.no_grad():
        for weight in source.rnn.parameters():
            weight.mul_(2)  # so that what the padding adds is seen
        source.embed.weight[0] = torch.randn(width)  # torch reads no padding, whatever its row
    steps = 7
    lengths = np.array([steps, *rng.integers(2, 5, 2)])
    tokens = np.where(np.arange(steps) < lengths[:, None], rng.integers(1, WORDS, (3, steps)), 0).astype(np.int32)
    model = filled(make(WORDS, width, hidden, CLASSES, rngs=nnx.Rngs(0)), source, "Reader(...)")
    with torch.no_grad():
        x, ends = source.embed(torch.from_numpy(tokens)), torch.from_numpy(lengths)
        packed = pack_padded_sequence(x, ends, batch_first=True, enforce_sorted=False)
        outputs, (h, c) = source.rnn(packed)
        y = pad_packed_sequence(outputs, batch_first=True)[0]  # (3, T, 2 hidden)
        loose_y, (loose_h, _) = source.rnn(x)
        rows = torch.arange(3)

        def logits(forward: Any, backward: Any) -> np.ndarray:
            return source.out(torch.cat([forward, backward], dim=1)).numpy()

        last, half = y[rows, ends - 1], hidden
        loose_last = loose_y[rows, ends - 1]
        expected = logits(h[0], h[1])
        slips = {
            "the padding is read, in both directions: seq_lengths=lengths": logits(loose_h[0], loose_h[1]),
            "the backward direction starts in the padding: seq_lengths=lengths for both": logits(h[0], loose_h[1]),
            "the forward state is that of the last column, after the padding": logits(loose_h[0], h[1]),
            "the outputs of the last column: padding, and one step of the backward direction": logits(
                loose_y[:, -1, :half], loose_y[:, -1, half:]
            ),
            "the outputs at the last word: there the backward direction has read one word only": logits(
                last[:, :half], last[:, half:]
            ),
            "outputs at the last word, and the backward direction has read the padding first": logits(
                loose_last[:, :half], loose_last[:, half:]
            ),
            "the outputs of the first column: there the forward direction has read one word only": logits(
                y[:, 0, :half], y[:, 0, half:]
            ),
            "c instead of h: flax's carry is (c, h)": logits(c[0], c[1]),
            "the two directions are swapped": logits(h[1], h[0]),
        }
    got = function(model, "reader(tokens, lengths)")(jnp.asarray(tokens), jnp.asarray(lengths))
    same(numbers_of(got, "reader(tokens, lengths)"), expected, "the logits", rtol=1e-4, atol=1e-5, slips=slips)


@check(
    LESSON,
    "Arrays of zeros for all the rows there will be, filled row by row, then cut into batches: np.split.",
    "The number of batches is rounded up: -(-n // size). real = np.arange(count * size) < n.",
    points=2,
)
def reader_batches(rng: np.random.Generator, batches: Any) -> None:
    """Batches of one shape, with the rows of torch's."""
    from course.checks.programs.capstone_07_sequence import reviews, torch_batches

    answer = function(batches, "batches(sentences, labels, size, length)")
    names = ("tokens", "lengths", "labels", "real")
    for rest in (int(rng.integers(1, 3)), 0):
        size = int(rng.integers(3, 6))
        sentences, labels = reviews(int(rng.integers(10**6)), 2 * size + rest)
        got = answer([sentence.copy() for sentence in sentences], labels.copy(), size, LENGTH)
        got = list(got) if isinstance(got, tuple) or hasattr(got, "__next__") else got
        if not isinstance(got, list):
            wrong("expected a list of batches.", got=got)
        count = 2 + (rest > 0)
        text = f"{len(sentences)} sentences in batches of {size}"
        if len(got) != count:
            slip = "the last, short batch is dropped" if len(got) == count - 1 else ""
            wrong(f"{text}: {len(got)} batches, not {count}.", slip=slip)
        for number, (batch, theirs) in enumerate(zip(got, torch_batches(sentences, labels, size), strict=True)):
            where = f"{text}, batch {number}"
            if not isinstance(batch, tuple | list) or len(batch) != 4:
                wrong(f"{where}: expected a tuple (tokens, lengths, labels, real).", got=batch)
            tokens, lengths, targets = (tensor.numpy() for tensor in theirs)
            n, shapes = len(tokens), {"tokens": (size, LENGTH)}
            for name, array in zip(names, batch, strict=True):
                shape = shapes.get(name, (size,))
                if not hasattr(array, "dtype") or not hasattr(array, "shape"):
                    wrong(f"{where}: {name} is no array.", got=array)
                if tuple(array.shape) != shape:
                    slip = "one shape for all batches: pad to `length`, and fill up to `size` rows"
                    wrong(f"{where}: {name} has the shape {tuple(array.shape)}, not {shape}.", slip=slip)
                kinds = "b" if name == "real" else "iu"
                if np.dtype(array.dtype).kind not in kinds:
                    wrong(f"{where}: {name} is of {array.dtype}.", slip="bools" if name == "real" else "whole numbers")
            ours = [np.asarray(array) for array in batch]
            real = np.arange(size) < n
            same(ours[3], real, f"{where}: real", slips={"True is a real row": ~real})
            padded = np.zeros((size, LENGTH), int)
            padded[:n, : tokens.shape[1]] = tokens
            front = np.zeros_like(padded)
            for row, end in enumerate(lengths):
                front[row, LENGTH - end :] = tokens[row, :end]
            slips = {
                "padded in front; torch pads behind": front,
                "padded with -1; an embedding would read its last row": np.where(
                    np.arange(LENGTH) < np.append(lengths, [1] * (size - n))[:, None], padded, -1
                ),
            }
            if n < size:
                slips["the rows that fill the batch up hold words; let them be zeros"] = np.where(
                    real[:, None], padded, ours[0]
                )
            same(ours[0], padded, f"{where}: tokens", slips=slips)
            full = np.append(lengths, np.ones(size - n, int))
            same(
                ours[1], full, f"{where}: lengths",
                slips={
                    "a length of 0: there is no last word, but a step -1": np.where(real, full, 0),
                    "the padded length; the model needs each sentence's own": np.full(size, LENGTH),
                },
            )  # fmt: skip
            same(ours[2], np.append(targets, np.zeros(size - n, int)), f"{where}: labels")


Torch = dict[str, np.ndarray]


def _torch_run(
    source: Any, batches: Any, *, clip: str = "norm", momentum: float = 0.9, nesterov: bool = False,
    weigh: Callable[[Any, int], Any] | None = None, fresh: int = 0,
) -> tuple[list[float], Torch]:  # fmt: skip
    """torch_fit's steps, with or without a slip, on a copy: losses and weights."""
    import copy

    import torch
    import torch.nn.functional as F

    model, losses = copy.deepcopy(source), []

    def rule() -> Any:
        return torch.optim.SGD(model.parameters(), lr=0.2, momentum=momentum, nesterov=nesterov)

    sgd = rule()
    for number, (tokens, lengths, targets, size) in enumerate(batches):
        if fresh and number % fresh == 0:
            sgd = rule()
        sgd.zero_grad()
        each = F.cross_entropy(model(tokens, lengths), targets, reduction="none")
        loss = weigh(each, size) if weigh else each.mean()
        loss.backward()
        parameters = list(model.parameters())
        if clip == "norm":
            torch.nn.utils.clip_grad_norm_(parameters, 0.5)
        elif clip == "value":
            torch.nn.utils.clip_grad_value_(parameters, 0.5)
        elif clip == "each":
            for p in parameters:
                torch.nn.utils.clip_grad_norm_([p], 0.5)
        sgd.step()
        losses.append(loss.item())
    return losses, {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}


@check(
    LESSON,
    "The loss is the mean over the real rows: a sum of jnp.where(real, losses, 0), divided by real.sum().",
    "torch clips, then SGD adds momentum: optax.chain(optax.clip_by_global_norm(...), optax.sgd(..., momentum=...)).",
    "nnx.Optimizer(model, rule, wrt=nnx.Param), and optimizer.update(model, grads), the model first.",
    points=4,
)
def reader_step(rng: np.random.Generator, make_optimizer: Any, train_step: Any) -> None:
    """Loss and weights after one step and after three, beside torch."""
    import torch

    from course.checks.programs.capstone_07_sequence import reviews, torch_batches

    make = function(make_optimizer, "make_optimizer(model)")
    step = function(train_step, "train_step(model, optimizer, batch)")
    size, width, hidden = 6, 4, 5
    largest = 0.0
    while largest < 0.6:  # gradients longer than the limit, and some numbers of them too
        source = _source(rng, width, hidden)
        for parameter in source.parameters():
            parameter.data.mul_(4)
        sentences, labels = reviews(int(rng.integers(10**6)), 3 * 4)
        batches = list(torch_batches(sentences, labels, 4))
        with torch.no_grad():  # three of four have the label that the model finds least likely
            least = torch.cat([source(tokens, lengths) for tokens, lengths, _ in batches]).mean(dim=0).argmin()
        labels[np.arange(12) % 4 < 3] = int(least)
        tokens, lengths, targets = next(torch_batches(sentences, labels, 4))
        loss = torch.nn.functional.cross_entropy(source(tokens, lengths), targets)
        grads = torch.autograd.grad(loss, list(source.parameters()))
        largest = max(float(grad.abs().max()) for grad in grads)
    theirs = [(*batch, size) for batch in torch_batches(sentences, labels, 4)]  # 4 real rows of 6
    ours = [_filled_up(sentences[k : k + 4], labels[k : k + 4], size) for k in (0, 4, 8)]
    model = porting.torch_to_nnx(source, nnx.clone(_drawn(width, hidden)))
    like = {name: tensor.detach().numpy().copy() for name, tensor in source.state_dict().items()}
    optimizer = make(model)
    if not isinstance(optimizer, nnx.Optimizer):
        wrong("make_optimizer(model) returns no nnx.Optimizer.", got=optimizer)

    with torch.no_grad():
        tokens, lengths, targets, _ = (torch.from_numpy(array) for array in ours[0])
        each = source(tokens, lengths)
        fillers = torch.nn.functional.cross_entropy(each, targets.long(), reduction="none").numpy()
    losses, first = _torch_run(source, theirs[:1])
    loss = step(model, optimizer, ours[0])
    if loss is None:
        wrong("train_step returns None.", slip="a function without `return`: the loss is asked for")
    same(
        loss, losses[0], "the loss of the first step, 4 real rows of 6,", rtol=1e-4,
        slips={
            "the mean over all rows: those that fill the batch up count as well": float(fillers.mean()),
            "the sum over the real rows is divided by all rows": losses[0] * 4 / size,
            "the sum, not the mean": losses[0] * 4,
            "the sum over all rows": float(fillers.sum()),
            "the loss of each row; one number is asked for": fillers,
        },
    )  # fmt: skip

    def now() -> Torch:
        return porting.nnx_to_arrays(nnx.state(model, nnx.Param), like)

    def weights(count: int, **slip: Any) -> Callable[[], Torch]:
        return lambda: _torch_run(source, theirs[:count], **slip)[1]

    def slips(count: int) -> dict[str, Any]:
        return {
            "the weights are as they were: optimizer.update(model, grads), the model first": like,
            "nothing is clipped": weights(count, clip="none"),
            "every number is clipped by itself; clip_grad_norm_ clips the norm of all": weights(count, clip="value"),
            "every array is clipped by its own norm; clip_grad_norm_ takes the norm of all": weights(
                count, clip="each"
            ),
            "Nesterov's momentum; torch's default is the plain one": weights(count, nesterov=True),
            "no momentum": weights(count, momentum=0.0),
        }

    average = {name: like[name] + 0.1 * (first[name] - like[name]) for name in like}
    text = "momentum as an average, (1 - momentum) times the gradient; torch adds the whole gradient"
    same(now(), first, "the weights after one step", rtol=1e-5, atol=1e-5, slips=slips(1) | {text: average})
    for batch in ours[1:]:
        step(model, optimizer, batch)
    _, third = _torch_run(source, theirs)
    same(now(), third, "the weights after three steps", rtol=1e-5, atol=2e-5, slips=slips(3))


@check(
    LESSON,
    "Count the rows that are right and real, and divide by the number of real rows, once, in the end.",
    "((logits.argmax(axis=1) == labels) & real).sum()",
    points=1,
)
def reader_accuracy(rng: np.random.Generator, accuracy_of: Any) -> None:
    """The share of right labels among the real rows of all batches."""
    answer = function(accuracy_of, "accuracy_of(model, batches)")

    class Model(nnx.Module):
        def __init__(self, table: np.ndarray):
            self.table = nnx.Param(jnp.asarray(table))

        def __call__(self, tokens: Any, lengths: Any) -> Any:
            return self.table[...][jnp.asarray(tokens)[:, 0]]

    for _ in range(2):
        while True:
            size, n = 8, int(rng.integers(2, 4))
            table = rng.normal(size=(WORDS, CLASSES)).astype("f")
            sentences = [rng.integers(1, WORDS, length) for length in rng.integers(3, 13, 2 * size + n)]
            labels = rng.integers(0, CLASSES, len(sentences))
            parts = [slice(start, start + size) for start in (0, size, 2 * size)]
            batches = [_filled_up(sentences[part], labels[part], size) for part in parts]
            hits = [table[tokens[:, 0]].argmax(axis=1) == targets for tokens, _, targets, _ in batches]
            real = [batch[3] for batch in batches]
            right = [float((hit & one).sum()) for hit, one in zip(hits, real, strict=True)]
            expected = sum(right) / len(sentences)
            slips = {
                "rows that are not real are counted": float(np.mean(hits)),
                "right and real, divided by all rows": sum(right) / (3 * size),
                "the mean of the batches' accuracies: the last one has fewer rows": float(
                    np.mean([r / one.sum() for r, one in zip(right, real, strict=True)])
                ),
                "hits in rows that are not real are counted as hits": float(np.sum(hits)) / len(sentences),
                "the number of hits, not their share": sum(right),
                "the last batch alone": right[-1] / n,
            }
            values = [expected, *slips.values()]
            if min(abs(a - b) for k, a in enumerate(values) for b in values[:k]) > 1e-3:
                break
        same(answer(Model(table), batches), expected, "the accuracy", slips=slips, rtol=1e-5)


@check(
    LESSON,
    "One optimizer for the whole run, made before the loops: its momentum must not be lost.",
    "For each epoch, for each batch of your own `batches`: losses.append(float(train_step(model, optimizer, batch))).",
    points=3,
)
def reader_run(rng: np.random.Generator, Reader: Any, fit: Any) -> None:
    """Losses of all steps and weights in the end, beside torch_fit."""
    import copy

    from course.checks.programs.capstone_07_sequence import reviews, torch_batches, torch_fit

    make = function(Reader, "Reader(words, width, hidden, classes, rngs=rngs)")
    run = function(fit, "fit(model, sentences, labels, size, length, epochs)")
    size, epochs, width, hidden = 8, 3, 4, 5
    source = _source(rng, width, hidden)
    for parameter in source.parameters():
        parameter.data.mul_(3)  # so that gradients are longer than the limit
    sentences, labels = reviews(int(rng.integers(10**6)), 3 * size + int(rng.integers(2, 5)))
    model = filled(make(WORDS, width, hidden, CLASSES, rngs=nnx.Rngs(0)), source, "Reader(...)")
    model.train()
    counts = [
        sum(p.numel() for p in source.parameters()),
        sum(p.size for p in jax.tree.leaves(nnx.state(model, nnx.Param))),
    ]
    if counts[0] != counts[1]:
        wrong(
            "the reader has not as many weights as torch's.", expected=counts[0], got=counts[1],
            slip="one bias a cell, flax's OptimizedLSTMCell; torch trains two, as layers.LSTMCell does",
        )  # fmt: skip
    trained = copy.deepcopy(source)
    expected = torch_fit(trained, sentences, labels, size, epochs)
    got = run(model, [sentence.copy() for sentence in sentences], labels.copy(), size, LENGTH, epochs)
    if isinstance(got, tuple) and got and isinstance(got[0], list):
        wrong("expected a list of numbers, the losses.", got=got)
    if isinstance(got, list | tuple) or hasattr(got, "shape"):
        got = np.asarray([numbers_of(np.asarray(loss), "a loss") for loss in got])
    one = [(*batch, size) for batch in torch_batches(sentences, labels, size)]
    whole, short = one * epochs, one[:-1] * epochs

    def losses(batches: Any = whole, **slip: Any) -> Callable[[], np.ndarray]:
        return lambda: np.asarray(_torch_run(source, batches, **slip)[0])

    per_epoch = np.asarray(expected).reshape(epochs, -1).mean(axis=1)
    slips = {
        "a new optimizer for each epoch: the momentum is lost": losses(fresh=len(one)),
        "a new optimizer for each step: the momentum is lost": losses(fresh=1),
        "the last, short batch is dropped": losses(short),
        "only one epoch was run": losses(one),
        "the mean loss of each epoch; the loss of every step is asked for": per_epoch,
        "in the short batch, the sum is divided by all rows": losses(weigh=lambda each, size: each.sum() / size),
        "nothing is clipped": losses(clip="none"),
        "no momentum": losses(momentum=0.0),
    }
    same(got, np.asarray(expected), f"the losses of {len(expected)} steps", rtol=5e-5, atol=0, slips=slips)
    like = {name: tensor.detach().numpy() for name, tensor in trained.state_dict().items()}
    same(
        porting.nnx_to_arrays(nnx.state(model, nnx.Param), like), like, "the weights in the end", rtol=2e-4, atol=2e-4,
        slips={
            "the model is as it was: train the one that is handed in, not a copy": {
                name: tensor.detach().numpy() for name, tensor in source.state_dict().items()
            }
        },
    )  # fmt: skip
