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
from course.checks.porting_checkpoints import cleaned, gradients_from_the_end, port_of_a_file, resumed_state
from course.checks.porting_layers import decoder_weights, encoder_port, first_differing
from course.checks.porting_sequences import episodes, flax_mask, loud_or_quiet, next_chunk
from course.checks.real_checkpoint import folded_norm, smoothed_path, torch_frames
from course.checks.transformations import clipped_gradient, hessian_vector, td_gradient

__all__ = [
    "cleaned",
    "clipped_gradient",
    "decoder_weights",
    "encoder_port",
    "episodes",
    "first_differing",
    "flax_mask",
    "folded_norm",
    "gradients_from_the_end",
    "hessian_vector",
    "loud_or_quiet",
    "next_chunk",
    "port_of_a_file",
    "progress",
    "resumed_state",
    "smoothed_path",
    "td_gradient",
    "torch_frames",
from course.checks.compiling import biquad_scan, bucketed_loss, program_count
from course.checks.core import progress
from course.checks.custom_rules import checkpointed_segments, implicit_root, inward_clip
from course.checks.debugging import distance_gradient, strict_function, unused_keys
from course.checks.tracing import frozen_values, power_iteration, standardised_stream
from course.checks.transformations import clipped_gradient, hessian_vector, td_gradient

__all__ = [
    "biquad_scan",
    "bucketed_loss",
    "checkpointed_segments",
    "clipped_gradient",
    "distance_gradient",
    "frozen_values",
    "hessian_vector",
    "implicit_root",
    "inward_clip",
    "power_iteration",
    "program_count",
    "progress",
    "standardised_stream",
    "strict_function",
    "td_gradient",
    "unused_keys",
]
