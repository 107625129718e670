"""The exercises' checks: `checks.NAME(answer)`, `.hint()`, `.solution()`, and `checks.progress()`.

A check takes the answer that an exercise asks for and says *correct*, *not attempted*, or what is wrong with it:
expected, got, the likely slip. Needs NumPy, pandas, JAX, optax and flax; a check
that migrates PyTorch needs torch when it runs.
Lesson: 00_start_here.
"""

from course.checks.all_equations import beam_conditions, breaking_residual, steered_value
from course.checks.capstone_05_classifier import digit_accuracy, digit_augment, digit_model, digit_run
from course.checks.capstone_07_sequence import reader_accuracy, reader_batches, reader_model, reader_run, reader_step
from course.checks.capstone_12_training_script import script_gradients, script_model, script_optimizer, script_run
from course.checks.capstone_20_pinn import pinn_loss, pinn_model, pinn_optimizer, pinn_residual, pinn_run
from course.checks.checkpoints import resumable_batches, saved_run, strict_loading
from course.checks.collectives_by_hand import dropout_on_each, striped_micro_batches, sum_by_ring, weighted_mean_of_all
from course.checks.compiling import biquad_scan, bucketed_loss, program_count
from course.checks.core import progress
from course.checks.custom_rules import checkpointed_segments, implicit_root, inward_clip
from course.checks.debugging import distance_gradient, strict_function, unused_keys
from course.checks.derivative_cliff import arrays_carried, critic_penalty, laplacian_in_blocks
from course.checks.ensembles import cross_validated, ensemble_log_loss, mapped_shapes, sync_batch_norm
from course.checks.functional_derivatives import acceleration, conserving_step, equations_of_motion, nodes_agree
from course.checks.high_order_pdes import beam_ansatz, beam_on_springs, eddy_residual, flame_residual, u_xxy_from_lines
from course.checks.jets_at_work import constant_coefficients, helmholtz_gradient, lines_needed, local_energy
from course.checks.jit_speed import epoch_orders, first_and_steady, fit_keeping_best, times_traced
from course.checks.many_devices import fsdp_axis, shards_on_a_mesh, spec_from_rules, training_bytes
from course.checks.many_processes import common_stop, keys_of_processes, region_of_parts, weighted_batches
from course.checks.million_dimensions import bratu_source, flat_in_the_end, shell_ansatz, train_on_fresh_points
from course.checks.more_functionals import held_exactly, potential_at_nodes, virtual_work
from course.checks.optimizers import cautious_rule, fitted_weights, ported_rule, restarting_rate
from course.checks.porting_checkpoints import cleaned, gradients_from_the_end, port_of_a_file, resumed_state
from course.checks.porting_layers import decoder_weights, encoder_port, first_differing
from course.checks.porting_sequences import episodes, flax_mask, loud_or_quiet, next_chunk
from course.checks.precision import mixed_gradients, promoted_types, random_rounding, steady_variance
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
from course.checks.real_checkpoint import folded_norm, smoothed_path, torch_frames
from course.checks.same_numbers import batch_norm, bias_correction, guilty_layers
from course.checks.ship_it import padded_chunks, shipped_pipeline, strict_rows, symbolic_batches
from course.checks.start_here import augmented, first_week, padded_sum, smooth
from course.checks.state_and_trees import best_weights, refreshed_averages, running_scale, tree_leaves
from course.checks.stde import biharmonic_by_normals, fair_loss, on_surface, third_derivatives
from course.checks.stde_checked import density_rate, exact_laplacian, jet_contents, smallest_sample
from course.checks.taylor_mode import arctan_series, dense_jet, jettable
from course.checks.titanic_linen import best_state, linen_tree, siamese, sweep
from course.checks.titanic_nnx import accumulated_step, copied_weights, full_batches, nnx_compilations
from course.checks.titanic_torch import ages_by_class, changed, mean_loss, padded_collate
from course.checks.tracing import frozen_values, power_iteration, standardised_stream
from course.checks.tracing_paper import bisect, newton_direction, pure_or_static
from course.checks.training_rules import gradient_in_parts, layerwise_rates, skipped_steps, trained_biases
from course.checks.transformations import clipped_gradient, hessian_vector, td_gradient
from course.checks.your_own_equation import (
    concentration,
    spreading_residual,
    spring_from_data,
    string_conditions,
    wave_reference,
)

