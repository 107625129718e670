"""Partial differential equations, and a compiled trainer for networks that solve them.

An equation (`equation.Equation`) knows its solution and its source in closed form, draws collocation points, makes of
any network a function that satisfies the boundary conditions, and gives the residual of any function. `ball` has those
in many dimensions, `box` and `solitons` those in time and a few, `parabolic` those of which the value at one point is
asked; `networks` and `sampling` what they are solved with, `natural_gradient` an optimizer for few points and many
parameters, `training` the trainer, `errors` the comparison with the exact solution.

An equation of one's own is a `Problem`: a `Box` of named axes (`domain`), a residual, and `conditions`; `solve`
(`solving`) trains a network on it, by `gauss_newton` if nothing else is asked for, `march` (`windows`) does so piece by
piece of time, and `etdrk4` (`spectral`) computes a reference. Needs NumPy, JAX, optax and tqdm.
Lessons: 19_million_dimensions, 20_high_order_pdes, 21_your_own_equation.
"""

from course.pde.ball import (
    BODIES,
    NONLINEAR,
    BallEquation,
    Radial,
    ball_equation,
    in_ball,
    three_body,
    two_body,
    waves,
)
from course.pde.box import BoxEquation, heat_equation, kdv_2d_equation, kdv_equation, plate_equation
from course.pde.conditions import conditions_of, data, given
from course.pde.domain import Box, Grid
from course.pde.equation import Equation, Field
from course.pde.errors import Accuracy, relative_l2
from course.pde.gauss_newton import gauss_newton
from course.pde.natural_gradient import (
    Dense,
    Layered,
    Linearized,
    NaturalGradient,
    linearize,
    linearize_layered,
    natural_gradient_step,
)
from course.pde.networks import FourierFeatures, Mlp, ModifiedMlp, after_layer, init_layered_mlp, init_mlp, mlp
from course.pde.parabolic import Parabolic, black_scholes_equation, hjb_equation, semilinear_equation
from course.pde.problem import Problem
from course.pde.sampling import orthogonal_ball, sample_ball, sample_box
from course.pde.solitons import kp_equation, ks_equation, sine_gordon_equation, zk_equation
from course.pde.solving import Loss, Solution, solve
from course.pde.spectral import etdrk4
from course.pde.training import DivergedError, State, gradient_enhanced, scaled_cosine_adam, start, train
from course.pde.windows import march

__all__ = [
    "BODIES", "NONLINEAR", "Accuracy", "BallEquation", "Box", "BoxEquation", "Dense", "DivergedError", "Equation",
    "Field", "FourierFeatures", "Grid", "Layered", "Linearized", "Loss", "Mlp", "ModifiedMlp", "NaturalGradient",
    "Parabolic", "Problem", "Radial", "Solution", "State", "after_layer", "ball_equation", "black_scholes_equation",
    "conditions_of", "data", "etdrk4", "gauss_newton", "given", "gradient_enhanced", "heat_equation", "hjb_equation",
    "in_ball", "init_layered_mlp", "init_mlp", "kdv_2d_equation", "kdv_equation", "kp_equation", "ks_equation",
    "linearize", "linearize_layered", "march", "mlp", "natural_gradient_step", "orthogonal_ball", "plate_equation",
    "relative_l2", "sample_ball", "sample_box", "scaled_cosine_adam", "semilinear_equation", "sine_gordon_equation",
    "solve", "start", "three_body", "train", "two_body", "waves", "zk_equation",
]  # fmt: skip
