"""The fast path of coordinate axes: first derivatives with one entry for each line. Needs JAX.

Lines along the axes start with the identity matrix as their first derivatives, d^2 numbers of which d are not zero.
Operations that treat entry by entry keep them so, and a product with a matrix takes its rows. Everything here is what
the rules of `course.taylor.rules` would do to the dense array, and is tested against them. Lesson: 17_taylor_mode.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from course.taylor import rules, sparse
from course.taylor.programs import is_real
from course.taylor.rules import Jet, Operation
from course.taylor.series import add
from course.taylor.sparse import Sparse


@dataclass(frozen=True, eq=False)
class OneHot:
    """First derivatives (R, *shape) of a value, where line r moves only the entry axes[r], by entries[r]."""

    axes: jax.Array | None  # (R,) integers, entries counted in row-major order; None means all in order, R = size
    entries: jax.Array  # (R,)
    shape: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype:
        """Of the entries."""
        return self.entries.dtype

    def pick(self, values: jax.Array) -> jax.Array:
        """What values (*shape) hold at the entry of each line, (R,)."""
        flat = values if values.ndim == 1 else values.ravel()
        return flat if self.axes is None else flat[self.axes]

    def collect(self, values: jax.Array) -> jax.Array:
        """Sum of values (R,) into the entries of their lines, (*shape)."""
        if self.axes is None:
            return values.reshape(self.shape)
        # XLA (jaxlib 0.7 to 0.12) makes a wrong program of two scatters into zeros that it knows
        zeros = jax.lax.optimization_barrier(jnp.zeros(prod(self.shape), values.dtype))
        return zeros.at[self.axes].add(values).reshape(self.shape)

    def astype(self, dtype: DTypeLike) -> OneHot:
        """The same in another dtype."""
        return OneHot(self.axes, self.entries.astype(dtype), self.shape)

    def dense(self) -> jax.Array:
        """The array it stands for, (R, *shape)."""
        places = jnp.arange(prod(self.shape))
        axes = places if self.axes is None else self.axes
        return jnp.where(axes[:, None] == places, self.entries[:, None], 0).reshape(-1, *self.shape)


jax.tree_util.register_dataclass(OneHot, data_fields=["axes", "entries"], meta_fields=["shape"])


def along_axes(axes: jax.Array | None, x: jax.Array) -> OneHot:
    """The start of a jet at x (d,) along these coordinate axes; an axis that does not exist makes NaN."""
    if axes is None:
        return OneHot(None, jnp.ones_like(x), x.shape)
    entries = jnp.where((axes >= 0) & (axes < len(x)), jnp.ones((), x.dtype), jnp.nan)
    return OneHot(jnp.clip(axes, 0, len(x) - 1), entries, x.shape)


def transport(op: Operation, *jets: Jet) -> Sequence[Sequence[jax.Array | OneHot | None]]:
    """As `rules.transport`, for jets of which some have one-hot first derivatives."""
    hots = [x[1] for x in jets if isinstance(x[1], OneHot)]
    # the first derivatives that are not zero are all one-hot, with the same axes, of real values
    alike = 0 < len(hots) == sum(x[1] is not None for x in jets) and all(hot.axes is hots[0].axes for hot in hots)
    found: Jet | None = None
    if alike and len(op.outputs) == 1 and all(map(is_real, [*op.values, *op.outputs])):
        rule = rules.RULES.get(op.name)
        if op.linear:
            found = _linear(op, *jets)
        elif op.order == 2 and rule is rules.product and len(hots) == 2:
            found = _product(op, *jets)
        elif op.order == 2 and rule is rules.elementwise and len(jets) == 1:
            found = _elementwise(op, *jets)
    if found is not None:
        return [found]
    return sparse.transport(op, *map(_sparse, jets)) or rules.transport(op, *map(dense, jets))


def dense(jet: Jet) -> Jet:
    """A jet without one-hot or sparse entries."""
    return [entry.dense() if isinstance(entry, OneHot | Sparse) else entry for entry in jet]


def _sparse(jet: Jet) -> Jet:
    """A jet whose first derivatives are sparse where they were one-hot and the axes are known."""
    hot = jet[1]
    if not isinstance(hot, OneHot) or hot.axes is not None:
        return jet
    numbers = np.arange(prod(hot.shape), dtype=np.int32).reshape(1, *hot.shape)
    return [jet[0], Sparse(hot.entries.reshape(numbers.shape), numbers, numbers.size), *jet[2:]]


# Linear, entry by entry and in the same order: each entry of the output is a number times that of the input.
_ENTRYWISE = frozenset(
    "neg copy copy_p name convert_element_type reshape squeeze expand_dims add sub add_any select_n mul div".split()  # noqa: SIM905
)


def _linear(op: Operation, *jets: Jet) -> Jet | None:
    """First derivatives one-hot again, or rows of the operation's matrix made without the identity; any order."""
    hots, (output,) = [x[1] for x in jets], op.outputs
    hot = next(hot for hot in hots if hot is not None)
    if op.name in _ENTRYWISE and output.size == prod(hot.shape):
        first: jax.Array | OneHot = OneHot(hot.axes, _entrywise(op, hots), output.shape)
    elif len(jets) > 1:
        return None
    elif (found := sparse.transport(op, *map(_sparse, jets))) is not None:
        return list(found[0])
    elif (rows := _rows_of_matrix(op)) is not None:  # x @ W: line r gives its entry times a row of W
        rows = rows if hot.axes is None else rows[hot.axes]
        first = hot.entries.reshape(-1, *[1] * (rows.ndim - 1)) * rows
    elif output.size < op.values[0].size:
        pull = jax.linear_transpose(lambda part: rules.jvp(op, [part])[0], op.values[0])
        basis = jnp.eye(output.size, dtype=output.dtype).reshape(-1, *output.shape)
        (pulled,) = jax.vmap(pull)(basis)  # (m, *shape): what each entry of the output is made of
        first = _scaled(op, hot.entries, jax.vmap(hot.pick)(pulled)).T.reshape(-1, *output.shape)
    else:
        return None
    ((_, *rest),) = rules.linear(op, *([x[0], None, *x[2:]] for x in jets))
    return [first, *rest]


