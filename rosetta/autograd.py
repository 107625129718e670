"""Autograd

`jax.grad` turns a function into the function of its gradient. Nothing is recorded on arrays, so there is no
`requires_grad`, no graph to free, and nothing to zero. Slopes at a kink are a matter of choice, and the two libraries
have not always chosen alike.
"""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from rosetta.kinds import Pair, normal, positive, raises
from tools.environment import double_precision

A_GRADIENT = "its result is a gradient"


class LossAndGradient(Pair):
    """Loss and its gradient"""

    inputs = {"w": normal(3), "x": normal(8, 3)}
    no_gradient = A_GRADIENT
    also = (
        "Tensor.backward", "Tensor.requires_grad_", "Tensor.requires_grad", "Tensor.grad", "Tensor.is_leaf",
        "Tensor.grad_fn", "autograd.backward",
    )  # fmt: skip
    note = "An array has no `requires_grad`, `grad`, `grad_fn` or `is_leaf`: what counts is which argument it is."

    def torch(w, x):
        w.requires_grad_()
        loss = (x @ w).square().mean()
        loss.backward()
        return loss, w.grad

    def jax(w, x):
        def loss_fn(w):
            return ((x @ w) ** 2).mean()

        return jax.value_and_grad(loss_fn)(w)

    def claims():
        assert not any(hasattr(jnp.ones(1), name) for name in ("requires_grad", "grad", "grad_fn", "is_leaf"))


class SeveralInputs(Pair):
    """Gradients of several inputs"""

    inputs = {"w": normal(3), "b": normal(), "x": normal(8, 3)}
    no_gradient = A_GRADIENT
    also = ("autograd.grad", "func.grad")

    def torch(w, b, x):
        w.requires_grad_(), b.requires_grad_()
        loss = (x @ w + b).square().mean()
        return torch.autograd.grad(loss, [w, b])

    def jax(w, b, x):
        def loss_fn(w, b):
            return ((x @ w + b) ** 2).mean()

        return jax.grad(loss_fn, argnums=(0, 1))(w, b)


class DictOfWeights(Pair):
    """Gradients of a dict of weights"""

    inputs = {"w": normal(3), "b": normal(), "x": normal(8, 3)}
    no_gradient = A_GRADIENT

    def torch(w, b, x):
        params = {"w": w.requires_grad_(), "b": b.requires_grad_()}
        (x @ params["w"] + params["b"]).square().mean().backward()
        return {name: param.grad for name, param in params.items()}

    def jax(w, b, x):
        params = {"w": w, "b": b}
        return jax.grad(lambda p: ((x @ p["w"] + p["b"]) ** 2).mean())(params)


class Auxiliary(Pair):
    """Return more than the loss"""

    inputs = {"w": normal(3), "x": normal(8, 3)}
    no_gradient = A_GRADIENT

    def torch(w, x):
        w.requires_grad_()
        logits = x @ w
        logits.square().mean().backward()
        return w.grad, logits.detach()

    def jax(w, x):
        def loss_fn(w):
            logits = x @ w
            return (logits**2).mean(), logits

        return jax.grad(loss_fn, has_aux=True)(w)


class Detach(Pair):
    """Stop the gradient"""

    inputs = {"x": normal(3)}
    note = "What is not differentiated with `jax.grad` records nothing; see the entry on `no_grad`."
    also = (
        "Tensor.detach_",
        "Tensor.data",
        "Tensor.detach",
    )

    def torch(x):
        return x * x.detach()

    def jax(x):
        return x * jax.lax.stop_gradient(x)


class NoGrad(Pair):
    """Calculate without gradients: `no_grad`"""

    inputs = {"w": normal(3), "x": normal(8, 3)}
    no_gradient = "none is wanted"
    note = "There is no such block, and none is needed: nothing is recorded outside `jax.grad`."
    also = ("torch.inference_mode", "autograd.no_grad", "autograd.inference_mode")

    def torch(w, x):
        w.requires_grad_()
        with torch.no_grad():
            predicted = x @ w
        return predicted

    def jax(w, x):
        predicted = x @ w
        return predicted


