"""Arrays named and laid out as in torch into flax and back, with no torch module; and what a match is told by hand."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
import torch.nn.utils.prune
from flax import linen, nnx

from course import porting
from course.porting import PortingError
from course.porting.modules import to_numpy

F64 = {"param_dtype": jnp.float64}
RNG = np.random.default_rng(0)


pytestmark = pytest.mark.usefixtures("x64")


def arrays_of(module):
    return {name: to_numpy(tensor) for name, tensor in module.state_dict().items()}


def close(got, want, bound=1e-12):
    np.testing.assert_allclose(got, np.asarray(want.detach()), atol=bound, rtol=bound)


# --- a model from arrays alone -------------------------------------------------------------------------------


class TorchNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU())
        self.norm, self.fc = torch.nn.LayerNorm(4), torch.nn.Linear(4, 5)
        self.scale = torch.nn.Parameter(torch.randn(5))

    def forward(self, x):
        return self.fc(self.norm(self.stem(x).mean((2, 3)))) * self.scale


class NnxNet(nnx.Module):
    def __init__(self, rngs):
        norm = nnx.BatchNorm(4, momentum=0.9, use_running_average=True, epsilon=1e-5, rngs=rngs, **F64)
        self.stem = nnx.Sequential(nnx.Conv(3, 4, (3, 3), padding="VALID", rngs=rngs, **F64), norm, nnx.relu)
        self.norm = nnx.LayerNorm(4, epsilon=1e-5, use_fast_variance=False, rngs=rngs, **F64)
        self.fc, self.scale = nnx.Linear(4, 5, rngs=rngs, **F64), nnx.Param(jnp.zeros(5))

    def __call__(self, x):
        return self.fc(self.norm(self.stem(x).mean((1, 2)))) * self.scale[...]


class LinenNet(linen.Module):
    def setup(self):
        norm = linen.BatchNorm(use_running_average=True, epsilon=1e-5, **F64)
        self.stem = linen.Sequential([linen.Conv(4, (3, 3), padding="VALID", **F64), norm, linen.relu])
        self.norm = linen.LayerNorm(epsilon=1e-5, use_fast_variance=False, **F64)
        self.fc = linen.Dense(5, **F64)
        self.scale = self.param("scale", linen.initializers.ones, (5,), jnp.float64)

    def __call__(self, x):
        return self.fc(self.norm(self.stem(x).mean((1, 2)))) * self.scale


IMAGES = RNG.normal(size=(2, 3, 8, 8))
NHWC = np.moveaxis(IMAGES, 1, -1)


def torch_net():
    torch.manual_seed(0)
    net = TorchNet().double().eval()
    with torch.no_grad():
        net.stem[1].running_mean.normal_()
        net.stem[1].running_var.uniform_(0.5, 2)
    return net


def test_arrays_make_a_model_of_either_kind_and_come_back():
    source = torch_net()
    arrays, expected = arrays_of(source), source(torch.from_numpy(IMAGES))
    module = porting.arrays_to_nnx(arrays, NnxNet(nnx.Rngs(0)))
    close(module(NHWC), expected)
    variables = porting.arrays_to_linen(arrays, porting.linen_template(LinenNet(), NHWC))
    close(LinenNet().apply(variables, NHWC), expected)
    for back in (porting.nnx_to_arrays(module, arrays), porting.linen_to_arrays(variables, arrays)):
        assert list(back) == list(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(back[name], array)
            assert back[name].dtype == array.dtype and not np.shares_memory(back[name], array)


@pytest.mark.slow
def test_gradients_and_moments_go_the_way_of_the_weights():
    """One step of Adam on both sides: gradients and both moments are the same, in either layout."""
    source = torch_net()
    module = porting.arrays_to_nnx(arrays_of(source), NnxNet(nnx.Rngs(0)))
    optimizer = torch.optim.Adam(source.parameters(), lr=0.1)
    source(torch.from_numpy(IMAGES)).square().sum().backward()
    optimizer.step()
    theirs = {name: to_numpy(p.grad) for name, p in source.named_parameters()}
    grads = nnx.grad(lambda module: jnp.square(module(NHWC)).sum())(module)
    found = porting.nnx_to_arrays(grads, theirs, gradients=True)
    for name, gradient in theirs.items():
        np.testing.assert_allclose(found[name], gradient, atol=1e-10, rtol=1e-10)
    ported = porting.arrays_to_nnx(theirs, grads, gradients=True)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-10), ported, grads)
    tx = optax.adam(0.1)
    _, state = tx.update(grads, tx.init(nnx.state(module, nnx.Param)))
    for ours, name in ((state[0].mu, "exp_avg"), (state[0].nu, "exp_avg_sq")):
        moments = {key: to_numpy(optimizer.state[p][name]) for key, p in source.named_parameters()}
        for key, moment in porting.nnx_to_arrays(ours, moments, gradients=True).items():
            np.testing.assert_allclose(moment, moments[key], atol=1e-10, rtol=1e-9)


def test_each_of_two_biases_that_flax_adds_has_the_gradient():
    lstm, x = torch.nn.LSTM(3, 2, batch_first=True).double(), RNG.normal(size=(2, 4, 3))
    lstm(torch.from_numpy(x))[0].square().sum().backward()
    theirs = {name: to_numpy(p.grad) for name, p in lstm.named_parameters()}
    model = linen.RNN(linen.OptimizedLSTMCell(2, **F64))
    variables = porting.arrays_to_linen(arrays_of(lstm), porting.linen_template(model, x))
    grads = jax.grad(lambda variables: jnp.square(model.apply(variables, x)).sum())(variables)
    found = porting.linen_to_arrays(grads, theirs, gradients=True)
    for name, gradient in theirs.items():
        np.testing.assert_allclose(found[name], gradient, atol=1e-12)
    again = porting.arrays_to_linen(theirs, grads, gradients=True)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), again, grads)


NO_TORCH = """
import sys
sys.modules["torch"] = None  # importing it fails
import numpy as np
from flax import nnx
from course import porting
arrays = porting.read_checkpoint(sys.argv[1])
rngs = nnx.Rngs(0)
model = nnx.Sequential(nnx.Linear(3, 4, rngs=rngs), nnx.relu, nnx.Linear(4, 2, rngs=rngs))
porting.arrays_to_nnx(arrays, model)
print(np.asarray(model(np.ones((1, 3), np.float32))).tolist())
try:
    porting.read_checkpoint("weights.pt")
