"""Answers to the exercises of 07b_real_checkpoint."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.answers import right, wrong


def framed(mode="reflect", ddof=1, floor=1e-10, mean=True, every=None, stack=None):
    def frames(audio, size, hop):
        audio = jnp.pad(audio, size // 2, mode=mode) if mode else audio
        starts = range(0, len(audio) - size + 1, every or hop) if stack else jnp.arange(0, len(audio) - size + 1, hop)
        if stack:
            cut = jnp.stack([audio[start : start + size] for start in starts])
        else:
            cut = audio[starts[:, None] + jnp.arange(size)]
        centred = cut - cut.mean(1, keepdims=True)
        return (centred if mean else cut) / jnp.maximum(centred.std(1, keepdims=True, ddof=ddof), floor)

    return frames


wrong("torch_frames", "the biased standard deviation, NumPy's")(framed(ddof=0))
wrong("torch_frames", "padded with zeros")(framed("constant"))
wrong("torch_frames", "And the standard deviation is the biased one")(framed("constant", 0))
wrong("torch_frames", "padded by repeating the edge")(framed("edge"))
wrong("torch_frames", "symmetric repeats the edge")(framed("symmetric"))
wrong("torch_frames", "not padded")(framed(None))
wrong("torch_frames", "a silent frame is divided by 0")(framed(floor=0.0))
wrong("torch_frames", "the mean is not taken off")(framed(mean=False))
wrong("torch_frames", "a Python loop over the frames")(framed(stack=True))
wrong("torch_frames", "a row is a frame")(lambda audio, size, hop: framed()(audio, size, hop).T)
wrong("torch_frames", "NumPy inside a transformed function")(
    lambda audio, size, hop: jnp.asarray(
        np.lib.stride_tricks.sliding_window_view(np.pad(audio, size // 2), size)[::hop]
    )
)
right("torch_frames")(framed())


@right("torch_frames")
def by_slices(audio, size, hop):
    padded = jnp.concatenate([audio[size // 2 : 0 : -1], audio, audio[-2 : -size // 2 - 2 : -1]])
    count = (len(padded) - size) // hop + 1

    def one(k):
        cut = jax.lax.dynamic_slice(padded, (k * hop,), (size,))
        cut = cut - cut.mean()
        return cut / jnp.clip(jnp.sqrt((cut**2).sum() / (size - 1)), 1e-10)

    return jax.vmap(one)(jnp.arange(count))


def fused(factor=lambda n, e: n["scale"] / jnp.sqrt(n["var"] + e), kernel=lambda k, f: k * f,
          bias=lambda b, n, f: (b - n["mean"]) * f + n["bias"], default=0.0):  # fmt: skip
    def folded(conv, norm, epsilon):
        f = factor(norm, epsilon)
        old = conv.get("bias", default) if default is not None else conv["bias"]
        return {"kernel": kernel(conv["kernel"], f), "bias": bias(old, norm, f)}

    return folded


wrong("folded_norm", "the square root is missing")(fused(lambda n, e: n["scale"] / (n["var"] + e)))
wrong("folded_norm", "epsilon stands inside the root")(fused(lambda n, e: n["scale"] / (jnp.sqrt(n["var"]) + e)))
wrong("folded_norm", "along its input channels")(fused(kernel=lambda k, f: k * f[:, None]))
wrong("folded_norm", "the convolution's own bias is not scaled")(
    fused(bias=lambda b, n, f: b - n["mean"] * f + n["bias"])
)
wrong("folded_norm", "the convolution's own bias is lost")(fused(bias=lambda b, n, f: n["bias"] - n["mean"] * f))
wrong("folded_norm", "the mean is not scaled")(fused(bias=lambda b, n, f: b * f - n["mean"] + n["bias"]))
wrong("folded_norm", "the mean's sign")(fused(bias=lambda b, n, f: (b + n["mean"]) * f + n["bias"]))
wrong("folded_norm", "KeyError")(fused(default=None))
right("folded_norm")(fused())


@right("folded_norm")
def by_unit_vectors(conv, norm, epsilon):
    def both(y):
        return (y - norm["mean"]) * jax.lax.rsqrt(norm["var"] + epsilon) * norm["scale"] + norm["bias"]

    old = conv["bias"] if "bias" in conv else jnp.zeros_like(norm["mean"])
    return {"kernel": jnp.einsum("hwio,o->hwio", conv["kernel"], both(1.0) - both(0.0)), "bias": both(old)}


def viterbi(turn=False, first=True, way_back=True, last=True, python=False, backwards=False):
    def path(scores, steps):
        steps = steps.T if turn else steps

        def into(best, score):
            through = best[:, None] + steps
            new = through.max(0) + score
            return new, (through.argmax(0), new.argmax())

        start = scores[0] if first else jnp.zeros_like(scores[0])
        if python:
            best, ways = start, []
            for score in scores[1:]:
                best, (way, _) = into(best, score)
                ways.append(way)
            states = [best.argmax()]
            for way in ways[::-1]:
                states.append(way[states[-1]])
            return jnp.stack(states[::-1])
        best, (ways, tops) = jax.lax.scan(into, start, scores[1:])
        if not way_back:
            return jnp.insert(tops, 0, start.argmax())
        _, states = jax.lax.scan(lambda state, way: (way[state],) * 2, best.argmax(), ways, reverse=True)
        states = jnp.append(states, best.argmax()) if last else states
        return states[::-1] if backwards else states

    return path


wrong("smoothed_path", "the steps are not used")(lambda scores, steps: scores.argmax(1))
wrong("smoothed_path", "without the way back")(viterbi(way_back=False))
wrong("smoothed_path", "the other way round")(viterbi(turn=True))
wrong("smoothed_path", "the first frame are left out")(viterbi(first=False))
wrong("smoothed_path", "the last state is missing")(viterbi(last=False))
wrong("smoothed_path", "the path runs backwards")(viterbi(backwards=True))
wrong("smoothed_path", "a Python loop over the frames")(viterbi(python=True))
right("smoothed_path")(viterbi())


@right("smoothed_path")
def by_counting_from_the_end(scores, steps):
    def before(rest, score):  # the best of what follows, from each state
        onward = steps + rest
        return score + onward.max(1), onward.argmax(1)

    rest, ways = jax.lax.scan(before, scores[-1], scores[:-1], reverse=True)

    def walk(state, way):
        return way[state], state

    last, states = jax.lax.scan(walk, rest.argmax(), ways)
    return jnp.append(states, last)
