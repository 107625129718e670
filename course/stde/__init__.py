"""Linear differential operators: exact by jets, or estimated from a sample of jets. Needs JAX.

STDE is the stochastic Taylor derivative estimator of Shi, Hu, Lin and Kawaguchi (NeurIPS 2024). An operator is a sum of
terms c_a D^a over multi-indices a; a random few of the terms, or a few random directions, estimate it without bias.
Inside, `kinds` sorts the terms and `pairs` numbers those that are too many to list; `operators` adds and multiplies,
`ready` has operators with a name, `variable` those with variable coefficients, `fields` those of vector fields; `exact`
applies them, `shared` finds what jets have in common, `jets` pushes them; `sampled` estimates, `draws` draws.
Lesson: 18_stde.
"""

from course.stde.draws import distinct
from course.stde.exact import apply
from course.stde.fields import FieldOperator, FieldTerms, curl, divergence
from course.stde.kinds import Coefficients, Factor, Kind, Scalar
from course.stde.operators import MultiIndex, Operator, Terms
from course.stde.pairs import Pairs
from course.stde.ready import biharmonic, kdv, kdv_2d, kuramoto_sivashinsky, laplacian, second_order
from course.stde.sampled import biased_square, estimate, unbiased_square
from course.stde.variable import advection, diffusion, laplace_beltrami

__all__ = [
    "Coefficients", "Factor", "FieldOperator", "FieldTerms", "Kind", "MultiIndex", "Operator", "Pairs", "Scalar",
    "Terms", "advection", "apply", "biased_square", "biharmonic", "curl", "diffusion", "distinct", "divergence",
    "estimate", "kdv", "kdv_2d", "kuramoto_sivashinsky", "laplace_beltrami", "laplacian", "second_order",
    "unbiased_square",
]  # fmt: skip