class NoGradInside(Pair):
    """`no_grad` inside of a loss"""

    inputs = {"w": normal(3), "x": normal(8, 3)}
    note = "As for the target of a Q network or of self-distillation: under `jax.grad` all is recorded, so cut it off."

    def torch(w, x):
        with torch.no_grad():
            target = torch.tanh(x @ w)
        return (x @ w - target).square().mean()

    def jax(w, x):
        target = jax.lax.stop_gradient(jnp.tanh(x @ w))
        return ((x @ w - target) ** 2).mean()


class EnableGrad(Pair):
    """Gradients in evaluation: `enable_grad`"""

    inputs = {"x": normal(3)}
    no_gradient = A_GRADIENT
    note = "As for a force from an energy, or an attack on an input."
    also = ("torch.set_grad_enabled", "autograd.enable_grad", "autograd.set_grad_enabled")

    def torch(x):
        with torch.no_grad(), torch.enable_grad():
            x.requires_grad_()
            energy = x.pow(4).sum()
        return torch.autograd.grad(energy, x)[0]

    def jax(x):
        return jax.grad(lambda x: (x**4).sum())(x)


class ValueAndGrad(Pair):
    """Value and gradient by `torch.func`"""

    inputs = {"w": normal(3), "x": normal(8, 3)}
    no_gradient = A_GRADIENT
    trap = "The order is turned round: `grad_and_value` in PyTorch, `value_and_grad` in JAX."

    def torch(w, x):
        return torch.func.grad_and_value(lambda w: (x @ w).square().mean())(w)

    def jax(w, x):
        return jax.value_and_grad(lambda w: ((x @ w) ** 2).mean())(w)

    def fix(w, x):
        value, gradient = jax.value_and_grad(lambda w: ((x @ w) ** 2).mean())(w)
        return gradient, value

    def differ(theirs, ours):
        return theirs[0].shape == ours[1].shape == (3,) and theirs[1].shape == ours[0].shape == ()


class IntermediateGradient(Pair):
    """Gradient of an intermediate: `retain_grad`, `register_hook`"""

    inputs = {"w": normal(3), "x": normal(8, 3)}
    no_gradient = A_GRADIENT
    note = "Add zeros where the gradient is wanted, and differentiate by them; with `argnums=(0, 1)` by both at once."
    also = ("Tensor.register_hook",)

    def torch(w, x):
        hidden = torch.tanh(x @ w.requires_grad_())
        hidden.retain_grad()
        hidden.square().sum().backward()
        return hidden.grad

    def jax(w, x):
        def loss_fn(w, probe):
            hidden = jnp.tanh(x @ w) + probe
            return (hidden**2).sum()

        return jax.grad(loss_fn, argnums=1)(w, jnp.zeros(8))

    def claims():
        both = jax.grad(lambda w, probe: ((jnp.tanh(w) + probe) ** 2).sum(), argnums=(0, 1))(jnp.ones(2), jnp.zeros(2))
        hidden = np.tanh(1)
        np.testing.assert_allclose(both, [[2 * hidden * (1 - hidden**2)] * 2, [2 * hidden] * 2], rtol=1e-5)


class GradientHook(Pair):
    """Change the gradient on its way back"""

    inputs = {"x": normal(4)}

    def torch(x):
        y = 3 * x.requires_grad_()
        y.register_hook(lambda gradient: gradient.clamp(-0.1, 0.1))
        return y.square()

    def jax(x):
        clipped = jax.custom_vjp(lambda y: y)
        clipped.defvjp(lambda y: (y, None), lambda _, gradient: (gradient.clip(-0.1, 0.1),))
        return clipped(3 * x) ** 2


class StraightThrough(Pair):
    """Straight-through gradient of a rounding"""

    inputs = {"x": normal(6)}

    def torch(x):
        return x + (x.round() - x).detach()

    def jax(x):
        return x + jax.lax.stop_gradient(jnp.round(x) - x)