except ImportError as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_a_file_and_no_torch_make_a_model(tmp_path, suffix):
    source = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    path = tmp_path / f"weights.{suffix}"
    if suffix == "npz":
        np.savez(path, **arrays_of(source))
    else:
        pytest.importorskip("safetensors.torch").save_file(source.state_dict(), path)
    done = subprocess.run([sys.executable, "-c", NO_TORCH, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    values, message = done.stdout.strip().splitlines()
    np.testing.assert_allclose(eval(values), source(torch.ones(1, 3)).detach(), atol=1e-6)
    assert "expected torch to read weights.pt with, got none; on a machine that has it" in message


def test_torchs_files(tmp_path):
    source = torch_net()
    weights = arrays_of(source)
    torch.save(source.state_dict(), tmp_path / "bare.pt")
    torch.save({"state_dict": source.state_dict(), "epoch": 3}, tmp_path / "nested.pth")
    torch.save(torch.nn.Linear(2, 2).bfloat16().state_dict(), tmp_path / "low.bin")
    for name in ("bare.pt", "nested.pth"):
        found = porting.read_checkpoint(tmp_path / name)
        assert found.keys() == weights.keys()
        assert all(np.array_equal(found[key], array) for key, array in weights.items())
    assert porting.read_checkpoint(tmp_path / "low.bin")["weight"].dtype == jnp.bfloat16
    torch.save({"epoch": 3, "lr": 0.1}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"other.pt: expected a dict of tensors, got \['float', 'int'\]"):
        porting.read_checkpoint(tmp_path / "other.pt")
    (tmp_path / "cut.npz").write_bytes(b"no zip")
    with pytest.raises(ValueError, match=r"cut\.npz: expected a \.npz of plain arrays"):
        porting.read_checkpoint(tmp_path / "cut.npz")
    with pytest.raises(ValueError, match=r"expected a .safetensors, .npz, .* got model.h5"):
        porting.read_checkpoint("model.h5")


# --- kinds that names and shapes do not tell ------------------------------------------------------------------


def square(transposed):
    make = torch.nn.ConvTranspose2d if transposed else torch.nn.Conv2d
    return torch.nn.Sequential(make(3, 3, 2)).double()


@pytest.mark.parametrize("transposed", [False, True])
def test_square_kernels_are_told_apart_by_flaxs_module(transposed):
    source = square(transposed)
    arrays, expected = arrays_of(source), np.moveaxis(to_numpy(source(torch.from_numpy(IMAGES))), 1, -1)
    kind, layer = ("ConvTranspose", nnx.ConvTranspose) if transposed else ("Conv", nnx.Conv)
    model = linen.Sequential([getattr(linen, kind)(3, (2, 2), padding="VALID", **F64)])
    module = nnx.Sequential(layer(3, 3, (2, 2), padding="VALID", rngs=nnx.Rngs(0), **F64))
    np.testing.assert_allclose(porting.arrays_to_nnx(arrays, module)(NHWC), expected, atol=1e-12)
    template = porting.linen_template(model, NHWC)
    found = porting.arrays_to_linen(arrays, template)
    np.testing.assert_allclose(model.apply(found, NHWC), expected, atol=1e-12)
    with pytest.raises(PortingError, match=r"fit Conv and ConvTranspose; say which, treat_as=.*linen_template"):
        porting.arrays_to_linen(arrays, dict(template))
    told = porting.arrays_to_linen(arrays, dict(template), treat_as={"*": kind})
    jax.tree.map(np.testing.assert_array_equal, told, found)


@pytest.mark.parametrize("transposed", [False, True])
def test_of_gradients_a_template_says_what_their_layers_are(transposed):
    kind, layer = ("ConvTranspose", nnx.ConvTranspose) if transposed else ("Conv", nnx.Conv)
    arrays = arrays_of(square(transposed))
    module = nnx.Sequential(layer(3, 3, (2, 2), padding="VALID", rngs=nnx.Rngs(0), **F64))
    template = porting.linen_template(linen.Sequential([getattr(linen, kind)(3, (2, 2), **F64)]), NHWC)
    state = nnx.state(porting.arrays_to_nnx(arrays, module), nnx.Param)
    variables = porting.arrays_to_linen(arrays, template)
    for back, carry, flax, known in (
        (porting.nnx_to_arrays, porting.arrays_to_nnx, state, module),
        (porting.linen_to_arrays, porting.arrays_to_linen, variables["params"], template),
    ):
        with pytest.raises(PortingError, match=r"fit Conv and ConvTranspose; say which, treat_as=.* or as template=: "):
            back(flax, arrays, gradients=True)
        for name, array in back(flax, arrays, gradients=True, template=known).items():
            np.testing.assert_array_equal(array, arrays[name])
        again = carry(arrays, flax, gradients=True, template=known)
        jax.tree.map(np.testing.assert_array_equal, again, flax)


def test_what_is_told_for_weights_may_name_nothing_of_gradients():
    told, params = {"ignore": ["mask"], "names": {"fc": "head"}}, {"head": {"kernel": jnp.ones((3, 2))}}
    assert porting.linen_to_arrays(params, {"fc.weight": np.zeros((2, 3))}, **told, gradients=True)["fc.weight"].all()
    with pytest.raises(PortingError, match="expected ignore='mask' to name something"):
        porting.linen_to_arrays(params, {"fc.weight": np.zeros((2, 3))}, **told)


def test_kernels_that_are_not_square_are_told_apart_by_their_shapes():
    source = torch.nn.ModuleDict({"down": torch.nn.Conv2d(3, 4, 2), "up": torch.nn.ConvTranspose2d(4, 3, 2)}).double()
    params = {"down": {"kernel": np.zeros((2, 2, 3, 4)), "bias": np.zeros(4)}}
    params |= {"up": {"kernel": np.zeros((2, 2, 4, 3)), "bias": np.zeros(3)}}
    rules = {row.flax: row.rule for row in porting.mapping(arrays_of(source), params)}
    assert rules["down/kernel"] == "OIHW -> HWIO" and rules["up/kernel"] == "IOHW -> HWIO, flipped along HW"


def test_a_transposed_kernel_of_flaxs_is_refused():
    layer = nnx.ConvTranspose(3, 3, (2, 2), transpose_kernel=True, rngs=nnx.Rngs(0), **F64)
    for port, source in ((porting.arrays_to_nnx, arrays_of(square(True)[0])), (porting.torch_to_nnx, square(True)[0])):
        with pytest.raises(PortingError, match="expected transpose_kernel=False, got True"):
            port(source, layer)
    model = linen.ConvTranspose(3, (2, 2), transpose_kernel=True, **F64)
    with pytest.raises(PortingError, match="expected transpose_kernel=False, got True"):
        porting.arrays_to_linen(arrays_of(square(True)[0]), porting.linen_template(model, NHWC))


def test_gpt2s_conv1d_and_packed_qkv():
    weights = {"attn.c_attn.weight": RNG.normal(size=(6, 18)), "attn.c_attn.bias": RNG.normal(size=18)}
    params = {"attn": {"c_attn": {"kernel": jnp.zeros((6, 18)), "bias": jnp.zeros(18)}}}
    found = porting.arrays_to_linen(weights, params, treat_as={"*.c_attn": "Conv1D"})
    np.testing.assert_array_equal(found["attn"]["c_attn"]["kernel"], weights["attn.c_attn.weight"])
    with pytest.raises(PortingError, match="GPT-2's Conv1D, treat_as="):
        porting.arrays_to_linen(weights, params)

    x, packed = RNG.normal(size=(2, 4, 6)), torch.nn.Linear(6, 18).double()
    q, k, v = packed(torch.from_numpy(x)).reshape(2, 4, 3, 3, 2).permute(2, 0, 3, 1, 4)
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(2, 4, 6)
    arrays = {f"blocks.0.attn.qkv.{name}": array for name, array in arrays_of(packed).items()}
    arrays |= {"blocks.0.attn.proj.weight": np.eye(6), "blocks.0.attn.proj.bias": np.zeros(6)}
    model = linen.MultiHeadDotProductAttention(3, **F64)
    template = {"params": {"blocks_0": porting.linen_template(model, x)["params"]}}
    names = {"blocks.*.attn.qkv": "blocks_*", "blocks.*.attn.proj": "blocks_*/out"}
    found = porting.arrays_to_linen(arrays, template, names, treat_as={"*.*.*.qkv": "qkv"})
    close(model.apply({"params": found["params"]["blocks_0"]}, x), expected)
    back = porting.linen_to_arrays(found, arrays, names, treat_as={"*.*.*.qkv": "qkv"})
    assert all(np.array_equal(back[name], array) for name, array in arrays.items())


def test_separate_q_k_and_v_go_into_attention_and_back():
    heads, x = 2, RNG.normal(size=(2, 5, 6))
    layers = torch.nn.ModuleDict({name: torch.nn.Linear(6, 6) for name in ("q", "k", "v", "o")}).double()
    q, k, v = (layers[name](torch.from_numpy(x)).reshape(2, 5, heads, 3).transpose(1, 2) for name in ("q", "k", "v"))
    mixed = torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(2, 5, 6)
    model = linen.MultiHeadDotProductAttention(heads, **F64)
    names = {"q": "query", "k": "key", "v": "value", "o": "out"}
    variables = porting.torch_to_linen(layers, porting.linen_template(model, x), names)
    close(model.apply(variables, x), layers["o"](mixed))
    back = porting.linen_to_arrays(variables, arrays_of(layers), names)
    assert all(np.array_equal(back[name], array) for name, array in arrays_of(layers).items())


class SmallLayers(torch.nn.Module):
    """Layers that flax has under another name, or as a function."""

    def __init__(self):
        super().__init__()
        self.prelu, self.instance = torch.nn.PReLU(), torch.nn.InstanceNorm1d(4, affine=True)
        self.bag, self.rnn = torch.nn.EmbeddingBag(7, 4), torch.nn.RNN(4, 3, batch_first=True)
        self.sync = torch.nn.SyncBatchNorm(4)
        self.list = torch.nn.ParameterList([torch.randn(2), torch.randn(3)])
        self.dict = torch.nn.ParameterDict({"a": torch.randn(2)})
        self.by_name = torch.nn.ModuleDict({"left": torch.nn.Linear(2, 2)})


class SmallNnx(nnx.Module):
    def __init__(self, rngs):
        self.prelu = nnx.PReLU(param_dtype=jnp.float64)
        self.instance = nnx.InstanceNorm(4, epsilon=1e-5, use_fast_variance=False, rngs=rngs, **F64)
        self.bag = nnx.Embed(7, 4, rngs=rngs, **F64)
        self.rnn = nnx.RNN(nnx.SimpleCell(4, 3, dtype=jnp.float64, rngs=rngs, **F64), rngs=rngs)
        self.sync = nnx.BatchNorm(4, use_running_average=True, rngs=rngs, **F64)
        self.list = nnx.List([nnx.Param(jnp.zeros(2)), nnx.Param(jnp.zeros(3))])
        self.dict = nnx.Dict(a=nnx.Param(jnp.zeros(2)))
        self.by_name = nnx.Dict(left=nnx.Linear(2, 2, rngs=rngs, **F64))


@pytest.mark.slow
def test_layers_that_flax_has_under_another_name():
    source = SmallLayers().double().eval()
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.normal_()
    module = porting.torch_to_nnx(source, SmallNnx(nnx.Rngs(0)))
    x = RNG.normal(size=(2, 5, 4))
    close(module.prelu(x), source.prelu(torch.from_numpy(x)))
    close(module.instance(x), source.instance(torch.from_numpy(x).mT).mT)
    ids = np.array([[1, 2, 6], [0, 0, 3]])
    close(module.bag(ids).mean(1), source.bag(torch.from_numpy(ids)))
    close(module.rnn(x), source.rnn(torch.from_numpy(x))[0])
    back = porting.nnx_to_arrays(module, arrays_of(source))
    for name, array in arrays_of(source).items():
        if "bias_" not in name:  # two that are added
            np.testing.assert_array_equal(back[name], array)
    cell = linen.RNN(linen.SimpleCell(3, dtype=jnp.float64, **F64))
    variables = porting.torch_to_linen(source.rnn, porting.linen_template(cell, x))
    close(cell.apply(variables, x), source.rnn(torch.from_numpy(x))[0])
    again = porting.linen_to_nnx(
        variables, nnx.RNN(nnx.SimpleCell(4, 3, dtype=jnp.float64, rngs=nnx.Rngs(1), **F64), rngs=nnx.Rngs(1))
    )
    close(again(x), source.rnn(torch.from_numpy(x))[0])


class NnxHeads(nnx.Module):
    def __init__(self, rngs):
        self.heads = nnx.Dict({name: nnx.Linear(3, 2, rngs=rngs, **F64) for name in ("cat", "dog")})


class LinenHeads(linen.Module):
    def setup(self):
        self.heads = {name: linen.Dense(2, **F64) for name in ("cat", "dog")}

    def __call__(self, x):
        return sum(head(x) for head in self.heads.values())


def test_a_dict_of_layers_goes_to_linen_and_across():
    source = torch.nn.ModuleDict({"heads": torch.nn.ModuleDict({n: torch.nn.Linear(3, 2) for n in ("cat", "dog")})})
    source, x = source.double(), RNG.normal(size=(4, 3))
    expected = sum(head(torch.from_numpy(x)) for head in source["heads"].values())
    template = porting.linen_template(LinenHeads(), x)
    assert set(template["params"]) == {"heads_cat", "heads_dog"}
    variables = porting.torch_to_linen(source, template)
    close(LinenHeads().apply(variables, x), expected)
    module = porting.linen_to_nnx(variables, NnxHeads(nnx.Rngs(0)))
    close(sum(head(x) for head in module.heads.values()), expected)
    jax.tree.map(np.testing.assert_array_equal, porting.nnx_to_linen(module, template), variables)


# --- stacks, names, what stays -------------------------------------------------------------------------------


class Block(linen.Module):
    @linen.compact
    def __call__(self, x, _):
        return jnp.tanh(linen.Dense(3, name="fc", **F64)(x)), None


class Scanned(linen.Module):
    @linen.compact
    def __call__(self, x):
        blocks = linen.scan(Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=12)
        return blocks(name="blocks")(x, None)[0]


def test_a_list_of_layers_goes_into_a_scan_and_back():
    source = torch.nn.Module()
    source.h = torch.nn.ModuleList([torch.nn.ModuleDict({"fc": torch.nn.Linear(3, 3)}) for _ in range(12)]).double()
    x = RNG.normal(size=(2, 3))
    expected = torch.from_numpy(x)
    for layer in source.h:
        expected = torch.tanh(layer["fc"](expected))
    arrays, template = arrays_of(source), porting.linen_template(Scanned(), x)
    for variables in (
        porting.arrays_to_linen(arrays, template, {"h.*": "blocks"}),
        porting.torch_to_linen(source, template, {"h.*": "blocks"}),
    ):
        close(Scanned().apply(variables, x), expected)
        back = porting.linen_to_arrays(variables, arrays, {"h.*": "blocks"})
        assert all(np.array_equal(back[name], array) for name, array in arrays.items())
    del arrays["h.7.fc.weight"]
    with pytest.raises(PortingError, match=r"blocks/fc/kernel \(12, 3, 3\): expected the layers 0 to 11 .*got 0, 1, 2"):
        porting.arrays_to_linen(arrays, template, {"h.*": "blocks"})


class NnxStack(nnx.Module):
    def __init__(self, rngs):
        @nnx.split_rngs(splits=4)
        @nnx.vmap
        def make(rngs):
            return nnx.Linear(3, 3, rngs=rngs, **F64)

        self.layers = make(rngs)


def test_a_list_of_layers_goes_into_vmapped_ones():
    layers = torch.nn.ModuleList([torch.nn.Linear(3, 3) for _ in range(4)]).double()
    module = porting.torch_to_nnx(layers, NnxStack(nnx.Rngs(0)), {"*": "layers"})
    for number, layer in enumerate(layers):
        np.testing.assert_array_equal(module.layers.kernel[number], to_numpy(layer.weight).T)


def test_single_arrays_are_renamed_and_flaxs_own_are_kept():
    arrays = {
        "cls_token": np.ones((1, 3)),
        "head.weight": np.ones((2, 3)),
        "head.bias": np.ones(2),
        "old.x": np.ones(1),
    }
    params = {"cls": jnp.zeros((1, 3)), "head": {"kernel": jnp.zeros((3, 2)), "bias": jnp.zeros(2)}}
    params |= {"lora": {"a": jnp.full((2, 2), 7.0)}, "mask": jnp.full(2, 8.0)}
    found = porting.arrays_to_linen(arrays, params, {"cls_token": "cls"}, ["old"], keep=["lora", "mask"])
    assert found["cls"].sum() == 3 and found["lora"]["a"][0, 0] == 7 and found["mask"][0] == 8
    assert (
        porting.arrays_to_linen(arrays, params, {"cls_token": "cls"}, ["old", "lora"], keep=["mask"])["cls"][0, 0] == 1
    )
    blocks = {"blocks_0": {"fc": {"kernel": jnp.zeros((3, 2))}, "lora_1": {"a": jnp.full(2, 7.0)}}}
    weights = {"blocks.0.fc.weight": np.ones((2, 3))}
    for keep in ("blocks_*/lora_1", "blocks/*/lora/1"):
        assert porting.arrays_to_linen(weights, blocks, keep=[keep])["blocks_0"]["lora_1"]["a"].sum() == 14
    bias = porting.arrays_to_linen(
        {"a.weight": np.ones((2, 3)), "a.bias": np.ones(2)},
        {"a": {"kernel": jnp.zeros((3, 2))}, "b": jnp.zeros(2)}, {"a.bias": "b"},
    )  # fmt: skip
    assert bias["b"].sum() == 2
    with pytest.raises(PortingError, match=r"mask +\(2,\) +expected an array to keep, got a shape"):
        shapes = jax.eval_shape(lambda: params)
        porting.arrays_to_linen(arrays, shapes, {"cls_token": "cls"}, ["old"], keep=["lora", "mask"])


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"names": {"fx": "head"}}, r"expected names='fx' to name something, it names nothing; do you mean 'fc'\?"),
        ({"ignore": ["fc.bis"]}, r"expected ignore='fc.bis' to name something.*'fc.bias'"),
        ({"keep": ["x"]}, r"expected keep='x' to name something, it names nothing; take it out"),
        ({"treat_as": {"gc": "Linear"}}, r"expected treat_as='gc' to name something.*'fc'"),
        ({"treat_as": {"fc": "Dense"}}, r"^expected treat_as one of Linear, .*, got 'Dense'; correct it$"),
        ({"treat_as": {"fc": "Recurrent"}}, r"fc .*expected the tensors of a Recurrent, got .*correct treat_as"),
    ],
)
def test_what_names_nothing_is_an_error(told, message):
    layer = torch.nn.ModuleDict({"fc": torch.nn.Linear(3, 2)})
    params = {"fc": {"kernel": jnp.zeros((3, 2)), "bias": jnp.zeros(2)}}
    for source in (layer, arrays_of(layer)):
        with pytest.raises(PortingError, match=message):
            porting.mapping(source, params, **told)
    with pytest.raises(TypeError, match=r"expected ignore as a collection of names, got 'fc'; write ignore=\['fc'\]"):
        porting.mapping(layer, params, ignore="fc")


