"""The exercises' checks: `checks.NAME(answer)`, `.hint()`, `.solution()`, and `checks.progress()`.

A check takes the answer that an exercise asks for and says *correct*, *not attempted*, or what is wrong with it:
expected, got, the likely slip. Needs NumPy, JAX and filelock; a check that migrates PyTorch needs torch when it runs.
Lesson: 00_start_here.
"""

from course.checks.core import progress
from course.checks.same_numbers import batch_norm, bias_correction, guilty_layers
from course.checks.start_here import augmented, first_week, padded_sum, smooth
from course.checks.titanic_linen import best_state, linen_tree, siamese, sweep
from course.checks.titanic_nnx import accumulated_step, copied_weights, full_batches, nnx_compilations
from course.checks.titanic_torch import ages_by_class, changed, mean_loss, padded_collate
from course.checks.transformations import clipped_gradient, hessian_vector, td_gradient

__all__ = [
    "accumulated_step",
    "ages_by_class",
    "augmented",
    "batch_norm",
    "best_state",
    "bias_correction",
    "changed",
    "clipped_gradient",
    "copied_weights",
    "first_week",
    "full_batches",
    "guilty_layers",
    "hessian_vector",
    "linen_tree",
    "mean_loss",
    "nnx_compilations",
    "padded_collate",
    "padded_sum",
    "progress",
    "siamese",
    "smooth",
    "sweep",
    "td_gradient",
]
