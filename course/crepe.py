"""A pitch tracker from a checkpoint: CREPE (Kim, Salamon, Li and Bello, ICASSP 2018), its smallest size, in NNX.

What the file holds and where it comes from stands in data/README.md. Needs NumPy, JAX and flax. Lesson:
07b_real_checkpoint.
"""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from course import porting

_HERE = Path(__file__).resolve()
_PLACES = (_HERE.parents[1] / "data" / "crepe_tiny.safetensors", _HERE.with_name("crepe_tiny.safetensors"))
CHECKPOINT = next((place for place in _PLACES if place.is_file()), _PLACES[0])
"""The weights, in torch's names and layouts: a checkout's file, or a wheel's."""
SHA256 = "0a563dbd113ecfe087e2cc2733537d79a5b0b2f8739fd8efcb6ef15167c81cd4"
"""SHA-256 of the checkpoint."""
NAMES = {f"conv{n + 1}{end}": f"{kind}/{n}" for n in range(6) for end, kind in (("", "convs"), ("_BN", "norms"))}
"""The checkpoint's path of a layer -> the model's."""


class Trunk(nnx.Module):
    """Six convolutions, for models that put a head on top. Taught in 07b_real_checkpoint.

    BatchNorm's averages are those of the checkpoint, in training too.
    """

    def __init__(self, *, rngs: nnx.Rngs):
        widths, sizes, strides = (1, 128, 16, 16, 16, 32, 64), (512, *[64] * 5), (4, *[1] * 5)
        pads = (254, 254), *[(31, 32)] * 5
        rows = zip(widths[:-1], widths[1:], sizes, strides, pads, strict=True)
        convs = [nnx.Conv(i, o, (k, 1), strides=(s, 1), padding=(p, (0, 0)), rngs=rngs) for i, o, k, s, p in rows]
        epsilon = 0.0010000000474974513
        norms = [nnx.BatchNorm(n, epsilon=epsilon, use_running_average=True, rngs=rngs) for n in widths[1:]]
        self.convs, self.norms = nnx.List(convs), nnx.List(norms)

    def features(self, frames: jax.Array) -> jax.Array:
        """Frames (B, 1024) -> features (B, 256)."""
        x = frames[:, :, None, None]  # (B, 1024, 1, 1)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = nnx.max_pool(norm(nnx.relu(conv(x))), (2, 1), strides=(2, 1))
        return x.reshape(len(x), -1)  # (B, 4, 1, 64) -> (B, 256)


class Crepe(Trunk):
    """Frames (B, 1024) -> how likely each of 360 pitches is, (B, 360). Taught in 07b_real_checkpoint."""

    def __init__(self, *, rngs: nnx.Rngs):
        super().__init__(rngs=rngs)
        self.classifier = nnx.Linear(256, 360, rngs=rngs)

    def __call__(self, frames: jax.Array) -> jax.Array:
        """The tracker's output."""
        return nnx.sigmoid(self.classifier(self.features(frames)))


def load(path: Path = CHECKPOINT) -> Crepe:
    """The tracker with the checkpoint's weights; no torch is needed."""
    model: Crepe = nnx.eval_shape(lambda: Crepe(rngs=nnx.Rngs(0)))
    porting.arrays_to_nnx(porting.read_checkpoint(path), model, NAMES)
    return model


def frames(audio: np.ndarray, hop: int = 160) -> np.ndarray:
    """Cut audio of 16 kHz into frames of 1024 samples, each with mean 0 and standard deviation 1.

    Taught in 07b_real_checkpoint.

    Args:
      audio: (n,), n >= 1024.
      hop: samples from one frame's start to the next one's; 160 are 10 ms.
    Returns:
      (1 + (n - 1024) // hop, 1024) float32; silence stays 0.
    """
    cut = np.lib.stride_tricks.sliding_window_view(audio, 1024)[::hop]
    cut = cut - cut.mean(axis=1, keepdims=True)
    return (cut / np.maximum(cut.std(axis=1, keepdims=True), 1e-10)).astype(np.float32)


@jax.jit
def pitch(activations: jax.Array) -> jax.Array:
    """Hertz from the model's output: the average of the nine pitches around the largest, in cents.

    Taught in 07b_real_checkpoint.

    Args:
      activations: (B, 360), of `Crepe`.
    Returns:
      (B,), from 31.7 Hz to 2006 Hz.
    """
    bins = jnp.arange(360)
    near = abs(bins - activations.argmax(axis=1)[:, None]) <= 4  # (B, 360), the largest and four on either side
    weights = jnp.where(near, activations, 0)
    cents = weights @ (20 * bins + 1997.3794084376191) / weights.sum(axis=1)
    return 10 * 2 ** (cents / 1200)