def test_all_that_is_wrong_is_said_at_once():
    source = {"a.weight": np.ones((2, 3)), "b.weight": np.ones((4, 2)), "c.bias": np.ones(5)}
    params = {"a": {"kernel": np.ones((3, 3))}, "b": {"kernel": np.ones((2, 4)), "bias": np.ones(4)}, "d": np.ones(1)}
    with pytest.raises(PortingError) as caught:
        porting.arrays_to_linen(source, params)
    first, header, *rows = str(caught.value).split("\n")
    assert first == "4 problems:" and len(rows) == 4
    assert header.split("  ")[0] == "torch" and header.endswith("what is wrong; what to do")
    assert rows[0].startswith("a.weight  (2, 3)  a/kernel  (3, 3)  expected (3, 2) in linen")
    assert [row.index("expected ") for row in rows] == [header.index("what is wrong")] * 4  # columns
    found = {(problem.torch, problem.flax) for problem in caught.value.problems}
    assert found == {("a.weight", "a/kernel"), ("c.bias", ""), ("", "b/bias"), ("", "d")}


# --- ties, layers that are others, boxes ----------------------------------------------------------------------


@pytest.mark.parametrize("transposed", [False, True])
def test_weights_of_one_memory_are_tied(transposed):
    encoder, decoder = torch.nn.Linear(3, 2, bias=False), torch.nn.Linear(2, 3, bias=False)
    if transposed:
        decoder.weight = torch.nn.Parameter(encoder.weight.detach().t())
    else:
        decoder = torch.nn.Linear(3, 2, bias=False)
        decoder.weight = torch.nn.Parameter(encoder.weight.detach())
    source = torch.nn.ModuleDict({"enc": encoder, "dec": decoder})
    shape = (2, 3) if transposed else (3, 2)
    params = {"enc": {"kernel": jnp.zeros((3, 2))}, "dec": {"kernel": jnp.zeros(shape)}}
    with pytest.raises(
        PortingError, match=r"expected one array in linen for enc\.weight and dec\.weight, which are one"
    ):
        porting.torch_to_linen(source, params)
    rows = porting.mapping(source, {"enc": params["enc"]})
    assert rows[-1].torch == "dec.weight" and rows[-1].rule == "tied to enc.weight"


