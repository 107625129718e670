"""Linear algebra

`jnp.linalg` has NumPy's names; more is in `jax.scipy.linalg`. A factorisation that fails returns NaN, since compiled
code can't raise on a value.
"""

import jax
import jax.numpy as jnp
import numpy as np
import torch

from rosetta.kinds import Pair, normal, spd


class Product(Pair):
    """Matrix products and einsum"""

    inputs = {"a": normal(5, 2, 3), "b": normal(5, 3, 4), "v": normal(3)}

    def torch(a, b, v):
        return a @ b, torch.einsum("bij,bjk->ik", a, b), torch.dot(v, v)

    def jax(a, b, v):
        return a @ b, jnp.einsum("bij,bjk->ik", a, b), jnp.dot(v, v)


class MixedProduct(Pair):
    """Product of two dtypes"""

    inputs = {"a": normal(2, 3), "b": normal(3, 2)}
    trap = "PyTorch raises. JAX widens to float32: a weight left in float32 makes the rest float32, unseen."
    lesson = ("00_start_here", "(x @ xp.ones(2)).dtype")

    def torch(a, b):
        return a.to(torch.bfloat16) @ b

    def jax(a, b):
        return a.astype(jnp.bfloat16) @ b

    def differ(theirs, ours):
        return isinstance(theirs, RuntimeError) and ours.dtype == jnp.float32


class Norms(Pair):
    """Norms of vectors and matrices"""

    inputs = {"x": normal(3, 4)}

    def torch(x):
        return torch.linalg.norm(x), torch.linalg.vector_norm(x, dim=1), torch.linalg.norm(x, ord=1, dim=0)

    def jax(x):
        return jnp.linalg.norm(x), jnp.linalg.vector_norm(x, axis=1), jnp.linalg.norm(x, ord=1, axis=0)


class Solve(Pair):
    """Solve a linear system"""

    inputs = {"a": spd(4), "b": normal(4, 2)}

    def torch(a, b):
        return torch.linalg.solve(a, b), torch.linalg.inv(a) @ b

    def jax(a, b):
        return jnp.linalg.solve(a, b), jnp.linalg.inv(a) @ b


class SolveBatch(Pair):
    """Solve a batch of systems, a vector each"""

    inputs = {"a": spd(3), "b": normal(3, 3)}
    trap = (
        "PyTorch takes `b` of shape (B, n) for B vectors. JAX takes it for one matrix, as NumPy 2 does: an error, or "
        "where B equals n a result of another shape."
    )
    lesson = ("00_start_here", "xp.linalg.solve(xp.stack([x, x]), x)")

    def torch(a, b):
        return torch.linalg.solve(torch.stack([a, 2 * a, 3 * a]), b)

    def jax(a, b):
        return jnp.linalg.solve(jnp.stack([a, 2 * a, 3 * a]), b)

    def fix(a, b):
        return jnp.linalg.solve(jnp.stack([a, 2 * a, 3 * a]), b[..., None])[..., 0]

    def differ(theirs, ours):
        return theirs.shape == (3, 3) and ours.shape == (3, 3, 3)


class Cholesky(Pair):
    """Cholesky factor and solve"""

    inputs = {"a": spd(4), "b": normal(4, 2)}

    def torch(a, b):
        factor = torch.linalg.cholesky(a)
        return factor, torch.cholesky_solve(b, factor)

    def jax(a, b):
        factor = jnp.linalg.cholesky(a)
        return factor, jax.scipy.linalg.cho_solve((factor, True), b)


class NotPositiveDefinite(Pair):
    """Cholesky of an indefinite matrix"""

    inputs = {"a": spd(3)}
    trap = "PyTorch raises, JAX returns NaN. So do the other factorisations; a singular inverse has infinities too."
    lesson = ("00_start_here", "xp.linalg.cholesky(-xp.eye(1))")

    def torch(a):
        return torch.linalg.cholesky(-a)

    def jax(a):
        return jnp.linalg.cholesky(-a)

    def differ(theirs, ours):
        return isinstance(theirs, torch.linalg.LinAlgError) and np.isnan(ours).any()


class Triangular(Pair):
    """Solve with a triangular matrix"""

    inputs = {"a": spd(4), "b": normal(4, 2)}
    note = "JAX assumes an upper triangle where `lower` is not given; PyTorch makes you say `upper`."

    def torch(a, b):
        return torch.linalg.solve_triangular(a.tril(), b, upper=False)

    def jax(a, b):
        return jax.scipy.linalg.solve_triangular(jnp.tril(a), b, lower=True)


class LeastSquares(Pair):
    """Least squares"""

    inputs = {"a": normal(6, 3), "b": normal(6)}
    tolerance = 5e-5  # JAX by an SVD, PyTorch by a QR factorisation

    def torch(a, b):
        return torch.linalg.lstsq(a, b).solution

    def jax(a, b):
        return jnp.linalg.lstsq(a, b)[0]


class Eigen(Pair):
    """Eigenvalues of a symmetric matrix"""

    inputs = {"a": spd(4)}
    note = "The signs of eigenvectors are arbitrary: compare what is built from them."

    def torch(a):
        values, vectors = torch.linalg.eigh(a)
        return values, vectors * values @ vectors.mT

    def jax(a):
        values, vectors = jnp.linalg.eigh(a)
        return values, vectors * values @ vectors.mT


class SingularValues(Pair):
    """Singular value decomposition"""

    inputs = {"x": normal(5, 3)}
    note = "`full_matrices=True` is the default on both sides (of `torch.svd` it is not)."

    def torch(x):
        u, s, vh = torch.linalg.svd(x, full_matrices=False)
        return s, u * s @ vh

    def jax(x):
        u, s, vh = jnp.linalg.svd(x, full_matrices=False)
        return s, u * s @ vh


class Diagonals(Pair):
    """Diagonals and triangles"""

    inputs = {"x": normal(3, 3)}

    def torch(x):
        return x.diagonal(), torch.diag(x[0]), x.trace(), x.tril()

    def jax(x):
        return x.diagonal(), jnp.diag(x[0]), x.trace(), jnp.tril(x)
