"""Error messages of JAX, Flax and Optax: what each says, what happened, and the entry that shows what to write instead.

Each function raises its message for real; its docstring says what happened. The words are those that every supported
version prints. `tests/unit/test_rosetta_messages.py` calls all of them.
"""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import torch
from flax import linen as nn
from flax import nnx
from jax import lax

from rosetta.data import fork


class Message(NamedTuple):
    """An error's type and a part of its text, what happened, and where to read on."""

    error: str  # the name of its type; "A|B" where versions differ
    text: str  # the same
    meaning: str
    entry: str  # group.Class
    provoke: Callable[[], Any] | None  # None: only an accelerator raises it
    source: str = ""  # then, where it is described


MESSAGES: list[Message] = []


def message(error: str, text: str, entry: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Register a function that raises this error; a text may be short, but not so short that others contain it."""

    def register(provoke: Callable[[], Any]) -> Callable[[], Any]:
        MESSAGES.append(Message(error, text, " ".join((provoke.__doc__ or "").split()), entry, provoke))
        return provoke

    return register


def layer() -> nnx.Linear:
    return nnx.Linear(2, 2, rngs=nnx.Rngs(0))


# --- values that tracing has not yet ------------------------------------------------------------------------


@message("TracerBoolConversionError", "Attempted boolean conversion of traced array", "control_flow.IfOnData")
def if_on_tracer():
    """An `if`, a `while`, an `and` or an `assert` needs a value inside `jit`."""
    jax.jit(lambda x: x if x > 0 else -x)(1.0)


@message("ConcretizationTypeError", "Abstract tracer value encountered where concrete value is expected",
         "devices.NumberInside")  # fmt: skip
def item_of_tracer():
    """`.item()`, `float(…)`, `int(…)` or `jnp.arange(n)` needs a value inside `jit`."""
    jax.jit(lambda loss: loss.item())(1.0)


@message("TypeError", "Shapes must be 1D sequences of concrete values of integer type", "control_flow.IfOnSetting")
def traced_shape():
    """A shape is computed from an array; under `jit` shapes are Python numbers, or static arguments."""
    jax.jit(jnp.zeros)(3)


@message("NonConcreteBooleanIndexError", "Array boolean indices must be concrete", "indexing.Mask")
def traced_mask():
    """`x[mask]` under `jit`: how many elements are left is not known when the program is made."""
    jax.jit(lambda x: x[x > 0])(jnp.ones(3))


@message(
    "IndexError",
    "Slice entries must be static integers|Array slice indices must have static start/stop/step",
    "indexing.DynamicSlice",
)
def traced_slice():
    """`x[i : i + 2]` with an `i` that `jit` traces: the size of a slice must be known."""
    jax.jit(lambda x, i: x[i : i + 2])(jnp.ones(3), 1)


@message("TracerArrayConversionError", "The numpy.ndarray conversion method __array__() was called on traced array",
         "creation.ToNumpy")  # fmt: skip
def numpy_of_tracer():
    """A function of NumPy, or `np.asarray`, inside `jit`, `grad` or `vmap`: use jnp's."""
    jax.jit(lambda x: np.sin(x))(jnp.ones(3))


@message("TracerIntegerConversionError", "The __index__() method was called on traced array", "control_flow.DataCount")
def range_of_tracer():
    """`range(n)` or a list's index with an array that `jit` traces."""
    jax.jit(lambda n: [0 for _ in range(n)])(3)


@message("UnexpectedTracerError", "Encountered an unexpected tracer", "control_flow.CollectInList")
def leaked_tracer():
    """A traced value was kept (in a list, a global, `self`) and used after its function had ended."""
    kept: list[Any] = []
    jax.jit(kept.append)(1.0)
    jnp.sin(kept[0])


@message("TraceContextError", "from a different trace level", "layers.BatchNormUnderJit")
def mutate_captured_module():
    """An NNX module from outside is changed inside `jax.jit`: pass it as an argument of `nnx.jit`."""
    model = layer()

    @jax.jit
    def step(x):
        model.bias[...] = x

    step(jnp.ones(2))


@message("NameError", "unbound axis name", "parallelism.AllReduce")
def unbound_axis():
    """`psum` or `pmean` outside the `shard_map` or `vmap` that names the axis."""
    lax.psum(1.0, "batch")


# --- compiling ----------------------------------------------------------------------------------------------


@message("ValueError", "Non-hashable static arguments", "compiling.ListSetting")
def list_as_static():
    """A static argument is a list, a dict or an array: pass a tuple, or a frozen dataclass."""
    jax.jit(lambda x, sizes: x, static_argnames="sizes")(1.0, sizes=[1, 2])


@message("TypeError", "Error interpreting argument to", "control_flow.IfOnSetting")
def text_as_argument():
    """`jit` is given what is no array: text, an object, a torch tensor. Make it static, or convert it."""
    jax.jit(lambda x, mode: x)(1.0, "train")


@message("TypeError", "which is not a valid JAX type", "compiling.SideEffect")
def function_as_result():
    """A compiled function returns what is no array: return arrays, or trees of them."""
    jax.jit(lambda x: print)(1.0)


@message("RuntimeError|ValueError", "Array has been deleted|has been deleted or donated", "compiling.UpdateInPlace")
def donated():
    """An array that was donated to a compiled function (`donate_argnums`) is used again."""
    x = jnp.ones(3)
    jax.jit(lambda x: x + 1, donate_argnums=0)(x)
    jnp.sin(x)


# --- gradients ----------------------------------------------------------------------------------------------


@message("TypeError", "Gradient only defined for scalar-output functions", "autograd.Auxiliary")
def gradient_of_vector():
    """The loss has axes left, or is a tuple: take its mean, or pass `has_aux=True`."""
    jax.grad(lambda x: 2 * x)(jnp.ones(3))


@message("TypeError", "grad requires real- or complex-valued inputs", "autograd.IntegerLeaf")
def gradient_by_integers():
    """The argument that is differentiated holds integers: a counter, token ids, `1` instead of `1.0`.

    An NNX model holds some in its random streams: `nnx.grad` differentiates its `Param`s alone.
    """
    jax.grad(lambda x: 2.0 * x)(1)


@message("TypeError", "grad requires real-valued outputs", "autograd.LossAndGradient")
def integer_loss():
    """The loss is an integer: a number of hits has no slope."""
    jax.grad(lambda x: (x > 0).sum())(jnp.ones(3))


@message("ValueError", "Reverse-mode differentiation does not work for lax.while_loop", "control_flow.WhileGradient")
def gradient_of_while():
    """A loop whose number of turns is data has no backward pass: `lax.scan`, or a fixed number of turns."""
    jax.grad(lambda x: lax.while_loop(lambda v: v < 3, lambda v: v * x, x))(2.0)


@message("FloatingPointError", "invalid value (nan) encountered in", "debugging.StopAtNaN")
def nan_found():
    """`jax_debug_nans` is on, and an operation gave NaN."""
    with jax.debug_nans(True):
        jnp.log(-jnp.ones(3))


@message("AttributeError", "object has no attribute 'backward'", "autograd.LossAndGradient")
def backward():
    """A loss knows nothing of its weights: `jax.grad` of the function that computes it."""
    jnp.ones(()).backward()


# --- loops, branches, vmap ----------------------------------------------------------------------------------


@message("TypeError", "carry input and carry output must have equal types", "control_flow.CarryType")
def carry_changes():
    """The state of a `scan` or a loop leaves its body with another shape or dtype than it entered with."""
    lax.scan(lambda c, x: (c + x, None), jnp.zeros(()), jnp.ones((3, 2)))


@message("TypeError", "branches must have equal output types", "creation.Cast")
def branches_differ():
    """The branches of a `cond` or a `switch` return different shapes, dtypes or trees."""
    lax.cond(True, lambda: 1.0, lambda: 1)


@message("TypeError", "scan body output must be a pair", "control_flow.Recursion")
def scan_without_pair():
    """The function that `scan` calls returns two: the next state, and what is stacked (or None)."""
    lax.scan(lambda c, x: c + x, 0.0, jnp.ones(3))


@message("ValueError", "scan got values with different leading axis sizes", "control_flow.Recursion")
def scan_over_unequal_lengths():
    """`scan` goes over the first axis of all arrays in `xs`: what has none is read from outside, or is state."""
    lax.scan(lambda c, x: (c, None), 0.0, (jnp.ones(2), jnp.ones(3)))


@message("TypeError", "Pred must be a scalar", "control_flow.Where")
def cond_on_array():
    """`lax.cond` decides once, for everything; element by element it is `jnp.where`."""
    lax.cond(jnp.ones(2) > 0, lambda: 1.0, lambda: 2.0)


@message("ValueError", "vmap in_axes must be an int, None, or a tuple of entries", "autograd.PerExample")
def in_axes_too_short():
    """`in_axes` has an entry for each positional argument."""
    jax.vmap(lambda w, x: w * x, in_axes=(0,))(jnp.ones(2), jnp.ones(2))


@message("ValueError", "vmap got inconsistent sizes for array axes to be mapped", "autograd.PerExample")
def sizes_differ():
    """Two arguments of a mapped function have batches of different sizes: `in_axes=None` for what is shared."""
    jax.vmap(lambda w, x: w * x)(jnp.ones(2), jnp.ones(3))


@message("ValueError", "vmap was requested to map its argument along axis 0", "autograd.PerExample")
def nothing_to_map():
    """A number has no axis to map over: `in_axes=None` for it."""
    jax.vmap(lambda x, rate: rate * x)(jnp.ones(2), 0.1)


@message("TypeError", "unsupported format string passed to", "debugging.PrintInside")
def format_tracer():
    """An f-string with a format, `f"{loss:.3f}"`, needs a value inside `jit`: `jax.debug.print("{:.3f}", loss)`."""
    jax.jit(lambda loss: f"{loss:.3f}")(1.0)


# --- arrays -------------------------------------------------------------------------------------------------


@message("TypeError", "JAX arrays are immutable and do not support in-place item assignment", "indexing.WriteElement")
def write():
    """`x[0] = 1`: an array never changes, `x.at[0].set(1)` returns another."""
    jnp.ones(3)[0] = 1


@message("TypeError", "got incompatible shapes for broadcasting", "losses.BroadcastLabels")
def shapes_differ():
    """Two arrays whose shapes do not broadcast."""
    jnp.ones(3) + jnp.ones(2)


@message("TypeError", "dot_general requires contracting dimensions to have the same shape", "linear_algebra.Product")
def product_of_shapes():
    """A matrix product, or a dense layer, of the wrong width: often an image flattened at another size."""
    jnp.ones((2, 3)) @ jnp.ones((2, 3))


@message("ValueError", "conv_general_dilated lhs feature dimension size", "layers.Convolution")
def channels_first():
    """An image with its channels first: flax wants (batch, height, width, channels)."""
    nnx.Conv(3, 4, (3, 3), rngs=nnx.Rngs(0))(jnp.ones((1, 3, 8, 8)))


@message("ValueError", "The truth value of an array with more than one element is ambiguous", "control_flow.Where")
def truth_of_array():
    """An `if`, `and` or `not` of a whole array: `jnp.where`, `&`, `.any()`."""
    bool(jnp.ones(3) > 0)


@message("AttributeError", "object has no attribute 'unsqueeze'", "creation.Unsqueeze")
def method_of_tensors():
    """A method that only tensors have: arrays have NumPy's."""
    jnp.ones(3).unsqueeze(0)


@message("TypeError", "got an unexpected keyword argument 'dim'", "reductions.Sum")
def dim_for_axis():
    """NumPy's names of arguments: `axis`, `keepdims`."""
    jnp.ones(3).sum(dim=0)


@message("TypeError", "got an unexpected keyword argument 'keepdim'", "reductions.Sum")
def keepdim():
    """NumPy writes it `keepdims`."""
    jnp.mean(jnp.ones((2, 3)), axis=0, keepdim=True)


@message("TypeError|DeprecationWarning", "clip() got an unexpected keyword argument 'a_min'|'a_min' or 'a_max'",
         "indexing.Clamp")  # fmt: skip
def clip_a_min():
    """`jnp.clip(x, min=0)`: the arguments are `min` and `max`, as in PyTorch."""
    jnp.clip(jnp.ones(3), a_min=0)


@message("TypeError", "'int' object is not callable", "creation.SizeOfDimension")
def size_of_tensor():
    """`x.size(0)`: in JAX `size` is the number of elements; `x.shape[0]`."""
    jnp.ones(3).size(0)


@message("NotImplementedError", "argument of array.view() is not supported", "creation.View")
def view_of_tensor():
    """`x.view(2, 3)`: in JAX `view` is about dtypes; `x.reshape(2, 3)`."""
    jnp.ones(6).view(2, 3)


@message("TypeError", "cannot reshape array of shape", "creation.View")
def reshape():
    """The numbers of elements differ: often a batch of another size than the one written into the program."""
    jnp.ones(6).reshape(4)


@message("AttributeError", "object has no attribute 'permute'", "creation.Permute")
def permute():
    """`x.transpose(0, 2, 1)`, with as many axes as there are."""
    jnp.ones((2, 3)).permute(1, 0)


@message("AttributeError", "object has no attribute 'detach'", "autograd.Detach")
def detach():
    """Within a loss `jax.lax.stop_gradient(x)`; elsewhere there is nothing to detach from."""
    jnp.ones(3).detach()


@message("AttributeError", "object has no attribute 'numpy'", "creation.ToNumpy")
def numpy_method():
    """`np.asarray(x)`."""
    jnp.ones(3).numpy()


@message("AttributeError", "object has no attribute 'float'", "creation.Cast")
def float_method():
    """`x.astype(jnp.float32)`; `.long()`, `.half()` and `.bool()` likewise."""
    jnp.ones(3).float()


@message("AttributeError", "object has no attribute 'to'", "devices.ToDevice")
def to_method():
    """`jax.device_put(x, device)` for a device, `x.astype(dtype)` for a dtype."""
    jnp.ones(3).to("cuda")


@message("ValueError", "`jax.device_put` only accepts", "devices.ToDevice")
def device_as_text():
    """A device is an object: `jax.devices("gpu")[0]`."""
    jax.device_put(jnp.ones(3), "gpu")


@message("AttributeError", "module 'jax.numpy' has no attribute 'cat'", "creation.Join")
def cat():
    """Functions have NumPy's names: `jnp.concatenate([x, y], axis=1)`."""
    jnp.cat([jnp.ones(2), jnp.ones(2)])


@message("TypeError", "Cannot concatenate arrays with", "creation.Join")
def concatenate():
    """The arrays differ in an axis other than the joined one, or in how many axes they have."""
    jnp.concatenate([jnp.ones((2, 3)), jnp.ones((2, 4))])


@message("ValueError", "All input arrays must have the same shape", "data.PadSequences")
def stack():
    """`jnp.stack` of arrays of unequal length: pad them first."""
    jnp.stack([jnp.ones(2), jnp.ones(3)])


@message("ValueError", "The requested array has an inhomogeneous shape", "data.PadSequences")
def ragged():
    """Lists of unequal length are no array: pad them first."""
    jnp.array([[1, 2], [3]])


@message("ValueError", "array split does not result in an equal division", "creation.Chunk")
def split():
    """`jnp.split` takes a number of equal pieces, or the places where to cut; `jnp.array_split` allows for a rest."""
    jnp.split(jnp.ones(10), 3)


@message("TypeError", "Using a non-tuple sequence for multidimensional indexing is not allowed", "indexing.ReadRows")
def list_as_index():
    """A list as an index: `x[jnp.array([0, 2])]`."""
    jnp.ones(3)[[0, 2]]


@message("TypeError", "Indexer must have integer or boolean type", "creation.Cast")
def float_as_index():
    """An index holds floats, often labels read from a file: `.astype(int)`."""
    jnp.ones(3)[jnp.zeros(2)]


@message("IndexError", "Too many indices: ", "indexing.Read")
def too_many_indices():
    """More indices than the array has axes."""
    jnp.ones(3)[0, 0]


@message("TypeError", "Only scalar arrays can be converted to Python scalars", "creation.ToPython")
def float_of_array():
    """`float(x)` or `int(x)` of an array of several elements: losses of which no mean was taken."""
    float(jnp.ones(3))


@message("TypeError", "Object of type ArrayImpl is not JSON serializable", "creation.ToPython")
def array_in_json():
    """A loss in a log: `float(loss)`, or `x.tolist()`."""
    json.dumps({"loss": jnp.ones(())})


@message("ValueError", "assignment destination is read-only", "devices.WriteThroughNumPy")
def write_into_view():
    """What `np.asarray` makes of a JAX array cannot be written: `np.array(x)` is a copy."""
    np.asarray(jnp.ones(3))[0] = 1


@message("TypeError", "is of type <class 'torch.Tensor'>", "creation.FromTensor")
def tensor_for_array():
    """A function of JAX is handed a tensor: `jnp.asarray(t.numpy())`, or let the loader make NumPy arrays."""
    jnp.sin(torch.ones(3))


@message("TypeError", "ArrayImpl' and 'Tensor'", "creation.FromTensor")
def array_plus_tensor():
    """An array and a tensor in one formula: convert one of them."""
    jnp.ones(3) + torch.ones(3)


@message("TypeError", "must be Tensor, not jaxlib", "creation.ToNumpy")
def array_for_tensor():
    """A function of PyTorch is handed an array: use jnp's, or convert by `torch.from_numpy(np.array(x))`."""
    torch.sin(jnp.ones(3))


@message("TypeError", "requires ndarray or scalar arguments, got <class 'list'>", "creation.FromList")
def list_for_array():
    """Functions of jnp take no lists: `jnp.array([…])` first."""
    jnp.sum([1, 2, 3])


@message("UserWarning", "Explicitly requested dtype", "creation.Doubles")
def float64_asked():
    """float64 or int64 while `jax_enable_x64` is off: 32 bits are used."""
    jnp.zeros(3, "float64")


@message("OverflowError", "too large to convert to", "creation.LargeIntegers")
def large_integer():
    """A Python integer that 32 bits do not hold."""
    jnp.array(2**40)


@message("FutureWarning", "scatter inputs have incompatible types", "creation.Cast")
def write_float_into_integers():
    """`.at[…].set` of a float into an array of integers, or of float32 into bfloat16: cast first."""
    jnp.zeros(3, jnp.int32).at[0].set(1.5)


@message("RuntimeError", "Unknown backend", "devices.HasGpu")
def no_such_device():
    """JAX was installed without support for this device, or does not find it."""
    jax.devices("no_such_device")


# --- random numbers -----------------------------------------------------------------------------------------


@message("TypeError", "key<fry>", "random_numbers.StepNumbers")
def key_plus_step():
    """A key is no number: `jax.random.fold_in(key, step)` instead of `key + step`."""
    jax.random.key(0) + 1


@message("TypeError", "JAX array with PRNGKey dtype cannot be converted to a NumPy array", "saving.RandomState")
def key_to_numpy():
    """Keys are saved as `jax.random.key_data(key)` and come back with `wrap_key_data`."""
    np.asarray(jax.random.key(0))


@message("TypeError", "unexpected PRNG key type", "random_numbers.OneSeed")
def shape_for_key():
    """The first argument of `jax.random.normal` is the key, not the shape or a seed."""
    jax.random.normal((3,))


@message("TypeError", "missing 1 required positional argument: 'key'", "random_numbers.OneSeed")
def draw_without_key():
    """Every draw is handed a key, the first argument: `jax.random.normal(key, shape)`."""
    jax.random.normal(shape=(3,))


@message("TypeError", "JAX encountered invalid PRNG key data", "random_numbers.OneSeed")
def seed_for_key():
    """A number is no key: `jax.random.key(0)` makes one of it."""
    jax.random.normal(0, (3,))


@message("AttributeError", "module 'jax.random' has no attribute 'randn'", "random_numbers.OneSeed")
def randn():
    """`jax.random.normal(key, shape)`; `rand` is `uniform`, and `seed` is `key(seed)`, which returns it."""
    jax.random.randn(3)


@message("AttributeError", "module 'jax.numpy' has no attribute 'random'", "random_numbers.OneSeed")
def numpy_random():
    """Random numbers are in `jax.random`, and want a key."""
    jnp.random.normal(size=3)


@message("KeyReuseError", "Previously-consumed key passed to", "random_numbers.DrawTwice")
def key_twice():
    """`jax_debug_key_reuse` is on, and a key was used twice."""
    with jax.debug_key_reuse(True):
        key = jax.random.key(0)
        jax.random.normal(key), jax.random.normal(key)


# --- Flax NNX -----------------------------------------------------------------------------------------------


@message("TypeError", "Missing required argument `wrt`", "optimizers.OneStep")
def optimizer_without_wrt():
    """Since flax 0.11 `nnx.Optimizer(model, tx, wrt=nnx.Param)`."""
    nnx.Optimizer(layer(), optax.sgd(0.1))


@message("TypeError", "Missing required argument `grads`", "optimizers.OneStep")
def update_without_model():
    """Since flax 0.11 `optimizer.update(model, grads)`."""
    model = layer()
    nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param).update(model)


