"""What users pass, checked: each error says what was expected, what came, and what to do. Needs JAX."""

from __future__ import annotations

import operator
from collections.abc import Sequence
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
            f"expected x as one array, got {type(x).__name__}; jax.flatten_util.ravel_pytree makes one of a pytree"
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
            f"x must be (d,), got {x.shape}; wrap the call in jax.vmap for a batch of points, or pass x.ravel() and "
            "reshape it inside f if all its entries are coordinates of one point"
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
