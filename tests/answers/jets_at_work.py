"""Answers to the exercises of 17b_jets_at_work."""

import jax
import jax.numpy as jnp

from course import taylor
from tests.answers import right, wrong

wrong("lines_needed", "pair of opposites")({"xyz": 8, "xxyy": 9, "xxyz": 12, "xxyyzz": 27})
wrong("lines_needed", "the direction that is zero")({"xyz": 4, "xxyy": 5, "xxyz": 6, "xxyyzz": 14})
wrong("lines_needed", "the order of the derivative")({"xyz": 3, "xxyy": 4, "xxyz": 4, "xxyyzz": 6})
wrong("lines_needed", "equal axes share their directions")({"xyz": 4, "xxyy": 8, "xxyz": 8, "xxyyzz": 32})
wrong("lines_needed", "power + 1 many")({"xyz": 1, "xxyy": 4, "xxyz": 2, "xxyyzz": 8})
wrong("lines_needed", "expected a dict")((4, 4, 6, 13))
wrong("lines_needed", "only in part")({"xyz": 4, "xxyy": 4, "xxyz": 6, "xxyyzz": ...})
right("lines_needed")({"xyz": 4, "xxyy": 4, "xxyz": 6, "xxyyzz": 13})
right("lines_needed")({"xxyyzz": jnp.asarray(13), "xxyz": 6, "xxyy": 4, "xyz": 4})


def by_eigenvectors(directions=lambda w, q: q.T, weights=lambda w: w):
    def operator(f, x, a):
        w, q = jnp.linalg.eigh(a)
        return taylor.weighted(f, x, directions(w, q), weights(w), order=2)

    return operator


wrong("constant_coefficients", "the rows of q")(by_eigenvectors(lambda w, q: q))
wrong("constant_coefficients", "the eigenvalues are lost")(by_eigenvectors(weights=jnp.ones_like))
wrong("constant_coefficients", "the signs of the eigenvalues")(by_eigenvectors(weights=jnp.abs))
wrong("constant_coefficients", "three times")(by_eigenvectors(lambda w, q: w[:, None] * q.T))
wrong("constant_coefficients", "a^T a")(lambda f, x, a: taylor.laplacian(f, x, a))
wrong("constant_coefficients", "Cholesky wants")(lambda f, x, a: taylor.laplacian(f, x, jnp.linalg.cholesky(a).T))
wrong("constant_coefficients", "the diagonal of `a` only")(
    lambda f, x, a: taylor.weighted(f, x, jnp.eye(len(x)), jnp.diag(a), order=2)
)
wrong("constant_coefficients", "Reverse-mode differentiation")(lambda f, x, a: (a * jax.hessian(f)(x)).sum())
wrong("constant_coefficients", "the whole Hessian")(lambda f, x, a: (a * jax.jacfwd(jax.jacfwd(f))(x)).sum())


@right("constant_coefficients")
def by_nested_jvp(f, x, a):
    w, q = jnp.linalg.eigh(a)

    def second(v):
        return jax.jvp(lambda x: jax.jvp(f, (x,), (v,))[1], (x,), (v,))[1]

    return w @ jax.vmap(second, in_axes=1)(q)


@right("constant_coefficients")
def plus_and_minus(f, x, a):
    w, q = jnp.linalg.eigh(a)
    scaled = (q * jnp.sqrt(jnp.abs(w))).T
    positive, negative = ((w > 0)[:, None] * scaled, (w < 0)[:, None] * scaled)
    return taylor.laplacian(f, x, positive, compress=False) - taylor.laplacian(f, x, negative, compress=False)


@right("constant_coefficients")
def one_line_after_the_other(f, x, a):
    w, q = jnp.linalg.eigh(a)
    along = jax.lax.map(lambda v: taylor.derivatives(f, x, v, order=2)[2], q.T)
    return (w * along).sum()


def trained(loss, operator=taylor.laplacian):
    def gradient(u, params, x, g, k):
        def total(params):
            values = jax.vmap(u, (None, 0))(params, x)
            laplacians = jax.vmap(lambda x: operator(lambda z: u(params, z), x))(x)
            return loss(values, laplacians, g, k)

        return jax.grad(total)(params)

    return gradient


