"""Higher derivatives in L, several functions, adjoints, nonlocal functionals, multipliers: against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from course.functional import (
    Functional,
    Interaction,
    Quadrature,
    compose,
    euler_lagrange,
    functional_gradient,
    gauss_legendre,
    integrate,
    linear_transpose,
    multiplier,
    nabla,
    node_gradient,
    variation,
)

pytestmark = pytest.mark.usefixtures("x64")
UNIT = np.linspace(0.1, 0.9, 5)
A = np.array([1.0, 2.0, -0.5])
X = np.array([0.3, -0.2, 0.5])


def at(f, points):
    return np.asarray(jax.jit(jax.vmap(f))(jnp.asarray(points)))


def once(f):
    return jax.jit(f)()


def close(ours, exact, atol=1e-11):
    np.testing.assert_allclose(ours, exact, rtol=0, atol=atol)


def wave(x):
    return jnp.sin(3 * x)


def bump(x):
    return jnp.sin(jnp.pi * x) ** 3  # zero at the ends, with two derivatives


def plane(x):
    return jnp.exp(x @ A)


# --- higher derivatives in L -------------------------------------------------------------------------------


def beam(x, u, slope, bend):
    return (1 + x) * bend**2 / 2 - u


def test_a_beam_has_four_derivatives():
    close(at(euler_lagrange(beam, order=2)(wave), UNIT), 81 * (1 + UNIT) * np.sin(3 * UNIT) - 54 * np.cos(3 * UNIT) - 1)
    third = euler_lagrange(lambda x, u, u1, u2, u3: u3**2 / 2 + u * u1, order=3)(wave)  # u u' is a divergence
    close(at(third, UNIT), 3**6 * np.sin(3 * UNIT), 1e-9)


def test_in_space_the_square_of_the_laplacian_gives_the_biharmonic_operator():
    plate = euler_lagrange(lambda x, u, slope, hessian: jnp.trace(hessian) ** 2 / 2, order=2)
    close(once(lambda: plate(plane)(jnp.asarray(X))), (A @ A) ** 2 * np.exp(X @ A))
    twisted = euler_lagrange(lambda x, u, slope, hessian: hessian[0, 0] * hessian[1, 1] - hessian[0, 1] ** 2, order=2)
    close(once(lambda: twisted(lambda x: plane(x) * x[2])(jnp.asarray(X))), 0)  # a determinant is a divergence


def test_higher_functionals_have_values_variations_and_gradients_by_nodes():
    rule = gauss_legendre(0.0, 1.0, 24)
    energy = Functional(beam, rule, order=2)
    close(
        once(lambda: energy(wave)),
        81 / 2 * once(lambda: integrate(lambda x: (1 + x) * wave(x) ** 2, rule)) - (1 - np.cos(3)) / 3,
    )
    paired = once(lambda: integrate(compose(jnp.multiply, functional_gradient(energy, wave), bump), rule))
    close(once(lambda: variation(energy, wave)(bump)), paired)
    by_nodes = once(lambda: rule.weights @ (node_gradient(energy, wave) * bump(rule.nodes)))
    close(by_nodes, paired, 1e-7)  # fourth derivatives of a polynomial of degree 23


# --- several functions -------------------------------------------------------------------------------------


def test_two_coupled_functions():
    """Two masses on springs: each function has its own equation, and the gradient is both."""

    def both(x):
        return jnp.stack([jnp.sin(2 * x), jnp.exp(x)])

    gradient = euler_lagrange(lambda t, q, v: v @ v / 2 - (q[0] - q[1]) ** 2 / 2 - q[0] ** 4)(both)
    first, second = np.sin(2 * UNIT), np.exp(UNIT)
    close(at(gradient, UNIT)[:, 0], 4 * first - (first - second) - 4 * first**3)
    close(at(gradient, UNIT)[:, 1], -second + (first - second))


def test_a_vector_field_in_space():
    """The energy of an elastic body, and minus its force: -mu lap F - (lambda + mu) grad div F."""
    mu, lam = 0.7, 1.3

    def field(x):
        return plane(x) * jnp.array([1.0, -2.0, 0.5])

    def energy(x, value, slope):
        strain = (slope + slope.T) / 2
        return mu * (strain**2).sum() + lam * jnp.trace(strain) ** 2 / 2

    size, direction = np.exp(X @ A), np.array([1.0, -2.0, 0.5])
    exact = -mu * (A @ A) * direction * size - (lam + mu) * A * (A @ direction) * size
    close(once(lambda: euler_lagrange(energy)(field)(jnp.asarray(X))), exact)


def test_one_function_as_a_vector_or_a_matrix_is_refused():
    for f, shape in ((lambda x: jnp.ones(1), r"\(1,\)"), (lambda x: jnp.ones((2, 2)), r"\(2, 2\)")):
        with pytest.raises(ValueError, match=rf"m > 1 functions as \(m,\), got {shape}"):
            euler_lagrange(lambda x, u, slope: u.sum())(f)(0.5)


# --- adjoints ----------------------------------------------------------------------------------------------


def second_order(g):
    return lambda x: jnp.cos(x) * nabla(nabla(g))(x) + x**2 * nabla(g)(x) + jnp.exp(x) * g(x)


def test_the_adjoint_of_an_operator_of_second_order():
    """(a h)'' - (b h)' + c h, and both sides of the definition."""
    h, rule = wave, gauss_legendre(0.0, 1.0, 40)
    back = linear_transpose(second_order, jnp.sin, order=2)(h)
    forms = [lambda x: jnp.cos(x) * h(x), lambda x: x**2 * h(x)]
    exact = lambda x: nabla(nabla(forms[0]))(x) - nabla(forms[1])(x) + jnp.exp(x) * h(x)  # noqa: E731
    close(at(back, UNIT), at(exact, UNIT))
    left = once(lambda: integrate(compose(jnp.multiply, h, second_order(bump)), rule))
    close(once(lambda: integrate(compose(jnp.multiply, back, bump), rule)), left)


