"""Partial differential equations with known solutions, and a compiled trainer for networks that solve them.

An equation (`equation.Equation`) knows its solution and its source in closed form, draws collocation points, makes of
any network a function that satisfies the boundary conditions, and gives the residual of any function. `ball` has those
in many dimensions, `box` those in time and a few; `networks` and `sampling` what they are solved with,
`natural_gradient` an optimizer for few points and many parameters, `training` the trainer, `errors` the comparison with
the exact solution. Needs NumPy, JAX and optax.
Lessons: 19_million_dimensions, 20_high_order_pdes.
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
from course.pde.equation import Equation, Field
from course.pde.errors import Accuracy, relative_l2
from course.pde.natural_gradient import (
    Dense,
    Layered,
    Linearized,
    NaturalGradient,
    linearize,
    linearize_layered,
    natural_gradient_step,
)
from course.pde.networks import after_layer, init_layered_mlp, init_mlp, mlp
from course.pde.sampling import orthogonal_ball, sample_ball, sample_box
from course.pde.training import DivergedError, State, gradient_enhanced, scaled_cosine_adam, start, train

__all__ = [
    "BODIES", "NONLINEAR", "Accuracy", "BallEquation", "BoxEquation", "Dense", "DivergedError", "Equation", "Field",
    "Layered", "Linearized", "NaturalGradient", "Radial", "State", "after_layer", "ball_equation", "gradient_enhanced",
    "heat_equation", "in_ball", "init_layered_mlp", "init_mlp", "kdv_2d_equation", "kdv_equation", "linearize",
    "linearize_layered", "mlp", "natural_gradient_step", "orthogonal_ball", "plate_equation", "relative_l2",
    "sample_ball", "sample_box", "scaled_cosine_adam", "start", "three_body", "train", "two_body", "waves",
]  # fmt: skip