class StdLinear(torch.nn.Linear):
    def forward(self, x):
        weight = self.weight - self.weight.mean(1, keepdim=True)
        return torch.nn.functional.linear(x, weight, self.bias)


class NamedLinear(torch.nn.Linear):
    """Of another name, and nothing else."""

    def __init__(self, *args):
        super().__init__(*args)
        self.note = "mine"


def test_a_layer_with_a_forward_of_its_own_is_another_layer():
    params = {"fc": {"kernel": jnp.zeros((3, 2)), "bias": jnp.zeros(2)}}
    source = torch.nn.ModuleDict({"fc": StdLinear(3, 2)})
    with pytest.raises(
        PortingError, match=r"StdLinear: expected the methods of Linear, got a forward of its own.*treat_as"
    ):
        porting.torch_to_linen(source, params)
    assert porting.torch_to_linen(source, params, treat_as={"fc": "Linear"})["fc"]["kernel"].shape == (3, 2)
    own = porting.torch_to_linen(
        source, {"fc": {"weight": jnp.zeros((2, 3)), "bias": jnp.zeros(2)}}, treat_as={"fc": "own"}
    )
    np.testing.assert_array_equal(own["fc"]["weight"], to_numpy(source["fc"].weight))
    assert porting.torch_to_linen(torch.nn.ModuleDict({"fc": NamedLinear(3, 2)}), params)
    patched = torch.nn.ModuleDict({"fc": torch.nn.Linear(3, 2)})
    patched["fc"].forward = lambda x: x
    with pytest.raises(PortingError, match="Linear: expected the methods of Linear, got a forward of its own"):
        porting.torch_to_linen(patched, params)


class LoRALinear(torch.nn.Linear):
    def __init__(self, a, b):
        super().__init__(a, b)
        self.lora_a, self.lora_b = torch.nn.Parameter(torch.randn(a, 2)), torch.nn.Parameter(torch.randn(2, b))

    def forward(self, x):
        return super().forward(x) + x @ self.lora_a @ self.lora_b


class NnxLoRALinear(nnx.Linear):
    def __init__(self, a, b, *, rngs):
        super().__init__(a, b, rngs=rngs, **F64)
        self.lora_a, self.lora_b = nnx.Param(jnp.zeros((a, 2))), nnx.Param(jnp.zeros((2, b)))

    def __call__(self, x):
        return super().__call__(x) + x @ self.lora_a[...] @ self.lora_b[...]


