"""Random configurations of every layer, in float64: torch and flax compute the same, and so do their gradients.

What is drawn: sizes, strides, padding, dilation, groups, biases, heads, levels, directions, and which of flax's APIs.
Compiling is most of the cost, so XLA is told not to optimise, and flax's layers are built without being initialised.
"""

import copy
import itertools
import os
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import linen, nnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from course import porting

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]  # compiling is slow
OUTPUTS, GRADIENTS = 1e-10, 1e-8  # sums of up to a few hundred float64 terms, in another order
THOROUGH = 8 if os.environ.get("FUZZ") else 1  # `make fuzz` draws 1,776 configurations, `make test` 222
EXAMPLES = {"LSTM": 6, "GRU": 6, "RNN": 6, "MultiheadAttention": 10, "Sequential": 10, "GroupNorm": 12, "stack": 6}
EXAMPLES |= {"Conv3d": 6, "ConvTranspose3d": 6}  # these are slow to compile
OTHERS = 14  # of each of the eleven other kinds

small = st.integers(1, 4)
flags = st.booleans()


@dataclass
class Case:
    """One configuration: a torch layer, its two flax counterparts, and an input as torch takes it."""

    torch: torch.nn.Module
    nnx: partial
    linen: linen.Module
    shape: tuple[int, ...]
    high: int = 0  # > 0: integers below it
    channels_first: bool = False
    inputs: int = 1  # torch's attention takes its input thrice
    names: tuple[tuple[str, str], ...] = ()  # what porting is told of them


F64 = {"param_dtype": jnp.float64}


@st.composite
def linears(draw):
    a, b, bias = draw(small), draw(small), draw(flags)
    return Case(
        torch.nn.Linear(a, b, bias),
        partial(nnx.Linear, a, b, use_bias=bias, **F64),
        linen.Dense(b, use_bias=bias, **F64),
        (*draw(st.lists(small, min_size=1, max_size=3)), a),
    )


@st.composite
def convolutions(draw, dims):
    groups, bias = draw(st.integers(1, 2)), draw(flags)
    a, b = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    kernel, strides, dilation = (tuple(draw(st.tuples(*[st.integers(1, n)] * dims))) for n in (3, 2, 2))
    padding = tuple(draw(st.tuples(*[st.integers(0, 2)] * dims)))
    make = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)[dims - 1]
    options = {
        "strides": strides, "padding": [(p, p) for p in padding], "kernel_dilation": dilation,
        "feature_group_count": groups, "use_bias": bias, **F64,
    }  # fmt: skip
    return Case(
        make(a, b, kernel, strides, padding, dilation, groups, bias),
        partial(nnx.Conv, a, b, kernel, **options),
        linen.Conv(b, kernel, **options),
        (2, a, *draw(st.tuples(*[st.integers(5, 7)] * dims))),
        channels_first=True,
    )


@st.composite
def transposed_convolutions(draw, dims):
    a, b, bias = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(flags)
    kernel, strides, dilation = (tuple(draw(st.tuples(*[st.integers(1, n)] * dims))) for n in (3, 3, 2))
    reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    padding = [draw(st.integers(0, min(r, 3))) for r in reach]  # more leaves nothing of the smallest input
    extra = [draw(st.integers(0, max(s, d) - 1)) for s, d in zip(strides, dilation, strict=True)]
    make = (torch.nn.ConvTranspose1d, torch.nn.ConvTranspose2d, torch.nn.ConvTranspose3d)[dims - 1]
    options = {
        "strides": strides, "kernel_dilation": dilation, "use_bias": bias, **F64,
        "padding": [(r - p, r - p + e) for r, p, e in zip(reach, padding, extra, strict=True)],
    }  # fmt: skip
    return Case(
        make(a, b, kernel, strides, tuple(padding), tuple(extra), bias=bias, dilation=dilation),
        partial(nnx.ConvTranspose, a, b, kernel, **options),
        linen.ConvTranspose(b, kernel, **options),
        (2, a, *draw(st.tuples(*[st.integers(4, 5)] * dims))),
        channels_first=True,
    )


