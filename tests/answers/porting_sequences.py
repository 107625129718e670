"""Answers to the exercises of 06b_porting_sequences."""

import jax
import jax.numpy as jnp

from tests.answers import right, wrong

QUIET = {"torch label": "raises", "optax label": "nan", "optax negative": "number"}
QUIET |= {"embed": "nan", "table": "number", "sqrt": "nan"}
wrong("loud_or_quiet", "a compiled program cannot raise")(QUIET | {"optax label": "raises"})
wrong("loud_or_quiet", "counts from the end")(QUIET | {"optax negative": "nan"})
wrong("loud_or_quiet", "fills in NaN")(QUIET | {"embed": "number"})
wrong("loud_or_quiet", "clamps")(QUIET | {"table": "nan"})
wrong("loud_or_quiet", "0 times infinity")(QUIET | {"sqrt": "number"})
wrong("loud_or_quiet", "torch runs eagerly")(QUIET | {"torch label": "nan"})
wrong("loud_or_quiet", "filled in only in part")(QUIET | {"sqrt": ...})
right("loud_or_quiet")(dict(sorted(QUIET.items())))
right("loud_or_quiet")({name: what.title() for name, what in QUIET.items()})


wrong("flax_mask", "the wrong way round")(lambda a, p: (a != 0) | p[:, None, None, :])
wrong("flax_mask", "allowed by both")(lambda a, p: (a == 0) | ~p[:, None, None, :])
wrong("flax_mask", "it must hide keys")(lambda a, p: (a == 0) & ~p[:, None, :, None])
wrong("flax_mask", "True is padding")(lambda a, p: (a == 0) & p[:, None, None, :])
wrong("flax_mask", "bool(-inf) is True")(lambda a, p: a.astype(bool) & ~p[:, None, None, :])
wrong("flax_mask", "the axis for the heads")(lambda a, p: (a == 0) & ~p[:, None, :])
wrong("flax_mask", "an additive mask")(lambda a, p: jnp.where(p[:, None, None, :], -jnp.inf, a))
wrong("flax_mask", "the window is left out")(lambda a, p: jnp.broadcast_to(~p[:, None, None, :], (len(p), 1, *a.shape)))
right("flax_mask")(lambda a, p: jnp.isfinite(jnp.where(p[:, None, None], -jnp.inf, a)))
right("flax_mask")(lambda a, p: jnp.stack([(a > -1) & ~row for row in p])[:, None])


def memory(when="before", move=True, returns=lambda h, outputs: (outputs, h), loop=False, carry=True):
    def episodes(params, x, first):
        def step(h, inputs):
            x, first = inputs
            forget = first[:, None]
            start = jnp.where(forget, 0.0, h) if when == "before" else h
            start = jnp.where(forget, h, 0.0) if when == "inverted" else start
            new = jnp.tanh(x @ params["w"] + start @ params["u"] + params["b"])
            kept = jnp.where(forget, 0.0, new) if when == "after" else new
            return (kept if carry else h), new

        zeros = jnp.zeros((len(x), params["u"].shape[0]))
        times = jnp.moveaxis(x, 1, 0), first.T
        if loop:
            h, outputs = zeros, []
            for inputs in zip(*times, strict=True):
                h, output = step(h, inputs)
                outputs.append(output)
            return returns(h, jnp.stack(outputs, 1))
        h, outputs = jax.lax.scan(step, zeros, times if move else (x, first))
        return returns(h, jnp.moveaxis(outputs, 0, 1))

    return episodes


wrong("episodes", "`first` is not used")(memory("never"))
wrong("episodes", "wiped after the step")(memory("after"))
wrong("episodes", "the two are swapped")(memory("inverted"))
wrong("episodes", "scan returns (carry, outputs)")(memory(returns=lambda h, outputs: (h, outputs)))
wrong("episodes", "scan's own return value")(memory(returns=lambda h, outputs: (h, jnp.moveaxis(outputs, 1, 0))))
wrong("episodes", "time first still")(memory(returns=lambda h, outputs: (jnp.moveaxis(outputs, 1, 0), h)))
wrong("episodes", "the last state is missing")(memory(returns=lambda h, outputs: outputs))
wrong("episodes", "a Python loop over time")(memory(loop=True))
wrong("episodes", "raised an error")(memory(move=False))
wrong("episodes", "not right")(memory(carry=False))
right("episodes")(jax.jit(memory()))


@right("episodes")
def one_row_at_a_time(params, x, first):
    def row(x, first):
        def step(h, now):
            h = jnp.tanh(now[0] @ params["w"] + (h * ~now[1]) @ params["u"] + params["b"])
            return h, h

        h, outputs = jax.lax.scan(step, jnp.zeros_like(params["b"]), (x, first))
        return outputs, h

    return jax.vmap(row)(x, first)


def chunk(into=lambda h, c: (c[0], h[0]), out=lambda y, c, h: (y, (h[None], c[None])), state=True):
    def next_chunk(rnn, state_, x):
        (c, h), y = rnn(x, initial_carry=into(*state_) if state else None, return_carry=True)
        return out(y, c, h)

    return next_chunk


wrong("next_chunk", "swapped on the way in")(chunk(into=lambda h, c: (h[0], c[0])))
wrong("next_chunk", "swapped on both ways")(
    chunk(into=lambda h, c: (h[0], c[0]), out=lambda y, c, h: (y, (c[None], h[None])))
)
wrong("next_chunk", "swapped on the way out")(chunk(out=lambda y, c, h: (y, (c[None], h[None]))))
wrong("next_chunk", "the state is not used")(chunk(state=False))
wrong("next_chunk", "torch's first axis")(chunk(out=lambda y, c, h: (y, (h, c))))
wrong("next_chunk", "flax's carry as it is")(chunk(out=lambda y, c, h: (y, (c, h))))
wrong("next_chunk", "nnx.RNN's own return value")(chunk(out=lambda y, c, h: ((c, h), y)))
wrong("next_chunk", "the state is missing")(lambda rnn, state, x: rnn(x, initial_carry=(state[1][0], state[0][0])))


@right("next_chunk")
def by_the_cell(rnn, state, x):
    (h,), (c,) = state
    ys = []
    for t in range(x.shape[1]):
        (c, h), y = rnn.cell((c, h), x[:, t])
        ys.append(y)
    return jnp.stack(ys, 1), (jnp.array([h]), jnp.array([c]))


@right("next_chunk")
def squeezed(rnn, state, x):
    carry, y = rnn(x, initial_carry=tuple(part.squeeze(0) for part in reversed(state)), return_carry=True)
    return [y, [part.reshape(1, *part.shape) for part in carry[::-1]]]
