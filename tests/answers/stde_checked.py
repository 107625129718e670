"""Answers to the exercises of 18b_stde_checked."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.answers import right, wrong

wrong("jet_contents", "two blocks of the same size")({"xxy": 6, "yy": 6, "xxxy": 10, "xyy": 30})
wrong("jet_contents", "divide by 2!")({"xxy": 12, "yy": 12, "xxxy": 20, "xyy": 60})
wrong("jet_contents", "blocks of size 1 have no order")({"xxy": 12, "yy": 3, "xxxy": 60, "xyy": 15})
wrong("jet_contents", "several ways to split")({"xxy": 1, "yy": 1, "xxxy": 1, "xyy": 1})
wrong("jet_contents", "the order of the letters")({"xxy": 3, "yy": 1, "xxxy": 4, "xyy": 3})
wrong("jet_contents", "k! has gone in")({"xxy": 24, "yy": 24, "xxxy": 120, "xyy": 120})
wrong("jet_contents", "only in part")({"xxy": 6, "yy": 3, "xxxy": 10, "xyy": ...})
right("jet_contents")({"xxy": 6, "yy": 3, "xxxy": 10, "xyy": 15})
right("jet_contents")({"xyy": jnp.asarray(15), "xxxy": np.int64(10), "yy": 3, "xxy": 6})


def sized(variance, accurate=lambda v, tolerance, trace: np.sqrt(v) <= tolerance * abs(trace)):
    def sample(diagonal, tolerance):
        for size in range(1, len(diagonal) + 1):
            v = max(variance(np.asarray(diagonal), size), 0.0)
            if accurate(v, tolerance, diagonal.sum()):
                return size
        return len(diagonal)

    return sample


def exact(h, size):
    return len(h) ** 2 * h.var(ddof=1) * (1 / size - 1 / len(h))


wrong("smallest_sample", "not the smallest sample")(sized(lambda h, size: len(h) ** 2 * h.var() / size))
wrong("smallest_sample", "not the smallest sample")(sized(lambda h, size: exact(h, size) / len(h) ** 2))
wrong("smallest_sample", "the tolerance is relative")(sized(exact, lambda v, tol, trace: np.sqrt(v) <= tol))
wrong("smallest_sample", "not the smallest sample")(sized(exact, lambda v, tol, trace: v <= tol * abs(trace)))
wrong("smallest_sample", "one too few")(lambda h, tolerance: sized(exact)(h, tolerance) - 1)
wrong("smallest_sample", "one too many")(lambda h, tolerance: sized(exact)(h, tolerance) + 1)
wrong("smallest_sample", "expected a whole number")(lambda h, tolerance: sized(exact)(h, tolerance) + 0.5)
right("smallest_sample")(sized(exact))


@right("smallest_sample")
def solved_for_the_size(diagonal, tolerance):
    d, v = len(diagonal), jnp.var(jnp.asarray(diagonal), ddof=1)
    inverse = (tolerance * abs(diagonal.sum())) ** 2 / (d**2 * max(float(v), 1e-12)) + 1 / d
    return max(1, int(np.ceil(1 / inverse - 1e-6)))


def of_inner(g, A, b, x):
    return jax.hessian(g)(A @ x + b)


wrong("exact_laplacian", "the Laplacian of g")(lambda g, A, b, x: jnp.trace(of_inner(g, A, b, x)))
wrong("exact_laplacian", "only the diagonal of g's Hessian")(
    lambda g, A, b, x: jnp.diag(of_inner(g, A, b, x)) @ (A**2).sum(1)
)
wrong("exact_laplacian", "without b")(lambda g, A, b, x: jnp.sum(of_inner(g, A, 0, x) * (A @ A.T)))
wrong("exact_laplacian", "is not that of the product")(
    lambda g, A, b, x: jnp.trace(of_inner(g, A, b, x)) * jnp.trace(A @ A.T)
)
wrong("exact_laplacian", "there is a matrix")(lambda g, A, b, x: jnp.trace(jax.hessian(lambda x: g(A @ x + b))(x)))
wrong("exact_laplacian", "there is a matrix")(lambda g, A, b, x: jnp.trace(A.T @ of_inner(g, A, b, x) @ A))
wrong("exact_laplacian", "the sum of all second derivatives")(lambda g, A, b, x: (A.T @ of_inner(g, A, b, x) @ A).sum())
wrong("exact_laplacian", "TypeError")(lambda g, A, b, x: jnp.sum(of_inner(g, A, b, x) * (A.T @ A)))


@right("exact_laplacian")
def column_by_column(g, A, b, x):
    return jnp.einsum("id,ij,jd->", A, of_inner(g, A, b, x), A)


@right("exact_laplacian")
def along_eigenvectors(g, A, b, x):
    values, vectors = jnp.linalg.eigh(A @ A.T)
    slopes = jax.grad(g)
    rows = jax.vmap(lambda v: v @ jax.jvp(slopes, (A @ x + b,), (v,))[1])(vectors.T)
    return rows @ values


def fokker_planck(flow=None, factor=0.5, square=lambda b: b @ b.T, sign=1.0):
    def rate(p, drift, noise, x):
        def spread(x):
            return jnp.einsum("ijj->i", jax.jacfwd(lambda x: square(noise(x)) * p(x))(x))

        def whole(x):
            return sign * drift(x) * p(x) - factor * spread(x)

        return -jnp.trace(jax.jacfwd(lambda x: flow(p, drift, noise, x) if flow else whole(x))(x))

    return rate


wrong("density_rate", "in flux form")(
    fokker_planck(lambda p, b, B, x: b(x) * p(x) - B(x) @ B(x).T @ jax.grad(p)(x) / 2)
)
wrong("density_rate", "the factor 1/2")(fokker_planck(factor=1.0))
wrong("density_rate", "B^T B")(fokker_planck(square=lambda b: b.T @ b))
wrong("density_rate", "the sign of the drift")(fokker_planck(sign=-1.0))
wrong("density_rate", "the drift alone")(fokker_planck(factor=0.0))
wrong("density_rate", "the noise alone")(fokker_planck(sign=0.0))
wrong("density_rate", "the sign of the noise")(fokker_planck(factor=-0.5))
wrong("density_rate", "the equation of means")(
    lambda p, b, B, x: b(x) @ jax.grad(p)(x) + jnp.sum(B(x) @ B(x).T * jax.hessian(p)(x)) / 2
)


@wrong("density_rate", "-p div b")
def carried_along(p, drift, noise, x):
    return -drift(x) @ jax.grad(p)(x) + fokker_planck(sign=0.0)(p, drift, noise, x)


@wrong("density_rate", "it depends on x, too")
def frozen_noise(p, drift, noise, x):
    return fokker_planck()(p, drift, lambda z: noise(x), x)


right("density_rate")(fokker_planck())


@right("density_rate")
def by_the_hessian_of_the_product(p, drift, noise, x):
    away = jnp.trace(jax.jacrev(lambda x: drift(x) * p(x))(x))
    second = jax.jacfwd(jax.jacrev(lambda x: noise(x) @ noise(x).T * p(x)))(x)
    return jnp.einsum("ijij", second) / 2 - away
