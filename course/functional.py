"""Functions as variables: functionals by quadrature, functional derivatives, operators. Needs JAX.

Whatever takes a function here takes any callable that JAX can trace, a network with its parameters bound included, so
that everything can stand inside `jax.grad` (by those parameters), `jax.vmap` and `jax.jit`.
Source of the ideas: Lin, "Automatic Functional Differentiation in JAX" (ICLR 2024), which makes functions a JAX type.
Here they stay Python callables. Lessons: 22_functional_derivatives, 22b_more_functionals.
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
Lagrangian = Callable[..., jax.Array]
"""(x, value, slope) -> (), and as many further derivatives as it has an order."""
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
      lagrangian: (x, value, slope) -> (). x is (), or (d,) for nodes (n, d). value is (), or (m,) where f stands for m
        functions; slope is of value's shape, with (d,) behind it in space.
      quadrature: the rule for the integral.
      order: of the highest derivative that L is given: L(x, f, f', f'') for 2; each has one more (d,) in space.
    Raises:
      ValueError: in a call, f is neither scalar nor (m,) with m > 1, the Lagrangian not scalar, or as for `integrate`.
      TypeError: in a call, f is no function.
    Example:
      >>> dirichlet = Functional(lambda x, u, du: du**2 / 2, gauss_legendre(0.0, 1.0))
      >>> round(float(dirichlet(lambda x: x**2)), 4)
      0.6667
    """

    lagrangian: Lagrangian
    quadrature: Quadrature
    order: int = 1

    def __call__(self, f: Function) -> jax.Array:
        """F[f], ()."""
        return integrate(lambda x: _scalar("L", self.lagrangian(x, *_derivatives(f, x, self.order))), self.quadrature)

    def gradient(self, f: Function) -> Function:
        """The functional derivative at f, see `functional_gradient`."""
        return euler_lagrange(self.lagrangian, self.order)(f)

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
        derivatives = [values]
        for _ in range(self.order):
            derivatives.append(_slopes(nodes) @ derivatives[-1])
        densities = jax.vmap(lambda *point: _scalar("L", self.lagrangian(*point)))(nodes, *derivatives)
        return _weighted_sum(densities, nodes, weights)