class SecondDerivative(Pair):
    """Second derivative: `create_graph`"""

    inputs = {"x": normal()}
    no_gradient = "its result is a derivative"

    def torch(x):
        y = torch.sin(x.requires_grad_()) * x
        (slope,) = torch.autograd.grad(y, x, create_graph=True)
        (bend,) = torch.autograd.grad(slope, x)
        return slope, bend

    def jax(x):
        slope = jax.grad(lambda x: jnp.sin(x) * x)
        bend = jax.grad(slope)
        return slope(x), bend(x)


class BatchOfDerivatives(Pair):
    """Derivative by the input, for a batch: `create_graph`"""

    inputs = {"w": normal(3), "x": normal(8)}
    note = (
        "As the residual of a physics-informed network. PyTorch's sum works since each row depends on its own input "
        "alone; `vmap` needs no such trick (and `jax.grad` of a batch is a TypeError). The residual can be "
        "differentiated by the weights on both sides."
    )

    def torch(w, x):
        u = torch.sin(torch.outer(x.requires_grad_(), w)).sum(dim=1)
        return torch.autograd.grad(u.sum(), x, create_graph=True)[0] - u

    def jax(w, x):
        def u(x):
            return jnp.sin(x * w).sum()

        return jax.vmap(jax.grad(u))(x) - jax.vmap(u)(x)

    def claims():
        assert raises(TypeError, jax.grad(jnp.sin), jnp.ones(8))


class GradientPenalty(Pair):
    """Gradient penalty"""

    inputs = {"w": normal(3), "x": normal(8, 3)}
    no_gradient = A_GRADIENT

    def torch(w, x):
        w.requires_grad_(), x.requires_grad_()
        (slopes,) = torch.autograd.grad(torch.tanh(x @ w).sum(), x, create_graph=True)
        (slopes.norm(dim=1) - 1).square().mean().backward()
        return w.grad

    def jax(w, x):
        def penalty(w):
            slopes = jax.vmap(jax.grad(lambda x: jnp.tanh(x @ w)))(x)
            return ((jnp.linalg.norm(slopes, axis=1) - 1) ** 2).mean()

        return jax.grad(penalty)(w)


class BackwardAgain(Pair):
    """Backward twice through one graph: `retain_graph`"""

    inputs = {"x": normal(3), "u": normal(3), "v": normal(3)}
    no_gradient = A_GRADIENT
    note = "Nothing is freed: `pull` may be called as often as you like."

    def torch(x, u, v):
        y = torch.sin(x.requires_grad_())
        first = torch.autograd.grad(y, x, u, retain_graph=True)
        return first, torch.autograd.grad(y, x, v)

    def jax(x, u, v):
        _, pull = jax.vjp(jnp.sin, x)
        return pull(u), pull(v)


class HessianVector(Pair):
    """Hessian times vector"""

    inputs = {"x": normal(4), "v": normal(4)}
    no_gradient = A_GRADIENT
    also = ("autograd.functional.vhp",)

    def torch(x, v):
        return torch.autograd.functional.hvp(lambda x: x.sin().prod(), x, v)[1]

    def jax(x, v):
        return jax.jvp(jax.grad(lambda x: jnp.sin(x).prod()), (x,), (v,))[1]


class Linearize(Pair):
    """Linearise once, apply to many vectors"""

    inputs = {"x": normal(4), "u": normal(4), "v": normal(4)}
    no_gradient = "its result is a derivative"
    note = "`torch.func.linearize` returns the same two."
    also = ("func.linearize",)

    def torch(x, u, v):
        value, first = torch.autograd.functional.jvp(torch.sin, x, u)
        return value, first, torch.autograd.functional.jvp(torch.sin, x, v)[1]

    def jax(x, u, v):
        value, push = jax.linearize(jnp.sin, x)
        return value, push(u), push(v)

    def claims():
        with warnings.catch_warnings(action="ignore"):  # torch compiles some of its own code by a deprecated function
            value, push = torch.func.linearize(torch.sin, torch.ones(2))
        assert push(torch.ones(2)).tolist() == torch.ones(2).cos().tolist()


