"""Checks of the capstone that migrates a physics-informed network, part by part. Needs NumPy, JAX and optax.

Lesson: 20_high_order_pdes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from course.checks.core import check, float64, function, same, wrong

LESSON = "capstone_20_pinn"


def _model(rng: np.random.Generator) -> tuple[Any, dict[str, np.ndarray]]:
    """A random BeamNet, with biases that are not small, and its state_dict() as NumPy arrays."""
    import torch

    from course.checks.programs import capstone_20_pinn as pinn

    model = pinn.BeamNet(int(rng.integers(5, 12)))
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.tensor(rng.normal(size=tuple(weight.shape)) / weight.shape[-1] ** 0.5))
    return model, {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}


def _field(arrays: dict[str, np.ndarray]) -> Callable[[jax.Array], jax.Array]:
    """The same network as a scalar field."""

    def u(point: jax.Array) -> jax.Array:
        z = jnp.tanh(arrays["first.weight"] @ (2 * point - 1) + arrays["first.bias"])
        z = z + jnp.tanh(arrays["second.weight"] @ z + arrays["second.bias"])
        return arrays["last.weight"][0] @ z

    return u


@check(
    LESSON,
    "torch.nn.Linear computes x @ weight.T + bias.",
    "Keep the arrays' dtype, float64; one point goes in, one number comes out: index the last layer's single output.",
    "z = tanh((2 point - 1) @ w1 + b1); z = z + tanh(z @ w2 + b2); (z @ w3)[0], with transposed weights.",
    points=2,
)
def pinn_model(rng: np.random.Generator, params_from_torch: Any, network: Any) -> None:
    """The network at random points, against BeamNet with the same random weights."""
    import torch

    convert = function(params_from_torch, "params_from_torch(arrays)")
    apply = function(network, "network(params, point)")
    with float64():
        for _ in range(2):
            model, arrays = _model(rng)
            points = rng.uniform(size=(7, 2))
            with torch.no_grad():
                expected = model(torch.tensor(points))[:, 0].numpy()
            params = convert(arrays)
            if any(np.asarray(leaf).dtype == np.float32 for leaf in jax.tree.leaves(params)):
                wrong("the parameters are float32.", slip="float32 where float64 is due; keep the arrays' dtype")
            got = [apply(params, jnp.asarray(point)) for point in points]
            if np.shape(got[0]) != ():
                slip = "a batch's last axis; the field is a number: take [0]"
                wrong("network(params, point) is no number.", expected=expected[0], got=got[0], slip=slip)
            w1, b1, w2, b2, w3 = arrays.values()

            def forward(x: np.ndarray, second: np.ndarray, skip: float = 1, w: Any = (w1, b1, b2, w3)) -> np.ndarray:
                z = np.tanh(x @ w[0].T + w[1])
                return (skip * z + np.tanh(z @ second.T + w[2])) @ w[3][0]

            scaled = 2 * points - 1
            same(
                np.stack(got), expected, "the network at 7 points", rtol=1e-9, atol=1e-9,
                slips={
                    "the second layer's weight is transposed; its shape does not tell": forward(scaled, w2.T),
                    "z + tanh(...): the second layer adds to the first": forward(scaled, w2, skip=0),
                    "the points are not scaled: 2 * points - 1": forward(points, w2),
                    "t and x are swapped": forward(scaled[:, ::-1], w2),
                    "the biases are missing": forward(scaled, w2, w=(w1, 0 * b1, 0 * b2, w3)),
                },
            )  # fmt: skip


@check(
    LESSON,
    "Two jets: order 2 along t, order 4 along x.",
    "taylor.derivatives(u, point, direction, order)[-1] is the derivative of that order.",
    "taylor.derivatives(u, point, along_t, 2)[2] + STIFFNESS * taylor.derivatives(u, point, along_x, 4)[4]",
    points=2,
)
def pinn_residual(rng: np.random.Generator, beam_residual: Any) -> None:
    """The residual at random points, against nested autograd.grad."""
    import torch

    from course.checks.programs import capstone_20_pinn as pinn

    answer = function(beam_residual, "beam_residual(u, point)")
    with float64():
        model, arrays = _model(rng)
        point = rng.uniform(size=(1, 2))
        leaf = torch.tensor(point).requires_grad_()
        orders: dict[int, list[float]] = {}
        for column in (0, 1):
            values = [model(leaf)]
            for _ in range(4):
                values.append(pinn.slope_torch(values[-1], leaf, column))
            orders[column] = [value.item() for value in values]
        t, x, c = orders[0], orders[1], pinn.STIFFNESS
        same(
            answer(_field(arrays), jnp.asarray(point[0])),
            pinn.beam_residual_torch(model, torch.tensor(point)).item(), "the residual at a point",
            rtol=1e-8, atol=1e-8,
            slips={
                "t and x are swapped: a point is (t, x)": x[2] + c * t[4],
                "u_t in place of u_tt": t[1] + c * x[4],
                "u_xx in place of u_xxxx": t[2] + c * x[2],
                "u_xxx in place of u_xxxx": t[2] + c * x[3],
                "the stiffness is missing": t[2] + x[4],
                "the stiffness is the square of 2 / pi^2": t[2] + c**0.5 * x[4],
                "the sign of the stiffness term": t[2] - c * x[4],
                "u_tt is missing": c * x[4],
                "divided by factorials: taylor.derivatives gives derivatives": t[2] / 2 + c * x[4] / 24,
                "multiplied by factorials: taylor.derivatives gives derivatives": 2 * t[2] + 24 * c * x[4],
            },
        )  # fmt: skip


@check(
    LESSON,
    "Each of the three terms is a mean over its own points, by jax.vmap over a function of one point.",
    "At the start the value must be sin(pi x), x the point's second entry, and u_t zero; at the ends u and u_xx.",
    "mean(residual^2) + 10 mean((u - sin pi x)^2 + u_t^2) + 5 mean(u^2 + 0.1 u_xx^2)",
    points=3,
)
def pinn_loss(rng: np.random.Generator, beam_loss: Any) -> None:
    """The loss on random points, against torch's."""
    import torch

    from course.checks.programs import capstone_20_pinn as pinn

    answer = function(beam_loss, "beam_loss(u, inside, start, ends)")
    with float64():
        model, arrays = _model(rng)
        n, m, k = (int(size) for size in rng.choice(np.arange(4, 12), 3, replace=False))
        inside, start, ends = rng.uniform(size=(n, 2)), rng.uniform(size=(m, 2)), rng.uniform(size=(k, 2))
        start[:, 0], ends[:, 1] = 0, np.arange(k) % 2
        tensors = [torch.tensor(part) for part in (inside, start, ends)]
        expected = pinn.beam_loss_torch(model, *tensors).item()
        at_start, at_ends = (part.clone().requires_grad_() for part in tensors[1:])
        u, u_t = model(at_start), pinn.slope_torch(model(at_start), at_start, 0)
        u_ends = model(at_ends)
        u_xx = pinn.slope_torch(pinn.slope_torch(u_ends, at_ends, 1), at_ends, 1)
        u_x = pinn.slope_torch(u_ends, at_ends, 1)
        shape = torch.sin(torch.pi * at_start[:, [1]])
        r = (pinn.beam_residual_torch(model, tensors[0]) ** 2).mean().item()
        s, v, e, b = ((part**2).mean().item() for part in (u - shape, u_t, u_ends, u_xx))
        crossed, slope, at_zero = ((part**2).mean().item() for part in (u - shape.T, u_x, u))
        same(
            answer(_field(arrays), *map(jnp.asarray, (inside, start, ends))), expected, "the loss", rtol=1e-8,
            atol=1e-8,
            slips={
                "sums, not means": n * r + 10 * m * (s + v) + 5 * k * (e + 0.1 * b),
                "the weights 10 and 5 are missing": r + s + v + e + 0.1 * b,
                "the weights 10 and 5 are swapped": r + 5 * (s + v) + 10 * (e + 0.1 * b),
                "the factor 0.1 of u_xx at the ends is missing": r + 10 * (s + v) + 5 * (e + b),
                "0.1 stands for the square too: it is 0.1 u_xx^2": r + 10 * (s + v) + 5 * (e + 0.01 * b),
                "u_t at the start is missing: the beam is at rest": r + 10 * s + 5 * (e + 0.1 * b),
                "u_xx at the ends is missing: the ends are hinged": r + 10 * (s + v) + 5 * e,
                "u_x in place of u_xx at the ends: hinged, not clamped": r + 10 * (s + v) + 5 * (e + 0.1 * slope),
                "(m, 1) less (m,): the difference of all pairs": r + 10 * (crossed + v) + 5 * (e + 0.1 * b),
                "the shape at the start is sin(pi x), not zero; x is the second entry": r + 10 * (at_zero + v)
                + 5 * (e + 0.1 * b),
                "the term of the start is missing": r + 5 * (e + 0.1 * b),
                "the term of the ends is missing": r + 10 * (s + v),
                "the term of the residual is missing": expected - r,
            },
        )  # fmt: skip


