"""Debugging and profiling

Take the compiler away first (`jax.disable_jit()`) and debug as you are used to. What looks into a compiled program
comes from `jax.debug`, and becomes part of the program.
"""

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax.experimental import checkify

from rosetta.kinds import Pair, folder, normal, positive


class PrintInside(Pair):
    """Print from inside a compiled function"""

    inputs = {"x": np.ones(3, np.float32)}
    no_gradient = "torch.compile warns of an input that requires a gradient and is no leaf"
    note = "A plain `print` under `jit` prints a tracer, once. `jax.debug.print` prints the values, at every call."

    def torch(x):
        @torch.compile(backend="eager")
        def f(x):
            print("sum:", x.sum())
            return 2 * x

        return f(x)

    def jax(x):
        @jax.jit
        def f(x):
            jax.debug.print("sum: {}", x.sum())
            return 2 * x

        return f(x)


class LookAtValues(Pair):
    """Keep values for inspection"""

    inputs = {"x": normal(4), "seen": []}
    no_gradient = "the values leave the graph"
    note = "A callback runs when the program comes to it; `jax.effects_barrier()` waits for all of them."

    def torch(x, seen):
        def f(x):
            seen.append(torch.tanh(x))

        f(x)
        return seen[0]

    def jax(x, seen):
        def f(x):
            jax.debug.callback(seen.append, jnp.tanh(x))

        jax.jit(f)(x)
        jax.effects_barrier()
        return seen[0]


class StepThrough(Pair):
    """Run a compiled function without the compiler"""

    inputs = {"x": normal(4)}
    no_gradient = "torch.compile warns of an input that requires a gradient and is no leaf"
    note = "Then `breakpoint()` and `print` see values. Inside a compiled program there is `jax.debug.breakpoint()`."

    def torch(x):
        f = torch.compile(lambda x: torch.tanh(x) * 2, backend="eager")
        with torch.compiler.set_stance("force_eager"):
            return f(x)

    def jax(x):
        f = jax.jit(lambda x: jnp.tanh(x) * 2)
        with jax.disable_jit():
            return f(x)


class StopAtNaN(Pair):
    """Stop where the first NaN appears"""

    inputs = {"x": np.zeros(2, np.float32)}
    no_gradient = "both sides raise"
    note = (
        "`detect_anomaly` watches the backward pass and raises a RuntimeError, `debug_nans` every result of every call "
        "and raises a FloatingPointError. Both are slow."
    )

    @classmethod
    def result(cls, side, drawn):
        try:
            super().result(side, drawn)
        except {"torch": RuntimeError, "jax": FloatingPointError}[side] as error:
            return "nan" in str(error)
        raise AssertionError(f"{side} let a NaN pass")

    def torch(x):
        with torch.autograd.set_detect_anomaly(True):
            (0 * x.requires_grad_().sqrt()).sum().backward()

    def jax(x):
        with jax.debug_nans(True):
            jax.grad(lambda x: (0 * jnp.sqrt(x)).sum())(x)


class AssertInside(Pair):
    """Assert inside a compiled function"""

    inputs = {"x": positive(4)}
    no_gradient = "torch.compile warns of an input that requires a gradient and is no leaf"
    trap = (
        "An `assert` on values is an `if`, and raises at once under `jit`, even where it would hold. `checkify` turns "
        "checks into a result of the program; `error.throw()` raises if one failed."
    )
    lesson = ("08_tracing", '"assert": lambda jit, x:')

    def torch(x):
        @torch.compile(backend="eager")
        def f(x):
            assert (x > 0).all(), "not positive"
            return x.log()

        return f(x)

    def jax(x):
        @jax.jit
        def f(x):
            assert (x > 0).all(), "not positive"
            return jnp.log(x)

        return f(x)

    def fix(x):
        def f(x):
            checkify.check((x > 0).all(), "not positive")
            return jnp.log(x)

        error, y = jax.jit(checkify.checkify(f))(x)
        return y

    def differ(ours):
        return isinstance(ours, jax.errors.TracerBoolConversionError)


class Profile(Pair):
    """Write a profile to a file"""

    inputs = {"folder": folder(), "x": normal(10, 10)}
    no_gradient = "writes a file"
    note = "Both can be read by Perfetto; JAX's also by XProf (TensorBoard)."

    def torch(folder, x):
        with torch.profiler.profile() as profile:
            x @ x
        profile.export_chrome_trace(str(folder / "trace.json"))
        return any(folder.glob("**/*trace.json*"))

    def jax(folder, x):
        with jax.profiler.trace(str(folder)):
            (x @ x).block_until_ready()
        return any(folder.glob("**/*trace.json*"))
