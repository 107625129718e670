"""One training step, in pieces of any size and in torch: the same step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from course import convnet

RNG = np.random.default_rng(0)
IMAGES, CLASSES = RNG.normal(size=(4, 32, 32, 3)).astype(np.float32), RNG.integers(0, 10, 4)
WEIGHTS = convnet.init(0)
BATCH = jax.tree.map(jnp.asarray, WEIGHTS), jnp.asarray(IMAGES), jnp.asarray(CLASSES)
TORCH_BATCH = torch.from_numpy(IMAGES.transpose(0, 3, 1, 2).copy()), torch.from_numpy(CLASSES)


def test_weights_are_scaled_by_fan_in():
    kernels, biases = zip(*WEIGHTS, strict=True)
    assert [w.shape for w in kernels] == [(3, 3, 3, 32), (3, 3, 32, 64), (3, 3, 64, 64), (1024, 10)]
    assert {w.dtype for w in kernels + biases} == {np.dtype(np.float32)}
    for w, b in WEIGHTS:
        assert b.shape == w.shape[-1:] and not b.any()
        assert w.std() == pytest.approx((2 / np.prod(w.shape[:-1])) ** 0.5, rel=0.06)  # two standard errors at 864


def test_a_convolution_has_one_row_of_zeros_around():
    """It shows at odd sizes: at even ones a stride of 2 leaves the last row out."""
    ones = jnp.ones((3, 3, 1, 1)), jnp.zeros(1)
    np.testing.assert_array_equal(convnet.conv_layer(ones, jnp.ones((1, 3, 3, 1)))[0, :, :, 0], np.full((2, 2), 4.0))


def test_one_layer_too_many_is_refused():
    params, x, y = BATCH
    for call in (
        lambda: jax.eval_shape(convnet.loss_fn, [*params, params[-1]], x, y),
        lambda: convnet.layerwise_step([*params, params[-1]], x, y),
        lambda: convnet.torch_net([*WEIGHTS, WEIGHTS[-1]]),
    ):
        with pytest.raises(ValueError, match=r"zip\(\)"):
            call()


@pytest.mark.slow
def test_pieces_of_any_size_take_the_same_step():
    params, loss = convnet.sgd_step(*BATCH)
    for step in (jax.jit(lambda *batch: convnet.sgd_step(*batch)), convnet.layerwise_step):
        other, other_loss = step(*BATCH)
        np.testing.assert_allclose(loss, other_loss, atol=1e-5)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), params, other)


@pytest.mark.slow
def test_torch_takes_the_same_step():
    net = convnet.torch_net(WEIGHTS)
    loss = convnet.torch_sgd_step(net, list(net.parameters()), *TORCH_BATCH)
    params, ours = convnet.sgd_step(*BATCH)
    np.testing.assert_allclose(loss, ours, atol=1e-5)
    for layer, (kernel, bias) in zip([*net.convs, net.dense], params, strict=True):
        axes = (3, 2, 0, 1) if kernel.ndim == 4 else (1, 0)
        np.testing.assert_allclose(layer.weight.detach(), np.asarray(kernel).transpose(axes), atol=1e-6)
        np.testing.assert_allclose(layer.bias.detach(), bias, atol=1e-6)
