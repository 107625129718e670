"""Answers to the exercises of 22_functional_derivatives."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.answers import right, wrong


def motion(combine):
    def of(L, q):
        def by_q(t):
            return jax.grad(L, argnums=1)(t, q(t), jax.jacfwd(q)(t))

        def momentum(t):
            return jax.grad(L, argnums=2)(t, q(t), jax.jacfwd(q)(t))

        return lambda t: combine(by_q(t), momentum(t), jax.jacfwd(momentum)(t))

    return of


wrong("equations_of_motion", "the sign: L_q comes first")(motion(lambda by_q, p, dp: dp - by_q))
wrong("equations_of_motion", "is added, not taken off")(motion(lambda by_q, p, dp: by_q + dp))
wrong("equations_of_motion", "only L_q")(motion(lambda by_q, p, dp: by_q))
wrong("equations_of_motion", "L_q', not its derivative")(motion(lambda by_q, p, dp: by_q - p))
wrong("equations_of_motion", "the sum over coordinates")(motion(lambda by_q, p, dp: (by_q - dp).sum()))
right("equations_of_motion")(motion(lambda by_q, p, dp: by_q - dp))


@wrong("equations_of_motion", "by the first argument alone")
def partial_derivative(L, q):
    def G(t):
        point = q(t), jax.jacfwd(q)(t)
        by_t = jax.jacfwd(lambda t: jax.grad(L, argnums=2)(t, *point))(t)
        return jax.grad(L, argnums=1)(t, *point) - by_t

    return G


@wrong("equations_of_motion", "L depends on t by itself too")
def time_held(L, q):
    def G(t):
        momentum = jax.jacfwd(lambda s: jax.grad(L, argnums=2)(t, q(s), jax.jacfwd(q)(s)))(t)
        return jax.grad(L, argnums=1)(t, q(t), jax.jacfwd(q)(t)) - momentum

    return G


@wrong("equations_of_motion", "TypeError")
def grad_of_a_vector(L, q):
    return lambda t: jax.grad(L, argnums=1)(t, q(t), jax.grad(q)(t))


@right("equations_of_motion")
def by_chain_rule(L, q):
    def G(t):
        x, v, a = q(t), jax.jacfwd(q)(t), jax.jacfwd(jax.jacfwd(q))(t)
        total = jax.jvp(jax.grad(L, argnums=2), (t, x, v), (jnp.ones_like(t), v, a))[1]
        return jax.grad(L, argnums=1)(t, x, v) - total

    return G


def accelerated(combine, mixed=lambda L: jax.jacfwd(jax.grad(L, argnums=1))):
    def of(L, q, v):
        return combine(jax.hessian(L, argnums=1)(q, v), jax.grad(L)(q, v), mixed(L)(q, v), q, v)

    return of


solve = jnp.linalg.solve
wrong("acceleration", "mixed derivatives are missing")(accelerated(lambda M, F, C, q, v: solve(M, F)))
wrong("acceleration", "the sign of the mixed term")(accelerated(lambda M, F, C, q, v: solve(M, F + C @ v)))
wrong("acceleration", "the mass matrix is missing")(accelerated(lambda M, F, C, q, v: F - C @ v))
wrong("acceleration", "applied, not solved")(accelerated(lambda M, F, C, q, v: M @ (F - C @ v)))
wrong("acceleration", "it is times the velocity")(accelerated(lambda M, F, C, q, v: solve(M, F - C @ q)))
wrong("acceleration", "entry by entry")(accelerated(lambda M, F, C, q, v: (F - C @ v) / jnp.diag(M)))
wrong("acceleration", "transposed")(
    accelerated(lambda M, F, C, q, v: solve(M, F - C @ v), lambda L: jax.jacfwd(jax.grad(L), argnums=1))
)
wrong("acceleration", "another shape")(accelerated(lambda M, F, C, q, v: (F - C @ v) / M))
right("acceleration")(accelerated(lambda M, F, C, q, v: jnp.linalg.inv(M) @ (F - C @ v)))


@right("acceleration")
def by_pseudoinverse(L, q, v):
    mass = jax.hessian(L, 1)(q, v)
    mixed = jax.jacrev(jax.grad(L, argnums=1), argnums=0)(q, v)
    return np.linalg.pinv(np.asarray(mass)) @ np.asarray(jax.grad(L, 0)(q, v) - mixed @ v)


def step(direction, mu=lambda G, n, w: w @ G / w.sum()):
    def conserving_step(energy, n, w, rate):
        G = direction(jax.grad(energy)(n, w), w)
        return n - rate * (G - mu(G, n, w))

    return conserving_step


wrong("conserving_step", "divide it by the weights")(step(lambda g, w: g, lambda G, n, w: G.mean()))
wrong("conserving_step", "though the integral is kept")(step(lambda g, w: g))
wrong("conserving_step", "the mean over nodes")(step(lambda g, w: g / w, lambda G, n, w: G.mean()))
wrong("conserving_step", "not divided by the length")(step(lambda g, w: g / w, lambda G, n, w: w @ G))
wrong("conserving_step", "another way to keep it")(step(lambda g, w: g / w, lambda G, n, w: w @ (G * n) / (w @ n)))
wrong("conserving_step", "mu is the integral of G n;")(step(lambda g, w: g / w, lambda G, n, w: w @ (G * n)))
wrong("conserving_step", "the constraint is missing")(step(lambda g, w: g / w, lambda G, n, w: 0))
wrong("conserving_step", "times the weights")(step(lambda g, w: g * w))
wrong("conserving_step", "uphill")(lambda energy, n, w, rate: step(lambda g, w: g / w)(energy, n, w, -rate))


@wrong("conserving_step", "the step itself must keep it")
def normalised(energy, n, w, rate):
    new = n - rate * jax.grad(energy)(n, w) / w
    return new * (w @ n) / (w @ new)


@right("conserving_step")
def projected_first(energy, n, w, rate):
    g = jax.grad(energy)(n, w)
    return n - rate * (g - g.sum() / w.sum() * w) / w


@right("conserving_step")
def by_a_reparametrisation(energy, n, w, rate):
    def kept(m):  # any m, moved by a constant to the integral of n
        return energy(m + (w @ n - w @ m) / w.sum(), w)

    return [float(a - rate * g / b) for a, g, b in zip(n, jax.grad(kept)(n), w, strict=True)]


TRUTH = {
    "slope squared, sine": False,
    "slope squared, cubic": True,
    "value squared, sine": True,
    "value times slope, sine": True,
    "value times slope, cosine": False,
    "weighted slope": True,
}
wrong("nodes_agree", "f is zero at the ends, but")(TRUTH | {"slope squared, sine": True})
wrong("nodes_agree", "where the cubic is flat")(dict.fromkeys(TRUTH, False))
wrong("nodes_agree", "no slope in L")(TRUTH | {"value squared, sine": False})
wrong("nodes_agree", "L_f' = f here")(TRUTH | {"value times slope, sine": False})
wrong("nodes_agree", "G is zero everywhere")(TRUTH | {"value times slope, cosine": True})
wrong("nodes_agree", "whatever f")(TRUTH | {"weighted slope": False})
wrong("nodes_agree", "expected bool")(TRUTH | {"slope squared, sine": "no"})
right("nodes_agree")(TRUTH)
right("nodes_agree")({name: np.bool_(value) for name, value in reversed(TRUTH.items())})
