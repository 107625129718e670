"""Optimizers

Optax's optimizer is a rule without weights: `init` makes its state, `update` turns gradients into updates that already
carry the minus, and `optax.apply_updates` adds them. Rules are chained, clipping and weight decay included. The names
are PyTorch's, many defaults are not. Where there is a learning rate there may be a schedule.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from flax import linen as nn
from flax import nnx
from flax.training.train_state import TrainState
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from course import optimizers
from rosetta.kinds import Optimizer, Pair, normal

LESSON = "04_optimizers"
NO_GRADIENT = "the step of an optimizer is not differentiated"


def model(rng):
    """A torch layer of 3 inputs; `params` and `layer` are the same for JAX and NNX."""
    torch.manual_seed(0)
    return torch.nn.Linear(3, 1)


def params(rng):
    return {
        name: jnp.asarray(p.detach().numpy().T)
        for name, p in zip(("kernel", "bias"), model(rng).parameters(), strict=True)
    }


def layer(rng):
    made = nnx.Linear(3, 1, rngs=nnx.Rngs(0))
    nnx.update(made, params(rng))
    return made


def sparse(rng):
    """Gradients of a table in three steps; each touches two of the five rows."""
    grads = rng.normal(size=(3, 5, 2)).astype(np.float32)
    for grad, rows in zip(grads, ([1, 3], [1, 2], [0, 3]), strict=True):
        grad[np.setdiff1d(range(5), rows)] = 0
    return grads


def apart(theirs, ours):
    """The largest difference anywhere along two paths."""
    return float(np.abs(np.array(theirs) - np.array(ours)).max())


def walk(rule, side="jax"):
    """The path of an optimizer's entry along the random gradients."""
    return type("Walk", (Optimizer,), {side: rule}).result(side, {})


class OneStep(Pair):
    """One optimizer step"""

    also = ("optim.Optimizer.step", "optim.Optimizer")
    inputs = {"model": model, "layer": layer, "params": params, "x": normal(8, 3)}
    no_gradient = NO_GRADIENT
    note = (
        "`optimizer.update(layer, grads)` changes the layer in place; `apply_gradients` returns a new state. Code for "
        "flax before 0.11 lacks `wrt` and the layer."
    )

    def torch(model, x):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
        return model.bias, model.weight.T

    def nnx(layer, x):
        optimizer = nnx.Optimizer(layer, optax.sgd(0.1), wrt=nnx.Param)
        grads = nnx.grad(lambda layer: (layer(x) ** 2).mean())(layer)
        optimizer.update(layer, grads)
        return layer.bias[...], layer.kernel[...]

    def linen(params, x):
        dense = nn.Dense(1)
        state = TrainState.create(apply_fn=dense.apply, params=params, tx=optax.sgd(0.1))
        grads = jax.grad(lambda params: (state.apply_fn({"params": params}, x) ** 2).mean())(state.params)
        return state.apply_gradients(grads=grads).params


class ApplyUpdates(Pair):
    """A step by hand"""

    inputs = {"g": normal(3)}
    no_gradient = NO_GRADIENT
    trap = "Optax's updates carry the minus already. Subtracted, as gradients are in PyTorch, they lead uphill."
    lesson = (LESSON, "trap:apply-updates")

    def torch(g):
        w = torch.zeros(3)
        return w - 0.1 * g

    def jax(g):
        w, sgd = jnp.zeros(3), optax.sgd(0.1)
        updates, _ = sgd.update(g, sgd.init(w), w)
        return w - updates

    def fix(g):
        w, sgd = jnp.zeros(3), optax.sgd(0.1)
        updates, _ = sgd.update(g, sgd.init(w), w)
        return optax.apply_updates(w, updates)

    def differ(theirs, ours):
        return np.allclose(ours, -theirs.numpy())


class Momentum(Optimizer):
    """SGD with momentum or Nesterov"""

    also = ("optim.SGD",)

    def torch(params):
        return torch.optim.SGD(params, lr=0.1, momentum=0.9, nesterov=True)

    def jax():
        return optax.sgd(0.1, momentum=0.9, nesterov=True)


class Dampening(Optimizer):
    """SGD with dampening"""

    note = (
        "Optax's `sgd` has no `dampening`. PyTorch's scales every gradient but the first on its way into the momentum."
    )

    def torch(params):
        return torch.optim.SGD(params, lr=0.1, momentum=0.9, dampening=0.5)

    def jax():
        dampening = optax.scale_by_schedule(lambda step: jnp.where(step == 0, 1.0, 1 - 0.5))
        return optax.chain(dampening, optax.sgd(0.1, momentum=0.9))