class SeveralJacobians(Pair):
    """Jacobians of a batch"""

    inputs = {"a": normal(5, 3), "x": normal(8, 3)}
    no_gradient = "its result is a derivative"

    def torch(a, x):
        return torch.func.vmap(torch.func.jacrev(lambda x: torch.tanh(a @ x)))(x)

    def jax(a, x):
        return jax.vmap(jax.jacrev(lambda x: jnp.tanh(a @ x)))(x)


class VmapDimensions(Pair):
    """vmap over other dimensions"""

    inputs = {"x": normal(3, 8), "scale": normal(8), "w": normal(3)}
    also = ("func.vmap", "torch.vmap")

    def torch(x, scale, w):
        def f(x, scale, w):
            return scale * x * w

        return torch.vmap(f, in_dims=(1, 0, None), out_dims=1)(x, scale, w)

    def jax(x, scale, w):
        def f(x, scale, w):
            return scale * x * w

        return jax.vmap(f, in_axes=(1, 0, None), out_axes=1)(x, scale, w)


class NumericalCheck(Pair):
    """Check gradients numerically"""

    inputs = {"x": positive(3)}
    no_gradient = "its result is a verdict"
    note = "It raises where they differ. In float32 its tolerance is wide; with `jax_enable_x64` it is narrow."
    also = ("autograd.gradgradcheck",)

    def torch(x):
        return torch.autograd.gradcheck(torch.sin, x.double().requires_grad_())

    def jax(x):
        from jax.test_util import check_grads

        check_grads(jnp.sin, (x,), order=2)
        return True

    def claims():
        from jax.test_util import check_grads

        wrong = jax.custom_jvp(jnp.sin)
        wrong.defjvp(lambda primals, tangents: (jnp.sin(primals[0]), tangents[0]))
        assert raises(AssertionError, check_grads, wrong, (jnp.float32(1.0),), 1)
        near = jax.custom_jvp(jnp.sin)
        near.defjvp(lambda primals, tangents: (jnp.sin(primals[0]), 1.001 * jnp.cos(primals[0]) * tangents[0]))
        check_grads(near, (jnp.float32(1.0),), 1)
        with double_precision():
            assert raises(AssertionError, check_grads, near, (jnp.float64(1.0),), 1)


class AngleAtOrigin(Pair):
    """Gradient of an angle at the origin"""

    inputs = {"x": np.array([0.0, 1.0], np.float32), "y": np.array([0.0, 2.0], np.float32)}
    no_gradient = A_GRADIENT
    trap = (
        "The slope of `atan2` at (0, 0) is 0 in PyTorch and NaN in JAX; that of `hypot` NaN in PyTorch and finite in "
        "JAX."
    )

    def torch(x, y):
        return torch.func.grad(lambda y, x: torch.atan2(y, x).sum(), argnums=(0, 1))(y, x)

    def jax(x, y):
        return jax.grad(lambda y, x: jnp.atan2(y, x).sum(), argnums=(0, 1))(y, x)

    def fix(x, y):
        def angle(y, x):
            origin = (x == 0) & (y == 0)
            return jnp.where(origin, 0, jnp.atan2(y, jnp.where(origin, 1, x))).sum()

        return jax.grad(angle, argnums=(0, 1))(y, x)

    def differ(theirs, ours):
        theirs_of_hypot = torch.func.grad(lambda x: torch.hypot(x, torch.zeros(())))(torch.zeros(()))
        ours_of_hypot = jax.grad(lambda x: jnp.hypot(x, 0.0))(0.0)
        hypot = np.isnan(theirs_of_hypot.item()) and np.isfinite(ours_of_hypot)
        zero = all(slopes[0] == 0 for slopes in theirs)
        return hypot and zero and all(np.isnan(slopes).tolist() == [True, False] for slopes in ours)


