"""Learning-rate schedules

A schedule is a function from the number of updates, not of epochs, to a rate, and stands where the learning rate would.
Optax counts in int32, and in JAX int32 / int is float32 even with x64 on: so are the rates where a schedule of Optax's
divides the step. Those are written out here, or handed `jnp.asarray(step, float)`.
"""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import torch
from torch.optim import lr_scheduler

import course.optimizers
from rosetta.kinds import Pair, Schedule, normal
from rosetta.optimizers import LESSON, NO_GRADIENT, apart
from tools.environment import double_precision


def optimizer(rng):
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)


def train_epoch(rng):
    def five_steps(optimizer):
        for _ in range(5):
            optimizer.step()

    return five_steps


class StepLR(Schedule):
    """Divide the rate every few steps"""

    trap = "`exponential_decay` falls a little at every step, unless it is told `staircase=True`."
    lesson = (LESSON, "trap:step-lr")
    note = (
        "`optax.exponential_decay(0.1, 10, 0.1, staircase=True)` is the same in float32, and returns float32 with x64 "
        "on. So do `linear_schedule`, `polynomial_schedule` and `warmup_cosine_decay_schedule`, unless the step is a "
        "float."
    )

    def torch(optimizer):
        return lr_scheduler.StepLR(optimizer, step_size=10, gamma=0.1)

    def jax():
        return optax.exponential_decay(0.1, transition_steps=10, decay_rate=0.1)

    def fix():
        return lambda step: 0.1 * 0.1 ** (step // 10)

    def differ(theirs, ours):
        return apart(theirs[::10], ours[::10]) < 1e-6 and bool((ours[1:10] < theirs[1:10] - 0.01).all())

    def claims():
        staircase = optax.exponential_decay(0.1, 10, 0.1, staircase=True)
        steps = np.arange(40)
        assert np.allclose(jax.vmap(staircase)(jnp.asarray(steps)), 0.1 * 0.1 ** (steps // 10), rtol=1e-5)
        schedules = (
            staircase, optax.linear_schedule(0.1, 0.0, 10), optax.polynomial_schedule(0.1, 0.0, 2.0, 10),
            optax.warmup_cosine_decay_schedule(0.01, 0.1, 10, 40),
        )  # fmt: skip
        with double_precision():
            for schedule in schedules:
                for counted, rate in ((jnp.int32, jnp.float32), (jnp.float64, jnp.float64)):
                    assert jax.eval_shape(schedule, jax.ShapeDtypeStruct((), counted)).dtype == rate


class Epochs(Pair):
    """A schedule that counts epochs"""

    inputs = {"optimizer": optimizer, "train_epoch": train_epoch}
    trap = (
        "PyTorch's `schedule.step()` is called when you like, often once an epoch. Optax's schedule counts updates: "
        "multiply the epochs by the steps in one."
    )
    lesson = (LESSON, "trap:step-lr")

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
    lesson = (LESSON, "trap:cosine-lr")

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
    lesson = (LESSON, "trap:cosine-lr")

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
    lesson = (LESSON, "trap:cosine-lr")

    def torch(optimizer):
        warm_up = lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=10)
        decay = lr_scheduler.CosineAnnealingLR(optimizer, T_max=30)
        return lr_scheduler.SequentialLR(optimizer, [warm_up, decay], milestones=[10])

    def jax():
        return optax.warmup_cosine_decay_schedule(0.01, 0.1, warmup_steps=10, decay_steps=30)

    def fix():
        schedule = optax.warmup_cosine_decay_schedule(0.01, 0.1, warmup_steps=10, decay_steps=10 + 30)
        return lambda step: schedule(jnp.asarray(step, float))  # float64 with x64 on

    def differ(theirs, ours):
        return apart(theirs[:11], ours[:11]) < 1e-6 and bool((ours[30:] == 0).all()) and theirs[30] > 0.02


class OneCycle(Schedule):
    """One cycle"""

    trap = (
        "PyTorch's peak comes one step early, at `pct_start * total_steps - 1`, and its end too. It also cycles the "
        "momentum, which Optax leaves alone."
    )
    lesson = (LESSON, "trap:cosine-lr")

    def torch(optimizer):
        return lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=50)

    def jax():
        return optax.cosine_onecycle_schedule(50, peak_value=0.1)

    def fix():
        schedule = optax.cosine_onecycle_schedule(50 - 1, peak_value=0.1, pct_start=(0.3 * 50 - 1) / 49)
        return lambda step: schedule(jnp.asarray(step, float))  # float64 with x64 on

    def differ(theirs, ours):
        return int(theirs.argmax()) == 14 and int(ours.argmax()) == 15

    def claims():
        sgd = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
        schedule, momenta = lr_scheduler.OneCycleLR(sgd, max_lr=0.1, total_steps=50), []
        for _ in range(49):
            momenta.append(sgd.param_groups[0]["momentum"])
            sgd.step(), schedule.step()
        assert np.argmin(momenta) == 14 and np.isclose([momenta[0], min(momenta)], [0.95, 0.85]).all()


class OwnSchedule(Schedule):
    """A schedule of your own"""

    note = "Any function of the step count, written in `jnp`: it is traced. PyTorch's is a factor, Optax's the rate."

    def torch(optimizer):
        return lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))

    def jax():
        return lambda step: 0.1 / (1 + step)


