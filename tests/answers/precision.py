"""Answers to the exercises of 05_precision."""

import jax
import jax.numpy as jnp
import optax

from tests.answers import right, wrong

TYPES = {
    "b * 2.0": "bfloat16", "b * jnp.float32(2.0)": "float32", "b * h": "float32", "b + i": "bfloat16",
    "b.sum()": "bfloat16",
}  # fmt: skip

wrong("promoted_types", "a Python number takes the array's type")({**TYPES, "b * 2.0": "float32"})
wrong("promoted_types", "in JAX it does")({**TYPES, "b * jnp.float32(2.0)": "bfloat16"})
wrong("promoted_types", "no type of 16 bits holds both")({**TYPES, "b * h": "float16"})
wrong("promoted_types", "so it is in NumPy")({**TYPES, "b + i": "float32"})
wrong("promoted_types", "returned as it came")({**TYPES, "b.sum()": "float32"})
wrong("promoted_types", "expected a dict with the keys")(["bfloat16"] * 5)
wrong("promoted_types", "expected str")({**TYPES, "b * h": 32})
right("promoted_types")(dict(reversed(TYPES.items())))
right("promoted_types")({name: getattr(jnp, kind) for name, kind in TYPES.items()})
right("promoted_types")({name: jnp.dtype(kind) for name, kind in TYPES.items()})


def var(wide=jnp.float32, over=-1, keep=-1, less=0, power=1, back=True):
    def variance(x):
        w = x.astype(wide) if wide else x
        centred = w - w.mean(keep, keepdims=True)
        result = ((centred**2).sum(over) / ((x.size if over is None else x.shape[over]) - less)) ** power
        return result.astype(x.dtype) if back else result

    return variance


@wrong("steady_variance", "a difference of large numbers")
def fast(x):
    return (x**2).mean(-1) - x.mean(-1) ** 2


@wrong("steady_variance", "a difference of large numbers")
def fast_in_float32(x):
    x32 = x.astype(jnp.float32)
    return ((x32**2).mean(-1) - x32.mean(-1) ** 2).astype(x.dtype)


wrong("steady_variance", "torch's var is unbiased")(var(less=1))
wrong("steady_variance", "the standard deviation")(var(power=0.5))
wrong("steady_variance", "one variance for all")(var(over=None, keep=None))
wrong("steady_variance", "over the rows, not along them")(var(over=0, keep=0))
wrong("steady_variance", "cast back at the end")(var(back=False))
wrong("steady_variance", "calculate in float32")(var(wide=None))
wrong("steady_variance", "without `return`")(lambda x: None)
right("steady_variance")(lambda x: jnp.var(x.astype("float32"), axis=-1).astype(x.dtype))


@right("steady_variance")
def in_two_steps(x):
    rows = x.reshape(-1, x.shape[-1]).astype(jnp.float32)
    shifted = rows - rows[:, :1]  # any number near the mean will do
    return ((shifted**2).mean(1) - shifted.mean(1) ** 2).astype(x.dtype).reshape(x.shape[:-1])


def entropy(logits, y):
    return optax.softmax_cross_entropy_with_integer_labels(logits, y)


def down(tree):
    return jax.tree.map(lambda p: p.astype(jnp.bfloat16), tree)


def step(weights=down, rows=down, up=jnp.float32, reduce=jnp.mean, outside=lambda p: p, result=lambda pair: pair):
    def mixed(model, params, x, y):
        def loss_fn(params):
            logits = model(weights(params), rows(x))
            return reduce(entropy(logits.astype(up) if up else logits, y)).astype(jnp.float32)

        return result(jax.value_and_grad(loss_fn)(outside(params)))

    return mixed


def as_is(tree):
    return tree