def test_a_layer_with_more_than_its_class_has():
    source, x = LoRALinear(3, 4).double(), RNG.normal(size=(2, 3))
    for port, given in ((porting.torch_to_nnx, source), (porting.arrays_to_nnx, arrays_of(source))):
        module = port(given, NnxLoRALinear(3, 4, rngs=nnx.Rngs(0)), treat_as={"": "Linear"})
        close(module(x), source(torch.from_numpy(x)))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (torch.nn.Conv2d(2, 3, 3, padding_mode="circular"), "expected padding_mode='zeros', got 'circular'"),
        (torch.nn.BatchNorm1d(3, track_running_stats=False), "expected track_running_stats=True, got False"),
        (torch.nn.InstanceNorm1d(3, track_running_stats=True), "expected track_running_stats=False, got True"),
        (torch.nn.MultiheadAttention(4, 2, add_zero_attn=True), "expected add_zero_attn=False, got True"),
        (torch.nn.Embedding(3, 2, max_norm=1.0), "expected max_norm=None, got 1.0"),
        (torch.nn.EmbeddingBag(3, 2, max_norm=1.0), "expected max_norm=None, got 1.0"),
        (torch.nn.LSTM(3, 4, proj_size=2), "expected proj_size=0, got 2"),
        (torch.nn.MaxPool2d(2, ceil_mode=True), "expected ceil_mode=False, got True"),
        (
            torch.nn.utils.parametrizations.spectral_norm(torch.nn.Linear(3, 2)),
            "got a parametrized one; .*remove_param",
        ),
        (torch.nn.utils.parametrizations.orthogonal(torch.nn.Linear(3, 2)), "got a parametrized one; .*remove_param"),
    ],
)
def test_settings_that_flax_has_not_are_refused(layer, message):
    with pytest.raises(PortingError, match=message) as caught:
        porting.torch_to_linen(torch.nn.ModuleDict({"layer": layer}), {"x": np.zeros(1)})
    assert any(problem.torch == "layer" and problem.remedy for problem in caught.value.problems)


def test_boxes_and_empty_collections_stay():
    class Boxed(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.Dense(2, kernel_init=linen.with_partitioning(linen.initializers.ones, ("in", "out")))(x)

    template = Boxed().init(jax.random.key(0), jnp.ones((1, 3))) | {"cache": {}}
    source = torch.nn.ModuleDict({"Dense_0": torch.nn.Linear(3, 2)})
    found = porting.torch_to_linen(source, template)
    assert jax.tree.structure(found) == jax.tree.structure(template) and found["cache"] == {}
    assert found["params"]["Dense_0"]["kernel"].names == ("in", "out")
    np.testing.assert_array_equal(found["params"]["Dense_0"]["kernel"].value, to_numpy(source["Dense_0"].weight).T)
    assert np.array_equal(
        porting.linen_to_arrays(found, arrays_of(source))["Dense_0.weight"], source["Dense_0"].weight.detach()
    )


def test_arguments_in_the_wrong_place_are_named():
    layer, module = torch.nn.Linear(3, 2), nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    with pytest.raises(TypeError, match="expected a torch module, got Linear; the torch side comes first"):
        porting.torch_to_nnx(module, layer)
    with pytest.raises(TypeError, match=r"expected a torch module, got OrderedDict; .* arrays_to_nnx"):
        porting.torch_to_nnx(layer.state_dict(), module)
    with pytest.raises(TypeError, match=r"weight: expected a NumPy array, got Tensor; .* tensor.numpy\(\)"):
        porting.arrays_to_nnx(layer.state_dict(), module)
    with pytest.raises(TypeError, match="expected a dict of names and arrays, got Linear; a torch module goes to"):
        porting.arrays_to_nnx(layer, module)
    with pytest.raises(TypeError, match=r"expected an nnx\.Module or an nnx\.State, got Linear"):
        porting.torch_to_nnx(layer, layer)
    with pytest.raises(TypeError, match="expected Linen variables, a dict, got Linear"):
        porting.torch_to_linen(layer, module)


# --- found by trying to break it -------------------------------------------------------------------------------


def test_the_gradient_of_b_hn_is_nothing_that_nnxs_gru_knows():
    gru, x = torch.nn.GRU(3, 2, batch_first=True).double(), RNG.normal(size=(2, 4, 3))
    with torch.no_grad():
        gru.bias_hh_l0[4:] = 0
    gru(torch.from_numpy(x))[0].square().sum().backward()
    theirs = {name: to_numpy(p.grad) for name, p in gru.named_parameters()}
    module = nnx.RNN(nnx.GRUCell(3, 2, dtype=jnp.float64, rngs=nnx.Rngs(0), **F64), rngs=nnx.Rngs(0))
    module = porting.torch_to_nnx(gru, module)
    grads = nnx.grad(lambda module: jnp.square(module(x)).sum())(module)
    ported = porting.arrays_to_nnx(theirs, grads, gradients=True)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), ported, grads)
    with pytest.raises(PortingError, match="expected the gradient of b_hn too, got that of one bias for both"):
        porting.nnx_to_arrays(grads, theirs, gradients=True)
    back = porting.nnx_to_torch(module, torch.nn.GRU(3, 2, batch_first=True).double())  # whatever it held before
    close(to_numpy(back(torch.from_numpy(x))[0]), gru(torch.from_numpy(x))[0])


class TiedNet(torch.nn.Module):
    def __init__(self, transposed):
        super().__init__()
        self.embed = torch.nn.Embedding(7, 4)
        self.out = torch.nn.Linear(7, 4, bias=False) if transposed else torch.nn.Linear(4, 7, bias=False)
        self.out.weight = torch.nn.Parameter(self.embed.weight.detach().t()) if transposed else self.embed.weight


@pytest.mark.parametrize("transposed", [False, True])
def test_every_name_of_a_tied_weight_comes_back_new(transposed):
    arrays = arrays_of(TiedNet(transposed))
    back = porting.linen_to_arrays({"embed": {"embedding": jnp.asarray(arrays["embed.weight"]) + 1}}, arrays)
    for name in ("embed.weight", "out.weight"):
        np.testing.assert_allclose(back[name], arrays[name] + 1)


def test_a_file_may_hold_a_tied_weight_twice():
    arrays = {name: array.copy() for name, array in arrays_of(TiedNet(False)).items()}
    params = {"embed": {"embedding": jnp.zeros((7, 4))}}
    with pytest.raises(PortingError, match=r"it equals embed\.weight: if the two are tied, ignore=\['out\.weight'\]"):
        porting.arrays_to_linen(arrays, params)
    assert porting.arrays_to_linen(arrays, params, ignore=["out.weight"])["embed"]["embedding"].any()


def dense(rows, columns, value=0.0):
    return {"kernel": jnp.full((rows, columns), value), "bias": jnp.full(columns, value)}


def test_one_array_in_two_collections_is_refused():
    variables = {"params": {"fc": dense(3, 2)}, "target": {"fc": dense(3, 2)}}
    with pytest.raises(
        PortingError, match=r"fc/(kernel|bias): expected one collection that has it, got '\w+' and '\w+'"
    ):
        porting.torch_to_linen(torch.nn.ModuleDict({"fc": torch.nn.Linear(3, 2)}), variables)


class Conv1D(torch.nn.Module):
    def __init__(self, rows, columns):
        super().__init__()
        self.weight, self.bias = (
            torch.nn.Parameter(torch.randn(rows, columns)),
            torch.nn.Parameter(torch.zeros(columns)),
        )


def test_a_square_conv1d_is_not_taken_for_a_linear():
    source = torch.nn.ModuleDict({"c_fc": Conv1D(3, 4), "c_proj": Conv1D(3, 3)})
    params = {"c_fc": dense(3, 4), "c_proj": dense(3, 3)}
    with pytest.raises(PortingError, match=r"c_fc\.weight .* expected c_fc/weight .*; say .*treat_as=.* 'Conv1D'"):
        porting.torch_to_linen(source, params)  # a class of one's own has arrays of its own
    with pytest.raises(PortingError, match=r"c_proj\.weight \(3, 3\): expected to be told .* others are Conv1D"):
        porting.arrays_to_linen(arrays_of(source), params, treat_as={"c_fc": "Conv1D"})
    found = porting.torch_to_linen(source, params, treat_as={"*": "Conv1D"})
    np.testing.assert_array_equal(found["c_proj"]["kernel"], to_numpy(source["c_proj"].weight))


@pytest.mark.parametrize("weight", [(6, 18), (7, 6)])
def test_packed_rows_that_do_not_fit_are_refused(weight):
    params = {name: {"kernel": jnp.zeros((6, 3, 2))} for name in ("query", "key", "value")}
    with pytest.raises(PortingError, match=r"in linen .*got \(6, 3, 2\)|rows that can be cut into 3"):
        porting.arrays_to_linen({"a.weight": np.zeros(weight)}, params, {"a": ""}, treat_as={"a": "qkv"})