class Freeze(Pair):
    """Freeze some of the weights"""

    inputs = {"frozen": normal(3, 3), "head": normal(3), "x": normal(8, 3)}
    no_gradient = A_GRADIENT
    note = "In an optimizer: `optax.partition`, or `nnx.Optimizer(..., wrt=filter)`."

    def torch(frozen, head, x):
        frozen.requires_grad_(False), head.requires_grad_()
        torch.tanh(x @ frozen).matmul(head).square().mean().backward()
        return head.grad

    def jax(frozen, head, x):
        def loss_fn(head, frozen):
            return ((jnp.tanh(x @ frozen) @ head) ** 2).mean()

        return jax.grad(loss_fn)(head, frozen)


class Jvp(Pair):
    """Jacobian times vector"""

    inputs = {"x": normal(3), "v": normal(3)}
    note = "`torch.func.jvp` takes tuples, as JAX's does."
    also = (
        "func.jvp", "autograd.functional.jvp", "autograd.forward_ad.dual_level", "autograd.forward_ad.make_dual",
        "autograd.forward_ad.unpack_dual",
    )  # fmt: skip

    def torch(x, v):
        return torch.autograd.functional.jvp(torch.sin, x, v, create_graph=True)

    def jax(x, v):
        return jax.jvp(jnp.sin, (x,), (v,))

    def claims():
        with warnings.catch_warnings(action="ignore"):  # torch compiles some of its own code by a deprecated function
            pair = torch.func.jvp(torch.sin, (torch.zeros(()),), (torch.ones(()),))
        assert pair == (0, 1)


class Vjp(Pair):
    """Vector times Jacobian"""

    inputs = {"x": normal(3), "v": normal(3)}
    no_gradient = A_GRADIENT
    also = ("func.vjp", "autograd.functional.vjp")

    def torch(x, v):
        x.requires_grad_()
        torch.sin(x).backward(v)
        return x.grad

    def jax(x, v):
        _, pull = jax.vjp(jnp.sin, x)
        return pull(v)[0]


class Jacobian(Pair):
    """Jacobian of a vector function"""

    inputs = {"x": normal(3), "a": normal(5, 3)}
    no_gradient = "its result is a derivative"
    note = "`jacfwd` costs a pass per input, `jacrev` one per output; `torch.func` has both as well."
    also = ("func.jacrev", "func.jacfwd", "autograd.functional.jacobian")

    def torch(x, a):
        return torch.autograd.functional.jacobian(lambda x: torch.tanh(a @ x), x)

    def jax(x, a):
        return jax.jacfwd(lambda x: jnp.tanh(a @ x))(x)

    def claims():
        x = jnp.array([0.3, 0.5])
        assert np.allclose(jax.jacrev(jnp.sin)(x), jax.jacfwd(jnp.sin)(x)) and torch.func.jacfwd and torch.func.jacrev


class Hessian(Pair):
    """Hessian matrix"""

    inputs = {"x": normal(3)}
    no_gradient = "its result is a derivative"
    also = ("func.hessian", "autograd.functional.hessian")

    def torch(x):
        return torch.autograd.functional.hessian(lambda x: (x @ x) ** 2, x)

    def jax(x):
        return jax.hessian(lambda x: (x @ x) ** 2)(x)


class PerExample(Pair):
    """Gradient of each example"""

    inputs = {"w": normal(3), "x": normal(8, 3)}
    also = ("torch.vmap",)

    def torch(w, x):
        slope = torch.func.grad(lambda w, x: (x @ w).square())
        return torch.func.vmap(slope, in_dims=(None, 0))(w, x)

    def jax(w, x):
        slope = jax.grad(lambda w, x: (x @ w) ** 2)
        return jax.vmap(slope, in_axes=(None, 0))(w, x)


class CustomBackward(Pair):
    """A backward pass of your own"""

    inputs = {"x": normal(4)}
    note = (
        "A longer `forward` or `backward` is written with `def` under `@staticmethod`. What `ctx` saves in PyTorch is "
        "the second result of JAX's forward function, and comes back as `saved`."
    )
    also = ("autograd.Function",)

    def torch(x):
        class Reverse(torch.autograd.Function):
            forward = staticmethod(lambda ctx, x: x.clone())
            backward = staticmethod(lambda ctx, gradient: -gradient)

        return Reverse.apply(x)

    def jax(x):
        @jax.custom_vjp
        def reverse(x):
            return x

        reverse.defvjp(lambda x: (x, None), lambda saved, gradient: (-gradient,))
        return reverse(x)

    def claims():
        exp = jax.custom_vjp(jnp.exp)
        exp.defvjp(lambda x: (jnp.exp(x), x + 5), lambda saved, gradient: (saved * gradient,))
        assert jax.grad(exp)(0.0) == 5


