"""Answers to the exercises of 04b_training_rules."""

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from tests.answers import right, wrong


def by_depth(power, order=lambda names: sorted(names, key=lambda name: int(name[5:]))):
    def layerwise(params, rate, factor):
        names = [*order([name for name in params if name != "head"]), "head"]
        rates = {name: rate * factor ** power(n, len(names) - 1) for n, name in enumerate(names)}
        return optax.partition({name: optax.adam(r) for name, r in rates.items()}, {name: name for name in params})

    return layerwise


wrong("layerwise_rates", "ordered as text")(by_depth(lambda n, depth: depth - n, order=sorted))
wrong("layerwise_rates", "the head is the slowest")(by_depth(lambda n, depth: n))
wrong("layerwise_rates", "the first layer is the fastest")(by_depth(lambda n, depth: n if n < depth else 0))
wrong("layerwise_rates", "the last layer has the head's rate")(by_depth(lambda n, depth: max(depth - 1 - n, 0)))
wrong("layerwise_rates", "all layers have one rate")(by_depth(lambda n, depth: min(depth - n, 1)))
wrong("layerwise_rates", "ValueError")(
    lambda params, rate, factor: optax.partition({"head": optax.adam(rate)}, "layer")
)


@wrong("layerwise_rates", "a factor in front of it is lost")
def scaled_in_front(params, rate, factor):
    depth = len(params) - 1
    rules = {name: optax.scale(factor ** (depth - n)) for n, name in enumerate(params)}
    return optax.chain(optax.partition(rules, {name: name for name in params}), optax.adam(rate))


@right("layerwise_rates")
def scaled_behind(params, rate, factor):
    depth = len(params) - 1
    down = {name: 0 if name == "head" else depth - int(name[5:]) for name in params}
    rules = {n: optax.scale(-rate * factor**n) for n in down.values()}
    return optax.chain(optax.scale_by_adam(), optax.partition(rules, down))


right("layerwise_rates")(by_depth(lambda n, depth: depth - n))


def scan(over=lambda parts, rows: parts, start=jnp.zeros_like, keep=lambda total, g: total + g):
    def in_parts(loss, params, x, y, parts):
        def add(total, part):
            return jax.tree.map(keep, total, jax.grad(loss)(params, *part)), None

        split = x.reshape(parts, -1, x.shape[1]), y.reshape(parts, -1)
        total, _ = jax.lax.scan(add, jax.tree.map(start, params), split)
        return jax.tree.map(lambda g: g / over(parts, len(x)), total)

    return in_parts


wrong("gradient_in_parts", "divide by parts")(scan(over=lambda parts, rows: 1))
wrong("gradient_in_parts", "the last part alone")(scan(over=lambda parts, rows: 1, keep=lambda total, g: g))
wrong("gradient_in_parts", "the last part alone, divided by parts")(scan(keep=lambda total, g: g))
wrong("gradient_in_parts", "divided by the rows")(scan(over=lambda parts, rows: rows))
wrong("gradient_in_parts", "the whole batch at once")(lambda loss, params, x, y, parts: jax.grad(loss)(params, x, y))
wrong("gradient_in_parts", "is not right")(scan(start=jnp.ones_like))


@wrong("gradient_in_parts", "a Python loop")
def in_a_python_loop(loss, params, x, y, parts):
    total = jax.tree.map(jnp.zeros_like, params)
    for a, b in zip(jnp.split(x, parts), jnp.split(y, parts), strict=True):
        total = jax.tree.map(jnp.add, total, jax.grad(loss)(params, a, b))
    return jax.tree.map(lambda g: g / parts, total)


@wrong("gradient_in_parts", "jax.vmap takes all parts at once")
def by_vmap(loss, params, x, y, parts):
    split = x.reshape(parts, -1, x.shape[1]), y.reshape(parts, -1)
    return jax.tree.map(lambda g: g.mean(0), jax.vmap(jax.grad(loss), in_axes=(None, 0, 0))(params, *split))


