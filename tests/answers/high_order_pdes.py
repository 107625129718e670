"""Answers to the exercises of 20_high_order_pdes."""

import jax
import jax.numpy as jnp
import numpy as np

from course import pde, taylor
from tests.answers import right, wrong

T, X = np.eye(2)


def flame(combine, along=(T, X), order=4):
    def residual(u, point):
        t, x = (jnp.asarray(v, point.dtype) for v in along)
        return combine(jax.jvp(u, (point,), (t,))[1], *taylor.derivatives(u, point, x, order))

    return residual


wrong("flame_residual", "t and x are swapped")(flame(lambda t, u, x, xx, _, xxxx: t + u * x + xx + xxxx, (X, T)))
wrong("flame_residual", "u_xxx in place")(flame(lambda t, u, x, xx, xxx: t + u * x + xx + xxx, order=3))
wrong("flame_residual", "the sign of u_xx")(flame(lambda t, u, x, xx, _, xxxx: t + u * x - xx + xxxx))
wrong("flame_residual", "is that of KdV")(flame(lambda t, u, x, xx, _, xxxx: t + 6 * u * x + xx + xxxx))
wrong("flame_residual", "multiplied by factorials")(flame(lambda t, u, x, xx, _, xxxx: t + u * x + 2 * xx + 24 * xxxx))
wrong("flame_residual", "u_t is missing")(flame(lambda t, u, x, xx, _, xxxx: u * x + xx + xxxx))
wrong("flame_residual", "u_x alone")(flame(lambda t, u, x, xx, _, xxxx: t + x + xx + xxxx))
wrong("flame_residual", "another shape")(lambda u, point: jax.grad(u)(point))
right("flame_residual")(flame(lambda t, u, x, xx, _, xxxx: t + u * x + xx + xxxx))


@right("flame_residual")
def nested(u, point):
    def d(f, axis):
        return lambda z: jax.grad(f)(z)[axis]

    u_x, u_xx = d(u, 1), d(d(u, 1), 1)
    return d(u, 0)(point) + u(point) * u_x(point) + u_xx(point) + d(d(u_xx, 1), 1)(point)


def parabola(x, a, s, b):
    return a + s * x + (b - a - s) * x**2


def beam(factor, lift=parabola, use=lambda network, x: network(x)):
    return lambda network, a, s, b: lambda x: lift(x, a, s, b) + factor(x) * use(network, x)


wrong("beam_ansatz", "the lift is missing")(beam(lambda x: x**2 * (1 - x), lambda x, a, s, b: 0))
wrong("beam_ansatz", "the straight line")(beam(lambda x: x**2 * (1 - x), lambda x, a, s, b: a + (b - a) * x))
wrong("beam_ansatz", "a and b are swapped")(beam(lambda x: x**2 * (1 - x), lambda x, a, s, b: parabola(x, b, s, a)))
wrong("beam_ansatz", "leaves the right end alone")(beam(lambda x: x**2 * (1 - x), lambda x, a, s, b: a + s * x))
wrong("beam_ansatz", "the slope on the left")(beam(lambda x: x * (1 - x)))
wrong("beam_ansatz", "move the right end")(beam(lambda x: x**2))
wrong("beam_ansatz", "(1 - x)^2")(beam(lambda x: x**2 * (1 - x) ** 2))
wrong("beam_ansatz", "x^3")(beam(lambda x: x**3 * (1 - x)))
wrong("beam_ansatz", "does not depend on the network")(beam(lambda x: 0))
wrong("beam_ansatz", "the factor is missing")(beam(lambda x: 1))
wrong("beam_ansatz", "hand in the function")(lambda network, a, s, b: jnp.zeros(3))
right("beam_ansatz")(beam(lambda x: 10 * (x**2 - x**3)))
right("beam_ansatz")(
    beam(
        lambda x: jnp.sin(jnp.pi * x / 2) ** 2 * jnp.cos(jnp.pi * x / 2),
        lambda x, a, s, b: a + jnp.sin(s * x) + (b - a - jnp.sin(s)) * x**2,
    )
)


def from_lines(combine, *directions):
    return lambda third: combine(*(third(jnp.array(v, float)) for v in directions))


PAIR = (1, 1), (1, -1)
wrong("u_xxy_from_lines", "2 u_yyy is left over")(from_lines(lambda a, b: (a - b) / 6, *PAIR))
wrong("u_xxy_from_lines", "taken off once")(from_lines(lambda a, b, y: (a - b - y) / 6, *PAIR, (0, 1)))
wrong("u_xxy_from_lines", "3 u_xxy")(from_lines(lambda a, b, y: (a - b - 2 * y) / 2, *PAIR, (0, 1)))
wrong("u_xxy_from_lines", "6 u_xxy")(from_lines(lambda a, b, y: a - b - 2 * y, *PAIR, (0, 1)))
wrong("u_xxy_from_lines", "x and y are swapped")(from_lines(lambda a, b, x: (a + b - 2 * x) / 6, *PAIR, (1, 0)))
wrong("u_xxy_from_lines", "keeps what is even in y")(from_lines(lambda a, b: (a + b) / 6, *PAIR))
wrong("u_xxy_from_lines", "along (1, 1) itself")(from_lines(lambda a: a, (1, 1)))
wrong("u_xxy_from_lines", "shape (2,)")(lambda third: third(jnp.ones(3)))


@wrong("u_xxy_from_lines", "four are enough")
def five_lines(third):
    lines, weights = taylor.interpolation((2, 1))
    found = sum(w * third(jnp.asarray(v)) for v, w in zip(lines, weights, strict=True))
    return found + sum(0 * third(jnp.asarray(v)) for v in lines)