__all__ = [
    "acceleration", "accumulated_step", "ages_by_class", "all_pairs", "arctan_series", "arrays_carried",
    "augmented", "bag_means", "batch_norm", "batch_scores", "beam_ansatz", "beam_conditions", "beam_on_springs",
    "best_state", "best_weights", "bias_correction", "biharmonic_by_normals", "biquad_scan", "bisect",
    "bratu_source", "breaking_residual", "bucketed_loss", "causal_weights", "cautious_rule", "changed",
    "checkpointed_segments", "cleaned", "clipped_gradient", "column_summaries", "common_stop", "concentration",
    "conserving_step", "constant_coefficients", "copied_weights", "critic_penalty", "cross_validated",
    "decoder_weights", "dense_jet", "density_rate", "digit_accuracy", "digit_augment", "digit_model", "digit_run",
    "distance_gradient", "dropout_on_each", "eddy_residual", "encoder_port", "ensemble_log_loss", "entropy_terms",
    "episodes", "epoch_orders", "equations_of_motion", "exact_laplacian", "fair_loss", "first_and_steady",
    "first_differing", "first_week", "fit_keeping_best", "fitted_weights", "flame_residual", "flat_in_the_end",
    "flax_mask", "floored_balance", "folded_norm", "frozen_values", "fsdp_axis", "full_batches",
    "gradient_in_parts", "gradients_from_the_end", "guilty_layers", "held_exactly", "helmholtz_gradient",
    "hessian_vector", "implicit_root", "inward_clip", "jet_contents", "jettable", "keys_of_processes",
    "laplacian_in_blocks", "layerwise_rates", "linear_recurrence", "linen_tree", "lines_needed", "local_energy",
    "loud_or_quiet", "mapped_shapes", "mean_loss", "mixed_gradients", "newton_direction", "next_chunk",
    "nnx_compilations", "nodes_agree", "on_surface", "one_hot_labels", "padded_chunks", "padded_collate",
    "padded_rows", "padded_sum", "pinn_loss", "pinn_model", "pinn_optimizer", "pinn_residual", "pinn_run",
    "port_of_a_file", "ported_rule", "potential_at_nodes", "power_iteration", "program_count", "progress",
    "promoted_types", "pure_or_static", "random_rounding", "reader_accuracy", "reader_batches", "reader_model",
    "reader_run", "reader_step", "refreshed_averages", "region_of_parts", "restarting_rate", "resumable_batches",
    "resumed_state", "returns_to_go", "row_noise", "running_scale", "saved_run", "script_gradients", "script_model",
    "script_optimizer", "script_run", "shards_on_a_mesh", "shell_ansatz", "shipped_pipeline", "siamese",
    "skipped_steps", "smallest_sample", "smooth", "smoothed_path", "spec_from_rules", "spreading_residual",
    "spring_from_data", "standardised_stream", "steady_variance", "steered_value", "strict_function",
    "strict_loading", "strict_rows", "string_conditions", "striped_micro_batches", "sum_by_ring", "sweep",
    "symbolic_batches", "sync_batch_norm", "td_gradient", "third_derivatives", "times_traced", "torch_frames",
    "train_on_fresh_points", "trained_biases", "training_bytes", "tree_leaves", "u_xxy_from_lines", "unused_keys",
    "virtual_work", "wave_reference", "weighted_batches", "weighted_mean_of_all",
]  # fmt: skip