class ExponentialLR(Schedule):
    """Exponential decay, a factor at every step"""

    float32_only = ("jax",)
    note = "`exponential_decay` divides the step by `transition_steps`: float32 rates, with x64 on too."

    def torch(optimizer):
        return lr_scheduler.ExponentialLR(optimizer, gamma=0.9)

    def jax():
        return optax.exponential_decay(0.1, transition_steps=1, decay_rate=0.9)

    def fix():
        return lambda step: 0.1 * 0.9**step


class PolynomialLR(Schedule):
    """Polynomial decay"""

    float32_only = ("jax",)
    note = "The rates are float32 with x64 on too, unless the step is a float."

    def torch(optimizer):
        return lr_scheduler.PolynomialLR(optimizer, total_iters=20, power=2.0)

    def jax():
        return optax.polynomial_schedule(0.1, 0.0, power=2.0, transition_steps=20)

    def fix():
        schedule = optax.polynomial_schedule(0.1, 0.0, power=2.0, transition_steps=20)
        return lambda step: schedule(jnp.asarray(step, float))


class LinearLR(Schedule):
    """Linear warm-up"""

    float32_only = ("jax",)
    note = (
        "PyTorch's factors are on the optimizer's rate, Optax's numbers are rates: float32, unless the step is a float."
    )

    def torch(optimizer):
        return lr_scheduler.LinearLR(optimizer, start_factor=0.25, total_iters=8)

    def jax():
        return optax.linear_schedule(0.25 * 0.1, 0.1, transition_steps=8)

    def fix():
        return lambda step: 0.1 * (0.25 + 0.75 * jnp.minimum(step, 8) / 8.0)


class ConstantLR(Schedule):
    """A smaller rate for the first steps"""

    def torch(optimizer):
        return lr_scheduler.ConstantLR(optimizer, factor=0.25, total_iters=8)

    def jax():
        return optax.piecewise_constant_schedule(0.25 * 0.1, {8: 4.0})


class MultiplicativeLR(Schedule):
    """A factor for each step"""

    note = "A schedule sees no rate before it, only the step: write the product of all factors up to there."

    def torch(optimizer):
        return lr_scheduler.MultiplicativeLR(optimizer, lambda step: 0.9 if step < 20 else 1.0)

    def jax():
        return lambda step: 0.1 * 0.9 ** jnp.minimum(step, 19)


class SequentialLR(Schedule):
    """One schedule after another"""

    also = ("lr_scheduler.SequentialLR",)
    note = "Each schedule counts from its own beginning, on both sides."

    def torch(optimizer):
        low = lr_scheduler.ConstantLR(optimizer, factor=0.1, total_iters=10)
        decay = lr_scheduler.ExponentialLR(optimizer, gamma=0.9)
        return lr_scheduler.SequentialLR(optimizer, [low, decay], milestones=[10])

    def jax():
        schedules = [optax.constant_schedule(0.01), lambda step: 0.1 * 0.9**step]
        return optax.join_schedules(schedules, boundaries=[10])


class ChainedScheduler(Schedule):
    """Several schedules at once"""

    note = "The factors are multiplied."

    def torch(optimizer):
        low = lr_scheduler.ConstantLR(optimizer, factor=0.1, total_iters=10)
        return lr_scheduler.ChainedScheduler([low, lr_scheduler.ExponentialLR(optimizer, gamma=0.9)])

    def jax():
        return lambda step: 0.1 * jnp.where(step < 10, 0.1, 1.0) * 0.9**step


class WarmRestarts(Schedule):
    """Cosine decay with warm restarts (SGDR)"""

    also = ("lr_scheduler.CosineAnnealingWarmRestarts",)
    note = "The remainder restarts it; cycles that grow (`T_mult=2`) are joined."

    def torch(optimizer):
        return lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=10)

    def jax():
        return lambda step: 0.1 * (1 + jnp.cos(jnp.pi * (step % 10) / 10)) / 2