def test_the_adjoint_of_a_gradient_is_minus_the_divergence():
    field = lambda x: jnp.stack([plane(x), x[0] * x[1], jnp.sin(x[2])])  # noqa: E731
    x = jnp.asarray(X)
    close(once(lambda: linear_transpose(nabla, plane)(field)(x)), -(np.exp(X @ A) + X[0] + np.cos(X[2])))
    divergence = lambda f: lambda x: jnp.trace(jax.jacfwd(f)(x))  # noqa: E731
    close(once(lambda: linear_transpose(divergence, field)(plane)(x)), -A * np.exp(X @ A))


def test_of_an_operator_that_is_not_linear_it_is_the_adjoint_of_the_derivative():
    transport = lambda u: lambda x: u(x) * nabla(u)(x) + u(x) ** 3  # noqa: E731
    back = linear_transpose(transport, wave)(lambda x: jnp.cos(2 * x))
    u = np.sin(3 * UNIT)
    close(at(back, UNIT), 2 * u * np.sin(2 * UNIT) + 3 * u**2 * np.cos(2 * UNIT))


@pytest.mark.slow
def test_transposed_twice_it_is_the_operator_again():
    twice = linear_transpose(linear_transpose(second_order, jnp.sin, 2), jnp.cos, 2)(wave)
    close(at(twice, UNIT), at(second_order(wave), UNIT), 1e-10)


# --- nonlocal functionals ----------------------------------------------------------------------------------


def shells(a, b, points):
    """The integral over space of a function of the radius, from a to b."""
    nodes, weights = gauss_legendre(a, b, points)
    return Quadrature(nodes, 4 * jnp.pi * nodes**2 * weights)


def meeting(r):
    """Two rules for the other radius, which meet where the kernel has its kink."""
    return Quadrature(*map(jnp.concatenate, zip(shells(0.0, r, 24), shells(r, 16.0, 48), strict=True)))


def hartree():
    return Interaction(lambda r, s, n, m: n * m / jnp.maximum(r, s) / 2, shells(0.0, 16.0, 64), meeting)


def hydrogen(r):
    return jnp.exp(-2 * r) / jnp.pi


def test_hartree_energy_and_potential_of_the_hydrogen_density():
    close(once(lambda: hartree()(hydrogen)), 5 / 16, 1e-9)
    r = np.array([0.2, 1.0, 3.0])
    close(at(functional_gradient(hartree(), hydrogen), r), 1 / r - np.exp(-2 * r) * (1 + 1 / r), 1e-9)


def test_the_derivative_along_a_function_is_the_pairing_with_the_gradient():
    rule = gauss_legendre(-1.0, 1.0, 20)
    energy = Interaction(lambda x, y, f, g: jnp.exp(-((x - y) ** 2)) * f**2 * jnp.sin(g) + x * g, rule)
    paired = once(lambda: integrate(compose(jnp.multiply, functional_gradient(energy, wave), jnp.cos), rule))
    close(once(lambda: variation(energy, wave)(jnp.cos)), paired)


def test_interactions_say_what_they_need():
    with pytest.raises(ValueError, match=r"L to return.*\(2,\)"):
        Interaction(lambda x, y, f, g: jnp.stack([f, g]), gauss_legendre(0.0, 1.0))(jnp.sin)
    for call in (hartree(), hartree().gradient):
        with pytest.raises(TypeError, match="expected a function, got float"):
            call(1.0)


# --- constraints -------------------------------------------------------------------------------------------


def test_the_largest_area_for_a_given_length_is_an_arc_and_its_multiplier_the_radius():
    rule, radius = gauss_legendre(-0.8, 0.8, 60), 1.3
    area, length = Functional(lambda x, y, slope: y, rule), Functional(lambda x, y, slope: jnp.sqrt(1 + slope**2), rule)
    arc = lambda x: jnp.sqrt(radius**2 - x**2) - 1  # noqa: E731
    close(once(lambda: multiplier(area, length, arc)), radius)
    by_radius = {}  # what it is worth: more area for more length, through the ends that are held
    for r in (radius - 1e-4, radius + 1e-4):
        held = lambda x, r=r: jnp.sqrt(r**2 - x**2) - jnp.sqrt(r**2 - 0.64)  # noqa: E731
        by_radius[r] = once(lambda held=held: jnp.stack([area(held), length(held)]))
    low, high = by_radius.values()
    close((high[0] - low[0]) / (high[1] - low[1]), radius, 1e-6)


def test_away_from_the_stationary_function_the_rest_lies_along_the_constraint():
    rule = gauss_legendre(0.0, 1.0, 30)
    energy = Functional(lambda x, u, slope: slope**2 / 2, rule)
    norm = Functional(lambda x, u, slope: u**2 / 2, rule)
    first = lambda x: jnp.sin(jnp.pi * x)  # noqa: E731
    close(once(lambda: multiplier(energy, norm, first)), np.pi**2)  # the eigenvalue of -u'' = mu u
    mu = once(lambda: multiplier(energy, norm, wave))
    rest = lambda x: (energy.gradient(wave)(x) - mu * norm.gradient(wave)(x)) * norm.gradient(wave)(x)  # noqa: E731
    close(once(lambda: integrate(rest, rule)), 0)
