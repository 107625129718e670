"""The layers that flax lacks train as torch's: outputs, gradients, running averages, in float64."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from course import layers, porting
from course.porting.modules import to_numpy

F64 = {"param_dtype": jnp.float64}
RNG = np.random.default_rng(0)


pytestmark = pytest.mark.usefixtures("x64")


def gradients(module, x):
    return nnx.grad(lambda module: jnp.square(module(x)).sum())(module)


@pytest.mark.parametrize(("kind", "cell"), [("LSTM", layers.LSTMCell), ("GRU", layers.GRUCell)])
def test_recurrent_cells_have_both_biases(kind, cell):
    source, x = getattr(torch.nn, kind)(3, 2, batch_first=True).double(), RNG.normal(size=(2, 5, 3))
    module = nnx.RNN(cell(3, 2, rngs=nnx.Rngs(0), dtype=jnp.float64, **F64), rngs=nnx.Rngs(0))
    porting.torch_to_nnx(source, module)
    output = source(torch.from_numpy(x))[0]
    np.testing.assert_allclose(module(x), output.detach(), atol=1e-12)
    output.square().sum().backward()
    theirs = {name: to_numpy(p.grad) for name, p in source.named_parameters()}
    for name, ours in porting.nnx_to_arrays(gradients(module, x), theirs, gradients=True).items():
        np.testing.assert_allclose(ours, theirs[name], atol=1e-12, err_msg=name)
    arrays = {name: to_numpy(tensor) for name, tensor in source.state_dict().items()}
    for name, array in porting.nnx_to_arrays(module, arrays).items():
        np.testing.assert_array_equal(array, arrays[name])


@pytest.mark.parametrize(("make", "shape"), [(torch.nn.BatchNorm1d, (6, 4)), (torch.nn.BatchNorm2d, (3, 4, 5, 2))])
def test_the_running_variance_is_unbiased(make, shape):
    source, module = make(4).double(), layers.BatchNorm(4, rngs=nnx.Rngs(0), **F64)
    porting.torch_to_nnx(source, module)
    for _ in range(3):
        x = RNG.normal(2.0, 3.0, size=shape)
        expected = source(torch.from_numpy(x))
        got = nnx.jit(lambda module, x: module(x))(module, np.moveaxis(x, 1, -1))
        np.testing.assert_allclose(got, np.moveaxis(to_numpy(expected), 1, -1), atol=1e-12)
    np.testing.assert_allclose(module.var[...], source.running_var, atol=1e-12)
    np.testing.assert_allclose(module.mean[...], source.running_mean, atol=1e-12)
    assert int(module.num_batches_tracked[...]) == int(source.num_batches_tracked) == 3
    returned = porting.nnx_to_torch(module, make(4).double()).state_dict()
    assert all(torch.allclose(tensor, returned[name], atol=1e-12) for name, tensor in source.state_dict().items())
    module.eval()
    got = module(np.moveaxis(x, 1, -1))
    np.testing.assert_allclose(got, np.moveaxis(to_numpy(source.eval()(torch.from_numpy(x))), 1, -1), atol=1e-12)
    assert int(module.num_batches_tracked[...]) == 3
    module.train()
    with pytest.raises(ValueError, match=r"expected two numbers or more per feature in training mode, got \(1, 4\)"):
        module(jnp.ones((1, 4)))


@pytest.mark.parametrize("row", [0, 2, -1])
def test_a_padding_row_starts_at_zero_and_stays(row):
    source = torch.nn.Embedding(5, 3, padding_idx=row).double()
    module = layers.Embed(5, 3, padding_idx=row, rngs=nnx.Rngs(0), **F64)
    assert (module.embedding[row] == 0).all() and (np.delete(module.embedding[...], row, 0) != 0).all()
    porting.torch_to_nnx(source, module)
    ids = np.array([[0, 1, 2], [4, 4, 0]])
    expected = source(torch.from_numpy(ids))
    np.testing.assert_array_equal(module(ids), expected.detach())
    (expected + 1).square().sum().backward()  # a gradient at zero too
    grads = nnx.grad(lambda module: jnp.square(module(ids) + 1).sum())(module)
    np.testing.assert_allclose(grads["embedding"][...], source.weight.grad, atol=1e-12)
    assert (grads["embedding"][row] == 0).all()
    with pytest.raises(ValueError, match="expected padding_idx below 5, got 5"):
        layers.Embed(5, 3, padding_idx=5, rngs=nnx.Rngs(0))


def test_flaxs_own_layers_are_ported_as_before():
    source = torch.nn.LSTM(3, 2, batch_first=True).double()
    plain = nnx.RNN(nnx.OptimizedLSTMCell(3, 2, rngs=nnx.Rngs(0), **F64), rngs=nnx.Rngs(0))
    rows = {row.flax: row.rule for row in porting.mapping(source, plain)}
    assert rows["cell/dense_h/bias"] == "torch's two biases added" and len(rows) == 3