@wrong("gradient_in_parts", "the first part counts twice")
def first_part_twice(loss, params, x, y, parts):
    split = x.reshape(parts, -1, x.shape[1]), y.reshape(parts, -1)
    start = jax.grad(loss)(params, split[0][0], split[1][0])
    add = lambda total, part: (jax.tree.map(jnp.add, total, jax.grad(loss)(params, *part)), None)  # noqa: E731
    return jax.tree.map(lambda g: g / parts, jax.lax.scan(add, start, split)[0])


@right("gradient_in_parts")
def by_lax_map(loss, params, x, y, parts):
    split = x.reshape(parts, -1, x.shape[1]), y.reshape(parts, -1)
    return jax.tree.map(lambda g: g.mean(0), jax.lax.map(lambda part: jax.grad(loss)(params, *part), split))


@right("gradient_in_parts")
def by_fori_loop(loss, params, x, y, parts):
    rows = len(x) // parts

    def add(n, total):
        a, b = (jax.lax.dynamic_slice_in_dim(array, n * rows, rows) for array in (x, y))
        return jax.tree.map(lambda t, g: t + g / parts, total, jax.grad(loss)(params, a, b))

    return jax.lax.fori_loop(0, parts, add, jax.tree.map(jnp.zeros_like, params))


@right("gradient_in_parts")
def gradient_of_a_scan(loss, params, x, y, parts):
    split = x.reshape(parts, -1, x.shape[1]), y.reshape(parts, -1)
    step = jax.checkpoint(lambda total, part, params: total + loss(params, *part) / parts)

    def whole(params):
        return jax.lax.scan(lambda total, part: (step(total, part, params), None), 0.0, split)[0]

    return jax.jit(jax.grad(whole))(params)


BIASES = nnx.All(nnx.Param, nnx.PathContains("bias"))


def biased(wrt=BIASES, by=BIASES, swap=False, renew=False, steps=None, result=lambda optimizer: optimizer, zero=False,
           copy=lambda model: model):  # fmt: skip
    def train_biases(model, loss, rule, batches):
        model = copy(model)
        optimizer = nnx.Optimizer(model, rule, wrt=wrt)
        for x, y in batches[:steps]:
            if renew:
                optimizer = nnx.Optimizer(model, rule, wrt=wrt)
            grads = nnx.grad(loss, argnums=nnx.DiffState(0, by))(model, x, y)
            if zero:
                grads = jax.tree.map_with_path(lambda p, g: g if "bias" in jax.tree_util.keystr(p) else 0 * g, grads)
            if swap:
                optimizer.update(grads, nnx.state(model, wrt))
            else:
                optimizer.update(model, grads)
        return result(optimizer)

    return train_biases


wrong("trained_biases", "kernels are trained too")(biased(wrt=nnx.Param, by=nnx.Param))
wrong("trained_biases", "still lets AdamW decay it")(biased(wrt=nnx.Param, by=nnx.Param, zero=True))
wrong("trained_biases", "the last layer's bias alone")(biased(*[nnx.All(BIASES, nnx.PathContains("outer"))] * 2))
wrong("trained_biases", "were the arguments of update swapped")(biased(swap=True))
wrong("trained_biases", "was a copy trained")(biased(copy=nnx.clone))
wrong("trained_biases", "the optimizer is made anew")(biased(renew=True))
wrong("trained_biases", "one batch alone")(biased(steps=1))
wrong("trained_biases", "a forgotten return")(biased(result=lambda optimizer: None))
wrong("trained_biases", "ValueError")(biased(wrt=nnx.Param))


@wrong("trained_biases", "keeps moments of the kernels")
def put_back(model, loss, rule, batches):
    kernels = jax.tree.map(jnp.copy, nnx.state(model, nnx.PathContains("kernel")))
    optimizer = nnx.Optimizer(model, rule, wrt=nnx.Param)
    for x, y in batches:
        optimizer.update(model, nnx.grad(loss)(model, x, y))
        nnx.update(model, kernels)
    return optimizer