def test_what_is_kept_is_kept_whatever_torch_has():
    source = torch.nn.ModuleDict({"head": torch.nn.Linear(3, 2), "fc": torch.nn.Linear(3, 2)})
    params = {"head": dense(3, 5, 9.0), "fc": dense(3, 2)}
    with pytest.raises(PortingError, match=r"head\.weight .* expected a place for it, got one that keep= leaves alone"):
        porting.torch_to_linen(source, params, keep=["head"])
    found = porting.torch_to_linen(source, params, keep=["head"], ignore=(name for name in ["head"]))
    assert (found["head"]["kernel"] == 9).all()


def test_what_is_told_of_a_container_is_an_error():
    source = torch.nn.ModuleDict({"net": torch.nn.Sequential(StdLinear(3, 3))})
    with pytest.raises(PortingError, match=r"a forward of its own.*\n.*treat_as='net' to name something"):
        porting.torch_to_linen(source, {"net": {"layers_0": dense(3, 3)}}, treat_as={"net": "Linear"})


@pytest.mark.parametrize("shape", [(4, 3, 2), (3, 3, 3)])
def test_layer_norm_over_channels_first_axes(shape):
    source, x = torch.nn.LayerNorm(shape).double(), RNG.normal(size=(2, *shape))
    with torch.no_grad():
        source.weight.normal_()
        source.bias.normal_()
    axes = {"reduction_axes": (1, 2, 3), "feature_axes": (1, 2, 3)}
    model, last = linen.LayerNorm(epsilon=1e-5, use_fast_variance=False, **axes, **F64), np.moveaxis(x, 1, -1)
    template, told = porting.linen_template(model, last), {"": "ChannelsFirstNorm"}
    if shape == (3, 3, 3):
        with pytest.raises(PortingError, match="fit Norm and ChannelsFirstNorm; say which"):
            porting.torch_to_linen(source, template)
    found = porting.torch_to_linen(source, template, treat_as=told if shape == (3, 3, 3) else None)
    np.testing.assert_allclose(model.apply(found, last), np.moveaxis(to_numpy(source(torch.from_numpy(x))), 1, -1))


def test_ignoring_one_of_two_biases_leaves_the_other():
    lstm, x = torch.nn.LSTM(3, 2, batch_first=True).double(), RNG.normal(size=(2, 4, 3))
    model = linen.RNN(linen.OptimizedLSTMCell(2, **F64))
    found = porting.torch_to_linen(lstm, porting.linen_template(model, x), ignore=["bias_hh_l0"])
    np.testing.assert_array_equal(found["params"]["cell"]["hf"]["bias"], to_numpy(lstm.bias_ih_l0)[2:4])


def test_layers_without_arrays_can_be_let_through():
    source = torch.nn.ModuleDict({"pool": torch.nn.MaxPool2d(2, ceil_mode=True), "fc": torch.nn.Linear(3, 2)})
    assert porting.torch_to_linen(source, {"fc": dense(3, 2)}, ignore=["pool"])


def test_a_frozen_dict_a_state_and_flags():
    source = torch.nn.ModuleDict({"fc": torch.nn.Linear(3, 2)})
    frozen = linen.FrozenDict({"params": {"fc": dense(3, 2)}})
    for variables in (frozen, {"params": frozen["params"]}):
        assert porting.torch_to_linen(source, variables)["params"]["fc"]["bias"].shape == (2,)

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.fc, self.drop = nnx.Linear(3, 2, rngs=rngs, **F64), nnx.Dropout(0.5, rngs=rngs)

    state = nnx.state(Net(nnx.Rngs(0)))
    rows = porting.mapping(source, state)
    assert [row.flax for row in rows] == ["fc/kernel", "fc/bias"]

    class Flagged(linen.Module):
        @linen.compact
        def __call__(self, x, train):
            return linen.Dense(2, name="fc")(x) if train else x

    assert porting.linen_template(Flagged(), np.ones((1, 3)), True)["params"]["fc"]["bias"].shape == (2,)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"names": ["fc"]}, r"expected names as a dict of paths, got \['fc'\]"),
        ({"names": {"fc": None}}, "expected names to hold text, got 'fc': None"),
        ({"treat_as": {"fc": ["Linear"]}}, r"expected treat_as to hold text, got 'fc': \['Linear'\]"),
        ({"ignore": None}, r"expected ignore as a collection of names, got None; write ignore=\[\]"),
        ({"keep": [1]}, "expected keep to hold names, got 1"),
    ],
)
def test_arguments_of_other_types_are_named(told, message):
    with pytest.raises(TypeError, match=message):
        porting.mapping({"fc.weight": np.zeros((2, 3))}, {"fc": {"kernel": np.zeros((3, 2))}}, **told)


@pytest.mark.parametrize(
    ("arrays", "params", "told", "message"),
    [
        ({"a.weight": np.zeros(3)}, {"a": {"kernel": np.zeros((3, 1))}}, {"treat_as": {"a": "Linear"}},
         "the tensors of a Linear"),
        ({"h.0.w": np.zeros(2)}, {"s": {"w": np.zeros(())}}, {"names": {"h.*": "s"}}, "in linen, got"),
        ({"s.0.b.0.w": np.zeros(2)}, {"s": {"w": np.zeros((1, 2))}}, {"names": {"s.*.b.*": "s"}},
         "as many stars on both"),
        ({"a.in_proj_weight": np.zeros(())}, {"x": np.zeros(1)}, {}, "expected a torch weight"),
        ({"u": np.array([2**40], np.uint64)}, {"u": np.zeros(2)}, {}, r"expected \(1,\) in linen, got \(2,\)"),
    ],
)  # fmt: skip
def test_shapes_that_cannot_be_are_problems(arrays, params, told, message):
    with pytest.raises(PortingError, match=message):
        porting.mapping(arrays, params, **told)


