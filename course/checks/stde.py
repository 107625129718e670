"""Checks of the exercises on sampled operators, squared estimates, order 4, curved surfaces. Needs NumPy and JAX.

Lesson: 18_stde.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from course.checks.core import check, float64, function, same, wrong

LESSON = "18_stde"


@check(
    LESSON,
    "Draw axes, take a third derivative along each, add up, and scale such that the mean over draws is the whole sum.",
    "jax.random.choice(key, d, (samples,), replace=False) draws axes without replacement.",
    "Each axis is drawn with probability samples / d, so the sum of the drawn ones is multiplied by d / samples.",
    points=3,
)
def third_derivatives(rng: np.random.Generator, third_derivatives: Any) -> None:
    """A sparse estimate of the sum of u_iii: on this u the estimate says which axes were drawn, how often."""
    answer = function(third_derivatives, "third_derivatives(u, x, key, samples)")
    d, samples, keys = 8, int(rng.integers(2, 5)), 600
    with float64():
        values = 16.0 ** jnp.asarray(rng.permutation(d))  # u_iii, one hexadecimal digit each
        x = jnp.asarray(rng.normal(size=d))

        def u(x: jax.Array) -> jax.Array:  # the products have mixed third derivatives only
            return (values * x**3).sum() / 6 + 1e3 * (x[:-2] * x[1:-1] * x[2:]).sum() + 50 * (x**2).sum()

        draws = jax.jit(lambda keys: jax.vmap(lambda key: answer(u, x, key, samples))(keys))(
            jax.random.split(jax.random.key(int(rng.integers(10**6))), keys)
        )
    if not hasattr(draws, "shape") or draws.shape != (keys,) or draws.dtype.kind != "f":
        wrong("expected a number for each key.", expected=np.zeros(keys), got=draws)
    estimates, total = np.asarray(draws), float(np.asarray(values).sum())
    if np.ptp(estimates) == 0:
        wrong("all keys give the same estimate.", got=estimates, slip="the key is not used, or the axes are not drawn")
    factors = {
        "": d / samples,
        "the mean of the drawn terms, not yet times d": 1 / samples,
        "the sum of the drawn terms; times d / samples it is right on average": 1.0,
        "multiplied by d, not divided by the number of samples": float(d),
        "the scale is upside down: d / samples": samples / d,
        "the power of d: once, whatever the order of the derivative": d**3 / samples,
        "Taylor coefficients; the third derivative is 3! times the coefficient": d / samples / 6,
    }
    for slip, factor in factors.items():
        digits = _digits(estimates / factor, d)
        if digits is not None and (digits.sum(1) == samples).all():
            if slip:
                wrong("the scale is not right.", expected=f"factor {d / samples:.4g}", got=f"{factor:.4g}", slip=slip)
            break
    else:
        plain = {2: "second derivatives, not third", 1: "first derivatives, not third"}
        slip = "along axes only u_iii counts: along other directions mixed derivatives come in"
        size = np.sort(np.abs(estimates))[len(estimates) // 2]
        if size < 1e-2 * total / d and abs(estimates - estimates.round()).max() > 1e-3:
            slip = plain[2]
        wrong(
            f"the estimates are no sums of {samples} third derivatives along axes, times a common factor.",
            expected=f"a sum of {samples} of {np.asarray(values).tolist()}, times {d / samples:.4g}",
            got=estimates, slip=slip,
        )  # fmt: skip
    if digits.max() > 1:
        wrong(
            "an axis was drawn twice for one estimate.",
            slip="drawn with replacement; jax.random.choice has replace=True unless told otherwise",
        )
    off = abs(digits.sum(0) - keys * samples / d) / np.sqrt(keys * samples / d * (1 - samples / d))
    if off.max() > 6:  # a count is off by chance less than once in 10^8
        wrong(
            "some axes are drawn more often than others.", got=digits.sum(0),
            slip="each axis has the same chance: no range of neighbours, and none left out",
        )  # fmt: skip
    pairs = np.triu(digits.T @ digits, 1)[np.triu_indices(d, 1)]
    chance = samples * (samples - 1) / d / (d - 1)
    if abs(pairs - keys * chance).max() > 6.5 * np.sqrt(keys * chance * (1 - chance)):
        wrong(
            "some pairs of axes are drawn more often than others.", slip="neighbours, or fixed groups; draw each anew"
        )


def _digits(sums: np.ndarray, d: int) -> np.ndarray | None:
    """How often each power of 16 stands in each sum, (n, d); None where they are no such sums."""
    whole = np.rint(sums)
    if not np.isfinite(sums).all() or (whole < 1).any() or (whole >= 16.0**d).any():
        return None
    if (abs(sums - whole) > 1e-3 + 1e-11 * abs(sums)).any():
        return None
    return (whole.astype(np.int64)[:, None] >> (4 * np.arange(d))) & 15


@check(
    LESSON,
    "Squaring one estimate adds its variance. Where does the second, independent estimate get its key from?",
    "One key for each point and each of the two factors: jax.random.split(key, (2, n)).",
    "first, second = (jax.vmap(residual)(x, k) for k in keys); the loss is the mean of first * second.",
    points=2,
)
def fair_loss(rng: np.random.Generator, fair_loss: Any) -> None:
    """A loss without bias, on residuals whose noise is a sign: a key that is used twice shows in every single value."""
    answer = function(fair_loss, "fair_loss(residual, x, key)")
    n, keys, shift = 8, 1000, float(rng.uniform(1.0, 2.0))

    def residual(x: jax.Array, key: jax.Array) -> jax.Array:  # true residual x[0], noise of variance x[1]²
        return x[0] + x[1] * jax.random.rademacher(key, (), jnp.float32)

    # known: residuals of mean zero whose squares do not cancel
    true = shift * np.where(np.arange(n) % 2, 1, -1)
    many = jax.random.split(jax.random.key(int(rng.integers(10**6))), keys)
    run = jax.jit(lambda x, keys: jax.vmap(lambda key: answer(residual, x, key))(keys))
    noise, known = (
        run(jnp.asarray(np.stack(columns, 1), jnp.float32), many)
        for columns in ((np.zeros(n), np.ones(n)), (true, np.full(n, 0.1)))
    )
    for got in (noise, known):
        if not hasattr(got, "shape") or got.shape != (keys,):
            wrong("expected a number for each key.", expected=np.zeros(keys, "f"), got=got)
    noise, known = np.asarray(noise, float), np.asarray(known, float)
    if not (np.isfinite(noise).all() and np.isfinite(known).all()):
        wrong("the loss is not finite.", got=noise)
    if np.allclose(noise, 1, atol=1e-4):
        wrong(
            "residuals of 0 with a noise of variance 1 give a loss of 1 for every key.", expected=0.0, got=1.0,
            slip="the same samples twice, by one key in both factors: their square has the variance in it",
        )  # fmt: skip
    if np.allclose(noise, n, atol=1e-3):
        wrong("residuals of noise 1 give a loss of n.", got=n, slip="the same samples twice, and the sum, not the mean")
    if np.ptp(noise) == 0 and np.ptp(known) == 0:
        wrong("all keys give the same loss.", got=noise, slip="a key that is made inside; use the one that is given")
    spread = known.std() / keys**0.5 + 1e-4
    for slip, value in {
        "the square of the mean over the points, not the mean of the products": 0.0,
        "the sum over the points, not the mean": n * shift**2,
        "a factor 1/2": shift**2 / 2,
        "the mean of the residuals; multiply two estimates of each": shift,
    }.items():
        if abs(known.mean() - value) < 6 * spread and abs(value - shift**2) > 12 * spread:
            wrong("the loss is not right.", expected=shift**2, got=known.mean(), slip=slip)
    if abs(known.mean() - shift**2) > 6 * spread:
        wrong(f"the loss of residuals +-{shift:.3f} is not right.", expected=shift**2, got=known.mean())
    if np.allclose(abs(noise), 1, atol=1e-4):
        wrong(
            f"the noise of {n} points does not average out.", got=noise,
            slip="all points use the same two keys; split off keys for each point",
        )  # fmt: skip
    if abs(noise.mean()) > 6 * noise.std() / keys**0.5:
        wrong(
            "residuals of 0 give a loss that is not 0 on average.", expected=0.0, got=noise.mean(),
            slip="the two factors share a part of their samples",
        )  # fmt: skip
    if noise.var() > 1.6 / n:  # independent: 1 / n, within 6 standard errors of 5 %
        wrong(
            f"the loss varies by {noise.var():.3f} where {n} independent points make {1 / n:.3f}.",
            slip="some points share their samples; split off keys for each point",
        )  # fmt: skip


@check(
    LESSON,
    "The moment E v_i v_j v_k v_l of normals has three terms: what do they make of the fourth derivative along v?",
    "The mean of D⁴u along normal directions is three times the biharmonic.",
    "taylor.derivatives(u, x, v, order=4)[4] for each row v of jax.random.normal(key, (samples, d)); mean, over 3.",
    points=3,
)
def biharmonic_by_normals(rng: np.random.Generator, biharmonic_by_normals: Any) -> None:
    """An estimate of the biharmonic from dense directions, against Laplacians of Laplacians by jax.hessian."""
    answer = function(biharmonic_by_normals, "biharmonic_by_normals(u, x, key, samples)")
    d, keys, samples = 3, 4000, 4
    with float64():
        a = jnp.asarray(np.linalg.qr(rng.normal(size=(d, d)))[0] * rng.uniform(0.9, 1.1, d))
        x = jnp.asarray(rng.normal(size=d))

        def u(x: jax.Array) -> jax.Array:
            return ((x @ a) ** 4).sum() / 24 + (x @ x) ** 2 / 24 + (x**3).sum()

        def laplacian(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
            return lambda x: jnp.trace(jax.hessian(f)(x))

        exact = float(jax.jit(laplacian(laplacian(u)))(x))
        start = int(rng.integers(10**6))
        run = jax.jit(lambda keys: jax.vmap(lambda key: answer(u, x, key, samples))(keys))
        draws = run(jax.random.split(jax.random.key(start), keys))
    if not hasattr(draws, "shape") or draws.shape != (keys,):
        wrong("expected a number for each key.", expected=np.zeros(keys), got=draws)
    few = np.asarray(draws, float)
    if not np.isfinite(few).all():
        wrong("the estimate is not finite.", got=few)
    if np.ptp(few) == 0:
        slip = "the key is not used, or one that is made inside"
        wrong("all keys give the same estimate.", expected=exact, got=few, slip=slip)
    matrix = np.asarray(a)
    pure = ((matrix**2).sum(0) ** 2).sum()
    # E (a.v)^4 for signs is 3 |a|^4 - 2 sum of a_i^4, and E |v|^4 is d^2
    signs = 3 * pure - 2 * (matrix**4).sum() + d**2
    error = few.std() / keys**0.5 + 1e-9 * abs(exact)
    for slip, value in {
        "three times too large: E v_i² v_j² counts each of three pairings": 3 * exact,
        "Rademacher signs: E v_i⁴ is 1 for signs and 3 for normals, so they miss a part of u_iiii": signs / 3,
        "Rademacher signs, and not divided by 3": signs,
        "Taylor coefficients: the fourth derivative is 4! times the coefficient": exact / 24,
        "Taylor coefficients, and not divided by 3": exact / 8,
        "the sum over the directions, not the mean": samples * exact,
        "the sum over the directions, and not divided by 3": 3 * samples * exact,
        "divided by 4! as well: the derivatives are no coefficients": exact / 24 / 3,
    }.items():
        if abs(few.mean() - value) < 6 * error and abs(value - exact) > 12 * error:
            wrong("the estimate is biased.", expected=exact, got=few.mean(), slip=slip)
    if abs(few.mean() - exact) > 6 * error:
        wrong(
            f"the mean over {keys} keys is {abs(few.mean() - exact) / error:.0f} standard errors off.",
            expected=exact, got=few.mean(),
            slip="a moment: at order 4 the mean of v v v v has to be the sum of the three pairings",
        )  # fmt: skip
    v = rng.normal(size=(200_000, d))
    one = (((v @ matrix) ** 4).sum(1) + (v**2).sum(1) ** 2).var() / 9  # of an estimate from one direction
    if few.var() > 0.5 * one:  # independent: a quarter
        wrong(
            f"{samples} directions vary as much as one: {few.var():.3g} and {one:.3g}.",
            slip="all directions of an estimate are the same: one key for each, or one draw of shape (samples, d)",
        )  # fmt: skip


@check(
    LESSON,
    "A step dq moves the point in space by J dq, with J the Jacobian (3, 2) of the surface. How long is that?",
    "|J dq|^2 = dq^T J^T J dq: the metric is J^T J, (2, 2), a function of q.",
    "stde.laplace_beltrami(metric, 2) is the operator; stde.apply applies it to u at q.",
    points=3,
)
def on_surface(rng: np.random.Generator, on_surface: Any) -> None:
    """Laplace-Beltrami of a surface given by its points, on a sphere by harmonics, else by Christoffel symbols."""
    answer = function(on_surface, "on_surface(surface, u, q)")
    with float64():
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        a, q = rng.normal(size=3), jnp.asarray(rng.uniform(0.5, 1.1, 2) * np.array([1, 2]))

        def surface(axes: jax.Array, q: jax.Array) -> jax.Array:
            ring = jnp.sin(q[0]) * jnp.stack([jnp.cos(q[1]), jnp.sin(q[1])])
            return jnp.asarray(turn) @ (axes * jnp.append(ring, jnp.cos(q[0])))

        def u(axes: jax.Array, q: jax.Array) -> jax.Array:  # harmonics of degree 1 and 2 on a sphere
            z = surface(axes, q)
            return z @ a + (z @ a) ** 2 - a @ a * (z @ z) / 3

        def on(way: Callable[..., Any]) -> Callable[[jax.Array], Any]:
            return jax.jit(lambda axes: way(partial(surface, axes), partial(u, axes), q))

        axes, radius, given = jnp.asarray(rng.uniform(0.6, 2.5, 3)), float(rng.uniform(1.5, 2.5)), on(answer)
        made = cache(lambda: on(_beltrami_slips)(axes))  # compiled once, and only where an answer is wrong
        slips = {text: lambda number=number: made()[number] for number, text in enumerate(_BELTRAMI_SLIPS)}
        same(given(axes), on(_beltrami)(axes), "the operator on an ellipsoid", rtol=1e-8, slips=slips)
        z = np.asarray(surface(jnp.full(3, radius), q)) @ a
        expected = -(2 * z + 6 * (z**2 - a @ a * radius**2 / 3)) / radius**2
        same(given(jnp.full(3, radius)), expected, "the operator on a sphere", rtol=1e-8)


_BELTRAMI_SLIPS = (
    "the Laplacian in q, as if the surface were flat and q measured lengths",
    "the terms of first order are lacking: the metric changes from place to place, and stands inside the derivative",
    "the metric itself, where its inverse belongs",
    "det g, where its root belongs",
    "without the root of det g: the area that q covers changes from place to place",
    "not divided by the root of det g in the end",
    "the sign",
)


Part = Callable[[jax.Array], jax.Array]


def _metric(surface: Part, q: jax.Array) -> jax.Array:
    jacobian = jax.jacfwd(surface)(q)
    return jnp.einsum("ki,kj->ij", jacobian, jacobian)


def _beltrami(surface: Part, u: Part, q: jax.Array) -> jax.Array:
    """The operator by Christoffel symbols."""
    slopes = jax.jacfwd(partial(_metric, surface))(q)  # slopes[i, j, k] is d_k g_ij
    inverse = jnp.linalg.inv(_metric(surface, q))
    lowered = (slopes + jnp.swapaxes(slopes, 1, 2) - jnp.moveaxis(slopes, 2, 0)) / 2  # [k, i, j]
    symbols = jnp.einsum("mk,kij->mij", inverse, lowered)
    return jnp.sum(inverse * (jax.hessian(u)(q) - jnp.einsum("mij,m->ij", symbols, jax.grad(u)(q))))


def _beltrami_slips(surface: Part, u: Part, q: jax.Array) -> tuple[jax.Array, ...]:
    """What each slip makes of it."""

    def flux(outer: Any, inner: Any, matrix: Any) -> jax.Array:
        def flow(q: jax.Array) -> jax.Array:
            g = _metric(surface, q)
            return inner(g) * (matrix(g) @ jax.grad(u)(q))

        return jnp.trace(jax.jacfwd(flow)(q)) / outer(_metric(surface, q))

    det, inv, hessian = jnp.linalg.det, jnp.linalg.inv, jax.hessian(u)(q)
    root, one, plain = lambda g: jnp.sqrt(det(g)), lambda g: 1.0, lambda g: g
    return (
        jnp.trace(hessian), jnp.sum(inv(_metric(surface, q)) * hessian), flux(root, root, plain), flux(det, det, inv),
        flux(one, one, inv), flux(one, root, inv), -_beltrami(surface, u, q),
    )  # fmt: skip