class Maximize(Optimizer):
    """Gradient ascent (maximize)"""

    note = "Or differentiate minus the objective."

    def torch(params):
        return torch.optim.SGD(params, lr=0.1, momentum=0.9, maximize=True)

    def jax():
        return optax.chain(optax.scale(-1.0), optax.sgd(0.1, momentum=0.9))


class MomentumDecay(Optimizer):
    """SGD with weight decay"""

    trap = (
        "PyTorch adds the decay to the gradient, before momentum and learning rate. Chained after `sgd`, it is neither "
        "multiplied by the learning rate nor subtracted: the weights grow."
    )
    lesson = (LESSON, "trap:momentum-decay")

    def torch(params):
        return torch.optim.SGD(params, lr=0.1, momentum=0.9, weight_decay=0.1)

    def jax():
        return optax.chain(optax.sgd(0.1, momentum=0.9), optax.add_decayed_weights(0.1))

    def fix():
        return optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.1, momentum=0.9))

    def differ(theirs, ours):
        return np.linalg.norm(ours[-1]) > np.linalg.norm(theirs[-1]) + 0.1


class Adam(Optimizer):
    """The Adam optimizer"""

    note = (
        "With float32 weights Optax's bias correction is in float32 as well: steps are about 1e-5 of themselves off, "
        "for the first thousand or so."
    )

    def torch(params):
        return torch.optim.Adam(params, lr=1e-3)

    def jax():
        return optax.adam(1e-3)

    def claims():
        rule = optax.adam(1.0, eps=0.0)  # with a gradient of one all its steps would be -1
        _, steps = jax.lax.scan(lambda s, g: rule.update(g, s)[::-1], rule.init(jnp.ones(())), jnp.ones(5000))
        off = abs(steps + 1)
        assert 5e-6 < off[:500].max() < 3e-5 and off[100:500].mean() > 5e-6


class Betas(Optimizer):
    """The betas of Adam"""

    note = "`betas` is spelt `b1` and `b2`; epsilon is added to the root on both sides."

    def torch(params):
        return torch.optim.Adam(params, lr=0.1, betas=(0.5, 0.9), eps=1e-3)

    def jax():
        return optax.adam(0.1, b1=0.5, b2=0.9, eps=1e-3)


class Fused(Optimizer):
    """Fused and foreach steps"""

    note = "No switch: jitted, the whole step is one program."

    def torch(params):
        return torch.optim.Adam(params, lr=0.1, foreach=True)  # or fused=True

    def jax():
        adam = optax.adam(0.1)
        return optax.GradientTransformation(adam.init, jax.jit(adam.update))


class AdamDecay(Optimizer):
    """Adam with weight decay"""

    trap = (
        "`torch.optim.Adam(weight_decay=)` adds the decay to the gradient, before the moments. Optax's Adam has no "
        "such argument, and `adamw` is the other method."
    )
    lesson = (LESSON, "trap:momentum-decay")

    def torch(params):
        return torch.optim.Adam(params, lr=0.1, weight_decay=0.1)

    def jax():
        return optax.adamw(0.1, weight_decay=0.1)

    def fix():
        return optax.chain(optax.add_decayed_weights(0.1), optax.adam(0.1))

    def differ(theirs, ours):
        return apart(theirs, ours) > 0.01


class AdamW(Optimizer):
    """The AdamW optimizer"""

    trap = "The default weight decay is 0.01 in PyTorch and 0.0001 in Optax."
    lesson = (LESSON, "trap:momentum-decay")

    def torch(params):
        return torch.optim.AdamW(params, lr=0.1)

    def jax():
        return optax.adamw(0.1)

    def fix():
        return optax.adamw(0.1, weight_decay=0.01)

    def differ(theirs, ours):
        # ten steps shrink a weight by lr * decay each: by 1 % of it in PyTorch, by 0.01 % in Optax
        return 0.005 < apart(theirs, ours) < 0.03


class RMSprop(Optimizer):
    """The RMSprop optimizer"""

    trap = (
        "PyTorch decays the squares by 0.99 and adds epsilon to their root; Optax by 0.9, and epsilon under the root."
    )
    lesson = (LESSON, "trap:rmsprop")

    def torch(params):
        return torch.optim.RMSprop(params, lr=0.1)

    def jax():
        return optax.rmsprop(0.1)

    def fix():
        return optax.rmsprop(0.1, decay=0.99, eps_in_sqrt=False)

    def differ(theirs, ours):
        # the first step is g / sqrt((1 - decay) g^2): sqrt(10) times longer in PyTorch
        return apart(theirs, ours) > 1


