"""Answers to the capstone after 20."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from course import optimizers, taylor
from course.checks.programs.capstone_20_pinn import STIFFNESS
from tests.answers import right, wrong

T, X = np.eye(2)


def convert(arrays):
    return [jnp.asarray(array) for array in arrays.values()]


def field(params, point, scale=lambda p: 2 * p - 1, w2=lambda w: w, skip=1, biases=1, last=lambda w, z: (w @ z)[0]):
    w1, b1, second, b2, w3 = params
    z = jnp.tanh(w1 @ scale(point) + biases * b1)
    return last(w3, skip * z + jnp.tanh(w2(second) @ z + biases * b2))


def network(**options):
    return lambda params, point: field(params, point, **options)


wrong("pinn_model", "transposed; its shape does not tell")(convert, network(w2=lambda w: w.T))
wrong("pinn_model", "adds to the first")(convert, network(skip=0))
wrong("pinn_model", "not scaled")(convert, network(scale=lambda p: p))
wrong("pinn_model", "t and x are swapped")(convert, network(scale=lambda p: 2 * p[::-1] - 1))
wrong("pinn_model", "the biases are missing")(convert, network(biases=0))
wrong("pinn_model", "take [0]")(convert, network(last=lambda w, z: w @ z))
wrong("pinn_model", "float32")(lambda arrays: [jnp.float32(a) for a in arrays.values()], network())
wrong("pinn_model", "raised an error")(lambda arrays: [jnp.asarray(a.T) for a in arrays.values()], network())
right("pinn_model")(convert, network())
right("pinn_model")(dict, lambda params, point: field(list(params.values()), point))


def residual(combine, along=(T, X)):
    def of(u, point):
        t, x = (taylor.derivatives(u, point, jnp.asarray(v, point.dtype), 4) for v in along)
        return combine(t, x)

    return of


wrong("pinn_residual", "t and x are swapped")(residual(lambda t, x: t[2] + STIFFNESS * x[4], (X, T)))
wrong("pinn_residual", "u_t in place")(residual(lambda t, x: t[1] + STIFFNESS * x[4]))
wrong("pinn_residual", "u_xx in place")(residual(lambda t, x: t[2] + STIFFNESS * x[2]))
wrong("pinn_residual", "the stiffness is missing")(residual(lambda t, x: t[2] + x[4]))
wrong("pinn_residual", "is the square of")(residual(lambda t, x: t[2] + 2 / np.pi**2 * x[4]))
wrong("pinn_residual", "the sign of the stiffness")(residual(lambda t, x: t[2] - STIFFNESS * x[4]))
wrong("pinn_residual", "multiplied by factorials")(residual(lambda t, x: 2 * t[2] + 24 * STIFFNESS * x[4]))
right("pinn_residual")(residual(lambda t, x: t[2] + STIFFNESS * x[4]))


@right("pinn_residual")
def by_nested_grad(u, point):
    def d(f, axis):
        return lambda z: jax.grad(f)(z)[axis]

    return d(d(u, 0), 0)(point) + STIFFNESS * d(d(d(d(u, 1), 1), 1), 1)(point)


def second(u, point, axis):
    return jax.hessian(u)(point)[axis, axis]


def loss(
    mean=jnp.mean, weights=(10, 5), bend=0.1, rest=1, at_ends=lambda u, z: second(u, z, 1), inside_weight=1,
    shape=lambda z: jnp.sin(jnp.pi * z[1]),
):  # fmt: skip
    def of(u, inside, start, ends):
        r = jax.vmap(lambda z: residual(lambda t, x: t[2] + STIFFNESS * x[4])(u, z) ** 2)(inside)
        s = jax.vmap(lambda z: (u(z) - shape(z)) ** 2 + rest * jax.grad(u)(z)[0] ** 2)(start)
        e = jax.vmap(lambda z: u(z) ** 2 + bend * at_ends(u, z) ** 2)(ends)
        return inside_weight * mean(r) + weights[0] * mean(s) + weights[1] * mean(e)

    return of


wrong("pinn_loss", "sums, not means")(loss(mean=jnp.sum))
wrong("pinn_loss", "the weights 10 and 5 are missing")(loss(weights=(1, 1)))
wrong("pinn_loss", "swapped")(loss(weights=(5, 10)))
wrong("pinn_loss", "the factor 0.1")(loss(bend=1))
wrong("pinn_loss", "0.1 stands for the square too")(loss(bend=0.01))
wrong("pinn_loss", "the beam is at rest")(loss(rest=0))
wrong("pinn_loss", "the ends are hinged")(loss(bend=0))
wrong("pinn_loss", "hinged, not clamped")(loss(at_ends=lambda u, z: jax.grad(u)(z)[1]))
wrong("pinn_loss", "the second entry")(loss(shape=lambda z: jnp.sin(jnp.pi * z[0])))
wrong("pinn_loss", "the term of the residual")(loss(inside_weight=0))
right("pinn_loss")(loss())
right("pinn_loss")(loss(mean=lambda values: values.sum() / len(values)))


@wrong("pinn_loss", "the difference of all pairs")
def broadcast(u, inside, start, ends):
    gaps = jax.vmap(u)(start)[:, None] - jnp.sin(jnp.pi * start[:, 1])
    crossed = jnp.mean(gaps**2) + jnp.mean(jax.vmap(jax.grad(u))(start)[:, 0] ** 2)
    return loss(weights=(0, 5))(u, inside, start, ends) + 10 * crossed


def schedule(steps=10, rate=0.95, staircase=True):
    return optax.exponential_decay(1e-2, steps, rate, staircase=staircase)


clip, decay = optax.clip_by_global_norm(1.0), optax.add_decayed_weights(1e-4)


each_clipped = optax.stateless(
    lambda grads, _: jax.tree.map(lambda g: g / jnp.maximum(1.0, jnp.linalg.norm(g.reshape(-1))), grads)
)


def adam(rate=None):
    return optax.adam(rate or schedule())


wrong("pinn_optimizer", "is decoupled")(lambda: optax.chain(clip, optax.adamw(schedule(), weight_decay=1e-4)))
wrong("pinn_optimizer", "weight_decay is missing")(lambda: optax.chain(clip, adam()))
wrong("pinn_optimizer", "not clipped")(lambda: optax.chain(decay, adam()))
wrong("pinn_optimizer", "before the clipping")(lambda: optax.chain(decay, clip, adam()))
wrong("pinn_optimizer", "each number is clipped")(lambda: optax.chain(optax.clip(1.0), decay, adam()))
wrong("pinn_optimizer", "by its own norm")(lambda: optax.chain(each_clipped, decay, adam()))
wrong("pinn_optimizer", "does not fall")(lambda: optax.chain(clip, decay, adam(1e-2)))
wrong("pinn_optimizer", "in each step, not every ten")(
    lambda: optax.chain(clip, decay, adam(schedule(staircase=False)))
)
wrong("pinn_optimizer", "by 0.95 in each step")(lambda: optax.chain(clip, decay, adam(schedule(1))))
wrong("pinn_optimizer", "uphill")(lambda: optax.chain(clip, decay, adam(), optax.scale(-1)))
wrong("pinn_optimizer", "an optax transformation")(lambda: 1e-2)
right("pinn_optimizer")(lambda: optax.chain(clip, decay, adam()))
right("pinn_optimizer")(
    lambda: optax.chain(
        optimizers.clip_by_global_norm(1.0),
        decay,
        optax.scale_by_adam(),
        optax.scale_by_learning_rate(optax.piecewise_constant_schedule(1e-2, {10: 0.95, 20: 0.95, 30: 0.95})),
    )
)


def run(tx=None, carry=True, forget=False, again=False, trained=True, late=False, scan=True, of=None):
    def train(arrays, points):
        optimizer = tx or optax.chain(clip, decay, adam())
        start = convert(arrays)

        @jax.jit
        def step(state, now):
            params, opt_state = state
            now = tuple(jnp.asarray(part[0]) for part in points) if again else now
            value_of = lambda p: (of or loss())(lambda z: field(p, z), *now)  # noqa: E731
            value, grads = jax.value_and_grad(value_of)(params)
            opt_state = optimizer.init(params) if forget else opt_state
            updates, opt_state = optimizer.update(grads, opt_state, params)
            new = optax.apply_updates(params, updates) if carry else params
            return (new, opt_state), value_of(new) if late else value

        state, rows = (start, optimizer.init(start)), tuple(map(jnp.asarray, points))
        if scan:
            state, losses = jax.lax.scan(step, state, rows)
        else:
            losses = []
            for now in zip(*rows, strict=True):
                state, value = step(state, now)
                losses.append(float(value))
        return losses, lambda z: field(state[0] if trained else start, z)

    return train


wrong("pinn_run", "the weights stay those of the start")(run(carry=False))
wrong("pinn_run", "the optimizer's state is lost")(run(forget=True))
wrong("pinn_run", "the points of the first")(run(again=True))
wrong("pinn_run", "weight_decay is missing")(run(tx=optax.chain(clip, adam())))
wrong("pinn_run", "not clipped")(run(tx=optax.chain(decay, adam())))
wrong("pinn_run", "does not fall")(run(tx=optax.chain(clip, decay, adam(1e-2))))
wrong("pinn_run", "the loss before the first step")(run(late=True))
wrong("pinn_run", "the network of the start")(run(trained=False))
wrong("pinn_run", "expected (losses, u)")(lambda arrays, points: None)
right("pinn_run")(run())
right("pinn_run")(run(tx=optax.chain(optimizers.clip_by_global_norm(1.0), decay, adam()), scan=False))
