"""The exercises' checks: `checks.NAME(answer)`, `.hint()`, `.solution()`, and `checks.progress()`.

A check takes the answer that an exercise asks for and says *correct*, *not attempted*, or what is wrong with it:
expected, got, the likely slip. Needs NumPy, JAX and filelock; a check that migrates PyTorch needs torch when it runs.
Lesson: 00_start_here.
"""

from course.checks.core import progress
from course.checks.derivative_cliff import arrays_carried, critic_penalty, laplacian_in_blocks
from course.checks.jets_at_work import constant_coefficients, helmholtz_gradient, lines_needed
from course.checks.stde import biharmonic_by_normals, fair_loss, third_derivatives
from course.checks.stde_checked import jet_contents, smallest_sample
from course.checks.taylor_mode import arctan_series, dense_jet, jettable
from course.checks.transformations import clipped_gradient, hessian_vector, td_gradient

__all__ = [
    "arctan_series",
    "arrays_carried",
    "biharmonic_by_normals",
    "clipped_gradient",
    "constant_coefficients",
    "critic_penalty",
    "dense_jet",
    "fair_loss",
    "helmholtz_gradient",
    "hessian_vector",
    "jet_contents",
    "jettable",
    "laplacian_in_blocks",
    "lines_needed",
    "progress",
    "smallest_sample",
    "td_gradient",
    "third_derivatives",
]