class Adagrad(Optimizer):
    """The Adagrad optimizer"""

    trap = "PyTorch's sum of squares starts at 0, Optax's at 0.1: its first steps are shorter."
    lesson = (LESSON, "trap:rmsprop")
    note = (
        "`optax.adagrad(0.1, initial_accumulator_value=0.0, eps=0.0)` is the same but for PyTorch's epsilon, 1e-10 "
        "beside the root; Optax's stands under it. `lr_decay` is a schedule: `lambda step: 0.1 / (1 + lr_decay * "
        "step)`."
    )

    def torch(params):
        return torch.optim.Adagrad(params, lr=0.1)

    def jax():
        return optax.adagrad(0.1)

    def fix():
        def update(grads, sums, params=None):
            sums = jax.tree.map(lambda s, g: s + g * g, sums, grads)
            return jax.tree.map(lambda s, g: -0.1 * g / (jnp.sqrt(s) + 1e-10), sums, grads), sums

        return optax.GradientTransformation(optax.tree.zeros_like, update)

    def differ(theirs, ours):
        return apart(theirs, ours) > 0.05

    def claims():
        assert apart(walk(lambda: optax.adagrad(0.1, 0.0, eps=0.0)), walk(Adagrad.sides()["fix"])) < 1e-6
        decayed = walk(lambda params: torch.optim.Adagrad(params, lr=0.1, lr_decay=0.1), "torch")
        assert apart(decayed, walk(lambda: optax.adagrad(lambda step: 0.1 / (1 + 0.1 * step), 0.0, eps=0.0))) < 1e-6


class Adadelta(Optimizer):
    """The Adadelta optimizer"""

    note = "PyTorch's default learning rate is 1."

    def torch(params):
        return torch.optim.Adadelta(params, lr=1.0)

    def jax():
        return optax.adadelta(1.0)


class Adamax(Optimizer):
    """The Adamax optimizer"""

    def torch(params):
        return torch.optim.Adamax(params, lr=2e-3)

    def jax():
        return optax.adamax(2e-3)


class RAdam(Optimizer):
    """The RAdam optimizer"""

    tolerance = 2e-4  # the length of the average is a small difference of large numbers, in float32 in Optax
    float32_only = ("jax",)  # and where it is not, epsilon is seen
    note = (
        "Equal to about 4 digits over the first steps: with float32 weights Optax computes the correction in float32. "
        "In float64 epsilon is seen: PyTorch adds it before the second moment's bias is divided out, Optax after."
    )

    def torch(params):
        return torch.optim.RAdam(params, lr=0.1)

    def jax():
        return optax.radam(0.1)

    def fix():
        eps = lambda step: 1e-8 / jnp.sqrt(1 - 0.999 ** (step + 1.0))  # noqa: E731
        return optax.inject_hyperparams(optax.radam)(learning_rate=0.1, eps=eps)


class NAdam(Optimizer):
    """The NAdam optimizer"""

    trap = (
        "PyTorch raises the momentum from half of its value over thousands of steps (`momentum_decay`); Optax uses it "
        "in full at once."
    )
    lesson = (LESSON, "trap:n-adam")
    note = "The course's `nadam` is such a rule; PyTorch's own is Optax's where `momentum_decay` is huge."

    def torch(params):
        return torch.optim.NAdam(params, lr=0.1)

    def jax():
        return optax.nadam(0.1)

    def fix():
        from course import optimizers

        return optimizers.nadam(0.1)

    def differ(theirs, ours):
        return apart(theirs, ours) > 0.1

    def claims():
        at_once = walk(lambda params: torch.optim.NAdam(params, lr=0.1, momentum_decay=1e9), "torch")
        assert apart(at_once, walk(lambda: optax.nadam(0.1))) < 1e-4


class Rprop(Optimizer):
    """The Rprop optimizer"""

    trap = (
        "`optax.rprop` hands out each update one step late: the first is zero, and one before a change of sign is "
        "never made. Its state holds the right one."
    )

    def torch(params):
        return torch.optim.Rprop(params, lr=0.1)

    def jax():
        return optax.rprop(0.1)

    def fix():
        def update(grads, state, params=None):
            _, state = optax.scale_by_rprop(0.1).update(grads, state)
            return optax.tree.scale(-1.0, state.prev_updates), state

        return optax.GradientTransformation(optax.scale_by_rprop(0.1).init, update)

    def differ(theirs, ours, fixed):
        one_late = np.isclose(ours[1], fixed[0], atol=1e-6)
        return 0.2 < one_late.mean() < 1 and apart(theirs, ours) > 0.05

    def claims():
        rule = optax.rprop(0.1)
        assert (rule.update(jnp.ones(3), rule.init(jnp.ones(3)))[0] == 0).all()