@message("AttributeError", "Optimizer does not have attribute 'model'", "optimizers.OneStep")
def model_of_optimizer():
    """Since flax 0.11 the optimizer keeps no model."""
    nnx.Optimizer(layer(), optax.sgd(0.1), wrt=nnx.Param).model  # noqa: B018


@message("ValueError", "Found data on value of type|Found unexpected Arrays on value of type", "modules.OwnModule")
def list_of_modules():
    """A plain list of layers: `nnx.List([…])`, since flax 0.12."""

    class Model(nnx.Module):
        def __init__(self):
            self.blocks = [layer()]

    Model()


@message("TypeError", "missing 1 required keyword-only argument: 'rngs'", "layers.Linear")
def layer_without_rngs():
    """Layers draw their weights when they are made, from `rngs=nnx.Rngs(0)`."""
    nnx.Linear(2, 2)


@message("ValueError", "no `rngs` argument was provided to Dropout", "layers.DropoutTrain")
def dropout_without_rngs():
    """An active dropout has no random stream: `nnx.Dropout(rate, rngs=rngs)`, or `model.eval()`."""
    nnx.Dropout(0.5)(jnp.ones(3))


@message("AttributeError", "object has no attribute 'parameters'", "modules.CountWeights")
def parameters_of_model():
    """`nnx.state(model, nnx.Param)` is a tree of them; Linen's `init` returns it."""
    layer().parameters()


