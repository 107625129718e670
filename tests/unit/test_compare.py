"""porting.compare finds the first layer that differs, and says whether its input did."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import linen, nnx

from course import porting
from course.porting import comparison, modules

IMAGES = np.random.default_rng(0).normal(size=(2, 3, 6, 6)).astype(np.float32)
NHWC = np.moveaxis(IMAGES, 1, -1)


class TorchCNN(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.norm = torch.nn.BatchNorm2d(4)
        self.activation = torch.nn.ReLU()
        self.head = torch.nn.Linear(36, 5)

    def forward(self, x):
        x = self.activation(self.norm(self.conv(x)))
        return self.head(torch.flatten(x, 1))


class NnxCNN(nnx.Module):
    def __init__(self, padding=((1, 1), (1, 1)), epsilon=1e-5, channels_first=True, *, rngs):
        self.conv = nnx.Conv(3, 4, (3, 3), 2, padding=padding, rngs=rngs)
        self.norm = nnx.BatchNorm(4, epsilon=epsilon, rngs=rngs)
        self.head = nnx.Linear(36, 5, rngs=rngs)
        self.channels_first = channels_first

    def __call__(self, x):
        x = nnx.relu(self.norm(self.conv(x)))
        x = jnp.moveaxis(x, -1, 1) if self.channels_first else x
        return self.head(x.reshape(len(x), -1))


class LinenCNN(linen.Module):
    channels_first: bool = True

    @linen.compact
    def __call__(self, x, train=True):
        x = linen.Conv(4, (3, 3), 2, padding=1, name="conv")(x)
        x = linen.relu(linen.BatchNorm(use_running_average=not train, name="norm")(x))
        x = jnp.moveaxis(x, -1, 1) if self.channels_first else x
        return linen.Dense(5, name="head")(x.reshape(len(x), -1))


@pytest.fixture(scope="module")
def source():
    torch.manual_seed(0)
    return TorchCNN()


def compared(source, **options):
    module = porting.torch_to_nnx(source, NnxCNN(**options, rngs=nnx.Rngs(0)))
    return porting.compare(source, module, IMAGES, NHWC)


def test_equal_models(source):
    source.train()
    module = porting.torch_to_nnx(source, NnxCNN(rngs=nnx.Rngs(0)))
    averages = np.array(module.norm.mean[...])
    calls = NnxCNN.__call__, nnx.Conv.__call__
    result = porting.compare(source, module, IMAGES, NHWC)
    assert result.first is None and "3 layers in common, all equal within 1e-05; largest gap" in str(result)
    assert [row.input_gap for row in result.rows] == pytest.approx([0] * 4, abs=1e-5)
    assert [row.layer for row in result.rows] == ["conv", "norm", "head", "(output)"]
    assert result.skipped == ["activation"]
    assert source.training and source.norm.training and source.norm.num_batches_tracked == 0  # nothing was changed
    np.testing.assert_array_equal(module.norm.mean[...], averages)
    assert (NnxCNN.__call__, nnx.Conv.__call__) == calls and module.norm.use_running_average is False


def test_the_first_layer_that_differs_is_named(source):
    result = compared(source, padding="SAME")
    assert result.first.layer == "conv" and "its input agrees: look at padding (flax's default is SAME)" in str(result)
    result = compared(source, epsilon=1e-2)
    assert result.first.layer == "norm" and "epsilon" in str(result)
    result = compared(source, channels_first=False)
    assert result.first.layer == "head" and "its input differs already" in str(result) and "flatten" in str(result)


def test_a_shape_that_differs(source):
    class Shallow(NnxCNN):
        def __call__(self, x):
            return super().__call__(x)[:, :3]

    module = porting.torch_to_nnx(source, Shallow(rngs=nnx.Rngs(0)))
    result = porting.compare(source, module, IMAGES, NHWC)
    assert result.first.layer == "(output)" and "(2, 5) in torch, (2, 3) in flax" in str(result)
    assert "look at what follows the last one" in str(result)


def test_linen_is_bound_to_its_variables(source):
    for model, first in [(LinenCNN(), None), (LinenCNN(channels_first=False), "head")]:
        template = jax.eval_shape(model.init, jax.random.key(0), NHWC)
        bound = model.bind(porting.torch_to_linen(source, template))
        result = porting.compare(source, bound, IMAGES, NHWC, train=False)
        assert (result.first and result.first.layer) == first
    with pytest.raises(ValueError, match=r"got an unbound Linen module; pass model.bind\(variables\)"):
        porting.compare(source, LinenCNN(), IMAGES, NHWC)


def test_nan_differs(source):
    module = porting.torch_to_nnx(source, NnxCNN(rngs=nnx.Rngs(0)))
    module.head.bias[...] = jnp.full(5, jnp.nan)
    assert porting.compare(source, module, IMAGES, NHWC).first.layer == "head"


class TorchRNN(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(9, 4)
        self.rnn = torch.nn.LSTM(4, 3)  # time first
        self.out = torch.nn.Linear(3, 2)

    def forward(self, tokens):
        return self.out(self.rnn(self.embed(tokens).swapaxes(0, 1))[0][-1])


class NnxRNN(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Embed(9, 4, rngs=rngs)
        self.lstm = nnx.RNN(nnx.OptimizedLSTMCell(4, 3, rngs=rngs))
        self.out = nnx.Linear(3, 2, rngs=rngs)

    def __call__(self, tokens):
        return self.out(self.lstm(self.embed(tokens))[:, -1])


@pytest.mark.slow
def test_recurrent_layers_names_and_integers():
    names, tokens = {"rnn": "lstm"}, np.arange(10).reshape(2, 5) % 9
    source = TorchRNN()
    module = porting.torch_to_nnx(source, NnxRNN(nnx.Rngs(0)), names=names)
    result = porting.compare(source, module, tokens, names=names)
    assert result.first is None and [row.layer for row in result.rows] == ["embed", "rnn", "out", "(output)"]
    assert all(0 <= row.input_gap <= 1e-5 and 0 < row.size < 10 for row in result.rows)


def row(kind="Linear", input_gap=0.0, output_gap=0.0, size=1.0):
    return comparison.Row("fc", kind, input_gap, output_gap, size, "(2,) in torch, (3,) in flax", "float32")


@pytest.mark.parametrize(("size", "limit"), [(4.0, 2.0), (1.0, 0.5), (0.5, 0.5), (0.0, 0.5)])
def test_gaps_are_absolute_up_to_1_and_relative_beyond(size, limit):
    for gap in (0.0, limit / 2, limit):
        assert comparison.Comparison([row(output_gap=gap, size=size)], 0.5, []).first is None
    assert comparison.Comparison([row(output_gap=1.01 * limit, size=size)], 0.5, []).first.size == size


def test_a_comparison_in_words():
    def said(*rows, **hints):
        return str(comparison.Comparison([*rows, row("whole model")], 1e-5, [], hints))

    differs = r"fc (Linear) is the first of 2 common layers to differ: by 1.0e-02, values up to 1.0e+00; its input "
    assert said(row(), row(output_gap=0.01), fc="its bias") == differs + "agrees: look at its bias"
    assert said(row(), row(output_gap=0.01)) == differs + "agrees: look at its settings"
    assert said(row(), row(input_gap=0.01, output_gap=0.01)).startswith(differs + "differs already")
    assert "its input agrees" in said(row("zoom", output_gap=0.01))  # a class of the user's, in small letters
    assert "hints" not in repr(comparison.Comparison([], 1e-5, [], {"fc": "its bias"}))


class TorchShared(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.probe, self.fc, self.last = torch.nn.Identity(), torch.nn.Linear(3, 3), torch.nn.Linear(3, 2)

    def forward(self, x, y):
        for z in (x, self.probe(y), x, y):
            x = x + self.fc(input=z)
        return self.last(x)


class Probe(nnx.Module):
    def __call__(self, x):
        return None


class NnxShared(nnx.Module):
    def __init__(self, rngs):
        self.probe, self.fc, self.last = Probe(), nnx.Linear(3, 3, rngs=rngs), nnx.Linear(3, 2, rngs=rngs)

    def __call__(self, x, y):
        self.probe(x)
        for z in (x, y, x):
            x = x + self.fc(z)
        return self.last(inputs=x)


def test_every_call_of_a_shared_layer_has_a_row_and_inputs_may_be_several():
    source = TorchShared()
    module = porting.torch_to_nnx(source, NnxShared(nnx.Rngs(0)))
    pair = tuple(np.random.default_rng(0).normal(size=(2, 2, 3)).astype(np.float32))
    result = porting.compare(source, module, pair)
    assert [row.layer for row in result.rows] == ["fc", "fc, call 2", "fc, call 3", "last", "(output)"]
    assert result.skipped == ["probe"]  # what returns no array is not compared
    assert [row.input_gap for row in result.rows[:4]] == [0.0] * 4  # one side does not say what came in by name
    assert result.first.layer == "last" and result.rows[3].size == result.rows[4].size
    again = porting.compare(source, module, pair, flax_example=list(pair))
    assert [row.output_gap for row in again.rows] == [row.output_gap for row in result.rows]
    swapped = porting.compare(source, module, pair, pair[::-1])
    assert swapped.first.layer == "fc"


def test_other_methods_of_a_linen_module_are_no_calls():
    class Torch(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = torch.nn.Linear(3, 2)

        def forward(self, x):
            return 2 * self.fc(x)

    class Linen(linen.Module):
        def setup(self):
            self.fc = linen.Dense(2)

        def features(self, x):
            return self.fc(x)

        Features = features  # sorts before __call__

        def __call__(self, x):
            return self.features(x) + self.Features(x)

    source, x = Torch(), np.ones((1, 3), np.float32)
    params = porting.torch_to_linen(source, {"fc": {"kernel": jnp.zeros((3, 2)), "bias": jnp.zeros(2)}})
    result = porting.compare(source, Linen().bind({"params": params}), x)
    assert result.first is None and len(result.rows) == 2


def test_the_first_array_of_an_output_is_compared():
    x = np.ones(2)
    assert comparison.first_of((None, {"text": "h", "h": [x]}), np.ndarray) is x
    assert comparison.first_of(("text", {}), np.ndarray) is None


def test_the_size_of_a_row_is_the_largest_value_of_torchs():
    call = comparison.Call(None, np.array([0.25, -0.5]), "float64")
    shapes = "(2,) in torch, (2,) in flax"
    assert comparison._row("fc", "Linear", call, call) == ("fc", "Linear", 0, 0, 0.5, shapes, "float64")
    nothing = comparison.Call(None, np.zeros((0, 2)), "float64")
    assert comparison._row("fc", "Linear", nothing, nothing).size == 0


def test_gaps_are_taken_in_the_order_of_axes_that_is_closest():
    rng = np.random.default_rng(0)
    images, sequences = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=(6, 2, 3))
    assert comparison._gap(images, np.moveaxis(images, 1, -1)) == 0  # channels last
    assert comparison._gap(sequences, np.swapaxes(sequences, 0, 1)) == 0  # batch first
    assert comparison._gap(images, images + 0.5) == pytest.approx(0.5)
    assert comparison._gap(images, rng.normal(size=(2, 5, 3, 4))) == np.inf
    square = rng.normal(size=(3, 3, 3))
    assert comparison._gap(square, np.moveaxis(square, 1, -1)) == 0 == comparison._gap(square, square)
    assert comparison._gap(np.zeros((2, 0)), np.zeros((2, 0))) == 0
    assert comparison._gap(square[0], square[0].T) > 0.1  # a matrix is not turned round
    assert comparison._gap(square[0, 0], square[0, 0]) == 0


@pytest.mark.slow
def test_models_in_bfloat16_are_compared_too():
    source = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2)).to(torch.bfloat16)
    module = nnx.Sequential(*(
        nnx.Linear(*size, dtype=jnp.bfloat16, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0)) for size in ((4, 3), (3, 2))
    ))  # fmt: skip
    for ours, theirs in zip(module.layers, source, strict=True):
        ours.kernel[...] = jnp.asarray(theirs.weight.detach().float().numpy().T, jnp.bfloat16)
        ours.bias[...] = jnp.asarray(theirs.bias.detach().float().numpy(), jnp.bfloat16)
    x = torch.ones(2, 4, dtype=torch.bfloat16)
    calls = modules.run(source, [x], {})
    assert calls["0"][0].output.dtype == np.float32
    assert comparison._gap(calls[""][0].output, np.asarray(module(jnp.ones((2, 4), jnp.bfloat16)), np.float32)) < 0.02


class TorchTwice(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(3, 3)

    def forward(self, x, *, scale):
        return self.fc(self.fc(x * scale["by"]))


class NnxOnce(nnx.Module):
    def __init__(self, rngs):
        self.fc = nnx.Linear(3, 3, rngs=rngs)

    def __call__(self, x, *, scale):
        return self.fc(x * scale["by"])


def test_keyword_inputs_and_a_layer_that_is_called_more_often_on_one_side():
    source, x = TorchTwice(), np.ones((2, 3), np.float32)
    module = porting.torch_to_nnx(source, NnxOnce(nnx.Rngs(0)))
    example = {"x": x, "scale": {"by": np.full(3, 2, np.float32)}}
    result = porting.compare(source, module, example)
    assert result.calls == {"fc": (2, 1)} and str(result).endswith("fc is called 2 times in torch and 1 in flax")
    assert result.rows[0].output_gap < 1e-6 and "every common layer agrees" in str(result)


def test_a_difference_of_dtypes_is_named():
    source = torch.nn.Sequential(torch.nn.Linear(3, 3))
    module = nnx.Sequential(nnx.Linear(3, 3, dtype=jnp.bfloat16, rngs=nnx.Rngs(0)))
    result = porting.compare(source, porting.torch_to_nnx(source, module), np.ones((2, 3), np.float32))
    assert "(float32 in torch, bfloat16 in flax)" in str(result)


class TorchOutputs(torch.nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.fc, self.outputs = torch.nn.Linear(3, 3), outputs

    def forward(self, x):
        return self.outputs(self.fc(x))


class NnxOutputs(nnx.Module):
    def __init__(self, outputs):
        self.fc, self.outputs = nnx.Linear(3, 3, rngs=nnx.Rngs(0)), outputs

    def __call__(self, x):
        return self.outputs(self.fc(x))


@dataclasses.dataclass
class Outputs:
    hidden: object
    logits: object


@pytest.mark.parametrize(
    ("theirs", "ours", "equal"),
    [
        (lambda y: (y, 2 * y), lambda y: (y, 2 * y), True),
        (lambda y: (y, 2 * y), lambda y: (y, 3 * y), False),
        (lambda y: {"a": y, "b": 2 * y}, lambda y: {"b": 2 * y, "a": y}, True),
        (lambda y: {"a": y, "b": 2 * y}, lambda y: {"b": y, "a": 2 * y}, False),
        (lambda y: Outputs(y, 2 * y), lambda y: {"logits": 2 * y, "hidden": y}, True),
        (lambda y: (y, 2 * y), lambda y: y, True),
        (lambda y: y * (1 + 1j), lambda y: y * (1 + 2j), False),
    ],
)
def test_all_outputs_are_compared(theirs, ours, equal):
    source = TorchOutputs(theirs)
    module = porting.torch_to_nnx(source, NnxOutputs(ours))
    result = porting.compare(source, module, np.ones((2, 3), np.float32))
    assert (result.first is None) == equal and len(result.rows) == 2
    if not equal:
        assert "(output) (whole model) is the first of 1 common layers to differ" in str(result)


def test_outputs_without_arrays_are_said_not_to_be_compared():
    source = TorchOutputs(lambda y: float(y.sum()))
    module = porting.torch_to_nnx(source, NnxOutputs(lambda y: y))
    result = str(porting.compare(source, module, np.ones((2, 3), np.float32)))
    assert result.startswith("1 layers in common, all equal") and "outputs are not compared" in result
