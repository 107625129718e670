"""Whole models between torch, NNX and Linen: buffers, lists, tied and renamed weights, and every refusal."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import linen, nnx

from course import layers, porting
from course.porting import PortingError


class TorchNet(torch.nn.Module):
    """A weight of its own, a buffer of its own, a list, a Sequential, BatchNorm."""

    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.shift = torch.nn.Parameter(torch.randn(3))
        self.register_buffer("scale", torch.tensor([2, 3, 4]))
        self.register_buffer("scratch", torch.zeros(9), persistent=False)
        self.blocks = torch.nn.ModuleList([torch.nn.Linear(3, 3) for _ in range(2)])
        self.head = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2))
        with torch.no_grad():
            self.head[1].running_mean.normal_()
            self.head[1].running_var.uniform_(0.5, 2)
        self.to(dtype)

    def forward(self, x):
        x = x * self.scale + self.shift
        for block in self.blocks:
            x = torch.tanh(block(x))
        return self.head(x)


class Constant(nnx.Variable):
    pass


class NnxNet(nnx.Module):
    def __init__(self, rngs):
        self.shift, self.scale = nnx.Param(jnp.zeros(3)), Constant(jnp.zeros(3, jnp.int32))
        self.blocks = nnx.List([nnx.Linear(3, 3, rngs=rngs) for _ in range(2)])
        self.head = nnx.Sequential(
            nnx.Linear(3, 4, rngs=rngs),
            nnx.BatchNorm(4, use_running_average=True, rngs=rngs),
            nnx.Linear(4, 2, rngs=rngs),
        )
        self.dropout = nnx.Dropout(0.5, deterministic=True, rngs=rngs)  # its random stream is no weight

    def __call__(self, x):
        x = x * self.scale[...] + self.shift[...]
        for block in self.blocks:
            x = jnp.tanh(block(x))
        return self.dropout(self.head(x))


class LinenNet(linen.Module):
    def setup(self):
        self.shift = self.param("shift", linen.initializers.zeros, (3,))
        self.scale = self.variable("constants", "scale", jnp.zeros, (3,), jnp.int32)
        self.blocks = [linen.Dense(3) for _ in range(2)]
        self.head = linen.Sequential([linen.Dense(4), linen.BatchNorm(use_running_average=True), linen.Dense(2)])

    def __call__(self, x):
        x = x * self.scale.value + self.shift
        for block in self.blocks:
            x = jnp.tanh(block(x))
        return self.head(x)


X = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)


def linen_template(model=None, *inputs):
    return jax.eval_shape((model or LinenNet()).init, jax.random.key(0), *(inputs or [X]))


def torch_net():
    torch.manual_seed(0)
    return TorchNet().eval()


def same_state(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_torch_to_nnx_to_linen_to_torch_loses_nothing():
    source = torch_net()
    expected = source(torch.from_numpy(X)).detach().numpy()
    module = porting.torch_to_nnx(source, NnxNet(nnx.Rngs(0)))
    np.testing.assert_allclose(module(X), expected, atol=1e-6)
    variables = porting.nnx_to_linen(module, linen_template())
    np.testing.assert_allclose(LinenNet().apply(variables, X), expected, atol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, variables, porting.torch_to_linen(source, linen_template()))
    back = TorchNet()
    assert not same_state(back, source)
    assert same_state(porting.linen_to_torch(variables, back), source)
    again = porting.linen_to_nnx(variables, NnxNet(nnx.Rngs(1)))
    assert same_state(porting.nnx_to_torch(again, TorchNet()), source)


def test_the_mapping_lists_every_weight_and_what_stays_behind():
    rows = porting.mapping(torch_net(), NnxNet(nnx.Rngs(0)))
    assert ("head.0.weight", (4, 3), "head/layers/0/kernel", (3, 4), "(out, in) -> (in, out)") in rows
    assert ("head.1.running_var", (4,), "head/layers/1/var", (4,), "as it is") in rows
    assert rows[-1].torch == "head.1.num_batches_tracked" and "stays" in rows[-1].rule
    assert ("blocks.1.weight", (3, 3), "blocks_1/kernel", (3, 3), "(out, in) -> (in, out)") in porting.mapping(
        torch_net(), linen_template()
    )


@pytest.mark.slow
def test_an_nnx_model_need_not_be_initialised():
    module = nnx.eval_shape(lambda: nnx.Linear(3, 2, rngs=nnx.Rngs(0)))
    layer = torch.nn.Linear(3, 2)
    np.testing.assert_allclose(porting.torch_to_nnx(layer, module)(X), layer(torch.from_numpy(X)).detach(), atol=1e-6)


def test_an_abstract_random_stream_is_refused():
    module = nnx.eval_shape(lambda: NnxNet(nnx.Rngs(0)))
    with pytest.raises(
        PortingError, match=r"dropout/rngs/count +\(\) +expected a random stream with a key, got the abstract"
    ):
        porting.torch_to_nnx(torch_net(), module)


def test_small_integers_and_flags_go_both_ways():
    source = torch.nn.Sequential()
    source.register_buffer("numbers", torch.tensor([-128, 3, 127], dtype=torch.int8))
    source.register_buffer("flags", torch.tensor([True, False]))
    template = {"batch_stats": {"numbers": np.zeros(3, np.int8), "flags": np.zeros(2, bool)}}
    ported = porting.torch_to_linen(source, template)
    back = copy.deepcopy(source)
    back.numbers.zero_()
    assert (
        same_state(porting.linen_to_torch(ported, back), source) and ported["batch_stats"]["numbers"].dtype == np.int8
    )


def test_bfloat16_keeps_every_bit():
    source = TorchNet(torch.bfloat16)
    module = porting.torch_to_nnx(source, NnxNet(nnx.Rngs(0)))
    assert module.shift[...].dtype == jnp.bfloat16
    assert same_state(porting.nnx_to_torch(module, TorchNet(torch.bfloat16)), source)


def test_a_large_integer_buffer_is_not_cut():
    source = torch_net()
    for large in (2**40, -(2**40)):
        source.scale[0] = large
        with pytest.raises(PortingError, match=r"scale \(3,\): expected a dtype that JAX keeps, got int64"):
            porting.torch_to_nnx(source, NnxNet(nnx.Rngs(0)))


def test_names_and_ignore():
    source = torch.nn.Sequential()
    source.add_module("fc", torch.nn.Linear(3, 2))
    source.register_buffer("mask", torch.ones(3))
    params = {"net": {"Dense_0": {"kernel": jnp.zeros((3, 2)), "bias": jnp.zeros(2)}}}
    found = porting.torch_to_linen(source, params, names={"fc": "net/Dense_0"}, ignore=["mask"])
    np.testing.assert_array_equal(found["net"]["Dense_0"]["kernel"], source.fc.weight.detach().T)
    with pytest.raises(PortingError, match=r"torch's mask \(3,\): expected mask \(3,\) in linen"):
        porting.torch_to_linen(source, params, names={"fc": "net/Dense_0"})
    with pytest.raises(PortingError, match=r"expected fc/kernel .*likely net/Dense_0/kernel.*{'fc': 'net/Dense_0'}"):
        porting.torch_to_linen(source, params, ignore=["mask"])


def test_the_likely_place_is_the_first_free_one_of_name_and_shape():
    source = torch.nn.ModuleDict({"a": torch.nn.Linear(3, 2), "fc": torch.nn.Linear(3, 2)})
    fits = {"kernel": np.zeros((3, 2)), "bias": np.zeros(2)}
    params = {
        "a": fits, "larger": {"kernel": np.zeros((3, 3))}, "smaller": {"kernel": np.zeros((1, 2))},
        "odd": {"bias": np.zeros((3, 2)), "scale": np.zeros((3, 2))}, "one": fits, "other": fits,
    }  # fmt: skip
    message = (
        r"fc\.weight +\(2, 3\) +expected fc/kernel \(3, 2\) in linen \(\(out, in\) -> \(in, out\)\), got "
        r"larger/kernel \(3, 3\), odd/bias \(3, 2\), odd/scale \(3, 2\), one/bias \(2,\) and 4 more"
        r"; likely one/kernel: rename one, or pass names={'fc': 'one'}"
    )
    with pytest.raises(PortingError, match=message):
        porting.torch_to_linen(source, params)


def test_what_is_ignored_stays_and_the_rest_of_the_layer_goes():
    (bias, weight) = porting.mapping(torch.nn.Linear(3, 2), {"bias": np.zeros(2)}, ignore=["weight"])
    assert (bias.torch, bias.flax, weight) == ("bias", "bias", ("weight", (2, 3), "", (), "ignored"))


def test_a_cell_of_another_name_is_found_in_any_spelling():
    params = linen_template(linen.LSTMCell(2), (X[0, :2], X[0, :2]), X)["params"]
    lstm = torch.nn.ModuleDict({"rnn": torch.nn.LSTM(3, 2)})
    with pytest.raises(PortingError, match=r"likely LSTMCell_0/ii/kernel: .*names={'rnn': 'LSTMCell_0'}"):
        porting.torch_to_linen(lstm, {"LSTMCell_0": params})


def test_one_place_for_two_weights_is_refused():
    source = torch.nn.ModuleDict({"a": torch.nn.Linear(3, 2), "b": torch.nn.Linear(3, 2)})
    params = {"a": {"kernel": jnp.zeros((3, 2)), "bias": jnp.zeros(2)}}
    with pytest.raises(PortingError, match=r"a/kernel +\(3, 2\) +expected one torch weight for it, got two: a.weight"):
        porting.torch_to_linen(source, params, names={"b": "a"})


class Tied(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.out = torch.nn.Linear(4, 7, bias=False)  # before its owner, on purpose
        self.embed = torch.nn.Embedding(7, 4)
        self.out.weight = self.embed.weight


def test_tied_weights_are_listed_once_and_not_parted():
    params = {"embed": {"embedding": jnp.zeros((7, 4))}}
    rows = porting.mapping(Tied(), {"params": params})
    assert {row.torch: row.rule for row in rows} == {"embed.weight": "as it is", "out.weight": "tied to embed.weight"}
    source = Tied()
    assert same_state(porting.linen_to_torch(porting.torch_to_linen(source, params), Tied()), source)
    with pytest.raises(
        PortingError,
        match=r"embed.weight \(7, 4\), .*expected one array in linen for out.weight and embed.weight.*got two.*attend",
    ):
        porting.torch_to_linen(source, params | {"out": {"kernel": jnp.zeros((4, 7))}})


def test_a_module_that_stands_in_two_places_is_tied():
    linear, cell = torch.nn.Linear(3, 2), torch.nn.LSTMCell(3, 2)
    rows = porting.mapping(
        torch.nn.ModuleDict({"a": linear, "b": linear}), {"b": {"kernel": np.zeros((3, 2)), "bias": np.zeros(2)}}
    )
    assert [(row.torch, row.rule) for row in rows[2:]] == [
        ("a.weight", "tied to b.weight"),
        ("a.bias", "tied to b.bias"),
    ]
    fused = {"dense_i": {"kernel": np.zeros((3, 8))}, "dense_h": {"kernel": np.zeros((2, 8)), "bias": np.zeros(8)}}
    two = torch.nn.ModuleDict({"a": cell, "b": cell})
    rows = porting.mapping(two, {"b": fused})
    assert {row.torch: row.rule for row in rows[3:]} == {
        f"a.{name}": f"tied to b.{name}" for name in ("weight_ih", "weight_hh", "bias_ih")
    }


def test_layers_after_attention_and_lists_are_found_too():
    """Attention holds a layer of its own, which is not looked for apart."""
    source = torch.nn.Sequential(torch.nn.MultiheadAttention(4, 2, bias=False), torch.nn.Linear(4, 3))
    qkv = {name: {"kernel": np.zeros((4, 2, 2))} for name in ("query", "key", "value")}
    params = {
        "layers_0": qkv | {"out": {"kernel": np.zeros((2, 2, 4))}},
        "layers_1": {"kernel": np.zeros((4, 3)), "bias": np.zeros(3)},
    }
    assert [row.torch for row in porting.mapping(source, params)] == [
        "0.in_proj_weight[0:4]", "0.in_proj_weight[4:8]", "0.in_proj_weight[8:12]", "0.out_proj.weight",
        "1.weight", "1.bias",
    ]  # fmt: skip


def refused(layer, params, match):
    with pytest.raises(PortingError, match=match):
        porting.torch_to_linen(layer, params)


def test_a_shape_error_names_the_rule_and_the_likely_slip():
    zeros = jnp.zeros
    conv, bias = torch.nn.Conv2d(4, 6, 3), {"bias": zeros(6)}
    expected = (
        r"torch's weight \(6, 4, 3, 3\), flax's kernel .*: expected \(3, 3, 4, 6\) in linen \(OIHW -> HWIO\), got "
    )
    refused(conv, {"kernel": zeros((6, 4, 3, 3))} | bias, expected + r"\(6, 4, 3, 3\); .* a transpose missing")
    refused(conv, {"kernel": zeros((3, 3, 2, 6))} | bias, expected + r"\(3, 3, 2, 6\); .* feature_group_count")
    refused(conv, {"kernel": zeros((5, 5, 4, 6))} | bias, expected + r"\(5, 5, 4, 6\); build both with the same sizes")
    refused(
        torch.nn.Linear(4, 6),
        {"kernel": zeros((6, 4))} | bias,
        r"\(4, 6\).*\(out, in\) -> \(in, out\).*in and out exchanged",
    )
    transposed = torch.nn.ConvTranspose2d(4, 6, 3)
    refused(transposed, {"kernel": zeros((3, 3, 6, 4))} | bias, "flipped along HW.*transpose_kernel=False")
    attention = torch.nn.MultiheadAttention(8, 2, bias=False)
    qkv = {name: {"kernel": zeros((8, 4, 2))} for name in ("query", "key", "value")}
    refused(
        attention,
        qkv | {"out": {"kernel": zeros((4, 2, 8))}},
        r"in_proj_weight\[0:8\] +\(8, 8\).*expected 2 heads in linen, got 4 .*numbers of heads",
    )


def test_what_flax_has_not_is_refused():
    refused(torch.nn.ConvTranspose2d(4, 4, 3, groups=2), {}, r"\(root\) +ConvTranspose2d: expected groups=1, got 2")
    grouped = torch.nn.Sequential(torch.nn.ConvTranspose2d(4, 4, 3, groups=2))
    refused(grouped, {}, r"0 +ConvTranspose2d: expected groups=1, got 2")
    refused(
        torch.nn.Bilinear(1, 2, 3),
        {},
        r"\(root\) +expected one of Linear, .*, got Bilinear with weight \(3, 1, 2\)",
    )
    refused(torch.nn.BatchNorm1d(4, momentum=None), {}, r"BatchNorm1d: expected momentum=0.1, got None")
    refused(torch.nn.LSTM(4, 4, proj_size=2), {}, r"LSTM: expected proj_size=0, got 2")
    refused(
        torch.nn.MultiheadAttention(4, 2, add_bias_kv=True),
        {},
        r"MultiheadAttention: expected bias_k=None \(add_bias_kv=False\), got a tensor",
    )
    parametrized = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(3, 2))
    refused(parametrized, {}, r"expected a plain weight, got a parametrized one; .*remove_parametrizations")


@pytest.mark.slow
def test_gru_refuses_b_hn_in_nnx_and_keeps_it_in_linen():
    gru, x = torch.nn.GRU(3, 2, batch_first=True), X[None]
    expected = gru(torch.from_numpy(x))[0].detach()
    module = nnx.RNN(nnx.GRUCell(3, 2, rngs=nnx.Rngs(0)))
    with pytest.raises(PortingError, match=r"expected zeros in the last third of bias_hh_l0 \(b_hn\), got others"):
        porting.torch_to_nnx(gru, module)
    model = linen.RNN(linen.GRUCell(2))
    variables = porting.torch_to_linen(gru, linen_template(model, x))
    np.testing.assert_allclose(model.apply(variables, x), expected, atol=1e-6)
    with pytest.raises(PortingError, match="b_hn"):
        porting.linen_to_nnx(variables, module)

    with torch.no_grad():
        gru.bias_hh_l0[4:] = 0
    expected = gru(torch.from_numpy(x))[0].detach()
    np.testing.assert_allclose(porting.torch_to_nnx(gru, module)(x), expected, atol=1e-6)
    variables = porting.nnx_to_linen(module, variables)
    np.testing.assert_allclose(model.apply(variables, x), expected, atol=1e-6)
    np.testing.assert_allclose(porting.linen_to_nnx(variables, module)(x), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("cell", "linen_cell"), [(layers.GRUCell, linen.GRUCell), (layers.LSTMCell, linen.OptimizedLSTMCell)]
)
def test_a_cell_with_both_biases_goes_to_linen_and_back(cell, linen_cell):
    torch_cell = (torch.nn.GRUCell if cell is layers.GRUCell else torch.nn.LSTMCell)(3, 2)
    template = jax.eval_shape(lambda: linen_cell(2).init(jax.random.key(0), *cell_arguments(cell)))
    module = porting.torch_to_nnx(torch_cell, cell(3, 2, rngs=nnx.Rngs(0)))
    variables = porting.nnx_to_linen(module, template)
    jax.tree.map(np.testing.assert_array_equal, variables, porting.torch_to_linen(torch_cell, template))
    again = porting.linen_to_nnx(variables, cell(3, 2, rngs=nnx.Rngs(1)))
    jax.tree.map(np.testing.assert_array_equal, porting.nnx_to_linen(again, template), variables)
    if cell is layers.GRUCell:
        np.testing.assert_array_equal(variables["params"]["hn"]["bias"], torch_cell.bias_hh[4:].detach())
        np.testing.assert_array_equal(again.dense_h.bias[4:], torch_cell.bias_hh[4:].detach())


def cell_arguments(cell):
    carry = jnp.zeros((5, 2))
    return (carry if cell is layers.GRUCell else (carry, carry)), X


def test_an_array_without_axes_goes_both_ways():
    source, back = (torch.nn.ParameterDict({"gain": torch.tensor(value)}) for value in (3.0, 0.0))
    variables = porting.torch_to_linen(source, {"params": {"gain": jnp.zeros(())}})
    assert same_state(porting.linen_to_torch(variables, back), source)


@pytest.mark.slow
@pytest.mark.parametrize("cell", [nnx.OptimizedLSTMCell, nnx.LSTMCell])
def test_lstm_cells_of_both_spellings(cell):
    lstm, x = torch.nn.LSTM(3, 2, batch_first=True), X[None]
    expected = lstm(torch.from_numpy(x))[0].detach()
    module = porting.torch_to_nnx(lstm, nnx.RNN(cell(3, 2, rngs=nnx.Rngs(0))))
    np.testing.assert_allclose(module(x), expected, atol=1e-6)
    model = linen.RNN(linen.OptimizedLSTMCell(2))
    variables = porting.nnx_to_linen(module, linen_template(model, x))
    np.testing.assert_allclose(model.apply(variables, x), expected, atol=1e-6)
    back = porting.linen_to_torch(variables, torch.nn.LSTM(3, 2, batch_first=True))
    np.testing.assert_allclose(back(torch.from_numpy(x))[0].detach(), expected, atol=1e-6)
    assert not back.bias_ih_l0.any()  # flax keeps the sum of torch's two


def test_a_bare_cell():
    cell = torch.nn.LSTMCell(3, 2)
    module = porting.torch_to_nnx(cell, nnx.OptimizedLSTMCell(3, 2, rngs=nnx.Rngs(0)))
    carry = module.initialize_carry(X.shape, nnx.Rngs(0))
    np.testing.assert_allclose(module(carry, X)[1], cell(torch.from_numpy(X))[0].detach(), atol=1e-6)


@pytest.mark.slow
def test_attention_with_other_widths_for_keys_and_values():
    layer = torch.nn.MultiheadAttention(4, 2, kdim=3, vdim=5, batch_first=True)
    model = linen.MultiHeadDotProductAttention(2)
    q, k, v = (np.random.default_rng(1).normal(size=(2, 3, n)).astype(np.float32) for n in (4, 3, 5))
    variables = porting.torch_to_linen(layer, linen_template(model, q, k, v))
    expected = layer(*map(torch.from_numpy, (q, k, v)))[0].detach()
    np.testing.assert_allclose(model.apply(variables, q, k, v), expected, atol=1e-6)


def test_a_part_of_a_weight_without_a_place_is_no_tie():
    layer = torch.nn.MultiheadAttention(4, 2, bias=False)
    qv = {name: {"kernel": jnp.zeros((4, 2, 2))} for name in ("query", "value")}
    refused(layer, qv | {"out": {"kernel": jnp.zeros((2, 2, 4))}}, r"in_proj_weight\[4:8\].*expected key/kernel")


def test_float64_does_not_go_into_float32(x64):
    module = nnx.Linear(3, 2, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    with pytest.raises(
        PortingError, match=r"weight +\(2, 3\) .*kernel +\(3, 2\) +expected a dtype in torch that holds float64"
    ):
        porting.nnx_to_torch(module, torch.nn.Linear(3, 2))


def test_a_refusal_changes_nothing():
    source, module = torch_net(), NnxNet(nnx.Rngs(0))
    before = nnx.to_pure_dict(nnx.state(module))
    broken = copy.deepcopy(source)
    broken.head[2] = torch.nn.Linear(4, 5)
    with pytest.raises(PortingError, match=r"head.2.weight +\(5, 4\)"):
        porting.torch_to_nnx(broken, module)
    with pytest.raises(PortingError, match=r"head.2.weight +\(5, 4\)"):
        porting.nnx_to_torch(module, broken)
    jax.tree.map(np.testing.assert_array_equal, before["blocks"], nnx.to_pure_dict(nnx.state(module))["blocks"])


def test_only_the_cells_of_a_model_are_respelt():
    class Cells(nnx.Module):
        def __init__(self, rngs):
            self.a, self.b = (nnx.OptimizedLSTMCell(3, 2, rngs=rngs) for _ in range(2))
            self.out = nnx.Linear(2, 4, rngs=rngs)

    rng = np.random.default_rng(0)
    gates = {f"i{gate}": {"kernel": (3, 2)} for gate in "ifgo"}
    gates |= {f"h{gate}": {"kernel": (2, 2), "bias": (2,)} for gate in "ifgo"}
    shapes = {"a": gates, "b": gates, "out": {"kernel": (2, 4), "bias": (4,)}}
    is_shape = {"is_leaf": lambda node: isinstance(node, tuple)}
    draw = lambda shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    variables = {"params": jax.tree.map(draw, shapes, **is_shape)}
    module = porting.linen_to_nnx(variables, nnx.eval_shape(lambda: Cells(nnx.Rngs(0))))
    template = {"params": jax.tree.map(np.zeros, shapes, **is_shape)}
    jax.tree.map(np.testing.assert_array_equal, porting.nnx_to_linen(module, template), variables)


def test_nnx_and_linen_must_agree():
    module = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    with pytest.raises(
        PortingError, match=r"x \(1,\): expected it on both sides, got it in linen alone; add it to nnx"
    ):
        porting.linen_to_nnx({"kernel": jnp.zeros((3, 2)), "bias": jnp.zeros(2), "x": jnp.zeros(1)}, module)
    cell = nnx.eval_shape(lambda: nnx.RNN(nnx.GRUCell(3, 2, rngs=nnx.Rngs(0))))
    with pytest.raises(PortingError, match="expected it on both sides"):
        porting.linen_to_nnx({"params": {"x": jnp.zeros(1)}}, cell)
    with pytest.raises(PortingError, match=r"kernel \(3, 2\): expected the same shape in linen, got \(4, 2\)"):
        porting.nnx_to_linen(module, {"params": {"kernel": jnp.zeros((4, 2)), "bias": jnp.zeros(2)}})
    with pytest.raises(PortingError, match=r"bias \(2,\): expected it on both sides, got it in nnx alone"):
        porting.nnx_to_linen(module, {"params": {"kernel": jnp.zeros((3, 2))}})
    with pytest.raises(PortingError, match=r"flax's kernel \(3, 2\): expected the same shape in linen, got \(2, 3\)"):
        porting.nnx_to_linen(module, {"params": {"kernel": jnp.zeros((2, 3)), "bias": jnp.zeros(2)}})
