"""Equations in the unit ball of many dimensions. Needs JAX. Lesson: 19_million_dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from course import stde, taylor
from course.pde.equation import Field, scalar
from course.pde.networks import after_layer
from course.pde.sampling import sample_ball
from course.taylor import arguments


class Radial(NamedTuple):
    """What the Laplacian of (1 - |x|^2) s(x) needs to know of s at a point."""

    value: jax.Array  # s, ()
    along: jax.Array  # x . grad s, ()
    laplacian: jax.Array  # ()


def in_ball(x: jax.Array, s: Radial) -> tuple[jax.Array, jax.Array]:
    """u = (1 - |x|^2) s and its Laplacian, (1 - |x|^2) lap s - 4 x . grad s - 2 d s."""
    factor = 1 - x @ x
    return factor * s.value, factor * s.laplacian - 4 * s.along - 2 * len(x) * s.value


def two_body(c: jax.Array, x: jax.Array) -> Radial:
    """s = sum over i of c_i sin(x_i + cos(x_j) + x_j cos(x_i)), j = i + 1, in closed form; c (d - 1,), |x_i| <= 1.

    Source: Shi et al. (2024), section 5, their two-body exact solution.
    """
    sine, cosine = _sin_cos(x)
    x_i, x_j, sin_i, sin_j, cos_i, cos_j = x[:-1], x[1:], sine[:-1], sine[1:], cosine[:-1], cosine[1:]
    sin_a, cos_a = _sin_cos(x_i + cos_j + x_j * cos_i)
    a_i, a_j = 1 - x_j * sin_i, cos_i - sin_j  # first derivatives of the argument
    curved = cos_a * -(x_j * cos_i + cos_j) - sin_a * (a_i**2 + a_j**2)
    return Radial(c @ sin_a, c @ (cos_a * (x_i * a_i + x_j * a_j)), c @ curved)


def three_body(c: jax.Array, x: jax.Array) -> Radial:
    """s = sum over i of c_i exp(x_i x_j x_k), j = i + 1, k = i + 2, in closed form; c (d - 2,).

    Source: Shi et al. (2024), section 5, their three-body exact solution.
    """
    i, j, k = x[:-2], x[1:-1], x[2:]
    product = i * j * k
    e = c * jnp.exp(product)
    return Radial(e.sum(), 3 * (product @ e), ((j * k) ** 2 + (i * k) ** 2 + (i * j) ** 2) @ e)


def waves(c: jax.Array, x: jax.Array) -> Radial:
    """s = sin(z) with z = c . x, in closed form; c (d,) of length sqrt(d) makes z vary by about |x|.

    No constant comes near it, in any dimension: a network has to find the direction c.
    """
    z = c @ x
    return Radial(jnp.sin(z), z * jnp.cos(z), -(c @ c) * jnp.sin(z))


def _sin_cos(z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sine and cosine for |z| < 2.2, in float32 by Taylor polynomials: XLA's own take three times as long on a CPU."""
    if z.dtype != jnp.float32:
        return jnp.sin(z), jnp.cos(z)
    y = z * z
    sine = cosine = jnp.ones_like(z)
    for n in range(16, 0, -2):  # Horner, until the terms are below float32's rounding
        cosine = 1 - y / (n * (n - 1)) * cosine
        sine = 1 - y / (n * (n + 1)) * sine
    return z * sine, cosine


BODIES = {"two-body": (two_body, 1), "three-body": (three_body, 2), "waves": (waves, 0)}
"""The functions s of the exact solutions, by name, each with how many coefficients it has fewer than dimensions."""
NONLINEAR = {"poisson": jnp.zeros_like, "sine-gordon": jnp.sin, "allen-cahn": lambda u: u - u**3}
"""F of lap u + F(u) = g, by the equation's name."""


