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
from course.checks.derivative_cliff import arrays_carried, critic_penalty, laplacian_in_blocks
from course.checks.taylor_mode import arctan_series, dense_jet, jettable
from course.checks.transformations import clipped_gradient, hessian_vector, td_gradient

__all__ = [
    "arctan_series",
    "arrays_carried",
    "clipped_gradient",
    "critic_penalty",
    "dense_jet",
    "hessian_vector",
    "jettable",
    "laplacian_in_blocks",
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
from course.checks.start_here import augmented, first_week, padded_sum, smooth
from course.checks.titanic_nnx import accumulated_step, copied_weights, full_batches, nnx_compilations
from course.checks.titanic_torch import ages_by_class, changed, mean_loss, padded_collate
from course.checks.transformations import clipped_gradient, hessian_vector, td_gradient

__all__ = [
    "accumulated_step",
    "ages_by_class",
    "augmented",
    "changed",
    "clipped_gradient",
    "copied_weights",
    "first_week",
    "full_batches",
    "hessian_vector",
    "mean_loss",
    "nnx_compilations",
    "padded_collate",
    "padded_sum",
    "progress",
    "smooth",
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
from course.checks.functional_derivatives import acceleration, conserving_step, equations_of_motion, nodes_agree
from course.checks.high_order_pdes import beam_ansatz, beam_on_springs, flame_residual, u_xxy_from_lines
from course.checks.million_dimensions import bratu_source, flat_in_the_end, shell_ansatz, train_on_fresh_points
from course.checks.transformations import clipped_gradient, hessian_vector, td_gradient

__all__ = [
    "acceleration",
    "beam_ansatz",
    "beam_on_springs",
    "bratu_source",
    "clipped_gradient",
    "conserving_step",
    "equations_of_motion",
    "flame_residual",
    "flat_in_the_end",
    "hessian_vector",
    "nodes_agree",
    "progress",
    "shell_ansatz",
    "td_gradient",
    "train_on_fresh_points",
    "u_xxy_from_lines",
]