def _entrywise(op: Operation, hots: Sequence[OneHot | None]) -> jax.Array:
    """What an operation that is linear entry by entry makes of the entries (R,) of its moving inputs."""
    if all(hot is None or hot.axes is None for hot in hots):  # every entry moves once: all of them in one tangent
        pairs = zip(hots, op.values, strict=True)
        parts = [jnp.zeros_like(v) if hot is None else hot.entries.reshape(v.shape) for hot, v in pairs]
        return rules.image(op)(*parts)[0].ravel()
    entries = []
    for n, hot in enumerate(hots):
        if hot is not None:  # the numbers, from ones in this input and zeros in the others
            (factor,) = rules.jvp(op, [jnp.full_like(value, m == n) for m, value in enumerate(op.values)])
            entries.append(_scaled(op, hot.entries.astype(factor.dtype), hot.pick(factor)))
    moved = add(entries)
    assert moved is not None  # one of the inputs is one-hot
    return moved


def _scaled(op: Operation, entries: jax.Array, factors: jax.Array) -> jax.Array:
    """Entries times factors; what an operation leaves out does not count, though it be NaN."""
    chosen = op.name in ("select_n", "slice", "dynamic_slice", "gather")
    return jnp.where(factors == 0, 0, factors * entries) if chosen else factors * entries


def _rows_of_matrix(op: Operation) -> jax.Array | None:
    """For the product of a moving vector with a fixed matrix: that matrix, the vector's axis in front."""
    (position,) = op.moving
    if op.name != "dot_general" or op.inputs[position].ndim != 1:
        return None
    contracted = op.params["dimension_numbers"][0][1 - position]
    return jnp.moveaxis(op.inputs[1 - position], contracted[0], 0) if contracted else None


def _product(op: Operation, x: Jet, y: Jet) -> Jet | None:
    """Entry by entry, or the dot product of two vectors; order 2."""
    s, t = x[1], y[1]
    slopes = s.pick(x[0]) * t.entries + s.entries * t.pick(y[0])
    curved = _weigh(op, 2 * s.entries * t.entries)
    rest = [op.call(*pair)[0] for pair in ((x[0], y[2]), (x[2], y[0])) if all(part is not None for part in pair)]
    if op.name == "mul" and x[0].shape == y[0].shape:
        return [OneHot(s.axes, slopes, x[0].shape), add([s.collect(curved), *rest])]
    if op.name == "dot_general" and x[0].ndim == y[0].ndim == 1 and op.outputs[0].ndim == 0:
        return [slopes, add([curved.sum(), *rest])]
    return None


def _elementwise(op: Operation, x: Jet) -> Jet:
    """Order 2 of g(x): each line sees g'' at its own entry only."""
    hot, (_, first, second) = x[1], rules.derivatives_of(op)
    curved = hot.collect(_weigh(op, hot.pick(second) * hot.entries * hot.entries))
    slopes = OneHot(hot.axes, hot.pick(first) * hot.entries, hot.shape)
    return [slopes, add([curved, None if x[2] is None else first * x[2]])]


def _weigh(op: Operation, values: jax.Array) -> jax.Array:
    """Values (R,), each times the weight of its line."""
    return values if op.weights is None else op.weights.astype(values.dtype) * values
