"""The exercises' checks: `checks.NAME(answer)`, `.hint()`, `.solution()`, and `checks.progress()`.

A check takes the answer that an exercise asks for and says *correct*, *not attempted*, or what is wrong with it:
expected, got, the likely slip. Needs NumPy, JAX and filelock; a check that migrates PyTorch needs torch when it runs.
Lesson: 00_start_here.
"""

from course.checks.capstone_07_sequence import reader_accuracy, reader_batches, reader_model, reader_run, reader_step
from course.checks.core import progress
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
    "reader_accuracy",
    "reader_batches",
    "reader_model",
    "reader_run",
    "reader_step",
    "resumed_state",
    "smoothed_path",
    "td_gradient",
    "torch_frames",
]
