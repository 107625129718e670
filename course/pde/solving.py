"""Solve an equation of one's own: the loss, the call that trains a network on it, and what comes out.

Needs NumPy, JAX, optax and tqdm. Lesson: 21_your_own_equation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike
from tqdm import tqdm

from course.pde.domain import Grid
from course.pde.equation import Field
from course.pde.gauss_newton import Part, gauss_newton, linearized
from course.pde.natural_gradient import Dense, NaturalGradient
from course.pde.networks import Apply, drawn
from course.pde.training import Optimizer, start, train
from course.taylor import arguments

if TYPE_CHECKING:
    from course.train import resumable

PIECES = 16
"""Of time, for causal weights."""


class Loss:
    """Mean square of the residual at points drawn from a key, plus the penalties; (params, key) -> ().

    Parameters are {"network": of the network, "unknowns": {name: ()}}.

    Args:
      problem: an `Equation`.
      apply: the network, (params, x (inputs,)) -> ().
      points: collocation points, n; a penalty on a face takes n / 4 there, one of data at most n of them.
      causal: c > 0 weighs the residual at a time by exp(-c L), L what all earlier times leave over, the sum of the mean
        squares of 16 pieces; time is the first coordinate. 0 is no weights.
      candidates: points drawn for each one taken; with more than 1 they are taken with probability proportional to
        |residual| + its mean.
      fixed: the same points in all steps.
    Source: causal weights: Wang, Sankaran and Perdikaris (2022); points: Wu et al. (2023), their RAD with k = c = 1.
    """

    def __init__(
        self, problem: Any, apply: Apply, points: int, *, causal: float = 0.0, candidates: int = 1, fixed: bool = False
    ) -> None:
        self.problem, self.apply = problem, apply
        self.points = arguments.integer("points", points, "the residual is taken at one point at least")
        self.candidates = arguments.integer("candidates", candidates, "1 takes all points that are drawn")
        if causal < 0 or (causal and getattr(getattr(problem, "domain", None), "names", "-")[0] != "t"):
            raise ValueError(
                f"expected causal >= 0, and more than 0 only where t is the first axis, got {causal}; 0 is no weights"
            )
        self.causal, self.fixed = causal, fixed

    def equation(self, params: Any) -> Any:
        """The problem, where it does not depend on parameters."""
        return self.problem

    def u(self, params: Any) -> Field:
        """The function that these parameters make, (d,) -> ()."""
        return self.equation(params).ansatz(lambda x: self.apply(params["network"], x))

    def residual(self, params: Any, x: jax.Array) -> jax.Array:
        """Of the equation at one point, ()."""
        return self.equation(params).residual(self.u(params), x, **params["unknowns"])

    def parts(self, params: Any, key: jax.Array) -> list[Part]:
        """What is squared and added: the equation, then each penalty, with points drawn from the key, and weights."""
        params = jax.lax.stop_gradient(params)
        penalties = range(len(getattr(self.problem, "penalties", ())))
        own, *keys = jax.random.split(jax.random.key(0) if self.fixed else key, 1 + len(penalties))
        x = self._points(params, own)
        weight = self._causal(params, x) if self.causal else jnp.ones(())
        parts = [Part(self.residual, x, weight / self.points)]
        for n in penalties:
            penalty = self.problem.penalties[n]
            batch = penalty.draw(self.problem.domain, keys[n], self.points)
            size = len(jax.tree.leaves(batch)[0])
            parts.append(Part(partial(self.gap, n), batch, jnp.asarray(penalty.weight / size)))
        return parts

    def gap(self, n: int, params: Any, one: Any) -> jax.Array:
        """What the n-th penalty leaves over, ()."""
        penalty = self.equation(params).penalties[n]
        return penalty.residual_at(self.problem.domain, self.u(params), one, params["unknowns"])

    def __call__(self, params: Any, key: jax.Array) -> jax.Array:
        return jnp.stack([part.loss(params) for part in self.parts(params, key)]).sum()

    def linearized(self, params: Any, key: jax.Array, step: jax.Array) -> Dense:
        """The same, for `NaturalGradient`: residuals times the roots of n and of their weights, and their Jacobian."""
        batch = linearized(self.parts(params, key), params)
        return jax.tree.map(lambda leaf: len(batch.residuals) ** 0.5 * leaf, batch)

    def _points(self, params: Any, key: jax.Array) -> jax.Array:
        if self.candidates == 1:
            return self.problem.sample(key, self.points)
        own, taken = jax.random.split(key)
        x = self.problem.sample(own, self.candidates * self.points)
        size = abs(jax.vmap(lambda x: self.residual(params, x))(x))
        return jax.random.choice(taken, x, (self.points,), replace=False, p=size + size.mean())

    def _causal(self, params: Any, x: jax.Array) -> jax.Array:
        (begin, *_), (end, *_) = self.problem.domain.lower, self.problem.domain.upper
        place = jnp.clip(PIECES * (x[:, 0] - begin) / (end - begin), 0, PIECES - 1).astype(int)
        piece = jax.nn.one_hot(place, PIECES)  # (n, 16)
        means = jax.vmap(lambda x: self.residual(params, x))(x) ** 2 @ piece / jnp.maximum(piece.sum(axis=0), 1)
        return jnp.exp(-self.causal * (jnp.cumsum(means) - means))[place]


@dataclass(frozen=True, eq=False)
class Solution:
    """A network that solves a problem; called at a point (d,), it gives u, ().

    Attributes:
      problem: what it solves.
      u: itself, without a check of the point.
      apply: the network, (params, x (inputs,)) -> ().
      params: {"network": its parameters, "unknowns": {name: ()}}; of `march` those of all windows, stacked.
      losses: of the steps made in this call, (steps,).
      errors: the relative L2 error after steps {step: error}; empty without a reference.
      seconds: that the steps took, compiling included.
    """

    problem: Any
    u: Field
    apply: Apply
    params: Any
    losses: np.ndarray
    errors: Mapping[int, float]
    seconds: float

    def __call__(self, x: ArrayLike) -> jax.Array:
        x = jnp.asarray(x)
        x = x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(float)  # whole numbers
        if jnp.shape(x) != (self.problem.dimension,):
            remedy = "take solution.values(x)" if jnp.ndim(x) > 1 else "give one number for each coordinate"
            raise ValueError(f"expected a point ({self.problem.dimension},), got {jnp.shape(x)}; {remedy}")
        return self.u(x)

    def __repr__(self) -> str:
        error = "" if self.error is None else f", relative L2 {self.error:.1e}"
        return f"Solution({len(self.losses)} steps in {self.seconds:.0f} s{error})"

    @cached_property
    def _values(self) -> Any:
        return jax.jit(lambda x: jax.lax.map(self.u, x, batch_size=4096))

    def values(self, x: Any) -> np.ndarray:
        """u at many points, (..., d) -> (...)."""
        x = jnp.asarray(x, float)
        if x.shape[-1:] != (self.problem.dimension,):
            raise ValueError(
                f"expected points (..., {self.problem.dimension}), got {x.shape}; on one axis take x[:, None]"
            )
        return np.asarray(self._values(x.reshape(-1, x.shape[-1]))).reshape(x.shape[:-1])

    def grid(self, n: int = 101) -> Grid:
        """u on the grid of the reference, or on one with n coordinates along each axis of the domain."""
        domain, reference = self.problem.domain, self.problem.reference
        if not isinstance(reference, Grid):
            sides = [np.linspace(*bounds, n) for bounds in zip(domain.lower, domain.upper, strict=True)]
            reference = Grid(np.zeros([n] * len(sides)), **dict(zip(domain.names, sides, strict=True)))
        axes = dict(zip(reference.names, reference.coordinates, strict=True))
        return Grid(self.values(reference.points(domain)), **axes)

    def exact(self, n: int = 101) -> Grid | None:
        """The reference on the points of `grid`; None where there is none."""
        reference = self.problem.reference
        if reference is None or isinstance(reference, Grid):
            return reference
        return replace(self, u=reference).grid(n)

    @property
    def error(self) -> float | None:
        """The relative L2 error against the problem's reference; None where there is none."""
        return list(self.errors.values())[-1] if self.errors else None

    @property
    def unknowns(self) -> dict[str, float]:
        """The coefficients found."""
        return {name: float(value) for name, value in self.params["unknowns"].items()}