def test_files_and_tensors_that_hold_no_weights(tmp_path):
    for name, content in (("cut.pt", b""), ("text.pt", b"hello"), ("empty.npz", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name}: expected"):
            porting.read_checkpoint(tmp_path / name)
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    with pytest.raises(ValueError, match=r"module.pt: expected weights as torch.save\(model.state_dict\(\)\)"):
        porting.read_checkpoint(tmp_path / "module.pt")
    for layer in (torch.nn.LazyLinear(3), torch.nn.Linear(2, 3, device="meta")):
        with pytest.raises(ValueError, match="weight: expected a dense tensor with values"):
            porting.torch_to_linen(layer, {"kernel": np.zeros((2, 3))})
    with pytest.raises(TypeError, match="names: expected an array of numbers"):
        porting.mapping({"names": np.array(["a"])}, {})


# --- found by trying to break it once more ---------------------------------------------------------------------


@pytest.mark.parametrize("register", ["register_forward_hook", "register_forward_pre_hook"])
def test_a_layer_with_a_hook_is_another_layer(register):
    source, params = torch.nn.ModuleDict({"fc": torch.nn.Linear(3, 2)}), {"fc": dense(3, 2)}
    handle = getattr(source["fc"], register)(lambda *_: None)
    with pytest.raises(PortingError, match=r"Linear: expected no forward hook, got one; remove it .*treat_as"):
        porting.torch_to_linen(source, params)
    assert porting.torch_to_linen(source, params, treat_as={"fc": "Linear"})
    handle.remove()
    assert porting.torch_to_linen(source, params)


class Doubled(torch.nn.Module):
    def forward(self, x):
        return 2 * x


def parametrized_bias():
    layer = torch.nn.Linear(3, 2)
    torch.nn.utils.parametrize.register_parametrization(layer, "bias", Doubled())
    return layer


def pruned(layer, name):
    torch.nn.utils.prune.l1_unstructured(layer, name, 0.5)
    return layer


@pytest.mark.parametrize(
    ("make", "remedy"),
    [
        (parametrized_bias, r"remove_parametrizations\(layer, 'bias'\)"),
        (
            lambda: torch.nn.utils.parametrizations.weight_norm(torch.nn.LSTM(3, 2), "weight_hh_l0"),
            r"remove_parametrizations\(layer, 'weight_hh_l0'\)",
        ),
        (lambda: pruned(torch.nn.Linear(3, 2), "bias"), r"prune\.remove"),
    ],
)
def test_one_problem_says_all_of_a_parametrized_layer(make, remedy):
    source = torch.nn.ModuleDict({"layer": make()})
    with pytest.raises(PortingError, match=f"expected a plain weight, got a parametrized one; .*{remedy}") as caught:
        porting.torch_to_linen(source, {"layer": dense(3, 2)})
    assert len(caught.value.problems) == 1


def test_the_projection_inside_attention_may_be_parametrized_too():
    source = torch.nn.MultiheadAttention(4, 2)
    torch.nn.utils.parametrizations.weight_norm(source.out_proj)
    module = nnx.MultiHeadAttention(2, 4, decode=False, rngs=nnx.Rngs(0))
    with pytest.raises(PortingError, match=r"out_proj: .* got a parametrized one"):
        porting.torch_to_nnx(source, module)
    torch.nn.utils.parametrize.remove_parametrizations(source.out_proj, "weight")
    porting.torch_to_nnx(source, module)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (torch.nn.Embedding(3, 2, scale_grad_by_freq=True), "expected scale_grad_by_freq=False, got True"),
        (torch.nn.MaxPool2d(2, dilation=[2, 1]), r"expected dilation=1, got \[2, 1\]"),
        (torch.nn.LPPool2d(2, 2, ceil_mode=True), "expected ceil_mode=False, got True"),
    ],
)
def test_more_settings_that_flax_has_not_are_refused(layer, message):
    with pytest.raises(PortingError, match=message):
        porting.torch_to_linen(torch.nn.ModuleDict({"layer": layer}), {"x": np.zeros(1)})


def test_a_transposed_kernel_is_refused_wherever_a_module_tells():
    x, source = jnp.ones((1, 5, 3)), torch.nn.ConvTranspose1d(3, 3, 2)
    plain, turned = (linen.ConvTranspose(3, (2,), padding="VALID", transpose_kernel=turn) for turn in (False, True))
    with pytest.raises(PortingError, match="expected transpose_kernel=False, got True"):
        porting.torch_to_linen(source, porting.linen_template(turned, x))
    module = nnx.ConvTranspose(3, 3, (2,), transpose_kernel=True, rngs=nnx.Rngs(0))
    with pytest.raises(PortingError, match="expected transpose_kernel=False, got True"):
        porting.arrays_to_nnx(arrays_of(source), nnx.state(module), template=module, gradients=True)
    with pytest.raises(PortingError, match="the same layer in linen, got ConvTranspose, transpose_kernel=False for"):
        porting.nnx_to_linen(module, porting.linen_template(plain, x))
    assert porting.nnx_to_linen(module, porting.linen_template(turned, x))


def test_a_part_of_another_tensor_is_no_tensor_of_its_own():
    whole = RNG.normal(size=(6, 3))
    params = {"a": {"embedding": np.zeros((6, 3))}, "b": {"embedding": np.zeros((3, 3))}}
    for part in (whole[:3], whole[3:], whole[::2]):
        with pytest.raises(PortingError, match=r"expected memory of its own, got some that .* has too"):
            porting.arrays_to_linen({"a.weight": whole, "b.weight": part}, params)
        assert porting.arrays_to_linen({"a.weight": whole, "b.weight": part.copy()}, params)
    sides = {"a": {"embedding": np.zeros((6, 1))}, "b": {"embedding": np.zeros((6, 2))}}
    found = porting.arrays_to_linen({"a.weight": whole[:, :1], "b.weight": whole[:, 1:]}, sides)  # side by side
    np.testing.assert_array_equal(found["b"]["embedding"], whole[:, 1:])


def test_an_expanded_tensor_cannot_be_written_to():
    source, module = torch.nn.Linear(3, 2), nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    source.weight = torch.nn.Parameter(torch.randn(1, 3).expand(2, 3))
    porting.torch_to_nnx(source, module)
    with pytest.raises(PortingError, match=r"weight .*got an expanded one, which cannot be written to"):
        porting.nnx_to_torch(module, source)


def test_tied_views_of_any_order_come_back():
    kernel = RNG.normal(size=(4, 3, 2))
    for view in (kernel.transpose(2, 0, 1), kernel.reshape(4, 6), kernel.T):
        like = {"a.weight": kernel, "b.weight": view}
        params = porting.arrays_to_linen(like, {"a": {"kernel": np.zeros((2, 3, 4))}})
        back = porting.linen_to_arrays(jax.tree.map(lambda a: a + 1, params), like)
        np.testing.assert_array_equal(back["a.weight"], kernel + 1)
        np.testing.assert_array_equal(back["b.weight"], view + 1)


def test_a_conv1d_of_query_key_and_value_and_a_pair_of_two():
    heads = {"kernel": np.zeros((4, 2, 2)), "bias": np.zeros((2, 2))}
    arrays = {"a.weight": RNG.normal(size=(4, 12)), "a.bias": RNG.normal(size=12)}
    params = {"a": {name: dict(heads) for name in ("query", "key", "value")}}
    found = porting.arrays_to_linen(arrays, params, treat_as={"a": "qkv"})
    for k, name in enumerate(params["a"]):
        part = slice(4 * k, 4 * k + 4)
        np.testing.assert_array_equal(found["a"][name]["kernel"].reshape(4, 4), arrays["a.weight"][:, part])
        np.testing.assert_array_equal(found["a"][name]["bias"].reshape(4), arrays["a.bias"][part])
    back = porting.linen_to_arrays(found, arrays, treat_as={"a": "qkv"})
    assert all(np.array_equal(back[name], array) for name, array in arrays.items())
    rows = porting.mapping(arrays, params, treat_as={"a": "qkv"})
    assert rows[2].torch == "a.weight[:, 4:8]" and rows[2].torch_shape == (4, 4)
    with pytest.raises(PortingError, match="expected to be told what it is where others are Conv1D"):
        square = {"b.weight": np.zeros((4, 4)), "b.bias": np.zeros(4)}
        porting.arrays_to_linen(arrays | square, {**params, "b": dense(4, 4)}, treat_as={"a": "qkv"})

    pair = {"a.weight": RNG.normal(size=(8, 4)), "a.bias": RNG.normal(size=8)}
    params = {"a": {name: dict(heads) for name in ("key", "value")}}
    with pytest.raises(PortingError, match=r"if its rows are key and value, .*treat_as=\{'a': 'kv'\}"):
        porting.arrays_to_linen(pair, params)
    found = porting.arrays_to_linen(pair, params, treat_as={"a": "kv"})
    np.testing.assert_array_equal(found["a"]["value"]["kernel"].reshape(4, 4), pair["a.weight"][4:].T)


def test_what_is_a_reshape_apart():
    arrays = {"conv.weight": RNG.normal(size=(4, 3, 1, 1)), "q_bias": RNG.normal(size=6)}
    params = {"conv": {"kernel": np.zeros((3, 4))}, "query": {"bias": np.zeros((2, 3))}}
    names = {"q_bias": "query/bias"}
    found = porting.arrays_to_linen(arrays, params, names)
    np.testing.assert_array_equal(found["conv"]["kernel"], arrays["conv.weight"][..., 0, 0].T)
    np.testing.assert_array_equal(found["query"]["bias"].reshape(6), arrays["q_bias"])
    back = porting.linen_to_arrays(found, arrays, names)
    assert all(np.array_equal(back[name], array) for name, array in arrays.items())