@check(
    LESSON,
    "torch clips first; Adam then adds weight_decay times the weights to the gradient, before its moments.",
    "StepLR: a staircase, 1e-2 * 0.95^(step // 10), counted from 0.",
    "optax.chain(clip, optax.add_decayed_weights(1e-4), optax.adam(schedule))",
    "schedule = optax.exponential_decay(1e-2, transition_steps=10, decay_rate=0.95, staircase=True)",
    points=3,
)
def pinn_optimizer(rng: np.random.Generator, make_optimizer: Any) -> None:
    """Weights after 25 steps with given gradients, short and long ones, against torch's optimizer."""
    made = function(make_optimizer, "make_optimizer()")()
    if not (hasattr(made, "init") and hasattr(made, "update")):
        wrong("expected an optax transformation.", got=made, slip="return it: optax.chain(...)")
    with float64():
        steps = 25
        start = {"w": 3 + rng.normal(size=(3, 4)), "b": 3 + rng.normal(size=4)}
        size = 10 ** rng.permutation(np.linspace(-3.5, 1.5, steps))
        grads = [{name: g * rng.normal(size=array.shape) for name, array in start.items()} for g in size]
        params = jax.tree.map(jnp.asarray, start)
        state, update = made.init(params), jax.jit(made.update)
        for each in grads:
            updates, state = update(jax.tree.map(jnp.asarray, each), state, params)
            params = optax.apply_updates(params, updates)
        plain = _by_torch(start, grads)
        same(
            params, plain, f"the weights after {steps} steps", rtol=1e-6,
            slips={
                "weight_decay is missing": _by_torch(start, grads, decay=0.0),
                "weight_decay is decoupled, as in AdamW; torch's Adam adds it to the gradient": _by_torch(
                    start, grads, kind="AdamW"
                ),
                "AdamW's default of 1e-2, decoupled; torch's Adam adds 1e-4 to the gradient": _by_torch(
                    start, grads, kind="AdamW", decay=1e-2
                ),
                "the gradients are not clipped": _by_torch(start, grads, clip="not"),
                "weight_decay is added before the clipping; torch clips first": _by_torch(start, grads, clip="decayed"),
                "each array is clipped by its own norm; the norm is over all": _by_torch(start, grads, clip="each"),
                "each number is clipped; clip_grad_norm_ scales by the norm": _by_torch(start, grads, clip="value"),
                "the rate does not fall": _by_torch(start, grads, rate=lambda step: 1e-2),
                "the rate falls in each step, not every ten": _by_torch(
                    start, grads, rate=lambda step: 1e-2 * 0.95 ** (step / 10)
                ),
                "the rate falls by 0.95 in each step": _by_torch(start, grads, rate=lambda step: 1e-2 * 0.95**step),
                "the rate falls one step early: steps count from 0": _by_torch(
                    start, grads, rate=lambda step: 1e-2 * 0.95 ** ((step + 1) // 10)
                ),
                "the weights go uphill": lambda: jax.tree.map(lambda a, b: 2 * a - b, start, plain),
            },
        )  # fmt: skip


def _by_torch(
    start: dict[str, np.ndarray], grads: list[dict[str, np.ndarray]], *, kind: str = "Adam", decay: float = 1e-4,
    clip: str = "norm", rate: Callable[[int], float] | None = None,
) -> dict[str, np.ndarray]:  # fmt: skip
    """The program's optimizer on given gradients, and what slips make of it; rate None is StepLR itself."""
    import torch

    leaves = {name: torch.nn.Parameter(torch.tensor(array)) for name, array in start.items()}
    weights = list(leaves.values())
    optimizer = getattr(torch.optim, kind)(weights, lr=1e-2, weight_decay=0.0 if clip == "decayed" else decay)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=10, gamma=0.95)
    for step, each in enumerate(grads):
        for name, leaf in leaves.items():
            leaf.grad = torch.tensor(each[name]) + (decay * leaf.detach() if clip == "decayed" else 0)
        if clip in ("norm", "decayed"):
            torch.nn.utils.clip_grad_norm_(weights, max_norm=1.0)
        elif clip == "each":
            for leaf in weights:
                torch.nn.utils.clip_grad_norm_([leaf], max_norm=1.0)
        elif clip == "value":
            torch.nn.utils.clip_grad_value_(weights, 1.0)
        if rate is not None:
            optimizer.param_groups[0]["lr"] = rate(step)
        optimizer.step()
        scheduler.step()
    return {name: leaf.detach().numpy().copy() for name, leaf in leaves.items()}


