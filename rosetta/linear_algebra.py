"""Linear algebra

`jnp.linalg` has NumPy's names; more is in `jax.scipy.linalg`. What fails returns NaN or infinities, since compiled code
can't raise on a value.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from jax.experimental import sparse

from rosetta.elementwise import quiet
from rosetta.kinds import Pair, booleans, normal, positive, raises, spd


class Product(Pair):
    """Matrix products and einsum"""

    inputs = {"a": normal(5, 2, 3), "b": normal(5, 3, 4), "v": normal(3)}
    also = ("torch.matmul", "Tensor.matmul", "torch.einsum")

    def torch(a, b, v):
        return a @ b, torch.einsum("bij,bjk->ik", a, b), torch.dot(v, v)

    def jax(a, b, v):
        return a @ b, jnp.einsum("bij,bjk->ik", a, b), jnp.dot(v, v)


class NamedProducts(Pair):
    """mm, bmm, mv, outer, inner"""

    inputs = {"a": normal(2, 3), "b": normal(3, 4), "v": normal(3), "c": normal(5, 2, 3), "d": normal(5, 3, 4)}
    also = ("torch.ger", "linalg.matmul")

    def torch(a, b, v, c, d):
        return torch.mm(a, b), torch.mv(a, v), torch.bmm(c, d), torch.outer(v, v), torch.inner(v, v)

    def jax(a, b, v, c, d):
        return a @ b, a @ v, c @ d, jnp.outer(v, v), jnp.inner(v, v)


class ProductAndSum(Pair):
    """addmm, baddbmm, addmv, addr"""

    inputs = {
        "x": normal(2, 4), "a": normal(2, 3), "b": normal(3, 4), "c": normal(5, 2, 3), "d": normal(5, 3, 4),
        "u": normal(2), "v": normal(4),
    }  # fmt: skip
    also = ("Tensor.addmm_", "Tensor.baddbmm_")

    def torch(x, a, b, c, d, u, v):
        scaled = torch.addmm(x, a, b, beta=0.5, alpha=2)
        return scaled, torch.baddbmm(x, c, d), torch.addmv(u, x, v), torch.addr(x, u, v)

    def jax(x, a, b, c, d, u, v):
        scaled = 0.5 * x + 2 * a @ b
        return scaled, x + c @ d, u + x @ v, x + jnp.outer(u, v)


class DotOfBatches(Pair):
    """dot and matmul of batches"""

    inputs = {"a": normal(5, 2, 3), "b": normal(5, 3, 4)}
    trap = (
        "`jnp.dot` of batches pairs every matrix with every other, here (5, 2, 5, 4). `torch.dot` takes vectors alone."
    )

    def torch(a, b):
        return torch.matmul(a, b)

    def jax(a, b):
        return jnp.dot(a, b)

    def fix(a, b):
        return jnp.matmul(a, b)

    def differ(theirs, ours):
        alone = raises(RuntimeError, torch.dot, torch.ones(2, 2), torch.ones(2, 2))
        return alone and theirs.shape == (5, 2, 4) and ours.shape == (5, 2, 5, 4)


class Contractions(Pair):
    """tensordot, Kronecker product, dot of rows"""

    inputs = {"a": normal(2, 3, 4), "b": normal(3, 4, 5), "c": normal(2, 2), "d": normal(3, 4)}
    also = ("linalg.vecdot",)

    def torch(a, b, c, d):
        return torch.tensordot(a, b, dims=2), torch.kron(c, d), torch.linalg.vecdot(a, a)

    def jax(a, b, c, d):
        return jnp.tensordot(a, b, axes=2), jnp.kron(c, d), jnp.vecdot(a, a)


class MixedProduct(Pair):
    """Product of two dtypes"""

    inputs = {"a": normal(2, 3), "b": normal(3, 2)}
    trap = "PyTorch raises. JAX widens to float32: a weight left in float32 makes the rest float32, unseen."

    def torch(a, b):
        return a.to(torch.bfloat16) @ b

    def jax(a, b):
        return a.astype(jnp.bfloat16) @ b

    def fix(a, b):
        with jax.numpy_dtype_promotion("strict"):  # then JAX raises too
            return a.astype(jnp.bfloat16) @ b.astype(jnp.bfloat16)

    def differ(theirs, ours, fixed):
        def mixed():
            with jax.numpy_dtype_promotion("strict"):
                return jnp.ones(2, jnp.bfloat16) @ jnp.ones(2)

        narrow = fixed.dtype == jnp.bfloat16 and raises(ValueError, mixed)
        return narrow and isinstance(theirs, RuntimeError) and ours.dtype == jnp.float32


class Norms(Pair):
    """Norms of vectors and matrices"""

    inputs = {"x": normal(3, 4)}
    also = ("torch.norm", "Tensor.norm", "torch.frobenius_norm")

    def torch(x):
        return torch.linalg.norm(x), torch.linalg.vector_norm(x, ord=1, dim=1), torch.linalg.matrix_norm(x, ord=1)

    def jax(x):
        return jnp.linalg.norm(x), jnp.linalg.vector_norm(x, ord=1, axis=1), jnp.linalg.matrix_norm(x, ord=1)


class NormOfMatrix(Pair):
    """The norm of a matrix of order 1"""

    inputs = {"x": normal(3, 4)}
    trap = (
        "`torch.norm(x, p=1)` adds up all absolute values. `jnp.linalg.norm(x, 1)`, like `torch.linalg.norm`, is the "
        "largest sum of a column."
    )

    def torch(x):
        return torch.norm(x, p=1)

    def jax(x):
        return jnp.linalg.norm(x, 1)

    def fix(x):
        return jnp.linalg.vector_norm(x, ord=1)

    def differ(theirs, ours):
        x = np.array([[1.0, -2.0], [3.0, 4.0]], np.float32)
        columns = torch.linalg.norm(torch.tensor(x), 1).item() == jnp.linalg.norm(x, 1).item() == 6
        return columns and torch.norm(torch.tensor(x), p=1) == 10 and float(ours) < theirs.item()


class Distances(Pair):
    """Distances of all pairs: cdist"""

    inputs = {"x": normal(4, 3), "y": normal(5, 3)}

    def torch(x, y):
        return torch.cdist(x, y), torch.cdist(x, y, p=1), torch.dist(x[0], y[0])

    def jax(x, y):
        difference = x[:, None] - y[None]
        euclidean = jnp.linalg.norm(difference, axis=-1)
        return euclidean, jnp.abs(difference).sum(-1), jnp.linalg.norm(x[0] - y[0])


class DistanceToItself(Pair):
    """Gradient of distances to itself"""

    inputs = {"x": normal(3, 2)}
    no_gradient = "its result is a gradient"
    trap = "A point is at distance 0 from itself, where PyTorch's slope is 0 and that of a norm in JAX is NaN."

    def torch(x):
        return torch.func.grad(lambda x: torch.cdist(x, x).sum())(x)

    def jax(x):
        return jax.grad(lambda x: jnp.linalg.norm(x[:, None] - x, axis=-1).sum())(x)

    def fix(x):
        return jax.grad(lambda x: optax.safe_norm(x[:, None] - x, 0.0, axis=-1).sum())(x)

    def differ(theirs, ours):
        return torch.isfinite(theirs).all() and np.isnan(ours).all()


class Solve(Pair):
    """Solve a linear system"""

    inputs = {"a": spd(4), "b": normal(4, 2)}
    also = ("torch.inverse", "Tensor.inverse")

    def torch(a, b):
        return torch.linalg.solve(a, b), torch.linalg.inv(a) @ b

    def jax(a, b):
        return jnp.linalg.solve(a, b), jnp.linalg.inv(a) @ b


class Determinant(Pair):
    """Determinant, and its logarithm"""

    inputs = {"a": spd(4)}
    note = "Of a negative determinant `torch.logdet` is NaN, and `log` the logarithm of its absolute value."
    also = ("torch.det", "torch.slogdet", "torch.logdet", "Tensor.det", "Tensor.logdet", "Tensor.slogdet")

    def torch(a):
        sign, log = torch.linalg.slogdet(a)
        return torch.linalg.det(a), sign, log, torch.logdet(a)

    def jax(a):
        sign, log = jnp.linalg.slogdet(a)
        return jnp.linalg.det(a), sign, log, log

    def claims():
        a = np.diag([2.0, -1.0]).astype(np.float32)
        assert torch.isnan(torch.logdet(torch.tensor(a))) and np.isclose(jnp.linalg.slogdet(a)[1], np.log(2))


class PseudoInverse(Pair):
    """Pseudo-inverse, rank, condition number"""

    inputs = {"a": normal(5, 3)}
    tolerance = 5e-5  # by an SVD each
    also = ("torch.pinverse", "Tensor.pinverse")

    def torch(a):
        return torch.linalg.pinv(a), torch.linalg.matrix_rank(a), torch.linalg.cond(a)

    def jax(a):
        return jnp.linalg.pinv(a), jnp.linalg.matrix_rank(a), jnp.linalg.cond(a)


class PseudoInverseCutoff(Pair):
    """Pseudo-inverse of a nearly singular matrix"""

    inputs = {"a": np.diag(np.array([1.0, 1e-6], np.float32))}
    no_gradient = "it is infinite next to the cutoff"
    trap = (
        "JAX drops singular values below 10 times PyTorch's bound, which is the larger side times epsilon. Say `rtol`."
    )

    def torch(a):
        return torch.linalg.pinv(a)

    def jax(a):
        return jnp.linalg.pinv(a)

    def fix(a):
        return jnp.linalg.pinv(a, rtol=max(a.shape) * jnp.finfo(a.dtype).eps)

    def differ(theirs, ours):
        bound = 2 * np.finfo(np.float32).eps  # 2.4e-7
        below, above = np.diag([1, np.float32(9.5 * bound)]), np.diag([1, np.float32(10.5 * bound)])
        tenfold = jnp.linalg.pinv(below)[1, 1] == 0 and jnp.linalg.pinv(above)[1, 1] > 0
        return tenfold and theirs[1, 1] > 9e5 and ours[1, 1] == 0


class MatrixPower(Pair):
    """Power and exponential of a matrix"""

    inputs = {"a": spd(3)}
    tolerance = 2e-5  # the exponential by two series
    also = ("torch.matrix_power", "torch.matrix_exp", "Tensor.matrix_power", "Tensor.matrix_exp")

    def torch(a):
        return torch.linalg.matrix_power(a, 3), torch.linalg.matrix_exp(a / 2), torch.linalg.multi_dot([a, a, a])

    def jax(a):
        return jnp.linalg.matrix_power(a, 3), jax.scipy.linalg.expm(a / 2), jnp.linalg.multi_dot([a, a, a])


class SolveBatch(Pair):
    """Solve a batch of systems, a vector each"""

    inputs = {"a": spd(3), "b": normal(3, 3)}
    trap = (
        "PyTorch takes `b` of shape (B, n) for B vectors. JAX takes it for one matrix, as NumPy 2 does: an error, or "
        "where B equals n a result of another shape."
    )

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
    also = ("torch.cholesky",)

    def torch(a, b):
        factor = torch.linalg.cholesky(a)
        return factor, torch.cholesky_solve(b, factor)

    def jax(a, b):
        factor = jnp.linalg.cholesky(a)
        return factor, jax.scipy.linalg.cho_solve((factor, True), b)


class QR(Pair):
    """QR factorisation"""

    inputs = {"x": normal(5, 3)}
    note = "Compare what is built from the factors: signs are a matter of choice."
    also = ("torch.qr", "Tensor.qr")

    def torch(x):
        q, r = torch.linalg.qr(x)
        return q @ r, q.mT @ q, r.abs()

    def jax(x):
        q, r = jnp.linalg.qr(x)
        return q @ r, q.mT @ q, jnp.abs(r)


class LU(Pair):
    """LU factorisation and solve"""

    inputs = {"a": normal(4, 4), "b": normal(4, 2)}
    tolerance = 1e-4
    note = "Pivots count from 1 in PyTorch, from 0 in JAX."
    also = ("torch.lu_solve",)

    def torch(a, b):
        lu, pivots = torch.linalg.lu_factor(a)
        p, lower, upper = torch.linalg.lu(a)
        return torch.linalg.lu_solve(lu, pivots, b), p, lower, upper

    def jax(a, b):
        factors = jax.scipy.linalg.lu_factor(a)
        p, lower, upper = jax.scipy.linalg.lu(a)
        return jax.scipy.linalg.lu_solve(factors, b), p, lower, upper

    def claims():
        a = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
        assert torch.linalg.lu_factor(torch.tensor(a))[1].tolist() == [2, 2]
        assert jax.scipy.linalg.lu_factor(a)[1].tolist() == [1, 1]


class OneTriangle(Pair):
    """Cholesky and eigenvalues from one triangle"""

    inputs = {"a": spd(3)}
    no_gradient = "PyTorch gives half of it to the triangle that it does not read"
    trap = (
        "PyTorch reads the lower triangle alone. JAX takes the mean of the matrix and its transpose, here with half of "
        "what stands below the diagonal."
    )

    def torch(a):
        return torch.linalg.cholesky(a.tril()), torch.linalg.eigvalsh(a.tril())

    def jax(a):
        return jnp.linalg.cholesky(jnp.tril(a)), jnp.linalg.eigvalsh(jnp.tril(a))

    def fix(a):
        full = jnp.tril(a) + jnp.tril(a, -1).T
        return jnp.linalg.cholesky(full), jnp.linalg.eigvalsh(full)

    def differ(theirs, ours):
        a = np.array([[2.0, 0.0], [1.0, 3.0]], np.float32)
        halved = np.array([[2.0, 0.5], [0.5, 3.0]], np.float32)
        assert np.allclose(jnp.linalg.cholesky(a), np.linalg.cholesky(halved), atol=1e-5)
        return not np.allclose(theirs[0], ours[0], atol=1e-2) and not np.allclose(theirs[1], ours[1], atol=1e-2)


class NotPositiveDefinite(Pair):
    """Cholesky of an indefinite, inverse of a singular matrix"""

    inputs = {"a": spd(3)}
    trap = "PyTorch raises, JAX returns NaN. The inverse of a singular matrix has infinities, a solution by it NaN."
    lesson = ("00_start_here", "trap:no-error")
    also = ("linalg.cholesky_ex",)

    def torch(a):
        return torch.linalg.cholesky(-a)

    def jax(a):
        return jnp.linalg.cholesky(-a)

    def fix(a):
        factor = jnp.linalg.cholesky(-a)
        return ~jnp.isfinite(factor).all()  # the sign of failure, under `jit` too

    def differ(theirs, ours, fixed):
        ones, vector = np.ones((2, 2), np.float32), np.ones(2, np.float32)
        assert raises(torch.linalg.LinAlgError, torch.linalg.inv, torch.tensor(ones))
        assert raises(torch.linalg.LinAlgError, torch.linalg.solve, torch.tensor(ones), torch.tensor(vector))
        assert np.isinf(jnp.linalg.inv(ones)).all() and np.isnan(jnp.linalg.solve(ones, vector)).all()
        return bool(fixed) and isinstance(theirs, torch.linalg.LinAlgError) and np.isnan(ours).any()


class Triangular(Pair):
    """Solve with a triangular matrix"""

    inputs = {"a": spd(4), "b": normal(4, 2)}
    note = "JAX assumes an upper triangle where `lower` is not given; PyTorch makes you say `upper`."

    def torch(a, b):
        return torch.linalg.solve_triangular(a.tril(), b, upper=False)

    def jax(a, b):
        return jax.scipy.linalg.solve_triangular(jnp.tril(a), b, lower=True)

    def claims():
        a, b = jnp.array([[2.0, 1.0], [5.0, 4.0]]), jnp.array([3.0, 4.0])
        assert np.allclose(jax.scipy.linalg.solve_triangular(a, b), [1, 1])
        assert raises(TypeError, torch.linalg.solve_triangular, torch.eye(2), torch.eye(2))


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
        return values, vectors * values @ vectors.mT, torch.linalg.eigvalsh(a)

    def jax(a):
        values, vectors = jnp.linalg.eigh(a)
        return values, vectors * values @ vectors.mT, jnp.linalg.eigvalsh(a)


class EigenOfAny(Pair):
    """Eigenvalues of a matrix that is not symmetric"""

    inputs = {"a": normal(4, 4)}
    no_gradient = "JAX has none of these eigenvectors"
    note = (
        "The order of eigenvalues is arbitrary. JAX differentiates eigenvalues (alone by `eigvals`), not eigenvectors."
    )
    also = ("linalg.eigvals",)

    def torch(a):
        values, vectors = torch.linalg.eig(a)
        return values.abs().sort().values, vectors @ torch.diag(values) @ torch.linalg.inv(vectors)

    def jax(a):
        values, vectors = jnp.linalg.eig(a)
        return jnp.sort(jnp.abs(values)), vectors @ jnp.diag(values) @ jnp.linalg.inv(vectors)

    def claims():
        a = jnp.array([[1.0, 2.0], [3.0, 4.0]])
        slopes = jax.grad(lambda a: jnp.linalg.eigvals(a).real.sum())(a)
        assert np.allclose(slopes, np.eye(2), atol=1e-5)
        assert raises(NotImplementedError, jax.grad(lambda a: jnp.abs(jnp.linalg.eig(a)[1]).sum()), a)


class SingularValues(Pair):
    """Singular value decomposition"""

    inputs = {"x": normal(5, 3)}
    note = "`full_matrices=True` is the default on both sides (of `torch.svd` it is not)."
    also = ("torch.svd", "Tensor.svd")

    def torch(x):
        u, s, vh = torch.linalg.svd(x, full_matrices=False)
        return s, u * s @ vh, torch.linalg.svdvals(x)

    def jax(x):
        u, s, vh = jnp.linalg.svd(x, full_matrices=False)
        return s, u * s @ vh, jnp.linalg.svdvals(x)

    def claims():
        x = np.eye(5, 3, dtype=np.float32)
        full = torch.linalg.svd(torch.tensor(x))[0].shape, jnp.linalg.svd(x)[0].shape
        assert full == ((5, 5), (5, 5)) and torch.svd(torch.tensor(x))[0].shape == (5, 3)


class Diagonals(Pair):
    """Diagonals and triangles"""

    inputs = {"x": normal(3, 3)}

    def torch(x):
        return x.diagonal(), torch.diag(x[0]), x.trace(), x.tril()

    def jax(x):
        return x.diagonal(), jnp.diag(x[0]), x.trace(), jnp.tril(x)


class DiagonalMatrices(Pair):
    """Batches of diagonal matrices, blocks on a diagonal"""

    inputs = {"x": normal(2, 3), "a": normal(2, 2), "b": normal(1, 3)}
    also = ("torch.diagflat", "Tensor.diag_embed")

    def torch(x, a, b):
        return torch.diag_embed(x), torch.block_diag(a, b), torch.diagonal(x, 1), torch.diagflat(x)

    def jax(x, a, b):
        return jax.vmap(jnp.diag)(x), jax.scipy.linalg.block_diag(a, b), jnp.diagonal(x, 1), jnp.diagflat(x)


class Sparse(Pair):
    """Sparse matrices"""

    inputs = {"x": normal(4, 3), "mask": booleans(4, 3), "v": normal(3, 2)}
    no_gradient = "the number of entries depends on values"
    note = (
        "`jax.experimental.sparse`: an index has a row for each entry, in PyTorch a column. Under `jit` say how many "
        "entries there are: `BCOO.fromdense(x, nse=6)`."
    )

    def torch(x, mask, v):
        matrix = (x * mask).to_sparse()
        index, values = torch.tensor([[0, 3], [2, 0]]), torch.tensor([5.0, 7.0])
        built = torch.sparse_coo_tensor(index, values, (4, 3), check_invariants=True)
        return torch.sparse.mm(matrix, v), built.to_dense()

    def jax(x, mask, v):
        matrix = sparse.BCOO.fromdense(x * mask)
        index, values = jnp.array([[0, 2], [3, 0]]), jnp.array([5.0, 7.0])
        built = sparse.BCOO((values, index), shape=(4, 3))
        return matrix @ v, built.todense()

    def claims():
        x = jnp.eye(3)
        assert jax.eval_shape(lambda x: sparse.BCOO.fromdense(x, nse=6).todense(), x).shape == (3, 3)
        assert raises(jax.errors.ConcretizationTypeError, jax.jit(lambda x: sparse.BCOO.fromdense(x).todense()), x)


class Cross(Pair):
    """Cross product"""

    inputs = {"x": normal(3, 3), "y": normal(3, 3)}
    trap = (
        "`torch.cross` without `dim` takes the first dimension of length 3, here the batch, and warns. `jnp.cross` and "
        "`torch.linalg.cross` take the last."
    )

    @quiet
    def torch(x, y):
        return torch.cross(x, y)

    def jax(x, y):
        return jnp.cross(x, y)

    def fix(x, y):
        return jnp.cross(x, y, axis=0)

    def differ(theirs, ours):
        return not np.allclose(theirs, ours)


class Fourier(Pair):
    """Fourier transforms"""

    inputs = {"x": normal(4, 8)}
    note = (
        "The others have the same names, but for `hfft2`, `hfftn` and their inverses, which are not in `jnp.fft`. An "
        "odd length must be given to `irfft` on both sides."
    )
    also = (
        "fft.ifft", "fft.fft2", "fft.ifft2", "fft.rfft2", "fft.irfft2", "fft.fftn", "fft.ifftn", "fft.rfftn",
        "fft.irfftn", "fft.fftfreq", "fft.ifftshift", "fft.hfft", "fft.ihfft",
    )  # fmt: skip

    def torch(x):
        spectrum = torch.fft.rfft(x)
        shifted = torch.fft.fftshift(torch.fft.fft(x, norm="ortho"))
        return spectrum, torch.fft.irfft(spectrum, n=8), shifted.abs(), torch.fft.rfftfreq(8, d=0.5)

    def jax(x):
        spectrum = jnp.fft.rfft(x)
        shifted = jnp.fft.fftshift(jnp.fft.fft(x, norm="ortho"))
        return spectrum, jnp.fft.irfft(spectrum, n=8), jnp.abs(shifted), jnp.fft.rfftfreq(8, d=0.5)

    def claims():
        x = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
        same = "ifft fft2 ifft2 rfft2 irfft2 fftn ifftn rfftn irfftn ifftshift hfft ihfft"
        for name in same.split():
            theirs, ours = getattr(torch.fft, name)(torch.tensor(x)), getattr(jnp.fft, name)(x)
            assert theirs.shape == ours.shape and np.allclose(theirs.resolve_conj(), ours, atol=1e-5), name
        missing = {name for name in dir(torch.fft) if name[0] != "_" and "fft" in name and not hasattr(jnp.fft, name)}
        assert missing == {"hfft2", "hfftn", "ihfft2", "ihfftn"}
        assert np.allclose(torch.fft.fftfreq(5), jnp.fft.fftfreq(5))
        lengths = torch.fft.irfft(torch.fft.rfft(torch.ones(5))).shape, jnp.fft.irfft(jnp.fft.rfft(jnp.ones(5))).shape
        assert lengths == ((4,), (4,))


class Window(Pair):
    """Windows for signals"""

    trap = (
        "PyTorch's windows are periodic, of a period of N; those of JAX are symmetric: cut one of N + 1. "
        "The others are `hamming`, `blackman`, `bartlett` and `kaiser`."
    )
    also = ("torch.hamming_window", "torch.blackman_window", "torch.bartlett_window", "torch.kaiser_window")

    def torch():
        return torch.hann_window(8)

    def jax():
        return jnp.hanning(8)

    def fix():
        return jnp.hanning(9)[:-1]

    def differ(theirs, ours):
        for name in ("hamming", "blackman", "bartlett"):
            assert np.allclose(getattr(torch, f"{name}_window")(8), getattr(jnp, name)(9)[:-1], atol=1e-6), name
        assert np.allclose(torch.kaiser_window(8, True, 12.0), jnp.kaiser(9, 12.0)[:-1], atol=1e-5)
        return np.allclose(ours, torch.hann_window(8, periodic=False), atol=1e-6) and not np.allclose(ours, theirs)


class Spectrogram(Pair):
    """Short-time Fourier transform"""

    inputs = {"x": normal(32)}

    def torch(x):
        window = torch.hann_window(8)
        return torch.stft(x, 8, 4, window=window, center=False, return_complex=True).abs()

    def jax(x):
        window = jnp.hanning(9)[:-1]
        frames = x[jnp.arange(0, len(x) - 7, 4)[:, None] + jnp.arange(8)]
        return jnp.abs(jnp.fft.rfft(frames * window)).T


class Convolve(Pair):
    """Convolution of two signals"""

    inputs = {"x": normal(10), "kernel": normal(3)}
    trap = "`F.conv1d` does not turn the kernel round; `jnp.convolve` does, as the word means in mathematics."

    def torch(x, kernel):
        return torch.nn.functional.conv1d(x[None, None], kernel[None, None])[0, 0]

    def jax(x, kernel):
        return jnp.convolve(x, kernel, mode="valid")

    def fix(x, kernel):
        return jnp.correlate(x, kernel, mode="valid")

    def differ(theirs, ours):
        return theirs.shape == ours.shape and not np.allclose(theirs, ours)


class Vandermonde(Pair):
    """Vandermonde matrix"""

    inputs = {"x": positive(4)}
    trap = "The powers rise in `torch.linalg.vander`, and fall in `jnp.vander` (and in `torch.vander`)."
    also = ("torch.vander",)

    def torch(x):
        return torch.linalg.vander(x, N=3)

    def jax(x):
        return jnp.vander(x, N=3)

    def fix(x):
        return jnp.vander(x, N=3, increasing=True)

    def differ(theirs, ours):
        x = torch.tensor([2.0, 3.0])
        falling = np.array_equal(torch.vander(x), jnp.vander(x.numpy()))
        return falling and np.allclose(theirs, ours[:, ::-1])