@message("TypeError", "got an unexpected keyword argument 'bias'", "layers.Linear")
def bias_of_layer():
    """Flax writes it `use_bias=False`."""
    nnx.Linear(2, 2, bias=False, rngs=nnx.Rngs(0))


@message("TypeError", "got an unexpected keyword argument 'eps'", "layers.LayerNorm")
def eps_of_norm():
    """Flax writes it `epsilon`: in layer and group norm 1e-6 by default, where PyTorch has 1e-5."""
    nnx.LayerNorm(3, eps=1e-5, rngs=nnx.Rngs(0))


@message("TypeError", "got an unexpected keyword argument 'stride'", "layers.Convolution")
def stride_of_convolution():
    """Flax writes it `strides`."""
    nnx.Conv(3, 4, (3, 3), stride=2, rngs=nnx.Rngs(0))


@message("TypeError", "object of type 'int' has no len()", "images.MaxPool")
def pool_by_number():
    """The window of a pooling is a tuple, `(2, 2)`; say `strides=(2, 2)` too."""
    nnx.max_pool(jnp.ones((1, 8, 8, 3)), 2)


@message("ValueError", "Input type must be an integer or unsigned integer", "sequences.Embedding")
def embedding_of_floats():
    """The tokens for an embedding are floats: `.astype(int)`."""
    nnx.Embed(3, 2, rngs=nnx.Rngs(0))(jnp.ones(3))


