"""A grammar of programs that people differentiate, for test_random_programs.py and `make fuzz`.

A program is a list of steps. Each step takes vectors from a pool (the argument x is the first) and adds one. Some
layers of x are made before the first step and used after the last, so that compression of first derivatives finds few,
many or too many of them alive. Items keep values of order 1, so that derivatives stay comparable, and draw their
weights from a provider, so that one can differentiate by them. The result is a weighted sum of sines of everything in
the pool.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

ITEMS: dict[str, Callable] = {}
LOW = {"bfloat16 cast": jnp.bfloat16, "float16 cast": jnp.float16}  # compared with a looser bound


def item(name):
    def register(function):
        ITEMS[name] = function
        return function

    return register


class Weights:
    """Hands out weights in the order in which they are asked for; makes them on the first run of a program."""

    def __init__(self, known=None, seed=0):
        self.known, self.made, self.rng, self.at, self.x = known, [], np.random.default_rng(seed), 0, None

    def __call__(self, *shape):
        if self.known is None:
            self.made.append(self.rng.normal(size=shape) / max(shape[0], 1) ** 0.5)
            return jnp.asarray(self.made[-1])
        self.at += 1
        return self.known[self.at - 1]


@dataclass(frozen=True)
class Program:
    """f(weights, x) with the choices that made it.

    Attributes:
      d: of x.
      steps: item and the places of its two operands in the pool, counted from the end.
      widths: of what items widen or narrow to, used in turn.
      alive: widths of the layers that live from the first step to the end.
      seed: of the weights.
    """

    d: int
    steps: tuple[tuple[str, int, int], ...]
    widths: tuple[int, ...]
    alive: tuple[int, ...]
    seed: int

    def weights(self) -> list:
        provider = Weights(seed=self.seed)
        jax.eval_shape(lambda x: self._run(provider, x, exact=False), jnp.ones(self.d))
        return provider.made

    def __call__(self, weights, x, exact=False):
        """With `exact`, casts to low precision are left out."""
        return self._run(Weights(weights), x, exact)

    def _run(self, w, x, exact):
        w.x, pool = x, [*(jnp.tanh(x @ w(self.d, width)) for width in self.alive), x]
        for n, (name, a, b) in enumerate(self.steps):
            v, u = pool[-1 - a % len(pool)], pool[-1 - b % len(pool)]
            width = self.widths[n % len(self.widths)]
            if name in LOW and not exact:
                v = v.astype(LOW[name])
            pool.append(ITEMS[name](w, v, u, width).astype(x.dtype))
        return sum(jnp.sin(v + 0.3 * n) @ w(len(v)) for n, v in enumerate(pool))


def same_length(v, u):
    """u cut or repeated to v's length."""
    return jnp.resize(u, v.shape)


# --- dense layers ------------------------------------------------------------------------------------------


@item("x @ W")
def _(w, v, u, width):
    return jnp.tanh(v @ w(len(v), width))


@item("A @ x")
def _(w, v, u, width):
    return jnp.tanh(w(width, len(v)) @ v)


@item("residual")
def _(w, v, u, width):
    return v + jnp.tanh(v @ w(len(v), len(v)))


@item("gated")
def _(w, v, u, width):
    return jax.nn.sigmoid(v @ w(len(v), width)) * jnp.tanh(u @ w(len(u), width))


@item("affine closure")
def _(w, v, u, width):
    table = np.cos(np.arange(len(v)))  # an array of NumPy's that the function closes over
    return v * table + table


# --- shapes and indices ------------------------------------------------------------------------------------


@item("concatenate")
def _(w, v, u, width):
    return jnp.concatenate([v, jnp.sin(u)])[: width + 2]


@item("slices")
def _(w, v, u, width):
    return jnp.concatenate([v, v[:1]])[1:] * v


@item("gather")
def _(w, v, u, width):
    return v[np.arange(width) % len(v)] * jnp.cos(v[0])