@check(
    LESSON,
    "The parts of exercises 1 to 4, and a step that returns (params, opt_state) and the loss.",
    "jax.lax.scan(step, start, points) takes the three arrays as a tuple: each step gets one row of each.",
    "u is lambda z: network(params, z) with the last params, not the first.",
    points=5,
)
def pinn_run(rng: np.random.Generator, train: Any) -> None:
    """All losses and the trained network, against train_torch from the same weights on the same points."""
    import torch

    from course.checks.programs import capstone_20_pinn as pinn

    answer = function(train, "train(arrays, points)")
    steps = 24
    torch.manual_seed(int(rng.integers(2**31)))
    model = pinn.BeamNet(8)
    arrays = {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}
    points = pinn.draw_points(steps, 16, int(rng.integers(2**31)))
    losses = np.array(pinn.train_torch(model, points))
    places = rng.uniform(size=(9, 2))
    with float64():
        result = answer(arrays, tuple(part.numpy().copy() for part in points))
        if not isinstance(result, tuple | list) or len(result) != 2:
            wrong("expected (losses, u).", got=result)
        u = function(result[1], "u, of (losses, u) = train(arrays, points); u(point)")
        got, found = result[0], np.asarray([u(jnp.asarray(place)) for place in places])
    found = found.reshape(found.shape[:1]) if found.shape == (9, 1) else found
    with torch.no_grad():
        expected = model(torch.tensor(places))[:, 0].numpy()
    same(np.shape(got), (steps,), "the shape of losses")
    same(
        np.asarray(got)[0],
        losses[0],
        "the loss before the first step",
        rtol=1e-7,
        slips={"the loss after the first step": losses[1]},
    )
    first = _field(arrays)
    if not np.allclose(np.asarray(got), losses, rtol=0, atol=2e-6 * losses.max()):
        same(
            got, losses, f"the losses of {steps} steps", rtol=2e-6, atol=1e-7,
            slips={
                text: lambda options=options: _slipped(arrays, points, **options)
                for text, options in {
                    "the weights stay those of the start; carry params on": {"rate": 0.0},
                    "the optimizer's state is lost in each step; carry it on": {"forget": True, "gamma": 1.0},
                    "all steps use the points of the first": {"again": True},
                    "the gradients are not clipped": {"clip": False},
                    "weight_decay is missing, or decoupled as in AdamW": {"decay": 0.0},
                    "the rate does not fall": {"gamma": 1.0},
                    "no weight_decay, no clipping, a rate that does not fall: Adam alone": {
                        "clip": False, "decay": 0.0, "gamma": 1.0
                    },
                }.items()
            },
        )  # fmt: skip
    with float64():
        untrained = np.asarray(jax.vmap(first)(jnp.asarray(places)))
    same(
        found, expected, "the trained network at 9 points", rtol=1e-5, atol=1e-6,
        slips={"the network of the start, not the trained one": untrained},
    )  # fmt: skip


def _slipped(
    arrays: dict[str, np.ndarray], points: Any, *, rate: float = 1e-2, decay: float = 1e-4, gamma: float = 0.95,
    clip: bool = True, forget: bool = False, again: bool = False,
) -> np.ndarray:  # fmt: skip
    """The program's losses with a slip in it."""
    import torch

    from course.checks.programs import capstone_20_pinn as pinn

    model = pinn.BeamNet(8)
    model.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()})
    optimizer = torch.optim.Adam(model.parameters(), lr=rate, weight_decay=decay)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=10, gamma=gamma)
    losses = []
    for step in range(len(points[0])):
        loss = pinn.beam_loss_torch(model, *(part[0 if again else step] for part in points))
        optimizer.zero_grad()
        loss.backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
        if forget:
            optimizer.state.clear()
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    return np.array(losses)
