"""Taylor mode: high derivatives of any JAX function by pushing jets through its operations. Needs JAX.

Every function here takes a point, not a batch: wrap calls in `jax.vmap`, `jax.jit` or `jax.grad` as you like. Inside,
`programs` makes a list of operations out of a function, `propagation` pushes a jet through it, `rules` says how one
operation carries a jet, `series` how an elementwise function does, `loops` how a loop, `linear_algebra` how a solution
of linear equations; `one_hot`, `sparse` and `gram` make Laplacians cheap, `interpolation` has the polarisation formula,
`fields` what acts on vector fields.
Lesson: 17_taylor_mode.
"""

from course.taylor.fields import curl, divergence, vector_laplacian
from course.taylor.functions import (
    biharmonic,
    derivatives,
    laplacian,
    partial_derivative,
    value_and_laplacian,
    weighted,
)
from course.taylor.interpolation import interpolation
from course.taylor.rules import DifferentiationError

__all__ = [
    "DifferentiationError", "biharmonic", "curl", "derivatives", "divergence", "interpolation", "laplacian",
    "partial_derivative", "value_and_laplacian", "vector_laplacian", "weighted",
]  # fmt: skip
