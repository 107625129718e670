"""Where an equation holds: a box with named axes, and functions given on a grid of it. Needs NumPy and JAX.

Lesson: 21_your_own_equation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from course import taylor
from course.pde.equation import Field, scalar
from course.pde.sampling import sample_box
from course.taylor import arguments


class Box:
    """A box whose axes have names of one letter, in the order of a point's coordinates: `Box(t=(0, 1), x=(-1, 1))`.

    Args:
      periodic: the axes along which functions repeat themselves, each with the number of harmonics that a network is
        given, {"x": 5}; or their names alone, "xy", with 5 each. Time is "t", where there is time.
      axes: name -> (lower, upper).
    Attributes:
      names: of the axes, d letters as one string.
      lower: the corner with the smallest coordinates, d numbers.
      upper: the opposite corner, d numbers.
      dimension: how many axes, d.
      inputs: how many numbers a network is given at a point.
    Raises:
      ValueError: a name of more than one letter, bounds that are not finite or not in order, an unknown periodic axis.
    """

    def __init__(self, *, periodic: Iterable[str] | Mapping[str, int] = (), **axes: tuple[float, float]) -> None:
        if not axes or any(len(name) != 1 for name in axes):
            raise ValueError(
                f"expected axes with names of one letter, got {list(axes)}; as in Box(t=(0, 1), x=(-1, 1))"
            )
        for name, bounds in axes.items():
            if np.shape(bounds) != (2,) or not np.isfinite(np.subtract(*bounds)) or not bounds[0] < bounds[1]:
                raise ValueError(f"expected finite bounds (lower, upper) of {name} in order, got {bounds}")
        harmonics = dict(periodic) if isinstance(periodic, Mapping) else dict.fromkeys(periodic, 5)
        if unknown := set(harmonics) - set(axes):
            raise ValueError(f"expected periodic axes among {list(axes)}, got {sorted(unknown)}")
        self.names = "".join(axes)
        self.lower, self.upper = (tuple(float(bounds[side]) for bounds in axes.values()) for side in (0, 1))
        self.harmonics = tuple(
            arguments.integer("harmonics", harmonics.get(name, 0), "the first is sin and cos", least=0) for name in axes
        )
        self.dimension = len(axes)
        self.inputs = sum(2 * n or 1 for n in self.harmonics)

    def axis(self, name: str) -> int:
        """The place of an axis in a point.

        Raises:
          ValueError: there is no axis of this name.
        """
        if len(name) != 1 or name not in self.names:
            raise ValueError(f"expected an axis among {list(self.names)}, got {name!r}; name it in Box, or correct it")
        return self.names.index(name)

    def sample(self, key: jax.Array, n: int) -> jax.Array:
        """Uniform points, (n, d)."""
        return sample_box(key, n, self.lower, self.upper)

    def unit(self, x: jax.Array) -> jax.Array:
        """Coordinates in [-1, 1], (d,)."""
        lower, upper = (jnp.asarray(bound, jnp.result_type(x, float)) for bound in (self.lower, self.upper))
        return 2 * (x - lower) / (upper - lower) - 1

    def features(self, x: jax.Array) -> jax.Array:
        """What a network is given: coordinates in [-1, 1], and cosines and sines of those that are periodic; (inputs,).

        A function of them is periodic exactly, with all its derivatives (Dong and Ni, 2021).
        """
        parts = []
        for z, harmonics in zip(self.unit(x), self.harmonics, strict=True):
            angles = jnp.pi * jnp.arange(1, harmonics + 1, dtype=z.dtype) * z
            parts += [jnp.cos(angles), jnp.sin(angles)] if harmonics else [z[None]]
        return jnp.concatenate(parts)

    def derivatives(self, u: Field, x: jax.Array, *names: str) -> list[jax.Array]:
        """Partial derivatives by the names of axes: `value, u_t, u_xx = domain.derivatives(u, x, "", "t", "xx")`.

        Args:
          u: (d,) -> ().
          x: point, (d,).
          names: one string a derivative; "xxy" is u_xxy, "" the value. All along one axis come out of one jet.
        Returns:
          One scalar () for each name.
        Raises:
          ValueError: an axis that is not there, or x is no point (d,).
        """
        if callable(x):
            raise ValueError(
                "expected u and a point, got a function in the place of the point; a residual is called as (u, x), and "
                "derivatives as (u, x, names)"
            )
        if jnp.shape(x) != (self.dimension,):
            remedy = "wrap the call in jax.vmap" if jnp.ndim(x) > 1 else f"its coordinates are {', '.join(self.names)}"
            raise ValueError(f"expected a point ({self.dimension},), got {jnp.shape(x)}; {remedy}")
        u, powers = scalar(u), [tuple(self._powers(name)) for name in names]
        order: dict[int, int] = {}
        for power in powers:
            if np.count_nonzero(power) == 1:
                axis = int(np.argmax(power))
                order[axis] = max(order.get(axis, 0), power[axis])
        jets = {axis: taylor.derivatives(u, x, np.eye(self.dimension)[axis], n) for axis, n in order.items()}
        if not jets and not all(map(any, powers)):
            jets[0] = u(x)[None]

        def derivative(power: tuple[int, ...]) -> jax.Array:
            if np.count_nonzero(power) > 1:
                return taylor.partial_derivative(u, x, power)
            axis = int(np.argmax(power)) if any(power) else next(iter(jets))
            return jets[axis][power[axis]] if any(power) else jets[axis][0]

        return [derivative(power) for power in powers]

    def _powers(self, name: str) -> np.ndarray:
        return np.bincount([self.axis(letter) for letter in name], minlength=self.dimension)

    def __repr__(self) -> str:
        axes = [
            f"{name}=({low:g}, {high:g})" for name, low, high in zip(self.names, self.lower, self.upper, strict=True)
        ]
        return f"Box({', '.join(axes)})"


class Grid:
    """A function given by its values on a grid: measured, or computed by a classical solver.

    Args:
      values: (m, n, ...), values[i, j] at the i-th coordinate of the first axis and the j-th of the second.
      axes: name -> coordinates, in the order of the axes of `values`.
    Attributes:
      names: of the axes, as one string.
      coordinates: one array for each axis.
      values: in float64.
    Raises:
      ValueError: values of another shape, or not finite; coordinates that do not rise.
    """

    def __init__(self, values: ArrayLike, **axes: ArrayLike) -> None:
        self.names, self.coordinates = "".join(axes), [np.asarray(each, np.float64) for each in axes.values()]
        self.values = np.asarray(values, np.float64)
        shape = tuple(map(len, self.coordinates))
        if self.values.shape != shape:
            remedy = (
                "transpose them, or swap the names"
                if self.values.shape == shape[::-1]
                else "one coordinate for each value on its axis"
            )
            raise ValueError(f"expected values {shape} on axes {list(axes)}, got {self.values.shape}; {remedy}")
        for name, each in zip(self.names, self.coordinates, strict=True):
            if not (np.diff(each) > 0).all():
                raise ValueError(f"expected rising coordinates of {name}, got {each}; sort them, and values with them")
        if not np.isfinite(self.values).all():
            raise ValueError("expected finite values, got NaN or infinity; compute the reference with smaller steps")

    def points(self, domain: Box) -> jax.Array:
        """The grid's points in a domain's coordinates, (m, n, ..., d).

        Raises:
          ValueError: the axes are not the domain's, or leave it.
        """
        if self.names != domain.names:
            raise ValueError(
                f"expected a reference with the axes {list(domain.names)}, got {list(self.names)}; name them in this "
                "order: Grid(values, t=..., x=...)"
            )
        for name, each, low, high in zip(self.names, self.coordinates, domain.lower, domain.upper, strict=True):
            slack = 1e-6 * (high - low)
            if each.min() < low - slack or each.max() > high + slack:
                raise ValueError(
                    f"expected {name} from {low:g} to {high:g}, got a reference on a grid from {each.min():g} to "
                    f"{each.max():g}; cut it, or rescale its coordinate"
                )
        return jnp.stack(jnp.meshgrid(*map(jnp.asarray, self.coordinates), indexing="ij"), axis=-1)