@right("trained_biases")
def compiled(model, loss, rule, batches):
    chosen = lambda path, box: path[-1] == "bias"  # noqa: E731
    optimizer = nnx.Optimizer(model, rule, wrt=chosen)

    @nnx.jit
    def step(model, optimizer, x, y):
        _, grads = nnx.value_and_grad(loss, argnums=nnx.DiffState(0, chosen))(model, x, y)
        optimizer.update(model, grads)

    for batch in batches:
        step(model, optimizer, *batch)
    return optimizer


right("trained_biases")(biased(nnx.PathContains("bias"), nnx.PathContains("bias")))


def guard(calm=lambda grads, limit: optax.global_norm(grads) <= limit, mend=None, of_updates=True, of_state=True,
          skipped=lambda u, g: 0 * u):  # fmt: skip
    def without_spikes(rule, limit):
        def update(grads, state, params=None):
            good = calm(grads, limit)
            updates, new = rule.update(mend(grads, good) if mend else grads, state, params)
            if of_updates:
                updates = jax.tree.map(lambda u, g: jnp.where(good, u, skipped(u, g)), updates, grads)
            if of_state:
                new = jax.tree.map(lambda new, old: jnp.where(good, new, old), new, state)
            return updates, new

        return optax.GradientTransformation(rule.init, update)

    return without_spikes


def zeroed(grads, good):
    return jax.tree.map(lambda g: jnp.where(good, g, 0), grads)


wrong("skipped_steps", "nothing is skipped")(lambda rule, limit: rule)
wrong("skipped_steps", "the gradient is clipped")(
    lambda rule, limit: optax.chain(optax.clip_by_global_norm(limit), rule)
)
wrong("skipped_steps", "the state has taken the spike in")(guard(of_state=False))
wrong("skipped_steps", "momentum goes on moving")(guard(mend=zeroed, of_updates=False, of_state=False))
wrong("skipped_steps", "the raw gradient is added")(guard(skipped=lambda u, g: g))
wrong("skipped_steps", "turned round")(guard(calm=lambda grads, limit: optax.global_norm(grads) > limit))
wrong("skipped_steps", "nan > limit is False")(
    guard(calm=lambda grads, limit: ~(optax.global_norm(grads) > limit), skipped=lambda u, g: jnp.zeros_like(u))
)
wrong("skipped_steps", "choose with jnp.where")(guard())  # 0 * nan
wrong("skipped_steps", "all steps are skipped")(lambda rule, limit: optax.set_to_zero())


@wrong("skipped_steps", "judged by its own norm")
def leaf_by_leaf(rule, limit):
    def update(grads, state, params=None):
        updates, new = rule.update(grads, state, params)
        calm = jax.tree.map(lambda g: jnp.linalg.norm(g) <= limit, grads)
        updates = jax.tree.map(lambda u, c: jnp.where(c, u, 0), updates, calm)
        trace = jax.tree.map(jnp.where, calm, new[0].trace, state[0].trace)
        return updates, (new[0]._replace(trace=trace), *new[1:])

    return optax.GradientTransformation(rule.init, update)


@wrong("skipped_steps", "`if` on a traced value")
def with_if(rule, limit):
    def update(grads, state, params=None):
        if optax.global_norm(grads) <= limit:
            return rule.update(grads, state, params)
        return jax.tree.map(jnp.zeros_like, grads), state

    return optax.GradientTransformation(rule.init, update)


@right("skipped_steps")
def by_cond(rule, limit):
    def update(grads, state, params=None):
        def skip():
            return jax.tree.map(jnp.zeros_like, grads), state

        calm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(grads))) <= limit
        return jax.lax.cond(calm, lambda: rule.update(grads, state, params), skip)

    return optax.GradientTransformation(rule.init, update)


right("skipped_steps")(guard(skipped=lambda u, g: jnp.zeros_like(u)))
