"""Every structure from PyTorch to NNX and Linen, across and back, in float64: arrays, outputs and gradients.

Arrays arrive to the bit. Outputs and gradients agree within 1e-10 of their scale: the sums are float64, in another
order.
"""

import copy
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from course import porting
from course.porting.modules import to_numpy
from tests.structures import convolutions, generative, others, recurrent, transformers
from tests.structures.structure import channels_last

FAMILIES = (convolutions, transformers, recurrent, generative, others)
STRUCTURES = {name: structure for family in FAMILIES for name, structure in family.STRUCTURES.items()}
BOUND = 1e-10
# unoptimised, one of two equal sums may be rounded once less: no element equals their maximum, whose slope is 0/0 then
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 1})
BIASES = ("bias_ih", "bias_hh")

pytestmark = [pytest.mark.structures, pytest.mark.usefixtures("x64")]


def test_their_number():
    assert f"## {len(STRUCTURES)} whole models" in (Path(__file__).parents[2] / "Makefile").read_text()


@pytest.mark.parametrize("name", STRUCTURES)
def test_structure(name):
    structure, rng = STRUCTURES[name], np.random.default_rng(0)
    inputs = structure.inputs(rng)
    source = torch_model(structure, inputs, seed=0)
    arrays = {name: to_numpy(tensor) for name, tensor in source.state_dict().items()}
    flax_inputs = [jnp.asarray(x) for x in channels_last(inputs, structure.images)]
    template = linen_target(structure, flax_inputs)

    module = porting.torch_to_nnx(source, nnx_model(structure), **structure.told)
    variables = porting.torch_to_linen(source, template, **structure.told)
    from_file = structure.told | {"ignore": structure.ignore + structure.twice}  # where nothing shares its memory
    for file, told in ((arrays, structure.told), ({name: a.copy() for name, a in arrays.items()}, from_file)):
        same_nnx(porting.arrays_to_nnx(file, nnx_model(structure), **told), module)
        same(porting.arrays_to_linen(file, template, **told), variables)
    across(structure, module, variables, template)
    back = porting.nnx_to_torch(module, torch_model(structure, inputs, seed=1), **structure.told)
    same_torch(back, source, summed="nnx" in structure.summed)
    back = porting.linen_to_torch(variables, torch_model(structure, inputs, seed=1), **structure.told)
    same_torch(back, source, summed="linen" in structure.summed)

    outputs, gradients = run_torch(structure, source, inputs)
    module.eval()
    ours, carried = run_nnx(module, flax_inputs, weights_of(outputs))
    close(ours, outputs)
    like = {"like": gradients, "gradients": True}
    close_gradients(porting.nnx_to_arrays(carried, **like, **structure.told, template=module), gradients)
    ours, carried = run_linen(structure.linen, variables, flax_inputs, weights_of(outputs))
    close(ours, outputs)
    close_gradients(porting.linen_to_arrays(carried, **like, **structure.told, template=template), gradients)

    if any("running_mean" in name for name in arrays):
        train(structure, source, module, (variables, template), inputs, flax_inputs)


# --- the three models ------------------------------------------------------------------------------------------


def torch_model(structure, inputs, seed):
    """In eval mode, no array as it was built, running averages those of a batch."""
    torch.manual_seed(seed)
    model = structure.torch().double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    if any("running_mean" in name for name in model.state_dict()):
        model.train()(*map(torch.from_numpy, inputs))
    return model.eval()


def nnx_model(structure, seed=0):
    """Without initialising what porting overwrites; random streams have keys."""
    if structure.keep:
        return structure.nnx(rngs=nnx.Rngs(seed))
    graph, streams, rest = nnx.split(nnx.eval_shape(lambda: structure.nnx(rngs=nnx.Rngs(0))), nnx.RngState, ...)
    return nnx.merge(graph, jax.tree.map(concrete, streams), rest)


def concrete(leaf):
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.split(jax.random.key(0), leaf.shape) if is_key else jnp.zeros(leaf.shape, leaf.dtype)


def linen_target(structure, inputs):
    if structure.keep:
        variables = structure.linen.init(jax.random.key(0), *inputs)
        return porting.nnx_to_linen(nnx_model(structure), variables)  # what is kept is the same on both sides
    return porting.linen_template(structure.linen, *inputs)


# --- running them ----------------------------------------------------------------------------------------------


def as_tuple(outputs):
    return outputs if isinstance(outputs, tuple) else (outputs,)


def weights_of(outputs):
    return [np.cos(np.arange(output.size)).reshape(output.shape) for output in outputs]


