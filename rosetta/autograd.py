"""Autograd

`jax.grad` turns a function into the function of its gradient. Nothing is recorded on arrays, so there is no
`requires_grad`, no graph to free, and nothing to zero. Slopes at a kink are a matter of choice, and the two libraries
have not always chosen alike.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from rosetta.kinds import Pair, normal

A_GRADIENT = "its result is a gradient"


class LossAndGradient(Pair):
    """Loss and its gradient"""

    inputs = {"w": normal(3), "x": normal(8, 3)}
    no_gradient = A_GRADIENT

    def torch(w, x):
        w.requires_grad_()
        loss = (x @ w).square().mean()
        loss.backward()
        return loss, w.grad

    def jax(w, x):
        def loss_fn(w):
            return ((x @ w) ** 2).mean()

        return jax.value_and_grad(loss_fn)(w)


class SeveralInputs(Pair):
    """Gradients of several inputs"""

    inputs = {"w": normal(3), "b": normal(), "x": normal(8, 3)}
    no_gradient = A_GRADIENT

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
    note = "There is no `no_grad`: what is not differentiated with `jax.grad` records nothing."

    def torch(x):
        return x * x.detach()

    def jax(x):
        return x * jax.lax.stop_gradient(x)


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
    note = "Under the same name in `torch.func`."

    def torch(x, v):
        return torch.autograd.functional.jvp(torch.sin, x, v, create_graph=True)

    def jax(x, v):
        return jax.jvp(jnp.sin, (x,), (v,))


class Vjp(Pair):
    """Vector times Jacobian"""

    inputs = {"x": normal(3), "v": normal(3)}
    no_gradient = A_GRADIENT

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

    def torch(x, a):
        return torch.autograd.functional.jacobian(lambda x: torch.tanh(a @ x), x)

    def jax(x, a):
        return jax.jacfwd(lambda x: jnp.tanh(a @ x))(x)


class Hessian(Pair):
    """Hessian matrix"""

    inputs = {"x": normal(3)}
    no_gradient = "its result is a derivative"

    def torch(x):
        return torch.autograd.functional.hessian(lambda x: (x @ x) ** 2, x)

    def jax(x):
        return jax.hessian(lambda x: (x @ x) ** 2)(x)


class PerExample(Pair):
    """Gradient of each example"""

    inputs = {"w": normal(3), "x": normal(8, 3)}

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


class Checkpoint(Pair):
    """Recompute activations instead of storing them"""

    inputs = {"x": normal(4), "w": normal(4, 4)}

    def torch(x, w):
        return torch.utils.checkpoint.checkpoint(lambda x: torch.tanh(x @ w), x, use_reentrant=False)

    def jax(x, w):
        return jax.checkpoint(lambda x: jnp.tanh(x @ w))(x)


class ClipNorm(Pair):
    """Clip gradients by their norm"""

    inputs = {"w": normal(3), "x": normal(8, 3)}
    no_gradient = A_GRADIENT
    note = "In a training loop: `optax.chain(optax.clip_by_global_norm(0.1), optax.adam(1e-3))`."

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


class Accumulates(Pair):
    """Backward twice"""

    inputs = {"w": normal(3)}
    no_gradient = A_GRADIENT
    trap = "`backward` adds to `.grad`; `jax.grad` returns a value and keeps none. To accumulate, add it up yourself."
    lesson = ("09_transformations", "twice the gradient")

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
    lesson = ("09_transformations", "maximum(x, 0) at 0")

    def torch(x):
        return torch.func.grad(lambda x: torch.relu(x).sum())(x)

    def jax(x):
        return jax.grad(lambda x: jnp.maximum(x, 0).sum())(x)

    def fix(x):
        return jax.grad(lambda x: jax.nn.relu(x).sum())(x)

    def differ(theirs, ours):
        return theirs.tolist() == [0, 0, 1] and ours.tolist() == [0, 0.5, 1]


class ClampAtBound(Pair):
    """Gradient of a clamp at its bounds"""

    inputs = {"x": np.array([-1.0, 0.0, 0.5, 1.0, 2.0], np.float32)}
    no_gradient = A_GRADIENT
    trap = "At a bound `clamp` passes the whole gradient, `jnp.clip` half of it: a weight on its bound moves slower."
    lesson = ("09_transformations", "clip at its bounds")

    def torch(x):
        return torch.func.grad(lambda x: x.clamp(0, 1).sum())(x)

    def jax(x):
        return jax.grad(lambda x: jnp.clip(x, 0, 1).sum())(x)

    def fix(x):
        return jax.grad(lambda x: jnp.where(x < 0, 0, jnp.where(x > 1, 1, x)).sum())(x)

    def differ(theirs, ours):
        return theirs.tolist() == [0, 1, 1, 1, 0] and ours.tolist() == [0, 0.5, 1, 0.5, 0]


class AbsAtZero(Pair):
    """Gradient of an absolute value at 0"""

    inputs = {"w": np.array([-1.0, 0.0, 1.0], np.float32)}
    no_gradient = A_GRADIENT
    trap = "`jnp.abs` has slope 1 at 0 where PyTorch has 0: an L1 penalty pushes weights off 0."
    lesson = ("09_transformations", "abs at 0")

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
    trap = "PyTorch defines the gradient of a norm at 0 as 0; JAX gives NaN. `std` of equal values does the same."
    lesson = ("09_transformations", "norm at 0")

    def torch(x):
        return torch.func.grad(torch.linalg.norm)(x)

    def jax(x):
        return jax.grad(jnp.linalg.norm)(x)

    def fix(x):
        return jax.grad(lambda x: optax.safe_norm(x, 0.0))(x)

    def differ(theirs, ours):
        return theirs.tolist() == [0, 0, 0] and bool(jnp.isnan(ours).all())


class ComplexGradient(Pair):
    """Gradient by a complex number"""

    inputs = {"z": np.array([1 + 2j, 3 - 1j], np.complex64)}
    no_gradient = A_GRADIENT
    trap = "PyTorch returns the direction of steepest ascent, JAX its conjugate: gradient descent needs `jnp.conj`."
    lesson = ("09_transformations", "z complex")

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
    lesson = ("09_transformations", "a loss of shape (1,)")

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
    lesson = ("09_transformations", "a counter in params")

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
        "PyTorch leaves its `.grad` at None and the optimizer passes it over. JAX returns zeros, and weight decay and "
        "momentum go on moving it."
    )
    lesson = ("09_transformations", "an unused weight")

    def torch(w, unused):
        w.requires_grad_(), unused.requires_grad_()
        w.square().sum().backward()
        return unused.grad is None

    def jax(w, unused):
        grads = jax.grad(lambda w, unused: (w**2).sum(), argnums=(0, 1))(w, unused)
        return grads[1]

    def differ(theirs, ours):
        return theirs is True and ours.tolist() == [0, 0]