@st.composite
def batch_norms(draw):
    a, affine, dims = draw(small), draw(flags), draw(st.integers(0, 2))
    make = (torch.nn.BatchNorm1d, torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)[dims]
    options = {"epsilon": 1e-3, "momentum": 0.9, "use_bias": affine, "use_scale": affine, **F64}
    return Case(
        make(a, eps=1e-3, affine=affine),
        partial(nnx.BatchNorm, a, use_running_average=True, **options),
        linen.BatchNorm(use_running_average=True, **options),
        (3, a, *[5] * dims),
        channels_first=True,
    )


@st.composite
def layer_norms(draw):
    a, bias, scale = draw(st.integers(2, 6)), draw(flags), draw(flags)
    options = {"epsilon": 1e-5, "use_bias": bias and scale, "use_scale": scale, "use_fast_variance": False, **F64}
    return Case(
        torch.nn.LayerNorm(a, elementwise_affine=scale, bias=bias),
        partial(nnx.LayerNorm, a, **options),
        linen.LayerNorm(**options),
        (*draw(st.lists(small, min_size=1, max_size=2)), a),
    )


@st.composite
def rms_norms(draw):
    a, scale = draw(st.integers(2, 6)), draw(flags)
    options = {"epsilon": 1e-5, "use_scale": scale, "use_fast_variance": False, **F64}
    return Case(
        torch.nn.RMSNorm(a, eps=1e-5, elementwise_affine=scale),
        partial(nnx.RMSNorm, a, **options),
        linen.RMSNorm(**options),
        (*draw(st.lists(small, min_size=1, max_size=2)), a),
    )


@st.composite
def instance_norms(draw):
    a, affine, dims = draw(small), draw(flags), draw(st.integers(1, 2))
    options = {"epsilon": 1e-5, "use_bias": affine, "use_scale": affine, "use_fast_variance": False, **F64}
    return Case(
        (torch.nn.InstanceNorm1d, torch.nn.InstanceNorm2d)[dims - 1](a, affine=affine),
        partial(nnx.InstanceNorm, a, **options),
        linen.InstanceNorm(**options),
        (2, a, *[5] * dims),
        channels_first=True,
    )


@st.composite
def prelus(draw):
    return Case(
        torch.nn.PReLU(),
        lambda rngs: nnx.PReLU(param_dtype=jnp.float64),
        linen.PReLU(**F64),
        tuple(draw(st.lists(small, min_size=1, max_size=3))),
    )


@st.composite
def group_norms(draw):
    groups, each = draw(small), draw(st.integers(2, 4))
    options = {"epsilon": 1e-5, "use_fast_variance": False, **F64}
    return Case(
        torch.nn.GroupNorm(groups, groups * each),
        partial(nnx.GroupNorm, groups * each, groups, **options),
        linen.GroupNorm(groups, **options),
        (2, groups * each, *[3] * draw(st.integers(0, 2))),
        channels_first=True,
    )


@st.composite
def embeddings(draw):
    rows, width = draw(st.integers(1, 9)), draw(small)
    return Case(
        torch.nn.Embedding(rows, width),
        partial(nnx.Embed, rows, width, **F64),
        linen.Embed(rows, width, **F64),
        tuple(draw(st.lists(small, min_size=1, max_size=2))),
        high=rows,
    )


class NnxStack(nnx.Module):
    """Levels and directions, as torch's one layer has them."""

    def __init__(self, cells, *, rngs):
        rnns = [[nnx.RNN(cell(rngs=rngs), rngs=rngs) for cell in level] for level in cells]
        self.rnn = nnx.List([rnn[0] if len(rnn) == 1 else nnx.Bidirectional(*rnn, rngs=rngs) for rnn in rnns])

    def __call__(self, x):
        for rnn in self.rnn:
            x = rnn(x)
        return x


class LinenStack(linen.Module):
    cell: partial
    levels: int
    ways: int

    def setup(self):
        one = lambda: linen.RNN(self.cell())  # noqa: E731
        self.rnn = [one() if self.ways == 1 else linen.Bidirectional(one(), one()) for _ in range(self.levels)]

    def __call__(self, x):
        for rnn in self.rnn:
            x = rnn(x)
        return x


