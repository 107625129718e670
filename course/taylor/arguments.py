"""What users pass, checked: each error says what was expected, what came, and what to do. Needs JAX."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from course.taylor import one_hot
from course.taylor.one_hot import OneHot


def integer(name: str, value: Any, remedy: str, least: int = 1) -> int:
    """An integer that is not below the least; the remedy is for smaller ones."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None:
        raise TypeError(f"expected {name} as an integer >= {least}, got {value!r}; pass an int")
    if number < least:
        raise ValueError(f"expected {name} >= {least}, got {number}; {remedy}")
    return number


def derivative_order(value: object) -> int:
    """An order of derivatives, 1 to 40."""
    order = integer("order", value, "order 0 is f(x)")
    if order > 40:
        raise ValueError(
            f"expected order <= 40, got {order}; derivatives grow like factorials, and float32 ends before 35!: "
            "differentiate a closed form or a series instead"
        )
    return order


def multi_index(value: Sequence[int], d: int) -> tuple[int, ...]:
    """A multi-index over d coordinates."""
    try:
        found = tuple(map(operator.index, value))
    except TypeError:
        found = ()
    if len(found) != d or any(power < 0 for power in found):
        raise ValueError(f"expected {d} integers >= 0, one per coordinate, got {value!r}; (2, 0) is u_xx of u(x, y)")
    return found


def floating(x: object) -> jax.Array:
    """An array of floating dtype and any shape."""
    try:
        array = None if x is None else jnp.asarray(x)
    except (TypeError, ValueError):
        array = None
    if array is None:
        raise TypeError(
            f"expected x as one array, got {type(x).__name__}; jax.flatten_util.ravel_pytree makes one of a "
            'pytree, and functions with an argument coordinates take it as it is with coordinates="all"'
        )
    if not jnp.issubdtype(array.dtype, jnp.floating):
        if jnp.issubdtype(array.dtype, jnp.complexfloating):
            remedy = "make a real and an imaginary part the coordinates: f(x[:d] + 1j * x[d:])"
        elif jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
            remedy = "that is a random key; pass the point first"
        else:
            remedy = "write 1.0 for 1, or x.astype(float)"
        raise ValueError(f"expected x of a floating dtype, got {array.dtype}; {remedy}")
    return array


def point(value: object) -> jax.Array:
    """A point (d,) of floating dtype, d >= 1."""
    x = floating(value)
    if x.ndim != 1:
        raise ValueError(
            f"x must be (d,), got {x.shape}; wrap the call in jax.vmap for a batch of points, or pass "
            'coordinates="all" if all its entries are coordinates of one point'
        )
    if len(x) == 0:
        raise ValueError("x must be (d,) with d >= 1, got (0,); without coordinates there is nothing to differentiate")
    return x


def real(name: str, values: Any, dtype: DTypeLike) -> jax.Array:
    """Real numbers, in the dtype of the point."""
    if not isinstance(values, jax.Array):
        try:
            array = np.asarray(values)
            known = array.dtype.kind in "biu" or jnp.issubdtype(array.dtype, jnp.inexact)
        except (TypeError, ValueError):
            known = False
        if not known:
            raise TypeError(f"expected {name} as an array of numbers, got {values!r:.80}; pass jnp.array([...])")
    if jnp.iscomplexobj(values):
        raise ValueError(
            f"expected real {name}, got complex ones; call once for their real part and once for the other"
        )
    return jnp.asarray(values, dtype)


def lines(x: jax.Array, directions: ArrayLike | None) -> tuple[jax.Array | OneHot, int]:
    """First derivatives of x along directions (R, d), along axes (R,), or along all axes (None); and their number."""
    if directions is None:
        return one_hot.along_axes(None, x), len(x)
    known = not isinstance(directions, jax.core.Tracer)
    directions = np.asarray(directions) if known else jnp.asarray(directions)
    if directions.ndim == 1 and jnp.issubdtype(directions.dtype, jnp.integer) and len(directions):
        if known and not 0 <= int(directions.min()) <= int(directions.max()) < len(x):
            raise ValueError(f"expected axes from 0 to {len(x) - 1}, got {directions.min()} to {directions.max()}")
        directions = jnp.asarray(directions.astype(np.int32))  # a small type may not hold len(x)
        return one_hot.along_axes(directions, x), len(directions)
    if directions.ndim != 2 or directions.shape[1] != len(x) or len(directions) == 0:
        raise ValueError(
            f"expected directions (R, {len(x)}), one per row, or integers (R,), the numbers of axes, with R >= 1, "
            f"got {directions.dtype} {directions.shape}"
        )
    return real("directions", directions, x.dtype), len(directions)


# --- points of any shape -------------------------------------------------------------------------------------


