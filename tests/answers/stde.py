"""Answers to the exercises of 18_stde."""

import jax
import jax.numpy as jnp

from course import stde, taylor
from tests.answers import right, wrong


def sparse(factor=lambda d, s: d / s, order=3, draw=None):
    def estimate(u, x, key, samples):
        d = len(x)
        axes = draw(key, d, samples) if draw else jax.random.choice(key, d, (samples,), replace=False)
        return taylor.weighted(u, x, axes, jnp.full(samples, factor(d, samples)), order=order)

    return estimate


wrong("third_derivatives", "drawn with replacement")(sparse(draw=lambda key, d, s: jax.random.choice(key, d, (s,))))
wrong("third_derivatives", "drawn with replacement")(sparse(draw=lambda key, d, s: jax.random.randint(key, (s,), 0, d)))
wrong("third_derivatives", "the sum of the drawn terms")(sparse(lambda d, s: 1.0))
wrong("third_derivatives", "the mean of the drawn terms")(sparse(lambda d, s: 1 / s))
wrong("third_derivatives", "upside down")(sparse(lambda d, s: s / d))
wrong("third_derivatives", "the power of d")(sparse(lambda d, s: d**3 / s))
wrong("third_derivatives", "Taylor coefficients")(sparse(lambda d, s: d / s / 6))
wrong("third_derivatives", "the key is not used")(sparse(draw=lambda key, d, s: jnp.arange(s)))
wrong("third_derivatives", "the key is not used")(
    sparse(draw=lambda key, d, s: jax.random.choice(jax.random.key(0), d, (s,), replace=False))
)
wrong("third_derivatives", "neighbours")(
    sparse(draw=lambda key, d, s: (jax.random.randint(key, (), 0, d) + jnp.arange(s)) % d)
)
wrong("third_derivatives", "third derivatives along axes, times a common factor")(sparse(order=2))


@wrong("third_derivatives", "mixed derivatives come in")
def dense_signs(u, x, key, samples):
    v = jax.random.rademacher(key, (samples, len(x)), x.dtype)
    return taylor.weighted(u, x, v, jnp.full(samples, 1 / samples), order=3)


right("third_derivatives")(sparse(draw=lambda key, d, s: jax.random.permutation(key, d)[:s]))


@right("third_derivatives")
def by_nested_jvp(u, x, key, samples):
    axes = jnp.argsort(jax.random.uniform(key, (len(x),)))[:samples]

    def third(axis):
        f, v = u, jnp.zeros_like(x).at[axis].set(1.0)
        for _ in range(3):
            f = lambda x, f=f: jax.jvp(f, (x,), (v,))[1]  # noqa: E731
        return f(x)

    return len(x) * jax.vmap(third)(axes).mean()


def each(residual, x, key):
    return jax.vmap(residual)(x, jax.random.split(key, len(x)))


@wrong("fair_loss", "the same samples twice")
def as_it_was(residual, x, key):
    return jnp.mean(each(residual, x, key) ** 2)


@wrong("fair_loss", "the same samples twice")
def one_key_in_both(residual, x, key):
    return jnp.mean(each(residual, x, key) * each(residual, x, key))


@wrong("fair_loss", "all points use the same two keys")
def shared_by_all_points(residual, x, key):
    one, two = jax.random.split(key)
    return jnp.mean(jax.vmap(lambda x: residual(x, one) * residual(x, two))(x))


@wrong("fair_loss", "the square of the mean")
def product_of_means(residual, x, key):
    one, two = jax.random.split(key)
    return each(residual, x, one).mean() * each(residual, x, two).mean()


@wrong("fair_loss", "the sum over the points")
def a_sum(residual, x, key):
    one, two = jax.random.split(key)
    return jnp.sum(each(residual, x, one) * each(residual, x, two))


@wrong("fair_loss", "a key that is made inside")
def own_key(residual, x, key):
    one, two = jax.random.split(jax.random.key(0))
    return jnp.mean(each(residual, x, one) * each(residual, x, two))


@wrong("fair_loss", "not 0 on average")
def mean_of_two_squared(residual, x, key):
    one, two = jax.random.split(key)
    return jnp.mean(((each(residual, x, one) + each(residual, x, two)) / 2) ** 2)


@right("fair_loss")
def split_at_each_point(residual, x, key):
    def product(x, key):
        one, two = jax.random.split(key)
        return residual(x, one) * residual(x, two)

    return jax.vmap(product)(x, jax.random.split(key, len(x))).mean()


