"""Partial differential equations with known solutions, and a compiled trainer for networks that solve them. Needs JAX
and optax.

An equation knows its solution and its source in closed form, draws collocation points, makes of any network a function
that satisfies the boundary conditions, and gives the residual of such functions. Lessons: 19_million_dimensions,
20_high_order_pdes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from course import stde, taylor

Params = Any  # a pytree of arrays
Field = Callable[[jax.Array], jax.Array]  # (d,) -> ()


# --- networks ------------------------------------------------------------------------------------------------


def init_mlp(key: jax.Array, sizes: tuple[int, ...]) -> list[tuple[jax.Array, jax.Array]]:
    """Weights and biases of a tanh network: normal with variance 1 / inputs, the last layer zero.

    Args:
      key: PRNG key, consumed once.
      sizes: width of every layer, input first: (d, 128, 128, 128, 1).
    Returns:
      A list of (weight (in, out), bias (out,)).
    """
    keys = jax.random.split(key, len(sizes) - 1)
    layers = [
        (jax.random.normal(k, (m, n)) / jnp.sqrt(m), jnp.zeros(n))
        for k, m, n in zip(keys, sizes, sizes[1:], strict=False)
    ]
    last, bias = layers[-1]
    return [*layers[:-1], (jnp.zeros_like(last), bias)]


def mlp(params: list[tuple[jax.Array, jax.Array]], x: jax.Array) -> jax.Array:
    """A tanh network as a scalar field, (d,) -> (). Pure: nothing in it knows about derivatives.

    Raises:
      ValueError: the last layer has more than one output.
    """
    for weight, bias in params[:-1]:
        x = jnp.tanh(x @ weight + bias)
    weight, bias = params[-1]
    if weight.shape[-1] != 1:
        raise ValueError(f"expected a last layer (width, 1), got {weight.shape}; take one network for each output")
    return (x @ weight + bias)[0]


# --- points --------------------------------------------------------------------------------------------------


def sample_ball(key: jax.Array, n: int, d: int) -> jax.Array:
    """Independent points of the unit ball: uniform directions, uniform radii, as in the paper's runs; (n, d).

    Directions are normal numbers on a grid of 65,536 values, from 16 random bits each: half the bits of
    `jax.random.normal`, which in many dimensions is two thirds of its time (lesson 19 measures it).
    """
    key_normal, key_radius = jax.random.split(key)
    words = jax.random.bits(key_normal, (n, (d + 1) // 2), jnp.uint32)
    levels = jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(n, -1)[:, :d]
    normal = jax.scipy.special.erfinv((levels.astype(float) + 0.5) / 2**15 - 1)  # but for a factor
    radius = jax.random.uniform(key_radius, (n, 1))
    return normal * (radius / jnp.linalg.norm(normal, axis=1, keepdims=True))


def sample_box(key: jax.Array, n: int, lower: jax.Array, upper: jax.Array) -> jax.Array:
    """Uniform points of a box, (n, d)."""
    lower, upper = jnp.asarray(lower, float), jnp.asarray(upper, float)
    return lower + (upper - lower) * jax.random.uniform(key, (n, len(lower)))


# --- equations in the unit ball, in many dimensions --------------------------------------------------------------


class Radial(NamedTuple):
    """What the Laplacian of (1 - |x|^2) s(x) needs to know of s at a point."""

    value: jax.Array  # s, ()
    along: jax.Array  # x . grad s, ()
    laplacian: jax.Array  # ()


def in_ball(x: jax.Array, s: Radial) -> tuple[jax.Array, jax.Array]:
    """u = (1 - |x|^2) s and its Laplacian, (1 - |x|^2) lap s - 4 x . grad s - 2 d s."""
    factor = 1 - x @ x
    return factor * s.value, factor * s.laplacian - 4 * s.along - 2 * len(x) * s.value


def two_body(c: jax.Array, x: jax.Array) -> Radial:
    """s = sum over i of c_i sin(x_i + cos(x_j) + x_j cos(x_i)), j = i + 1, in closed form; c (d - 1,), |x_i| <= 1.

    Source: Shi et al. (2024), section 5, their two-body exact solution.
    """
    sine, cosine = _sin_cos(x)
    x_i, x_j, sin_i, sin_j, cos_i, cos_j = x[:-1], x[1:], sine[:-1], sine[1:], cosine[:-1], cosine[1:]
    sin_a, cos_a = _sin_cos(x_i + cos_j + x_j * cos_i)
    a_i, a_j = 1 - x_j * sin_i, cos_i - sin_j  # first derivatives of the argument
    curved = cos_a * -(x_j * cos_i + cos_j) - sin_a * (a_i**2 + a_j**2)
    return Radial(c @ sin_a, c @ (cos_a * (x_i * a_i + x_j * a_j)), c @ curved)


def three_body(c: jax.Array, x: jax.Array) -> Radial:
    """s = sum over i of c_i exp(x_i x_j x_k), j = i + 1, k = i + 2, in closed form; c (d - 2,).

    Source: Shi et al. (2024), section 5, their three-body exact solution.
    """
    i, j, k = x[:-2], x[1:-1], x[2:]
    product = i * j * k
    e = c * jnp.exp(product)
    return Radial(e.sum(), 3 * (product @ e), ((j * k) ** 2 + (i * k) ** 2 + (i * j) ** 2) @ e)


def waves(c: jax.Array, x: jax.Array) -> Radial:
    """s = sin(z) with z = c . x, in closed form; c (d,) of length sqrt(d) makes z vary by about |x|.

    No constant comes near it, in any dimension: a network has to find the direction c.
    """
    z = c @ x
    return Radial(jnp.sin(z), z * jnp.cos(z), -(c @ c) * jnp.sin(z))


def _sin_cos(z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sine and cosine for |z| < 2.2, in float32 by Taylor polynomials: XLA's own take three times as long on a CPU."""
    if z.dtype != jnp.float32:
        return jnp.sin(z), jnp.cos(z)
    y = z * z
    sine = cosine = jnp.zeros_like(z)
    for n in range(16, 0, -2):  # Horner, until the terms are below float32's rounding
        cosine = 1 - y / (n * (n - 1)) * cosine if n < 16 else 1 - y / (16 * 15)
        sine = 1 - y / (n * (n + 1)) * sine if n < 16 else 1 - y / (16 * 17)
    return z * sine, cosine


