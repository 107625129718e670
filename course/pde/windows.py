"""Time in windows: each is solved from the end of the one before. Needs NumPy, JAX, optax and tqdm.

Lesson: 21_your_own_equation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from course.pde.conditions import Face, Residual, across
from course.pde.domain import Box, Grid
from course.pde.equation import Field
from course.pde.gauss_newton import gauss_newton
from course.pde.networks import drawn
from course.pde.problem import Problem
from course.pde.solving import Loss, Solution, check, trained
from course.pde.training import Optimizer
from course.taylor import arguments

if TYPE_CHECKING:
    from course.train import resumable

MODES = 64
"""Of the series along each axis that hands a solution on to the next window; a power of two."""


def march(
    problem: Problem,
    network: Any,
    key: jax.Array,
    *,
    windows: int,
    steps: int,
    optimizer: Optimizer | None = None,
    points: int = 512,
    causal: float = 0.0,
    candidates: int = 1,
    progress: bool = True,
    runs: Callable[[int], resumable.Run] | None = None,
) -> Solution:
    """Cut time into windows of equal length and solve one after the other, each from the end of the one before.

    What is handed on is a series: 64 harmonics along each periodic axis, Chebyshev polynomials up to degree 64 along
    the others, without what rounding alone put there. The program is compiled once.

    Args:
      problem: with the axis "t" first, initial values built in at its beginning, and nothing else given along t.
      network, key, optimizer, points, causal, candidates, progress: as of `solve`; every window's network starts from
        the one before.
      windows: how many.
      steps: in each window.
      runs: window -> where its checkpoints are kept, `lambda n: Run(folder / str(n), setting)`; started again, the same
        call goes on where it stopped.
    Returns:
      The solution over the whole time. Its `errors` are those at the end of each window, over the window.
    Raises:
      ValueError: initial values that are not built in; data, or an ansatz of one's own, which no window has.
    """
    windows = arguments.integer("windows", windows, "1 is all of time")
    local = _Windows(problem, windows)
    optimizer = gauss_newton() if optimizer is None else optimizer
    apply, params = drawn(network, key, problem.inputs)
    loss = _WindowLoss(local.problem(local.held(None, 0)), apply, points, causal=causal, candidates=candidates)
    loss.local, found, u = local, [], None
    for n in range(windows):
        held = local.held(u, n)
        start = {"network": jax.tree.map(jnp.copy, params), "unknowns": {}, "held": held}
        if n == 0:
            check(loss, start, key)
        bar = f"window {n + 1} of {windows}" if progress else False
        with runs(n) if runs else nullcontext() as run:
            each = trained(loss, start, jax.random.fold_in(key, n), steps, optimizer, bar, run)
        params, u = each.params["network"], each.u
        found.append(each)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[each.params for each in found])

    def whole(x: jax.Array) -> jax.Array:
        n = jnp.clip((x[0] - problem.domain.lower[0]) / local.length, 0, windows - 1).astype(int)
        here = jax.tree.map(lambda leaves: leaves[n], stacked)
        return loss.u(here)(x.at[0].add(-here["held"]["begin"]))

    losses, seconds = np.concatenate([each.losses for each in found]), sum(each.seconds for each in found)
    solution = Solution(problem, whole, apply, stacked, losses, {}, seconds)
    return replace(solution, errors=_errors(solution, windows, steps))


def _errors(solution: Solution, windows: int, steps: int) -> dict[int, float]:
    """The relative L2 error over each window, by the step at its end."""
    problem, reference = solution.problem, solution.problem.reference
    if isinstance(reference, Grid):
        x, exact = np.asarray(reference.points(problem.domain)), reference.values
    elif reference is not None:
        x = np.asarray(problem.sample(jax.random.key(0), 2000))
        exact = np.asarray(jax.jit(jax.vmap(reference))(x), np.float64)
    else:
        return {}
    gaps, (low, *_), (high, *_) = solution.values(x) - exact, problem.domain.lower, problem.domain.upper
    place = np.clip((windows * (x[..., 0] - low) / (high - low)).astype(int), 0, windows - 1)
    return {
        (n + 1) * steps: float(np.linalg.norm(gaps[place == n]) / np.linalg.norm(exact[place == n]))
        for n in range(windows)
        if (place == n).any()
    }


class _Windows:
    """The problem of one window, in a time that begins with it."""

    def __init__(self, problem: Problem, windows: int) -> None:
        domain = problem.domain
        initial = [face for face in problem.faces if face.axis == domain.names[0]]
        if domain.names[0] != "t" or not initial or any(face.at != domain.lower[0] for face in initial):
            first = f"add given(t={domain.lower[0]:g}, u=...)" if domain.names[0] == "t" else "name t first in Box"
            raise ValueError(
                f"expected initial values built in at the beginning of t, the first axis, got {domain} with "
                f"{', '.join(map(str, problem.faces)) or 'nothing'}; {first}"
            )
        if problem.has_ansatz or any(not isinstance(p, Face) or p.axis == "t" for p in problem.penalties):
            raise ValueError(
                "expected conditions on faces of the other axes, got data, a condition on t or an ansatz of your own; "
                "take pde.solve"
            )
        self.conditions = [face for face in [*problem.faces, *problem.penalties] if isinstance(face, Face)]
        self.whole, self.length = problem, (domain.upper[0] - domain.lower[0]) / windows
        bounds = dict(zip(domain.names, zip(domain.lower, domain.upper, strict=True), strict=True))
        harmonics = {name: n for name, n in zip(domain.names, domain.harmonics, strict=True) if n}
        self.domain = Box(periodic=harmonics, **bounds | {"t": (0.0, self.length)})

    def held(self, before: Field | None, n: int) -> dict[str, Any]:
        """What is not trained: when window n begins, and the series of its initial values."""
        begin, initial = self.whole.domain.lower[0] + n * self.length, []
        for face in self.whole.faces:
            if face.axis == "t":
                values = face.equals if before is None else _end(before, self.length, face.order)
                coefficients, gap = _series(self.domain, values)
                if before is None and gap > 1e-3:
                    raise ValueError(
                        f"expected initial values that a series of {MODES} modes along each axis gives to 1e-3, got a "
                        f"gap of {gap:.1e} in {face}; take pde.solve, or smooth them"
                    )
                initial.append(coefficients)
        return {"begin": jnp.float32(begin), "initial": initial}

    def problem(self, held: Mapping[str, Any]) -> Problem:
        """Of the window that begins as this says."""
        initial = iter(held["initial"])

        def at(x: jax.Array, sign: int = 1) -> jax.Array:
            return x.at[0].add(sign * held["begin"].astype(x.dtype))

        def later(of: Residual) -> Residual:
            return lambda u, x, **unknowns: of(lambda x: u(at(x, -1)), at(x), **unknowns)

        def moved(face: Face) -> Face:
            if face.axis == "t":
                coefficients = next(initial)
                return replace(face, at=0.0, equals=lambda x: _sum(self.domain, coefficients, x))
            return replace(
                face,
                equals=lambda x: face.equals(at(x)),
                residual=None if face.residual is None else later(face.residual),
            )

        return Problem(self.domain, later(self.whole.residual), [moved(face) for face in self.conditions])


class _WindowLoss(Loss):
    """Of one window; which one it is stands in the parameters, so that all have one program."""

    local: _Windows

    def equation(self, params: Any) -> Problem:
        return self.local.problem(jax.lax.stop_gradient(params["held"]))


def _end(u: Field, time: float, order: int) -> Field:
    return lambda x: across(u, x.at[0].set(time), 0, order)


def _basis(z: Any, harmonics: int) -> Any:
    """The functions of a series at z (...) in [-1, 1], (..., m); NumPy's or JAX's, as z is."""
    xp: Any = np if isinstance(z, np.ndarray) else jnp
    z = z[..., None]
    if harmonics:
        angles = np.pi * xp.arange(1, MODES + 1, dtype=z.dtype) * z
        return xp.concatenate([xp.ones_like(z), xp.cos(angles), xp.sin(angles)], axis=-1)
    values = xp.concatenate([xp.ones_like(z), z], axis=-1)
    while (k := values.shape[-1] - 1) < MODES:  # T_(k + j) = 2 T_k T_j - T_(k - j), for all j from 1 to k
        values = xp.concatenate([values, 2 * values[..., k:] * values[..., 1:] - values[..., k - 1 :: -1]], axis=-1)
    return values


def _series(domain: Box, f: Field) -> tuple[jax.Array, float]:
    """Coefficients of f at one time, one axis of the array for each axis of space; and how far the series is from f."""
    nodes, bases = [], []
    for low, high, harmonics in list(zip(domain.lower, domain.upper, domain.harmonics, strict=True))[1:]:
        count = np.arange(2 * MODES + 2)
        z = count / (MODES + 1) - 1 if harmonics else np.cos(np.pi * (count + 0.5) / len(count))
        nodes.append(low + (high - low) * (z + 1) / 2)
        bases.append(_basis(z, harmonics))
    grid = np.meshgrid(*nodes, indexing="ij")
    space = np.stack([each.ravel() for each in grid], axis=1) if nodes else np.zeros((1, 0))  # t may stand alone
    x = jnp.asarray(np.insert(space, 0, 0.0, axis=1), float)
    values = np.asarray(jax.jit(lambda x: jax.lax.map(f, x, batch_size=4096))(x))
    rounding, values = 16 * np.finfo(values.dtype).eps, values.reshape([len(each) for each in nodes])
    coefficients = _along(values, [np.linalg.pinv(basis) for basis in bases])
    coefficients = np.where(abs(coefficients) < rounding * abs(coefficients).max(), 0, coefficients)
    gap = abs(_along(coefficients, bases) - values).max() / max(abs(values).max(), np.finfo(float).tiny)
    return jnp.asarray(coefficients, float), float(gap)


def _along(values: np.ndarray, matrices: list[np.ndarray]) -> np.ndarray:
    """One matrix times the values along each axis, in float64."""
    for axis, matrix in enumerate(matrices):
        values = np.moveaxis(np.tensordot(matrix, values, axes=(1, axis)), 0, axis)
    return values


def _sum(domain: Box, coefficients: jax.Array, x: jax.Array) -> jax.Array:
    """The series at a point, ()."""
    for z, harmonics in list(zip(domain.unit(x), domain.harmonics, strict=True))[1:]:
        coefficients = jnp.tensordot(_basis(z, harmonics), coefficients, axes=1)
    return coefficients
