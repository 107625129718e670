"""Functions as variables: functionals by quadrature, functional derivatives, operators. Needs JAX.

Whatever takes a function here takes any callable that JAX can trace, a network with its parameters bound included, so
that everything can stand inside `jax.grad` (by those parameters), `jax.vmap` and `jax.jit`.
Source of the ideas: Lin, "Automatic Functional Differentiation in JAX" (ICLR 2024), which makes functions a JAX type.
Here they stay Python callables. Lesson: 22_functional_derivatives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

Function = Callable[..., jax.Array]
"""Of one point, () or (d,); of several arguments where an operator makes one."""
Lagrangian = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
"""(x, value, slope) -> ()."""
R = TypeVar("R")


class Quadrature(NamedTuple):
    """A rule for integrals: the sum of weights * f(nodes).

    Attributes:
      nodes: (n,) points of a line, or (n, d) points of space; float.
      weights: (n,), float.
    """

    nodes: jax.Array
    weights: jax.Array


def gauss_legendre(a: float | jax.Array, b: float | jax.Array, points: int = 64) -> Quadrature:
    """The Gauss-Legendre rule on [a, b], exact for polynomials of degree 2 * points - 1. It leaves the ends out.

    Args:
      a, b: finite ends; may be traced, so that integrals can be differentiated by them.
      points: >= 2. More than about 100 seldom help: split the interval or substitute instead.
    Returns:
      Nodes and weights (points,), of the default float type.
    Raises:
      ValueError: fewer than two points, or an end that is not finite.
    Example:
      >>> round(float(integrate(lambda x: x**2, gauss_legendre(0.0, 3.0, points=2))), 4)
      9.0
    """
    if not isinstance(points, int) or points < 2:
        raise ValueError(f"expected points >= 2, an int, got {points!r}; 20 to 60 serve smooth functions")
    if _known_to_be_bad(jnp.stack([a, b])):
        raise ValueError(f"expected finite ends, got [{a}, {b}]; substitute a variable that maps the range to [0, 1]")
    nodes, weights = np.polynomial.legendre.leggauss(points)
    half = (b - a) / 2
    return Quadrature((a + b) / 2 + half * jnp.asarray(nodes), half * jnp.asarray(weights))


# --- operators: functions of functions ---------------------------------------------------------------------


def compose(f: Function, *gs: Function) -> Function:
    """The function x -> f(g1(x), g2(x), …): `compose(jnp.multiply, u, v)` is the product of u and v.

    Example:
      >>> float(compose(jnp.multiply, jnp.cosh, jnp.cos)(0.0))
      1.0
    """
    return lambda *x: f(*(g(*x) for g in gs))


def nabla(f: Function) -> Function:
    """The derivative of f as a function: () -> () for f on a line, (d,) -> (d,) for a scalar field.

    Forward mode, which nests to higher derivatives at the least cost.

    Example:
      >>> float(nabla(nabla(lambda x: x**3))(2.0))
      12.0
    """

    def slope(x: ArrayLike) -> jax.Array:
        x = jnp.asarray(x)
        if x.ndim or not jnp.issubdtype(x.dtype, jnp.floating):  # for integers jacfwd has a good error
            return jax.jacfwd(f)(x)
        return jax.jvp(f, (x,), (jnp.ones_like(x),))[1]  # on a line there is only one direction: no batching

    return slope


def partial_at(f: Callable[..., R], position: int, value: Any) -> Callable[..., R]:
    """f with one positional argument held fixed; `functools.partial` can only do that from the left.

    Args:
      f: function of several arguments.
      position: number of the argument to fix, >= 0.
      value: what to fix it at.
    Returns:
      The function of the other arguments, in their order.
    Raises:
      ValueError: position is not an int >= 0.
      IndexError: the function is called with too few arguments.
    Example:
      >>> partial_at(lambda x, y: x - y, 1, 10)(3)
      -7
    """
    if not isinstance(position, int) or position < 0:
        raise ValueError(f"expected position >= 0, an int, got {position!r}; arguments are counted from 0")

    def fixed(*others: Any) -> R:
        if len(others) < position:
            raise IndexError(f"expected at least {position} other arguments, got {len(others)}; pass them by position")
        return f(*others[:position], value, *others[position:])

    return fixed


def integrate(f: Function, quadrature: Quadrature) -> jax.Array:
    """The integral of f, linear in f.

    Args:
      f: function of one node, () or (d,) -> array of any shape.
      quadrature: the rule.
    Returns:
      Array of the shape of f's output.
    Raises:
      ValueError: the rule's shapes do not fit, or f is NaN or infinite at a node. The latter is only seen where values
        are known; under `jit` and `vmap` it comes out as NaN.
    Example:
      >>> round(float(integrate(jnp.sin, gauss_legendre(0.0, jnp.pi))), 5)
      2.0
    """
    nodes, weights = _checked(quadrature)
    return _weighted_sum(jax.vmap(f)(nodes), nodes, weights)


def variation(operator: Callable[[Function], R], f: Function) -> Callable[[Function], R]:
    """The derivative of an operator or functional O at f, as a map of directions: g -> d/de O[f + e g] at e = 0.

    Args:
      operator: takes a function; returns a function (an operator) or an array (a functional).
      f: the function at which to linearise.
    Returns:
      The linear map g -> O'[f] g; the result is a function for an operator and an array for a functional.
    Raises:
      TypeError: f is not callable.
    Example:
      >>> square = lambda u: compose(jnp.square, u)
      >>> float(variation(square, jnp.exp)(jnp.cos)(0.0))   # 2 f g
      2.0
    """
    _need_function(f)

    def along(g: Function) -> Any:
        def shifted(e: ArrayLike) -> Any:
            return operator(lambda *x: f(*x) + e * g(*x))

        if callable(operator(f)):
            return lambda *x: jax.jvp(lambda e: shifted(e)(*x), (0.0,), (1.0,))[1]
        return jax.jvp(shifted, (0.0,), (1.0,))[1]

    return along


# --- functionals -------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Functional:
    """F[f] = integral of L(x, f(x), f'(x)) dx; call it with a function.

    Args:
      lagrangian: (x, value, slope) -> (). x and slope are (), or (d,) for nodes (n, d); value is ().
      quadrature: the rule for the integral.
    Raises:
      ValueError: in a call, f or the Lagrangian is not scalar, or as for `integrate`.
      TypeError: in a call, f is no function.
    Example:
      >>> dirichlet = Functional(lambda x, u, du: du**2 / 2, gauss_legendre(0.0, 1.0))
      >>> round(float(dirichlet(lambda x: x**2)), 4)
      0.6667
    """

    lagrangian: Lagrangian
    quadrature: Quadrature

    def __call__(self, f: Function) -> jax.Array:
        """F[f], ()."""
        return integrate(lambda x: _scalar("L", self.lagrangian(x, *_value_and_slope(f, x))), self.quadrature)

    def on_nodes(self, values: jax.Array) -> jax.Array:
        """F of the polynomial through values (n,) at the nodes (n,): the functional as a function of a vector, ().

        Meant for Gauss nodes; through equidistant ones, high polynomials oscillate.
        """
        nodes, weights = _checked(self.quadrature)
        values = jnp.asarray(values)
        if nodes.ndim != 1 or values.shape != nodes.shape:
            raise ValueError(
                f"expected values (n,) at nodes (n,), got {values.shape} at {nodes.shape}; call F(f) instead"
            )
        densities = jax.vmap(lambda *point: _scalar("L", self.lagrangian(*point)))(
            nodes, values, _slopes(nodes) @ values
        )
        return _weighted_sum(densities, nodes, weights)


def euler_lagrange(lagrangian: Lagrangian) -> Callable[[Function], Function]:
    """The functional derivative that belongs to a Lagrangian: f -> the function L_f - d/dx L_f' (div for fields).

    A stationary f makes it zero. Terms at the ends are left out: see `functional_gradient`.

    Args:
      lagrangian: (x, value, slope) -> (), as for `Functional`.
    Returns:
      Map from functions f, () or (d,) -> (), to functions of the same kind.
    Raises:
      ValueError: at a point, f or the Lagrangian is not scalar.
      TypeError: f is no function.
    Example:
      >>> curve = euler_lagrange(lambda x, u, du: du**2 / 2)(jnp.cosh)   # -u''
      >>> float(curve(0.0))
      -1.0
    """

    def scalar(*point: jax.Array) -> jax.Array:
        return _scalar("L", lagrangian(*point))

    def of(f: Function) -> Function:
        def momentum(x: jax.Array) -> jax.Array:
            return jax.grad(scalar, argnums=2)(x, *_value_and_slope(f, x))

        def gradient(x: ArrayLike) -> jax.Array:
            x = jnp.asarray(x)
            spread = jnp.reshape(nabla(momentum)(x), (x.size, x.size))
            return jax.grad(scalar, argnums=1)(x, *_value_and_slope(f, x)) - jnp.trace(spread)

        return gradient

    return of


def functional_gradient(functional: Functional, f: Function) -> Function:
    """The functional derivative of F at f: the G with F'[f] g = integral of G g for all g that are 0 at the ends.

    Other g bring the boundary term L_f' g along, which is part of `variation` and of `node_gradient`, not of G.

    Args:
      functional: the functional F.
      f: () or (d,) -> ().
    Returns:
      Function of a point, as f is. No quadrature is involved.
    Source: Lin (2024); Gelfand and Fomin, Calculus of Variations, chapter 1.
    """
    return euler_lagrange(functional.lagrangian)(f)


def node_gradient(functional: Functional, f: Function) -> jax.Array:
    """The same by node values: the gradient of F.on_nodes divided by the weights.

    It contains the boundary term, as large values at the nodes next to the ends, unless L_f' is zero there.

    Args:
      functional: the functional F, with nodes (n,).
      f: () -> ().
    Returns:
      (n,), the derivative at the nodes.
    """
    nodes, weights = _checked(functional.quadrature)
    return jax.grad(functional.on_nodes)(jax.vmap(f)(nodes)) / weights


def _slopes(nodes: jax.Array) -> jax.Array:
    """The matrix (n, n) that takes a polynomial's values to its slopes, in barycentric form."""
    unit = jnp.eye(len(nodes), dtype=nodes.dtype)
    gaps = nodes[:, None] - nodes + unit
    size = jnp.prod(gaps * 4 / jnp.ptp(nodes), axis=1)  # the factor keeps the products near 1
    matrix = (1 - unit) * size[:, None] / (size * gaps)
    return matrix - jnp.diag(matrix.sum(axis=1))  # a constant has slope 0


# --- checks ------------------------------------------------------------------------------------------------


def _need_function(f: object) -> None:
    if not callable(f):
        raise TypeError(f"expected a function, got {type(f).__name__}; for values at the nodes use F.on_nodes(values)")


def _scalar(name: str, value: jax.Array) -> jax.Array:
    if jnp.shape(value) != ():
        raise ValueError(f"expected {name} to return a scalar (), got {jnp.shape(value)}; index or sum its result")
    return value


def _value_and_slope(f: Function, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    _need_function(f)
    return _scalar("f", f(x)), nabla(f)(x)


def _checked(quadrature: Quadrature) -> Quadrature:
    nodes, weights = map(jnp.asarray, quadrature)
    if nodes.ndim not in (1, 2) or weights.shape != nodes.shape[:1]:
        raise ValueError(
            f"expected nodes (n,) or (n, d) and weights (n,), got {nodes.shape} and {weights.shape}; "
            "gauss_legendre makes both"
        )
    return Quadrature(nodes, weights)


def _weighted_sum(values: jax.Array, nodes: jax.Array, weights: jax.Array) -> jax.Array:
    if _known_to_be_bad(values):
        bad = ~jnp.isfinite(values.reshape(len(values), -1)).all(axis=1)
        raise ValueError(
            f"expected finite values at all {len(nodes)} nodes, got {int(bad.sum())} NaN or infinite, first at "
            f"x = {float(nodes[jnp.argmax(bad)]):.6g}; keep f in L's domain, or substitute so that the singularity goes"
        )
    return jnp.tensordot(weights, values, axes=1)


def _known_to_be_bad(values: jax.Array) -> bool:
    """Whether there is a NaN or an infinity, as far as that can be seen: under `jit` and `vmap` it can't."""
    try:
        return not bool(jnp.isfinite(values).all())
    except jax.errors.TracerBoolConversionError:
        return False