# --- Flax Linen ---------------------------------------------------------------------------------------------


@message("ScopeParamShapeError", "initializer is expected to generate shape", "saving.StrictLoad")
def other_width():
    """The weights were made for inputs, or a layer, of another width."""
    variables = nn.Dense(2).init(jax.random.key(0), jnp.ones((1, 3)))
    nn.Dense(2).apply(variables, jnp.ones((1, 4)))


@message("ApplyScopeInvalidVariablesTypeError", "should be a dictionary of collections", "training.Evaluate")
def params_alone():
    """`apply` wants `{"params": params}`, not the params alone."""
    variables = nn.Dense(2).init(jax.random.key(0), jnp.ones((1, 3)))
    nn.Dense(2).apply(variables["params"], jnp.ones((1, 3)))


@message("ScopeCollectionNotFound", "but the collection is empty", "modules.TrainEval")
def no_params():
    """There are no weights of this name: `init` was not called, or the tree is another model's."""
    nn.Dense(2).apply({"params": {}}, jnp.ones((1, 3)))


@message("ScopeParamNotFoundError", "Could not find parameter named", "saving.RenameWeights")
def other_name():
    """The layer is there and has weights of other names, those of PyTorch for instance."""
    nn.Dense(2).apply({"params": {"weight": jnp.ones((3, 2))}}, jnp.ones((1, 3)))


