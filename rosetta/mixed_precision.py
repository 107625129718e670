"""Mixed precision

A layer of flax has two types: `param_dtype` of its weights, float32 unless told otherwise, and `dtype` of what it
calculates and returns. Autocast, which chooses for each operation, is not there: what is to be float32, a softmax or a
loss, is cast. float16 needs its loss scaled, on both sides; bfloat16 does not.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
import torch.nn.functional as F
from flax import linen as nn
from flax import nnx
from flax.training.dynamic_scale import DynamicScale

from rosetta.kinds import Pair, normal, positive
from rosetta.optimizers import layer, model, params

ROUNDED = "gradients in bfloat16 are rounded elsewhere"


class Autocast(Pair):
    """Calculate in bfloat16 (autocast)"""

    inputs = {"model": model, "layer": layer, "params": params, "x": normal(8, 3)}
    tolerance = 2e-2  # bfloat16 has 8 bits
    no_gradient = ROUNDED
    also = ("torch.autocast", "amp.autocast", "cuda.amp.autocast", "torch.is_autocast_enabled")
    note = (
        "Weights stay float32 on both sides, the result is bfloat16. Give `dtype` to every layer when you build the "
        "model."
    )

    def torch(model, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return model(x)

    def nnx(layer, x):
        half = nnx.Linear(3, 1, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
        nnx.update(half, nnx.state(layer))
        return half(x)

    def linen(params, x):
        return nn.Dense(1, dtype=jnp.bfloat16).apply({"params": params}, x)


class LossInFloat32(Pair):
    """Softmax and loss in float32"""

    inputs = {"logits": normal(6, 4), "labels": lambda rng: rng.integers(0, 4, 6)}
    no_gradient = ROUNDED
    trap = (
        "Autocast calculates losses in float32 whatever their inputs are. JAX calculates in the type that it is given: "
        "bfloat16 logits make a bfloat16 loss, with two or three digits."
    )
    lesson = ("05_precision", "trap:loss-dtype")

    def torch(logits, labels):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return F.cross_entropy(logits.bfloat16(), labels)

    def jax(logits, labels):
        logits = logits.astype(jnp.bfloat16)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def fix(logits, labels):
        logits = logits.astype(jnp.bfloat16)
        return optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), labels).mean()

    def differ(theirs, ours):
        return theirs.dtype == torch.float32 and ours.dtype == jnp.bfloat16


class DtypeOfALayer(Pair):
    """The dtype of a layer"""

    inputs = {"x": normal(2, 3)}
    trap = (
        "PyTorch's `dtype=` is that of the weights. In flax it is that of the calculation; the weights are float32 "
        "unless `param_dtype` says otherwise."
    )
    lesson = ("05_precision", "trap:layer-dtype")

    def torch(x):
        layer = torch.nn.Linear(3, 1, dtype=torch.bfloat16)
        return str(layer.weight.dtype).removeprefix("torch.")

    def nnx(x):
        layer = nnx.Linear(3, 1, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
        return str(layer.kernel.dtype)

    def linen(x):
        params = nn.Dense(1, dtype=jnp.bfloat16).init(jax.random.key(0), x)["params"]
        return str(params["kernel"].dtype)

    def fix(x):
        layer = nnx.Linear(3, 1, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
        return str(layer.kernel.dtype)

    def differ(theirs, ours):
        return (theirs, ours) == ("bfloat16", "float32")


class HalfModel(Pair):
    """A whole model in bfloat16 or float16"""

    inputs = {"model": model, "layer": layer, "params": params}
    no_gradient = "a cast"
    also = (
        "nn.Module.half", "nn.Module.bfloat16", "nn.Module.float", "nn.Module.double", "nn.Module.type", "nn.Module.to",
    )  # fmt: skip
    note = "Only floating-point leaves are to be cast: counters and keys are in a state too."

    def torch(model):
        model.bfloat16()
        return model.bias, model.weight.T

    def nnx(layer):
        half = jax.tree.map(lambda p: p.astype(jnp.bfloat16), nnx.state(layer, nnx.Param))
        nnx.update(layer, half)
        return layer.bias[...], layer.kernel[...]

    def linen(params):
        return jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)


class ScaleTheLoss(Pair):
    """Scale the loss (float16)"""

    inputs = {"w": lambda rng: rng.normal(size=3).astype(np.float32), "x": lambda rng: np.full(3, 1e-5, np.float32)}
    no_gradient = "its result is a gradient"
    also = ("amp.GradScaler", "cuda.amp.GradScaler")
    note = (
        "float16 has nothing between 6e-8 and 0: unscaled, both gradients are zero. bfloat16 reaches to 1e-38 and "
        "needs none."
    )

    def torch(w, x):
        half = w.half().requires_grad_()
        (1024 * (1e-3 * half * x.half()).sum()).backward()
        return half.grad.float() / 1024

    def jax(w, x):
        loss = lambda w: 1024 * (1e-3 * w * x.astype(jnp.float16)).sum()  # noqa: E731
        return jax.grad(loss)(w.astype(jnp.float16)).astype(jnp.float32) / 1024

    def claims():
        x = jnp.full(3, 1e-5, jnp.float16)
        assert (jax.grad(lambda w: (1e-3 * w * x).sum())(jnp.ones(3, jnp.float16)) == 0).all()
        w = torch.ones(3, dtype=torch.float16, requires_grad=True)
        (1e-3 * w * torch.full((3,), 1e-5, dtype=torch.float16)).sum().backward()
        assert (w.grad == 0).all()
        assert jnp.finfo(jnp.bfloat16).smallest_normal < 2e-38


class AdaptiveScale(Pair):
    """A loss scale that adapts itself"""

    inputs = {"w": normal(1), "g": np.array([[1], [1], [np.inf]], np.float32)}
    no_gradient = "scales"
    also = ("amp.GradScaler", "amp.GradScaler.update", "amp.GradScaler.scale")
    trap = (
        "Both halve the scale at a gradient that is not finite and double it after good ones: PyTorch after "
        "`growth_interval` of them, flax's `DynamicScale` after one more."
    )
    lesson = ("05_precision", "trap:loss-scale")
    note = (
        "`scaler.value_and_grad` is that of JAX with the loss scaled and the gradients divided again. Whether they are "
        "finite comes out, and what to do then is yours: `jnp.where(finite, new, old)`, or `optax.apply_if_finite`."
    )

    def torch(w, g):
        scaler, sgd = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2), torch.optim.SGD([w], lr=0.1)
        scales = []
        for w.grad in scaler.scale(g):
            scales.append(scaler.step(sgd) or scaler.update() or scaler.get_scale())
        return torch.tensor(scales)

    def jax(w, g):
        scaler, scales = DynamicScale(scale=8.0, growth_interval=2), []
        for row in g:
            scaler, finite, loss, grads = scaler.value_and_grad(lambda w, row: (w * row).sum())(w, row)
            scales.append(scaler.scale)
        return jnp.stack(scales)

    def fix(w, g):
        scaler, scales = DynamicScale(scale=8.0, growth_interval=2 - 1), []
        for row in g:
            scaler, finite, loss, grads = scaler.value_and_grad(lambda w, row: (w * row).sum())(w, row)
            scales.append(scaler.scale)
        return jnp.stack(scales)

    def differ(theirs, ours):
        return theirs.tolist() == [8, 16, 8] and ours.tolist() == [8, 8, 4]

    def claims():
        grad = DynamicScale().value_and_grad(lambda w: (w**2).sum())
        scale, finite, loss, grads = grad(jnp.ones(3))
        assert finite and loss == 3 and (grads == 2).all() and scale.scale == 65536.0
        assert not DynamicScale().value_and_grad(lambda w: w * jnp.inf)(1.0)[1]


class SkipInfinite(Pair):
    """Leave out a step whose gradient is not finite"""

    inputs = {"w": normal(3), "g": lambda rng: np.array([[1, np.inf, 2], [1, 2, 3]], np.float32)}
    no_gradient = "the step of an optimizer is not differentiated"
    also = ("amp.GradScaler.step",)
    note = (
        "After `max_consecutive_errors` of them in a row it lets one through, so that the run fails where it is seen."
    )

    def torch(w, g):
        scaler, sgd = torch.amp.GradScaler("cpu"), torch.optim.SGD([w], lr=0.1)
        for grads in g:
            w.grad = scaler.scale(grads)
            scaler.step(sgd), scaler.update()
        return w

    def jax(w, g):
        rule = optax.apply_if_finite(optax.sgd(0.1), max_consecutive_errors=5)
        first, state = rule.update(g[0], rule.init(w), w)
        second, state = rule.update(g[1], state, w)
        return w + first + second

    def claims():
        rule = optax.apply_if_finite(optax.sgd(0.1), max_consecutive_errors=1)
        state, bad = rule.init(jnp.ones(1)), jnp.array([jnp.inf])
        first, state = rule.update(bad, state)
        second, state = rule.update(bad, state)
        assert first[0] == 0 and jnp.isinf(second[0])


class Accumulate(Pair):
    """Matrix product of bfloat16, summed in float32"""

    inputs = {"a": normal(3, 64), "b": normal(64, 2)}
    tolerance = 1e-5
    no_gradient = ROUNDED
    note = "A plain `a @ b` of bfloat16 gives bfloat16 on both sides, whatever the sum is kept in."

    def torch(a, b):
        return a.bfloat16().float() @ b.bfloat16().float()

    def jax(a, b):
        a, b = a.astype(jnp.bfloat16), b.astype(jnp.bfloat16)
        return jnp.matmul(a, b, preferred_element_type=jnp.float32)

    def claims():
        a = jnp.ones((2, 2), jnp.bfloat16)
        assert (a @ a).dtype == jnp.bfloat16


class MatmulPrecision(Pair):
    """Precision of float32 matrix products"""

    inputs = {"a": normal(3, 4), "b": normal(4, 2)}
    also = ("torch.set_float32_matmul_precision", "torch.get_float32_matmul_precision")
    note = (
        "For a block of code; for good: `jax.config.update('jax_default_matmul_precision', 'highest')`. On a CPU "
        "'default', 'high' and 'highest' give the same."
    )

    def torch(a, b):
        torch.set_float32_matmul_precision("highest")
        return a @ b

    def jax(a, b):
        with jax.default_matmul_precision("highest"):
            return a @ b

    def claims():
        a, found = jnp.linspace(0.1, 1.0, 64).reshape(8, 8), []
        for precision in ("default", "high", "highest"):
            with jax.default_matmul_precision(precision):
                found.append(np.asarray(jax.jit(jnp.matmul)(a, a)))
        assert jax.default_backend() != "cpu" or all(np.array_equal(other, found[0]) for other in found)
        before = jax.config.jax_default_matmul_precision
        jax.config.update("jax_default_matmul_precision", "highest")
        jax.config.update("jax_default_matmul_precision", before)


class SmallEpsilon(Pair):
    """Epsilon in float16"""

    inputs = {"w": positive(3)}
    no_gradient = "updates"
    note = (
        "1e-8 is 0 in float16. With Adam's default, float16 weights whose gradient is 0 become NaN, 0 / 0, on both "
        "sides."
    )

    def torch(w):
        w = torch.nn.Parameter(w.half())
        w.grad = torch.zeros(3, dtype=torch.float16)
        torch.optim.Adam([w], lr=0.1, eps=1e-4).step()
        return w.float()

    def jax(w):
        w, adam = w.astype(jnp.float16), optax.adam(0.1, eps=1e-4)
        updates, _ = adam.update(jnp.zeros_like(w), adam.init(w), w)
        return optax.apply_updates(w, updates).astype(jnp.float32)

    def claims():
        w = torch.nn.Parameter(torch.ones(3, dtype=torch.float16))
        w.grad = torch.zeros(3, dtype=torch.float16)
        torch.optim.Adam([w], lr=0.1).step()
        zeros, adam = jnp.zeros(3, jnp.float16), optax.adam(0.1)
        assert w.isnan().all() and jnp.isnan(adam.update(zeros, adam.init(zeros), zeros)[0]).all()


class MasterWeights(Pair):
    """Weights in float32, calculation in bfloat16 (master weights)"""

    inputs = {"w": normal(3), "x": normal(8, 3)}
    tolerance = 2e-2
    no_gradient = "its result is a gradient"
    note = (
        "Cast inside the function that is differentiated: the gradient comes back in the weights' own type, float32. "
        "Added to bfloat16 weights an update below 0.2 % of them is lost, on both sides."
    )

    def torch(w, x):
        w.requires_grad_()
        (x.bfloat16() @ w.bfloat16()).float().square().mean().backward()
        return w.grad

    def jax(w, x):
        def loss_fn(w):
            half = (x.astype(jnp.bfloat16) @ w.astype(jnp.bfloat16)).astype(jnp.float32)
            return (half**2).mean()

        return jax.grad(loss_fn)(w)

    def claims():
        assert jnp.ones((), jnp.bfloat16) + jnp.bfloat16(1.9e-3) == 1
        assert torch.ones((), dtype=torch.bfloat16) + 1.9e-3 == 1
