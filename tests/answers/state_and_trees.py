"""Answers to the exercises of 03_state_and_trees."""

import jax
import jax.numpy as jnp
from flax import nnx

from tests.answers import right, wrong

LEAVES = {"leaves": 4, "second": "layer10.0", "last": "layer9.scale", "same": False}

wrong("tree_leaves", "None is no leaf")({**LEAVES, "leaves": 5})
wrong("tree_leaves", "not arrays alone")({**LEAVES, "leaves": 2})
wrong("tree_leaves", "sorted by name, not as they were written")({**LEAVES, "second": "layer9.scale"})
wrong("tree_leaves", "sorted as text")({**LEAVES, "last": "layer10.1"})
wrong("tree_leaves", "a list and a tuple are different nodes")({**LEAVES, "same": True})
wrong("tree_leaves", "expected a dict with the keys")({"leaves": 4})
wrong("tree_leaves", "filled in only in part")({**LEAVES, "second": ...})
right("tree_leaves")(dict(reversed(LEAVES.items())))
right("tree_leaves")({**LEAVES, "last": " Layer9.scale "})


def layer(momentum=lambda m: m, peak=lambda x: jnp.abs(x).max(0), box=nnx.BatchStat, first="move", write=None,
          stop=jax.lax.stop_gradient, attribute="use_running_average", gain=nnx.Param):  # fmt: skip
    class RunningScale(nnx.Module):
        def __init__(self, size, m):
            self.m = momentum(m)
            setattr(self, attribute, False)
            self.gain, self.peak = gain(jnp.ones(size)), box(jnp.zeros(size))

        def __call__(self, x):
            before = self.peak[...]
            if not getattr(self, attribute):
                new = (1 - self.m) * before + self.m * peak(stop(x))
                if write is None:
                    self.peak[...] = new
            used = {"move": self.peak[...], "divide": before}[first]
            return self.gain[...] * x / (used + 1e-6)

    return RunningScale


wrong("running_scale", "the buffer is a Param")(layer(box=nnx.Param))
wrong("running_scale", "a plain array is found by no filter")(layer(box=nnx.data))
wrong("running_scale", "train() and eval() set attributes that exist")(layer(attribute="training"))
wrong("running_scale", "momentum: it is the share of the new batch")(layer(momentum=lambda m: 1 - m))
wrong("running_scale", "the peak is that of |x|")(layer(peak=lambda x: x.max(0)))
wrong("running_scale", "every feature has its own")(layer(peak=lambda x: jnp.abs(x).max()))
wrong("running_scale", "x is divided before the peak moves")(layer(first="divide"))
wrong("running_scale", "the change is not kept")(layer(write="never"))
wrong("running_scale", "the gradient flows through the peak")(layer(stop=lambda x: x))
wrong("running_scale", "more than one Param")(layer(gain=nnx.Param, box=nnx.Param))


@wrong("running_scale", "the peak moves after eval() too")
class WithoutMode(layer()):
    def __call__(self, x):
        self.peak[...] += self.m * (jnp.abs(jax.lax.stop_gradient(x)).max(0) - self.peak[...])
        return self.gain[...] * x / (self.peak[...] + 1e-6)


@wrong("running_scale", "a forgotten return")
class NothingReturned(layer()):
    def __call__(self, x):
        super().__call__(x)


@wrong("running_scale", "the batch's own peak in training")
class LikeBatchNorm(layer()):
    def __call__(self, x):
        super().__call__(x)
        peak = self.peak[...] if self.use_running_average else jnp.abs(jax.lax.stop_gradient(x)).max(0)
        return self.gain[...] * x / (peak + 1e-6)


@right("running_scale")
class ByIncrementalUpdate(nnx.Module):
    def __init__(self, size, momentum, *, dtype=jnp.float32):
        self.momentum, self.use_running_average = momentum, False
        self.peak, self.gain = nnx.BatchStat(jnp.zeros(size, dtype)), nnx.Param(jnp.ones(size, dtype))

    def __call__(self, x):
        running = self.peak[...]
        if self.use_running_average is False:
            running = self.momentum * jnp.max(jnp.abs(x), axis=0) + (1 - self.momentum) * running
            running = jax.lax.stop_gradient(running)
            self.peak[...] = running
        return self.gain * x / (running + 1e-6)


right("running_scale")(layer(peak=lambda x: jnp.maximum(x.max(0), -x.min(0))))


def loop(keep, write=nnx.update, better=lambda now, low: now < low, start=float("inf"), before=False, last=False):
    def train_best(model, step, score, steps):
        lowest = start
        if before:
            lowest, best = float(score(model)), keep(model)
        for _ in range(steps):
            step(model)
            now = float(score(model))
            if better(now, lowest):
                lowest, best = now, keep(model)
        write(model, best)
        return now if last else lowest

    return train_best


