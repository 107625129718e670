"""Semilinear equations in time over all of space; asked is the value at one point. Needs NumPy and JAX.

Lesson: 20b_all_equations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from course import stde, taylor
from course.pde.equation import Field, scalar
from course.taylor import arguments

Reaction = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
"""f(x, u, grad u) -> ()."""


@dataclass(frozen=True)
class Parabolic:
    """u_t + 1/2 sum of sigma_i(x)^2 u_ii + f(x, u, grad u) = 0 for t < T over (t, x), and u = g at t = T.

    Asked is u at t = 0 and one x. It depends on g and f along the paths of dX = sigma(X) dW that start there, and there
    the points are drawn. An initial value problem u_t = 1/2 … + f with u = g at t = 0 is this one in T - t.

    Attributes:
      name: as in the tables.
      start: the x that is asked for, (d,).
      horizon: the time T.
      final: g, (d,) -> ().
      sigma: (d,) -> (d,).
      reaction: the function f.
      path: (t, z (d,)) -> X at time t, where z is standard normal.
      solution: (t, x) as one point (1 + d,) -> (), in closed form or from an equation in one dimension; None where it
        is not known.
      mean: of g at the ends of some paths: what u would be at the start without f.
      scale: how far u is from it, roughly: deviation of g there plus T f; networks and residuals are scaled by it.
    """

    name: str
    start: jax.Array
    horizon: float
    final: Field
    sigma: Callable[[jax.Array], jax.Array]
    reaction: Reaction
    path: Callable[[jax.Array, jax.Array], jax.Array]
    solution: Field | None
    mean: float = field(init=False)
    scale: float = field(init=False)

    def __post_init__(self) -> None:
        z = jax.random.normal(jax.random.key(0), (max(1, min(4096, 2**24 // len(self.start))), len(self.start)))
        ends = jax.jit(jax.vmap(lambda z: self.final(self.path(jnp.asarray(self.horizon), z))))(z)
        pull = self.horizon * self.reaction(self.start, ends.mean(), jnp.zeros_like(self.start))
        object.__setattr__(self, "mean", float(ends.mean()))
        object.__setattr__(self, "scale", float(ends.std() + abs(pull)))

    @property
    def dimension(self) -> int:
        return 1 + len(self.start)

    @property
    def asked(self) -> jax.Array:
        """The point where the value is asked for, (1 + d,)."""
        return jnp.concatenate([jnp.zeros(1, self.start.dtype), self.start])

    def residual(
        self, u: Field, point: jax.Array, key: jax.Array | None = None, samples: int | None = None
    ) -> jax.Array:
        """What the equation leaves over of u at a point (1 + d,), times T / scale, ().

        Args:
          u: (1 + d,) -> ().
          point: t and x.
          key: PRNG key; only with samples.
          samples: Rademacher directions for the second derivatives; None takes them exactly.
        Returns:
          Scalar (); unbiased with samples.
        """
        value, slope = jax.value_and_grad(scalar(u))(point)
        return self._left_over(point[1:], value, slope, self._curved(scalar(u), point, key, samples))

    def network_residual(
        self, network: Field, point: jax.Array, key: jax.Array | None = None, samples: int | None = None
    ) -> jax.Array:
        """The residual of `ansatz(network)`, by the product rule: g is differentiated apart from the network.

        Args:
          network: of t / T and x, (1 + d,) -> ().
          point, key, samples: as for `residual`; samples are of the network's derivatives, those of g are exact.
        Returns:
          Scalar (). Gradients by parameters are the faster for it: they see the network's derivatives alone.
        """
        s, x = point[0] / self.horizon, point[1:]
        place, share = point.at[0].set(s), (1 - s) * self.scale
        g, by_g = jax.value_and_grad(self.final)(x)
        n, by_n = jax.value_and_grad(scalar(network))(place)
        learned = self.mean + self.scale * n
        slope = s * jnp.append(0, by_g) + share * by_n
        in_time = (g - learned + share * by_n[0]) / self.horizon
        curved = s * self._curved(lambda p: self.final(p[1:]), point)
        curved += share * self._curved(network, place, key, samples)
        return self._left_over(x, s * g + (1 - s) * learned, slope.at[0].set(in_time), curved)

    def _curved(
        self, u: Field, point: jax.Array, key: jax.Array | None = None, samples: int | None = None
    ) -> jax.Array:
        """Sum of sigma_i^2 u_ii."""
        x = point[1:]
        spread, at = self.sigma(x), jnp.zeros_like(x)

        def moved(z: jax.Array) -> jax.Array:  # its Laplacian is that sum, and stays compressed
            return u(jnp.concatenate([point[:1], x + spread * z]))

        if samples is None:
            return taylor.laplacian(moved, at)
        if key is None:
            raise ValueError(f"expected a key to draw {samples} directions with, got None; pass key=")
        return stde.estimate(stde.laplacian(len(x)), moved, at, key, samples, dense="rademacher")

    def _left_over(self, x: jax.Array, value: jax.Array, slope: jax.Array, curved: jax.Array) -> jax.Array:
        return (slope[0] + curved / 2 + self.reaction(x, value, slope[1:])) * (self.horizon / self.scale)

    def ansatz(self, network: Field) -> Field:
        """u = s g(x) + (1 - s) (mean + scale network(s, x)) with s = t / T: right at t = T whatever the network."""

        def u(point: jax.Array) -> jax.Array:
            s = point[0] / self.horizon
            learned = self.mean + self.scale * network(jnp.concatenate([s[None], point[1:]]))
            return s * self.final(point[1:]) + (1 - s) * learned

        return u

    def sample(self, key: jax.Array, n: int) -> jax.Array:
        """Points of n paths, each at a time of its own between 0 and T, (n, 1 + d)."""
        key_time, key_path = jax.random.split(key)
        t = jax.random.uniform(key_time, (n,), maxval=self.horizon)
        x = jax.vmap(self.path)(t, jax.random.normal(key_path, (n, len(self.start))))
        return jnp.concatenate([t[:, None], x], axis=1)

    def best_constant(self, x: jax.Array) -> jax.Array:
        """The baseline's shape: one number everywhere."""
        return jnp.ones((), x.dtype)


REACTIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "heat": lambda u: (1 - u**2) / (1 + u**2),
    "allen-cahn": lambda u: u - u**3,
    "sine-gordon": lambda u: _library(u).sin(u),
}
"""f of u_t + lap u + f(u) = 0, by the equation's name."""
PUBLISHED = {
    "heat": {10: 0.47006, 100: 0.31674, 1000: 0.28753, 10_000: 0.28433},
    "allen-cahn": {100: 0.052802},
    "sine-gordon": {10: 0.3229470, 100: 0.0528368, 1000: 0.0055896, 10_000: 0.0005621},
    "HJB": {100: 4.5901},
    "Black-Scholes": {100: 77.1049},
}
"""Published values of the equations here at the point that is asked for, by name and d.

For Allen-Cahn by branching diffusion, for HJB by the formula of Cole and Hopf (Han, Jentzen and E, 2018), for
Black-Scholes in closed form (Raissi, 2018); the others by multilevel Picard iteration, as they stand in the code of Shi
et al. (2024). All but the closed form are Monte-Carlo estimates.
"""


def semilinear_equation(kind: str, d: int) -> Parabolic:
    """u_t + lap u + f(u) = 0 with u = 5 / (10 + 2 |x|^2) at T = 0.3; asked is u at t = 0, x = 0.

    f(u) is (1 - u^2) / (1 + u^2), u - u^3 (Allen-Cahn) or sin u (sine-Gordon). The solution is that of the equation in
    |x|, good to six digits; `PUBLISHED` has values by other ways.

    Args:
      kind: "heat", "allen-cahn" or "sine-gordon".
      d: how many coordinates x has.
    Raises:
      ValueError: another kind, or d < 1.
      TypeError: d is no integer.
    Source: Han, Jentzen and E, PNAS 115 (2018); Beck et al., "Deep splitting method for parabolic PDEs" (2021).
    """
    if kind not in REACTIONS:
        raise ValueError(f"expected one of {list(REACTIONS)}, got {kind!r}; make a Parabolic of your own for others")
    return _of_radius(kind, d, 0.3, lambda q: 5 / (10 + 2 * q), lambda u, square: REACTIONS[kind](u))


def hjb_equation(d: int, control: float = 1.0) -> Parabolic:
    """u_t + lap u - lambda |grad u|^2 = 0 with u = ln((1 + |x|^2) / 2) at T = 1: Hamilton-Jacobi-Bellman.

    u is the least expected cost of steering a Brownian motion; lambda, `control`, is how little steering costs. Asked
    is u at t = 0, x = 0: 4.5901 at lambda = 1, d = 100. The solution is that of the equation in |x|; another way is
    that exp(-lambda u) solves the heat equation (Cole and Hopf).
    Source: Han, Jentzen and E, PNAS 115 (2018).
    """
    return _of_radius("HJB", d, 1.0, lambda q: _library(q).log((1 + q) / 2), lambda u, square: -control * square)


def black_scholes_equation(d: int, rate: float = 0.05, volatility: float = 0.4) -> Parabolic:
    """u_t + 1/2 sigma^2 sum of x_i^2 u_ii - r (u - x . grad u) = 0 with u = |x|^2 at T = 1: Black-Scholes-Barenblatt.

    Exact: u = exp((r + sigma^2) (1 - t)) |x|^2. Asked is u at t = 0, x = (1, 0.5, 1, 0.5, …): 77.1049 for d = 100.
    Source: Raissi, "Forward-backward stochastic neural networks" (2018).
    """
    d = arguments.integer("d", d, "there is at least one price")
    start = jnp.where(jnp.arange(d) % 2 == 0, 1.0, 0.5)

    def solution(point: jax.Array) -> jax.Array:
        return jnp.exp((rate + volatility**2) * (1 - point[0])) * (point[1:] @ point[1:])

    def path(t: jax.Array, z: jax.Array) -> jax.Array:
        return start * jnp.exp(volatility * jnp.sqrt(t) * z - volatility**2 * t / 2)

    return Parabolic(
        f"Black-Scholes, d={d}", start, 1.0, lambda x: x @ x, lambda x: volatility * x,
        lambda x, u, slope: -rate * (u - x @ slope), path, solution,
    )  # fmt: skip


