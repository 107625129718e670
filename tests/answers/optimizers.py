"""Answers to the exercises of 04_optimizers."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tests.answers import right, wrong


def rule_like(decay=True, where="param_groups", momentum=True, nesterov=True, betas=lambda b: b, eps=True, last=False,
              adamw_first=True, adam=None):  # fmt: skip
    def make(optimizer):
        group = optimizer.param_groups[0] if where == "param_groups" else optimizer.defaults
        rate, amount = group["lr"], group["weight_decay"] if decay else 0.0
        links = [optax.add_decayed_weights(amount)]
        name = type(optimizer).__name__
        if name == "SGD":
            how = {"nesterov": group["nesterov"]} if nesterov else {}
            rule = optax.sgd(rate, momentum=group["momentum"] if momentum else None, **how)
            return optax.chain(rule, *links) if last else optax.chain(*links, rule)
        numbers = dict(zip(("b1", "b2"), betas(group["betas"]), strict=True))
        numbers |= {"eps": group["eps"]} if eps else {}
        if (name == "AdamW" and adamw_first) or adam == "adamw":
            return optax.adamw(rate, weight_decay=amount, **numbers)
        return optax.chain(*links, optax.adam(rate, **numbers))

    return make


wrong("ported_rule", "weight_decay is left out")(rule_like(decay=False))
wrong("ported_rule", "a scheduler changes that of param_groups")(rule_like(where="defaults"))
wrong("ported_rule", "momentum is left out")(rule_like(momentum=False))
wrong("ported_rule", "nesterov is not handed over")(rule_like(nesterov=False))
wrong("ported_rule", "the decay stands behind the rule")(rule_like(last=True))
wrong("ported_rule", "b1 and b2 are swapped")(rule_like(betas=lambda b: b[::-1]))
wrong("ported_rule", "betas are left at their defaults")(rule_like(betas=lambda b: (0.9, 0.999)))
wrong("ported_rule", "eps is left at its default")(rule_like(eps=False))
wrong("ported_rule", "betas and eps are left")(rule_like(betas=lambda b: (0.9, 0.999), eps=False))
wrong("ported_rule", "isinstance(…, Adam) takes both")(rule_like(adamw_first=False))
wrong("ported_rule", "that of Adam goes into the gradient")(rule_like(adam="adamw"))
wrong("ported_rule", "with init and update")(lambda optimizer: optimizer)


@right("ported_rule")
def by_class_name(optimizer):
    g = optimizer.param_groups[0]
    decay, rate = optax.add_decayed_weights(g["weight_decay"]), optax.scale_by_learning_rate(g["lr"])
    if "betas" not in g:
        return optax.chain(decay, optax.trace(g["momentum"], nesterov=g["nesterov"]), rate)
    scale = optax.scale_by_adam(*g["betas"], g["eps"])
    return optax.chain(scale, decay, rate) if type(optimizer).__name__ == "AdamW" else optax.chain(decay, scale, rate)


right("ported_rule")(rule_like())


def fit(uphill=False, renew=False, params_in=True, more=0, jit=True, first=False, gradient=False):
    def fitted(loss, params, rule, steps):
        grad = jax.jit(jax.grad(loss)) if jit else jax.grad(loss)
        start, state = params, rule.init(params)
        for _ in range(steps + more):
            state = rule.init(params) if renew else state
            grads = grad(start if first else params)
            updates, state = rule.update(grads, state, *([params] if params_in else []))
            params = jax.tree.map(lambda p, u: p - u if uphill else p + u, start if first else params, updates)
        return params

    return fitted


wrong("fitted_weights", "uphill: updates are to be added")(fit(uphill=True))
wrong("fitted_weights", "the state is made anew")(fit(renew=True))
wrong("fitted_weights", "uphill, and without the state")(fit(uphill=True, renew=True))
wrong("fitted_weights", "not passing `params`")(fit(params_in=False))
wrong("fitted_weights", "the loop runs in Python")(fit(jit=False))
wrong("fitted_weights", "a step too many")(fit(more=1))
wrong("fitted_weights", "a step too few")(fit(more=-1))
wrong("fitted_weights", "the weights that it began with")(lambda loss, params, rule, steps: params)
wrong("fitted_weights", "a function without `return`")(lambda *_: None)


@wrong("fitted_weights", "params are not carried on")
def one_step(loss, params, rule, steps):
    return fit()(loss, params, rule, 1)


right("fitted_weights")(fit())


@right("fitted_weights")
def by_fori_loop(loss, params, rule, steps):
    def step(_, both):
        params, state = both
        updates, state = rule.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    return jax.lax.fori_loop(0, steps, step, (params, rule.init(params)))[0]


@right("fitted_weights")
def whole_program(loss, params, rule, steps):
    return jax.jit(lambda params: by_fori_loop(loss, params, rule, steps))(params)


def cosine(epoch=lambda n, k: n // k, t=lambda e, first: e % first, low=lambda peak, floor: floor, sign=1, cos=jnp.cos):
    def warm_restarts(peak, floor, first, per_epoch):
        def schedule(count):
            end = low(peak, floor)
            return end + (peak - end) * (1 + sign * cos(jnp.pi * t(epoch(count, per_epoch), first) / first)) / 2

        return schedule

    return warm_restarts


wrong("restarting_rate", "updates are taken for epochs")(cosine(epoch=lambda n, k: n))
wrong("restarting_rate", "the cosine climbs again")(cosine(t=lambda e, first: e))
wrong("restarting_rate", "stays at the floor")(cosine(t=jnp.minimum))
wrong("restarting_rate", "// and not /")(cosine(epoch=lambda n, k: n / k))
wrong("restarting_rate", "down to 0")(cosine(low=lambda peak, floor: 0.0))
wrong("restarting_rate", "taken for a fraction")(cosine(low=lambda peak, floor: floor * peak))
wrong("restarting_rate", "a restart an epoch late")(
    lambda peak, floor, first, per_epoch: cosine()(peak, floor, first + 1, per_epoch)
)
wrong("restarting_rate", "it rises")(cosine(sign=-1))
wrong("restarting_rate", "`if` on a traced value")(cosine(t=lambda e, first: e if e < first else e - first))
wrong("restarting_rate", "NumPy inside a transformed function")(cosine(cos=np.cos))
wrong("restarting_rate", "expected a function the schedule")(lambda peak, floor, first, per_epoch: peak)


@right("restarting_rate")
def by_joined_schedules(peak, floor, first, per_epoch):
    one = optax.cosine_decay_schedule(peak, first, alpha=floor / peak)
    every = optax.join_schedules([one] * 20, [first * n for n in range(1, 20)])
    return lambda count: every(count // per_epoch)


@right("restarting_rate")
def by_a_table(peak, floor, first, per_epoch):
    table = [floor + (peak - floor) * (1 + math.cos(math.pi * t / first)) / 2 for t in range(first)]
    rates = jnp.asarray(table, jnp.float32)
    return lambda count: rates[(count // per_epoch) % first]


def care(agree=lambda u, g: u * g < 0, scale=lambda mask: jnp.maximum(mask.mean(), 1e-3), keep=True, params_in=True,
         whole=False, inner=False):  # fmt: skip
    def cautious(rule):
        def update(grads, state, params=None):
            updates, new = rule.update(grads, state, *([params] if params_in else []))
            masks = jax.tree.map(lambda u, g: agree(u, g).astype(u.dtype), updates, grads)
            all_masks = jnp.concatenate([mask.ravel() for mask in jax.tree.leaves(masks)])
            stepped = jax.tree.map(lambda u, m: u * m / scale(all_masks if whole else m), updates, masks)
            return updates if inner else stepped, new if keep else state

        return optax.GradientTransformation(rule.init, update)

    return cautious


wrong("cautious_rule", "the sign: Optax's updates are added")(care(agree=lambda u, g: u * g > 0))
wrong("cautious_rule", "not scaled up")(care(scale=lambda mask: 1.0))
wrong("cautious_rule", "the mean is over all leaves")(care(whole=True))
wrong("cautious_rule", "the sum of the mask")(care(scale=lambda mask: jnp.maximum(mask.sum(), 1e-3)))
wrong("cautious_rule", "the inner rule's state is not carried on")(care(keep=False))
wrong("cautious_rule", "0 / 0 where nothing agrees")(care(scale=lambda mask: mask.mean()))
wrong("cautious_rule", "nothing is left out")(lambda rule: rule)
wrong("cautious_rule", "not passing `params`")(care(params_in=False))
wrong("cautious_rule", "with init and update")(lambda rule: rule.update)
wrong("cautious_rule", "the weights stand still")(lambda rule: optax.chain(rule, optax.set_to_zero()))


@wrong("cautious_rule", "the pair (updates, state)")
def updates_alone(rule):
    return optax.GradientTransformation(rule.init, lambda *args: care()(rule).update(*args)[0])


@right("cautious_rule")
def with_where(rule):
    def one(u, g):
        against = u * g >= 0
        share = jnp.clip(1 - jnp.mean(against, dtype=u.dtype), 1e-3, None)
        return jnp.where(against, 0, u / share)

    def update(updates, state, params=None, **extra):
        moved, state = rule.update(updates, state, params)
        return jax.tree.map(one, moved, updates), state

    return optax.GradientTransformationExtraArgs(rule.init, update)


right("cautious_rule")(care(agree=lambda u, g: jnp.sign(u) * jnp.sign(g) == -1))