class Checkpoint(Pair):
    """Recompute activations instead of storing them"""

    inputs = {"x": normal(4), "w": normal(4, 4)}
    also = ("utils.checkpoint.checkpoint",)

    def torch(x, w):
        return torch.utils.checkpoint.checkpoint(lambda x: torch.tanh(x @ w), x, use_reentrant=False)

    def jax(x, w):
        return jax.checkpoint(lambda x: jnp.tanh(x @ w))(x)

    def claims():
        calls = []

        def f(x):
            jax.debug.callback(calls.append, x)
            return jnp.sin(x)

        for times, function in ((1, f), (2, jax.checkpoint(f))):
            calls.clear()
            jax.jit(jax.grad(function))(1.0)
            jax.effects_barrier()
            assert len(calls) == times


class ClipNorm(Pair):
    """Clip gradients by their norm"""

    inputs = {"w": normal(3), "x": normal(8, 3)}
    no_gradient = A_GRADIENT
    note = "In a training loop: `optax.chain(optax.clip_by_global_norm(0.1), optax.adam(1e-3))`."
    also = ("nn.utils.clip_grad_norm_",)

    def torch(w, x):
        w.requires_grad_()
        (x @ w).square().mean().backward()
        torch.nn.utils.clip_grad_norm_([w], 0.1)
        return w.grad

    def jax(w, x):
        grads = jax.grad(lambda w: ((x @ w) ** 2).mean())(w)
        clip = optax.clip_by_global_norm(0.1)
        return clip.update(grads, clip.init(w))[0]


class UntakenBranch(Pair):
    """Gradient of `where` with a bad branch"""

    inputs = {"x": np.array([-1.0, 0.0, 4.0], np.float32)}
    note = (
        "The gradient is NaN at 0 on both sides: infinity times 0, from the branch not taken. "
        "Mend it on both sides with a second `where`, inside the root."
    )

    def torch(x):
        return torch.where(x > 0, x.sqrt(), 0.0)

    def jax(x):
        return jnp.where(x > 0, jnp.sqrt(x), 0.0)

    def claims():
        safe = jax.grad(lambda x: jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 1)), 0.0))
        assert [float(safe(x)) for x in (-1.0, 0.0, 4.0)] == [0, 0, 0.25]


class Accumulates(Pair):
    """Backward twice"""

    inputs = {"w": normal(3)}
    no_gradient = A_GRADIENT
    trap = "`backward` adds to `.grad`; `jax.grad` returns a value and keeps none. To accumulate, add it up yourself."
    lesson = ("09_transformations", "trap:accumulates")

    def torch(w):
        w.requires_grad_()
        for _ in range(2):
            w.square().sum().backward()
        return w.grad

    def jax(w):
        for _ in range(2):
            grads = jax.grad(lambda w: (w**2).sum())(w)
        return grads

    def fix(w):
        grads = jnp.zeros_like(w)
        for _ in range(2):
            grads += jax.grad(lambda w: (w**2).sum())(w)
        return grads

    def differ(theirs, ours):
        return np.allclose(theirs, 2 * ours)


