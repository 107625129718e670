"""Checks of the exercises on frames, a folded norm and a smoothed path. Needs NumPy and JAX.

Lesson: 07b_real_checkpoint.
"""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from course.checks.core import check, float64, function, operations, same, wrong

LESSON = "07b_real_checkpoint"


@check(
    LESSON,
    'jnp.pad has mode="reflect". unfold is one indexing: an array of indices, (count, size).',
    "Index with starts[:, None] + jnp.arange(size), where starts = jnp.arange(0, len(audio) - size + 1, hop).",
    "torch's std is the unbiased one: ddof=1. clamp(min=…) is jnp.maximum.",
    points=2,
)
def torch_frames(rng: np.random.Generator, torch_frames: Any) -> None:
    """Overlapping frames with mean 0 and standard deviation 1, against torch's pad, unfold and std."""
    import torch
    import torch.nn.functional as F

    answer = function(torch_frames, "torch_frames(audio, size, hop)")
    size, hop = 2 * int(rng.integers(2, 5)), int(rng.integers(2, 4))
    audio = (rng.normal(size=int(rng.integers(50, 60))) + 1).astype("f")
    audio[20 : 20 + 3 * size] = 0  # silence
    padded = F.pad(torch.from_numpy(audio)[None], (size // 2, size // 2), mode="reflect")[0]
    cut = padded.unfold(0, size, hop)
    cut = cut - cut.mean(dim=1, keepdim=True)
    expected = (cut / cut.std(dim=1, keepdim=True).clamp(min=1e-10)).numpy()

    def slip(
        mode: str = "reflect", ddof: int = 1, mean: bool = True, floor: float = 1e-10, hop: int = hop
    ) -> np.ndarray:
        padded = np.pad(audio, size // 2, mode=mode) if mode else audio  # type: ignore[call-overload]
        cut = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
        centred = cut - cut.mean(1, keepdims=True)
        with np.errstate(invalid="ignore", divide="ignore"):
            return (centred if mean else cut) / np.maximum(centred.std(1, keepdims=True, ddof=ddof), floor)

    slips = {
        "the biased standard deviation, NumPy's; torch divides by n - 1, ddof=1": slip(ddof=0),
        "the mean is not taken off": slip(mean=False),
        "a silent frame is divided by 0; torch's clamp keeps it at 0": slip(floor=0.0),
        "frames start `hop` apart, not `size`": slip(hop=size),
        "the transpose: a row is a frame": expected.T,
    }
    modes = {
        "constant": "padded with zeros, jnp.pad's default; torch's mode is reflect",
        "edge": "padded by repeating the edge; torch's mode is reflect",
        "symmetric": "the mode symmetric repeats the edge; torch's reflect does not",
        "": "not padded",
    }
    for mode, text in modes.items():
        slips |= {text: slip(mode), f"{text}. And the standard deviation is the biased one": slip(mode, ddof=0)}
    usage = "jax.jit(torch_frames, static_argnums=(1, 2))(audio, size, hop)"
    got = function(jax.jit(lambda audio: answer(audio, size, hop)), usage)(jnp.asarray(audio))
    same(got, expected, f"frames of {size}, {hop} apart,", rtol=1e-4, atol=1e-4, slips=slips)
    counts = [sum(operations(lambda x: answer(x, size, hop), jnp.zeros(n, jnp.float32)).values()) for n in (60, 240)]
    if counts[0] != counts[1]:
        wrong(
            "the program grows with the recording.", expected=counts[0], got=counts[1],
            slip="a Python loop over the frames records every one; index with an array of all their places",
        )  # fmt: skip


@check(
    LESSON,
    "norm(y) = (y - mean) / sqrt(var + epsilon) * scale + bias; put y = conv(x) + b into it and sort by x.",
    "The output channels are the kernel's last axis in flax, so a factor (out,) broadcasts.",
    "factor = scale / sqrt(var + epsilon); kernel * factor; (b - mean) * factor + bias.",
    points=2,
)
def folded_norm(rng: np.random.Generator, folded_norm: Any) -> None:
    """A convolution and the BatchNorm behind it as one convolution; against torch's fuse_conv_bn_eval."""
    import torch

    answer = function(folded_norm, "folded_norm(conv, norm, epsilon)")
    with float64():
        torch.manual_seed(int(rng.integers(10**6)))
        for has_bias in (True, False):
            channels, epsilon = int(rng.integers(2, 5)), float(rng.uniform(0.1, 0.3))
            source = torch.nn.Conv2d(
                channels, channels, 2, bias=has_bias
            ).double()  # square: no shape tells in from out
            norm = torch.nn.BatchNorm2d(channels, eps=epsilon).double().eval()
            for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                if tensor is not None:
                    tensor.data.uniform_(0.2, 0.9)
            fused = torch.nn.utils.fuse_conv_bn_eval(source.eval(), norm)
            weights = {name: tensor.detach().numpy().transpose(2, 3, 1, 0) for name, tensor in
                       (("conv", source.weight), ("fused", fused.weight))}  # fmt: skip
            conv = {"kernel": jnp.asarray(weights["conv"])}
            old = np.zeros(channels) if source.bias is None else source.bias.detach().numpy()
            if has_bias:
                conv["bias"] = jnp.asarray(old)
            state = {name: tensor.numpy().copy() for name, tensor in norm.state_dict().items() if tensor.ndim}
            scale, shift, mean, var = (state[name] for name in ("weight", "bias", "running_mean", "running_var"))
            arrays = {"scale": scale, "bias": shift, "mean": mean, "var": var}
            expected = {"kernel": weights["fused"], "bias": np.zeros(channels)}
            if fused.bias is not None:
                expected["bias"] = fused.bias.detach().numpy()

            def folded(factor: Any, bias: Any, kernel: Any = weights["conv"]) -> dict[str, Any]:
                return {"kernel": kernel * factor, "bias": bias}

            root = scale / np.sqrt(var + epsilon)
            no_root, outside, none = scale / (var + epsilon), scale / (np.sqrt(var) + epsilon), scale / np.sqrt(var)
            right = (old - mean) * root + shift
            slips = {
                "the square root is missing: var is a variance": folded(no_root, (old - mean) * no_root + shift),
                "epsilon stands inside the root, with the variance": folded(outside, (old - mean) * outside + shift),
                "epsilon is left out": folded(none, (old - mean) * none + shift),
                "the kernel is scaled along its input channels; output channels are the last axis in flax": folded(
                    root[:, None], right
                ),
                "the mean is not scaled: (bias - mean) * factor": folded(root, old * root - mean + shift),
                "the mean's sign": folded(root, (old + mean) * root + shift),
                "the norm's bias is left out": folded(root, (old - mean) * root),
                "the mean is left out": folded(root, old * root + shift),
                "the kernel is as it was": {"kernel": weights["conv"], "bias": right},
            }
            if has_bias:
                slips |= {
                    "the convolution's own bias is not scaled: (bias - mean) * factor": folded(
                        root, old - mean * root + shift
                    ),
                    "the convolution's own bias is lost": folded(root, shift - mean * root),
                }
            got = answer(dict(conv), {name: jnp.asarray(array) for name, array in arrays.items()}, epsilon)
            text = f"the fused layer, of a convolution with{'' if has_bias else 'out'} a bias,"
            same(got, expected, text, rtol=1e-9, atol=1e-9, slips=slips)


@check(
    LESSON,
    "Forwards: the carry is `best`, what is stacked are the ways. scores[0] is the first carry, scores[1:] the inputs.",
    "Backwards: the carry is a state, the input a row of ways; the new state is way[state]. reverse=True.",
    "The backward scan gives all states but the last, in order: append best.argmax().",
    points=5,
)
def smoothed_path(rng: np.random.Generator, smoothed_path: Any) -> None:
    """The best path through frames, by two scans; against all the paths that there are."""
    answer = function(smoothed_path, "smoothed_path(scores, steps)")

    def of_all(scores: np.ndarray, steps: np.ndarray) -> np.ndarray:
        paths = np.array(list(itertools.product(range(len(steps)), repeat=len(scores))))
        return paths[_totals(scores, steps, paths).argmax()]

    with float64():
        for frames, states in ((5, 4), (6, 3)):
            while True:  # until every slip leads elsewhere
                scores, steps = rng.normal(size=(frames, states)), 1.5 * rng.normal(size=(states, states))
                expected = of_all(scores, steps)
                best = [scores[0]]
                for score in scores[1:]:
                    best.append((best[-1][:, None] + steps).max(axis=0) + score)
                slips = {
                    "each frame's own best: the steps are not used": scores.argmax(axis=1),
                    "each frame's best so far, without the way back: it may lie on another path": np.array(
                        [row.argmax() for row in best]
                    ),
                    "steps are from row to column; you have them the other way round": of_all(scores, steps.T),
                    "the scores of the first frame are left out": of_all(
                        scores * (np.arange(frames) > 0)[:, None], steps
                    ),
                }
                every = [expected, *slips.values()]
                if len({tuple(path) for path in every} | {tuple(expected[::-1])}) == len(every) + 1:
                    break
            slips |= {
                "the path runs backwards": expected[::-1],
                "the last state is missing: the ways lead to all states but this one": expected[:-1],
                "the first state is missing": expected[1:],
            }
            got = answer(jnp.asarray(scores), jnp.asarray(steps))
            same(got, expected, f"the path through {frames} frames", rtol=0, atol=0, slips=slips)
        counts = [
            sum(operations(answer, jnp.zeros((frames, 3)), jnp.zeros((3, 3))).values()) for frames in (5, 40)
        ]  # fmt: skip
    if counts[0] != counts[1]:
        wrong(
            "the program grows with the frames.", expected=counts[0], got=counts[1],
            slip="a Python loop over the frames; both loops can be a jax.lax.scan",
        )  # fmt: skip


def _totals(scores: np.ndarray, steps: np.ndarray, paths: np.ndarray) -> np.ndarray:
    """The sum of scores and steps along each path, (paths,)."""
    along = scores[np.arange(len(scores)), paths].sum(axis=1)
    return along + steps[paths[:, :-1], paths[:, 1:]].sum(axis=1)