@message("InvalidRngError", "RNGs should be of shape (2,) or PRNGKey", "modules.CountWeights")
def init_without_key():
    """The first argument of `init` is a key: `model.init(jax.random.key(0), x)`."""
    nn.Dense(2).init(jnp.ones((1, 3)))


@message("ModifyScopeVariableError", "is immutable", "modules.TrainEval")
def frozen_statistics():
    """Batch normalisation in training: `apply(…, mutable=["batch_stats"])`, which also returns them."""
    norm = nn.BatchNorm(use_running_average=False)
    norm.apply(norm.init(jax.random.key(0), jnp.ones((2, 3))), jnp.ones((2, 3)))


@message("InvalidRngError", "needs PRNG for", "layers.DropoutTrain")
def dropout_without_key():
    """An active dropout needs `apply(…, rngs={"dropout": key})`."""
    nn.Dropout(0.5, deterministic=False).apply({}, jnp.ones(3))


@message("ValueError", "must be passed to the constructor or at call time", "modules.TrainEval")
def neither_train_nor_eval():
    """Dropout and BatchNorm are told at every call which they are in: `deterministic=`, `use_running_average=`."""
    nn.Dropout(0.5).apply({}, jnp.ones(3))


@message(
    "AssignSubModuleError", "must be defined in `setup()` or in a method wrapped in `@compact`", "modules.OwnParameter"
)
def without_compact():
    """A layer is made in a method that lacks `@nn.compact`."""

    class Model(nn.Module):
        def __call__(self, x):
            return nn.Dense(2)(x)

    Model().init(jax.random.key(0), jnp.ones((1, 3)))