class MaximumAtZero(Pair):
    """ReLU as a maximum, at 0"""

    inputs = {"x": np.array([-1.0, 0.0, 1.0], np.float32)}
    no_gradient = A_GRADIENT
    trap = (
        "Equal arguments of a maximum get half the gradient each, so `jnp.maximum(x, 0)` has slope 0.5 at 0. "
        "`torch.maximum` does the same; `torch.relu` and `jax.nn.relu` have 0."
    )
    lesson = ("09b_custom_rules", "trap:maximum-at-zero")

    def torch(x):
        return torch.func.grad(lambda x: torch.relu(x).sum())(x)

    def jax(x):
        return jax.grad(lambda x: jnp.maximum(x, 0).sum())(x)

    def fix(x):
        return jax.grad(lambda x: jax.nn.relu(x).sum())(x)

    def differ(theirs, ours):
        maximum = torch.func.grad(lambda x: torch.maximum(x, torch.zeros(3)).sum())(torch.tensor([-1.0, 0, 1]))
        return theirs.tolist() == [0, 0, 1] and ours.tolist() == maximum.tolist() == [0, 0.5, 1]


class ClampAtBound(Pair):
    """Gradient of a clamp at its bounds"""

    inputs = {"x": np.array([-1.0, 0.0, 0.5, 1.0, 2.0], np.float32)}
    no_gradient = A_GRADIENT
    trap = "At a bound `clamp` passes the whole gradient, `jnp.clip` half of it: a weight on its bound moves slower."
    lesson = ("09b_custom_rules", "trap:maximum-at-zero")

    def torch(x):
        return torch.func.grad(lambda x: x.clamp(0, 1).sum())(x)

    def jax(x):
        return jax.grad(lambda x: jnp.clip(x, 0, 1).sum())(x)

    def fix(x):
        return jax.grad(lambda x: jnp.where(x < 0, 0, jnp.where(x > 1, 1, x)).sum())(x)

    def claims():
        x = jnp.array([-1, 0, 0.5, 1, 2])
        assert jnp.where(x < 0, 0, jnp.where(x > 1, 1, x)).tolist() == jnp.clip(x, 0, 1).tolist()

    def differ(theirs, ours):
        return theirs.tolist() == [0, 1, 1, 1, 0] and ours.tolist() == [0, 0.5, 1, 0.5, 0]


class AbsAtZero(Pair):
    """Gradient of an absolute value at 0"""

    inputs = {"w": np.array([-1.0, 0.0, 1.0], np.float32)}
    no_gradient = A_GRADIENT
    trap = "`jnp.abs` has slope 1 at 0 where PyTorch has 0: an L1 penalty pushes weights off 0."
    lesson = ("09b_custom_rules", "trap:maximum-at-zero")

    def torch(w):
        return torch.func.grad(lambda w: w.abs().sum())(w)

    def jax(w):
        return jax.grad(lambda w: jnp.abs(w).sum())(w)

    def fix(w):
        return jax.grad(lambda w: (w * jnp.sign(w)).sum())(w)

    def differ(theirs, ours):
        return theirs.tolist() == [-1, 0, 1] and ours.tolist() == [-1, 1, 1]


class NormAtZero(Pair):
    """Gradient of a norm at 0"""

    inputs = {"x": np.zeros(3, np.float32)}
    no_gradient = A_GRADIENT
    trap = "PyTorch defines the gradient of a norm at 0 as 0; JAX gives NaN. So it is with `std` of equal values."
    lesson = ("09b_custom_rules", "trap:maximum-at-zero")

    def torch(x):
        return torch.func.grad(torch.linalg.norm)(x)

    def jax(x):
        return jax.grad(jnp.linalg.norm)(x)

    def fix(x):
        return jax.grad(lambda x: optax.safe_norm(x, 0.0))(x)

    def differ(theirs, ours):
        return theirs.tolist() == [0, 0, 0] and bool(jnp.isnan(ours).all())

    def claims():
        assert torch.func.grad(torch.std)(torch.ones(3)).tolist() == [0, 0, 0]
        assert jnp.isnan(jax.grad(jnp.std)(jnp.ones(3))).all()


