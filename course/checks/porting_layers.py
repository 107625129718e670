"""Checks of the exercises on carrying layers over and finding the first that differs. Needs NumPy, JAX and flax.

Lesson: 06_porting_layers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from course import porting
from course.checks.core import Incorrect, check, float64, function, keyed, predicted, same, wrong

LESSON = "06_porting_layers"


def filled(model: Any, source: Any, usage: str) -> Any:
    """The learner's NNX module with a torch module's weights, in eval mode."""
    if not isinstance(model, nnx.Module):
        wrong(f"{usage} is no nnx.Module.", got=model, slip="class ...(nnx.Module), with layers as attributes")
    try:
        porting.torch_to_nnx(source, model)
    except porting.PortingError as error:
        first = error.problems[0]
        name = first.torch or first.flax
        wrong(f"torch's weights do not fit into {usage}.", slip=f"{name}: {first.wrong}; {first.remedy}")
    model.eval()
    return model


def numbers_of(output: Any, usage: str) -> np.ndarray:
    """A model's output as an array, refused where it is none."""
    if not hasattr(output, "shape"):
        wrong(f"{usage} returns no array.", got=output, slip="a function without `return`" if output is None else "")
    return np.asarray(output)


@check(
    LESSON,
    "A difference shows at the first layer whose *output* differs. Functions between the layers are no layers.",
    "How many zeros does a kernel of 3 with stride 2 need for 4 outputs from 8 numbers, and how many from 7?",
    "porting.compare runs both models in eval mode.",
    points=2,
)
def first_differing(rng: np.random.Generator, first_differing: Any) -> None:
    """Which layer is the first to differ, for six changes to a port; measured by porting.compare."""
    names = ("same 8", "same 7", "momentum", "gelu", "order", "flatten")
    keyed(first_differing, names)
    for name in names:  # what is no text is refused before anything is measured
        if not isinstance(first_differing[name], str):
            predicted(first_differing[name], "text", f"{name!r}")
    slips = {
        "same 8": {"none": "count the zeros: four windows of 3 with stride 2 cover 9 places, one more than there are"},
        "same 7": {"conv": "count the zeros: four windows of 3 with stride 2 cover 9 places, two more than there are"},
        "momentum": {"norm": "in eval mode the running averages are used, and do not move"},
        "gelu": {
            "norm": "the norm stands before gelu, and agrees",
            "none": "nnx.gelu is the tanh approximation by default, torch's is exact",
        },
        "order": {"out": "the norm is a layer, and was given other numbers", "conv": "nothing before the norm changed"},
        "flatten": {"none": "the maps have 2 channels: their numbers alternate, channels last"},
    }
    truth = _measured(rng)
    for name in names:
        predicted(first_differing[name], truth[name], f"{name!r}", slips[name])


