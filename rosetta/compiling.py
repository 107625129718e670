"""Compiling

`jax.jit` calls a function once with stand-ins for its arrays and compiles what happened to them. Whatever else the
function does is done that once. `torch.compile` guards what it read and compiles anew, or falls back to Python.
"""

import warnings
from types import SimpleNamespace

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from torch.utils.flop_counter import FlopCounterMode

from rosetta.kinds import Pair, normal, positive
from rosetta.optimizers import layer, model

NO_LEAF = "torch.compile warns of an input that requires a gradient and is no leaf"


def nothing_compiled(rng: np.random.Generator) -> list:
    """An empty list, for what is compiled from here on; torch.compile forgets the sizes that it has seen."""
    torch.compiler.reset()
    return []


def double_until(x: torch.Tensor) -> torch.Tensor:
    while x.sum() < 10:
        x = 2 * x
    return x


class Compile(Pair):
    """Compile a function"""

    also = ("torch.compile",)
    inputs = {"x": normal(4)}
    no_gradient = NO_LEAF
    note = "PyTorch's default backend writes C++ or Triton; `eager` runs the captured graph as it is."

    def torch(x):
        @torch.compile(backend="eager")
        def f(x):
            return torch.tanh(x) * 2 + x

        return f(x)

    def jax(x):
        @jax.jit
        def f(x):
            return jnp.tanh(x) * 2 + x

        return f(x)


class LookInside(Pair):
    """See the operations of the graph"""

    also = ("fx.symbolic_trace", "fx.experimental.proxy_tensor.make_fx")

    def torch():
        graph = torch.fx.symbolic_trace(lambda x: torch.tanh(x) * 2 + x).graph
        return [node.target.__name__ for node in graph.nodes if node.op == "call_function"]

    def jax():
        program = jax.make_jaxpr(lambda x: jnp.tanh(x) * 2 + x)(jnp.ones(4))
        return [equation.primitive.name for equation in program.eqns]


class ShapesOnly(Pair):
    """Shapes without computing"""

    def torch():
        x, w = torch.empty(32, 784, device="meta"), torch.empty(784, 10, device="meta")
        return (x @ w).shape

    def jax():
        x, w = jax.ShapeDtypeStruct((32, 784), jnp.float32), jax.ShapeDtypeStruct((784, 10), jnp.float32)
        return jax.eval_shape(jnp.matmul, x, w).shape


class CountFlops(Pair):
    """Count floating-point operations"""

    inputs = {"a": normal(4, 5), "b": normal(5, 6)}
    note = "JAX's number is XLA's estimate of the compiled program; `compiled.memory_analysis()` tells its memory."

    def torch(a, b):
        with FlopCounterMode(display=False) as counter:
            a @ b
        return counter.get_total_flops()

    def jax(a, b):
        compiled = jax.jit(jnp.matmul).lower(a, b).compile()
        return int(compiled.cost_analysis()["flops"])


class FrozenGlobal(Pair):
    """Change a variable that a compiled function reads"""

    inputs = {"x": normal(3)}
    no_gradient = NO_LEAF
    trap = "`jit` freezes what it reads from outside, and the answer is stale; `torch.compile` notices. Pass it in."
    lesson = ("08_tracing", "trap:frozen-global")

    def torch(x):
        scale = 2.0
        f = torch.compile(lambda x: scale * x, backend="eager")
        before = f(x)
        scale = 10.0
        return before, f(x)

    def jax(x):
        scale = 2.0
        f = jax.jit(lambda x: scale * x)
        before = f(x)
        scale = 10.0
        return before, f(x)

    def fix(x):
        f = jax.jit(lambda scale, x: scale * x)
        return f(2.0, x), f(10.0, x)

    def differ(theirs, ours):
        return np.allclose(theirs[1], 5 * theirs[0]) and np.array_equal(ours[1], ours[0])


class SideEffect(Pair):
    """Count the calls of a compiled function"""

    inputs = {"x": normal(3), "calls": []}
    no_gradient = NO_LEAF
    trap = "A side effect happens while tracing, at the first call, and never again. State is an argument and a result."
    lesson = ("08_tracing", "trap:frozen-global")

    def torch(x, calls):
        @torch.compile(backend="eager")
        def f(x):
            calls.append("called")
            return 2 * x

        return f(x), f(x), len(calls)

    def jax(x, calls):
        @jax.jit
        def f(x):
            calls.append("called")
            return 2 * x

        return f(x), f(x), len(calls)

    def fix(x):
        f = jax.jit(lambda calls, x: (calls + 1, 2 * x))
        calls, first = f(0, x)
        calls, second = f(calls, x)
        return first, second, calls

    def differ(theirs, ours):
        return (theirs[2], ours[2]) == (2, 1) and np.allclose(theirs[1], ours[1])


