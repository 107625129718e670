"""Compiling

`jax.jit` calls a function once with stand-ins for its arrays and compiles what happened to them. Whatever else the
function does is done that once. `torch.compile` guards what it read and compiles anew, or falls back to Python.
"""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from rosetta.kinds import Pair, normal

NO_LEAF = "torch.compile warns of an input that requires a gradient and is no leaf"


def nothing_compiled(rng: np.random.Generator) -> list:
    """An empty list, for what is compiled from here on; torch.compile forgets the sizes that it has seen."""
    torch.compiler.reset()
    return []


class Compile(Pair):
    """Compile a function"""

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
    lesson = ("08_tracing", "after scale = 10")

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
    lesson = ("08_tracing", "calls recorded")

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
    lesson = ("08_tracing", "# the short batch at the end of an epoch")

    def torch(graphs):
        def keep(graph, example_inputs):
            graphs.append(graph)
            return graph.forward

        f = torch.compile(lambda x: x.sum(), backend=keep)
        return [f(torch.ones(size)) for size in (32, 5, 7, 9)], len(graphs)

    def jax(traces):
        @jax.jit
        def f(x):
            traces.append(x.shape)
            return x.sum()

        return [f(jnp.ones(size)) for size in (32, 5, 7, 9)], len(traces)

    def differ(theirs, ours):
        return np.allclose(theirs[0], ours[0]) and (theirs[1], ours[1]) == (2, 4)


class ListSetting(Pair):
    """A list among the settings"""

    inputs = {"x": normal(3, 4)}
    no_gradient = NO_LEAF
    trap = "A static argument is looked up by its hash: a list, dict or array is a ValueError. Pass a tuple."
    lesson = ("08_tracing", "static, a list")

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
    lesson = ("08_tracing", "a method")

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
    lesson = ("08_tracing", "donated:")
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
