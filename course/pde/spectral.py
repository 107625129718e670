"""Reference solutions of periodic equations in one dimension, by a classical method. Needs NumPy and JAX.

Lesson: 21_your_own_equation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from course.pde.domain import Box, Grid
from course.taylor import arguments

Array = np.ndarray[Any, Any]


def etdrk4(
    domain: Box,
    initial: Callable[[Array], Array],
    linear: Callable[[Array], Array],
    nonlinear: Callable[[Array, Callable[[Array], Array]], Array],
    *,
    points: int = 512,
    times: int = 101,
    steps: int = 20,
) -> Grid:
    """Solve u_t = L u + N(u), u periodic in x, in float64: Fourier modes in x, exponential Runge-Kutta steps in t.

    L is solved exactly, mode by mode, so that stiff terms such as u_xxxx limit no step. The error falls with the fourth
    power of the step.

    Args:
      domain: a Box of t and one periodic axis.
      initial: u at the first time, x (n,) -> (n,), a NumPy function.
      linear: L as a polynomial of d/dx, given d (m,), complex: `lambda d: 0.001 * d**2` is 0.001 u_xx.
      nonlinear: (u (n,), d) -> N(u) (n,), where d(u) is u_x: `lambda u, d: -5 * u * d(u)`.
      points: n, in x.
      times: of the reference, equally spaced, first and last included.
      steps: between two of them.
    Returns:
      The solution on the grid, (times, points).
    Raises:
      ValueError: another domain, or a solution that is not finite.
    Source: Kassam and Trefethen (2005), with their means over a circle for the coefficients, which would cancel.
    """
    if len(domain.names) != 2 or domain.names[0] != "t" or not domain.harmonics[1]:
        raise ValueError(f"expected a domain of t and one periodic axis, got {domain}; Box(t=..., x=..., periodic='x')")
    points, times = arguments.integer("points", points, "of x", 4), arguments.integer("times", times, "two at least", 2)
    (begin, low), (end, high) = domain.lower, domain.upper
    x, t = low + (high - low) * np.arange(points) / points, np.linspace(begin, end, times)
    h = (t[1] - t[0]) / arguments.integer("steps", steps, "one at least")
    slope = 2j * np.pi / (high - low) * np.arange(points // 2 + 1)  # d/dx of each mode

    def d(u: Array) -> Array:
        return np.fft.irfft(slope * (np.arange(len(slope)) < points / 2) * np.fft.rfft(u), points)

    def rate(modes: Array) -> Array:
        return np.fft.rfft(nonlinear(np.fft.irfft(modes, points), d))

    z = h * (linear(slope) + 0j * slope)[:, None]
    whole, half = np.exp(z[:, 0]), np.exp(z[:, 0] / 2)
    c = z + np.exp(2j * np.pi * (np.arange(64) + 0.5) / 64)  # a circle of radius 1 around each z
    weights = (
        np.expm1(c / 2) / c,
        (-4 - c + np.exp(c) * (4 - 3 * c + c**2)) / c**3,
        2 * (2 + c + np.exp(c) * (c - 2)) / c**3,
        (-4 - 3 * c - c**2 + np.exp(c) * (4 - c)) / c**3,
    )
    q, first, middle, last = (h * each.mean(axis=1) for each in weights)

    modes = np.fft.rfft(initial(x))
    found = [np.fft.irfft(modes, points)]
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(times - 1):
            for _ in range(steps):
                at_start = rate(modes)
                a = half * modes + q * at_start
                at_a = rate(a)
                b = half * modes + q * at_a
                at_b = rate(b)
                at_end = rate(half * a + q * (2 * at_b - at_start))
                modes = whole * modes + first * at_start + middle * (at_a + at_b) + last * at_end
            found.append(np.fft.irfft(modes, points))
    if not np.isfinite(found).all():
        raise ValueError(f"expected a finite solution, got one that is not with {steps} steps a time; take more steps")
    return Grid(found, t=t, **{domain.names[1]: x})