@item("scatter")
def _(w, v, u, width):
    return v.at[np.array([0, -1])].add(jnp.sin(v[0])).at[0].set(v[-1] * v[0])


@item("integer side values")
def _(w, v, u, width):
    place = jnp.argmax(v)
    return v[place] * v + lax.iota(v.dtype, len(v)) * 0.1 + (place > 0)


@item("roll and flip")
def _(w, v, u, width):
    return jnp.roll(v, 1) * v[::-1]


# --- reductions, sorting -----------------------------------------------------------------------------------


@item("reductions")
def _(w, v, u, width):
    # the largest entry of x, not of v: compiled without optimisation, XLA may compute v twice and not find the largest
    return jnp.stack([jnp.mean(v), jnp.var(v), jnp.max(w.x) * v.sum() / len(v), jnp.tanh(v).prod()])


@item("cumulative")
def _(w, v, u, width):
    return jnp.cumsum(v) / len(v) + jnp.cumprod(jnp.tanh(v))


@item("sort")
def _(w, v, u, width):
    return jnp.sort(v) * jnp.arange(1, len(v) + 1) / len(v)


@item("top-k, one of two outputs used")
def _(w, v, u, width):
    return jnp.tanh(lax.top_k(v, min(2, len(v)))[0] * v[0])


@item("norms and distances")
def _(w, v, u, width):
    other = same_length(v, u) + 0.7
    return jnp.stack([jnp.linalg.norm(v), jnp.sqrt(((v - other) ** 2).sum() + 0.1), jnp.abs(v).sum() / len(v)])


@item("pair distances")
def _(w, v, u, width):
    apart = v[:3, None] - v[None, :3]
    return jnp.sqrt((apart**2) + 0.5).sum(axis=1)


# --- arithmetic and functions ------------------------------------------------------------------------------


@item("product")
def _(w, v, u, width):
    return v * same_length(v, u)


@item("quotient")
def _(w, v, u, width):
    return v / (1 + same_length(v, u) ** 2)


@item("powers and roots")
def _(w, v, u, width):
    return (0.5 + jnp.tanh(v) ** 2) ** 1.3 + jnp.sqrt(1 + v**2) + jnp.cbrt(2 + jnp.sin(v)) - 2


@item("elementwise")
def _(w, v, u, width):
    return jnp.exp(-(v**2)) + jnp.log1p(v**2) + jnp.arctan(v) + jax.scipy.special.erf(v)


@item("activations")
def _(w, v, u, width):
    return jax.nn.silu(v) + jax.nn.gelu(v) + jax.nn.softplus(v) + 0.1 * jax.nn.relu(v)


@item("softmax")
def _(w, v, u, width):
    return jax.nn.softmax(v) * 2 + 0.1 * jax.nn.log_softmax(v)


@item("logsumexp")
def _(w, v, u, width):
    return jax.nn.logsumexp(v) * same_length(v, u)


@item("bilinear form")
def _(w, v, u, width):
    return jnp.tanh(v @ w(len(v), len(u)) @ u) * jnp.ones(1)


@item("attention")
def _(w, v, u, width):
    tokens = jnp.outer(jnp.array([1.0, 0.5, -0.4]), v)
    scores = (tokens @ w(len(v), 2)) @ (tokens @ w(len(v), 2)).T
    return jax.nn.softmax(scores)[0] @ (tokens @ w(len(v), 2))


@item("normalised")
def _(w, v, u, width):
    h = v @ w(len(v), width)
    return (h - h.mean()) / jnp.sqrt(h.var() + 0.3)


@item("convolution")
def _(w, v, u, width):
    return jnp.convolve(v, w(2)) / 2


# --- linear algebra ----------------------------------------------------------------------------------------


def _matrix(v):
    r = jnp.resize(jnp.tanh(v), (2, 2))
    return r @ r.T + jnp.eye(2) + 0.2 * r


@item("slogdet")
def _(w, v, u, width):
    return jnp.linalg.slogdet(_matrix(v))[1] * jnp.ones(1)


