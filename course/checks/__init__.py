"""The exercises' checks: `checks.NAME(answer)`, `.hint()`, `.solution()`, and `checks.progress()`.

A check takes the answer that an exercise asks for and says *correct*, *not attempted*, or what is wrong with it:
expected, got, the likely slip. Needs NumPy, JAX and filelock; a check that migrates PyTorch needs torch when it runs.
Lesson: 00_start_here.
"""

from course.checks.core import progress
from course.checks.ensembles import cross_validated, ensemble_log_loss, mapped_shapes, sync_batch_norm
from course.checks.jit_speed import epoch_orders, first_and_steady, fit_keeping_best, times_traced
from course.checks.puzzles import (
    all_pairs,
    bag_means,
    batch_scores,
    causal_weights,
    column_summaries,
    entropy_terms,
    floored_balance,
    linear_recurrence,
    one_hot_labels,
    padded_rows,
    returns_to_go,
    row_noise,
)
from course.checks.tracing_paper import bisect, newton_direction, pure_or_static
from course.checks.transformations import clipped_gradient, hessian_vector, td_gradient

__all__ = [
    "all_pairs",
    "bag_means",
    "batch_scores",
    "bisect",
    "causal_weights",
    "clipped_gradient",
    "column_summaries",
    "cross_validated",
    "ensemble_log_loss",
    "entropy_terms",
    "epoch_orders",
    "first_and_steady",
    "fit_keeping_best",
    "floored_balance",
    "hessian_vector",
    "linear_recurrence",
    "mapped_shapes",
    "newton_direction",
    "one_hot_labels",
    "padded_rows",
    "progress",
    "pure_or_static",
    "returns_to_go",
    "row_noise",
    "sync_batch_norm",
    "td_gradient",
    "times_traced",
]
