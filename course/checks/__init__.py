"""The exercises' checks: `checks.NAME(answer)`, `.hint()`, `.solution()`, and `checks.progress()`.

A check takes the answer that an exercise asks for and says *correct*, *not attempted*, or what is wrong with it:
expected, got, the likely slip. Needs NumPy, JAX and filelock; a check that migrates PyTorch needs torch when it runs.
Lesson: 00_start_here.
"""

from course.checks.checkpoints import resumable_batches, saved_run, strict_loading
from course.checks.core import progress
from course.checks.optimizers import cautious_rule, fitted_weights, ported_rule, restarting_rate
from course.checks.precision import mixed_gradients, promoted_types, random_rounding, steady_variance
from course.checks.state_and_trees import best_weights, refreshed_averages, running_scale, tree_leaves
from course.checks.training_rules import gradient_in_parts, layerwise_rates, skipped_steps, trained_biases
from course.checks.transformations import clipped_gradient, hessian_vector, td_gradient

__all__ = [
    "best_weights",
    "cautious_rule",
    "clipped_gradient",
    "fitted_weights",
    "gradient_in_parts",
    "hessian_vector",
    "layerwise_rates",
    "mixed_gradients",
    "ported_rule",
    "progress",
    "promoted_types",
    "random_rounding",
    "refreshed_averages",
    "restarting_rate",
    "resumable_batches",
    "running_scale",
    "saved_run",
    "skipped_steps",
    "steady_variance",
    "strict_loading",
    "td_gradient",
    "trained_biases",
    "tree_leaves",
]
