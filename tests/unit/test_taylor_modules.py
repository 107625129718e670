"""Taylor mode differentiates Flax modules as they are: the parameters ride along as constants."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from course import taylor

X = np.linspace(-1.0, 1.0, 6)


pytestmark = pytest.mark.usefixtures("x64")


class NnxNet(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(6, 3, param_dtype=jnp.float64, rngs=rngs)
        self.out = nnx.Linear(3, 1, param_dtype=jnp.float64, rngs=rngs)

    def __call__(self, x):
        return self.out(jnp.tanh(self.hidden(x))).squeeze(-1)


class LinenNet(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = jnp.tanh(linen.Dense(3, param_dtype=jnp.float64)(x))
        return linen.Dense(1, param_dtype=jnp.float64)(x).squeeze(-1)


def nnx_field():
    return NnxNet(nnx.Rngs(0))


def linen_field():
    model = LinenNet()
    params = jax.jit(model.init)(jax.random.key(0), X)
    return lambda x: model.apply(params, x)


@pytest.mark.parametrize("make", [nnx_field, linen_field])
def test_laplacian_of_a_module(make):
    field = make()
    got, want = jax.jit(lambda x: (taylor.value_and_laplacian(field, x), (field(x), jnp.trace(jax.hessian(field)(x)))))(
        X
    )
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
def test_gradient_by_the_parameters_of_an_nnx_module():
    graph, params = nnx.split(nnx_field())

    @jax.jit
    def both(params):
        def loss(laplacian):
            return jax.grad(lambda params: laplacian(nnx.merge(graph, params)))(params)

        return loss(lambda f: taylor.laplacian(f, X)), loss(lambda f: jnp.trace(jax.hessian(f)(X)))

    got, want = both(params)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11)