@right("u_xxy_from_lines")
def by_interpolation(third):
    lines, weights = taylor.interpolation((2, 1))
    return sum(w * third(jnp.asarray(v)) for v, w in zip(lines, weights, strict=True))


@right("u_xxy_from_lines")
def by_least_squares(third):
    v = np.array([[1, 2], [1, -1], [1, 0], [0, 1]])
    x, y = v.T
    matrix = np.stack([x**3, 3 * x**2 * y, 3 * x * y**2, y**3], axis=1)
    return np.linalg.solve(matrix, np.array([float(third(row)) for row in v]))[1]


def galerkin(rows, power=2, sign=1):
    """The right answer without training, and wrong ones: least squares over polynomials that meet the conditions."""

    def solve(load, k, key):
        x = np.linspace(0.01, 0.99, 60)
        basis = [
            np.polynomial.Polynomial([0, 1, -1]) ** power * np.polynomial.Polynomial([0] * n + [1]) for n in range(7)
        ]
        matrix = np.stack([rows(p, k)(x) for p in basis], axis=1)
        c = np.linalg.lstsq(matrix, sign * np.asarray(load(jnp.float32(x)), float), rcond=None)[0]
        found = jnp.asarray(sum(a * p for a, p in zip(c, basis, strict=True)).coef[::-1].copy(), jnp.float32)
        return lambda x: jnp.polyval(found, x)

    return solve


wrong("beam_on_springs", "the springs are missing")(galerkin(lambda p, k: p.deriv(4)))
wrong("beam_on_springs", "the sign of k u")(galerkin(lambda p, k: p.deriv(4) - k * p))
wrong("beam_on_springs", "the sign of the load")(galerkin(lambda p, k: p.deriv(4) + k * p, sign=-1))
wrong("beam_on_springs", "u' is not zero")(galerkin(lambda p, k: k * p - p.deriv(2), power=1))
wrong("beam_on_springs", "u is zero")(lambda load, k, key: lambda x: 0.0 * x)
wrong("beam_on_springs", "hand in the function")(lambda load, k, key: jnp.zeros(101))


def trained(steps, ansatz, penalty=0.0, rate=2e-2):
    def solve(load, k, key):
        def loss_fn(params, key):
            def square(z):
                value, *_, fourth = taylor.derivatives(ansatz(params), z, jnp.ones(1, z.dtype), 4)
                return ((fourth + k * value - load(z[0])) / 300) ** 2

            z = jax.random.uniform(key, (32, 1))
            ends = sum(ansatz(params)(jnp.full(1, end)) ** 2 for end in (0.0, 1.0))
            return jax.vmap(square)(z).mean() + penalty * ends

        optimizer = pde.scaled_cosine_adam(steps, rate, d=1)
        state = pde.start(pde.init_mlp(key, (1, 16, 1)), optimizer, key)
        state, _ = pde.train(loss_fn, optimizer, state, steps, chunk=steps)
        return lambda x: ansatz(state.params)(jnp.reshape(x, 1))

    return solve


wrong("beam_on_springs", "build them into the ansatz")(
    trained(200, lambda params: lambda z: pde.mlp(params, z), penalty=1.0)
)
wrong("beam_on_springs", "too few steps")(
    trained(10, lambda params: lambda z: (4 * z[0] * (1 - z[0])) ** 2 * pde.mlp(params, 2 * z - 1))
)
right("beam_on_springs")(galerkin(lambda p, k: p.deriv(4) + k * p))
right("beam_on_springs")(
    trained(400, lambda params: lambda z: z[0] ** 2 * (1 - z[0]) ** 2 * 10 * pde.mlp(params, 4 * z - 2))
)


def eddies(turn=lambda x, y: (y, -x), terms=lambda rate, carried, spread, nu: rate + carried - nu * spread, sign=-1.0):
    def residual(psi, nu, t, x):
        omega = lambda t, x: sign * taylor.laplacian(lambda x: psi(t, x), x)  # noqa: E731
        v = jnp.stack(turn(*jax.grad(psi, argnums=1)(t, x)))
        carried = v @ jax.grad(omega, argnums=1)(t, x)
        return terms(jax.grad(omega)(t, x), carried, taylor.laplacian(lambda x: omega(t, x), x), nu)

    return residual


wrong("eddy_residual", "turns the other way")(eddies(lambda x, y: (-y, x)))
wrong("eddy_residual", "the gradient of psi")(eddies(lambda x, y: (x, y)))
wrong("eddy_residual", "the sign of the vorticity")(eddies(sign=1.0))
wrong("eddy_residual", "v . grad omega is lacking")(eddies(terms=lambda rate, carried, spread, nu: rate - nu * spread))
wrong("eddy_residual", "the sign of the viscous term")(
    eddies(terms=lambda rate, carried, spread, nu: rate + carried + nu * spread)
)
wrong("eddy_residual", "nu is lacking")(eddies(terms=lambda rate, carried, spread, nu: rate + carried - spread))
wrong("eddy_residual", "omega_t is lacking")(eddies(terms=lambda rate, carried, spread, nu: carried - nu * spread))
right("eddy_residual")(eddies())


@right("eddy_residual")
def by_nested_jacobians(psi, nu, t, x):
    def velocity(t, x):
        slope = jax.grad(psi, argnums=1)(t, x)
        return jnp.array([[0.0, 1.0], [-1.0, 0.0]]) @ slope

    def spin(t, x):
        slopes = jax.jacfwd(velocity, argnums=1)(t, x)
        return slopes[1, 0] - slopes[0, 1]

    viscous = jnp.trace(jax.hessian(spin, argnums=1)(t, x))
    return jax.grad(spin)(t, x) + velocity(t, x) @ jax.grad(spin, argnums=1)(t, x) - nu * viscous
