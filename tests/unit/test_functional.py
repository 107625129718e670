"""Functionals and their derivatives against closed forms, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from course.functional import (
    Functional,
    Quadrature,
    compose,
    euler_lagrange,
    functional_gradient,
    gauss_legendre,
    integrate,
    nabla,
    node_gradient,
    partial_at,
    variation,
)

pytestmark = pytest.mark.usefixtures("x64")


def dirichlet(x, u, du):
    return du**2


def at(f, points):
    return np.asarray(jax.jit(jax.vmap(f))(jnp.asarray(points)))


def once(f):
    """f() compiled whole: quicker than compiling its operations one by one."""
    return jax.jit(f)()


def close(ours, exact, atol=1e-12):
    np.testing.assert_allclose(ours, exact, rtol=0, atol=atol)


# --- operators ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("degree", [0, 7, 15])
def test_a_gauss_rule_is_exact_up_to_its_degree(degree):
    close(
        integrate(lambda x: x**degree, gauss_legendre(-1.0, 2.0, points=8)) * (degree + 1),
        2.0 ** (degree + 1) - (-1) ** (degree + 1),
        1e-9,
    )


def test_a_gauss_rule_has_64_ascending_nodes_unless_told():
    nodes, weights = gauss_legendre(1.0, 4.0)
    assert nodes.shape == weights.shape == (64,)
    assert 1 < nodes[0] < nodes[-1] < 4 and (np.diff(nodes) > 0).all()


def test_integrals_differentiate_by_their_ends_and_parameters():
    close(jax.jit(jax.grad(lambda b: integrate(jnp.exp, gauss_legendre(0.0, b))))(1.5), np.exp(1.5))

    def wave(x, k):
        return jnp.sin(k * x)

    def of(k):
        return integrate(partial_at(wave, 1, k), gauss_legendre(0.0, 1.0))

    k = jnp.array([1.0, 2.5])
    close(jax.jit(jax.vmap(of))(k), (1 - np.cos(k)) / k)
    close(jax.jit(jax.vmap(jax.grad(of)))(k), np.sin(k) / k - (1 - np.cos(k)) / k**2)


def test_integrals_keep_the_shape_of_what_they_integrate():
    close(integrate(lambda x: jnp.array([[1.0, x]]), gauss_legendre(0.0, 2.0)), [[2.0, 2.0]])


def test_operators_compose_and_differentiate():
    close(compose(jnp.arctan2, jnp.sin, jnp.cos)(0.3), 0.3)
    close(nabla(nabla(jnp.sin))(0.3), -np.sin(0.3))
    close(nabla(lambda x: (x**3).sum())(jnp.array([1.0, 2.0])), [3.0, 12.0])
    for position, others in enumerate([(2.0, 3.0), (1.0, 3.0), (1.0, 2.0)]):
        close(partial_at(lambda a, b, c: a + 10 * b + 100 * c, position, position + 1.0)(*others), 321.0)


def nonlinear(u):
    """N[u] = u u' + u^3."""
    return lambda x: u(x) * nabla(u)(x) + u(x) ** 3


def test_the_variation_of_an_operator_is_its_linearisation():
    points = np.linspace(0.1, 0.9, 5)
    u, du, g, dg = np.exp(points), np.exp(points), np.sin(points), np.cos(points)
    close(at(variation(nonlinear, jnp.exp)(jnp.sin), points), u * dg + du * g + 3 * u**2 * g)


def test_the_variation_along_a_parameter_is_the_derivative_by_it():
    def f(w):
        return lambda x: jnp.tanh(w * x)

    by_parameter = once(lambda: jax.jvp(lambda w: nonlinear(f(w))(0.4), (1.3,), (1.0,))[1])
    direction = lambda x: jax.grad(lambda w: f(w)(x))(1.3)  # noqa: E731
    close(once(lambda: variation(nonlinear, f(1.3))(direction)(0.4)), by_parameter)