def _of_radius(
    name: str,
    d: int,
    horizon: float,
    final: Callable[[Any], Any],
    reaction: Callable[[Any, Any], Any],
) -> Parabolic:
    """u_t + lap u + f(u, |grad u|^2) = 0 with g(|x|^2) at t = T, from x = 0."""
    d = arguments.integer("d", d, "there is at least one coordinate")
    root = 2**0.5
    return Parabolic(
        f"{name}, d={d}", jnp.zeros(d), horizon, lambda x: final(x @ x), lambda x: jnp.full_like(x, root),
        lambda x, u, slope: reaction(u, slope @ slope), lambda t, z: root * jnp.sqrt(t) * z,
        radial_solution(d, horizon, final, reaction),
    )  # fmt: skip


def radial_solution(
    d: int,
    horizon: float,
    final: Callable[[Any], Any],
    reaction: Callable[[Any, Any], Any],
    nodes: int = 160,
    times: int = 64,
) -> Field:
    """The solution of u_t + lap u + f(u, |grad u|^2) = 0 with u = g(|x|^2) at t = T, for |x|^2 that paths from 0 reach.

    In q = |x|^2 it is u_t + 4 q u_qq + 2 d u_q + f(u, 4 q u_q^2) = 0, whatever d: Chebyshev's polynomials in q, and
    an implicit Runge-Kutta method in time. From q the paths reach 2 T times a chi-square number at t = T, so that what
    holds at the far end (there u is kept as it is at T) is not felt at 0.

    Args:
      d: how many coordinates x has.
      horizon: T.
      final: g, of q, NumPy arrays as well as JAX's: the solver is NumPy's, in float64.
      reaction: f, of u and of |grad u|^2, likewise.
      nodes, times: how many polynomials in q and in t.
    Returns:
      (t, x) as one point (1 + d,) -> ().
    Source: Trefethen, Spectral Methods in MATLAB (2000), chapter 6, for the matrix of derivatives.
    """
    from scipy.integrate import solve_ivp  # jax brings it; here alone it is needed

    far = 2 * horizon * (d + 8 * (2 * d) ** 0.5 + 50)
    s, s_times = (np.cos(np.pi * np.arange(n) / (n - 1)) for n in (nodes, times))  # 1 to -1
    sign = np.where(np.arange(nodes) % (nodes - 1) == 0, 2.0, 1.0) * (-1.0) ** np.arange(nodes)
    slope = np.outer(sign, 1 / sign) / (s[:, None] - s + np.eye(nodes))
    slope = (slope - np.diag(slope.sum(axis=1))) * 2 / far
    q = far / 2 * (s + 1)
    second = 4 * q[:, None] * (slope @ slope) + 2 * d * slope

    def rate(_: float, u: np.ndarray) -> np.ndarray:
        found = second @ u + np.asarray(reaction(u, 4 * q * (slope @ u) ** 2))
        found[0] = 0  # the far end
        return found

    def jacobian(_: float, u: np.ndarray) -> np.ndarray:  # SciPy's own differences are poor where u is nearly zero
        along, h = slope @ u, 1e-6
        square = 4 * q * along**2
        by_u, by_square = (
            (reaction(u + h * a, square + h * b) - reaction(u - h * a, square - h * b)) / (2 * h)
            for a, b in ((1, 0), (0, 1))
        )
        found = second + np.diag(by_u) + (by_square * 8 * q * along)[:, None] * slope
        found[0] = 0
        return found

    left = horizon / 2 * (1 - s_times)  # T - t, from 0 to T
    u = solve_ivp(rate, (0, horizon), np.asarray(final(q)), "Radau", left, rtol=1e-8, atol=1e-10, jac=jacobian).y
    coefficients = _chebyshev(nodes) @ u @ _chebyshev(times).T  # of q, of t

    def solution(point: jax.Array) -> jax.Array:
        t, x = point[0], point[1:]
        along = [2 * (x @ x) / far - 1, 2 * t / horizon - 1]
        angles = [jnp.arccos(jnp.clip(z, -1, 1)) for z in along]  # farther out u is as at the far end
        in_q, in_t = (jnp.cos(jnp.arange(n) * angle) for n, angle in zip((nodes, times), angles, strict=True))
        return in_q @ jnp.asarray(coefficients, x.dtype) @ in_t

    return solution


def _library(u: Any) -> Any:
    """NumPy for its arrays, so that float64 stays; JAX for all others."""
    return np if isinstance(u, np.ndarray) else jnp


def _chebyshev(n: int) -> np.ndarray:
    """The matrix that takes values at cos(pi k / (n - 1)) to coefficients of Chebyshev's polynomials, (n, n)."""
    k = np.arange(n)
    return np.linalg.inv(np.cos(np.pi * np.outer(k, k) / (n - 1)))