def run_torch(structure, model, inputs):
    """Outputs with flax's axes, and the gradients of their weighted sum by name."""
    outputs = as_tuple(model(*map(torch.from_numpy, inputs)))
    arranged = [
        output.movedim(1, -1) if number in structure.image_outputs else output for number, output in enumerate(outputs)
    ]
    weights = weights_of([to_numpy(output) for output in arranged])
    sum((output * torch.from_numpy(w)).sum() for output, w in zip(arranged, weights, strict=True)).backward()
    gradients = {
        name: np.zeros(parameter.shape) if parameter.grad is None else to_numpy(parameter.grad)  # None: of no use
        for name, parameter in model.named_parameters()
    }
    return [to_numpy(output) for output in arranged], gradients


def weighted(outputs, weights):
    return sum((output * w).sum() for output, w in zip(outputs, weights, strict=True))


def run_nnx(module, inputs, weights):
    graph, params, rest = nnx.split(module, nnx.Param, ...)

    @jit
    @partial(jax.grad, has_aux=True)
    def run(params, rest, inputs):
        outputs = as_tuple(nnx.merge(graph, params, rest, copy=True)(*inputs))
        return weighted(outputs, weights), outputs

    gradients, outputs = run(params, rest, inputs)
    return outputs, gradients


def run_linen(model, variables, inputs, weights):
    rest = {name: collection for name, collection in variables.items() if name != "params"}

    @jit
    @partial(jax.grad, has_aux=True)
    def run(params, inputs):
        outputs = as_tuple(model.apply({"params": params, **rest}, *inputs))
        return weighted(outputs, weights), outputs

    gradients, outputs = run(variables["params"], inputs)
    return outputs, gradients


def train(structure, source, module, linen, inputs, flax_inputs):
    """A batch in training mode: outputs, and the running means that it leaves."""
    (variables, template), source = linen, copy.deepcopy(source).train()
    outputs = as_tuple(source(*map(torch.from_numpy, inputs)))
    outputs = channels_last([to_numpy(output) for output in outputs], structure.image_outputs)
    means = {name: to_numpy(tensor) for name, tensor in source.state_dict().items() if "running_mean" in name}
    arrays = {name: to_numpy(tensor) for name, tensor in source.state_dict().items()}

    module.train()
    graph, state = nnx.split(module)

    @jit
    def run(state, inputs):
        module = nnx.merge(graph, state, copy=True)
        outputs = as_tuple(module(*inputs))
        return outputs, nnx.state(module)

    ours, state = run(state, flax_inputs)
    close(ours, outputs)
    nnx.update(module, state)
    found = porting.nnx_to_arrays(module, arrays, **structure.told)
    close([found[name] for name in means], means.values())

    apply = jit(partial(structure.linen.clone(train=True).apply, mutable=["batch_stats"]))
    ours, stats = apply(variables, *flax_inputs)
    close(as_tuple(ours), outputs)
    stats = {"params": variables["params"], **stats}
    found = porting.linen_to_arrays(stats, arrays, **structure.told, template=template)
    close([found[name] for name in means], means.values())


# --- what must be the same -------------------------------------------------------------------------------------


def close(ours, theirs):
    """Every array within 1e-10 of its scale."""
    for number, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        near(a, b, np.abs(b).max(), number)


def close_gradients(ours, theirs):
    """Of their own scale, or of a thousandth of the largest: a gradient that ought to be zero is rounding alone."""
    largest = max(np.abs(gradient).max() for gradient in theirs.values())
    assert list(ours) == list(theirs)
    for name, b in theirs.items():
        near(ours[name], b, max(np.abs(b).max(), 1e-3 * largest), name)


def near(a, b, scale, name):
    assert np.shape(a) == np.shape(b) and np.isfinite(scale), name
    gap = np.abs(np.asarray(a) - b).max()
    assert gap <= BOUND * scale, f"{name}: off by {gap:.1e}, values up to {scale:.1e}"


def same(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def weights_in(module):
    return nnx.to_pure_dict(nnx.state(module, nnx.Not(nnx.RngState)))


def same_nnx(ours, theirs):
    same(weights_in(ours), weights_in(theirs))


def same_torch(ours, theirs, summed=False):
    """State dicts to the bit, but for the count of batches that flax has not; where it adds two biases, their sum."""
    ours, theirs = ours.state_dict(), theirs.state_dict()
    assert list(ours) == list(theirs)
    for name, tensor in theirs.items():
        if "num_batches_tracked" in name:
            continue
        got = ours[name]
        if summed and any(bias in name for bias in BIASES):
            other = name.replace("_ih", "_??").replace("_hh", "_ih").replace("_??", "_hh")
            tensor, got = tensor + theirs[other], got + ours[other]
        assert torch.equal(got, tensor), name


def across(structure, module, variables, template):
    """NNX to Linen and back."""
    same(porting.nnx_to_linen(module, template), variables)
    again = porting.linen_to_nnx(variables, nnx_model(structure, seed=1))
    same(porting.nnx_to_linen(again, template), variables)
    if not structure.two_biases:
        same_nnx(again, module)
