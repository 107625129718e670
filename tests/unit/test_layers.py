"""The layers that flax lacks train as torch's: outputs, gradients, running averages, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import linen as nn
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


def test_linens_lstm_cell_has_both_biases():
    source, x = torch.nn.LSTM(3, 2, batch_first=True).double(), RNG.normal(size=(2, 5, 3))
    model = nn.RNN(layers.linen.LSTMCell(2, **F64))
    variables = porting.torch_to_linen(source, porting.linen_template(model, x))
    output = source(torch.from_numpy(x))[0]
    np.testing.assert_allclose(model.apply(variables, x), output.detach(), atol=1e-12)
    output.square().sum().backward()
    ours = jax.grad(lambda params: jnp.square(model.apply({"params": params}, x)).sum())(variables["params"])
    theirs = {name: to_numpy(p.grad) for name, p in source.named_parameters()}
    for name, gradient in porting.linen_to_arrays(ours, theirs, gradients=True).items():
        np.testing.assert_allclose(gradient, theirs[name], atol=1e-12, err_msg=name)
    theirs = {name: to_numpy(tensor) for name, tensor in source.state_dict().items()}
    for name, array in porting.linen_to_arrays(variables, theirs).items():
        np.testing.assert_array_equal(array, theirs[name])
    fresh = model.init(jax.random.key(0), x)["params"]["cell"]
    recurrent = fresh["dense_h"]["kernel"]
    np.testing.assert_allclose(recurrent @ recurrent.T, np.eye(2), atol=1e-12)


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
    with pytest.raises(ValueError, match="expected no mask"):
        module(jnp.ones((3, 4)), mask=jnp.ones((3, 4), bool))


def test_linens_running_variance_is_unbiased():
    source, model = torch.nn.BatchNorm2d(4).double(), layers.linen.BatchNorm(use_running_average=False, **F64)
    variables = porting.torch_to_linen(source, porting.linen_template(model, np.zeros((3, 5, 2, 4))))
    for _ in range(3):
        x = RNG.normal(2.0, 3.0, size=(3, 4, 5, 2))
        expected = np.moveaxis(to_numpy(source(torch.from_numpy(x))), 1, -1)
        got, moved = jax.jit(model.apply, static_argnames="mutable")(
            variables, np.moveaxis(x, 1, -1), mutable=("batch_stats",)
        )
        np.testing.assert_allclose(got, expected, atol=1e-12)
        variables = {**variables, **moved}
    np.testing.assert_allclose(variables["batch_stats"]["var"], source.running_var, atol=1e-12)
    np.testing.assert_allclose(variables["batch_stats"]["mean"], source.running_mean, atol=1e-12)
    assert int(variables["batch_stats"]["num_batches_tracked"]) == 3
    still = model.copy(use_running_average=True).apply(variables, np.moveaxis(x, 1, -1))
    np.testing.assert_allclose(still, np.moveaxis(to_numpy(source.eval()(torch.from_numpy(x))), 1, -1), atol=1e-12)
    with pytest.raises(ValueError, match=r"expected two numbers or more per feature in training mode, got \(1, 4\)"):
        model.apply(variables, jnp.ones((1, 4)), mutable=["batch_stats"])


def test_the_variance_counts_the_numbers_of_all_devices():
    x = RNG.normal(size=(2, 3, 4)).astype(np.float32)  # two replicas; flax keeps statistics in float32
    whole, parts = (layers.BatchNorm(4, axis_name=name, rngs=nnx.Rngs(0)) for name in (None, "batch"))
    whole(x)
    nnx.vmap(lambda module, x: module(x), in_axes=(None, 0), axis_name="batch")(parts, x)
    np.testing.assert_allclose(parts.var[...], whole.var[...], rtol=1e-6)


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
    model = layers.linen.Embed(5, 3, padding_idx=row, **F64)
    params = model.init(jax.random.key(0), ids)
    assert (params["params"]["embedding"][row] == 0).all() and (params["params"]["embedding"] != 0).sum() == 12
    params = porting.torch_to_linen(source, params)
    np.testing.assert_array_equal(model.apply(params, ids), expected.detach())
    grads = jax.grad(lambda params: jnp.square(model.apply(params, ids) + 1).sum())(params)
    np.testing.assert_allclose(grads["params"]["embedding"], source.weight.grad, atol=1e-12)
    with pytest.raises(ValueError, match="expected padding_idx below 5, got 5"):
        layers.linen.Embed(5, 3, padding_idx=5).init(jax.random.key(0), ids)
    with pytest.raises(ValueError, match="expected padding_idx below 5, got 5"):
        layers.Embed(5, 3, padding_idx=5, rngs=nnx.Rngs(0))


def test_flaxs_own_layers_are_ported_as_before():
    source = torch.nn.LSTM(3, 2, batch_first=True).double()
    plain = nnx.RNN(nnx.OptimizedLSTMCell(3, 2, rngs=nnx.Rngs(0), **F64), rngs=nnx.Rngs(0))
    rows = {row.flax: row.rule for row in porting.mapping(source, plain)}
    assert rows["cell/dense_h/bias"] == "torch's two biases added" and len(rows) == 3
