"""Weights named and laid out as in torch make a flax model where torch is not installed; the oracle is NumPy."""

import sys

import jax
import numpy as np
import pytest
from flax import linen, nnx

from course import crepe, porting

RNG = np.random.default_rng(0)
ARRAYS = {
    "hidden.weight": RNG.normal(size=(4, 3)), "hidden.bias": RNG.normal(size=4),
    "heads.0.weight": RNG.normal(size=(2, 4)), "heads.1.weight": RNG.normal(size=(2, 4)),
}  # fmt: skip
ARRAYS = {name: array.astype(np.float32) for name, array in ARRAYS.items()}
X = RNG.normal(size=(5, 3)).astype(np.float32)


class NnxNet(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(3, 4, rngs=rngs)
        self.heads = nnx.List([nnx.Linear(4, 2, use_bias=False, rngs=rngs) for _ in range(2)])

    def __call__(self, x):
        return sum(head(nnx.tanh(self.hidden(x))) for head in self.heads)


class LinenNet(linen.Module):
    def setup(self):
        self.hidden = linen.Dense(4)
        self.heads = [linen.Dense(2, use_bias=False) for _ in range(2)]

    def __call__(self, x):
        return sum(head(linen.tanh(self.hidden(x))) for head in self.heads)


def expected():
    z = np.tanh(X @ ARRAYS["hidden.weight"].T + ARRAYS["hidden.bias"])
    return z @ (ARRAYS["heads.0.weight"] + ARRAYS["heads.1.weight"]).T


def test_arrays_make_models_and_come_back(tmp_path):
    np.savez(tmp_path / "weights.npz", **ARRAYS)
    arrays = porting.read_checkpoint(tmp_path / "weights.npz")
    module = porting.arrays_to_nnx(arrays, NnxNet(nnx.Rngs(0)))
    np.testing.assert_allclose(module(X), expected(), atol=1e-5)  # float32 sums in another order
    variables = porting.arrays_to_linen(arrays, porting.linen_template(LinenNet(), X))
    np.testing.assert_allclose(LinenNet().apply(variables, X), expected(), atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, porting.nnx_to_linen(module, variables), variables)
    for back in (porting.nnx_to_arrays(module, arrays), porting.linen_to_arrays(variables, arrays)):
        assert all(np.array_equal(back[name], array) for name, array in ARRAYS.items())


@pytest.mark.slow
def test_a_published_checkpoint_hears_a_tone():
    model = crepe.load()
    seconds = np.arange(16_000) / 16_000
    for hertz in (110, 220, 440):
        heard = crepe.pitch(model(crepe.frames(np.sin(2 * np.pi * hertz * seconds), hop=4000)))
        np.testing.assert_allclose(heard, hertz, rtol=6e-3)  # ten cents; a semitone is a hundred


def test_torchs_own_files_are_refused_with_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(
        ImportError, match=r"expected torch to read weights\.pt with, got none; on a machine that has it"
    ):
        porting.read_checkpoint("weights.pt")
