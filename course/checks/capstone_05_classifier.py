"""Checks of the capstone that migrates a classifier, part by part. Needs NumPy, JAX and flax.

Lesson: 05b_checkpoints.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from course import layers, porting
from course.checks.core import check, function, same, wrong

LESSON = "capstone_05_classifier"


def _digits(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 8, 8, 1) that can be told apart, and their classes."""
    y = rng.integers(0, 10, n)
    rows = np.arange(8)
    bars = np.exp(-((rows[None, :] - (y[:, None] % 5) - 1.5) ** 2))
    images = np.where((y < 5)[:, None, None], bars[:, :, None], bars[:, None, :]) * np.linspace(0.5, 1, 8)
    return (images + 0.2 * rng.normal(size=(n, 8, 8)))[..., None].astype("f"), y.astype("i")


def _torch_model(rng: np.random.Generator) -> Any:
    import torch

    from course.checks.programs import capstone_05_classifier as program

    torch.manual_seed(int(rng.integers(2**31)))
    model: Any = program.DigitNetTorch()
    with torch.no_grad():
        model.norm.running_mean.normal_(0, 0.3)
        model.norm.running_var.uniform_(0.5, 2)
    return model


def _nchw(images: np.ndarray) -> Any:
    import torch

    return torch.tensor(images.transpose(0, 3, 1, 2))


