"""Answers to the exercises of 22b_more_functionals."""

import jax
import jax.numpy as jnp

from course import functional
from course.functional import Functional, compose, integrate, nabla
from tests.answers import right, wrong


def by_variation(density):
    def work(w, g, stiffness, load, rule):
        lagrangian = lambda x, w, slope, bend: density(w, slope, bend, stiffness(x), load(x))  # noqa: E731
        return functional.variation(Functional(lagrangian, rule, order=2), w)(g)

    return work


wrong("virtual_work", "w' in place of w''")(by_variation(lambda w, slope, bend, s, q: s * slope**2 / 2 - q * w))
wrong("virtual_work", "the sign of the load")(by_variation(lambda w, slope, bend, s, q: s * bend**2 / 2 + q * w))
wrong("virtual_work", "the load is lacking")(by_variation(lambda w, slope, bend, s, q: s * bend**2 / 2))
wrong("virtual_work", "the factor 1/2")(by_variation(lambda w, slope, bend, s, q: s * bend**2 - q * w))
wrong("virtual_work", "the stiffness is lacking")(by_variation(lambda w, slope, bend, s, q: bend**2 / 2 - q * w))


def energy_of(stiffness, load, rule):
    return Functional(lambda x, w, slope, bend: stiffness(x) * bend**2 / 2 - load(x) * w, rule, order=2)


@wrong("virtual_work", "what g does at the ends")
def paired_with_the_gradient(w, g, stiffness, load, rule):
    gradient = functional.functional_gradient(energy_of(stiffness, load, rule), w)
    return integrate(compose(jnp.multiply, gradient, g), rule)


@wrong("virtual_work", "the energy itself")
def no_derivative(w, g, stiffness, load, rule):
    return energy_of(stiffness, load, rule)(w)


@wrong("virtual_work", "g is a direction")
def a_whole_step(w, g, stiffness, load, rule):
    energy = energy_of(stiffness, load, rule)
    return energy(lambda x: w(x) + g(x)) - energy(w)


@right("virtual_work")
def by_hand(w, g, stiffness, load, rule):
    bend = lambda f: nabla(nabla(f))  # noqa: E731
    return integrate(lambda x: stiffness(x) * bend(w)(x) * bend(g)(x) - load(x) * g(x), rule)


@right("virtual_work")
def by_a_number(w, g, stiffness, load, rule):
    return jax.grad(lambda e: energy_of(stiffness, load, rule)(lambda x: w(x) + e * g(x)))(0.0)


def from_matrix(combine):
    def potential(kernel, outer, n, nodes, weights):
        K = jax.vmap(jax.vmap(kernel, (None, 0)), (0, None))(nodes, nodes)
        return combine(K, weights, n, jax.vmap(outer)(nodes))

    return potential


wrong("potential_at_nodes", "so K and K^T both count")(from_matrix(lambda K, w, n, v: K @ (w * n) + v))
wrong("potential_at_nodes", "K^T alone")(from_matrix(lambda K, w, n, v: K.T @ (w * n) + v))
wrong("potential_at_nodes", "moved as n(x) only")(from_matrix(lambda K, w, n, v: K @ (w * n) / 2 + v))
wrong("potential_at_nodes", "the factor 1/2")(from_matrix(lambda K, w, n, v: (K + K.T) @ (w * n) + v))
wrong("potential_at_nodes", "the weights are lacking")(from_matrix(lambda K, w, n, v: (K + K.T) @ n / 2 + v))
wrong("potential_at_nodes", "V is lacking")(from_matrix(lambda K, w, n, v: (K + K.T) @ (w * n) / 2))
wrong("potential_at_nodes", "V is multiplied by n")(from_matrix(lambda K, w, n, v: (K + K.T) @ (w * n) / 2 + v * n))


def energy_at_nodes(kernel, outer, n, nodes, weights):
    K = jax.vmap(jax.vmap(kernel, (None, 0)), (0, None))(nodes, nodes)
    return (weights * n) @ K @ (weights * n) / 2 + weights @ (jax.vmap(outer)(nodes) * n)


wrong("potential_at_nodes", "divide it by the weights")(jax.grad(energy_at_nodes, argnums=2))


@right("potential_at_nodes")
def gradient_over_weights(kernel, outer, n, nodes, weights):
    return jax.grad(energy_at_nodes, argnums=2)(kernel, outer, n, nodes, weights) / weights


@right("potential_at_nodes")
def by_loops(kernel, outer, n, nodes, weights):
    both = [sum((kernel(x, y) + kernel(y, x)) * w * m for y, w, m in zip(nodes, weights, n)) / 2 for x in nodes]  # noqa: B905
    return jnp.stack(both) + jnp.stack([outer(x) for x in nodes])


def newton(steps=10, sign=-1.0):
    def held(objective, constraint, target, start):
        saddle = lambda b: objective(b[:-1]) + sign * b[-1] * (constraint(b[:-1]) - target)  # noqa: E731
        slope, normal = jax.grad(objective)(start), jax.grad(constraint)(start)
        both = jnp.append(start, -sign * slope @ normal / (normal @ normal))
        for _ in range(steps):
            both = both - jnp.linalg.solve(jax.hessian(saddle)(both), jax.grad(saddle)(both))
        return both[:-1], both[-1]

    return held


@wrong("held_exactly", "a penalty pulls only")
def penalty(objective, constraint, target, start):
    z, loss = start, lambda z: objective(z) + 100 * (constraint(z) - target) ** 2
    for _ in range(10):
        z = z - jnp.linalg.solve(jax.hessian(loss)(z), jax.grad(loss)(z))
    return z, -200 * (constraint(z) - target)


@wrong("held_exactly", "the constraint is left out")
def free(objective, constraint, target, start):
    z = start - jnp.linalg.solve(jax.hessian(objective)(start), jax.grad(objective)(start))
    return z, 0.0


@wrong("held_exactly", "the objective is left out")
def projected(objective, constraint, target, start):
    normal = jax.grad(constraint)(start)
    z = start + normal * (target - constraint(start)) / (normal @ normal)
    return z, jax.grad(objective)(z) @ normal / (normal @ normal)


wrong("held_exactly", "the sign of mu")(newton(sign=1.0))
wrong("held_exactly", "take some more")(newton(steps=1))
wrong("held_exactly", "expected two results")(lambda *a: newton()(*a)[0])
right("held_exactly")(newton(6))


@right("held_exactly")
def augmented(objective, constraint, target, start):
    def loss(z, mu):
        gap = constraint(z) - target
        return objective(z) - mu * gap + 500 * gap**2

    @jax.jit
    def step(z, mu):
        return z - jnp.linalg.solve(jax.hessian(loss)(z, mu), jax.grad(loss)(z, mu))

    z, mu = start, 0.0
    for _ in range(8):
        for _ in range(3):
            z = step(z, mu)
        mu = mu - 1000 * (constraint(z) - target)
    return z, mu