class TorchStack(torch.nn.Module):
    def __init__(self, rnn):
        super().__init__()
        self.rnn = rnn

    def forward(self, x):
        return self.rnn(x)[0]


@st.composite
def recurrences(draw, kind):
    a, width, levels, ways = draw(small), draw(small), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    nnx_cell, linen_cell = {
        "LSTM": (draw(st.sampled_from([nnx.OptimizedLSTMCell, nnx.LSTMCell])), linen.OptimizedLSTMCell),
        "GRU": (nnx.GRUCell, linen.GRUCell),
        "RNN": (partial(nnx.SimpleCell, dtype=jnp.float64), partial(linen.SimpleCell, dtype=jnp.float64)),
    }[kind]
    rnn = getattr(torch.nn, kind)(a, width, levels, batch_first=True, bidirectional=ways == 2)
    cells = [[partial(nnx_cell, a if k == 0 else ways * width, width, **F64)] * ways for k in range(levels)]
    if levels > 1:
        layer, nnx_layer = TorchStack(rnn), partial(NnxStack, cells)
        linen_layer = LinenStack(partial(linen_cell, width, **F64), levels, ways)
    else:
        rnns = [lambda rngs, cell=cell: nnx.RNN(cell(rngs=rngs), rngs=rngs) for cell in cells[0]]
        layer = rnn
        nnx_layer = rnns[0] if ways == 1 else lambda rngs: nnx.Bidirectional(*(r(rngs) for r in rnns), rngs=rngs)

        def linen_rnn():
            return linen.RNN(linen_cell(width, **F64))

        linen_layer = linen_rnn() if ways == 1 else linen.Bidirectional(linen_rnn(), linen_rnn())
    return Case(layer, nnx_layer, linen_layer, (2, draw(st.integers(1, 3)), a))


def exact_attention(query, key, value, mask=None, **_):
    """NNX hands over to jax.nn.dot_product_attention, whose softmax is float32 even here; Linen's is exact."""
    return linen.dot_product_attention(query, key, value, mask=mask)


@st.composite
def attentions(draw):
    heads, bias = draw(st.integers(1, 3)), draw(flags)
    width = heads * draw(st.integers(1, 3))
    options = {"use_bias": bias, "deterministic": True, **F64}
    return Case(
        torch.nn.MultiheadAttention(width, heads, bias=bias, batch_first=True),
        partial(nnx.MultiHeadAttention, heads, width, decode=False, attention_fn=exact_attention, **options),
        linen.MultiHeadDotProductAttention(heads, **options),
        (2, draw(small), width),
        inputs=3,
    )


class LinenSequence(linen.Module):
    sizes: tuple[int, ...]

    def setup(self):
        self.net = linen.Sequential([layer for b in self.sizes for layer in (linen.Dense(b, **F64), linen.tanh)])

    def __call__(self, x):
        return self.net(x)


