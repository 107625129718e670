"""Answers to the exercises of 08b_compiling."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.answers import right, wrong

PROGRAMS = {"sizes": 2, "scales": 3, "modes": 2, "containers": 3, "partials": 4}

wrong("program_count", "a known shape finds its program")(PROGRAMS | {"sizes": 5})
wrong("program_count", "weakly typed")(PROGRAMS | {"scales": 1})
wrong("program_count", "an int is another type")(PROGRAMS | {"scales": 2})
wrong("program_count", "values are not in the key")(PROGRAMS | {"scales": 5})
wrong("program_count", "a static value that was there before")(PROGRAMS | {"modes": 4})
wrong("program_count", "the number of parts")(PROGRAMS | {"containers": 2})
wrong("program_count", "known by its identity")(PROGRAMS | {"partials": 1})
wrong("program_count", "expected int")(PROGRAMS | {"partials": "four"})
right("program_count")(dict(reversed(PROGRAMS.items())))
right("program_count")({name: np.int64(count) for name, count in PROGRAMS.items()})


def filtered(*, start=None, sign=1, late=False, keep=False, dtype=None, swap=False):
    def biquad(state, x, b, a):
        def turn(state, value):
            z1, z2 = state
            out = b[0] * value + z1
            new2 = b[2] * value - sign * a[1] * out
            new1 = b[1] * value - sign * a[0] * out + (new2 if late else z2)
            new = jnp.stack([new2, new1] if swap else [new1, new2])
            return state if keep else new, out if dtype is None else out.astype(dtype)

        return lax.scan(turn, state if start is None else start, x)

    return biquad


wrong("biquad_scan", "begin with the one that is handed in")(filtered(start=jnp.zeros(2)))
wrong("biquad_scan", "not carried from sample to sample")(filtered(keep=True))
wrong("biquad_scan", "it needs the old one")(filtered(late=True))
wrong("biquad_scan", "it is subtracted")(filtered(sign=-1))
wrong("biquad_scan", "whole numbers")(filtered(dtype=jnp.int16))
wrong("biquad_scan", "the two results are swapped")(lambda *given: filtered()(*given)[::-1])
wrong("biquad_scan", "the state is lost")(lambda *given: filtered()(*given)[1])
wrong("biquad_scan", "only the last sample")(lambda *given: (filtered()(*given)[0], filtered()(*given)[1][-1]))


@wrong("biquad_scan", "carry")
def a_state_of_the_samples_dtype(state, x, b, a):
    return filtered()(state.astype(jnp.int16), x, b, a)


@wrong("biquad_scan", "a Python loop is unrolled")
def unrolled(state, x, b, a):
    (z1, z2), outs = state, []
    for value in x:
        out = b[0] * value + z1
        z1, z2 = b[1] * value - a[0] * out + z2, b[2] * value - a[1] * out
        outs.append(out)
    return jnp.stack([z1, z2]), jnp.stack(outs)


@right("biquad_scan")
def with_a_tuple_as_carry(state, x, b, a):
    def turn(carry, value):
        out = b[0] * value + carry[0]
        return (b[1] * value - a[0] * out + carry[1], b[2] * value - a[1] * out), out

    state, out = lax.scan(turn, (state[0], state[1]), x.astype(jnp.float32))
    return jnp.array(state), out


@right("biquad_scan")
def with_fori_loop(state, x, b, a):
    def turn(i, carry):
        (z1, z2), outs = carry
        out = b[0] * x[i] + z1
        return jnp.stack([b[1] * x[i] - a[0] * out + z2, b[2] * x[i] - a[1] * out]), outs.at[i].set(out)

    return lax.fori_loop(0, len(x), turn, (state, jnp.zeros(len(x), jnp.float32)))


def evaluated(*, reduce=None, divide="rows", size=None, fresh=False, jit=True, drop=False):
    def mean_loss(row_losses, w, batches, buckets):
        def summed(w, x, y, mask):
            losses = row_losses(w, x, y)
            return (reduce or (lambda losses, mask: losses.sum(where=mask)))(losses, mask)

        compiled = jax.jit(summed) if jit else summed
        totals, rows, padded = [], [], []
        for x, y in batches:
            if drop and len(x) not in buckets:
                continue
            if fresh:
                compiled = jax.jit(lambda *given: summed(*given))
            to = size(buckets, len(x)) if size else min(b for b in buckets if b >= len(x))
            mask = np.arange(to) < len(x)
            pad = to - len(x)
            totals.append(compiled(w, np.pad(x, [(0, pad), (0, 0)]), np.pad(y, (0, pad)), mask))
            rows.append(len(x))
            padded.append(to)
        if divide == "means":
            return sum(t / n for t, n in zip(totals, rows, strict=True)) / len(rows)
        return sum(totals) / {"rows": sum(rows), "padded": sum(padded), "nothing": 1}[divide]

    return mean_loss


wrong("bucketed_loss", "a short batch counts as much as a full one")(evaluated(divide="means"))
wrong("bucketed_loss", "a division by the padded rows")(evaluated(divide="padded"))
wrong("bucketed_loss", "the sum, not the mean")(evaluated(divide="nothing"))
wrong("bucketed_loss", "0 * inf is nan")(evaluated(reduce=lambda losses, mask: (losses * mask).sum()))
wrong("bucketed_loss", "0 * inf is nan")(evaluated(reduce=lambda losses, mask: losses.sum()))
wrong("bucketed_loss", "call jax.jit once, outside the loop")(evaluated(fresh=True))
wrong("bucketed_loss", "jax.jit is missing")(evaluated(jit=False))
wrong("bucketed_loss", "pad each batch to the smallest bucket")(evaluated(size=lambda buckets, rows: rows))
wrong("bucketed_loss", "work is wasted on padding")(evaluated(size=lambda buckets, rows: buckets[-1]))
wrong("bucketed_loss", "ragged batches are dropped")(evaluated(drop=True))


@right("bucketed_loss")
def repeats_the_first_row(row_losses, w, batches, buckets):
    compiled, losses = jax.jit(row_losses), []
    for x, y in batches:
        size = next(b for b in buckets if b >= len(x))
        rows = np.arange(size) * (np.arange(size) < len(x))
        losses.append(np.asarray(compiled(w, x[rows], y[rows]))[: len(x)])
    return np.concatenate(losses).mean()


right("bucketed_loss")(evaluated(reduce=lambda losses, mask: jnp.where(mask, losses, 0).sum()))
