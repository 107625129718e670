"""The spectral reference against closed forms, and its order; values on a grid."""

import re

import numpy as np
import pytest

from course import pde

DOMAIN = pde.Box(t=(0, 1), x=(-1, 1), periodic="x")


def sine(x):
    return np.sin(np.pi * x)


def nothing(u, d):
    return 0 * u


def test_a_linear_equation_is_solved_exactly():
    """u_t = 0.1 u_xx - 2 u_x + 0.01 u_xxx: a wave that travels and decays."""
    found = pde.etdrk4(DOMAIN, sine, lambda d: 0.1 * d**2 - 2 * d + 0.01 * d**3, nothing, points=32, times=5, steps=1)
    t, x = np.meshgrid(*found.coordinates, indexing="ij")
    exact = np.exp(-0.1 * np.pi**2 * t) * np.sin(np.pi * (x - 2 * t) - 0.01 * np.pi**3 * t)
    np.testing.assert_allclose(found.values, exact, atol=1e-12)


def test_the_error_falls_with_the_fourth_power_of_the_step():
    """Burgers' equation with viscosity 0.05."""

    def solve(steps):
        return pde.etdrk4(
            DOMAIN, sine, lambda d: 0.05 * d**2, lambda u, d: -u * d(u), points=64, times=2, steps=steps
        ).values[-1]

    exact = solve(640)
    errors = [np.linalg.norm(solve(steps) - exact) for steps in (20, 40, 80)]
    orders = -np.diff(np.log2(errors))
    assert orders == pytest.approx([4, 4], abs=0.35)


def test_a_stiff_equation_takes_the_same_steps():
    """Kuramoto-Sivashinsky: the step of an explicit method would have to be below 1e-6."""

    def solve(points, steps):
        linear = lambda d: -0.5 * d**2 - 0.005 * d**4  # noqa: E731
        return pde.etdrk4(
            DOMAIN, lambda x: -sine(x), linear, lambda u, d: -2.5 * d(u**2), points=points, times=11, steps=steps
        ).values

    fine = solve(256, 400)[:, ::2]
    assert np.linalg.norm(solve(128, 100) - fine) < 1e-5 * np.linalg.norm(fine)


def test_the_grid_of_a_reference():
    found = pde.etdrk4(pde.Box(t=(1, 2), z=(0, 3), periodic="z"), sine, lambda d: 0 * d, nothing, points=6, times=3)
    assert found.names == "tz" and found.values.shape == (3, 6) and found.values.dtype == np.float64
    np.testing.assert_allclose(found.coordinates[0], [1, 1.5, 2])
    np.testing.assert_allclose(found.coordinates[1], [0, 0.5, 1, 1.5, 2, 2.5])
    np.testing.assert_allclose(found.values, [sine(found.coordinates[1])] * 3, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pde.etdrk4(pde.Box(t=(0, 1), x=(0, 1)), sine, nothing, nothing), "periodic='x'"),
        (lambda: pde.etdrk4(pde.Box(x=(0, 1), t=(0, 1), periodic="t"), sine, nothing, nothing), "t and one periodic"),
        (lambda: pde.etdrk4(DOMAIN, sine, lambda d: 0 * d, lambda u, d: 1e9 * u**3), "take more steps"),
        (lambda: pde.etdrk4(DOMAIN, sine, lambda d: d, nothing, points=3), "points"),
        (lambda: pde.Grid(np.zeros((3, 2)), t=[0, 1], x=[0, 1, 2]), "got (3, 2); transpose"),
        (lambda: pde.Grid(np.zeros((2, 4)), t=[0, 1], x=[0, 1, 2]), "one coordinate for each"),
        (lambda: pde.Grid([0, np.nan], t=[0, 1]), "finite values"),
        (lambda: pde.Grid(np.zeros((2, 2)), x=[0, 1], t=[0, 1]).points(DOMAIN), "the axes ['t', 'x']"),
        (lambda: pde.Grid(np.zeros((2, 2)), t=[0, 1], x=[0, 2]).points(DOMAIN), "expected x from -1 to 1"),
    ],
)
def test_slips(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