def half(f, x):
    return sum(taylor.derivatives(f, x, v, 2)[2] / 2 for v in jnp.eye(len(x), dtype=x.dtype))


right_loss = lambda u, lap, g, k: jnp.mean((lap + k**2 * u - g) ** 2)  # noqa: E731
wrong("helmholtz_gradient", "k, not its square")(trained(lambda u, lap, g, k: jnp.mean((lap + k * u - g) ** 2)))
wrong("helmholtz_gradient", "the sign of k² u")(trained(lambda u, lap, g, k: jnp.mean((lap - k**2 * u - g) ** 2)))
wrong("helmholtz_gradient", "the sum over the points")(trained(lambda u, lap, g, k: jnp.sum((lap + k**2 * u - g) ** 2)))
wrong("helmholtz_gradient", "the square of the mean")(trained(lambda u, lap, g, k: jnp.mean(lap + k**2 * u - g) ** 2))
wrong("helmholtz_gradient", "g is lacking")(trained(lambda u, lap, g, k: jnp.mean((lap + k**2 * u) ** 2)))
wrong("helmholtz_gradient", "it was stopped")(
    trained(lambda u, lap, g, k: right_loss(u, jax.lax.stop_gradient(lap), g, k))
)
wrong("helmholtz_gradient", "Taylor coefficients")(trained(right_loss, half))
wrong("helmholtz_gradient", "x must be")(
    lambda u, params, x, g, k: taylor.laplacian(lambda z: u(params, z), x)  # no vmap
)
right("helmholtz_gradient")(trained(right_loss))
right("helmholtz_gradient")(trained(right_loss, lambda f, x: jnp.trace(jax.hessian(f)(x))))


@right("helmholtz_gradient")
def point_by_point(u, params, x, g, k):
    def of_one(params, x, g):
        value, laplacian = taylor.value_and_laplacian(lambda z: u(params, z), x, compress=False)
        return (laplacian + k**2 * value - g) ** 2

    grads = jax.vmap(jax.grad(of_one), (None, 0, 0))(params, x, g)
    return jax.tree.map(lambda part: part.mean(0), grads)


def energies(kinetic):
    def local_energy(log_psi, potential, walkers):
        def of_one(x):
            lap = taylor.laplacian(log_psi, x, coordinates="all")
            return kinetic(lap, jax.grad(log_psi)(x), log_psi(x)) + potential(x)

        return jax.vmap(of_one)(walkers)

    return local_energy


wrong("local_energy", "the square of the gradient is lacking")(energies(lambda lap, g, f: -lap / 2))
wrong("local_energy", "the sign of the gradient's square")(energies(lambda lap, g, f: -(lap - (g**2).sum()) / 2))
wrong("local_energy", "divided by log psi")(energies(lambda lap, g, f: -lap / f / 2))
wrong("local_energy", "the factor 1/2")(energies(lambda lap, g, f: -(lap + (g**2).sum())))
wrong("local_energy", "added up before they are squared")(energies(lambda lap, g, f: -(lap + g.sum() ** 2) / 2))
wrong("local_energy", "not divided by psi")(energies(lambda lap, g, f: -(lap + (g**2).sum()) * jnp.exp(f) / 2))
wrong("local_energy", "the mean over the walkers")(
    lambda *a: energies(lambda lap, g, f: -(lap + (g**2).sum()) / 2)(*a).mean()
)


@wrong("local_energy", "stay with the logarithm")
def of_psi_itself(log_psi, potential, walkers):
    psi = lambda x: jnp.exp(log_psi(x))  # noqa: E731
    one = lambda x: -taylor.laplacian(psi, x, coordinates="all") / psi(x) / 2 + potential(x)  # noqa: E731
    return jax.vmap(one)(walkers)


right("local_energy")(energies(lambda lap, g, f: -(lap + jnp.vdot(g, g)) / 2))


@right("local_energy")
def of_psi_over_its_value_here(log_psi, potential, walkers):
    def one(x):
        psi = lambda z: jnp.exp(log_psi(z.reshape(x.shape)) - log_psi(x))  # noqa: E731
        return potential(x) - jnp.trace(jax.hessian(psi)(x.reshape(-1))) / 2

    return jax.vmap(one)(walkers)