wrong("mixed_gradients", "cast inside of the loss")(step(weights=as_is, outside=down))
wrong("mixed_gradients", "logits.astype(jnp.float32) first")(step(up=None))
wrong("mixed_gradients", "weights or x alone were cast")(step(rows=as_is))
wrong("mixed_gradients", "weights or x alone were cast")(step(weights=as_is))
wrong("mixed_gradients", "neither weights nor x were cast")(step(weights=as_is, rows=as_is))
wrong("mixed_gradients", "the sum over the rows")(step(reduce=jnp.sum))
wrong("mixed_gradients", "the pair is swapped")(step(result=lambda pair: pair[::-1]))
wrong("mixed_gradients", "jax.grad only one")(step(result=lambda pair: pair[1]))
wrong("mixed_gradients", "model is to be called")(lambda model, params, x, y: (jnp.float32(0), params))


@right("mixed_gradients")
def jitted(model, params, x, y):
    @jax.jit
    def run(params, x, y):
        def loss_fn(params):
            logp = jax.nn.log_softmax(jnp.asarray(model(down(params), down(x)), "float32"))
            return -jnp.take_along_axis(logp, y[:, None], axis=1).mean()

        return jax.value_and_grad(loss_fn)(params)

    return run(params, x, y)


@right("mixed_gradients")
def cast_by_hand(model, params, x, y):
    def loss_fn(narrow):
        return entropy(model(narrow, down(x)).astype(jnp.float32), y).mean()

    loss, grads = jax.value_and_grad(loss_fn)(down(params))
    return loss, jax.tree.map(lambda g: g.astype(jnp.float32), grads)


def cut(noise, mend=lambda bits: bits):
    def stochastic_round(x, key):
        bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
        kept = (mend(bits) + noise(x, key)) & jnp.uint32(0xFFFF0000)
        return jax.lax.bitcast_convert_type(kept, jnp.float32).astype(jnp.bfloat16)

    return stochastic_round


def bits(x, key, shape=None, shift=16):
    return jax.random.bits(key, x.shape if shape is None else shape, jnp.uint32) >> shift


wrong("random_rounding", "rounded to the nearest")(lambda x, key: x.astype(jnp.bfloat16))
wrong("random_rounding", "cut off")(cut(lambda x, key: jnp.uint32(0)))
wrong("random_rounding", "one random number for all elements")(cut(lambda x, key: bits(x, key, ())))
wrong("random_rounding", "every element needs its own: shape x.shape")(cut(lambda x, key: bits(x, key, x.shape[-1:])))
wrong("random_rounding", "the elements of a row go up together")(
    cut(lambda x, key: bits(x, key, (*x.shape[:-1], 1)) if x.ndim > 1 else bits(x, key))
)
wrong("random_rounding", "draw from the one that is handed in")(cut(lambda x, key: bits(x, jax.random.key(0))))
wrong("random_rounding", "the share of the way to it")(cut(lambda x, key: bits(x, key, shift=17)))
wrong("random_rounding", "noise of another size")(cut(lambda x, key: bits(x, key, shift=12)))
wrong("random_rounding", "expected an array of bfloat16")(lambda x, key: cut(bits)(x, key).astype(jnp.float32))


@wrong("random_rounding", "noise of another size")
def noise_of_one_size(x, key):
    return (x + 0.05 * jax.random.uniform(key, x.shape)).astype(jnp.bfloat16)


@wrong("random_rounding", "a fair coin")
def fair_coin(x, key):
    up = cut(lambda x, key: jnp.uint32(0xFFFF))(x, key)
    return jnp.where(jax.random.bernoulli(key, 0.5, x.shape), up, cut(lambda x, key: jnp.uint32(0))(x, key))


def by_share(turned):
    def stochastic_round(x, key):
        low, high = cut(lambda x, key: jnp.uint32(0))(x, key), cut(lambda x, key: jnp.uint32(0xFFFF))(x, key)
        wide = [part.astype(jnp.float32) for part in (low, high)]
        share = (x - wide[0]) / jnp.where(wide[1] == wide[0], 1, wide[1] - wide[0])
        up = jax.random.uniform(key, x.shape, jnp.float32) < (1 - share if turned else share)
        return jnp.where(up, high, low)

    return stochastic_round


wrong("random_rounding", "turned round")(by_share(True))
right("random_rounding")(by_share(False))
right("random_rounding")(jax.jit(cut(lambda x, key: jax.random.randint(key, x.shape, 0, 2**16).astype(jnp.uint32))))
