"""The exercises' checks: `checks.NAME(answer)`, `.hint()`, `.solution()`, and `checks.progress()`.

A check takes the answer that an exercise asks for and says *correct*, *not attempted*, or what is wrong with it:
expected, got, the likely slip. Needs NumPy, JAX and filelock; a check that migrates PyTorch needs torch when it runs.
Lesson: 00_start_here.
"""

from course.checks.capstone_05_classifier import digit_accuracy, digit_augment, digit_model, digit_run
from course.checks.capstone_20_pinn import pinn_loss, pinn_model, pinn_optimizer, pinn_residual, pinn_run
from course.checks.core import progress
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
    "digit_accuracy",
    "digit_augment",
    "digit_model",
    "digit_run",
    "equations_of_motion",
    "flame_residual",
    "flat_in_the_end",
    "hessian_vector",
    "nodes_agree",
    "pinn_loss",
    "pinn_model",
    "pinn_optimizer",
    "pinn_residual",
    "pinn_run",
    "progress",
    "shell_ansatz",
    "td_gradient",
    "train_on_fresh_points",
    "u_xxy_from_lines",
]
