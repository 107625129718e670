"""Answers to the exercises of 02_same_numbers."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from tests.answers import right, wrong


def layers(own=False, relative=True, first=False, start=0):
    def guilty_layers(torch_layers, jax_layers, x, tolerance):
        guilty, ours = [], x.numpy()
        for index, (a, b) in enumerate(zip(torch_layers, jax_layers, strict=True), start):
            x, ours = a(x), np.asarray(b(ours if own else x.numpy()))
            if abs(ours - x.numpy()).max() > tolerance * (abs(x).max().item() if relative else 1):
                guilty.append(index)
                if first:
                    break
        return guilty

    return guilty_layers


wrong("guilty_layers", "each side was fed its own outputs")(layers(own=True))
wrong("guilty_layers", "only the first was found")(layers(first=True))
wrong("guilty_layers", "counting starts at 0")(layers(start=1))
wrong("guilty_layers", "return the list")(lambda *args: len(layers()(*args)))
wrong("guilty_layers", "the layers that are wrong")(lambda *args: [])
wrong("guilty_layers", "a function without `return`")(lambda *args: layers()(*args) and None)
right("guilty_layers")(layers())


@right("guilty_layers")
def with_allclose(torch_layers, jax_layers, x, tolerance):
    inputs = [x]
    for layer in torch_layers:
        inputs.append(layer(inputs[-1]))
    off = [
        float(jnp.abs(jnp.asarray(layer(before.numpy())) - after.numpy()).max() / after.abs().max().numpy())
        for layer, before, after in zip(jax_layers, inputs, inputs[1:], strict=False)
    ]
    return np.flatnonzero(np.array(off) > tolerance)


wrong("bias_correction", "decay became float32 before the power")(lambda decay, t: 1 - decay**t)
wrong("bias_correction", "decay became float32 before the power")(lambda decay, t: 1 - jnp.power(jnp.float32(decay), t))
wrong("bias_correction", "cancels where z is small")(lambda decay, t: 1 - jnp.exp(t * math.log(decay)))
wrong("bias_correction", "log of a decay that is float32")(lambda decay, t: -jnp.expm1(t * jnp.log(jnp.float32(decay))))
wrong("bias_correction", "without 1 minus it")(lambda decay, t: jnp.exp(t * math.log(decay)))
wrong("bias_correction", "the sign")(lambda decay, t: jnp.expm1(t * math.log(decay)))
wrong("bias_correction", "NumPy inside a transformed function")(
    lambda decay, t: -np.expm1(np.asarray(t) * np.log(decay))
)
right("bias_correction")(lambda decay, t: -jnp.expm1(t * np.float32(np.log(decay))))


@right("bias_correction")
def by_log1p(decay, t):
    return -jax.lax.expm1(t * jnp.log1p(jnp.float32(decay - 1.0)))


def norm(share="new", ddof=1, own=0, outside=False, evaluated=False, moves=True, always=False):
    def batch_norm(state, x, training, momentum, eps):
        new = momentum if share == "new" else 1 - momentum
        mean, var = x.mean(0), x.var(0, ddof=own)
        if (training and moves) or always:
            now = {"mean": mean, "var": x.var(0, ddof=ddof)}
            state_after = jax.tree.map(lambda a, b: (1 - new) * a + new * b, state, now)
        else:
            state_after = state
        if not training and not evaluated:
            mean, var = state["mean"], state["var"]
        scale = jnp.sqrt(var) + eps if outside else jnp.sqrt(var + eps)
        return state_after, (x - mean) / scale

    return batch_norm


wrong("batch_norm", "the running one takes n - 1")(norm(ddof=0))
wrong("batch_norm", "the share of the old average here")(norm(share="old"))
wrong("batch_norm", "flax's rule")(norm(share="old", ddof=0))
wrong("batch_norm", "only the running one takes that")(norm(own=1))
wrong("batch_norm", "eps outside of the root")(norm(outside=True))
wrong("batch_norm", "the state as it came")(norm(moves=False))
wrong("batch_norm", "only training does")(norm(always=True))
wrong("batch_norm", "it takes the running ones")(norm(evaluated=True))
wrong("batch_norm", "the two are swapped")(lambda *args: norm()(*args)[::-1])
right("batch_norm")(norm())


@right("batch_norm")
def without_branches(state, x, training, momentum, eps):
    n, ones = len(x), jnp.ones(len(x))
    mean = ones @ x / n
    centred = x - mean
    var = jnp.einsum("nc,nc->c", centred, centred) / n
    share = momentum * training
    after = {
        "mean": state["mean"] + share * (mean - state["mean"]),
        "var": state["var"] + share * (var * n / (n - 1) - state["var"]),
    }
    mean, var = (jnp.where(training, a, b) for a, b in ((mean, state["mean"]), (var, state["var"])))
    return [after, (x - mean) * jax.lax.rsqrt(var + eps)]