@item("solve")
def _(w, v, u, width):
    return jnp.linalg.solve(_matrix(v), jnp.resize(u, 2))


# --- complex intermediates ---------------------------------------------------------------------------------


@item("phases")
def _(w, v, u, width):
    return jnp.abs(jnp.exp(1j * v) @ (w(len(v), 2) + 1j)) ** 2 / len(v)


@item("fft")
def _(w, v, u, width):
    return jnp.fft.fft(v).real + jnp.abs(jnp.fft.fft(v * 1j + 1.5)) / len(v)


@item("complex parts")
def _(w, v, u, width):
    z = lax.complex(v, same_length(v, u)) * (0.3 + 1j)
    return jnp.tanh((z * z.conj()).real) + jnp.angle(3.0 + z)


# --- control flow ------------------------------------------------------------------------------------------


@item("guarded where")
def _(w, v, u, width):
    positive = v > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, v, 1.0)) + v**2, jnp.sin(v))


@item("cond")
def _(w, v, u, width):
    return lax.cond(v[0] > 0.1, lambda v: jnp.sin(v) * v[0], lambda v: v**3 / (1 + v**2), v)


@item("scan")
def _(w, v, u, width):
    matrix = w(len(v), len(v))
    carry, outputs = lax.scan(lambda c, s: (jnp.tanh(c @ matrix + s), c[0]), v, u[:3])
    return carry + outputs.sum()


@item("while")
def _(w, v, u, width):  # of x, which has no weights in it: JAX cannot differentiate such a loop backwards
    return lax.while_loop(lambda c: c[0] < 2, lambda c: (c[0] + 1, jnp.sin(c[1]) + 0.1 * c[1]), (0, w.x))[1]


@item("fori")
def _(w, v, u, width):
    return lax.fori_loop(0, 2, lambda i, c: jnp.sin(c) * (1 + i) + 0.1 * c, v)


@item("loop in a loop, of a branch")
def _(w, v, u, width):
    def inner(c, s):
        return lax.switch(jnp.int32(s > 0.5), [lambda c: jnp.sin(c) * v, lambda c: 0.5 * c + s], c), c[0]

    def outer(c, s):
        (c, sums), count = lax.scan(inner, c[0], jnp.arange(2.0, dtype=v.dtype)), c[1]
        return (c + s, count + 1), sums

    (carry, count), outputs = lax.scan(outer, (0.5 * v, 0), u[:2], reverse=True)
    return carry * count + outputs.sum()


@item("checkpoint in a scan")
def _(w, v, u, width):
    part = jax.checkpoint(
        lambda c, m: (jnp.tanh(jnp.sin(c @ m)) + v, None), policy=jax.checkpoint_policies.dots_saveable
    )
    return lax.scan(part, v, w(2, len(v), len(v)))[0]


@item("map")
def _(w, v, u, width):
    return lax.map(lambda s: jnp.sin(s) * s + v[0], v)


@item("vmap inside")
def _(w, v, u, width):
    return jax.vmap(lambda row, s: jnp.tanh(row @ v) * s, (0, None))(w(width, len(v)), v[0])


@item("jit and checkpoint inside")
def _(w, v, u, width):
    return jax.jit(jax.checkpoint(lambda v: jnp.sin(v) * jnp.cos(v[0])))(v)


@jax.custom_jvp
def own(v):
    return jnp.sin(v) * v


@own.defjvp
def _(primals, tangents):
    (v,), (t,) = primals, tangents
    return own(v), (1.3 * jnp.cos(v) * v + jnp.sin(v)) * t  # not its derivative: a rule that is ignored shows


@item("custom_jvp")
def _(w, v, u, width):
    return own(v) + jax.nn.softplus(v[:1])


# --- precision ---------------------------------------------------------------------------------------------


def low_precision(w, v, u, width):
    return jnp.tanh(v) * v + jax.nn.sigmoid(v) / 2 if width % 2 else v + v[0] * v


ITEMS.update(dict.fromkeys(LOW, low_precision))