class NewShape(Pair):
    """Batches of many sizes"""

    inputs = {"graphs": nothing_compiled, "traces": []}
    trap = (
        "Every new shape compiles another program. At the second size `torch.compile` makes one for all sizes; "
        "with `jit`, drop the short last batch or pad it."
    )
    lesson = ("08b_compiling", "trap:new-shape")

    def torch(graphs):
        def keep(graph, example_inputs):
            graphs.append(graph)
            return graph.forward

        f = torch.compile(lambda x: x.sum(), backend=keep)
        return [f(torch.ones(size)) for size in (32, 5, 7, 9)], len(graphs) <= 2

    def jax(traces):
        @jax.jit
        def f(x):
            traces.append(x.shape)
            return x.sum()

        return [f(jnp.ones(size)) for size in (32, 5, 7, 9)], len(traces) <= 2

    def fix(traces):
        @jax.jit
        def f(x, size):
            traces.append(x.shape)
            return x.sum(where=jnp.arange(32) < size)

        return [f(jnp.pad(jnp.ones(size), (0, 32 - size)), size) for size in (32, 5, 7, 9)], len(traces) <= 2

    def differ(theirs, ours):
        return np.allclose(theirs[0], ours[0]) and theirs[1] and not ours[1]

    def claims():
        traces, graphs = [], nothing_compiled(np.random.default_rng(0))
        f, g = jax.jit(lambda x: traces.append(1) or x.sum()), torch.compile(
            lambda x: x.sum(), backend=lambda graph, _: graphs.append(graph) or graph.forward
        )  # fmt: skip
        for size in (32, 5, 7, 9):
            f(jnp.ones(size)), g(torch.ones(size))
        assert (len(traces), len(graphs)) == (4, 2)


class ListSetting(Pair):
    """A list among the settings"""

    inputs = {"x": normal(3, 4)}
    no_gradient = NO_LEAF
    trap = "A static argument is looked up by its hash: a list, dict or array is a ValueError. Pass a tuple."
    lesson = ("08b_compiling", "trap:static-list")

    def torch(x):
        return torch.compile(lambda x, dims: x.sum(dims), backend="eager")(x, [0, 1])

    def jax(x):
        return jax.jit(lambda x, axes: x.sum(axes), static_argnums=1)(x, [0, 1])

    def fix(x):
        return jax.jit(lambda x, axes: x.sum(axes), static_argnums=1)(x, (0, 1))

    def differ(ours):
        return isinstance(ours, ValueError)


class Method(Pair):
    """Compile a method"""

    inputs = {"x": normal(3)}
    no_gradient = NO_LEAF
    trap = "`self` is an argument like any other and no array: a TypeError. Compile a function of the weights."
    lesson = ("08b_compiling", "trap:method")

    def torch(x):
        class Scale(SimpleNamespace):
            @torch.compile(backend="eager")
            def __call__(self, x):
                return self.w * x

        return Scale(w=2.0)(x)

    def jax(x):
        class Scale(SimpleNamespace):
            @jax.jit
            def __call__(self, x):
                return self.w * x

        return Scale(w=2.0)(x)

    def fix(x):
        @jax.jit
        def scale(params, x):
            return params["w"] * x

        return scale({"w": 2.0}, x)

    def differ(ours):
        return isinstance(ours, TypeError)


class UpdateInPlace(Pair):
    """Update weights without a second copy"""

    inputs = {"w": normal(3), "grads": normal(3)}
    trap = "`donate_argnums` lets the result take over the argument's memory. The old array is gone; using it raises."
    lesson = ("08_tracing", "trap:donation")
    no_gradient = "a donated array is no input any more"

    def torch(w, grads):
        w -= 0.1 * grads
        return w

    def jax(w, grads):
        update = jax.jit(lambda w, grads: w - 0.1 * grads, donate_argnums=0)
        update(w, grads)
        return w + 0

    def fix(w, grads):
        update = jax.jit(lambda w, grads: w - 0.1 * grads, donate_argnums=0)
        w = update(w, grads)
        return w

    def differ(ours):  # the type depends on which of JAX's paths meets the array first
        return isinstance(ours, RuntimeError | ValueError) and "deleted" in str(ours)