class ASGD(Optimizer):
    """The ASGD optimizer (averaged SGD)"""

    note = (
        "The terms are weight decay (`lambd`) and a falling rate (`alpha`). The average of the weights, PyTorch's "
        "`state[w]['ax']` from step `t0 + 2` on, is one of your own: `optax.incremental_update(w, average, 1 / n)`."
    )

    def torch(params):
        return torch.optim.ASGD(params, lr=0.1)

    def jax():
        rate = lambda step: 0.1 / (1 + 1e-4 * 0.1 * step) ** 0.75  # noqa: E731
        return optax.chain(optax.add_decayed_weights(1e-4), optax.scale_by_learning_rate(rate))

    def claims():
        w = torch.nn.Parameter(torch.ones(1))
        asgd, average = torch.optim.ASGD([w], lr=0.1, t0=0), None
        for step in range(1, 6):
            w.grad = torch.full((1,), float(step))
            asgd.step()
            now = jnp.asarray(w.detach().numpy().copy())
            average = now if step <= 2 else optax.incremental_update(now, average, 1 / (step - 1))
        assert np.allclose(asgd.state[w]["ax"], average, rtol=1e-6)


class Adafactor(Optimizer):
    """The Adafactor optimizer"""

    trap = (
        "PyTorch factors every matrix and takes `lr` for the largest rate, over one over the root of the step. Optax "
        "factors from 128 rows and columns on and takes the rate as it is."
    )
    note = "With these arguments alone, `optax.adafactor(rate, min_dim_size_to_factor=1)` is the same, in float32."

    def torch(params):
        return torch.optim.Adafactor(params, lr=0.1)

    def jax():
        return optax.adafactor(0.1)

    def fix():
        rate = lambda step: jnp.minimum(0.1, (step + 1.0) ** -0.5)  # noqa: E731
        decay = lambda step, power: 1 - (step + 1.0) ** -power  # noqa: E731
        rms = optax.scale_by_factored_rms(min_dim_size_to_factor=1, decay_rate_fn=decay)
        ends = optax.scale_by_param_block_rms(), optax.scale_by_learning_rate(rate)
        return optax.chain(rms, optax.clip_by_block_rms(1.0), *ends)

    def differ(theirs, ours):
        return apart(theirs, ours) > 0.05

    def claims():
        rate = lambda step: jnp.minimum(0.1, (step + 1.0) ** -0.5)  # noqa: E731
        short = walk(lambda: optax.adafactor(rate, min_dim_size_to_factor=1))
        assert apart(short, walk(Adafactor.sides()["fix"])) < 1e-5


class CenteredRMSprop(Optimizer):
    """RMSprop, centred and with momentum"""

    def torch(params):
        return torch.optim.RMSprop(params, lr=0.1, centered=True, momentum=0.9)

    def jax():
        return optax.rmsprop(0.1, decay=0.99, eps_in_sqrt=False, centered=True, momentum=0.9)


class AMSGrad(Optimizer):
    """The AMSGrad optimizer"""

    trap = "Optax corrects the second moment's bias before it takes the maximum, PyTorch after."
    lesson = (LESSON, "trap:amsgrad")
    note = (
        "For `AdamW(amsgrad=True)` chain `optimizers.scale_by_amsgrad()`, `optax.add_decayed_weights(0.01)` and "
        "`optax.scale_by_learning_rate(0.1)`."
    )

    def torch(params):
        return torch.optim.Adam(params, lr=0.1, amsgrad=True)

    def jax():
        return optax.amsgrad(0.1)

    def fix():
        from course import optimizers

        return optimizers.amsgrad(0.1)

    def differ(theirs, ours):
        return apart(theirs[:1], ours[:1]) < 1e-5 and apart(theirs, ours) > 0.01

    def claims():
        links = (
            optimizers.scale_by_amsgrad(), optax.add_decayed_weights(0.01), optax.scale_by_learning_rate(0.1),
        )  # fmt: skip
        theirs = walk(lambda params: torch.optim.AdamW(params, lr=0.1, amsgrad=True), "torch")
        assert apart(theirs, walk(lambda: optax.chain(*links))) < 1e-5


class SetRate(Pair):
    """Change the learning rate by hand"""

    inputs = {"w": normal(3), "g": normal(3)}
    no_gradient = NO_GRADIENT
    note = "The rate is now part of the state, so a jitted step sees the change and is not compiled again."

    def torch(w, g):
        w.grad = g
        optimizer = torch.optim.SGD([w], lr=0.1)
        optimizer.param_groups[0]["lr"] = 0.01
        optimizer.step()
        return w

    def jax(w, g):
        rule = optax.inject_hyperparams(optax.sgd)(learning_rate=0.1)
        state = rule.init(w)
        state.hyperparams["learning_rate"] = jnp.float32(0.01)
        updates, state = rule.update(g, state, w)
        return optax.apply_updates(w, updates)

    def claims():
        traces, rule = [], optax.inject_hyperparams(optax.sgd)(learning_rate=0.1)
        update, state = jax.jit(lambda g, state: traces.append(1) or rule.update(g, state)), rule.init(1.0)
        for rate in (0.1, 0.01):
            state.hyperparams["learning_rate"] = jnp.float32(rate)
            step, state = update(jnp.float32(1.0), state)
            assert step == -jnp.float32(rate)
        assert len(traces) == 1