def test_a_stack_may_begin_after_other_layers():
    arrays = {f"h.{k}.weight": RNG.normal(size=(3, 3)) for k in range(3)}
    params = {"first": {"kernel": np.zeros((3, 3))}, "rest": {"kernel": np.zeros((2, 3, 3))}}
    names = {"h.0": "first", "h.*": "rest"}
    found = porting.arrays_to_linen(arrays, params, names)
    np.testing.assert_array_equal(found["rest"]["kernel"][1], arrays["h.2.weight"].T)
    assert porting.mapping(arrays, params, names)[-1].flax == "rest/kernel[1]"
    with pytest.raises(PortingError, match="expected the layers 0 to 1 for its first axis, got 0, 2"):
        porting.arrays_to_linen({k: arrays[k] for k in ("h.0.weight", "h.2.weight")}, {"rest": params["rest"]},
                                {"h.*": "rest"})  # fmt: skip


@pytest.mark.parametrize("prefix", ["module", "_orig_mod", "module._orig_mod"])
def test_a_prefix_is_named_and_taken_off(prefix):
    arrays = {f"{prefix}.{k}.weight": RNG.normal(size=(3, 3)) for k in range(2)}
    params = {f"layers_{k}": {"kernel": np.zeros((3, 3))} for k in range(2)}
    with pytest.raises(PortingError, match=rf"pass names=\{{'{prefix}': ''\}}, if that is before every name"):
        porting.arrays_to_linen(arrays, params)
    assert porting.arrays_to_linen(arrays, params, names={prefix: ""})


def test_a_bias_that_flax_has_not_is_built_or_ignored():
    arrays, params = {"a.weight": np.ones((2, 3)), "a.bias": np.ones(2)}, {"a": {"kernel": np.zeros((3, 2))}}
    with pytest.raises(PortingError, match=r"build flax's layer with it, use_bias=True, or pass ignore=\['a.bias'\]"):
        porting.arrays_to_linen(arrays, params)
    assert porting.arrays_to_linen(arrays, params, ignore=["a.bias"])


def test_classes_modules_and_nested_dicts_in_the_wrong_place_are_named():
    layer = torch.nn.Linear(3, 2)
    for port, args, message in (
        (porting.torch_to_linen, (layer, linen.Dense(2)), r"got the module Dense; .*linen_template\(model, x\)"),
        (porting.torch_to_linen, (layer, nnx.state(nnx.Linear(3, 2, rngs=nnx.Rngs(0)))), "a dict, got State"),
        (porting.torch_to_nnx, (layer, nnx.Linear), "got the class Linear, not an instance"),
        (porting.torch_to_nnx, (torch.nn.Linear, layer), "got the class Linear, not an instance"),
        (porting.arrays_to_linen, ({"params": dense(3, 2)}, {}), "params: expected a NumPy array, got a dict; torch's"),
    ):
        with pytest.raises(TypeError, match=message):
            port(*args)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.jit.trace
def test_a_traced_module_is_ported_by_its_arrays():
    source = torch.jit.trace(torch.nn.Sequential(torch.nn.Linear(3, 2)), torch.ones(1, 3))
    with pytest.raises(PortingError, match=r"got a ScriptModule; .*arrays_to_nnx or arrays_to_linen") as caught:
        porting.torch_to_linen(source, {"layers_0": dense(3, 2)})
    assert len(caught.value.problems) == 1
    assert porting.arrays_to_linen(arrays_of(source), {"layers_0": dense(3, 2)})


def test_more_files_that_hold_no_weights(tmp_path):
    (tmp_path / "folder.safetensors").mkdir()
    np.savez(tmp_path / "low.npz", a=np.zeros(3, jnp.bfloat16))
    torch.save({"net": torch.nn.Linear(2, 2).state_dict(), "epoch": 3}, tmp_path / "net.pt")
    pytest.importorskip("safetensors.torch").save_file(
        {"a": torch.zeros(3).to(torch.float8_e5m2)}, tmp_path / "eight.safetensors"
    )
    for name, message in (
        ("folder.safetensors", "expected a file, got a folder"),
        ("model.safetensors.index.json", r"got a list of them; read each .* read_checkpoint\(one\)"),
        ("low.npz", r"expected numbers, got a of \|V2: a .npz keeps no bfloat16"),
        ("net.pt", r"save model.state_dict\(\), or what is under 'net' alone"),
        ("eight.safetensors", "expected dtypes that NumPy has, got 'float8_e5m2'"),
    ):
        with pytest.raises(ValueError, match=message):
            porting.read_checkpoint(tmp_path / name)
    with pytest.raises(TypeError, match=r"a: expected an array of numbers, got .*V2"):
        porting.mapping({"a": np.zeros(3, "V2")}, {})


def test_attention_that_is_told_to_be_one_still_has_its_heads():
    source = torch.nn.MultiheadAttention(8, 4)
    module = nnx.MultiHeadAttention(2, 8, decode=False, rngs=nnx.Rngs(0))
    with pytest.raises(PortingError, match="expected 4 heads in nnx, got 2"):
        porting.torch_to_nnx(source, module, treat_as={"": "MultiheadAttention"})


def test_what_is_told_does_not_make_a_plain_weight():
    source = torch.nn.ModuleDict({"fc": torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(3, 2))})
    with pytest.raises(PortingError, match="expected a plain weight, got a parametrized one"):
        porting.torch_to_linen(source, {"fc": dense(3, 2)}, treat_as={"fc": "Linear"})


def test_attention_without_biases_in_flax():
    source, module = torch.nn.MultiheadAttention(4, 2), nnx.MultiHeadAttention(2, 4, use_bias=False, decode=False,
                                                                               rngs=nnx.Rngs(0))  # fmt: skip
    with pytest.raises(PortingError, match=r"use_bias=True, or pass ignore=\['in_proj_bias'\]"):
        porting.torch_to_nnx(source, module)
    porting.torch_to_nnx(source, module, ignore=["in_proj_bias", "out_proj.bias"])


def test_numbers_of_another_byte_order_and_too_wide_ones():
    arrays = {"fc.weight": RNG.normal(size=(2, 3)).astype(">f8")}
    found = porting.arrays_to_linen(arrays, {"fc": {"kernel": np.zeros((3, 2))}})
    np.testing.assert_array_equal(found["fc"]["kernel"], arrays["fc.weight"].T)
    np.testing.assert_array_equal(porting.linen_to_arrays(found, arrays)["fc.weight"], arrays["fc.weight"])
    if np.longdouble != np.float64:
        with pytest.raises(TypeError, match=r"fc\.weight: expected numbers of 64 bits at most"):
            porting.mapping({"fc.weight": np.zeros((2, 3), np.longdouble)}, {})


def test_a_slope_for_every_channel():
    source = torch.nn.PReLU(3)
    with pytest.raises(PortingError, match=r"write a layer whose negative_slope has the shape \(3,\)"):
        porting.torch_to_nnx(source, nnx.PReLU())

    class Slopes(nnx.Module):
        def __init__(self):
            self.negative_slope = nnx.Param(jnp.zeros(3))

    np.testing.assert_array_equal(porting.torch_to_nnx(source, Slopes()).negative_slope[...], to_numpy(source.weight))


class TorchHeads(torch.nn.Module):
    def __init__(self, heads):
        super().__init__()
        self.num_heads = heads
        self.query, self.key, self.value, self.out = (torch.nn.Linear(8, 8) for _ in range(4))


def test_separate_projections_have_the_heads_of_their_module():
    for heads in (2, 4):
        module = nnx.MultiHeadAttention(2, 8, decode=False, rngs=nnx.Rngs(0))
        if heads == 2:
            porting.torch_to_nnx(TorchHeads(heads), module)
        else:
            with pytest.raises(PortingError, match="expected 4 heads in nnx, got 2") as caught:
                porting.torch_to_nnx(TorchHeads(heads), module)
            assert [problem.torch for problem in caught.value.problems] == ["query.weight", "out.weight"]
