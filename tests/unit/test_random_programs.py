"""Programs drawn from a grammar: every public operator equals nested JAX, plain, under jit, vmap and grad by weights.

59 of 150 programs: 15 are quick, 22 more belong to `make test`, 22 to `make test-thorough`. Items, operator and setting
of each are given, so that in 150 every item meets every operator and every setting; hypothesis draws the rest: wiring,
widths, weights, orders. `make fuzz` runs 3,000.
"""

import hypothesis
import pytest
from hypothesis import strategies as st

from tests.unit import random_checks
from tests.unit.random_programs import ITEMS

QUICK = {12, 23, 29, 46, 67, 77, 84, 99, 125, 129, 131, 133, 141, 144, 149}  # every operator and setting


pytestmark = pytest.mark.usefixtures("x64")


def marks(number):
    return [] if number in QUICK else [pytest.mark.slow, pytest.mark.thorough][: 1 + (number % 6 > 0)]


KEPT = sorted(QUICK | set(range(0, random_checks.PROGRAMS, 3)))


@pytest.mark.parametrize("number", [pytest.param(n, marks=marks(n)) for n in KEPT])
def test_a_program_has_the_derivatives_of_nested_jax(number):
    @hypothesis.given(st.data())
    @hypothesis.settings(max_examples=1, deadline=None, derandomize=True, database=None)
    def run(data):
        # an example of hypothesis begins with zeros: the salt makes of them as good a draw as any
        random_checks.check(number, lambda n, salt: (data.draw(st.integers(0, n - 1)) + salt) % n)

    run()


def test_every_item_meets_every_operator_and_setting():
    plans = [random_checks.plan(n) for n in range(random_checks.PROGRAMS)]
    operators = {(item, operator) for operator, _, items in plans for item in items}
    settings = {(item, setting) for _, setting, items in plans for item in items}
    assert len(ITEMS) >= 40
    assert len(operators) == len(ITEMS) * len(random_checks.OPERATORS)
    assert len(settings) == len(ITEMS) * len(random_checks.SETTINGS)
