"""Equations of other fields, each of the size of an exercise, by the operators of the course against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import solve_continuous_lyapunov

from course import stde, taylor

pytestmark = pytest.mark.usefixtures("x64")
RNG = np.random.default_rng(3)


def many(f, *points):
    return np.asarray(jax.jit(jax.vmap(f))(*map(jnp.asarray, points)))


def test_the_heat_kernel_of_a_sphere_of_any_dimension_by_one_harmonic():
    """On the sphere x_3 is an eigenfunction of Laplace-Beltrami: u = exp(-2 t) cos(angle) diffuses."""
    sphere = stde.laplace_beltrami(lambda q: jnp.diag(jnp.array([1.0, jnp.sin(q[0]) ** 2])), 2)
    u = lambda t, q: jnp.exp(-2 * t) * jnp.cos(q[0]) + jnp.exp(-6 * t) * jnp.sin(q[0]) ** 2 * jnp.sin(2 * q[1])  # noqa: E731
    gap = lambda t, q: jax.jvp(lambda t: u(t, q), (t,), (1.0,))[1] - stde.apply(sphere, lambda q: u(t, q), q)  # noqa: E731
    np.testing.assert_allclose(many(gap, RNG.uniform(0, 1, 5), RNG.uniform(0.3, 1.5, (5, 2))), 0, atol=1e-12)


DRIFT = np.array([[1.0, 2.0, 0.0], [-2.0, 1.5, 0.3], [0.0, 0.0, 0.7]])  # it turns: its stationary flow is not zero
NOISE = np.array([[1.0, 0.2, 0.0], [0.2, 0.5, 0.0], [0.0, 0.0, 2.0]])  # B B^T
SPREAD = solve_continuous_lyapunov(DRIFT, NOISE)  # A S + S A^T = B B^T


def density(x):
    return jnp.exp(-x @ np.linalg.inv(SPREAD) @ x / 2) / np.sqrt(np.linalg.det(2 * np.pi * SPREAD))


def flow(x):
    """The current of dX = -A X dt + B dW: -A x p - 1/2 B B^T grad p."""
    return -DRIFT @ x * density(x) - NOISE @ jax.grad(density)(x) / 2


def test_fokker_planck_the_stationary_density_of_an_ornstein_uhlenbeck_process():
    x = RNG.normal(size=(5, 3))
    terms = lambda x: (stde.apply(stde.divergence(3), flow, x), stde.apply(stde.curl(3), flow, x)[2])  # noqa: E731
    spreading, turning = (many(lambda x, n=n: terms(x)[n], x) for n in (0, 1))
    np.testing.assert_allclose(spreading, 0, atol=1e-14)
    assert abs(turning).max() > 1e-3  # the current goes round, without end
    term = lambda x: stde.estimate(stde.divergence(3), flow, x, jax.random.key(0), 3)  # noqa: E731
    np.testing.assert_allclose(many(term, x), 0, atol=1e-14)  # all terms of it


def test_fokker_planck_in_one_operator():
    """The same as advection, diffusion and a term of order 0: (A x) . grad p + tr(A) p + 1/2 B B^T : Hessian."""
    operator = (
        stde.advection(lambda x: DRIFT @ x, 3)
        + np.trace(DRIFT) * stde.Operator({(0, 0, 0): 1.0})
        + stde.diffusion(NOISE / 2, 3)
    )
    np.testing.assert_allclose(many(lambda x: stde.apply(operator, density, x), RNG.normal(size=(5, 3))), 0, atol=1e-14)


VISCOSITY = 0.1


def stream(t, x):
    return jnp.exp(-2 * VISCOSITY * t) * jnp.cos(x[0]) * jnp.cos(x[1])


def velocity(t, x):
    slope = jax.grad(stream, argnums=1)(t, x)
    return jnp.stack([slope[1], -slope[0]])


def test_a_stream_function_of_eddies_that_decay():
    """Taylor and Green's flow solves Navier and Stokes' equations: no divergence, and in the vorticity no pressure."""

    def both(t, x):
        spin = lambda t, x: stde.apply(stde.curl(2), lambda x: velocity(t, x), x)  # noqa: E731
        rate = jax.jvp(lambda t: spin(t, x), (t,), (1.0,))[1]
        carried = velocity(t, x) @ jax.grad(spin, argnums=1)(t, x)
        left = rate + carried - VISCOSITY * taylor.laplacian(lambda x: spin(t, x), x)
        field = lambda x: velocity(t, x)  # noqa: E731
        minus = spin(t, x) + taylor.laplacian(lambda x: stream(t, x), x)
        return jnp.stack([left, stde.apply(stde.divergence(2), field, x), minus])

    np.testing.assert_allclose(many(both, RNG.uniform(0, 1, 5), RNG.uniform(0, 6, (5, 2))), 0, atol=1e-13)


def test_the_local_energy_of_two_electrons_in_a_trap_is_the_same_everywhere():
    """Hooke's atom: -1/2 lap + |x|^2 / 8 + 1 / distance, with psi = (1 + distance / 2) exp(-|x|^2 / 4) and E = 2."""

    def log_psi(x):
        distance = jnp.sqrt(((x[0] - x[1]) ** 2).sum())
        return jnp.log(1 + distance / 2) - (x**2).sum() / 4

    def energy(x):
        curved = taylor.laplacian(log_psi, x, coordinates="all") + (jax.grad(log_psi)(x) ** 2).sum()
        return -curved / 2 + (x**2).sum() / 8 + 1 / jnp.sqrt(((x[0] - x[1]) ** 2).sum())

    np.testing.assert_allclose(many(energy, RNG.normal(size=(6, 2, 3))), 2, rtol=1e-12)