def solve(
    problem: Any,
    network: Any,
    key: jax.Array,
    *,
    steps: int,
    optimizer: Optimizer | None = None,
    points: int = 512,
    causal: float = 0.0,
    candidates: int = 1,
    fixed: bool = False,
    unknowns: Mapping[str, float] | None = None,
    progress: bool = True,
    run: resumable.Run | None = None,
) -> Solution:
    """Train a network until it solves a problem.

    Args:
      problem: a `Problem`, or another `Equation`.
      network: `Mlp()`, `ModifiedMlp()`, `FourierFeatures()`, a module of Linen or NNX whose input is (problem.inputs,),
        a pair (function of (params, x), params); or a Solution of the same problem, to go on from.
      key: PRNG key, consumed once, for the network and the points.
      steps: of the optimizer.
      optimizer: of optax, with a schedule for its rate where you like, or a `NaturalGradient`; None is
        `gauss_newton()`, for networks of a few thousand parameters. `optax.lbfgs()` wants fixed=True.
      points, causal, candidates, fixed: see `Loss`. What is returned are the weights of the last step; where fresh
        points make them jump, take more points than the network has weights.
      unknowns: coefficients to be found, name -> first guess; the residual takes them by name.
      progress: whether to show a bar.
      run: where checkpoints are kept; the same call goes on from the newest. From `course.train.resumable`:
        `with Run(folder, {"equation": "fisher"}) as run: pde.solve(..., run=run)`.
    Returns:
      The solution, with its losses and its errors against the reference.
    Raises:
      ValueError: a slip that shows before training: a residual that is no scalar or not finite, a function that ignores
        a coordinate, conditions that contradict each other, unknowns that a residual does not take.
      DivergedError: a loss or gradient is not finite.
    """
    own, drawing, trying = jax.random.split(key, 3)
    if isinstance(network, Solution):
        if "held" in network.params:
            raise ValueError("expected a solution of pde.solve, got one of pde.march; march with more steps instead")
        apply, weights = network.apply, jax.tree.map(jnp.copy, network.params["network"])
        unknowns = network.unknowns | dict(unknowns or {})
    else:
        apply, weights = drawn(network, own, getattr(problem, "inputs", problem.dimension))
    params = {"network": weights, "unknowns": {name: jnp.float32(v) for name, v in (unknowns or {}).items()}}
    loss = Loss(problem, apply, points, causal=causal, candidates=candidates, fixed=fixed)
    check(loss, params, trying)
    return trained(loss, params, drawing, steps, gauss_newton() if optimizer is None else optimizer, progress, run)


