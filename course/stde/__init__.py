"""Linear differential operators: exact by jets, or estimated from a sample of jets. Needs JAX.

STDE is the stochastic Taylor derivative estimator of Shi, Hu, Lin and Kawaguchi (NeurIPS 2024). An operator is a sum of
terms c_a D^a over multi-indices a; a random few of the terms, or a few random directions, estimate it without bias.
Inside, `kinds` sorts the terms, `operators` adds and multiplies, `ready` has operators with a name, `exact` applies
them, `sampled` estimates, `draws` draws.
Lesson: 18_stde.
"""

from course.stde.draws import distinct
from course.stde.exact import apply
from course.stde.kinds import Coefficients, Kind, Scalar
from course.stde.operators import Operator
from course.stde.ready import biharmonic, kdv, kdv_2d, kuramoto_sivashinsky, laplacian, second_order
from course.stde.sampled import biased_square, estimate, unbiased_square

__all__ = [
    "Coefficients", "Kind", "Operator", "Scalar", "apply", "biased_square", "biharmonic", "distinct", "estimate", "kdv",
    "kdv_2d", "kuramoto_sivashinsky", "laplacian", "second_order", "unbiased_square",
]  # fmt: skip