@dataclass(frozen=True, eq=False)
class Interaction:
    """F[f] = integral of L(x, y, f(x), f(y)) dx dy: what f is at one place acts on what it is at another.

    Args:
      lagrangian: (x, y, f(x), f(y)) -> ().
      quadrature: the rule for x, and for y.
      inner: another rule for y, made of x; for a kernel with a kink at y = x two rules that meet there.
    Raises:
      ValueError: in a call, the Lagrangian is not scalar, or as for `integrate`.
      TypeError: in a call, f is no function.
    Example:
      >>> energy = Interaction(lambda x, y, f, g: x * y * f * g, gauss_legendre(0.0, 1.0))
      >>> round(float(energy(lambda x: x)), 4)   # the square of 1 / 3
      0.1111
    """

    lagrangian: Callable[[jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]
    quadrature: Quadrature
    inner: Callable[[jax.Array], Quadrature] | None = None

    def __call__(self, f: Function) -> jax.Array:
        """F[f], ()."""
        _need_function(f)
        return integrate(lambda x: self._over_y(lambda y: self.lagrangian(x, y, f(x), f(y)), x), self.quadrature)

    def gradient(self, f: Function) -> Function:
        """The functional derivative at f: a function moved at z is moved as f(x), and as f(y)."""
        _need_function(f)

        def at(z: ArrayLike) -> jax.Array:
            z, (first, second) = jnp.asarray(z), (jax.grad(self.lagrangian, argnums=n) for n in (2, 3))
            return self._over_y(lambda y: first(z, y, f(z), f(y)) + second(y, z, f(y), f(z)), z)

        return at

    def _over_y(self, f: Function, x: jax.Array) -> jax.Array:
        return integrate(lambda y: _scalar("L", f(y)), self.quadrature if self.inner is None else self.inner(x))


def euler_lagrange(lagrangian: Lagrangian, order: int = 1) -> Callable[[Function], Function]:
    """The functional derivative that belongs to a Lagrangian: f -> the function L_f - d/dx L_f' (div for fields).

    A stationary f makes it zero. Terms at the ends are left out: see `functional_gradient`. Of higher order it is the
    sum of (-1)^k d^k/dx^k L_f^(k).

    Args:
      lagrangian: (x, value, slope) -> (), as for `Functional`.
      order: of the highest derivative that it is given.
    Returns:
      Map from functions f to functions of the same kind: () or (d,) -> (), or (m,).
    Raises:
      ValueError: at a point, f or the Lagrangian is not as for `Functional`.
      TypeError: f is no function.
    Source: Gelfand and Fomin, Calculus of Variations (1963), sections 9 and 11.
    Example:
      >>> curve = euler_lagrange(lambda x, u, du: du**2 / 2)(jnp.cosh)   # -u''
      >>> float(curve(0.0))
      -1.0
    """

    def scalar(*point: jax.Array) -> jax.Array:
        return _scalar("L", lagrangian(*point))

    def of(f: Function) -> Function:
        def term(k: int) -> Function:
            def momentum(x: jax.Array) -> jax.Array:  # the derivative of L by the k-th of f
                return jax.grad(scalar, argnums=1 + k)(x, *_derivatives(f, x, order))

            return _divergence(momentum, k)

        def gradient(x: ArrayLike) -> jax.Array:
            x = jnp.asarray(x)
            return sum(((-1) ** k * term(k)(x) for k in range(1, order + 1)), start=term(0)(x))

        return gradient

    return of


def _divergence(f: Function, times: int) -> Function:
    """d/dx on a line; in space the sum over the last axis of f's values and that of the derivative, (…, d) -> (…)."""
    if times == 0:
        return f
    inner = _divergence(f, times - 1)
    return lambda x: jnp.trace(nabla(inner)(x), axis1=-2, axis2=-1) if jnp.ndim(x) else nabla(inner)(x)


def linear_transpose(operator: Callable[[Function], Function], f: Function, order: int = 1) -> Callable:
    """The adjoint of a differential operator: h -> A* h, for which the integrals of h A g and of g A* h are equal.

    As `jax.linear_transpose` turns round a linear function of vectors. Of an operator that is not linear it is the
    adjoint of its derivative at f, as `variation` is that derivative. Terms at the ends are left out: g is to vanish
    there with its derivatives below the order.

    Args:
      operator: takes a function; returns one whose value at x depends on derivatives at x up to `order` alone.
      f: where to linearise; of a linear operator any function of the kind that it takes, () or (d,) -> () or (m,).
      order: of the highest derivative in the operator.
    Returns:
      Map from functions h of the kind that the operator returns to functions of f's kind.
    Raises:
      ValueError: at a point, f is not as for `Functional`.
      TypeError: f is no function.
    Example:
      >>> back = linear_transpose(nabla, jnp.sin)(jnp.cosh)   # -h'
      >>> round(float(back(1.0)), 4)
      -1.1752
    """

    def transposed(h: Function) -> Function:
        def paired(x: jax.Array, *derivatives: jax.Array) -> jax.Array:
            return jnp.sum(h(x) * operator(_polynomial(x, derivatives))(x))

        return euler_lagrange(paired, order)(f)

    return transposed


def _polynomial(x: jax.Array, derivatives: tuple[jax.Array, ...]) -> Function:
    """Taylor's polynomial with these derivatives at x."""

    def of(y: jax.Array) -> jax.Array:
        total, step = jnp.zeros_like(derivatives[0]), y - x
        for k, each in enumerate(derivatives):
            for n in range(1, k + 1):
                each = (each @ step if jnp.ndim(x) else each * step) / n
            total = total + each
        return total

    return of


def functional_gradient(functional: Functional | Interaction, f: Function) -> Function:
    """The functional derivative of F at f: the G with F'[f] g = integral of G g for all g that are 0 at the ends.

    Other g bring the boundary term L_f' g along, which is part of `variation` and of `node_gradient`, not of G.

    Args:
      functional: the functional F.
      f: () or (d,) -> ().
    Returns:
      Function of a point, as f is. No quadrature is involved.
    Source: Lin (2024); Gelfand and Fomin, Calculus of Variations, chapter 1.
    """
    return functional.gradient(f)


def multiplier(objective: Functional | Interaction, constraint: Functional | Interaction, f: Function) -> jax.Array:
    """The multiplier of a constraint: mu with G = mu C, where f is stationary among all with the same constraint[f].

    G and C are the functional derivatives of the two at f. mu says what the constraint is worth: by how much the
    objective of the stationary function changes with the constraint's value.

    Args:
      objective, constraint: functionals; the constraint's quadrature is taken.
      f: as they take it.
    Returns:
      (), where G is no multiple of C the mu with the least square of G - mu C: that is then the gradient along the
      constraint.
    Source: Gelfand and Fomin, Calculus of Variations (1963), section 12.
    """
    g, c = objective.gradient(f), constraint.gradient(f)
    both = integrate(lambda x: jnp.stack([jnp.sum(g(x) * c(x)), jnp.sum(c(x) ** 2)]), constraint.quadrature)
    return both[0] / both[1]


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


def _derivatives(f: Function, x: jax.Array, order: int) -> list[jax.Array]:
    """f and its derivatives at x, up to an order."""
    _need_function(f)
    found = [jnp.asarray(f(x))]
    if found[0].ndim > 1 or found[0].shape == (1,):
        shape = found[0].shape
        raise ValueError(f"expected f to return a scalar (), or m > 1 functions as (m,), got {shape}; index its result")
    for _ in range(order):
        f = nabla(f)
        found.append(f(x))
    return found


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
