"""Answers to the exercises of 06_porting_layers."""

import jax.numpy as jnp
import numpy as np
from flax import nnx

from course import porting
from tests.answers import right, wrong

FIRST = {"same 8": "conv", "same 7": "none", "momentum": "none", "gelu": "out", "order": "norm", "flatten": "out"}
wrong("first_differing", "one more than there are")(FIRST | {"same 8": "none"})
wrong("first_differing", "two more than there are")(FIRST | {"same 7": "conv"})
wrong("first_differing", "in eval mode")(FIRST | {"momentum": "norm"})
wrong("first_differing", "the norm stands before gelu")(FIRST | {"gelu": "norm"})
wrong("first_differing", "the tanh approximation")(FIRST | {"gelu": "none"})
wrong("first_differing", "the norm is a layer")(FIRST | {"order": "out"})
wrong("first_differing", "alternate")(FIRST | {"flatten": "none"})
wrong("first_differing", "expected str")(FIRST | {"flatten": 3})
right("first_differing")(dict(reversed(FIRST.items())))
right("first_differing")({name: layer.upper() for name, layer in FIRST.items()})


def decoder(kernel="right", bias="right", up=lambda w: w.transpose(2, 3, 0, 1)[::-1, ::-1]):
    def weights(arrays, shape):
        c, h, w = shape
        k, b = arrays["fc.weight"].T, arrays["fc.bias"]
        if kernel == "right":
            k = k.reshape(-1, c, h, w).transpose(0, 2, 3, 1).reshape(len(k), -1)
        elif kernel == "inverse":
            k = k.reshape(-1, h, w, c).transpose(0, 3, 1, 2).reshape(len(k), -1)
        if bias == "right":
            b = b.reshape(shape).transpose(1, 2, 0).ravel()
        elif bias == "inverse":
            b = b.reshape(h, w, c).transpose(2, 0, 1).ravel()
        return {"fc": {"kernel": k, "bias": b}, "up": {"kernel": up(arrays["up.weight"]), "bias": arrays["up.bias"]}}

    return weights


wrong("decoder_weights", "fc's outputs stand in torch's order")(decoder(kernel="torch", bias="torch"))
wrong("decoder_weights", "fc's bias stands in torch's order")(decoder(bias="torch"))
wrong("decoder_weights", "the kernel's columns were not")(decoder(kernel="torch"))
wrong("decoder_weights", "the inverse one")(decoder(kernel="inverse", bias="inverse"))
wrong("decoder_weights", "up's kernel is not mirrored")(decoder(up=lambda w: w.transpose(2, 3, 0, 1)))
wrong("decoder_weights", "one axis only")(decoder(up=lambda w: w.transpose(2, 3, 0, 1)[::-1]))
wrong("decoder_weights", "height and width swapped")(decoder(up=lambda w: w.transpose(3, 2, 0, 1)[::-1, ::-1]))
wrong("decoder_weights", "in and out swapped")(decoder(up=lambda w: w.transpose(2, 3, 1, 0)[::-1, ::-1]))
wrong("decoder_weights", "as it is, (in, out, H, W)")(decoder(up=lambda w: w))
wrong("decoder_weights", "another structure")(lambda arrays, shape: decoder()(arrays, shape)["fc"])


@right("decoder_weights")
def by_porting(arrays, shape):
    class Decoder(nnx.Module):
        def __init__(self, rngs):
            self.fc = nnx.Linear(*arrays["fc.weight"].shape[::-1], rngs=rngs)
            self.up = nnx.ConvTranspose(*arrays["up.weight"].shape[:2], (3, 3), rngs=rngs)

    made = porting.arrays_to_nnx(arrays, Decoder(nnx.Rngs(0)))
    order = np.arange(np.prod(shape)).reshape(shape).transpose(1, 2, 0).ravel()
    fc = {"kernel": made.fc.kernel[...][:, order], "bias": made.fc.bias[...][order]}
    return {"fc": fc, "up": {"kernel": made.up.kernel[...], "bias": made.up.bias[...]}}


@right("decoder_weights")
def with_jnp(arrays, shape):
    kernel, bias, up, last = (jnp.asarray(arrays[name]) for name in ("fc.weight", "fc.bias", "up.weight", "up.bias"))
    rows = jnp.moveaxis(kernel.reshape(*shape, -1), 0, 2)  # (H, W, C, latent)
    fc = {"kernel": rows.reshape(kernel.shape).T, "bias": jnp.moveaxis(bias.reshape(shape), 0, -1).reshape(-1)}
    return {"up": {"bias": last, "kernel": jnp.flip(jnp.einsum("iohw->hwio", up), (0, 1))}, "fc": fc}


def encoder(padding=((2, 2), (2, 2)), groups=3, epsilon=1e-5, approximate=False, strides=(2, 2), order=(0, 3, 1, 2),
            activation=None, base=nnx.Module, pool=nnx.max_pool, first="conv"):  # fmt: skip
    class Encoder(base):
        def __init__(self, channels, classes, *, rngs):
            setattr(self, first, nnx.Conv(channels, 6, (4, 4), strides=2, padding=padding, rngs=rngs))
            self.norm = nnx.GroupNorm(6, num_groups=groups, epsilon=epsilon, rngs=rngs)
            self.out = nnx.Linear(36, classes, rngs=rngs)

        def __call__(self, x):
            x = self.norm(getattr(self, first)(x))
            x = activation(x) if activation else nnx.gelu(x, approximate=approximate)
            x = pool(x, (2, 2), strides=strides)
            return self.out(x.transpose(order).reshape(len(x), -1))

    return Encoder


wrong("encoder_port", "the flatten order")(encoder(order=(0, 1, 2, 3)))
wrong("encoder_port", "GroupNorm's epsilon")(encoder(epsilon=1e-6))
wrong("encoder_port", "approximates by tanh")(encoder(approximate=True))
wrong("encoder_port", "relu where torch has gelu")(encoder(activation=nnx.relu))
wrong("encoder_port", "GroupNorm's groups")(encoder(groups=6))
wrong("encoder_port", "an average pool")(encoder(pool=nnx.avg_pool))
wrong("encoder_port", "conv (Conv2d) is the first")(encoder(padding="SAME"))
wrong("encoder_port", "strides, which are 1 unless told")(encoder(strides=None))
wrong("encoder_port", "conv.weight")(encoder(first="conv1"))
wrong("encoder_port", "conv (Conv2d) is the first")(encoder(padding=((1, 3), (1, 3))))
right("encoder_port")(encoder())


@right("encoder_port")
class WithPaddedInput(nnx.Module):
    def __init__(self, channels, classes, *, rngs):
        self.conv = nnx.Conv(channels, 6, (4, 4), strides=(2, 2), padding=2, rngs=rngs)
        self.norm = nnx.GroupNorm(6, group_size=2, num_groups=None, epsilon=1e-5, use_fast_variance=False, rngs=rngs)
        self.out = nnx.Linear(36, classes, rngs=rngs)

    def __call__(self, x):
        x = nnx.max_pool(nnx.gelu(self.norm(self.conv(x)), approximate=False), (2, 2), (2, 2))
        return self.out(jnp.einsum("bhwc->bchw", x).reshape(-1, 36))