class GrowingRestarts(Schedule):
    """Warm restarts whose cycles grow"""

    note = "`alpha` is `eta_min` over the first rate. `optax.sgdr_schedule` joins cycles with a warm-up each."

    def torch(optimizer):
        return lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=10, T_mult=2, eta_min=0.01)

    def jax():
        cycles = [optax.cosine_decay_schedule(0.1, length, alpha=0.1) for length in (10, 20, 40)]
        return optax.join_schedules(cycles, boundaries=[10, 30])

    def claims():
        cycle = {"init_value": 0.01, "peak_value": 0.1, "warmup_steps": 2, "decay_steps": 10, "end_value": 0.0}
        rates = jax.vmap(optax.sgdr_schedule([cycle, cycle]))(jnp.arange(20))
        assert np.allclose(rates[:3], [0.01, 0.055, 0.1]) and np.allclose(rates[10:], rates[:10])


class CyclicLR(Schedule):
    """A cyclic rate (triangles)"""

    note = (
        "A schedule of one's own, as Optax knows no triangle. PyTorch's `triangular2` halves the height each time: "
        "times `0.5 ** (step // 10)`; its default cycles SGD's momentum as well."
    )

    def torch(optimizer):
        return lr_scheduler.CyclicLR(optimizer, base_lr=0.01, max_lr=0.1, step_size_up=5, cycle_momentum=False)

    def jax():
        return lambda step: 0.01 + 0.09 * (1 - jnp.abs(step % 10 - 5.0) / 5)

    def claims():
        halved = type("Halved", (Schedule,), {
            "torch": lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, 5, mode="triangular2", cycle_momentum=False),
            "jax": lambda: lambda step: 0.01 + 0.09 * (1 - jnp.abs(step % 10 - 5.0) / 5) * 0.5 ** (step // 10),
        })  # fmt: skip
        halved.check(1)
        sgd = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
        schedule = lr_scheduler.CyclicLR(sgd, 0.01, 0.1, 5)
        sgd.step(), schedule.step()
        assert sgd.param_groups[0]["momentum"] < 0.9


class InverseRoot(Schedule):
    """Warm-up, then one over the root (Noam)"""

    def torch(optimizer):
        return lr_scheduler.LambdaLR(optimizer, lambda step: min((step + 1) / 10, (10 / (step + 1)) ** 0.5))

    def jax():
        return lambda step: 0.1 * jnp.minimum((step + 1.0) / 10, (10 / (step + 1.0)) ** 0.5)


class ToSWA(Schedule):
    """Anneal to the rate of weight averaging"""

    def torch(optimizer):
        return torch.optim.swa_utils.SWALR(optimizer, swa_lr=0.01, anneal_epochs=10)

    def jax():
        return lambda step: 0.01 + 0.09 * (1 + jnp.cos(jnp.pi * jnp.minimum(step, 10) / 10)) / 2


class Plateau(Pair):
    """Lower the rate when the loss stops falling"""

    inputs = {"losses": [1.0, 0.5, 0.5, 0.5, 0.5, 0.5], "optimizer": optimizer}
    trap = (
        "Optax lowers the rate at the bad value number `patience`, PyTorch at the one after: with the same number "
        "Optax is early. It looks at the value of every update, and knows no `mode='max'`."
    )
    lesson = (LESSON, "trap:plateau")
    note = (
        "With `optax.contrib`, say `patience + 1`. The course's is made for a chain, `optax.chain(optax.sgd(0.1), "
        "course.optimizers.reduce_on_plateau(learning_rate=0.1))`: an update without `value=` does not count, so that "
        "a validation loss is handed over once an epoch. The other arguments are PyTorch's."
    )

    def torch(losses, optimizer):
        schedule = lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=2)
        return [schedule.step(loss) or optimizer.param_groups[0]["lr"] for loss in losses]

    def jax(losses):
        rule = optax.contrib.reduce_on_plateau(factor=0.1, patience=2)
        states = [rule.init(jnp.zeros(()))]
        for loss in losses:
            states.append(rule.update(jnp.zeros(()), states[-1], value=loss)[1])
        return [0.1 * state.scale for state in states[1:]]

    def fix(losses):
        rule = course.optimizers.reduce_on_plateau(factor=0.1, patience=2)
        states = [rule.init(None)]
        for loss in losses:
            states.append(rule.update(None, states[-1], value=loss)[1])
        return [0.1 * state.scale for state in states[1:]]

    def differ(theirs, ours):
        theirs, ours = np.array(theirs), np.array(ours)
        return np.allclose(theirs, [0.1] * 4 + [0.01] * 2) and np.allclose(ours, [0.1] * 3 + [0.01] * 2 + [0.001])

    def claims():
        assert "mode" not in inspect.signature(optax.contrib.reduce_on_plateau).parameters
        rule, rates = optax.contrib.reduce_on_plateau(factor=0.1, patience=2 + 1), []
        state, update = rule.init(jnp.zeros(())), jax.jit(rule.update)
        for loss in Plateau.inputs["losses"]:
            _, state = update(jnp.zeros(()), state, value=loss)
            rates.append(0.1 * state.scale)
        assert np.allclose(rates, [0.1] * 4 + [0.01] * 2)
        chain = optax.chain(
            optax.sgd(0.1), course.optimizers.reduce_on_plateau(patience=0, factor=0.5, learning_rate=0.1)
        )
        state = chain.init(jnp.ones(()))
        for value, rate in ((1.0, 0.1), (None, 0.1), (1.0, 0.05), (None, 0.05)):
            updates, state = chain.update(jnp.ones(()), state, value=value)
            assert np.isclose(updates, -rate)


