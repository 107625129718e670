"""Control flow

Outside `jit` a Python `if` or loop works as ever, gradients included. Under `jit` an array has no value while the
program is written: what depends on one becomes `jnp.where`, `lax.cond`, `lax.scan` or `lax.while_loop`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import torch

from rosetta.kinds import Pair, normal, positive

NO_LEAF = "torch.compile warns of an input that requires a gradient and is no leaf"


class Where(Pair):
    """Choose element by element"""

    inputs = {"x": normal(3, 4)}

    def torch(x):
        return torch.where(x > 0, x, 0.1 * x)

    def jax(x):
        return jnp.where(x > 0, x, 0.1 * x)


class IfOnData(Pair):
    """An if on data"""

    inputs = {"x": normal(4)}
    no_gradient = NO_LEAF
    trap = "Under `jit` a comparison has no value yet, and the `if` raises; `torch.compile` breaks its graph there."
    lesson = ("08_tracing", "TracerBoolConversionError")

    def torch(x):
        @torch.compile(backend="eager")
        def step(x):
            return 2 * x if x.sum() > 0 else x / 2

        return step(x)

    def jax(x):
        @jax.jit
        def step(x):
            return 2 * x if x.sum() > 0 else x / 2

        return step(x)

    def fix(x):
        @jax.jit
        def step(x):
            return jax.lax.cond(x.sum() > 0, lambda: 2 * x, lambda: x / 2)

        return step(x)

    def differ(ours):
        return isinstance(ours, jax.errors.TracerBoolConversionError)


class ManyBranches(Pair):
    """Choose among several functions"""

    inputs = {"x": normal(4), "which": np.array(2)}
    note = "`lax.switch` clamps an index that is out of range."

    def torch(x, which):
        branches = [torch.sin, torch.cos, torch.tanh]
        return branches[which](x)

    def jax(x, which):
        branches = [jnp.sin, jnp.cos, jnp.tanh]
        return jax.lax.switch(which, branches, x)


class DataCount(Pair):
    """As many turns as the data say"""

    inputs = {"x": positive(4), "n": np.array(3)}
    trap = "`range` needs a number; under `jit` an argument is none, and `range(n)` raises."
    lesson = ("08_tracing", "range(n)")
    no_gradient = "a `fori_loop` whose count is data has no reverse mode"

    def torch(x, n):
        for _ in range(n):
            x = torch.sqrt(x)
        return x

    def jax(x, n):
        def roots(x, n):
            for _ in range(n):
                x = jnp.sqrt(x)
            return x

        return jax.jit(roots)(x, n)

    def fix(x, n):
        def roots(x, n):
            return jax.lax.fori_loop(0, n, lambda i, x: jnp.sqrt(x), x)

        return jax.jit(roots)(x, n)

    def differ(ours):
        return isinstance(ours, jax.errors.TracerIntegerConversionError)


class WhileLoop(Pair):
    """Loop until a condition holds"""

    inputs = {"x": positive(4)}
    no_gradient = "`while_loop` has no reverse mode"

    def torch(x):
        while x.norm() < 100:
            x = 2 * x
        return x

    def jax(x):
        return jax.lax.while_loop(lambda x: jnp.linalg.norm(x) < 100, lambda x: 2 * x, x)


class WhileGradient(Pair):
    """Gradient through a while loop"""

    inputs = {"x": positive()}
    no_gradient = "its result is a gradient"
    trap = (
        "The number of turns is not known beforehand, nor the memory that a backward pass needs: reverse mode through "
        "`while_loop` is a ValueError. Bound the number of turns, and stand still when done."
    )
    lesson = ("09_transformations", "lax.while_loop")

    def torch(x):
        y = x.requires_grad_()
        while y < 10:
            y = 2 * y
        y.backward()
        return x.grad

    def jax(x):
        return jax.grad(lambda x: jax.lax.while_loop(lambda y: y < 10, lambda y: 2 * y, x))(x)

    def fix(x):
        return jax.grad(lambda x: jax.lax.fori_loop(0, 20, lambda i, y: jnp.where(y < 10, 2 * y, y), x))(x)

    def differ(ours):
        return isinstance(ours, ValueError)


class Recursion(Pair):
    """Carry a state along a sequence"""

    inputs = {"x": normal(20)}
    note = "`scan` compiles one turn, whatever the length; a Python loop under `jit` is written out turn by turn."

    def torch(x):
        average, averages = torch.zeros(()), []
        for value in x:
            average = 0.9 * average + 0.1 * value
            averages.append(average)
        return average, torch.stack(averages)

    def jax(x):
        def step(average, value):
            average = 0.9 * average + 0.1 * value
            return average, average

        return jax.lax.scan(step, jnp.zeros(()), x)


class CarryType(Pair):
    """A sum that starts as an integer"""

    inputs = {"x": normal(5)}
    trap = (
        "A carry must leave a turn of `scan` or `while_loop` with the shape and dtype that it came with, or a "
        "TypeError names both. (A Python `0` is adapted.)"
    )
    lesson = ("08_tracing", "scan from an int")

    def torch(x):
        total = torch.zeros((), dtype=torch.int32)
        for value in x:
            total = total + value
        return total

    def jax(x):
        return jax.lax.scan(lambda total, value: (total + value, None), jnp.zeros((), jnp.int32), x)[0]

    def fix(x):
        return jax.lax.scan(lambda total, value: (total + value, None), jnp.zeros((), x.dtype), x)[0]

    def differ(ours):
        return isinstance(ours, TypeError)


class CollectInList(Pair):
    """Keep values from inside a compiled function"""

    inputs = {"x": normal(4), "kept": []}
    no_gradient = NO_LEAF
    trap = "What `append` keeps under `jit` is a tracer; it is of no use later and raises. Return the values instead."
    lesson = ("08_tracing", "used later:")

    def torch(x, kept):
        def step(x):
            kept.append(torch.tanh(x))
            return 2 * kept[0]

        torch.compile(step, backend="eager")(x)
        return kept[0] + 1

    def jax(x, kept):
        def step(x):
            kept.append(jnp.tanh(x))
            return 2 * kept[0]

        jax.jit(step)(x)
        return kept[0] + 1

    def fix(x):
        def step(x):
            hidden = jnp.tanh(x)
            return 2 * hidden, hidden

        _, hidden = jax.jit(step)(x)
        return hidden + 1

    def differ(ours):
        return isinstance(ours, jax.errors.UnexpectedTracerError)


class BothBranches(Pair):
    """A branch that no row needs"""

    inputs = {"x": np.array([-1.0, -4.0], np.float32), "calls": []}
    no_gradient = "its result is a count"
    trap = "Under `vmap`, `lax.cond` runs both branches for all rows and selects: the dear one always costs its time."
    lesson = ("09_transformations", "runs both branches")

    def torch(x, calls):
        for row in x:
            if row > 0:
                calls.append(row)  # here stands what is dear
        return len(calls)

    def jax(x, calls):
        def dear(row):
            jax.debug.callback(calls.append, row)

        jax.vmap(lambda row: jax.lax.cond(row > 0, dear, lambda row: None, row))(x)
        jax.effects_barrier()
        return len(calls)

    def fix(x, calls):
        def dear(row):
            jax.debug.callback(calls.append, row)

        jax.lax.map(lambda row: jax.lax.cond(row > 0, dear, lambda row: None, row), x)
        jax.effects_barrier()
        return len(calls)

    def differ(theirs, ours):
        return (theirs, ours) == (0, 2)