@st.composite
def sequences(draw):
    """Layers of a user's module by path, through torch's Sequential."""
    sizes = draw(st.lists(small, min_size=3, max_size=4))
    torch_layers, nnx_layers = [], []
    for a, b in itertools.pairwise(sizes):
        torch_layers += [torch.nn.Linear(a, b), torch.nn.Tanh()]
        nnx_layers += [partial(nnx.Linear, a, b, **F64), None]

    class Torch(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = torch.nn.Sequential(*torch_layers)

        def forward(self, x):
            return self.net(x)

    class Nnx(nnx.Module):
        def __init__(self, rngs):
            self.net = nnx.Sequential(*(nnx.tanh if make is None else make(rngs=rngs) for make in nnx_layers))

        def __call__(self, x):
            return self.net(x)

    return Case(Torch(), Nnx, LinenSequence(tuple(sizes[1:])), (3, sizes[0]))


class TorchBlock(torch.nn.Module):
    def __init__(self, size, normed, kernel):
        super().__init__()
        self.mix = torch.nn.Conv1d(size, size, kernel, padding=kernel // 2) if kernel else torch.nn.Linear(size, size)
        self.norm = torch.nn.LayerNorm(size) if normed else torch.nn.Identity()

    def forward(self, x):  # (B, T, size)
        y = self.mix(x.mT).mT if isinstance(self.mix, torch.nn.Conv1d) else self.mix(x)
        return x + torch.tanh(self.norm(y))


class TorchBlocks(torch.nn.Module):
    def __init__(self, count, *options):
        super().__init__()
        self.blocks = torch.nn.ModuleList([TorchBlock(*options) for _ in range(count)])

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


class NnxBlock(nnx.Module):
    def __init__(self, size, normed, kernel, *, rngs):
        make = partial(nnx.Conv, kernel_size=(kernel,)) if kernel else nnx.Linear
        self.mix = make(size, size, rngs=rngs, **F64)
        self.norm = nnx.LayerNorm(size, epsilon=1e-5, use_fast_variance=False, rngs=rngs, **F64) if normed else None

    def __call__(self, x):
        y = self.mix(x)
        return x + jnp.tanh(y if self.norm is None else self.norm(y))


class NnxBlocks(nnx.Module):
    def __init__(self, count, *options, rngs):
        @nnx.split_rngs(splits=count)
        @nnx.vmap
        def make(rngs):
            return NnxBlock(*options, rngs=rngs)

        self.blocks = make(rngs)

    def __call__(self, x):
        return nnx.scan(lambda x, block: block(x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)(x, self.blocks)


class LinenBlock(linen.Module):
    size: int
    normed: bool
    kernel: int

    @linen.compact
    def __call__(self, x, _):
        y = (linen.Conv(self.size, (self.kernel,), **F64, name="mix") if self.kernel else
             linen.Dense(self.size, **F64, name="mix"))(x)  # fmt: skip
        if self.normed:
            y = linen.LayerNorm(epsilon=1e-5, use_fast_variance=False, **F64, name="norm")(y)
        return x + jnp.tanh(y), None


class LinenBlocks(linen.Module):
    count: int
    options: tuple

    @linen.compact
    def __call__(self, x):
        scan = linen.scan(LinenBlock, variable_axes={"params": 0}, split_rngs={"params": True}, length=self.count)
        return scan(*self.options, name="blocks")(x, None)[0]


@st.composite
def stacks(draw):
    count, options = draw(st.integers(1, 12)), (draw(st.integers(2, 3)), draw(flags), draw(st.sampled_from([0, 1, 3])))
    return Case(
        TorchBlocks(count, *options), partial(NnxBlocks, count, *options), LinenBlocks(count, options),
        (2, 4, options[0]), names=(("blocks.*", "blocks"),),
    )  # fmt: skip


KINDS = {
    "Linear": linears(),
    "Conv1d": convolutions(1),
    "Conv2d": convolutions(2),
    "Conv3d": convolutions(3),
    "ConvTranspose1d": transposed_convolutions(1),
    "ConvTranspose2d": transposed_convolutions(2),
    "ConvTranspose3d": transposed_convolutions(3),
    "BatchNorm": batch_norms(),
    "LayerNorm": layer_norms(),
    "GroupNorm": group_norms(),
    "RMSNorm": rms_norms(),
    "InstanceNorm": instance_norms(),
    "PReLU": prelus(),
    "Embedding": embeddings(),
    "LSTM": recurrences("LSTM"),
    "GRU": recurrences("GRU"),
    "RNN": recurrences("RNN"),
    "MultiheadAttention": attentions(),
    "Sequential": sequences(),
    "stack": stacks(),
}


def first(output):
    return output[0] if isinstance(output, tuple) else output


def concrete(leaf):
    """What porting does not fill: the random streams that NNX's recurrent layers hold."""
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key(0) if is_key else jnp.zeros(leaf.shape, leaf.dtype)


def check(case, api, seed):
    rng, names = np.random.default_rng(seed), dict(case.names)
    layer = case.torch.double().eval()
    with torch.no_grad():
        for name, tensor in layer.state_dict().items():
            if tensor.is_floating_point():  # buffers too; a variance is positive
                values = rng.uniform(0.5, 1.5, tensor.shape) if "var" in name else rng.normal(size=tensor.shape)
                tensor.copy_(torch.from_numpy(values))
            if api == "nnx" and "bias_hh" in name and tensor.shape[0] % 3 == 0 and "GRU" in repr(layer):
                tensor[2 * tensor.shape[0] // 3 :] = 0  # b_hn: NNX's cell has none
    x = rng.integers(0, case.high, case.shape) if case.high else rng.normal(size=case.shape)

    x_torch = torch.from_numpy(x).requires_grad_(not case.high)
    expected = first(layer(*[x_torch] * case.inputs))
    weights = rng.normal(size=expected.shape)
    (expected * torch.from_numpy(weights)).sum().backward()

    arrange = (lambda a: np.moveaxis(a, 1, -1)) if case.channels_first else (lambda a: a)
    x_flax = jnp.asarray(arrange(x))
    if api == "nnx":
        graph, streams, rest = nnx.split(nnx.eval_shape(lambda: case.nnx(rngs=nnx.Rngs(0))), nnx.RngState, ...)
        module = porting.torch_to_nnx(layer, nnx.merge(graph, jax.tree.map(concrete, streams), rest), names)
        graph, params, rest = nnx.split(module, nnx.Param, ...)

        def run(params, rest, x):
            return first(nnx.merge(graph, params, rest, copy=True)(x))
    else:
        template = jax.eval_shape(case.linen.init, jax.random.key(0), x_flax)
        variables = porting.torch_to_linen(layer, template, names)
        params, rest = variables.get("params", {}), {k: v for k, v in variables.items() if k != "params"}

        def run(params, rest, x):
            return first(case.linen.apply({"params": params, **rest}, x))

    def weighted(params, x, rest):
        output = run(params, rest, x)
        return (output * arrange(weights)).sum(), output

    both = jax.jit(jax.value_and_grad(weighted, argnums=0 if case.high else (0, 1), has_aux=True))
    (_, output), gradients = both(params, x_flax, rest)
    np.testing.assert_allclose(output, arrange(expected.detach().numpy()), atol=OUTPUTS, rtol=OUTPUTS)

    if not case.high:
        gradients, x_gradient = gradients
        np.testing.assert_allclose(x_gradient, arrange(x_torch.grad.numpy()), atol=GRADIENTS, rtol=GRADIENTS)
    theirs = {name: parameter.grad.numpy() for name, parameter in layer.named_parameters()}
    if theirs and api == "nnx" and "GRU" in repr(layer):  # NNX's cannot know the gradient of b_hn
        carried = porting.arrays_to_nnx(theirs, gradients, gradients=True)
        jax.tree.map(partial(np.testing.assert_allclose, atol=GRADIENTS, rtol=GRADIENTS), carried, gradients)
    elif theirs:
        port = porting.nnx_to_arrays if api == "nnx" else porting.linen_to_arrays
        told = {  # gradients do not know whose they are
            name: "ConvTranspose" if "Transpose" in type(module).__name__ else "Conv"
            for name, module in layer.named_modules() if type(module).__name__.startswith("Conv")
        }  # fmt: skip
        for name, carried in port(gradients, theirs, names, treat_as=told, gradients=True).items():
            np.testing.assert_allclose(carried, theirs[name], atol=GRADIENTS, rtol=GRADIENTS, err_msg=name)
    if api == "nnx":
        back = porting.nnx_to_torch(module, copy.deepcopy(layer), names)
    else:
        back = porting.linen_to_torch(variables, copy.deepcopy(layer), names)
    skip = "bias_" if isinstance(layer, torch.nn.RNNBase | TorchStack) else "-"  # of two biases flax has the sum
    again = first(back(*[torch.from_numpy(x)] * case.inputs))
    np.testing.assert_allclose(again.detach(), expected.detach(), atol=OUTPUTS, rtol=OUTPUTS)
    for name, tensor in layer.state_dict().items():
        assert skip in name or torch.equal(back.state_dict()[name], tensor), name


def explore(kind, examples):
    @settings(max_examples=examples, deadline=None, derandomize=True, database=None, suppress_health_check=SLOW)
    @given(KINDS[kind], st.sampled_from(["nnx", "linen"]), st.integers(0, 2**31))
    def run(case, api, seed):
        check(case, api, seed)

    run()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_random_configurations(kind, x64):
    explore(kind, THOROUGH * EXAMPLES.get(kind, OTHERS))