def trained(
    loss: Loss,
    params: Any,
    key: jax.Array,
    steps: int,
    optimizer: Optimizer,
    progress: bool | str,
    run: resumable.Run | None,
) -> Solution:
    """`pde.train` with a bar that shows loss and error."""
    errors, begun = dict[int, float](), perf_counter()
    compare = _comparison(loss)
    if run is not None and not hasattr(run, "restore"):
        raise TypeError(
            f"expected an open Run, got {type(run).__name__}; as in `with Run(folder, setting) as run:`, from "
            "course.train.resumable"
        )
    with tqdm(total=steps, desc=progress if isinstance(progress, str) else None, disable=not progress) as bar:

        def report(state: Any, new: jax.Array) -> None:
            shown = {"loss": f"{float(new[-1]):.1e}"}
            if compare is not None:
                errors[int(state.step)] = error = float(compare(state.params))
                shown["error"] = f"{error:.1e}"
            bar.set_postfix(shown)
            bar.update(int(state.step) - bar.n)

        of = loss.linearized if isinstance(optimizer, NaturalGradient) else loss
        state, losses = train(
            of, optimizer, start(params, optimizer, key), steps, chunk=max(1, steps // 20), report=report, run=run
        )
    if compare is not None and not errors:  # nothing was left to do
        errors[int(state.step)] = float(compare(state.params))
    seconds = run.seconds if run else perf_counter() - begun
    return Solution(loss.problem, loss.u(state.params), loss.apply, state.params, np.asarray(losses), errors, seconds)


def _comparison(loss: Loss) -> Any:
    """The relative L2 error of parameters against the reference, compiled once; None without a reference."""
    problem, reference = loss.problem, getattr(loss.problem, "reference", None)
    if isinstance(reference, Grid):
        x, exact = (
            reference.points(problem.domain).reshape(-1, problem.dimension),
            jnp.asarray(reference.values).ravel(),
        )
    elif problem.solution is not None:
        x = problem.sample(jax.random.key(0), 2000)
        exact = jax.lax.map(problem.solution, x, batch_size=500)
    else:
        return None

    @jax.jit
    def error(params: Any) -> jax.Array:
        gaps = jax.lax.map(loss.u(params), x, batch_size=4096) - exact
        return jnp.linalg.norm(gaps) / jnp.linalg.norm(exact)

    return error


def check(loss: Loss, params: Any, key: jax.Array) -> None:
    """Find slips before anything is trained; see `solve`."""
    problem = loss.problem
    if hasattr(problem, "check"):
        problem.check()
    inputs = getattr(problem, "inputs", problem.dimension)
    flat, unravel = ravel_pytree(params["network"])
    own, noise = jax.random.split(key)  # drawn outside of the compiled function: each shape is compiled but once
    x, z = problem.sample(own, 64), jax.random.normal(own, (64, inputs))
    shaken = unravel(flat + jax.random.normal(noise, flat.shape).astype(flat.dtype))

    @jax.jit
    def tried(params: Any, network: Any, x: jax.Array, z: jax.Array) -> tuple[jax.Array, ...]:
        both = jax.tree.map(lambda *leaves: jnp.stack(leaves), params["network"], network)
        of = lambda each: jax.vmap(lambda x: loss.residual({**params, "network": each}, x))(x)  # noqa: E731
        residuals, moved = jax.vmap(of)(both)
        unseen = ~jax.vmap(jax.grad(lambda z: loss.apply(network, z)))(z).any(axis=0)
        if not getattr(problem, "has_ansatz", True):  # what conditions build hands on every coordinate
            return residuals, moved, unseen
        ansatz = loss.equation(params).ansatz

        def reaching(x: jax.Array) -> jax.Array:
            """The network's value, from what it adds to u over what a network that is 1 adds."""
            without = ansatz(lambda z: jnp.zeros((), z.dtype))(x)
            return (ansatz(lambda z: loss.apply(network, z))(x) - without) / (
                ansatz(lambda z: z[0] * 0 + 1)(x) - without
            )

        value, slope = jax.vmap(jax.value_and_grad(reaching))(x)
        rounding = 1e-4 * jnp.median(abs(value))
        return residuals, moved, unseen, jnp.median(abs(slope), axis=0) * x.std(axis=0) <= rounding

    if getattr(problem, "penalties", ()):
        jax.eval_shape(loss, params, key)  # traces the residuals of conditions too
    residuals, moved, *ignored = map(np.asarray, tried(params, shaken, x, z))
    if not np.isfinite(residuals).all():
        at = np.isfinite(residuals).argmin()
        raise ValueError(
            f"expected a finite residual, got {residuals[at]} at {np.asarray(x[at]).round(4)}; look there for a "
            "division by zero, or a root or logarithm of a negative number"
        )
    if np.array_equal(residuals, moved):
        raise ValueError("expected a residual that depends on u, got one that is the same for two networks; call u(x)")
    remedies = {"network": "use all of its input", "ansatz": "as in ansatz=lambda network: lambda x: ... * network(x)"}
    for (what, remedy), each in zip(remedies.items(), ignored, strict=False):
        if each.any():
            raise ValueError(
                f"expected the {what} to depend on all {len(each)} numbers that it is given, got one that ignores "
                f"number {np.flatnonzero(each).tolist()}, from 0; {remedy}"
            )
