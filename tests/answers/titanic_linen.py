"""Answers to the exercises of 01c_titanic_linen."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from tests.answers import right, wrong

TRUE = {"second": "Dense_1", "kernel": (5, 8), "arrays": 5, "leaves": 17, "rows": True, "columns": False}

wrong("linen_tree", "counting starts at 0")(TRUE | {"second": "Dense_2"})
wrong("linen_tree", "torch's layout")(TRUE | {"kernel": (8, 5)})
wrong("linen_tree", "one layer has no bias")(TRUE | {"arrays": 6})
wrong("linen_tree", "are two numbers")(TRUE | {"leaves": 16})
wrong("linen_tree", "are no leaves")(TRUE | {"leaves": 19})
wrong("linen_tree", "how many rows there are")(TRUE | {"rows": False})
wrong("linen_tree", "the input of init had columns")(TRUE | {"columns": True})
right("linen_tree")(TRUE | {"kernel": [5, 8], "second": " dense_1"})
right("linen_tree")(dict(reversed(TRUE.items())))


def siamese(distance=lambda difference: (difference**2).sum(-1), act=nn.tanh, names=("hidden", "out"), swap=False):
    class Siamese(nn.Module):
        width: int
        size: int

        @nn.compact
        def __call__(self, a, b):
            hidden, out = (self.size, self.width) if swap else (self.width, self.size)
            hidden, out = nn.Dense(hidden, name=names[0]), nn.Dense(out, name=names[1])
            return distance(out(act(hidden(a))) - out(act(hidden(b))))

    return Siamese


wrong("siamese", "the mean over the features")(siamese(lambda d: (d**2).mean(-1)))
wrong("siamese", "the root of the sum")(siamese(lambda d: jnp.linalg.norm(d, axis=-1)))
wrong("siamese", "summed over the pairs too")(siamese(lambda d: (d**2).sum()))
wrong("siamese", "relu for tanh")(siamese(act=nn.relu))
wrong("siamese", "the layers are to be called")(siamese(names=(None, None)))
wrong("siamese", "width and size are swapped")(siamese(swap=True))


@wrong("siamese", "two towers")
class TwoTowers(nn.Module):
    width: int
    size: int

    @nn.compact
    def __call__(self, a, b):
        a, b = (nn.Dense(self.size)(nn.tanh(nn.Dense(self.width)(x))) for x in (a, b))
        return ((a - b) ** 2).sum(-1)


@wrong("siamese", "two layers of one name")
class OneNameTwice(nn.Module):
    width: int
    size: int

    @nn.compact
    def __call__(self, a, b):
        def tower(x):
            return nn.Dense(self.size, name="out")(nn.tanh(nn.Dense(self.width, name="hidden")(x)))

        return ((tower(a) - tower(b)) ** 2).sum(-1)


right("siamese")(siamese())


@right("siamese")
class Stacked(nn.Module):
    width: int
    size: int

    @nn.compact
    def __call__(self, a, b):
        both = jnp.stack([a, b])
        both = nn.Dense(self.size, name="out")(nn.tanh(nn.Dense(self.width, name="hidden")(both)))
        return jnp.square(both[0] - both[1]).sum(axis=1)


def stopping(rebind=True, result=None, late=0, reset=True, stops=True):
    def best_state(step, evaluate, state, batches, patience):
        best, low, waited, steps = state, np.inf, 0, 0
        for batch in batches:
            new, _ = step(state, batch)
            state = new if rebind else state
            steps += 1
            loss = float(evaluate(state))
            if loss < low:
                best, low, waited = state, loss, waited if not reset else 0
            else:
                waited += 1
                if stops and waited == patience + late:
                    break
        return {"last": state, "loss": low}.get(result, best), steps

    return best_state


wrong("best_state", "nobody keeps it")(stopping(rebind=False))
wrong("best_state", "the last state, not the best")(stopping(result="last"))
wrong("best_state", "the best loss, not the state")(stopping(result="loss"))
wrong("best_state", "one step too many")(stopping(late=1))
wrong("best_state", "is never set back")(stopping(reset=False))
wrong("best_state", "expected the pair")(lambda *args: stopping()(*args)[0])


@wrong("best_state", "raised an error")
def step_as_in_torch(step, evaluate, state, batches, patience):
    for batch in batches:
        state = step(state, batch)
    return state, len(batches)


@right("best_state")
def by_list(step, evaluate, state, batches, patience):
    states, losses = [], []
    for batch in batches:
        state = step(state, batch)[0]
        states.append(copy.deepcopy(state))
        losses.append(float(evaluate(state)))
        if len(losses) - 1 - int(np.argmin(losses)) == patience:
            break
    return [states[int(np.argmin(losses))], len(losses)]


right("best_state")(stopping())


def searched(
    place="outside", carry=(), compiled=True, tx=optax.scale_by_adam, sign=-1, before=False, own=True, final=None
):
    def sweep(loss, params, rates, steps):
        rule = tx()

        def step(params, opt_state, rate):
            value, grads = jax.value_and_grad(loss)(params)
            updates, opt_state = rule.update(grads, opt_state)
            rate = rate if own else rates[0]
            return jax.tree.map(lambda p, u: p + sign * rate * u, params, updates), opt_state, value

        finals, tuned, opt_state = [], params, rule.init(params)
        shared = jax.jit(step)
        for rate in rates:
            run = shared if place == "outside" else jax.jit(lambda *args: step(*args))
            tuned = tuned if "params" in carry else params
            opt_state = opt_state if "moments" in carry else rule.init(params)
            for _ in range(steps):
                tuned, opt_state, value = (run if compiled else step)(tuned, opt_state, rate)
            finals.append(value if before else loss(tuned))
        return finals

    return sweep


wrong("sweep", "goes on from the weights")(searched(carry=("params", "moments")))
wrong("sweep", "moments are those of the rate before")(searched(carry=("moments",)))
wrong("sweep", "the sign")(searched(sign=1))
wrong("sweep", "the loss before the last update")(searched(before=True))
wrong("sweep", "the first one was compiled in")(searched(own=False))
wrong("sweep", "no Adam")(searched(tx=optax.identity))
wrong("sweep", "a program for each rate")(searched("inside"))
wrong("sweep", "the step is not compiled")(searched(compiled=False))


@wrong("sweep", "a program for each rate")
def as_given(loss, params, rates, steps):
    finals = []
    for rate in rates:
        tx = optax.adam(rate)

        @jax.jit
        def step(params, opt_state, tx=tx):
            updates, opt_state = tx.update(jax.grad(loss)(params), opt_state)
            return optax.apply_updates(params, updates), opt_state

        tuned, opt_state = params, tx.init(params)
        for _ in range(steps):
            tuned, opt_state = step(tuned, opt_state)
        finals.append(loss(tuned))
    return finals


@right("sweep")
def injected(loss, params, rates, steps):
    tx = optax.inject_hyperparams(optax.adam)(learning_rate=0.0)

    @jax.jit
    def step(params, opt_state):
        updates, opt_state = tx.update(jax.grad(loss)(params), opt_state)
        return optax.apply_updates(params, updates), opt_state

    finals = []
    for rate in rates:
        tuned, opt_state = params, tx.init(params)
        opt_state.hyperparams["learning_rate"] = jnp.asarray(rate, jnp.float32)
        for _ in range(steps):
            tuned, opt_state = step(tuned, opt_state)
        finals.append(float(loss(tuned)))
    return np.array(finals)


@right("sweep")
def mapped(loss, params, rates, steps):
    tx = optax.scale_by_adam()

    @jax.jit
    @jax.vmap
    def run(rate):
        def step(_, carry):
            updates, opt_state = tx.update(jax.grad(loss)(carry[0]), carry[1])
            return jax.tree.map(lambda p, u: p - rate * u, carry[0], updates), opt_state

        return loss(jax.lax.fori_loop(0, steps, step, (params, tx.init(params)))[0])

    return run(jnp.asarray(rates, jnp.float32))