@right("fair_loss")
def in_a_loop(residual, x, key):
    total = 0.0
    for n, point in enumerate(x):
        one, two = (jax.random.fold_in(key, 2 * n + side) for side in (0, 1))
        total = total + residual(point, one) * residual(point, two)
    return total / len(x)


def dense(law=jax.random.normal, factor=lambda s: 1 / (3 * s)):
    def estimate(u, x, key, samples):
        v = law(key, (samples, len(x)), x.dtype)
        return taylor.weighted(u, x, v, jnp.full(samples, factor(samples)), order=4)

    return estimate


def repeated(key, shape, dtype):
    return jnp.broadcast_to(jax.random.normal(key, shape[1:], dtype), shape)


wrong("biharmonic_by_normals", "three times too large")(dense(factor=lambda s: 1 / s))
wrong("biharmonic_by_normals", "Rademacher signs: E")(dense(jax.random.rademacher))
wrong("biharmonic_by_normals", "Rademacher signs, and not divided")(dense(jax.random.rademacher, lambda s: 1 / s))
wrong("biharmonic_by_normals", "the sum over the directions, not")(dense(factor=lambda s: 1 / 3))
wrong("biharmonic_by_normals", "Taylor coefficients")(dense(factor=lambda s: 1 / (3 * s) / 24))
wrong("biharmonic_by_normals", "all directions of an estimate are the same")(dense(repeated))
wrong("biharmonic_by_normals", "the key is not used")(
    dense(lambda key, shape, dtype: jax.random.normal(jax.random.key(0), shape, dtype))
)
wrong("biharmonic_by_normals", "a moment")(dense(jax.random.uniform))
right("biharmonic_by_normals")(dense())


@right("biharmonic_by_normals")
def on_the_sphere(u, x, key, samples):
    v = jax.random.normal(key, (samples, len(x)), x.dtype)
    v = v / jnp.linalg.norm(v, axis=1, keepdims=True)
    along = jax.vmap(lambda v: taylor.derivatives(u, x, v, order=4)[4])(v)
    return len(x) * (len(x) + 2) / 3 * along.mean()


@right("biharmonic_by_normals")
def one_key_a_direction(u, x, key, samples):
    def one(key):
        return taylor.derivatives(u, x, jax.random.normal(key, x.shape, x.dtype), order=4)[-1]

    return jax.lax.map(one, jax.random.split(key, samples)).mean() / 3


def gram(surface, q):
    jacobian = jax.jacfwd(surface)(q)
    return jacobian.T @ jacobian


def by_flux(outer, inner, matrix=jnp.linalg.inv):
    def operator(surface, u, q):
        g = lambda q: gram(surface, q)  # noqa: E731
        flow = lambda q: inner(g(q)) * (matrix(g(q)) @ jax.grad(u)(q))  # noqa: E731
        return stde.apply(stde.divergence(2), flow, q) / outer(g(q))

    return operator


root = lambda g: jnp.sqrt(jnp.linalg.det(g))  # noqa: E731
one = lambda g: 1.0  # noqa: E731
wrong("on_surface", "as if the surface were flat")(lambda surface, u, q: taylor.laplacian(u, q))
wrong("on_surface", "the terms of first order")(
    lambda surface, u, q: jnp.sum(jnp.linalg.inv(gram(surface, q)) * jax.hessian(u)(q))
)
wrong("on_surface", "its inverse belongs")(by_flux(root, root, lambda g: g))
wrong("on_surface", "where its root belongs")(by_flux(jnp.linalg.det, jnp.linalg.det))
wrong("on_surface", "without the root of det g")(by_flux(one, one))
wrong("on_surface", "not divided by the root")(by_flux(one, root))
wrong("on_surface", "the sign")(lambda surface, u, q: -by_flux(root, root)(surface, u, q))
wrong("on_surface", "expected metric (2, 2)")(
    lambda surface, u, q: stde.apply(
        stde.laplace_beltrami(lambda q: jax.jacfwd(surface)(q) @ jax.jacfwd(surface)(q).T, 2), u, q
    )
)
right("on_surface")(by_flux(root, root))


@right("on_surface")
def with_a_solve(surface, u, q):
    def flow(q):
        jacobian = jax.jacrev(surface)(q)
        g = jacobian.T @ jacobian
        return jnp.sqrt(jnp.linalg.det(g)) * jnp.linalg.solve(g, jax.grad(u)(q))

    area = jnp.linalg.norm(jnp.cross(*jax.jacfwd(surface)(q).T))
    return jnp.trace(jax.jacfwd(flow)(q)) / area
