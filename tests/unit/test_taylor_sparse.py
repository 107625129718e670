"""Sparse first derivatives give what dense ones give, and are kept where they should be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from course import taylor
from course.taylor import one_hot, sparse
from course.taylor.sparse import Sparse

N = 8  # particles, 24 lines
LEFT, RIGHT = np.triu_indices(N, k=1)
W = jnp.sin(jnp.arange(15.0)).reshape(3, 5)
V = jnp.cos(jnp.arange(16.0)).reshape(2, 8)


def apart(x):
    return jnp.sqrt(((x[LEFT] - x[RIGHT]) ** 2).sum(-1))


def all_pairs(x):
    same = jnp.eye(N)
    return jnp.sqrt(((x[:, None] - x) ** 2).sum(-1) + same) * (1 - same)


PROGRAMS = {  # (N, 3) -> ()
    "pairs": lambda x: (apart(x) / (1 + 0.5 * apart(x))).sum(),
    "all pairs": lambda x: jnp.exp(-all_pairs(x)).sum(),
    "a layer for each": lambda x: jnp.tanh(x @ W).sum() ** 2,
    "matrix first": lambda x: jnp.sin(W.T @ x.T).sum(),
    "a layer for each pair": lambda x: jnp.tanh((x[:, None] - x) @ W).mean(1).ravel() @ jnp.arange(5.0 * N),
    "batch of matrices": lambda x: jnp.sin(jnp.einsum("sbi,bij->sbj", x.reshape(2, 4, 3), jnp.stack([W] * 4))).sum(),
    "slices": lambda x: (x[:, 0] * x[:, 1] ** 2 / (2 + x[:, 2])).sum() + jnp.sin(x[1, 2] * x[2, 1]),
    "with itself": lambda x: ((x[:4] + x[:4]) * x[:4] - x[:4] ** 3 / x[:4]).sum() + (x[:2] * x[1:3]).sum(),
    "numbers beside": lambda x: jnp.sin(jnp.concatenate([x, jnp.ones((N, 2)), x[:, ::-1] ** 2], axis=1) @ V.T).sum(),
    "chosen": lambda x: jnp.where(x[:, :1] > 0.2, x[:, :1] * x[:, 1:], jnp.sin(x[:, 2:])).sum(),
    "gathered": lambda x: jnp.sin(x[jnp.array([2, 2, -1])] * x[jnp.array([0, 2, 1]), ::-1]).sum(),
    "largest": lambda x: jnp.maximum(x[:, 0], x[:, 1] ** 2).sum() + x.max(axis=1) @ jnp.arange(1.0 * N) ** 2,
    "transposed": lambda x: (jnp.exp(x.T[0]) * jnp.flip(x, axis=0).T[1]).sum() + x[:0].sum(),
    "powers": lambda x: (x[:, 0] ** x[:, 1]).sum() + jnp.arctan2(x[:, 2], x[:, 0]) @ x[:, 1],
    "mixed": lambda x: ((x @ W) * jnp.tanh(x.ravel() @ jnp.ones((3 * N, 5)))).sum() * x[0, 0],
    "determinant": lambda x: jnp.linalg.slogdet(jnp.exp(-all_pairs(x))[:3, :3] @ (x[:3] + 2 * jnp.eye(3)))[1],
    "complex": lambda x: (jnp.exp(1j * x[:, 0]) * x[:, 1]).sum().real,
    "loop": lambda x: jax.lax.fori_loop(0, 2, lambda i, c: jnp.sin(c) * x[:, 1], x[:, 0]).sum(),
}


QUICK = {"pairs", "a layer for each", "gathered", "numbers beside", "mixed"}


def points(count=1):
    return jax.random.uniform(jax.random.key(0), (count, 3 * N), minval=0.3, maxval=1.5)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow, pytest.mark.thorough] * (n not in QUICK)) for n in PROGRAMS]
)
def test_as_nested_differentiation(name, compress):
    x = points().astype(float)[0]
    f = lambda x: PROGRAMS[name](x.reshape(N, 3))  # noqa: E731
    both = jax.jit(lambda x: (taylor.laplacian(f, x, compress=compress), jnp.trace(jax.hessian(f)(x))))(x)
    np.testing.assert_allclose(*both, rtol=1e-10, atol=1e-10)


def forms(f, x, monkeypatch):
    """What stands in the place of first derivatives after each operation: s where sparse, None where dense."""
    seen, transport = [], one_hot.transport

    def watch(op, *jets):
        found = transport(op, *jets)
        seen.extend((op.name, len(d[0].entries) if isinstance(d[0], Sparse) else None) for d in found)
        return found

    monkeypatch.setattr(one_hot, "transport", watch)
    jax.make_jaxpr(lambda x: taylor.laplacian(f, x))(x)
    return seen


def test_a_distance_moves_along_six_lines(monkeypatch):
    seen = forms(lambda x: PROGRAMS["pairs"](x.reshape(N, 3)), points()[0], monkeypatch)
    assert ("sub", 2) in seen and ("sqrt", 6) in seen and ("div", 6) in seen and ("sqrt", None) not in seen


def test_a_layer_for_each_particle_keeps_its_three_lines(monkeypatch):
    seen = forms(lambda x: PROGRAMS["a layer for each"](x.reshape(N, 3)), points()[0], monkeypatch)
    assert ("dot_general", 3) in seen and ("tanh", 3) in seen


def test_a_narrow_sparse_value_does_not_keep_the_rest_wide(monkeypatch):
    w = jnp.ones((3 * N, 2))
    seen = forms(lambda x: jnp.tanh(x @ w).sum() * jnp.sin(x[0]), points()[0], monkeypatch)
    assert seen[-1] == ("mul", None)


@pytest.mark.slow
@pytest.mark.thorough
def test_under_vmap_and_grad():
    f = lambda a, x: PROGRAMS["a layer for each pair"](a * x.reshape(N, 3))  # noqa: E731
    of_all = lambda a: jax.vmap(lambda x: taylor.laplacian(lambda x: f(a, x), x))(points(3)).mean()  # noqa: E731
    nested = lambda a: jax.vmap(lambda x: jnp.trace(jax.hessian(lambda x: f(a, x))(x)))(points(3)).mean()  # noqa: E731
    got, want = jax.jit(lambda a: [jax.value_and_grad(way)(a) for way in (of_all, nested)])(1.2)
    np.testing.assert_allclose(got, want, rtol=2e-5)  # float32, sums of some hundred terms


def test_lines_of_the_same_place_are_counted_once():
    numbers = np.array([[2, 5], [2, 3], [9, 9]], np.int32)
    np.testing.assert_array_equal(sparse._union(numbers, 9), [[2, 3], [9, 5]])
    both = Sparse(jnp.array([[1.0, 2.0]]), np.array([[2, 3]], np.int32), 4)
    np.testing.assert_array_equal(both.dense(), [[0, 0], [0, 0], [1, 0], [0, 2]])


def test_sums_over_many_lines_beside_each_other():
    def f(x):
        pairs = jnp.sin((x.reshape(N, 1, 3) - x.reshape(1, N, 3)) @ W)
        return (pairs.mean(0) * jnp.cos(pairs).sum(1)).sum() + pairs[:0].sum()

    found = jax.jit(jax.vmap(lambda x: taylor.laplacian(f, x)))(points(2))
    np.testing.assert_allclose(found, jax.vmap(lambda x: jnp.trace(jax.hessian(f)(x)))(points(2)), rtol=2e-5)