BODIES = {"two-body": (two_body, 1), "three-body": (three_body, 2), "waves": (waves, 0)}
NONLINEAR = {"poisson": jnp.zeros_like, "sine-gordon": jnp.sin, "allen-cahn": lambda u: u - u**3}


@dataclass(frozen=True)
class BallEquation:
    """lap u + F(u) = g in the unit ball, u = 0 on its surface.

    F(u) is 0 (Poisson), sin u (Sine-Gordon) or u - u^3 (Allen-Cahn); g follows from the exact solution
    u = (1 - |x|^2) s(x), where s is `two_body`, `three_body` or `waves` with random coefficients.

    Attributes:
      kind: "poisson", "sine-gordon" or "allen-cahn".
      body: "two-body", "three-body" or "waves".
      coefficients: of s; see there.
      dimension: d.
      source_mean, source_rms: mean and root mean square of g over a sample; networks and losses are scaled by them.
    Source: Shi et al. (2024), section 5; `waves` is ours.
    """

    kind: str
    body: str
    coefficients: jax.Array
    dimension: int
    source_mean: float
    source_rms: float

    def solution(self, x: jax.Array) -> jax.Array:
        """Exact solution, (d,) -> ()."""
        return in_ball(x, self.exact(x))[0]

    def exact(self, x: jax.Array) -> Radial:
        """s of the exact solution with its derivatives."""
        return BODIES[self.body][0](self.coefficients, x)

    def source(self, x: jax.Array) -> jax.Array:
        """g in closed form, (d,) -> ()."""
        u, lap = in_ball(x, self.exact(x))
        return lap + NONLINEAR[self.kind](u)

    @property
    def scale(self) -> float:
        """Size of s: in many dimensions the Laplacian of (1 - |x|^2) s is nearly -2 d s."""
        return self.source_rms / (2 * self.dimension)

    def ansatz(self, network: Field) -> Field:
        """u = scale (1 - |x|^2) (offset + network(unit(x))): zero on the surface whatever the network."""
        return lambda x: self.scale * (1 - x @ x) * (self.offset + network(self.unit(x)))

    @property
    def offset(self) -> float:
        """What makes a network that is zero about the best constant, from the mean of the source alone."""
        return -self.source_mean / self.source_rms

    def unit(self, x: jax.Array) -> jax.Array:
        """What the network is given: x, or for `waves` x times sqrt(d), whose coordinates are of size 1."""
        return x * self.dimension**0.5 if self.body == "waves" else x

    def residual(
        self, network: Field, x: jax.Array, key: jax.Array | None = None, samples: int | None = None
    ) -> jax.Array:
        """lap u + F(u) - g of the ansatz at x, divided by the source's root mean square.

        Args:
          network: (d,) -> ().
          x: point, (d,).
          key: PRNG key; only with samples.
          samples: coordinates drawn for the network's Laplacian; None takes it exactly.
        Returns:
          Scalar (); unbiased for the linear part.
        """
        return self.residual_of(self.network_parts(network, x, key, samples), x)

    def network_parts(self, network: Field, x: jax.Array, key=None, samples: int | None = None) -> Radial:
        """The network with its derivatives, the Laplacian exact or from sampled coordinates."""

        def inside(x):
            return self.offset + network(self.unit(x))

        value, along = jax.jvp(inside, (x,), (x,))  # XLA shares x @ W with the value
        if samples is None:
            lap = taylor.laplacian(inside, x)
        else:
            lap = stde.estimate(stde.laplacian(self.dimension), inside, x, key, samples)
        return Radial(*(self.scale * part for part in (value, along, lap)))

    def residual_of(self, s: Radial, x: jax.Array) -> jax.Array:
        u, lap = in_ball(x, s)
        return (lap + NONLINEAR[self.kind](u) - self.source(x)) / self.source_rms

    def sample(self, key: jax.Array, n: int) -> jax.Array:
        """Collocation points, (n, d)."""
        return sample_ball(key, n, self.dimension)

    def best_constant(self, x: jax.Array) -> jax.Array:
        """The baseline's shape: what a network that returns one number for all points can do, times that number."""
        return 1 - x @ x