def test_the_adjoint_is_a_functional_gradient():
    rule = gauss_legendre(0.0, 1.0)

    def h(x):
        return jnp.cos(2 * x)

    def bump(x):
        return jnp.sin(jnp.pi * x)

    weighted = Functional(lambda x, u, du: h(x) * (u * du + u**3), rule)  # <h, N[u]>
    adjoint = functional_gradient(weighted, jnp.exp)
    close(at(adjoint, [0.2, 0.7]), [3 * np.exp(2 * x) * h(x) + 2 * np.exp(x) * np.sin(2 * x) for x in (0.2, 0.7)])
    left = once(lambda: integrate(compose(jnp.multiply, h, variation(nonlinear, jnp.exp)(bump)), rule))
    close(left, once(lambda: integrate(compose(jnp.multiply, adjoint, bump), rule)))
    close(left, once(lambda: variation(weighted, jnp.exp)(bump)))


# --- functionals -------------------------------------------------------------------------------------------


def test_dirichlet_energy():
    energy = Functional(dirichlet, gauss_legendre(0.0, 1.0))
    close(energy(jnp.exp), (np.exp(2.0) - 1) / 2)
    points = np.linspace(0.0, 1.0, 5)
    close(at(functional_gradient(energy, jnp.exp), points), -2 * np.exp(points))


def test_in_space_the_dirichlet_energy_gives_the_laplacian():
    x = jnp.array([0.3, -0.2, 0.5])
    gradient = euler_lagrange(lambda x, u, du: (du**2).sum() / 2)(lambda x: jnp.exp(x @ jnp.array([1.0, 2.0, 3.0])))
    close(jax.jit(gradient)(x), -14 * np.exp(x @ np.array([1.0, 2.0, 3.0])))


def test_node_values_and_lagrangian_give_the_same_gradient():
    rule = gauss_legendre(0.0, 1.0, points=24)

    def u(x):  # u' is zero at the ends: no boundary term
        return jnp.cos(jnp.pi * x)

    for lagrangian in (dirichlet, lambda x, u, du: x * u**4 + du**2 * jnp.exp(u)):
        energy = Functional(lagrangian, rule)
        close(*once(lambda energy=energy: (energy.on_nodes(jax.vmap(u)(rule.nodes)), energy(u))))
        close(
            once(lambda energy=energy: node_gradient(energy, u)), at(functional_gradient(energy, u), rule.nodes), 1e-8
        )


def test_the_boundary_term_is_what_the_two_gradients_differ_by():
    rule = gauss_legendre(0.0, 1.0, points=24)
    energy = Functional(dirichlet, rule)
    gradient = functional_gradient(energy, jnp.exp)
    inner = once(lambda: integrate(compose(jnp.multiply, gradient, jnp.cos), rule))
    boundary = 2 * np.exp(1.0) * np.cos(1.0) - 2.0  # L_f' g between the ends
    close(once(lambda: variation(energy, jnp.exp)(jnp.cos)), inner + boundary)
    by_nodes = once(lambda: node_gradient(energy, jnp.exp))
    close(np.sum(rule.weights * by_nodes * np.cos(rule.nodes)), inner + boundary, 1e-11)


def test_catenary():
    def film(x):
        return 0.8 * jnp.cosh(x / 0.8)

    area = Functional(lambda x, y, dy: 2 * jnp.pi * y * jnp.sqrt(1 + dy**2), gauss_legendre(-1.0, 1.0))
    close(once(lambda: area(film)), 2 * np.pi * 0.8 * (1 + 0.4 * np.sinh(2 / 0.8)))
    close(at(functional_gradient(area, film), np.linspace(-1, 1, 5)), 0)


def rolling(theta):
    """6 (theta - sin theta) / theta^3 by its series, which does not cancel at small theta."""
    total = 1.0
    for k in range(16, 1, -1):
        total = 1 - theta**2 / (2 * k * (2 * k + 1)) * total
    return total


@jax.custom_jvp
def angle(s):
    """The theta at which the cycloid x = theta - sin theta reaches x = s^3, by Newton's method on the cube roots."""
    theta = s * 6 ** (1 / 3)
    for _ in range(6):
        root = theta * (rolling(theta) / 6) ** (1 / 3)
        theta = theta - (root - s) * 3 * root**2 / (2 * jnp.sin(theta / 2) ** 2)
    return theta


@angle.defjvp
def angle_jvp(primals, tangents):
    (s,), (v,) = primals, tangents
    theta = angle(s)
    return theta, 3 * s**2 / (2 * jnp.sin(theta / 2) ** 2) * v


def cycloid(s):
    """Its depth there, 1 - cos theta."""
    return 2 * jnp.sin(angle(s) / 2) ** 2


