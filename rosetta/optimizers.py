"""Optimizers and schedules

Optax's optimizer is a rule without weights: `init` makes its state, `update` turns gradients into updates that already
carry the minus, and `optax.apply_updates` adds them. Rules are chained, clipping and weight decay included. The names
are PyTorch's, many defaults are not; a schedule counts updates, never epochs.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from flax import linen as nn
from flax import nnx
from flax.training.train_state import TrainState
from torch.optim import lr_scheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from rosetta.kinds import Optimizer, Pair, Schedule, normal
from tools.environment import double_precision

LESSON = "03_state_and_trees"
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


def optimizer(rng):
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)


def train_epoch(rng):
    def five_steps(optimizer):
        for _ in range(5):
            optimizer.step()

    return five_steps


def apart(theirs, ours):
    """The largest difference anywhere along two paths."""
    return float(np.abs(np.array(theirs) - np.array(ours)).max())


class OneStep(Pair):
    """One optimizer step"""

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
    lesson = (LESSON, "params - updates")

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

    note = "`dampening` has no counterpart."

    def torch(params):
        return torch.optim.SGD(params, lr=0.1, momentum=0.9, nesterov=True)

    def jax():
        return optax.sgd(0.1, momentum=0.9, nesterov=True)


class MomentumDecay(Optimizer):
    """SGD with weight decay"""

    trap = (
        "PyTorch adds the decay to the gradient, before momentum and learning rate. Chained after `sgd`, it is neither "
        "multiplied by the learning rate nor subtracted: the weights grow."
    )
    lesson = (LESSON, "SGD with weight_decay")

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

    note = "Optax's bias correction is in float32: over long runs the two drift apart by rounding."

    def torch(params):
        return torch.optim.Adam(params, lr=1e-3)

    def jax():
        return optax.adam(1e-3)


class AdamDecay(Optimizer):
    """Adam with weight decay"""

    trap = (
        "`torch.optim.Adam(weight_decay=)` adds the decay to the gradient, before the moments. Optax's Adam has no "
        "such argument, and `adamw` is the other method."
    )
    lesson = (LESSON, "Adam with weight_decay")

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
    lesson = (LESSON, "optax.adamw(RATE, weight_decay=0.01)")

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
    lesson = (LESSON, "decay=0.99, eps_in_sqrt=False")

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
    lesson = (LESSON, "initial_accumulator_value=0.0, eps=0.0")

    def torch(params):
        return torch.optim.Adagrad(params, lr=0.1)

    def jax():
        return optax.adagrad(0.1)

    def fix():
        return optax.adagrad(0.1, initial_accumulator_value=0.0, eps=0.0)

    def differ(theirs, ours):
        return apart(theirs, ours) > 0.05


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
    note = "Equal to about 4 digits over the first steps: Optax computes the correction in float32."

    def torch(params):
        return torch.optim.RAdam(params, lr=0.1)

    def jax():
        return optax.radam(0.1)


class NAdam(Optimizer):
    """The NAdam optimizer"""

    trap = (
        "PyTorch raises the momentum from half of its value over thousands of steps (`momentum_decay`); Optax uses it "
        "in full at once. There is no switch."
    )
    lesson = (LESSON, "torch's NAdam raises its momentum")

    def torch(params):
        return torch.optim.NAdam(params, lr=0.1)

    def jax():
        return optax.nadam(0.1)

    def differ(theirs, ours):
        warm = NAdam.walk(lambda params: torch.optim.NAdam(params, lr=0.1, momentum_decay=1e9))
        return apart(theirs, ours) > 0.1 and apart(warm, ours) < 1e-4

    @classmethod
    def walk(cls, rule):
        return type("Warm", (Optimizer,), {"torch": rule}).result("torch", {})


class AMSGrad(Optimizer):
    """The AMSGrad optimizer"""

    trap = "Optax corrects the second moment's bias before it takes the maximum, PyTorch after. There is no switch."
    lesson = (LESSON, "Adam with amsgrad")

    def torch(params):
        return torch.optim.Adam(params, lr=0.1, amsgrad=True)

    def jax():
        return optax.amsgrad(0.1)

    def differ(theirs, ours):
        return apart(theirs[:1], ours[:1]) < 1e-5 and apart(theirs, ours) > 0.05


class StepLR(Schedule):
    """Divide the rate every few steps"""

    trap = "`exponential_decay` falls a little at every step, unless it is told `staircase=True`."
    lesson = (LESSON, '"StepLR(10): staircase"')
    note = (
        "With x64 on, `exponential_decay`, `linear_schedule` and `warmup_cosine_decay_schedule` still return float32 "
        "for the int32 steps that Optax counts: 1e-9 off here. Hand them `step.astype(float)` from a schedule of yours."
    )

    def torch(optimizer):
        return lr_scheduler.StepLR(optimizer, step_size=10, gamma=0.1)

    def jax():
        return optax.exponential_decay(0.1, transition_steps=10, decay_rate=0.1)

    def fix():
        return optax.exponential_decay(0.1, transition_steps=10, decay_rate=0.1, staircase=True)

    def differ(theirs, ours):
        return apart(theirs[::10], ours[::10]) < 1e-6 and bool((ours[1:10] < theirs[1:10] - 0.01).all())

    def claims():
        schedules = (
            optax.exponential_decay(0.1, 10, 0.1, staircase=True), optax.linear_schedule(0.1, 0.0, 10),
            optax.warmup_cosine_decay_schedule(0.01, 0.1, 10, 40),
        )  # fmt: skip
        with double_precision():
            for schedule in schedules:
                step = jnp.int32(7)
                rough, fine = schedule(step), schedule(step.astype(float))
                assert rough.dtype == jnp.float32 and fine.dtype == jnp.float64 and 0 < abs(rough - fine) < 2e-9


class Epochs(Pair):
    """A schedule that counts epochs"""

    inputs = {"optimizer": optimizer, "train_epoch": train_epoch}
    trap = (
        "PyTorch's `schedule.step()` is called when you like, often once an epoch. Optax's schedule counts updates: "
        "multiply the epochs by the steps in one."
    )
    lesson = (LESSON, '"StepLR(2), stepped every 5 batches"')

    def torch(optimizer, train_epoch):
        schedule = lr_scheduler.StepLR(optimizer, step_size=2)
        for _ in range(4):
            train_epoch(optimizer)  # 5 batches
            schedule.step()
        return schedule.get_last_lr()

    def jax():
        schedule = optax.exponential_decay(0.1, transition_steps=2, decay_rate=0.1, staircase=True)
        return [schedule(4 * 5)]

    def fix():
        schedule = optax.exponential_decay(0.1, transition_steps=2 * 5, decay_rate=0.1, staircase=True)
        return [schedule(4 * 5)]

    def differ(theirs, ours):
        return abs(theirs[0] - 1e-3) < 1e-6 and float(ours[0]) < 1e-9


class MultiStepLR(Schedule):
    """Divide the rate at given steps"""

    note = "The numbers are factors, and they multiply: from step 20 on the rate is 0.001."

    def torch(optimizer):
        return lr_scheduler.MultiStepLR(optimizer, milestones=[10, 20], gamma=0.1)

    def jax():
        return optax.piecewise_constant_schedule(0.1, {10: 0.1, 20: 0.1})


class CosineFloor(Schedule):
    """Cosine decay to a smallest rate"""

    trap = "`eta_min` is a rate; `alpha` is a fraction of the first rate."
    lesson = (LESSON, '"eta_min=0.01: alpha is a fraction"')

    def torch(optimizer):
        return lr_scheduler.CosineAnnealingLR(optimizer, T_max=40, eta_min=0.01)

    def jax():
        return optax.cosine_decay_schedule(0.1, decay_steps=40, alpha=0.01)

    def fix():
        return optax.cosine_decay_schedule(0.1, decay_steps=40, alpha=0.01 / 0.1)

    def differ(theirs, ours):
        return theirs[-1] > 0.01 > 0.002 > ours[-1] > 0.001


class CosinePastTheEnd(Schedule):
    """Cosine decay, past its end"""

    trap = "After `T_max` steps PyTorch's rate climbs again; Optax's stays at its last value."
    lesson = (LESSON, '"CosineAnnealingLR(20) climbs again"')

    def torch(optimizer):
        return lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)

    def jax():
        return optax.cosine_decay_schedule(0.1, decay_steps=20)

    def fix():
        return lambda step: 0.1 * (1 + jnp.cos(jnp.pi * step / 20)) / 2

    def differ(theirs, ours):
        return apart(theirs[:21], ours[:21]) < 1e-6 and theirs[-1] > 0.09 and bool((ours[20:] == 0).all())


class WarmUp(Schedule):
    """Linear warm-up, then cosine decay"""

    trap = "`decay_steps` is the length of the whole schedule, the warm-up included."
    lesson = (LESSON, '"decay_steps includes the warm-up"')
    note = "`optax.join_schedules(schedules, boundaries)` is the general form, PyTorch's `SequentialLR`."

    def torch(optimizer):
        warm_up = lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=10)
        decay = lr_scheduler.CosineAnnealingLR(optimizer, T_max=30)
        return lr_scheduler.SequentialLR(optimizer, [warm_up, decay], milestones=[10])

    def jax():
        return optax.warmup_cosine_decay_schedule(0.01, 0.1, warmup_steps=10, decay_steps=30)

    def fix():
        return optax.warmup_cosine_decay_schedule(0.01, 0.1, warmup_steps=10, decay_steps=10 + 30)

    def differ(theirs, ours):
        return apart(theirs[:11], ours[:11]) < 1e-6 and bool((ours[30:] == 0).all()) and theirs[30] > 0.02


class OneCycle(Schedule):
    """One cycle"""

    trap = (
        "PyTorch's peak comes one step early, at `pct_start * total_steps - 1`, and its end too. It also cycles the "
        "momentum, which Optax leaves alone."
    )
    lesson = (LESSON, '"OneCycleLR(50) peaks a step early"')

    def torch(optimizer):
        return lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=50)

    def jax():
        return optax.cosine_onecycle_schedule(50, peak_value=0.1)

    def fix():
        return optax.cosine_onecycle_schedule(50 - 1, peak_value=0.1, pct_start=(0.3 * 50 - 1) / 49)

    def differ(theirs, ours):
        return int(theirs.argmax()) == 14 and int(ours.argmax()) == 15


class OwnSchedule(Schedule):
    """A schedule of your own"""

    note = "Any function of the step count, written in `jnp`: it is traced. PyTorch's is a factor, Optax's the rate."

    def torch(optimizer):
        return lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))

    def jax():
        return lambda step: 0.1 / (1 + step)


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


class NoDecayOnBiases(Pair):
    """No weight decay on biases and norms"""

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


class Freeze(Pair):
    """Freeze a layer in the optimizer"""

    inputs = {"w": normal(3), "frozen": normal(3), "g": normal(3)}
    no_gradient = NO_GRADIENT
    trap = (
        "`optax.masked` passes through what its mask leaves out: the bare gradient is added to the frozen weights, "
        "uphill. `partition` with `set_to_zero` freezes them; in NNX, `wrt=` takes a filter."
    )
    lesson = (LESSON, "masked = optax.masked(sgd")

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


class ClipTinyNorm(Pair):
    """Clip by a tiny norm"""

    inputs = {"g": lambda rng: (1e-5 * rng.normal(size=8)).astype(np.float32)}
    no_gradient = NO_GRADIENT
    trap = (
        "PyTorch divides by the norm + 1e-6, Optax by the norm: a little off at every clip, which float64 shows, and "
        "far off where gradients are as small as that."
    )
    lesson = (LESSON, "clipped to {size:.0e}: torch leaves")

    def torch(g):
        w = torch.nn.Parameter(torch.zeros(8))
        w.grad = g
        torch.nn.utils.clip_grad_norm_([w], max_norm=1e-5)
        return w.grad.norm() / 1e-5

    def jax(g):
        clipped, _ = optax.clip_by_global_norm(1e-5).update(g, optax.EmptyState())
        return optax.tree.norm(clipped) / 1e-5

    def fix(g):
        norm = optax.tree.norm(g)
        return optax.tree.norm(g * jnp.minimum(1, 1e-5 / (norm + 1e-6))) / 1e-5

    def differ(theirs, ours):
        return abs(float(ours) - 1) < 1e-5 and float(theirs) < 0.99


class Accumulate(Pair):
    """Accumulate gradients in the optimizer"""

    inputs = {"w": lambda rng: np.zeros(3, np.float32), "batches": normal(2, 3)}
    no_gradient = NO_GRADIENT
    trap = "`.grad` holds the sum of what was accumulated; `MultiSteps` takes the mean."
    lesson = (LESSON, "optax.MultiSteps(inner, every_k_schedule=2)")
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
        rule = optax.MultiSteps(optax.chain(optax.scale(2.0), optax.sgd(0.1)), every_k_schedule=2)
        state = rule.init(w)
        for x in batches:
            updates, state = rule.update(jax.grad(jnp.dot)(w, x), state, w)
        return optax.apply_updates(w, updates)

    def differ(theirs, ours):
        return np.allclose(theirs.detach(), 2 * ours, atol=1e-6)


class MovingAverage(Pair):
    """Exponential moving average of weights"""

    inputs = {"model": model, "path": normal(5, 1, 3)}
    no_gradient = NO_GRADIENT
    trap = (
        "PyTorch's average starts at the first weights. `optax.ema` starts at zero and divides the bias out: another "
        "average. It is made for updates; for weights use `incremental_update`."
    )
    lesson = (LESSON, "optax.incremental_update(weight, smooth, step_size=0.1)")

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