class NoDecayOnBiases(Pair):
    """No weight decay on biases and norms"""

    also = ("optim.Optimizer.add_param_group",)
    inputs = {"model": model, "params": params, "x": normal(8, 3)}
    no_gradient = NO_GRADIENT
    note = "Without a mask every parameter decays, as in PyTorch without groups. `update` needs the parameters then."

    def torch(model, x):
        groups = [{"params": [model.weight]}, {"params": [model.bias], "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=0.1, weight_decay=0.5)
        model(x).square().mean().backward()
        optimizer.step()
        return model.bias, model.weight.T

    def jax(params, x):
        mask = jax.tree.map(lambda p: p.ndim > 1, params)
        rule = optax.adamw(0.1, weight_decay=0.5, mask=mask)
        grads = jax.grad(lambda params: ((x @ params["kernel"] + params["bias"]) ** 2).mean())(params)
        updates, _ = rule.update(grads, rule.init(params), params)
        return optax.apply_updates(params, updates)


class TwoRates(Pair):
    """A learning rate for each group"""

    inputs = {"model": model, "params": params, "x": normal(8, 3)}
    no_gradient = NO_GRADIENT
    note = "Labels may stand for whole subtrees: `{'encoder': 'slow', 'head': 'fast'}`."

    def torch(model, x):
        groups = [{"params": [model.weight]}, {"params": [model.bias], "lr": 0.01}]
        optimizer = torch.optim.SGD(groups, lr=0.1)
        model(x).square().mean().backward()
        optimizer.step()
        return model.bias, model.weight.T

    def jax(params, x):
        labels = {"kernel": "fast", "bias": "slow"}
        rule = optax.partition({"fast": optax.sgd(0.1), "slow": optax.sgd(0.01)}, labels)
        grads = jax.grad(lambda params: ((x @ params["kernel"] + params["bias"]) ** 2).mean())(params)
        updates, _ = rule.update(grads, rule.init(params), params)
        return optax.apply_updates(params, updates)

    def claims():
        params = {"encoder": {"a": jnp.ones(2), "b": jnp.ones(3)}, "head": {"c": jnp.ones(2)}}
        rules = {"fast": optax.sgd(1.0), "slow": optax.sgd(0.5)}
        rule = optax.partition(rules, {"encoder": "slow", "head": "fast"})
        updates, _ = rule.update(params, rule.init(params))
        assert (updates["encoder"]["a"] == -0.5).all() and (updates["head"]["c"] == -1).all()


class Freeze(Pair):
    """Freeze a layer in the optimizer"""

    inputs = {"w": normal(3), "frozen": normal(3), "g": normal(3)}
    no_gradient = NO_GRADIENT
    trap = (
        "`optax.masked` passes through what its mask leaves out: the bare gradient is added to the frozen weights, "
        "uphill. `partition` with `set_to_zero` freezes them; in NNX, the `wrt=` of the optimizer takes a filter, as "
        "does `nnx.DiffState`."
    )
    lesson = ("04b_training_rules", "trap:freeze")

    def torch(w, frozen, g):
        w, frozen = torch.nn.Parameter(w), torch.nn.Parameter(frozen, requires_grad=False)
        w.grad = g
        torch.optim.SGD([w, frozen], lr=0.1).step()
        return frozen, w

    def jax(w, frozen, g):
        params, grads = {"w": w, "frozen": frozen}, {"w": g, "frozen": g}
        rule = optax.masked(optax.sgd(0.1), {"w": True, "frozen": False})
        updates, _ = rule.update(grads, rule.init(params), params)
        return optax.apply_updates(params, updates)

    def fix(w, frozen, g):
        params, grads = {"w": w, "frozen": frozen}, {"w": g, "frozen": g}
        labels = {"w": "trained", "frozen": "frozen"}
        rule = optax.partition({"trained": optax.sgd(0.1), "frozen": optax.set_to_zero()}, labels)
        updates, _ = rule.update(grads, rule.init(params), params)
        return optax.apply_updates(params, updates)

    def differ(theirs, ours, fixed):
        gradient = np.asarray(ours["frozen"]) - theirs[0].numpy()
        return np.allclose(ours["w"], theirs[1].detach()) and float(np.abs(gradient).max()) > 0.1

    def claims():
        kernels, layer = nnx.All(nnx.Param, nnx.PathContains("kernel")), nnx.Linear(2, 2, rngs=nnx.Rngs(0))
        optimizer = nnx.Optimizer(layer, optax.sgd(0.1), wrt=kernels)
        before = jnp.array(layer.kernel[...])
        grads = nnx.grad(lambda layer: layer(jnp.ones(2)).sum(), argnums=nnx.DiffState(0, kernels))(layer)
        optimizer.update(layer, grads)
        assert (layer.bias[...] == 0).all() and (layer.kernel[...] != before).all()


class ClipTinyNorm(Pair):
    """Clip by a tiny norm"""

    inputs = {"g": lambda rng: (1e-5 * rng.normal(size=8)).astype(np.float32)}
    no_gradient = NO_GRADIENT
    trap = (
        "PyTorch divides by the norm + 1e-6, Optax by the norm: a little off at every clip, which float64 shows, and "
        "far off where gradients are as small as that."
    )
    lesson = ("04b_training_rules", "trap:clip-tiny-norm")

    def torch(g):
        w = torch.nn.Parameter(torch.zeros(8))
        w.grad = g
        torch.nn.utils.clip_grad_norm_([w], max_norm=1e-5)
        return w.grad.norm() / 1e-5

    def jax(g):
        clipped, _ = optax.clip_by_global_norm(1e-5).update(g, optax.EmptyState())
        return optax.tree.norm(clipped) / 1e-5

    def fix(g):
        from course import optimizers

        clipped, norm = optimizers.clip_grad_norm(g, max_norm=1e-5)
        return optax.tree.norm(clipped) / 1e-5

    def differ(theirs, ours):
        return abs(float(ours) - 1) < 1e-5 and float(theirs) < 0.99


class Accumulate(Pair):
    """Accumulate gradients in the optimizer"""

    inputs = {"w": lambda rng: np.zeros(3, np.float32), "batches": normal(2, 3)}
    no_gradient = NO_GRADIENT
    trap = "`.grad` holds the sum of what was accumulated; `MultiSteps` takes the mean."
    lesson = ("04b_training_rules", "trap:accumulate")
    note = (
        "The mean is mostly what is wanted: PyTorch code that wants it divides the loss by the number of batches. The "
        "updates are zero until the last of the batches."
    )

    def torch(w, batches):
        optimizer = torch.optim.SGD([w.requires_grad_()], lr=0.1)
        for x in batches:
            (w @ x).backward()
        optimizer.step()
        return w

    def jax(w, batches):
        rule = optax.MultiSteps(optax.sgd(0.1), every_k_schedule=2)
        state = rule.init(w)
        for x in batches:
            updates, state = rule.update(jax.grad(jnp.dot)(w, x), state, w)
        return optax.apply_updates(w, updates)

    def fix(w, batches):
        rule = optax.MultiSteps(optax.sgd(0.1), every_k_schedule=2, use_grad_mean=False)
        state = rule.init(w)
        for x in batches:
            updates, state = rule.update(jax.grad(jnp.dot)(w, x), state, w)
        return optax.apply_updates(w, updates)

    def differ(theirs, ours):
        return np.allclose(theirs.detach(), 2 * ours, atol=1e-6)


class MovingAverage(Pair):
    """Exponential moving average of weights"""

    also = ("optim.swa_utils.AveragedModel", "optim.swa_utils.get_ema_multi_avg_fn", "optim.swa_utils.get_ema_avg_fn")
    inputs = {"model": model, "path": normal(5, 1, 3)}
    no_gradient = NO_GRADIENT
    trap = (
        "PyTorch's average starts at the first weights. `optax.ema` starts at zero and divides the bias out: another "
        "average. It is made for updates; for weights use `incremental_update`."
    )
    lesson = ("04b_training_rules", "trap:moving-average")

    def torch(model, path):
        average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
        for weight in path:
            model.weight.data.copy_(weight)
            average.update_parameters(model)
        return average.module.weight

    def jax(path):
        ema = optax.ema(0.9)
        state = ema.init(path[0])
        for weight in path:
            average, state = ema.update(weight, state)
        return average

    def fix(path):
        average = path[0]
        for weight in path[1:]:
            average = optax.incremental_update(weight, average, step_size=0.1)
        return average

    def differ(theirs, ours):
        return apart(theirs.detach().numpy(), ours) > 0.01


class EqualAverage(Pair):
    """Stochastic weight averaging (SWA)"""

    also = ("optim.swa_utils.AveragedModel", "optim.swa_utils.get_swa_multi_avg_fn", "optim.swa_utils.update_bn")
    inputs = {"model": model, "path": normal(5, 1, 3)}
    no_gradient = NO_GRADIENT
    note = "Batch statistics do not fit the averaged weights: run the training data through the model once more."

    def torch(model, path):
        average = AveragedModel(model)
        for weight in path:
            model.weight.data.copy_(weight)
            average.update_parameters(model)
        return average.module.weight

    def jax(path):
        average = path[0]
        for n, weight in enumerate(path[1:], start=2):
            average = optax.incremental_update(weight, average, step_size=1 / n)
        return average


class ClipValues(Pair):
    """Clip gradients by value"""

    inputs = {"g": normal(8)}
    no_gradient = NO_GRADIENT
    note = "In a chain: `optax.chain(optax.clip(0.5), optax.adam(1e-3))`."

    def torch(g):
        w = torch.nn.Parameter(torch.zeros(8))
        w.grad = g
        torch.nn.utils.clip_grad_value_([w], 0.5)
        return w.grad

    def jax(g):
        return jax.tree.map(lambda g: jnp.clip(g, -0.5, 0.5), g)

    def claims():
        rule = optax.clip(0.5)
        assert rule.update(jnp.array([-1.0, 0.2, 1.0]), rule.init(0.0))[0].tolist() == [-0.5, jnp.float32(0.2), 0.5]


class ClipAllGradients(Pair):
    """Clip by the norm of all gradients"""

    inputs = {"a": normal(3, 4), "b": normal(4)}
    no_gradient = NO_GRADIENT
    also = ("nn.utils.clip_grad_norm_", "nn.utils.clip_grad_norm", "nn.utils.clip_grads_with_norm_")
    note = (
        "`optimizers.clip_by_global_norm(0.5)` is the same for a chain, and `norm_type=` any p. Optax's own leaves out "
        "PyTorch's epsilon: 2e-6 off where the norm is 0.5."
    )

    def torch(a, b):
        a.grad, b.grad = a.clone(), b.clone()
        norm = torch.nn.utils.clip_grad_norm_([a, b], max_norm=0.5)
        return a.grad, b.grad, norm

    def jax(a, b):
        from course import optimizers

        (a, b), norm = optimizers.clip_grad_norm((a, b), max_norm=0.5)
        return a, b, norm

    def claims():
        grads = {"w": jnp.array([0.3, 0.4]) * 1.000001}
        for rule, off in ((optax.clip_by_global_norm(0.5), 0), (optimizers.clip_by_global_norm(0.5), 2e-6)):
            clipped, _ = rule.update(grads, rule.init(grads))
            assert abs(float(1 - optax.tree.norm(clipped) / 0.5) - off) < 5e-7


class TotalNorm(Pair):
    """Norm of all gradients"""

    also = ("nn.utils.get_total_norm",)
    inputs = {"a": normal(3, 4), "b": normal(4)}

    def torch(a, b):
        return torch.nn.utils.get_total_norm([a, b])

    def jax(a, b):
        return optax.tree.norm({"a": a, "b": b})


class TwoOptimizers(Pair):
    """Two optimizers in one step (GAN)"""

    inputs = {"g": normal(3), "d": normal(3), "z": normal(5, 3)}
    no_gradient = NO_GRADIENT
    note = (
        "Each loss is differentiated by its own weights: no `detach`, and no gradient is left where it should not be."
    )

    def torch(g, d, z):
        ((z * g.detach()) @ d.requires_grad_()).square().mean().backward()
        torch.optim.SGD([d], lr=0.1).step()
        (-((z * g.requires_grad_()) @ d.detach()).mean()).backward()
        torch.optim.Adam([g], lr=0.1).step()
        return d, g

    def jax(g, d, z):
        adam, sgd = optax.adam(0.1), optax.sgd(0.1)
        of_d = jax.grad(lambda d: (((z * g) @ d) ** 2).mean())(d)
        d = optax.apply_updates(d, sgd.update(of_d, sgd.init(d))[0])
        of_g = jax.grad(lambda g: -((z * g) @ d).mean())(g)
        return d, optax.apply_updates(g, adam.update(of_g, adam.init(g))[0])


class LBFGS(Pair):
    """The L-BFGS optimizer"""

    inputs = {"w": normal(3), "loss": lambda rng: lambda w: ((w - 1) ** 4 + w**2).sum()}
    tolerance = 1e-3  # both stop near the minimum
    no_gradient = NO_GRADIENT
    note = (
        "The line search asks for the function again: `value`, `grad` and `value_fn` in the place of PyTorch's "
        "closure. A PyTorch step is up to 20 iterations, an update of Optax's is one."
    )

    def torch(w, loss):
        optimizer = torch.optim.LBFGS([w.requires_grad_()], line_search_fn="strong_wolfe")
        optimizer.step(lambda: optimizer.zero_grad() or (value := loss(w)).backward() or value)
        return w

    def jax(w, loss):
        def step(_, at):
            value, grad = jax.value_and_grad(loss)(at[0])
            updates, state = optax.lbfgs().update(grad, at[1], at[0], value=value, grad=grad, value_fn=loss)
            return optax.apply_updates(at[0], updates), state

        return jax.lax.fori_loop(0, 20, step, (w, optax.lbfgs().init(w)))[0]


class AddGroup(Pair):
    """Add weights to an optimizer (add_param_group)"""

    also = ("optim.Optimizer.add_param_group",)
    inputs = {"w": normal(3), "head": normal(2)}
    no_gradient = NO_GRADIENT
    note = "A rule knows no weights: another rate is another rule, and a state begins when its weights come."

    def torch(w, head):
        optimizer = torch.optim.Adam([w], lr=0.1)
        optimizer.add_param_group({"params": [head], "lr": 0.01})
        w.grad, head.grad = w.clone(), head.clone()
        optimizer.step()
        return w, head

    def jax(w, head):
        rules = {"w": optax.adam(0.1), "head": optax.adam(0.01)}
        params = {"w": w, "head": head}
        states = {name: rules[name].init(params[name]) for name in params}
        updates = {name: rules[name].update(params[name], states[name])[0] for name in params}
        return tuple(optax.apply_updates(params, updates)[name] for name in ("w", "head"))


class ZeroGrad(Pair):
    """Set gradients to zero before a step"""

    inputs = {"w": normal(3), "x": normal(2, 3)}
    no_gradient = NO_GRADIENT
    also = ("nn.Module.zero_grad", "optim.Optimizer.zero_grad")
    note = "A gradient is a return value: nothing is left over from the step before, and nothing to be zeroed."

    def torch(w, x):
        optimizer = torch.optim.SGD([w.requires_grad_()], lr=0.1)
        for row in x:
            optimizer.zero_grad(set_to_none=True)
            (row @ w).square().backward()
        return w.grad

    def jax(w, x):
        for row in x:
            grads = jax.grad(lambda w, row: (row @ w) ** 2)(w, row)
        return grads


class LookAtTheState(Pair):
    """Look at the moments of Adam"""

    inputs = {"w": normal(3), "g": normal(3)}
    no_gradient = NO_GRADIENT
    note = "The state is a tuple, a link of the chain each; `optax.tree.get` finds a name in it, however deep."

    def torch(w, g):
        w.grad, optimizer = g, torch.optim.Adam([w])
        optimizer.step()
        return optimizer.state[w]["exp_avg"], optimizer.state[w]["step"].int()

    def jax(w, g):
        rule = optax.adam(1e-3)
        _, state = rule.update(g, rule.init(w), w)
        return optax.tree.get(state, "mu"), optax.tree.get(state, "count")


class KeepInRange(Pair):
    """Keep weights in a range after each step"""

    inputs = {"w": normal(6), "g": normal(6)}
    no_gradient = NO_GRADIENT
    note = "`optax.projections` has balls, simplices and the non-negative numbers too."

    def torch(w, g):
        w.grad = g
        torch.optim.SGD([w], lr=0.1).step()
        with torch.no_grad():
            return w.clamp_(-0.5, 0.5)

    def jax(w, g):
        sgd = optax.sgd(0.1)
        updates, _ = sgd.update(g, sgd.init(w), w)
        return optax.projections.projection_box(optax.apply_updates(w, updates), -0.5, 0.5)

    def claims():
        names = ("projection_l2_ball", "projection_simplex", "projection_non_negative")
        assert all(hasattr(optax.projections, name) for name in names)


class LazyAdam(Pair):
    """Adam on the rows that a batch touched"""

    inputs = {"table": normal(5, 2), "grads": sparse}
    no_gradient = NO_GRADIENT
    trap = (
        "`SparseAdam` moves the rows that have a gradient, and ages their moments alone. JAX's gradient of a lookup is "
        "dense, with zeros: Adam goes on moving the other rows by their momentum."
    )

    def torch(table, grads):
        adam = torch.optim.SparseAdam([table], lr=0.1)
        for grad in grads:
            table.grad = grad.to_sparse(1)
            adam.step()
        return table

    def jax(table, grads):
        def step(old, grad):
            updates, state = optax.adam(0.1).update(grad, old[1])
            return (old[0] + updates, state), None

        return jax.lax.scan(step, (table, optax.adam(0.1).init(table)), grads)[0][0]

    def fix(table, grads):
        def step(old, grad):
            updates, state = optax.adam(0.1).update(grad, old[1])
            keep = lambda n, o: jnp.where((grad != 0).any(1, keepdims=True), n, o) if n.ndim else n  # noqa: E731
            return jax.tree.map(keep, (old[0] + updates, state), old), None

        return jax.lax.scan(step, (table, optax.adam(0.1).init(table)), grads)[0][0]

    def differ(theirs, ours):
        return apart(theirs.numpy(), ours) > 0.05

    def claims():
        grad = jax.grad(lambda table: table[jnp.array([1])].sum())(jnp.ones((3, 2)))
        assert grad.tolist() == [[0, 0], [1, 1], [0, 0]]