@pytest.mark.slow
def test_brachistochrone():
    end = 2.5
    width = end - np.sin(end)
    # sqrt((1 + y'^2) / 2 g y) dx with x = s^3, g = 1: no singularity is left
    fall = Functional(lambda s, y, dy: jnp.sqrt((9 * s**4 + dy**2) / (2 * y)), gauss_legendre(0.0, np.cbrt(width), 32))
    time, slide = once(lambda: (fall(cycloid), fall(lambda s: (1 - np.cos(end)) * s**2 / width ** (2 / 3))))
    close(time / end, 1, 5e-15)
    residual = at(functional_gradient(fall, cycloid), np.linspace(0.3, np.cbrt(width), 4))
    close(residual, 0, 1e-11)
    assert slide > time


def hydrogen(x):
    return jnp.exp(-2 * jnp.sqrt(x @ x)) / jnp.pi


FERMI = 0.3 * (3 * np.pi**2) ** (2 / 3)
EXCHANGE = 0.75 * (3 / np.pi) ** (1 / 3)
DENSITY_FUNCTIONALS = {
    "Thomas-Fermi": (
        lambda x, n, dn: FERMI * n ** (5 / 3),
        lambda n, r: 5 / 3 * FERMI * n ** (2 / 3),
        FERMI * np.pi ** (-2 / 3) * (3 / 5) ** 3,
    ),
    "von Weizsaecker": (lambda x, n, dn: dn @ dn / (8 * n), lambda n, r: 1 / r - 1 / 2, 1 / 2),
    "LDA exchange": (
        lambda x, n, dn: -EXCHANGE * n ** (4 / 3),
        lambda n, r: -np.cbrt(3 * n / np.pi),
        -EXCHANGE * np.pi ** (-1 / 3) * (3 / 4) ** 3,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DENSITY_FUNCTIONALS)
def test_density_functionals_of_the_hydrogen_atom(name):
    lagrangian, potential, energy = DENSITY_FUNCTIONALS[name]
    r, dr = gauss_legendre(0.0, 30.0, 60)
    ball = Quadrature(r[:, None] * jnp.array([0.6, 0.0, 0.8]), 4 * jnp.pi * r**2 * dr)
    f = Functional(lagrangian, ball)
    close(jax.jit(lambda: f(hydrogen))(), energy, 1e-12)
    points = np.array([[0.5, 0.1, -0.2], [1.0, 2.0, 0.5]])
    radii = np.linalg.norm(points, axis=1)
    close(at(functional_gradient(f, hydrogen), points), potential(np.exp(-2 * radii) / np.pi, radii))


@pytest.mark.slow
def test_many_node_values_in_single_precision():
    """A polynomial through 64 values, of products with 63 factors; and values of another dtype than the nodes."""
    close(Functional(lambda x, u, du: u, RULE).on_nodes(np.ones(4, np.float32)), 1.0)
    jax.config.update("jax_enable_x64", False)
    rule = gauss_legendre(-1.0, 2.0)
    close(Functional(lambda x, u, du: du, rule).on_nodes(jnp.sin(rule.nodes)), np.sin(2) + np.sin(1), 1e-3)


def test_a_functional_is_a_loss():
    energy = Functional(lambda x, u, du: du**2 / 2 - u, gauss_legendre(0.0, 1.0, 8))

    def loss(c):  # u = c x (1 - x): energy c^2 / 6 - c / 6
        return energy(lambda x: c * x * (1 - x))

    value, slope = jax.jit(jax.value_and_grad(loss))(2.0)
    close(value, 1 / 3)
    close(slope, 1 / 2)
    close(jax.vmap(loss)(jnp.array([0.0, 0.5])), [0, -1 / 24])


def test_single_precision_stays_single():
    rule = Quadrature(*(np.asarray(part, np.float32) for part in gauss_legendre(0.0, 1.0, 16)))
    energy = Functional(dirichlet, rule)
    gradient = functional_gradient(energy, jnp.exp)
    for result in (lambda: energy(jnp.exp), lambda: node_gradient(energy, jnp.exp), lambda: gradient(jnp.float32(0.5))):
        assert jax.eval_shape(result).dtype == jnp.float32
    matrix = jax.make_jaxpr(energy.on_nodes)(np.ones(16, np.float32))
    assert "f64" not in str(matrix)  # the slopes at the nodes too


# --- errors: expected, got, remedy -------------------------------------------------------------------------

RULE = Quadrature(np.linspace(0.0, 1.0, 4), np.full(4, 0.25))
ERRORS = {
    "one point": (lambda: gauss_legendre(0.0, 1.0, 1), ValueError, "points >= 2, an int, got 1; 20 to 60"),
    "half a point": (lambda: gauss_legendre(0.0, 1.0, 2.5), ValueError, "an int, got 2.5"),
    "points as a float": (lambda: gauss_legendre(0.0, 1.0, 8.0), ValueError, "an int, got 8.0"),
    "infinite end": (lambda: gauss_legendre(0.0, np.inf), ValueError, r"finite ends, got \[0.0, inf\]; substitute"),
    "NaN end": (lambda: gauss_legendre(np.nan, 1.0), ValueError, "finite ends"),
    "rule": (lambda: integrate(jnp.sin, Quadrature(np.ones((4, 1)), np.ones(3))), ValueError, r"\(4, 1\) and \(3,\)"),
    "longer rule": (lambda: integrate(jnp.sin, Quadrature(np.ones(3), np.ones(4))), ValueError, r"\(3,\) and \(4,\)"),
    "rank of nodes": (lambda: integrate(jnp.sin, Quadrature(np.ones(()), np.ones(()))), ValueError, r"nodes \(n,\)"),
    "function": (lambda: Functional(dirichlet, RULE)(lambda x: jnp.ones(1)), ValueError, r"f to return.*\(1,\)"),
    "array": (lambda: Functional(dirichlet, RULE)(np.ones(4)), TypeError, "expected a function, got ndarray.*on_nodes"),
    "variation of an array": (lambda: variation(nonlinear, 1.0), TypeError, "expected a function, got float"),
    "Lagrangian": (
        lambda: Functional(lambda x, u, du: jnp.stack([u, du]), RULE)(jnp.sin), ValueError, r"L to.*\(2,\); index",
    ),
    "Lagrangian, gradient": (
        lambda: euler_lagrange(lambda x, u, du: jnp.stack([u, du]))(jnp.sin)(0.0), ValueError, r"L to return.*\(2,\)",
    ),
    "node values": (lambda: Functional(dirichlet, RULE).on_nodes(np.ones(3)), ValueError, r"\(3,\) at \(4,\); call"),
    "more node values": (lambda: Functional(dirichlet, RULE).on_nodes(np.ones(5)), ValueError, r"\(5,\) at \(4,\)"),
    "nodes in space": (
        lambda: Functional(dirichlet, Quadrature(np.ones((4, 2)), np.ones(4))).on_nodes(np.ones(4)), ValueError, "call",
    ),
    "NaN": (lambda: integrate(lambda x: jnp.log(x - 0.5), RULE), ValueError, "2 NaN or infinite, first at x = 0;"),
    "vectors, the last of them infinite": (
        lambda: integrate(lambda x: jnp.stack([x, 1 / (1 - x)]), RULE), ValueError, "1 NaN or .*, first at x = 1;",
    ),
    "singular": (
        lambda: Functional(lambda x, u, du: du / u, RULE)(lambda x: x), ValueError, "substitute so that the sing",
    ),
    "integer": (lambda: nabla(jnp.sin)(2), TypeError, "jacfwd requires real"),
    "position as a float": (lambda: partial_at(jnp.add, 1.0, 0.0), ValueError, "an int, got 1.0"),
    "position": (lambda: partial_at(jnp.add, -1, 0.0), ValueError, "position >= 0, an int, got -1"),
    "too few arguments": (lambda: partial_at(jnp.add, 2, 0.0)(1.0), IndexError, "at least 2 other arguments, got 1"),
}  # fmt: skip


@pytest.mark.parametrize("what", ERRORS)
def test_errors_say_expected_got_and_remedy(what):
    call, error, message = ERRORS[what]
    with pytest.raises(error, match=message):
        call()


def test_under_jit_a_singularity_comes_out_as_nan():
    assert np.isnan(jax.jit(lambda: integrate(lambda x: jnp.log(x - 0.5), RULE))())


def test_functionals_are_compared_by_identity():
    """They hold functions and arrays, and may be static arguments of a compiled function."""
    first, second = (Functional(lambda x, u, du: u, gauss_legendre(0.0, 1.0)) for _ in range(2))
    assert first != second and len({first, second, first}) == 2
    with pytest.raises(AttributeError):
        first.quadrature = None