class FullGraph(Pair):
    """Refuse what cannot be compiled (fullgraph)"""

    inputs = {"x": positive(3)}
    no_gradient = NO_LEAF
    trap = (
        "Where a branch depends on values `torch.compile` falls back to Python unless `fullgraph=True`. `jit` knows "
        "nothing but whole graphs: it raises."
    )

    def torch(x):
        return torch.compile(lambda x: 2 * x if x.sum() > 0 else x, backend="eager")(x)

    def jax(x):
        return jax.jit(lambda x: 2 * x if x.sum() > 0 else x)(x)

    def fix(x):
        return jax.jit(lambda x: jax.lax.cond(x.sum() > 0, lambda x: 2 * x, lambda x: x, x))(x)

    def differ(ours):
        return isinstance(ours, jax.errors.TracerBoolConversionError)

    def claims():
        whole = torch.compile(lambda x: 2 * x if x.sum() > 0 else x, backend="eager", fullgraph=True)
        try:
            whole(torch.ones(3))
        except RuntimeError as error:
            assert "branching" in str(error)
        else:
            raise AssertionError("no error")


class CompileModel(Pair):
    """Compile a model"""

    inputs = {"model": model, "layer": layer, "x": normal(4, 3)}
    no_gradient = NO_LEAF
    also = ("nn.Module.compile",)
    note = "Linen's `apply` is a function already: `jax.jit(model.apply)(variables, x)`."

    def torch(model, x):
        model.compile(backend="eager")
        return model(x)

    def nnx(layer, x):
        call = nnx.jit(lambda layer, x: layer(x))
        return call(layer, x)


class Disable(Pair):
    """Leave compiling out"""

    inputs = {"x": normal(3)}
    no_gradient = NO_LEAF
    also = ("compiler.disable",)
    note = "For one function within a compiled one there is `jax.pure_callback`, which calls Python at run time."

    def torch(x):
        f = torch.compiler.disable(lambda x: torch.tensor(x.tolist()) * 2)
        return torch.compile(f, backend="eager")(x)

    def jax(x):
        f = jax.jit(lambda x: jnp.array(x.tolist()) * 2)
        with jax.disable_jit():
            return f(x)

    def claims():
        double = lambda x: np.array(x.tolist(), np.float32) * 2  # noqa: E731
        f = jax.jit(lambda x: jax.pure_callback(double, jax.ShapeDtypeStruct((3,), jnp.float32), x))
        assert f(jnp.ones(3)).tolist() == [2, 2, 2]


class Reset(Pair):
    """Forget what was compiled"""

    inputs = {"x": normal(3), "compiled": []}
    no_gradient = NO_LEAF
    also = ("compiler.reset",)
    note = "Of one function; `jax.clear_caches()` forgets all of them."

    def torch(x, compiled):
        f = torch.compile(lambda x: 2 * x, backend=lambda graph, _: compiled.append(graph) or graph.forward)
        f(x), f(x)
        torch.compiler.reset()
        return f(x), len(compiled)

    def jax(x, compiled):
        f = jax.jit(lambda x: compiled.append(x) or 2 * x)
        f(x), f(x)
        f.clear_cache()
        return f(x), len(compiled)

    def claims():
        assert callable(jax.clear_caches)


class IsCompiling(Pair):
    """Is this being compiled?"""

    inputs = {"x": normal(3)}
    no_gradient = NO_LEAF
    also = ("compiler.is_compiling", "compiler.is_dynamo_compiling", "jit.is_tracing", "jit.is_scripting")
    note = "A tracer is also what `grad` and `vmap` hand in."

    def torch(x):
        f = lambda x: (x, torch.compiler.is_compiling())  # noqa: E731
        return f(x)[1], torch.compile(f, backend="eager", fullgraph=True)(x)[1]

    def jax(x):
        seen = []
        f = lambda x: seen.append(isinstance(x, jax.core.Tracer)) or x  # noqa: E731
        f(x), jax.jit(f)(x)
        return tuple(seen)


class AheadOfTime(Pair):
    """Compile before the first call"""

    inputs = {"x": normal(3)}
    no_gradient = NO_LEAF
    note = (
        "The compiled one takes these shapes alone. `compile(compiler_options={...})` is what PyTorch's `mode` and "
        "`options` are for."
    )

    def torch(x):
        f = torch.compile(lambda x: torch.tanh(x) * 2, backend="eager")
        f(torch.zeros(3))  # a call is what compiles
        return f(x)

    def jax(x):
        f = jax.jit(lambda x: jnp.tanh(x) * 2)
        compiled = f.lower(jax.ShapeDtypeStruct((3,), jnp.float32)).compile()
        return compiled(x)

    def claims():
        compiled = jax.jit(jnp.tanh).lower(jax.ShapeDtypeStruct((3,), jnp.float32)).compile(compiler_options={})
        try:
            compiled(jnp.ones(4))
        except TypeError:
            return
        raise AssertionError("no error")


