"""Weights between torch, NNX and Linen: exact both ways, or an error that names the layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import linen, nnx

from course import porting
from course.porting import PortingError, layouts, matching, problems, trees
from course.train import titanic_linen, titanic_nnx, titanic_torch

X = np.random.default_rng(0).normal(size=(7, 15)).astype(np.float32)


def linen_params(width=64):
    return titanic_linen.TitanicMLP(width).init(jax.random.key(1), jnp.zeros((1, 15)))["params"]


def nnx_model(width=64):
    return titanic_nnx.TitanicMLP(width=width, rngs=nnx.Rngs(1))


def test_torch_to_both_gives_equal_logits():
    source = titanic_torch.TitanicMLP()
    expected = source(torch.from_numpy(X)).detach().numpy()
    module = porting.torch_to_nnx(source, nnx_model())
    params = porting.torch_to_linen(source, linen_params())
    np.testing.assert_allclose(module(X), expected, atol=1e-6)  # float32 sums in another order
    np.testing.assert_array_equal(titanic_linen.TitanicMLP().apply({"params": params}, X), module(X))


def test_the_way_back_is_exact():
    source = titanic_torch.TitanicMLP()
    back = [
        porting.nnx_to_torch(porting.torch_to_nnx(source, nnx_model()), titanic_torch.TitanicMLP()),
        porting.linen_to_torch(porting.torch_to_linen(source, linen_params()), titanic_torch.TitanicMLP()),
    ]
    for returned in back:
        for a, b in zip(source.parameters(), returned.parameters(), strict=True):
            assert torch.equal(a, b)


def test_nested_modules_are_found_by_path():
    class Outer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = titanic_torch.TitanicMLP()

    class OuterNNX(nnx.Module):
        def __init__(self, rngs):
            self.inner = titanic_nnx.TitanicMLP(rngs=rngs)

    source = Outer()
    module = porting.torch_to_nnx(source, OuterNNX(nnx.Rngs(0)))
    np.testing.assert_array_equal(module.inner.out.bias[...], source.inner.out.bias.detach())


def test_a_layer_without_bias():
    source = torch.nn.Linear(3, 2, bias=False)
    module = porting.torch_to_nnx(source, nnx.Linear(3, 2, use_bias=False, rngs=nnx.Rngs(0)))
    np.testing.assert_array_equal(module.kernel[...], source.weight.detach().T)
    with pytest.raises(PortingError, match=r"flax's bias \(2,\): expected a torch weight for it, got none"):
        porting.torch_to_nnx(source, nnx.Linear(3, 2, rngs=nnx.Rngs(0)))


def test_ported_weights_are_copies():
    source = titanic_torch.TitanicMLP()
    module = porting.torch_to_nnx(source, nnx_model())
    params = porting.torch_to_linen(source, linen_params())
    before = np.array(module.hidden.kernel[...])
    with torch.no_grad():
        source.hidden.weight.add_(1.0)  # torch trains in place
    np.testing.assert_array_equal(module.hidden.kernel[...], before)
    np.testing.assert_array_equal(params["hidden"]["kernel"], before)


def test_the_linen_template_is_left_alone():
    template = linen_params()
    before = jax.tree.map(np.array, template)
    porting.torch_to_linen(titanic_torch.TitanicMLP(), template)
    jax.tree.map(np.testing.assert_array_equal, template, before)


SHAPE = (
    r"3 problems:\ntorch .*\nhidden\.\w+ +\(64.*  hidden/\w+ +\(.*32,?\)  expected \(.*64,?\) in {side} .*, "
    r"got \(.*32,?\); build both with"
)


def test_a_shape_that_differs_names_the_layer():
    source = titanic_torch.TitanicMLP()
    with pytest.raises(PortingError, match=SHAPE.format(side="nnx")):
        porting.torch_to_nnx(source, nnx_model(width=32))
    with pytest.raises(PortingError, match=SHAPE.format(side="linen")):
        porting.torch_to_linen(source, linen_params(width=32))
    with pytest.raises(PortingError, match=SHAPE.format(side="nnx")):
        porting.nnx_to_torch(nnx_model(width=32), source)


def test_a_layer_of_another_name_is_named():
    class Renamed(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.Dense(1, name="out")(linen.Dense(64, name="body")(x))

    params = Renamed().init(jax.random.key(0), jnp.zeros((1, 15)))["params"]
    with pytest.raises(
        PortingError,
        match=r"hidden\.weight .* expected hidden/kernel .*likely body/kernel.*names={'hidden': 'body'}",
    ):
        porting.torch_to_linen(titanic_torch.TitanicMLP(), params)


def test_a_layer_without_a_rule_is_named():
    source = torch.nn.Sequential(torch.nn.Bilinear(2, 3, 4, bias=False))
    with pytest.raises(PortingError, match=r"0 .* expected one of Linear, .*, got Bilinear with weight \(4, 2, 3\)"):
        porting.torch_to_nnx(source, nnx_model())


def test_float64_is_not_cut_in_silence():
    with pytest.raises(PortingError, match=r"hidden/kernel .*got float64.*jax_enable_x64"):
        porting.torch_to_nnx(titanic_torch.TitanicMLP().double(), nnx_model())


def test_what_is_ported_is_a_copy():
    """Changing one side afterwards, or training it, leaves the other alone."""
    source = torch.nn.Sequential(torch.nn.LayerNorm(3), torch.nn.Linear(3, 2))
    variables = porting.torch_to_linen(source, {
        "layers_0": {"scale": jnp.zeros(3), "bias": jnp.zeros(3)},
        "layers_1": {"kernel": jnp.zeros((3, 2)), "bias": jnp.zeros(2)},
    })  # fmt: skip
    before = jax.tree.map(lambda array: np.array(array, copy=True), variables)
    with torch.no_grad():
        for parameter in source.parameters():
            parameter += 1
    jax.tree.map(np.testing.assert_array_equal, variables, before)


DENSE, HEADS = {"axes": "oi->io"}, {"axes": "oi->io", "reshaped": True}
TRANSPOSED = {"axes": "iohw->hwio", "flipped": True}


@pytest.mark.parametrize(
    ("leaf", "expected", "got", "hint"),
    [
        (TRANSPOSED, (3, 3, 4, 6), (3, 3, 6, 4), "transpose_kernel=False"),
        (TRANSPOSED, (3, 3, 4, 6), (3, 4, 3, 6), "another order"),
        (TRANSPOSED, (3, 3, 4, 6), (2, 2, 4, 6), "same sizes"),
        (TRANSPOSED, (3, 3, 4, 6), (5, 5, 4, 6), "same sizes"),
        (HEADS, (8, 8), (4, 4, 4), "numbers of heads"),
        (HEADS, (8, 8), (8, 4, 4), "same sizes"),
        (HEADS, (8, 8), (8, 2, 2), "same sizes"),
        (DENSE, (8, 2), (2, 8), "in and out exchanged"),
        (DENSE, (8, 2), (2, 8), "Conv1D"),
        ({"axes": "oihw->hwio"}, (3, 3, 4, 6), (3, 3, 2, 6), "input channels differ"),
        ({"axes": "oihw->hwio"}, (3, 3, 4, 6), (3, 3, 2, 5), "build both with the same sizes"),
        ({"axes": "oihw->hwio"}, (3, 3, 4, 6), (3, 2, 6), "build both with the same sizes"),
        ({"axes": "oihw->hwio"}, (3, 3, 4, 6), (5, 5, 2, 6), "build both with the same sizes"),
        ({"axes": "oih->hio"}, (3, 4, 6), (3, 2, 6), "input channels differ"),
        ({"axes": "ioh->hio", "flipped": True}, (3, 4, 6), (3, 6, 4), "transpose_kernel=False"),
        ({}, (4,), (5,), "build both with the same sizes"),
    ],
)
def test_the_hint_for_a_shape_that_does_not_fit(leaf, expected, got, hint):
    assert hint in matching.hint(layouts.Leaf(("kernel",), ("weight",), **leaf), expected, got)


def test_long_lists_are_cut_short():
    assert problems.some([]) == "nothing"
    assert problems.some(["a", "b"], most=2) == "a, b"
    assert problems.some(list("abcde"), most=2) == "a, b and 3 more"
    assert problems.some(list("abcdefgh")) == "a, b, c, d, e, f, g, h"
    assert problems.some(list("abcdefghi")) == "a, b, c, d, e, f, g, h and 1 more"


def test_the_ways_in_which_a_path_is_spelt():
    assert set(matching._spelt(("net", "0"))) == {
        ("net", "0"), ("net", "layers", "0"), ("net", "layers_0"), ("net_0",)
    }  # fmt: skip
    assert set(matching._spelt(("0",))) == {("0",), ("layers", "0"), ("layers_0",)}
    assert list(matching._spelt(("a", "b", "kernel"))) == [
        ("a", "b", "kernel"), ("a", "b_kernel"), ("a_b", "kernel"), ("a_b_kernel",)
    ]  # fmt: skip
    assert {("a", "b", "0"), ("a", "b", "layers", "0"), ("a", "b_0"), ("a_b_0",)} < set(
        matching._spelt(("a", "b", "0"))
    )
    assert ("a", "if_") in set(matching._spelt(("a", "if")))
    assert trees.linen_path(("net", "blocks", "1", "if_"), {}) == ("net", "blocks_1", "if")
    assert trees.linen_path(("0", "kernel"), {}) == ("0", "kernel")


@pytest.mark.parametrize(
    ("name", "names", "place"),
    [
        ("a.b.c", {"a": "one-longer-name", "a.b": "y"}, "y/c"),  # the longest that fits
        ("fc1", {"fc": "x"}, "fc1"),  # the whole of a name, not its beginning
        ("a", {"fc": "x"}, "a"),
        ("z", {"fc": "x"}, "z"),
        ("first", {"first": "b", "b": "c"}, "b"),  # once
    ],
)
def test_a_name_is_looked_up_once_and_whole(name, names, place):
    there = {(*where.split("/"), "kernel") for where in ("y/c", "fc1", "a", "z", "b", "c", "x", "x1")}
    there = dict.fromkeys(there)
    assert matching.Names(matching.Told(names), there).find(name, "weight", ("kernel",)) == (
        (*place.split("/"), "kernel"),
        None,
    )


@pytest.mark.parametrize(
    ("layer", "axes", "flipped"),
    [
        (torch.nn.Conv1d(4, 6, 2), "oih->hio", ()),
        (torch.nn.Conv2d(4, 6, (2, 3)), "oihw->hwio", ()),
        (torch.nn.Conv3d(4, 6, (2, 3, 5)), "oihwd->hwdio", ()),
        (torch.nn.ConvTranspose1d(4, 6, 2), "ioh->hio", (0,)),
        (torch.nn.ConvTranspose2d(4, 6, (2, 3)), "iohw->hwio", (0, 1)),
        (torch.nn.ConvTranspose3d(4, 6, (2, 3, 5)), "iohwd->hwdio", (0, 1, 2)),
    ],
)
def test_kernels_change_their_axes_and_change_back(layer, axes, flipped):
    expected = np.flip(np.einsum(axes, layer.weight.detach().numpy()), flipped)
    kernel, _ = porting.mapping(layer, template := {"kernel": np.zeros(expected.shape), "bias": np.zeros(6)})
    here, there = axes.upper().split("->")
    assert kernel.rule == f"{here} -> {there}" + (f", flipped along {there[:-2]}" if flipped else "")
    params = porting.torch_to_linen(layer, template)
    np.testing.assert_array_equal(params["kernel"], expected)
    back = porting.linen_to_torch(params, type(layer)(4, 6, layer.kernel_size))
    assert torch.equal(back.weight, layer.weight) and torch.equal(back.bias, layer.bias)


def test_attention_is_cut_into_heads_and_put_together_again():
    layer, zeros = torch.nn.MultiheadAttention(6, 3), jnp.zeros
    with torch.no_grad():
        layer.in_proj_bias.normal_()
    qkv = {name: {"kernel": zeros((6, 3, 2)), "bias": zeros((3, 2))} for name in ("query", "key", "value")}
    params = porting.torch_to_linen(layer, qkv | {"out": {"kernel": zeros((3, 2, 6)), "bias": zeros(6)}})
    weights, biases = layer.in_proj_weight.detach().numpy(), layer.in_proj_bias.detach().numpy()
    for k, name in enumerate(("query", "key", "value")):
        for head, rows in enumerate(
            (range(6 * k, 6 * k + 2), range(6 * k + 2, 6 * k + 4), range(6 * k + 4, 6 * k + 6))
        ):
            np.testing.assert_array_equal(params[name]["kernel"][:, head], weights[rows].T)
            np.testing.assert_array_equal(params[name]["bias"][head], biases[rows])
    np.testing.assert_array_equal(
        params["out"]["kernel"].reshape(6, 6), layer.out_proj.weight.detach().numpy().T
    )  # head by head
    back = porting.linen_to_torch(params, torch.nn.MultiheadAttention(6, 3))
    assert all(torch.equal(a, b) for a, b in zip(back.parameters(), layer.parameters(), strict=True))


def test_a_bare_cell_may_be_spelt_gate_by_gate():
    gates = {f"i{gate}": {"kernel": np.zeros((3, 2))} for gate in "ifgo"}
    gates |= {f"h{gate}": {"kernel": np.zeros((2, 2)), "bias": np.zeros(2)} for gate in "ifgo"}
    rows = {row.flax: row.torch for row in porting.mapping(torch.nn.LSTMCell(3, 2), gates)}
    assert (
        rows["ig/kernel"] == "weight_ih[4:6]" and rows["ho/bias"] == "bias_ih[6:8] + bias_hh[6:8]" and len(rows) == 12
    )


def test_b_hn_is_the_last_third_of_a_grus_bias():
    cell, zeros = torch.nn.GRUCell(3, 4), np.zeros
    target = {"dense_i": {"kernel": zeros((3, 12)), "bias": zeros(12)}, "dense_h": {"kernel": zeros((4, 12))}}
    with torch.no_grad():
        cell.bias_hh[8:] = 0
    rules = {row.flax: row.rule for row in porting.mapping(cell, target)}
    assert rules["dense_i/bias"] == "torch's two biases added; b_hn must be zero"
    for place in (8, 11):
        with torch.no_grad():
            cell.bias_hh[8:] = 0
            cell.bias_hh[place] = 1
        with pytest.raises(
            PortingError, match=r"bias_hh \+ bias_ih \(12,\), .*: expected zeros in the last third of bias_hh"
        ):
            porting.mapping(cell, target)
