"""Debugging and profiling

Take the compiler away first (`jax.disable_jit()`) and debug as you are used to. What looks into a compiled program
comes from `jax.debug`, and becomes part of the program.
"""

import contextlib
import io

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax.experimental import checkify

from rosetta.kinds import Pair, folder, integers, normal, positive, raises


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

    def claims():
        def printed(function):
            with contextlib.redirect_stdout(io.StringIO()) as text:
                f = jax.jit(function)
                f(1.0), f(1.0), jax.effects_barrier()
            return text.getvalue().splitlines()

        (once,) = printed(print)
        assert "Trace" in once and printed(lambda x: jax.debug.print("{}", x)) == ["1.0", "1.0"]


class PrintOptions(Pair):
    """How arrays are printed"""

    inputs = {"x": np.array([1 / 3, 20_000.0], np.float32)}
    no_gradient = "its result is a text"
    note = "`jnp.set_printoptions` is NumPy's own: it changes both. There is no `sci_mode`; say `suppress=True`."
    also = ("torch.set_printoptions",)

    def torch(x):
        torch.set_printoptions(precision=2, sci_mode=False)
        text = str(x)
        torch.set_printoptions(profile="default")
        return text.removeprefix("tensor([").removesuffix("])").replace(" ", "").split(",")

    def jax(x):
        with jnp.printoptions(precision=2, suppress=True, floatmode="fixed"):
            text = str(x)
        return text.strip("[]").split()

    def claims():
        before = np.get_printoptions()
        jnp.set_printoptions(precision=3)
        try:
            assert np.get_printoptions()["precision"] == 3
            assert raises(TypeError, lambda: jnp.set_printoptions(sci_mode=False))
        finally:
            np.set_printoptions(**before)


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
    also = ("compiler.set_stance",)

    def torch(x):
        f = torch.compile(lambda x: torch.tanh(x) * 2, backend="eager")
        with torch.compiler.set_stance("force_eager"):
            return f(x)

    def jax(x):
        f = jax.jit(lambda x: jnp.tanh(x) * 2)
        with jax.disable_jit():
            return f(x)

    def claims():
        seen = []
        f = jax.jit(lambda x: seen.append(float(x.sum())) or x)
        assert raises(jax.errors.ConcretizationTypeError, f, jnp.ones(2))
        with jax.disable_jit():
            f(jnp.ones(2))
        assert seen == [2] and callable(jax.debug.breakpoint)


class StopAtNaN(Pair):
    """Stop where the first NaN appears"""

    inputs = {"x": np.zeros(2, np.float32)}
    no_gradient = "both sides raise"
    note = (
        "`detect_anomaly` watches the backward pass and raises a RuntimeError, `debug_nans` every result of every call "
        "and raises a FloatingPointError. Both are slow."
    )
    also = ("autograd.detect_anomaly", "autograd.set_detect_anomaly")

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


class WhichIsNaN(Pair):
    """Which of the weights has a NaN"""

    inputs = {"w": np.array([1.0, np.nan], np.float32), "b": np.zeros(2, np.float32)}
    no_gradient = "its result is a name"

    def torch(w, b):
        params = {"layer.w": w, "layer.b": b}
        return [name for name, value in params.items() if torch.isnan(value).any()]

    def jax(w, b):
        leaves = jax.tree_util.tree_leaves_with_path({"layer": {"w": w, "b": b}})
        bad = [path for path, value in leaves if jnp.isnan(value).any()]
        return [jax.tree_util.keystr(path, simple=True, separator=".") for path in bad]


