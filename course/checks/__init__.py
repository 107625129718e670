"""The exercises' checks: `checks.NAME(answer)`, `.hint()`, `.solution()`, and `checks.progress()`.

A check takes the answer that an exercise asks for and says *correct*, *not attempted*, or what is wrong with it:
expected, got, the likely slip. Needs NumPy, JAX and filelock; a check that migrates PyTorch needs torch when it runs.
Lesson: 00_start_here.
"""

from course.checks.capstone_12_training_script import script_gradients, script_model, script_optimizer, script_run
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
    "script_gradients",
    "script_model",
    "script_optimizer",
    "script_run",
    "standardised_stream",
    "strict_function",
    "td_gradient",
    "unused_keys",
]