class JitTrace(Pair):
    """Trace a branch of Python"""

    inputs = {"x": np.array([1.0, 2.0], np.float32)}
    no_gradient = "a traced program"
    also = ("jit.trace", "jit.trace_module")
    trap = (
        "`torch.jit.trace` keeps the branch that its example took, with a warning, and is silently wrong for others. "
        "`jit` raises; a branch that is to be fixed is chosen by a static argument."
    )

    def torch(x):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.jit.trace(lambda x: x if x.sum() > 0 else -x, torch.ones(2))(-x)

    def jax(x):
        return jax.jit(lambda x: x if x.sum() > 0 else -x)(-x)

    def fix(x):
        return jax.jit(lambda x, positive: x if positive else -x, static_argnames="positive")(-x, positive=True)

    def differ(theirs, ours):
        return theirs.tolist() == [-1, -2] and isinstance(ours, jax.errors.TracerBoolConversionError)


class JitScript(Pair):
    """Compile Python's control flow (TorchScript)"""

    inputs = {"x": positive(3)}
    no_gradient = "a loop whose count is data has no reverse mode"
    also = ("jit.script", "jit.script_if_tracing")
    note = (
        "JAX does not read Python's source: loops and branches on values are `lax.while_loop`, `fori_loop` and `cond`."
    )

    def torch(x):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.jit.script(double_until)(x)  # while x.sum() < 10: x = 2 * x

    def jax(x):
        return jax.jit(lambda x: jax.lax.while_loop(lambda x: x.sum() < 10, lambda x: 2 * x, x))(x)


class ExportProgram(Pair):
    """Export a program (StableHLO)"""

    inputs = {"x": normal(4, 3)}
    no_gradient = "a program without its code"
    also = ("export.export", "export.save", "export.load", "onnx.export", "jit.save", "jit.load")
    note = (
        "Shapes are fixed in it, and arrays that the function reads without being handed them. `exported.serialize()` "
        "makes bytes of it (it needs flatbuffers), `exported.mlir_module()` StableHLO text: JAX's format where PyTorch "
        "has ONNX."
    )

    def torch(x):
        model = torch.nn.Sequential(torch.nn.Tanh())
        return torch.export.export(model, (x,)).module()(x)

    def jax(x):
        exported = jax.export.export(jax.jit(jnp.tanh))(jax.ShapeDtypeStruct((4, 3), jnp.float32))
        return exported.call(x)

    def claims():
        exported = jax.export.export(jax.jit(jnp.tanh))(jax.ShapeDtypeStruct((4, 3), jnp.float32))
        assert "stablehlo.tanh" in exported.mlir_module()


class ExportAnyBatch(Pair):
    """Export for any batch size"""

    inputs = {"x": normal(5, 3)}
    no_gradient = "a program without its code"
    also = ("export.Dim", "export.dims")
    note = (
        "`jit` itself has no shape that is open: `torch.compile(dynamic=True)` corresponds to an export, or to padding."
    )

    def torch(x):
        shapes = ({0: torch.export.Dim("batch")},)
        program = torch.export.export(torch.nn.Tanh(), (torch.ones(4, 3),), dynamic_shapes=shapes)
        return program.module()(x)

    def jax(x):
        shape = jax.export.symbolic_shape("batch, 3")
        exported = jax.export.export(jax.jit(jnp.tanh))(jax.ShapeDtypeStruct(shape, jnp.float32))
        return exported.call(x)


class OwnOperation(Pair):
    """Call foreign code from a compiled function"""

    inputs = {"x": normal(3)}
    no_gradient = "foreign code has no derivative"
    also = ("library.custom_op", "library.register_fake")
    note = "A gradient is given by `jax.custom_vjp`; compiled C or CUDA is called by `jax.ffi`."

    def torch(x):
        sine = lambda x: torch.from_numpy(np.sin(x.numpy()))  # noqa: E731
        return torch.compile(torch.compiler.disable(sine), backend="eager")(x)

    def jax(x):
        sine = lambda x: np.sin(np.asarray(x))  # noqa: E731
        return jax.jit(lambda x: jax.pure_callback(sine, jax.ShapeDtypeStruct(x.shape, x.dtype), x))(x)