class CloseInTests(Pair):
    """Assert in a test that results are close"""

    inputs = {"x": np.ones(3, np.float32)}
    no_gradient = "its result is a verdict"
    trap = (
        "NumPy's `assert_allclose`, which JAX programs use, allows 1e-7 relative and nothing absolute: float32 results "
        "fail. `assert_close` allows 1.3e-6 and 1e-5 for float32, by dtype, and asks for equal dtypes."
    )
    also = ("testing.assert_close", "testing.assert_allclose")

    def torch(x):
        torch.testing.assert_close(x + 2e-6, x)
        return True

    def jax(x):
        np.testing.assert_allclose(x + 2e-6, x)
        return True

    def fix(x):
        np.testing.assert_allclose(x + 2e-6, x, rtol=1.3e-6, atol=1e-5)
        return True

    def differ(theirs, ours):
        one, small = torch.ones(2), torch.zeros(2)
        torch.testing.assert_close(small + 0.9e-5, small), torch.testing.assert_close(100 * one, 100 * one + 0.9e-4)
        wide = raises(AssertionError, torch.testing.assert_close, small + 1.1e-5, small)
        dtypes = raises(AssertionError, torch.testing.assert_close, one, one.double())
        return wide and dtypes and theirs is True and isinstance(ours, AssertionError)


class Deterministic(Pair):
    """The same result at every run"""

    inputs = {"x": normal(50), "places": integers(0, 3, 50)}
    no_gradient = "PyTorch's setting is for a forward pass here"
    note = (
        "On a GPU the order of such a sum is open, and its last digits with it: set "
        "`XLA_FLAGS=--xla_gpu_deterministic_ops=true` before JAX starts. Draws depend on the key alone."
    )
    also = ("torch.use_deterministic_algorithms", "torch.are_deterministic_algorithms_enabled")

    def torch(x, places):
        torch.use_deterministic_algorithms(True)
        total = torch.zeros(3).index_add(0, places, x)
        torch.use_deterministic_algorithms(False)
        return total

    def jax(x, places):
        return jnp.zeros(3).at[places].add(x)


class AssertInside(Pair):
    """Assert inside a compiled function"""

    inputs = {"x": positive(4)}
    no_gradient = "torch.compile warns of an input that requires a gradient and is no leaf"
    trap = (
        "An `assert` on values is an `if`, and raises at once under `jit`, even where it would hold. `checkify` turns "
        "checks into a result of the program; `error.throw()` raises if one failed."
    )
    lesson = ("08c_debugging", "trap:assert-inside")

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

    def claims():
        checked = jax.jit(checkify.checkify(lambda x: checkify.check(x > 0, "not positive")))
        checked(1.0)[0].throw()
        assert raises(ValueError, checked(-1.0)[0].throw)

    def differ(ours):
        return isinstance(ours, jax.errors.TracerBoolConversionError)


class Profile(Pair):
    """Write a profile to a file"""

    inputs = {"folder": folder(), "x": normal(10, 10)}
    no_gradient = "writes a file"
    note = "Both can be read by Perfetto; JAX's also by XProf (TensorBoard)."
    also = ("profiler.profile", "profiler.tensorboard_trace_handler")

    def torch(folder, x):
        with torch.profiler.profile() as profile:
            x @ x
        profile.export_chrome_trace(str(folder / "trace.json"))
        return any(folder.glob("**/*trace.json*"))

    def jax(folder, x):
        with jax.profiler.trace(str(folder)):
            (x @ x).block_until_ready()
        return any(folder.glob("**/*trace.json*"))


class NamedRegions(Pair):
    """Name a part for the profiler"""

    inputs = {"x": normal(4)}
    note = "`TraceAnnotation` names time on the host, `jax.named_scope` operations inside of a compiled program."
    also = ("autograd.profiler.record_function", "cuda.nvtx.range")

    def torch(x):
        with torch.profiler.record_function("step"):
            return torch.tanh(x)

    def jax(x):
        with jax.profiler.TraceAnnotation("step"), jax.named_scope("step"):
            return jnp.tanh(x)

    def claims():
        def f(x):
            with jax.named_scope("my_step"):
                return jnp.tanh(x)

        assert "my_step" in jax.jit(f).lower(jnp.ones(3)).compile().as_text()