@message("CallCompactUnboundModuleError", "Can't call compact methods on unbound modules", "training.Evaluate")
def call_without_weights():
    """A Linen model holds no weights: `model.apply(variables, x)`."""
    nn.Dense(2)(jnp.ones((1, 3)))


@message("SetAttributeFrozenModuleError", "Module instance is frozen outside of setup method", "modules.Hooks")
def attribute_at_call():
    """`self.x = …` in a Linen model: `self.sow("intermediates", "x", x)`, or return it."""

    class Model(nn.Module):
        @nn.compact
        def __call__(self, x):
            self.seen = x
            return x

    Model().init(jax.random.key(0), jnp.ones(3))


@message("NameInUseError", "Name in use", "modules.SharedLayer")
def name_twice():
    """Two layers of one name; to use one layer twice, make it once."""

    class Model(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(2, name="fc")(nn.Dense(2, name="fc")(x))

    Model().init(jax.random.key(0), jnp.ones((1, 2)))


# --- Optax and trees ----------------------------------------------------------------------------------------


@message("ValueError", "You are using a transformation that requires the current value of parameters",
         "optimizers.NoDecayOnBiases")  # fmt: skip
def update_without_params():
    """Weight decay needs the weights: `optimizer.update(grads, state, params)`."""
    adamw, w = optax.adamw(0.1), jnp.ones(3)
    adamw.update(w, adamw.init(w))


@message("TypeError", "got an unexpected keyword argument 'lr'", "optimizers.Betas")
def lr():
    """The rate is the first argument, `learning_rate`; `betas` are `b1` and `b2`."""
    optax.adam(lr=1e-3)


@message("TypeError", "adam() got an unexpected keyword argument 'weight_decay'", "optimizers.AdamDecay")
def decay_of_adam():
    """`optax.adamw` has one, which is another method; PyTorch's is a link of a chain."""
    optax.adam(1e-3, weight_decay=0.1)


@message("TypeError|AssertionError", "a subdtype of <class 'numpy.integer'>|but expected <class 'int'>",
         "losses.CrossEntropy")  # fmt: skip
def float_labels():
    """Integer labels are wanted: `labels.astype(int)`; for probabilities there is `softmax_cross_entropy`."""
    optax.softmax_cross_entropy_with_integer_labels(jnp.ones((3, 4)), jnp.ones(3))


@message("ValueError", "indices and arr must have the same number of dimensions", "losses.BroadcastLabels")
def labels_with_an_axis():
    """Labels (n, 1) instead of (n,): `labels.squeeze(-1)`."""
    optax.softmax_cross_entropy_with_integer_labels(jnp.ones((3, 4)), jnp.zeros((3, 1), int))


@message("ValueError|AssertionError", "Shape mismatch: got|Assertion assert_equal_shape failed", "losses.MeanSquares")
def shapes_of_loss():
    """Prediction and target of a loss differ in shape: (n, 1) and (n,) mostly."""
    optax.squared_error(jnp.ones((3, 1)), jnp.ones(3))


@message("ValueError", "different pytree metadata|Dict key mismatch", "saving.PartialLoad")
def trees_differ():
    """Two trees have other keys: weights and gradients of different models, or only a part of them."""
    jax.tree.map(jnp.add, {"kernel": 1.0}, {"weight": 1.0})


@message("AttributeError", "module 'jax' has no attribute 'tree_map'|jax.tree_map was removed", "optimizers.ClipValues")
def old_tree_map():
    """`jax.tree_map` is gone: `jax.tree.map`."""
    jax.tree_map  # noqa: B018


# --- data and files -----------------------------------------------------------------------------------------


@message("RuntimeWarning", "os.fork() is incompatible with multithreaded code", "data.Workers")
def workers_that_fork():
    """A `DataLoader` forks its workers, which may hang: `num_workers=0`, or `multiprocessing_context="spawn"`."""
    with warnings.catch_warnings(record=True) as caught:  # a hook of the fork warns: an error in there is swallowed
        warnings.simplefilter("always")
        fork()
    raise next(warning.message for warning in caught if "JAX is multithreaded" in str(warning.message))


@message("ValueError", "already exists", "saving.Overwrite")
def folder_is_there():
    """Orbax does not overwrite, unless told `force=True`."""
    with tempfile.TemporaryDirectory() as folder, ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(Path(folder), {"x": jnp.ones(3)})


# --- memory -------------------------------------------------------------------------------------------------


@message("XlaRuntimeError|JaxRuntimeError", "RESOURCE_EXHAUSTED: Out of memory", "autograd.Checkpoint")
def out_of_memory():
    """More memory than there is. On a GPU JAX takes three quarters of it at its start."""
    jnp.zeros(2**45).block_until_ready()


MESSAGES += [
    Message(
        "XlaRuntimeError|JaxRuntimeError",
        "Failed to allocate request for",
        "A GPU's memory is used up, or another process holds it: `XLA_PYTHON_CLIENT_PREALLOCATE=false`.",
        "autograd.Checkpoint",
        None,
        "https://github.com/google-deepmind/jax_privacy/issues/10",
    ),
    Message(
        "XlaRuntimeError|JaxRuntimeError",
        "DNN library initialization failed",
        "cuDNN does not start: no GPU memory is left for it, or its version is not the one that jaxlib was built for.",
        "devices.HasGpu",
        None,
        "https://github.com/jax-ml/jax/issues/15361",
    ),
]


def raised(found: Message) -> Exception:
    """What a message's function raises; a warning counts as an error. AssertionError: it raises nothing."""
    assert found.provoke is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            found.provoke()
        except Exception as error:  # which type it is, is what the test asks
            return error
    raise AssertionError(f"{found.text}: expected {found.error}, nothing was raised")