def _measured(rng: np.random.Generator) -> dict[str, str]:
    import torch
    import torch.nn.functional as F

    class TorchNet(torch.nn.Module):
        def __init__(self, size: int) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(1, 2, 3, stride=2, padding=1)
            self.norm = torch.nn.BatchNorm2d(2)
            self.out = torch.nn.Linear(2 * ((size + 1) // 2) ** 2, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(F.gelu(self.norm(self.conv(x))).flatten(1))

    class Net(nnx.Module):
        def __init__(self, size: int, change: str):
            self.change, rngs = change, nnx.Rngs(0)
            padding: Any = "SAME" if change.startswith("same") else ((1, 1), (1, 1))
            self.conv = nnx.Conv(1, 2, (3, 3), strides=2, padding=padding, rngs=rngs)
            self.norm = nnx.BatchNorm(2, momentum=0.5 if change == "momentum" else 0.9, rngs=rngs)
            self.out = nnx.Linear(2 * ((size + 1) // 2) ** 2, 3, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            def gelu(x: Any) -> Any:
                return nnx.gelu(x, approximate=self.change == "gelu")

            x = self.conv(x)
            x = self.norm(gelu(x)) if self.change == "order" else gelu(self.norm(x))
            x = x if self.change == "flatten" else jnp.moveaxis(x, -1, 1)
            return self.out(x.reshape(len(x), -1))

    torch.manual_seed(int(rng.integers(10**6)))
    truth = {}
    with float64():
        for change, size in [("same 8", 8), ("same 7", 7), ("momentum", 8), ("gelu", 8), ("order", 8), ("flatten", 8)]:
            images, source = rng.normal(size=(2, 1, size, size)), TorchNet(size).double()
            source(torch.from_numpy(images))  # running averages that say something
            net = porting.torch_to_nnx(source, Net(size, change))
            found = porting.compare(source, net, images, np.moveaxis(images, 1, -1), tolerance=1e-10)
            truth[change] = found.first.layer if found.first else "none"
    return truth


@check(
    LESSON,
    "Four arrays, three of them with another order of numbers: fc's kernel, fc's bias, up's kernel.",
    "unflatten fills (C, H, W), `decode` fills (H, W, C): fc's outputs change places, and its bias with them.",
    "fc: weight.T.reshape(-1, C, H, W).transpose(0, 2, 3, 1), flattened again but for the first axis.",
    "up: transpose to (H, W, in, out), then [::-1, ::-1], since the two libraries mirror each other.",
    points=3,
)
def decoder_weights(rng: np.random.Generator, decoder_weights: Any) -> None:
    """A decoder's four arrays in flax's layout, against what torch's layers do to unit vectors and single pixels."""
    import torch

    answer = function(decoder_weights, "decoder_weights(arrays, shape)")
    for _ in range(2):
        latent, channels = (int(n) for n in rng.integers(2, 5, 2))
        c, h, w = shape = tuple(int(n) for n in rng.permutation([2, 3, 4]))
        channels += channels >= c  # not as many as there are
        torch.manual_seed(int(rng.integers(10**6)))
        fc, up = torch.nn.Linear(latent, c * h * w), torch.nn.ConvTranspose2d(c, channels, 3, stride=2)
        layers = torch.nn.ModuleDict({"fc": fc, "up": up})
        arrays = {name: tensor.detach().numpy() for name, tensor in layers.named_parameters()}
        with torch.no_grad():
            images = fc(torch.eye(latent)).unflatten(1, shape) - fc.bias.reshape(shape)
            kernel = images.movedim(1, -1).flatten(1).numpy()  # (latent, H W C): what each unit vector adds
            bias = fc(torch.zeros(1, latent)).unflatten(1, shape).movedim(1, -1).flatten().numpy()
            pixel = torch.eye(c)[
                :, :, None, None
            ]  # (C, C, 1, 1): one pixel in one channel, which shows (H, W, in, out)
            response = (up(pixel) - torch.from_numpy(arrays["up.bias"])[:, None, None]).permute(2, 3, 0, 1).numpy()
        mirrored = response[::-1, ::-1]

        def tree(kernel: Any = kernel, bias: Any = bias, up: Any = mirrored, last: Any = arrays["up.bias"]) -> dict:
            return {"fc": {"kernel": kernel, "bias": bias}, "up": {"kernel": up, "bias": last}}

        plain = arrays["fc.weight"].T
        backwards = plain.reshape(latent, h, w, c).transpose(0, 3, 1, 2).reshape(latent, -1)
        text = "fc's outputs stand in torch's order, (C, H, W); decode reshapes to (H, W, C)"
        same(
            answer(dict(arrays), shape), tree(), f"the decoder's weights for (C, H, W) = {shape}",
            slips={
                text: tree(plain, arrays["fc.bias"]),
                f"{text}; and up's kernel is not mirrored": tree(plain, arrays["fc.bias"], response),
                "fc's bias stands in torch's order still; it must move with the kernel's columns": tree(
                    bias=arrays["fc.bias"]
                ),
                "fc's bias was moved, and the kernel's columns were not": tree(plain),
                "the permutation is the inverse one: torch's rows are (C, H, W), to be made (H, W, C)": tree(
                    backwards, arrays["fc.bias"].reshape(h, w, c).transpose(2, 0, 1).ravel()
                ),
                "up's kernel is not mirrored: torch's transposed convolution flips it, [::-1, ::-1]": tree(up=response),
                "up's kernel is mirrored along one axis only": tree(up=response[::-1]),
                "up's kernel has height and width swapped": tree(up=mirrored.transpose(1, 0, 2, 3)),
                "up's kernel has in and out swapped: torch's transposed weight is (in, out, H, W)": tree(
                    up=mirrored.transpose(0, 1, 3, 2)
                ),
                "up's kernel is torch's as it is, (in, out, H, W); flax wants (H, W, in, out)": tree(
                    up=arrays["up.weight"]
                ),
                "fc's weight is torch's as it is, (out, in); flax wants (in, out)": tree(arrays["fc.weight"]),
            },
        )  # fmt: skip


@check(
    LESSON,
    "Write the layers with torch's settings: padding in pairs, GroupNorm's groups and its epsilon.",
    "nnx.gelu is an approximation unless told, and a pool has stride 1 unless told.",
    "The weights of `out` count the numbers of a (6, 2, 3) array; yours is (2, 3, 6).",
    "Run porting.compare(torch_encoder, encoder, images, images_last) yourself, in float64: it names the layer.",
    points=3,
)
def encoder_port(rng: np.random.Generator, Encoder: Any) -> None:
    """The port of a convolutional encoder: its logits with torch's weights."""
    import torch
    import torch.nn.functional as F

    make = function(Encoder, "Encoder(channels, classes, rngs=rngs)")

    class TorchEncoder(torch.nn.Module):
        def __init__(self, channels: int, classes: int) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(channels, 6, 4, stride=2, padding=2)
            self.norm = torch.nn.GroupNorm(3, 6)
            self.out = torch.nn.Linear(6 * 2 * 3, classes)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = F.gelu(self.norm(self.conv(x)))
            x = F.max_pool2d(x, 2)
            return self.out(x.flatten(1))

    def slip(source: Any, x: torch.Tensor, change: str) -> Callable[[], np.ndarray]:
        """Torch's logits with one mistake made."""

        def logits() -> np.ndarray:
            z = source.conv(x)
            if change == "groups":
                z = F.group_norm(z, 6, source.norm.weight, source.norm.bias)
            elif change == "epsilon":
                z = F.group_norm(z, 3, source.norm.weight, source.norm.bias, eps=1e-6)
            else:
                z = source.norm(z)
            z = F.relu(z) if change == "relu" else F.gelu(z, approximate="tanh" if change == "tanh" else "none")
            z = F.avg_pool2d(z, 2) if change == "average" else F.max_pool2d(z, 2)
            z = z.movedim(1, -1) if change == "flatten" else z
            return source.out(z.flatten(1)).detach().numpy()

        return logits

    torch.manual_seed(int(rng.integers(10**6)))
    with float64():
        channels, classes = rng.integers(2, 5, 2).tolist()
        source = TorchEncoder(channels, classes).double()
        with torch.no_grad():
            source.norm.weight.normal_()
            source.norm.bias.normal_()
        images = 0.1 * rng.normal(size=(3, channels, 8, 12))  # small numbers, so that epsilon counts
        x, last = torch.from_numpy(images), np.moveaxis(images, 1, -1)
        model = filled(make(channels, classes, rngs=nnx.Rngs(0)), source, "Encoder(...)")
        try:
            logits = function(model, "Encoder(...)(x)")(jnp.asarray(last))
        except Incorrect as error:
            pooled = "features" in str(error) or "dot_general" in str(error)
            if not pooled:
                raise
            wrong(
                str(error).partition("\n  likely")[0],
                slip="`out` is given another number of features: padding in pairs, ((2, 2), (2, 2)), and a pool's "
                "strides, which are 1 unless told",
            )
        changes = {
            "groups": "GroupNorm's groups: num_groups is 3, with 2 channels each",
            "epsilon": "GroupNorm's epsilon is 1e-5 in torch and 1e-6 in flax",
            "tanh": "nnx.gelu approximates by tanh unless approximate=False",
            "relu": "relu where torch has gelu",
            "average": "an average pool where torch has the maximum",
            "flatten": "the flatten order: `out`'s weights are for (C, H, W), move the channels to the front first",
        }
        slips = {text: slip(source, x, change) for change, text in changes.items()}
        expected = source(x).detach().numpy()
        try:
            got = numbers_of(logits, "Encoder(...)(x)")
            same(got, expected, "the logits", rtol=1e-9, atol=1e-9, slips=slips)
        except Incorrect as error:
            if "likely" in str(error):
                raise
            found = str(porting.compare(source, model, images, last, tolerance=1e-9)).partition("; largest gap")[0]
            wrong(str(error), slip=f"porting.compare says: {found}")