class PresentRate(Pair):
    """Read the present rate"""

    inputs = {"optimizer": optimizer, "train_epoch": train_epoch, "w": normal(3), "g": normal(3)}
    no_gradient = NO_GRADIENT
    also = ("lr_scheduler.LRScheduler", "lr_scheduler.LRScheduler.get_last_lr", "lr_scheduler.LRScheduler.step")
    note = "Or call the schedule with the number of updates so far: it is a function."

    def torch(optimizer):
        schedule = lr_scheduler.ExponentialLR(optimizer, gamma=0.9)
        for _ in range(3):
            optimizer.step(), schedule.step()
        return torch.tensor(schedule.get_last_lr()[0])

    def jax(w, g):
        rule = optax.inject_hyperparams(optax.sgd)(learning_rate=lambda step: 0.1 * 0.9**step)
        state = rule.init(w)
        for _ in range(4):  # the rate of the fourth step
            _, state = rule.update(g, state, w)
        return state.hyperparams["learning_rate"]


class ResumeSchedule(Pair):
    """Go on with a schedule where it stopped"""

    inputs = {"optimizer": optimizer}
    note = (
        "The count is part of the optimizer's state: restored with it, the schedule goes on. With a fresh state shift "
        "the step."
    )

    def torch(optimizer):
        optimizer.param_groups[0]["initial_lr"] = 0.1
        schedule = lr_scheduler.LambdaLR(optimizer, lambda step: 0.9**step, last_epoch=7)
        return torch.tensor(schedule.get_last_lr()[0])

    def jax():
        schedule = lambda step: 0.1 * 0.9**step  # noqa: E731
        resumed = lambda step: schedule(step + 8)  # noqa: E731
        return resumed(jnp.int32(0))


class MomentumSchedule(Pair):
    """A schedule for the momentum"""

    inputs = {"w": normal(3), "g": normal(4, 3)}
    no_gradient = NO_GRADIENT
    note = "`inject_hyperparams` takes a schedule for any number that a rule has. This is what `OneCycleLR` does too."

    def torch(w, g):
        optimizer = torch.optim.SGD([w], lr=0.1, momentum=0.5)
        for step, w.grad in enumerate(g):
            optimizer.param_groups[0]["momentum"] = 0.5 + 0.1 * step
            optimizer.step()
        return -0.1 * optimizer.state[w]["momentum_buffer"]

    def jax(w, g):
        rule = optax.inject_hyperparams(optax.sgd)(learning_rate=0.1, momentum=lambda step: 0.5 + 0.1 * step)
        state = rule.init(w)
        for grads in g:
            updates, state = rule.update(grads, state, w)
        return updates


class GroupSchedules(Pair):
    """A schedule for each group"""

    inputs = {"w": normal(3), "head": normal(2)}
    no_gradient = NO_GRADIENT

    def torch(w, head):
        optimizer = torch.optim.SGD([{"params": [w]}, {"params": [head], "lr": 0.01}], lr=0.1)
        schedule = lr_scheduler.LambdaLR(optimizer, [lambda step: 0.5**step, lambda step: 1.0])
        w.grad, head.grad = torch.ones(3), torch.ones(2)
        optimizer.step(), schedule.step(), optimizer.step()
        return head, w

    def jax(w, head):
        rules = {"w": optax.sgd(lambda step: 0.1 * 0.5**step), "head": optax.sgd(0.01)}
        params, rule = {"w": w, "head": head}, optax.partition(rules, {"w": "w", "head": "head"})
        state, ones = rule.init(params), jax.tree.map(jnp.ones_like, params)
        first, state = rule.update(ones, state)
        return optax.apply_updates(optax.apply_updates(params, first), rule.update(ones, state)[0])