@dataclass(frozen=True)
class BallEquation:
    """lap u + F(u) = g in the unit ball, u = 0 on its surface.

    F(u) is 0 (Poisson), sin u (Sine-Gordon) or u - u^3 (Allen-Cahn); g follows from the exact solution
    u = (1 - |x|^2) s(x), where s is `two_body`, `three_body` or `waves` with random coefficients.

    Attributes:
      kind: "poisson", "sine-gordon" or "allen-cahn".
      body: "two-body", "three-body" or "waves".
      coefficients: of s; see there.
      dimension: the number d.
      source_mean: mean of g over a sample; the networks' offset comes from it.
      source_rms: root mean square of g over the sample; networks and losses are scaled by it.
    Source: Shi et al. (2024), section 5; `waves` is ours.
    """

    kind: str
    body: str
    coefficients: jax.Array
    dimension: int
    source_mean: float
    source_rms: float

    def solution(self, x: jax.Array) -> jax.Array:
        """Exact solution, (d,) -> ()."""
        return in_ball(x, self.exact(x))[0]

    def exact(self, x: jax.Array) -> Radial:
        """s of the exact solution with its derivatives."""
        return BODIES[self.body][0](self.coefficients, x)

    def source(self, x: jax.Array) -> jax.Array:
        """g in closed form, (d,) -> ()."""
        u, lap = in_ball(x, self.exact(x))
        return lap + NONLINEAR[self.kind](u)

    @property
    def scale(self) -> float:
        """Size of s, since in many dimensions the Laplacian of (1 - |x|^2) s is nearly -2 d s."""
        return self.source_rms / (2 * self.dimension)

    def ansatz(self, network: Field) -> Field:
        """u = scale (1 - |x|^2) (offset + network(unit(x))): zero on the surface whatever the network."""
        return lambda x: self.scale * (1 - x @ x) * (self.offset + network(self.unit(x)))

    @property
    def offset(self) -> float:
        """What makes a network that is zero about the best constant, from the mean of the source alone."""
        return -self.source_mean / self.source_rms

    def unit(self, x: jax.Array) -> jax.Array:
        """What the network is given: x, or for `waves` x times sqrt(d), whose coordinates are of size 1."""
        return x * self.dimension**0.5 if self.body == "waves" else x

    def residual(self, u: Field, x: jax.Array) -> jax.Array:
        """lap u + F(u) - g of any function u at x (d,), divided by the source's root mean square, ()."""
        value, lap = taylor.value_and_laplacian(scalar(u), x)
        return (lap + NONLINEAR[self.kind](value) - self.source(x)) / self.source_rms

    def network_residual(
        self, network: Field, x: jax.Array, key: jax.Array | None = None, samples: int | None = None
    ) -> jax.Array:
        """The residual of `ansatz(network)`, the factor 1 - |x|^2 differentiated by hand and the network by jets.

        Args:
          network: (d,) -> ().
          x: point, (d,).
          key: PRNG key; only with samples.
          samples: coordinates drawn for the network's Laplacian; None takes it exactly.
        Returns:
          Scalar (); unbiased for the linear part.
        """
        return self.residual_of(self.network_parts(network, x, key, samples), x)

    def network_parts(
        self, network: Field, x: jax.Array, key: jax.Array | None = None, samples: int | None = None
    ) -> Radial:
        """The network with its derivatives, the Laplacian exact or from sampled coordinates."""

        def inside(x: jax.Array) -> jax.Array:
            return self.offset + scalar(network)(self.unit(x))

        value, along = jax.jvp(inside, (x,), (x,))  # XLA shares x @ W with the value
        if samples is None:
            lap = taylor.laplacian(inside, x)
        elif key is None:
            raise ValueError(f"expected a key to draw {samples} coordinates with, got None; pass key=")
        else:
            lap = stde.estimate(stde.laplacian(self.dimension), inside, x, key, samples)
        return Radial(*(self.scale * part for part in (value, along, lap)))

    def layer_ansatz(self, params: tuple[jax.Array, Any]) -> Field:
        """The ansatz of a network that also sees |x|^2, from the parameters of `init_layered_mlp`."""
        weight, rest = params
        return lambda x: self.scale * (1 - x @ x) * (self.offset + after_layer(rest, x @ weight, x @ x))

    def layer_residual(self, rest: Any, h: jax.Array, gram: jax.Array, x: jax.Array) -> jax.Array:
        """The residual of `layer_ansatz`, its Laplacian exact, from what it sees of the first layer's weight.

        By the chain rule through z = (h, |x|^2): the second derivatives of z contribute 2 d times the slope along
        |x|^2, its first ones the Hessian in z times their Gram matrix.

        Args:
          rest: of the parameters.
          h: x @ weight, (w,).
          gram: weight^T weight, (w, w).
          x: point, (d,).
        Returns:
          Scalar (); as `pde.linearize_layered` takes it.
        """
        q = x @ x

        def inside(z: jax.Array) -> jax.Array:
            return self.offset + after_layer(rest, z[:-1], z[-1])

        z, mixed = jnp.append(h, q), 2 * h[:, None]
        first = jnp.block([[gram, mixed], [mixed.T, 4 * q]])  # sum of dz/dx_i (outer) dz/dx_i
        value, slope = jax.value_and_grad(inside)(z)
        lap = jnp.vdot(jax.hessian(inside)(z), first) + 2 * len(x) * slope[-1]
        parts = value, slope @ jnp.append(h, 2 * q), lap
        return self.residual_of(Radial(*(self.scale * part for part in parts)), x)

    def residual_of(self, s: Radial, x: jax.Array) -> jax.Array:
        """The residual of (1 - |x|^2) s, from s and its derivatives at x."""
        u, lap = in_ball(x, s)
        return (lap + NONLINEAR[self.kind](u) - self.source(x)) / self.source_rms

    def sample(self, key: jax.Array, n: int) -> jax.Array:
        """Collocation points, (n, d)."""
        return sample_ball(key, n, self.dimension)

    def best_constant(self, x: jax.Array) -> jax.Array:
        """The baseline's shape: what a network that returns one number for all points can do, times that number."""
        return 1 - x @ x


def ball_equation(kind: str, d: int, key: jax.Array, body: str = "two-body") -> BallEquation:
    """Draw an equation in the unit ball of d dimensions.

    Args:
      kind: "poisson", "sine-gordon" or "allen-cahn".
      d: dimension, >= 3.
      key: PRNG key, consumed once, for the coefficients.
      body: "two-body" or "three-body", normal coefficients; or "waves", a random direction of length sqrt(d).
    Raises:
      ValueError: an unknown name, or d below 3.
      TypeError: d is no integer.
    """
    if kind not in NONLINEAR or body not in BODIES:
        raise ValueError(f"expected one of {list(NONLINEAR)} and one of {list(BODIES)}, got {kind!r} and {body!r}")
    d = arguments.integer("d", d, "three-body terms need three coordinates", least=3)
    own, points = jax.random.split(key)
    c = jax.random.normal(own, (d - BODIES[body][1],))
    if body == "waves":
        c *= jnp.sqrt(d) / jnp.linalg.norm(c)
    draft = BallEquation(kind, body, c, d, 0.0, 1.0)
    batch = max(1, min(256, 2**24 // d))  # 64 MB at a time
    sources = jax.jit(lambda keys: jax.lax.map(lambda k: jax.vmap(draft.source)(sample_ball(k, batch, d)), keys))
    g = sources(jax.random.split(points, 256 // batch))
    return BallEquation(kind, body, c, d, float(g.mean()), float(jnp.sqrt(jnp.mean(g**2))))