class ComplexGradient(Pair):
    """Gradient by a complex number"""

    inputs = {"z": np.array([1 + 2j, 3 - 1j], np.complex64)}
    no_gradient = A_GRADIENT
    trap = "PyTorch returns the direction of steepest ascent, JAX its conjugate: gradient descent needs `jnp.conj`."
    lesson = ("09b_custom_rules", "trap:maximum-at-zero")

    def torch(z):
        return torch.func.grad(lambda z: (z.abs() ** 2).sum())(z)

    def jax(z):
        return jax.grad(lambda z: (jnp.abs(z) ** 2).sum())(z)

    def fix(z):
        return jnp.conj(jax.grad(lambda z: (jnp.abs(z) ** 2).sum())(z))

    def differ(theirs, ours):
        return np.allclose(theirs, ours.conj()) and not np.allclose(theirs, ours)


class OneElementLoss(Pair):
    """Loss of shape (1,)"""

    inputs = {"w": normal(3, 1), "x": normal(3)}
    no_gradient = A_GRADIENT
    trap = "`backward` takes any tensor of one element; `jax.grad` raises a TypeError unless the shape is ()."
    lesson = ("09_transformations", "trap:grad-refuses")

    def torch(w, x):
        w.requires_grad_()
        (x @ w).backward()
        return w.grad

    def jax(w, x):
        return jax.grad(lambda w: x @ w)(w)

    def fix(w, x):
        return jax.grad(lambda w: (x @ w).squeeze())(w)

    def differ(ours):
        return isinstance(ours, TypeError)


class IntegerLeaf(Pair):
    """A counter among the weights"""

    inputs = {"w": normal(3), "steps": np.array(7)}
    no_gradient = A_GRADIENT
    trap = (
        "PyTorch passes over an integer tensor; an integer anywhere in what `jax.grad` differentiates is a TypeError."
    )
    lesson = ("09_transformations", "trap:grad-refuses")

    def torch(w, steps):
        params = {"w": w.requires_grad_(), "steps": steps}
        params["w"].square().sum().backward()
        return params["w"].grad

    def jax(w, steps):
        params = {"w": w, "steps": steps}
        return jax.grad(lambda p: (p["w"] ** 2).sum())(params)["w"]

    def fix(w, steps):
        params = {"w": w, "steps": steps}
        return jax.grad(lambda w, rest: (w**2).sum())(params.pop("w"), params)

    def differ(ours):
        return isinstance(ours, TypeError)


class UnusedWeight(Pair):
    """A weight that the loss does not use"""

    inputs = {"w": normal(3), "unused": normal(2)}
    no_gradient = A_GRADIENT
    trap = (
        "PyTorch leaves its `.grad` at None and the optimizer passes it over. JAX returns zeros, and weight decay "
        "moves it. (Compared: both weights after a step.)"
    )
    lesson = ("09_transformations", "trap:accumulates")

    def torch(w, unused):
        optimizer = torch.optim.AdamW([w.requires_grad_(), unused.requires_grad_()], weight_decay=0.1)
        w.square().sum().backward()
        optimizer.step()
        return w.detach(), unused.detach()

    def jax(w, unused):
        params, optimizer = {"w": w, "unused": unused}, optax.adamw(1e-3, weight_decay=0.1)
        grads = jax.grad(lambda params: (params["w"] ** 2).sum())(params)
        updates, _ = optimizer.update(grads, optimizer.init(params), params)
        return optax.apply_updates(params, updates)

    def fix(w, unused):
        params, optimizer = {"w": w, "unused": unused}, optax.adamw(1e-3, weight_decay=0.1)
        optimizer = optax.masked(optimizer, {"w": True, "unused": False})  # its update stays the gradient, zeros
        grads = jax.grad(lambda params: (params["w"] ** 2).sum())(params)
        updates, _ = optimizer.update(grads, optimizer.init(params), params)
        return tuple(optax.apply_updates(params, updates)[name] for name in params)

    def differ(theirs, ours):
        kept, moved = theirs[1].numpy(), ours["unused"]
        return (
            np.allclose(ours["w"], theirs[0]) and np.allclose(moved, kept * 0.9999, rtol=1e-6) and (moved != kept).all()
        )

    def claims():
        w, unused = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
        w.sum().backward()
        grads = jax.grad(lambda w, unused: w.sum(), argnums=(0, 1))(jnp.ones(2), jnp.ones(2))
        assert unused.grad is None and grads[1].tolist() == [0, 0]