def ball_equation(kind: str, d: int, key: jax.Array, body: str = "two-body") -> BallEquation:
    """Draw an equation in the unit ball of d dimensions.

    Args:
      kind: "poisson", "sine-gordon" or "allen-cahn".
      d: dimension, >= 3.
      key: PRNG key, consumed once, for the coefficients.
      body: "two-body" or "three-body", normal coefficients; or "waves", a random direction of length sqrt(d).
    Raises:
      ValueError: an unknown name, or d below 3.
    """
    if kind not in NONLINEAR or body not in BODIES:
        raise ValueError(f"expected one of {list(NONLINEAR)} and one of {list(BODIES)}, got {kind!r} and {body!r}")
    if d < 3:
        raise ValueError(f"expected at least 3 dimensions, got {d}; three-body terms need three coordinates")
    own, points = jax.random.split(key)
    c = jax.random.normal(own, (d - BODIES[body][1],))
    if body == "waves":
        c *= jnp.sqrt(d) / jnp.linalg.norm(c)
    draft = BallEquation(kind, body, c, d, 0.0, 1.0)
    batch = max(1, min(256, 2**24 // d))  # 64 MB at a time
    sources = jax.jit(lambda keys: jax.lax.map(lambda k: jax.vmap(draft.source)(sample_ball(k, batch, d)), keys))
    g = sources(jax.random.split(points, 256 // batch))
    return BallEquation(kind, body, c, d, float(g.mean()), float(jnp.sqrt(jnp.mean(g**2))))


# --- equations in time and a few dimensions ------------------------------------------------------------------


@dataclass(frozen=True)
class BoxEquation:
    """An equation over a box, with the exact solution that its residual vanishes for.

    Attributes:
      name: as in the tables.
      lower, upper: corners of the box, one number per coordinate; time comes first where there is time.
      solution: exact, (d,) -> (); None where it is not known, and then there is no `relative_l2`.
      residual: (u, x (d,)) -> (), by jets; zero for the solution.
      ansatz: network -> a function that satisfies the boundary and initial conditions.
      best_constant: the shape that the best constant multiplies, in the baseline.
      draw: (key, n) -> collocation points (n, d); uniform in the box where None.
    """

    name: str
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    solution: Field | None
    residual: Callable[[Field, jax.Array], jax.Array]
    ansatz: Callable[[Field], Field]
    best_constant: Field = lambda x: jnp.ones((), x.dtype)
    draw: Callable[[jax.Array, int], jax.Array] | None = None

    @property
    def dimension(self) -> int:
        return len(self.lower)

    def sample(self, key: jax.Array, n: int) -> jax.Array:
        """Collocation points, (n, d)."""
        return sample_box(key, n, self.lower, self.upper) if self.draw is None else self.draw(key, n)

    def unit(self, x: jax.Array) -> jax.Array:
        """Coordinates in [-1, 1], as a network likes them."""
        lower, upper = jnp.asarray(self.lower, x.dtype), jnp.asarray(self.upper, x.dtype)
        return 2 * (x - lower) / (upper - lower) - 1


def heat_equation(d: int) -> BoxEquation:
    """u_t = lap u + (1 - u^2) / (1 + u^2) + g over (t, x), x in the unit ball of d dimensions, t from 0 to 1.

    The initial value is the paper's, 5 / (10 + 2 |x|^2). The exact solution is that value times exp(-t), which fixes
    the source g. Source: Shi et al. (2024), section 5, who have g = 0, no closed form, and a value at one point.
    """

    def reaction(u):
        return (1 - u**2) / (1 + u**2)

    def solution(point):
        t, x = point[0], point[1:]
        return jnp.exp(-t) * 5 / (10 + 2 * x @ x)

    def source(point):
        t, q = point[0], point[1:] @ point[1:]
        u = jnp.exp(-t) * 5 / (10 + 2 * q)
        lap = jnp.exp(-t) * (160 * q / (10 + 2 * q) ** 3 - 20 * d / (10 + 2 * q) ** 2)
        return -u - lap - reaction(u)

    space = stde.Operator.of_kinds(d + 1, (stde.Kind((2,), 1 + np.arange(d)[:, None], np.ones(d)),))
    time = stde.Operator.of_kinds(d + 1, (stde.Kind((1,), np.zeros((1, 1), int), np.ones(1)),))

    def residual(u, point):
        rate, lap = stde.apply(time, u, point), stde.apply(space, u, point)
        return rate - lap - reaction(u(point)) - source(point)

    def ansatz(network):
        def u(point):
            t, q = point[0], point[1:] @ point[1:]
            given = 5 / (10 + 2 * q) + (jnp.exp(-t) - 1) * 5 / 12  # right at t = 0 and on the surface
            return given + t * (1 - q) * network(point)

        return u

    def draw(key, n):
        key_time, key_space = jax.random.split(key)
        return jnp.concatenate([jax.random.uniform(key_time, (n, 1)), sample_ball(key_space, n, d)], axis=1)

    return BoxEquation(f"heat, d={d}", (0.0,) + (-1.0,) * d, (1.0,) * (d + 1), solution, residual, ansatz, draw=draw)


def kdv_equation(speed: float = 4.0) -> BoxEquation:
    """u_t + 6 u u_x + u_xxx = 0 over (t, x): Korteweg-de Vries with one soliton.

    Exact: u = c / 2 sech^2(sqrt(c) / 2 (x - c t)), c its speed. Time from 0 to 1, x from -6 to 10; the initial value is
    built in, and so are u = 0 at both ends and u_x = 0 at the right one, which the soliton satisfies to 5e-5.
    Source: Drazin and Johnson, Solitons (1989), chapter 1.
    """

    def solution(point):
        t, x = point
        return speed / 2 / jnp.cosh(jnp.sqrt(speed) / 2 * (x - speed * t)) ** 2

    def residual(u, point):
        along_x = taylor.derivatives(u, point, jnp.array([0.0, 1.0], point.dtype), 3)
        rate = jax.jvp(u, (point,), (jnp.array([1.0, 0.0], point.dtype),))[1]
        return rate + 6 * along_x[0] * along_x[1] + along_x[3]

    def ansatz(network):
        def u(point):
            t, x = point
            ends = (x + 6) * (10 - x) ** 2 / 600
            return solution(jnp.stack([0 * t, x])) + t * ends * network(equation.unit(point))

        return u

    equation = BoxEquation("KdV", (0.0, -6.0), (1.0, 10.0), solution, residual, ansatz)
    return equation


def kdv_2d_equation() -> BoxEquation:
    """u_ty + u_xxxy + 3 (u_y u_x)_x - u_xx + 2 u_yy = 0 over (t, x, y): two-dimensional KdV.

    Exact: u = 2 k tanh(k x + l y + w t) with w = (k^2 - 2 l^2 - 4 k^3 l) / l, here k = l = 1/2; derived by insertion.
    Source of the equation: Shi et al. (2024), section 5.
    """
    k = l = 0.5  # noqa: E741
    w = (k**2 - 2 * l**2 - 4 * k**3 * l) / l
    linear = stde.Operator({(1, 0, 1): 1.0, (0, 3, 1): 1.0, (0, 2, 0): -1.0, (0, 0, 2): 2.0})

    def solution(point):
        t, x, y = point
        return 2 * k * jnp.tanh(k * x + l * y + w * t)

    def residual(u, point):
        u_xx, u_xy = taylor.partial_derivative(u, point, (0, 2, 0)), taylor.partial_derivative(u, point, (0, 1, 1))
        _, u_x, u_y = jax.grad(u)(point)
        return stde.apply(linear, u, point) + 3 * (u_xy * u_x + u_y * u_xx)

    def ansatz(network):
        def u(point):
            t, x, y = point
            before = point.at[0].set(0)
            given = _from_faces(solution, point) + solution(before) - _from_faces(solution, before)
            return given + t * (4 - x**2) * (4 - y**2) / 16 * network(equation.unit(point))

        return u

    equation = BoxEquation("KdV 2-D", (0.0, -2.0, -2.0), (1.0, 2.0, 2.0), solution, residual, ansatz)
    return equation


def _from_faces(solution: Field, point: jax.Array) -> jax.Array:
    """Values on the faces x, y = -2, 2 carried inside: transfinite interpolation (Gordon and Hall, 1973)."""
    t, x, y = point
    right, top = (x + 2) / 4, (y + 2) / 4

    def at(x, y):
        return solution(jnp.stack([t, x + 0 * t, y + 0 * t]))

    across = (1 - right) * at(-2.0, y) + right * at(2.0, y)
    up = (1 - top) * at(x, -2.0) + top * at(x, 2.0)
    lower = (1 - right) * at(-2.0, -2.0) + right * at(2.0, -2.0)
    upper = (1 - right) * at(-2.0, 2.0) + right * at(2.0, 2.0)
    return across + up - (1 - top) * lower - top * upper


def plate_equation() -> BoxEquation:
    """lap lap u = g in the unit square, u = 0 and its normal derivative = 0 on the boundary: a clamped plate.

    Exact: u = sin(pi x)^2 sin(pi y)^2, from which g follows. Fourth order: a Laplacian of a Laplacian, both collapsed.
    """
    pi = jnp.pi

    def bump(z):  # sin(pi z)^2 with its second and fourth derivatives
        return jnp.sin(pi * z) ** 2, 2 * pi**2 * jnp.cos(2 * pi * z), -8 * pi**4 * jnp.cos(2 * pi * z)

    def solution(point):
        return bump(point[0])[0] * bump(point[1])[0]

    def source(point):
        (a, a2, a4), (b, b2, b4) = bump(point[0]), bump(point[1])
        return a4 * b + 2 * a2 * b2 + a * b4

    def residual(u, point):
        return (taylor.biharmonic(u, point) - source(point)) / (80**0.5 * pi**4)  # the source's root mean square

    def factor(point):
        x, y = point
        return (16 * x * (1 - x) * y * (1 - y)) ** 2

    def ansatz(network):
        return lambda point: factor(point) * network(equation.unit(point))

    equation = BoxEquation("plate", (0.0, 0.0), (1.0, 1.0), solution, residual, ansatz, factor)
    return equation


# --- training ------------------------------------------------------------------------------------------------


class State(NamedTuple):
    """Everything a run continues from; a pytree."""

    params: Params
    opt_state: Any
    key: jax.Array
    step: jax.Array  # steps done, () int32
    good: jax.Array  # whether every loss and gradient so far was finite, () bool


class DivergedError(ArithmeticError):
    """A loss or gradient was not finite. `step` is the step, `state` the state before it."""

    def __init__(self, step: int, loss: float, state: State):
        super().__init__(
            f"expected a finite loss and gradient, got loss {loss} at step {step}; `error.state` has the parameters "
            "before it: continue with another key if the points were at fault, else from an earlier state that "
            "`report` kept, with a lower learning rate or clipped gradients"
        )
        self.step, self.state = step, state


def start(params: Params, optimizer: optax.GradientTransformation, key: jax.Array) -> State:
    """The state before the first step. It takes the parameters over: `train` writes the next ones into their memory."""
    state = State(params, optimizer.init(params), jax.random.clone(key), jnp.zeros((), jnp.int32), jnp.array(True))
    leaves, tree = jax.tree.flatten(state)
    seen: set[int] = set()  # memory can be taken over once: some optimizers hold an array twice, or the parameters
    for n, leaf in enumerate(leaves):
        if id(leaf) in seen:
            leaves[n] = jnp.copy(leaf)
        seen.add(id(leaf))
    return tree.unflatten(leaves)


def scaled_cosine_adam(steps: int, learning_rate: float, d: int, *, mu_dtype=None) -> optax.GradientTransformation:
    """Adam with a cosine decay to zero, the step of the weights that see d coordinates scaled by min(1, 3 / sqrt(d)).

    One Adam step moves each of d weights by the learning rate, and so what they sum up to by its sqrt(d)-fold.

    Args:
      steps: when the learning rate reaches zero.
      learning_rate: at the start.
      d: coordinates that the network sees. The first matrix with d rows, in the order of `jax.tree.leaves`, is scaled.
      mu_dtype: optax's; bfloat16 halves the memory of the first moment.
    """

    def first_layer(params):
        leaves, tree = jax.tree.flatten(params)
        wide = [n for n, leaf in enumerate(leaves) if leaf.ndim == 2 and leaf.shape[0] == d]
        return tree.unflatten([n in wide[:1] for n in range(len(leaves))])

    return optax.chain(
        optax.scale_by_adam(mu_dtype=mu_dtype),
        optax.masked(optax.scale(min(1.0, 3 / d**0.5)), first_layer),
        optax.scale_by_learning_rate(optax.cosine_decay_schedule(learning_rate, steps)),
    )


@partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=3)
def _run(loss_fn, optimizer, steps: int, state: State) -> tuple[State, jax.Array]:
    """Some steps in one compiled loop that takes over the state's memory. A step that is not finite is not taken."""
    optimizer = optax.with_extra_args_support(optimizer)

    def step(state, _):
        key = jax.random.fold_in(state.key, state.step)
        loss, grads = jax.value_and_grad(loss_fn)(state.params, key)
        finite = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((loss, grads))]
        good = state.good & jnp.stack(finite).all()
        searching = {"value": loss, "grad": grads, "value_fn": lambda params: loss_fn(params, key)}  # for line searches
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params, **searching)
        params = optax.apply_updates(state.params, updates)
        kept = jax.tree.map(partial(jnp.where, good), (params, opt_state), (state.params, state.opt_state))
        return State(*kept, state.key, state.step + good, good), loss

    return jax.lax.scan(step, state, None, steps)


def train(
    loss_fn: Callable[[Params, jax.Array], jax.Array],
    optimizer: optax.GradientTransformation,
    state: State,
    steps: int,
    *,
    chunk: int = 100,
    report: Callable[[State, jax.Array], None] | None = None,
) -> tuple[State, jax.Array]:
    """Train up to a number of steps, compiled in chunks; the same losses whatever the chunks, interrupted or not.

    Args:
      loss_fn: (params, key) -> scalar; draws its own points from the key. The same object again continues without
        compiling again.
      optimizer: an optax optimizer; one that searches along a line, such as `optax.lbfgs`, is given what it needs.
      state: from `start`, or from an earlier call; its arrays are used up.
      steps: where to stop, counted from the beginning of the run.
      chunk: steps between two reports, >= 1.
      report: called after each chunk with the state and the chunk's losses; the place for a progress bar or a file.
    Returns:
      The state after `steps`, and the losses of the steps made in this call.
    Raises:
      ValueError: chunk below 1.
      DivergedError: a loss or gradient is not finite; it names the step and keeps the last good state.
    """
    if chunk < 1:
        raise ValueError(f"expected chunk >= 1, got {chunk}")
    done, found = int(state.step), []
    while done < steps:
        state, losses = _run(loss_fn, optimizer, min(chunk, steps - done), state)
        if not bool(state.good):
            bad = int(state.step)
            raise DivergedError(bad, float(losses[bad - done]), state._replace(good=jnp.array(True)))
        done += len(losses)
        found.append(losses)
        if report is not None:
            report(state, losses)
    return state, jnp.concatenate(found) if found else jnp.zeros(0)


# --- errors --------------------------------------------------------------------------------------------------


class Error(NamedTuple):
    """Errors over the same test points, in the norm relative to the solution's."""

    relative_l2: float
    best_constant: float


def relative_l2(equation, u: Field, key: jax.Array, points: int = 2000, batch: int = 100) -> Error:
    """The relative L2 error of u, and that of the best constant: what a network reaches without looking at x.

    Args:
      equation: a `BallEquation` or `BoxEquation`.
      u: (d,) -> (), boundary conditions included.
      key: PRNG key, consumed once, for the test points.
      points: how many, a multiple of batch.
      batch: how many at a time.
    """

    def values(key):
        x = equation.sample(key, batch)
        return jnp.stack([jax.vmap(f)(x) for f in (equation.solution, u, equation.best_constant)])

    if equation.solution is None:
        raise ValueError("expected an equation with an exact solution, got solution=None; compare residuals instead")
    if points < 1 or points % batch:
        raise ValueError(f"expected points as a multiple of batch = {batch}, at least one batch, got {points}")
    found = jax.jit(lambda keys: jax.lax.map(values, keys))(jax.random.split(key, points // batch))
    exact, got, shape = np.asarray(found, np.float64).swapaxes(0, 1).reshape(3, -1)  # small differences of large sums
    constant = (exact @ shape) / (shape @ shape)
    return Error(*(float(np.linalg.norm(v - exact) / np.linalg.norm(exact)) for v in (got, constant * shape)))


def gradient_enhanced(residual: Field, x: jax.Array, key: jax.Array, weight: float) -> jax.Array:
    """residual^2 + weight |grad residual|^2 with the gradient's square estimated from one random direction.

    Args:
      residual: (d,) -> ().
      x: point, (d,).
      key: PRNG key, consumed once.
      weight: of the second term.
    Returns:
      Scalar (), unbiased: for Rademacher v, the mean of (v . grad r)^2 is |grad r|^2. It costs one jvp of the residual
      where the whole gradient costs d of them, or one pass backwards through the residual and its memory.
    Source: Yu et al., gradient-enhanced PINNs (2022); amortised as in Shi et al. (2024).
    """
    v = jax.random.rademacher(key, x.shape, x.dtype)
    r, slope = jax.jvp(residual, (x,), (v,))
    return r**2 + weight * slope**2
