"""Time in windows: what is handed on, one program for all, stopped and resumed."""

import re
from contextlib import nullcontext

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from course import pde
from course.pde import training, windows
from course.train.resumable import Run

KEY = jax.random.key(0)
PI = np.pi
RING = pde.Box(t=(1, 3), x=(0, 2), periodic={"x": 2})


def residual(u, x):
    """u_t + u_x = t - 1: a wave that travels; the source tells whether the time is the right one."""
    u_t, u_x = RING.derivatives(u, x, "t", "x")
    return u_t + u_x - (x[0] - 1)


def exact(x):
    return jnp.sin(PI * (x[1] - x[0] + 1)) + (x[0] - 1) ** 2 / 2


INITIAL = pde.given(t=1, u=lambda x: jnp.sin(PI * x[1]))
PROBLEM = pde.Problem(RING, residual, [INITIAL], reference=exact)


@pytest.mark.parametrize("box", [pde.Box(t=(0, 1), x=(0, 3), periodic="x"), pde.Box(t=(0, 1), x=(0, 3))], ids=str)
def test_a_series_is_the_function(x64, box):
    f = lambda x: jnp.exp(jnp.sin(2 * PI / 3 * x[1]))  # noqa: E731
    coefficients, gap = windows._series(box, f)
    u = lambda x: windows._sum(box, coefficients, x)  # noqa: E731
    for p in box.sample(KEY, 4):
        for got, wanted in zip(box.derivatives(u, p, "", "xx", "t"), box.derivatives(f, p, "", "xx", "t"), strict=True):
            assert float(got) == pytest.approx(float(wanted), abs=1e-4)
    assert gap < 1e-12


def test_a_series_in_the_plane():
    box = pde.Box(t=(0, 1), x=(0, 1), y=(-1, 1), periodic="x")
    f = lambda x: jnp.cos(2 * PI * x[1]) * x[2] ** 2 + x[2]  # noqa: E731
    coefficients, _ = windows._series(box, f)
    p = box.sample(KEY, 5)
    np.testing.assert_allclose(jax.vmap(lambda x: windows._sum(box, coefficients, x))(p), jax.vmap(f)(p), atol=1e-5)


def test_a_narrow_initial_value_is_carried_and_a_narrower_one_refused():
    box = pde.Box(t=(0, 1), x=(-1, 1))
    bell = lambda width: pde.given(t=0, u=lambda x: jnp.exp(-((x[1] + 0.5) ** 2) / width**2))  # noqa: E731
    _, gap = windows._series(box, bell(0.15).equals)
    assert gap < 1e-5
    problem = pde.Problem(box, lambda u, x: u(x), [bell(0.02)])
    with pytest.raises(ValueError, match=r"series of 64 modes along each axis gives to 1e-3, got a gap of"):
        pde.march(problem, pde.Mlp(4, 1), KEY, windows=2, steps=1, points=4, progress=False)


def test_a_series_of_time_alone_is_a_number(x64):
    """An oscillator has no other axis: what is handed on is a value and a slope."""
    box = pde.Box(t=(0, 2))
    coefficients, _ = windows._series(box, lambda x: jnp.cos(x[0]))
    assert coefficients.shape == () and float(windows._sum(box, coefficients, jnp.ones(1))) == 1.0


@pytest.mark.slow
def test_windows_go_on_where_the_one_before_ends():
    asked = []
    compiled = training._run._cache_size()
    solution = pde.march(
        PROBLEM, pde.Mlp(16, 2), KEY, windows=4, steps=25, points=128, progress=False,
        runs=lambda n: (asked.append(n), nullcontext())[1],
    )  # fmt: skip
    assert asked == [0, 1, 2, 3] and training._run._cache_size() <= compiled + 2  # chunks, not windows
    assert list(solution.errors) == [25, 50, 75, 100] and solution.losses.shape == (100,)
    assert max(solution.errors.values()) < 2e-2
    assert pde.relative_l2(PROBLEM, solution, KEY).relative_l2 < 2e-2
    for t in (1.5, 2.0, 2.5):  # no jump
        before, after = (float(solution(jnp.array([t + e, 0.7]))) for e in (-1e-6, 1e-6))
        assert before == pytest.approx(after, abs=1e-4)


@pytest.mark.slow
def test_a_march_is_resumed(tmp_path):
    """The second call finds both windows trained; a third goes on with one more window's folder removed."""

    def march():
        return pde.march(
            PROBLEM, pde.Mlp(8, 1), KEY, windows=2, steps=20, points=64, progress=False,
            runs=lambda n: Run(tmp_path / str(n), {"window": n}),
        )  # fmt: skip

    first, second = march(), march()
    assert len(first.losses) == 40 and len(second.losses) == 0
    x = RING.sample(KEY, 20)
    np.testing.assert_array_equal(first.values(x), second.values(x))
    assert second.errors == first.errors


def test_a_wave_equation_hands_on_its_velocity():
    box = pde.Box(t=(0, 1), x=(0, 2), periodic="x")
    velocity = pde.given(t=0, u_t=lambda x: jnp.cos(PI * x[1]))
    problem = pde.Problem(box, lambda u, x: u(x), [pde.given(t=0, u=lambda x: jnp.sin(PI * x[1])), velocity])
    local = windows._Windows(problem, 2)
    moving = lambda x: jnp.sin(PI * (x[1] - x[0]))  # noqa: E731
    u = local.problem(local.held(moving, 1)).ansatz(lambda z: jnp.ones(()))
    x = jnp.array([0.0, 0.3])
    np.testing.assert_allclose(
        box.derivatives(u, x, "", "t"), box.derivatives(moving, jnp.array([0.5, 0.3]), "", "t"), atol=1e-4
    )


@pytest.mark.parametrize(
    ("conditions", "more", "message"),
    [
        ([], {}, "add given(t=1, u=...)"),
        ([pde.given(t=3, u=0.0)], {}, "add given(t=1"),
        ([INITIAL, pde.data([[1.0, 1.0]], [0.0])], {}, "take pde.solve"),
        ([INITIAL, pde.given(t=2, u=0.0, weight=1.0)], {}, "take pde.solve"),
    ],
)
def test_slips(conditions, more, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        pde.march(pde.Problem(RING, residual, conditions, **more), pde.Mlp(8, 1), KEY, windows=2, steps=1)


def test_time_is_the_first_axis():
    problem = pde.Problem(pde.Box(x=(0, 1), t=(0, 1)), lambda u, x: u(x), pde.given(t=0, u=1.0))
    with pytest.raises(ValueError, match=r"got .*; name t first in Box"):
        pde.march(problem, pde.Mlp(8, 1), KEY, windows=2, steps=1)