def copied(model):
    return jax.tree.map(jnp.copy, nnx.state(model))


wrong("best_weights", "nnx.state shares the live boxes")(loop(nnx.state))
wrong("best_weights", "nnx.state shares the live boxes")(loop(copied, write=lambda model, best: None))
wrong("best_weights", "keep all of the state")(loop(lambda model: jax.tree.map(jnp.copy, nnx.state(model, nnx.Param))))
wrong("best_weights", "the largest score")(loop(copied, better=lambda now, low: now > low, start=-1.0))
wrong("best_weights", "the start, which was not to be scored")(loop(copied, before=True))
wrong("best_weights", "the last score")(loop(copied, last=True))


@wrong("best_weights", "an array assigned over a Param")
def assigned(model, step, score, steps):
    lowest = float("inf")
    for _ in range(steps):
        step(model)
        if float(score(model)) < lowest:
            lowest, weight, mean = float(score(model)), model.weight[...], model.mean[...]
    model.weight, model.mean = weight, mean
    return lowest


@wrong("best_weights", "step was called")
def one_step_too_many(model, step, score, steps):
    step(model)
    return loop(copied)(model, step, score, steps)


@wrong("best_weights", "a copy of the model was trained")
def of_a_copy(model, step, score, steps):
    return loop(copied)(nnx.clone(model), step, score, steps)


@wrong("best_weights", "a function without `return`")
def nothing_returned(*args):
    loop(copied)(*args)


right("best_weights")(loop(lambda model: nnx.state(nnx.clone(model))))


@right("best_weights")
def with_arrays_alone(model, step, score, steps):
    kept = []
    for _ in range(steps):
        step(model)
        kept.append((score(model), jax.tree.map(jnp.array, nnx.to_pure_dict(nnx.state(model)))))
    lowest, best = min(kept, key=lambda pair: float(pair[0]))
    nnx.update(model, best)
    return lowest


def calls(carry=True, keys=jax.random.fold_in, train=True, result=lambda variables, changed: variables, chosen=None):
    def refreshed(net, variables, batches, key):
        now = variables
        for i, x in enumerate(batches[chosen or slice(None)]):
            rngs = {"dropout": keys(key, i)}
            _, changed = net.apply(now if carry else variables, x, train=train, mutable=["batch_stats"], rngs=rngs)
            now = {**now, **changed}
        return result(now, changed)

    return refreshed


wrong("refreshed_averages", "one key for every batch")(calls(keys=lambda key, i: key))
wrong("refreshed_averages", "train=True is missing")(calls(train=False))
wrong("refreshed_averages", "every call began with the old averages")(calls(carry=False))
wrong("refreshed_averages", "only the changed collection")(calls(result=lambda variables, changed: changed))
wrong("refreshed_averages", "without their collection's name")(
    calls(result=lambda variables, changed: changed["batch_stats"])
)
wrong("refreshed_averages", "a forgotten return")(calls(result=lambda variables, changed: None))
wrong("refreshed_averages", "a batch too few")(calls(chosen=slice(None, -1)))


@wrong("refreshed_averages", "all rows as one batch")
def in_one_call(net, variables, batches, key):
    x = jnp.concatenate(batches)
    return {**variables, **net.apply(variables, x, train=True, mutable="batch_stats", rngs={"dropout": key})[1]}


@wrong("refreshed_averages", "ModifyScopeVariableError")
def without_mutable(net, variables, batches, key):
    for x in batches:
        net.apply(variables, x, train=True, rngs={"dropout": key})
    return variables


@wrong("refreshed_averages", "InvalidRngError")
def without_a_key(net, variables, batches, key):
    for x in batches:
        _, changed = net.apply(variables, x, train=True, mutable=["batch_stats"])
        variables = {**variables, **changed}
    return variables


@right("refreshed_averages")
def with_split_keys(net, variables, batches, key):
    for x, sub in zip(batches, jax.random.split(key, len(batches)), strict=True):
        _, variables = net.apply(variables, x, train=True, mutable=True, rngs={"dropout": sub})
    return variables


@right("refreshed_averages")
def by_scan(net, variables, batches, key):
    def one(stats, given):
        x, key = given
        both = {"params": variables["params"], "batch_stats": stats}
        return net.apply(both, x, train=True, mutable=["batch_stats"], rngs={"dropout": key})[1]["batch_stats"], None

    keys = jax.random.split(key, len(batches))
    stats, _ = jax.lax.scan(one, variables["batch_stats"], (jnp.stack(batches), keys))
    return {"params": variables["params"], "batch_stats": stats}