def flattened(f: Callable[[Any], Any], x: Any, coordinates: str | None) -> tuple[Callable[[jax.Array], Any], jax.Array]:
    """f as a function of a flat point, and that point (d,); "all" takes any array or pytree of floating arrays.

    Entries are counted leaf by leaf in row-major order, as `jax.flatten_util.ravel_pytree` does. Leaves of several
    dtypes make a point of their common one, and f is given each in its own.
    """
    if coordinates is None:
        return f, point(x)
    leaves, structure = _leaves(x, coordinates)
    flat = jnp.concatenate([leaf.ravel() for leaf in leaves]) if len(leaves) > 1 else leaves[0].ravel()
    stops = np.cumsum([0, *(leaf.size for leaf in leaves)]).tolist()

    def of_flat(z: jax.Array) -> Any:
        # nothing is cut out where all is one leaf: a reshape keeps first derivatives along axes one-hot
        parts = [jax.lax.slice_in_dim(z, *ends) for ends in pairwise(stops)] if len(leaves) > 1 else [z]
        parts = [part.reshape(leaf.shape).astype(leaf.dtype) for part, leaf in zip(parts, leaves, strict=True)]
        return f(jax.tree.unflatten(structure, parts))

    return of_flat, flat


def flat_directions(directions: Any, x: Any, coordinates: str | None) -> Any:
    """Directions like x, with an axis of lines in front of each array, as those of the flat point; axes as they are."""
    if coordinates is None or directions is None or _are_axes(directions):
        return directions
    leaves, structure = _leaves(x, coordinates)
    parts = _parts(directions, structure)
    lines = {np.shape(part)[:1] for part in parts}
    if len(lines) != 1 or any(np.shape(part)[1:] != x.shape for part, x in zip(parts, leaves, strict=True)):
        wanted = jax.tree.unflatten(structure, [("R", *leaf.shape) for leaf in leaves])
        got = [np.shape(part) for part in parts] or type(directions).__name__
        raise ValueError(
            f"expected directions like x with an axis of lines in front, {wanted}, or integers (R,), the numbers of "
            f"axes, got {got}; stack the directions on a new first axis"
        )
    rows = [real("directions", part, leaf.dtype) for part, leaf in zip(parts, leaves, strict=True)]
    return jnp.concatenate(
        [each.reshape(len(each), leaf.size) for each, leaf in zip(rows, leaves, strict=True)], axis=1
    )


def flat_multi_index(value: Any, x: Any, coordinates: str | None) -> Sequence[int]:
    """A multi-index like x, an integer in the place of each entry, as that of the flat point."""
    if coordinates is None:
        return value
    leaves, structure = _leaves(x, coordinates)
    parts = [np.asarray(part) for part in _parts(value, structure)]
    if [part.shape for part in parts] != [leaf.shape for leaf in leaves]:
        wanted = jax.tree.unflatten(structure, [leaf.shape for leaf in leaves])
        raise ValueError(
            f"expected a multi-index like x, integers of shape {wanted}, got {value!r}; write 0 for each entry that is "
            "not differentiated"
        )
    return [power for part in parts for power in part.ravel().tolist()]


def _leaves(x: Any, coordinates: str | None) -> tuple[list[jax.Array], Any]:
    if not isinstance(coordinates, str) or coordinates != "all":
        raise ValueError(f'expected coordinates as "all" or None, got {coordinates!r}; "all" takes every entry of x')
    found, structure = jax.tree_util.tree_flatten_with_path(x)
    leaves = [floating(leaf) if not path else _floating_at(path, leaf) for path, leaf in found]
    if not any(leaf.size for leaf in leaves):
        raise ValueError(
            f"expected x with at least one entry, got {[leaf.shape for leaf in leaves]}; without coordinates there is "
            "nothing to differentiate"
        )
    return leaves, structure


def _floating_at(path: Any, leaf: Any) -> jax.Array:
    try:
        return floating(leaf)
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"expected floating arrays in x, got {getattr(leaf, 'dtype', type(leaf).__name__)} at "
            f"x{jax.tree_util.keystr(path)}; close over what is no coordinate, as n in lambda x: f(x, n)"
        ) from None


def _are_axes(directions: Any) -> bool:
    """Whether these are numbers of axes, integers (R,)."""
    try:
        found = directions if isinstance(directions, jax.Array) else np.asarray(directions)
    except (TypeError, ValueError):  # rows of several lengths, or traced ones
        return False
    return found.ndim == 1 and jnp.issubdtype(found.dtype, jnp.integer)


def _parts(value: Any, structure: Any) -> list[Any]:
    """What stands in the place of each leaf; nothing where the value is built in another way."""
    try:
        return structure.flatten_up_to(value)
    except (TypeError, ValueError):
        return []
