"""Control flow

Outside `jit` a Python `if` or loop works as ever, gradients included. Under `jit` an array has no value while the
program is written: what depends on one becomes `jnp.where`, `lax.cond`, `lax.scan` or `lax.while_loop`.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import torch

from rosetta.kinds import Pair, booleans, integers, normal, positive, raises

NO_LEAF = "torch.compile warns of an input that requires a gradient and is no leaf"


class Where(Pair):
    """Choose element by element"""

    inputs = {"x": normal(3, 4)}

    def torch(x):
        return torch.where(x > 0, x, 0.1 * x)

    def jax(x):
        return jnp.where(x > 0, x, 0.1 * x)


class Piecewise(Pair):
    """Choose among several, element by element"""

    inputs = {"x": normal(8)}

    def torch(x):
        return torch.where(x < -1, -x - 1, torch.where(x < 1, 0 * x, x - 1))

    def jax(x):
        return jnp.select([x < -1, x < 1], [-x - 1, 0 * x], x - 1)


class IfOnData(Pair):
    """An if on data"""

    inputs = {"x": normal(4)}
    no_gradient = NO_LEAF
    trap = "Under `jit` a comparison has no value yet, and the `if` raises; `torch.compile` breaks its graph there."
    lesson = ("08_tracing", "trap:if-on-data")
    also = ("torch.cond",)

    def torch(x):
        @torch.compile(backend="eager")
        def step(x):
            return 2 * x if x.sum() > 0 else x / 2

        return step(x), step(-x)

    def jax(x):
        @jax.jit
        def step(x):
            return 2 * x if x.sum() > 0 else x / 2

        return step(x), step(-x)

    def fix(x):
        @jax.jit
        def step(x):
            return jax.lax.cond(x.sum() > 0, lambda: 2 * x, lambda: x / 2)

        return step(x), step(-x)

    def differ(ours):
        return isinstance(ours, jax.errors.TracerBoolConversionError)

    def claims():
        step = lambda x: 2 * x if x.sum() > 0 else x / 2  # noqa: E731
        assert raises(RuntimeError, torch.compile(step, backend="eager", fullgraph=True), torch.ones(2))


class PythonMax(Pair):
    """max, min, sorted, and, or, not on tensors"""

    inputs = {"x": normal(), "y": normal()}
    no_gradient = NO_LEAF
    trap = "They ask for the truth of a comparison, as an `if` does. Under `jit` write the array's own operation."

    def torch(x, y):
        return max(x, y), not (x > 0 and y > 0)

    def jax(x, y):
        return jax.jit(lambda x, y: (max(x, y), not (x > 0 and y > 0)))(x, y)

    def fix(x, y):
        return jax.jit(lambda x, y: (jnp.maximum(x, y), ~((x > 0) & (y > 0))))(x, y)

    def differ(ours):
        every = [max, min, lambda x, y: sorted([x, y]), lambda x, y: x and y, lambda x, y: x or y, lambda x, y: not x]
        raising = all(raises(jax.errors.TracerBoolConversionError, jax.jit(f), 1.0, 2.0) for f in every)
        return raising and isinstance(ours, jax.errors.TracerBoolConversionError)


class IfOnSetting(Pair):
    """An if on a setting, a shape, or None"""

    inputs = {"x": normal(2, 3)}
    no_gradient = NO_LEAF
    note = "All are known while the program is written. Each value of a setting compiles its own program."

    def torch(x):
        @torch.compile(backend="eager")
        def f(x, mask=None, train=False):
            return 2 * x if mask is None and x.ndim == 2 and not train else x

        return f(x), f(x, train=True)

    def jax(x):
        @partial(jax.jit, static_argnames="train")
        def f(x, mask=None, train=False):
            return 2 * x if mask is None and x.ndim == 2 and not train else x

        return f(x), f(x, train=True)

    def claims():
        written = []
        f = jax.jit(lambda x, train: written.append(train) or x, static_argnames="train")
        f(jnp.ones(1), train=True), f(jnp.ones(1), train=False), f(jnp.ones(1), train=True)
        assert written == [True, False]


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

    def claims():
        assert jax.lax.switch(7, [jnp.sin, jnp.cos], 0.0) == 1


class DataCount(Pair):
    """As many turns as the data say"""

    inputs = {"x": positive(4), "n": np.array(3)}
    trap = "`range` needs a number; under `jit` an argument is none, and `range(n)` raises."
    lesson = ("08_tracing", "trap:data-count")
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


class Break(Pair):
    """break out of a loop"""

    inputs = {"x": positive()}
    no_gradient = "`while_loop` has no reverse mode"

    def torch(x):
        for turn in range(50):
            if (x * x - 2).abs() < 1e-3:
                break
            x = (x + 2 / x) / 2
        return x, turn

    def jax(x):
        def unfinished(state):
            return (state[1] < 50) & (jnp.abs(state[0] ** 2 - 2) >= 1e-3)

        return jax.lax.while_loop(unfinished, lambda state: ((state[0] + 2 / state[0]) / 2, state[1] + 1), (x, 0))


class WriteInLoop(Pair):
    """Write into a tensor in a loop"""

    inputs = {"x": normal(6)}
    note = "With fixed ends, a `fori_loop` has reverse mode. `scan` needs no `.at`: it stacks what each turn returns."

    def torch(x):
        y = x.clone()
        for i in range(1, 6):
            y[i] = 0.5 * y[i - 1] + x[i]
        return y

    def jax(x):
        return jax.lax.fori_loop(1, 6, lambda i, y: y.at[i].set(0.5 * y[i - 1] + x[i]), x)

    def claims():
        def last(x):
            return jax.lax.fori_loop(1, 3, lambda i, y: y.at[i].set(0.5 * y[i - 1] + x[i]), x)[-1]

        assert jax.grad(last)(jnp.ones(3)).tolist() == [0.25, 0.5, 1]


class WhileGradient(Pair):
    """Gradient through a while loop"""

    inputs = {"x": positive()}
    no_gradient = "its result is a gradient"
    trap = (
        "The number of turns is not known beforehand, nor the memory that a backward pass needs: reverse mode through "
        "`while_loop` is a ValueError. Bound the number of turns, and stand still when done."
    )
    lesson = ("09_transformations", "trap:grad-refuses")

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


class Backwards(Pair):
    """Carry a state from the end to the beginning"""

    inputs = {"reward": normal(8), "done": booleans(8)}

    def torch(reward, done):
        value, returns = torch.zeros(()), []
        for i in reversed(range(len(reward))):
            value = reward[i] + 0.9 * value * ~done[i]
            returns.insert(0, value)
        return torch.stack(returns)

    def jax(reward, done):
        def step(value, now):
            value = now[0] + 0.9 * value * ~now[1]
            return value, value

        return jax.lax.scan(step, 0.0, (reward, done), reverse=True)[1]


class StackOfLayers(Pair):
    """A loop over layers of one shape"""

    inputs = {"x": normal(3), "weights": normal(4, 3, 3)}
    note = "`scan` compiles one layer, whatever their number."

    def torch(x, weights):
        for weight in weights:
            x = torch.tanh(x @ weight)
        return x

    def jax(x, weights):
        return jax.lax.scan(lambda x, weight: (jnp.tanh(x @ weight), None), x, weights)[0]

    def claims():
        def lines(depth):
            scanned = jax.jit(lambda x, w: jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, w)[0])
            return scanned.lower(jnp.ones(3), jnp.ones((depth, 3, 3))).as_text().count("\n")

        assert lines(4) == lines(40)


class LinearRecurrence(Pair):
    """A linear recurrence in parallel"""

    inputs = {"a": positive(16), "b": normal(16)}
    note = "In about log2(n) steps. What `scan` can do, but only where the combination is associative."

    def torch(a, b):
        h, all_h = torch.zeros(()), []
        for i in range(16):
            h = a[i] * h + b[i]
            all_h.append(h)
        return torch.stack(all_h)

    def jax(a, b):
        def combine(left, right):
            return left[0] * right[0], left[1] * right[0] + right[1]

        return jax.lax.associative_scan(combine, (a, b))[1]


class MapRows(Pair):
    """A batch a few rows at a time"""

    inputs = {"x": normal(10, 3)}
    note = "`vmap` of `batch_size` rows at a time, in a loop: less memory. Without `batch_size` one row at a time."

    def torch(x):
        return torch.func.vmap(lambda row: row.softmax(0), chunk_size=4)(x)

    def jax(x):
        return jax.lax.map(jax.nn.softmax, x, batch_size=4)


class EachRowItsTurns(Pair):
    """A loop of another length for each row"""

    inputs = {"x": positive(4), "n": integers(0, 5, 4)}
    no_gradient = "a `fori_loop` whose count is data has no reverse mode"
    note = "Under `vmap` all rows wait for the longest; each keeps the value of its own last turn."

    def torch(x, n):
        for i in range(4):
            for _ in range(n[i]):
                x[i] = torch.sqrt(x[i])
        return x

    def jax(x, n):
        def roots(value, turns):
            return jax.lax.fori_loop(0, turns, lambda i, value: jnp.sqrt(value), value)

        return jax.vmap(roots)(x, n)


class CarryType(Pair):
    """A sum that starts as an integer"""

    inputs = {"x": normal(5)}
    trap = (
        "A carry must leave a turn of `scan` or `while_loop` with the shape and dtype that it came with, or a "
        "TypeError names both. (A Python `0` is adapted.)"
    )
    lesson = ("08b_compiling", "trap:carry-type")

    def torch(x):
        total = torch.zeros((), dtype=torch.int32)
        for value in x:
            total = total + value
        return total

    def jax(x):
        return jax.lax.scan(lambda total, value: (total + value, None), jnp.zeros((), jnp.int32), x)[0]

    def fix(x):
        return jax.lax.scan(lambda total, value: (total + value, None), jnp.zeros((), x.dtype), x)[0]

    def claims():
        def total(start):
            return jax.lax.scan(lambda total, value: (total + value, None), start, jnp.ones(3))[0]

        assert total(0) == 3 and raises(TypeError, total, jnp.int32(0))

    def differ(ours):
        return isinstance(ours, TypeError)


class CollectInList(Pair):
    """Keep values from inside a compiled function"""

    inputs = {"x": normal(4), "kept": []}
    no_gradient = NO_LEAF
    trap = "What `append` keeps under `jit` is a tracer; it is of no use later and raises. Return the values instead."
    lesson = ("08c_debugging", "trap:collect-in-list")

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
    lesson = ("09_transformations", "trap:cond-under-vmap")

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