class _Reference(nnx.Module):
    """A model for the parts that are given one."""

    def __init__(self, rngs: nnx.Rngs):
        self.conv = nnx.Conv(1, 8, (3, 3), padding=1, rngs=rngs)
        self.norm = layers.BatchNorm(8, rngs=rngs)
        self.head = nnx.Linear(8 * 4 * 4, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.max_pool(nnx.relu(self.norm(self.conv(x))), (2, 2), strides=(2, 2))
        return self.head(x.transpose(0, 3, 1, 2).reshape(len(x), -1))


@check(
    LESSON,
    "split the key: one for the flips, one for the shifts.",
    "jax.random.bernoulli(key, 0.5, (n,)), jax.random.randint(key, (n, 2), 0, 3): the upper end is not drawn.",
    "One image: jnp.pad, then lax.dynamic_slice at (i, j, 0); jax.vmap makes it a batch.",
    points=3,
)
def digit_augment(rng: np.random.Generator, draw: Any, augment: Any) -> None:
    """What is drawn, by counts and correlations; what is done with it, against torch's flip and crop."""
    import torch

    from course.checks.programs import capstone_05_classifier as program

    draws, apply = function(draw, "draw(key, n)"), function(augment, "augment(images, flips, shifts)")
    n = int(rng.integers(5, 9))
    images = rng.normal(size=(n, 8, 8, 1)).astype("f")
    flips, shifts = rng.permutation(np.arange(n) % 2 == 0), rng.integers(0, 3, (n, 2))
    shifts[:3] = [0, 2], [2, 1], [1, 0]

    def by_torch(flips: np.ndarray, shifts: np.ndarray, flat: int = 2) -> np.ndarray:
        given = images if flat == 2 else images.transpose(0, 2, 1, 3)
        out = program.augment_torch(_nchw(given), torch.tensor(flips), torch.tensor(shifts)).numpy()
        out = out.transpose(0, 2, 3, 1)
        return out if flat == 2 else out.transpose(0, 2, 1, 3)

    crop, none = by_torch(0 * flips > 1, shifts), 0 * flips > 1
    after = np.where(flips[:, None, None, None], crop[:, :, ::-1], crop)
    same(
        apply(jnp.asarray(images), jnp.asarray(flips), jnp.asarray(shifts)), by_torch(flips, shifts),
        f"{n} augmented images",
        slips={
            "rows and columns of the shift are swapped": by_torch(flips, shifts[:, ::-1].copy()),
            "the flip turns rows around, not columns": by_torch(flips, shifts[:, ::-1].copy(), flat=1),
            "the images are not flipped": crop,
            "all images are flipped": by_torch(~none, shifts),
            "flipped where flips is False": by_torch(~flips, shifts),
            "shifted first, flipped afterwards; torch flips first": after,
            "the images are not shifted": by_torch(flips, np.ones_like(shifts)),
            "all images are shifted as the first": by_torch(flips, np.broadcast_to(shifts[:1], shifts.shape).copy()),
            "the shift goes the other way": by_torch(flips, 2 - shifts),
        },
    )  # fmt: skip
    many, key = 4000, jax.random.key(int(rng.integers(2**31)))
    got = draws(key, many)
    if not isinstance(got, tuple | list) or len(got) != 2:
        wrong("expected (flips, shifts).", got=got)
    flip, shift = (np.asarray(part) for part in got)
    if flip.shape != (many,) or shift.shape != (many, 2):
        wrong("expected flips (n,) and shifts (n, 2).", got=got, slip="one draw for the whole batch: pass a shape")
    if flip.dtype != bool or shift.dtype.kind not in "iu":
        wrong("expected flips of bool and shifts of whole numbers.", got=got)
    if set(np.unique(shift)) != {0, 1, 2}:
        slip = "jax.random.randint leaves the upper end out"
        wrong(f"shifts are {np.unique(shift).tolist()}, not 0, 1 and 2.", slip=slip)
    counts = np.array([[(column == value).mean() for value in range(3)] for column in shift.T])
    if np.abs(counts - 1 / 3).max() > 0.06 or abs(flip.mean() - 0.5) > 0.06:  # 6 sigma: 0.045
        wrong("flips should be as many as not, and the three shifts equally frequent.", got=counts)
    columns = np.stack([flip, *shift.T]).astype(float)
    if np.abs(np.corrcoef(columns) - np.eye(3)).max() > 0.12:  # 6 sigma: 0.095
        wrong("flips, row shifts and column shifts are not independent.", slip="the key is reused; split it")
    again, other = draws(key, many), draws(jax.random.fold_in(key, 1), many)
    if not np.array_equal(np.asarray(again[1]), shift):
        wrong("the same key gave other shifts.", slip="numbers that do not come from the key")
    if np.array_equal(np.asarray(other[1]), shift):
        wrong("another key gave the same shifts.", slip="a key that is made inside; use the one that is given")


@check(
    LESSON,
    "torch's momentum 0.1 is flax's 0.9, and its running variance is the unbiased one: course.layers.BatchNorm.",
    "torch flattens channels first: transpose (n, 4, 4, 8) to (n, 8, 4, 4) before the reshape.",
    "Conv: (3, 3), padding=1; max_pool with strides=(2, 2).",
    points=4,
)
def digit_model(rng: np.random.Generator, DigitNet: Any) -> None:
    """Logits in training and in evaluation mode, and the running averages, with weights ported from torch."""
    import torch

    if not (isinstance(DigitNet, type) and issubclass(DigitNet, nnx.Module)):
        wrong("expected a class, a kind of nnx.Module.", got=DigitNet)
    theirs = _torch_model(rng)
    make = function(DigitNet, "DigitNet(rngs=nnx.Rngs(0))")
    model = make(rngs=nnx.Rngs(0))
    try:
        porting.torch_to_nnx(theirs, model)
    except porting.PortingError as error:
        wrong(f"torch's weights do not fit: {error}", slip="the layers are conv, norm and head, as in torch")
    call = function(model, "model(images)")
    images = rng.normal(size=(3, 8, 8, 1)).astype("f")
    before = {name: part.clone().numpy() for name, part in theirs.norm.named_buffers()}

    def flat_last(training: bool) -> np.ndarray:
        with torch.no_grad():
            x = torch.relu(torch.nn.functional.batch_norm(
                theirs.conv(_nchw(images)), torch.tensor(before["running_mean"]), torch.tensor(before["running_var"]),
                theirs.norm.weight, theirs.norm.bias, training))  # fmt: skip
            x = torch.nn.functional.max_pool2d(x, 2).permute(0, 2, 3, 1)
            return theirs.head(x.flatten(1)).numpy()

    modes = {}
    for training in (False, True):
        theirs.train(training)
        with torch.no_grad():
            modes[training] = theirs(_nchw(images)).numpy()
    for training in (False, True):
        (model.train if training else model.eval)()
        what = "the logits in training mode" if training else "the logits in evaluation mode"
        same(
            call(jnp.asarray(images)), modes[training], what, rtol=1e-4, atol=1e-5,
            slips={
                "flattened with the channels last; torch's come first: transpose, then reshape": flat_last(training),
                "the other mode: BatchNorm's mode is fixed": modes[not training],
            },
        )  # fmt: skip
    count = images.size  # of one channel
    mean, var = (np.asarray(part[...]) for part in (model.norm.mean, model.norm.var))
    after = {name: part.numpy() for name, part in theirs.norm.named_buffers()}
    batch = {name: before[name] + 10 * (after[name] - before[name]) for name in ("running_mean", "running_var")}

    def moved(rate: float, unbiased: bool = True) -> dict[str, np.ndarray]:
        scale = 1 if unbiased else (count - 1) / count
        both = {"running_mean": 1.0, "running_var": scale}
        return {name: (1 - rate) * before[name] + rate * part * both[name] for name, part in batch.items()}

    same(
        {"running_mean": mean, "running_var": var}, moved(0.1), "the running averages after one batch", rtol=2e-6,
        atol=1e-6,
        slips={
            "momentum 0.99, flax's default; torch's 0.1 is flax's 0.9": moved(0.01, False),
            "momentum 0.1: flax's is what is kept, 0.9": moved(0.9, False),
            "momentum 0.1, as torch writes it: flax's is what is kept, 0.9": moved(0.9),
            "the running variance is the biased one; course.layers.BatchNorm has torch's": moved(0.1, False),
            "the running averages do not move": {name: before[name] for name in batch},
        },
    )  # fmt: skip


@check(
    LESSON,
    "torch's SGD adds weight_decay to the gradient, before the momentum.",
    "label_smoothing=0.1: optax.smooth_labels of one-hot labels, then softmax_cross_entropy and a mean.",
    "optax.chain(optax.add_decayed_weights(1e-3), optax.sgd(0.1, momentum=0.9)); nnx.jit around one step.",
    points=5,
)
def digit_run(rng: np.random.Generator, train: Any) -> None:
    """All losses of a run, and the model's logits after it, against train_torch."""
    import torch

    from course.checks.programs import capstone_05_classifier as program

    answer = function(train, "train(model, x, y, batches, flips, shifts)")
    x, y = _digits(rng, 60)
    steps = 8
    batches = np.stack([rng.permutation(60)[:20] for _ in range(steps)])
    flips, shifts = rng.uniform(size=(steps, 20)) < 0.5, rng.integers(0, 3, (steps, 20, 2))
    theirs = _torch_model(rng)
    model = porting.torch_to_nnx(theirs, _Reference(nnx.Rngs(0)))
    start = {name: part.clone() for name, part in theirs.state_dict().items()}
    given = _nchw(x), torch.tensor(y).long(), torch.tensor(batches), torch.tensor(flips), torch.tensor(shifts)
    losses = np.array(program.train_torch(theirs, *given))
    model.train()
    got = answer(model, *map(jnp.asarray, (x, y, batches, flips, shifts)))

    def slipped(decay: float = 1e-3, momentum: float = 0.9, smooth: float = 0.1, nesterov: bool = False,
                augmented: bool = True, training: bool = True, scale: int = 1) -> np.ndarray:  # fmt: skip
        twin = program.DigitNetTorch()
        twin.load_state_dict(start)
        twin.train(training)
        optimizer = torch.optim.SGD(twin.parameters(), lr=0.1, momentum=momentum, weight_decay=decay, nesterov=nesterov)
        found = []
        for rows, flip, shift in zip(*given[2:], strict=True):
            optimizer.zero_grad()
            images = program.augment_torch(given[0][rows], flip, shift) if augmented else given[0][rows]
            loss = scale * torch.nn.functional.cross_entropy(twin(images), given[1][rows], label_smoothing=smooth)
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        return np.array(found)

    same(
        got, losses, f"the losses of {steps} steps", rtol=2e-5,
        slips={
            "label_smoothing is missing": lambda: slipped(smooth=0.0),
            "weight_decay is missing": lambda: slipped(decay=0.0),
            "momentum is missing, or the optimizer's state is lost in each step": lambda: slipped(momentum=0.0),
            "Nesterov's momentum; torch's default is the plain one": lambda: slipped(nesterov=True),
            "the images are not augmented": lambda: slipped(augmented=False),
            "the model is in evaluation mode": lambda: slipped(training=False),
            "the sum over the batch, not the mean": lambda: slipped(scale=20),
        },
    )  # fmt: skip
    theirs.eval()
    model.eval()
    with torch.no_grad():
        expected = theirs(given[0]).numpy()
    same(
        model(jnp.asarray(x)), expected, "the logits after the run, in evaluation mode", rtol=1e-3, atol=1e-3,
        slips={"the model is not changed: train it in place": lambda: _untrained(start, given[0])},
    )  # fmt: skip


def _untrained(start: Any, images: Any) -> np.ndarray:
    import torch

    from course.checks.programs import capstone_05_classifier as program

    twin = program.DigitNetTorch().eval()
    twin.load_state_dict(start)
    with torch.no_grad():
        return twin(images).numpy()


@check(
    LESSON,
    "model.eval() before, model.train() after: whoever trains on finds the model as it was.",
    "argmax over classes, compared with y, and the mean.",
    points=2,
)
def digit_accuracy(rng: np.random.Generator, accuracy: Any) -> None:
    """The accuracy in evaluation mode; the model is training before and after, its statistics have not moved."""
    import torch

    answer = function(accuracy, "accuracy(model, x, y)")

    theirs = _torch_model(rng)
    model: Any = porting.torch_to_nnx(theirs, _Reference(nnx.Rngs(0)))
    x = rng.normal(size=(97, 8, 8, 1)).astype("f")
    with torch.no_grad():
        evaluated = theirs.eval()(_nchw(x)).argmax(1).numpy()
        trained = theirs.train()(_nchw(x)).argmax(1).numpy()
    y = np.where(rng.uniform(size=97) < 0.7, evaluated, (evaluated + 1) % 10).astype("i")
    y = np.where((trained == y) & (rng.uniform(size=97) < 0.3), (evaluated + 2) % 10, y)  # tells the modes apart
    model.train()
    mean, mode = np.array(model.norm.mean[...]), model.norm.use_running_average
    got = answer(model, jnp.asarray(x), jnp.asarray(y))
    right = float((evaluated == y).mean())
    same(
        got, right, "the accuracy", rtol=1e-5,
        slips={
            "training mode: BatchNorm took this batch's statistics": float((trained == y).mean()),
            "the number of right ones, not their share": float((evaluated == y).sum()),
            "in percent": 100 * right,
            "the share of wrong ones": 1 - right,
        },
    )  # fmt: skip
    if not np.array_equal(mean, np.asarray(model.norm.mean[...])):
        wrong("the running averages have moved.", slip="a pass in training mode; model.eval() first")
    if model.norm.use_running_average != mode:
        wrong("the model was training, and is in evaluation mode now.", slip="stale mode: model.train() afterwards")
