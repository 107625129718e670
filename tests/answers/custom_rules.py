"""Answers to the exercises of 09b_custom_rules."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from tests.answers import right, wrong


def clip_with(bwd, **options):
    @partial(jax.custom_vjp, **(options or {"nondiff_argnums": (2,)}))
    def inward_clip(x, bias, limit):
        return jnp.clip(x + bias, -limit, limit)

    inward_clip.defvjp(lambda x, bias, limit: (inward_clip(x, bias, limit), x + bias), bwd)
    return inward_clip


def stopped(limit, shifted, g):
    return jnp.where((jnp.abs(shifted) > limit) & (g * shifted < 0), 0, g)


def summed(g):
    return g, g.sum(0)


wrong("inward_clip", "the gradient of a plain clip")(lambda x, bias, limit: jnp.clip(x + bias, -limit, limit))
wrong("inward_clip", "straight through")(clip_with(lambda limit, shifted, g: summed(g)))
wrong("inward_clip", "the wrong ones are stopped")(clip_with(lambda c, s, g: summed(stopped(c, -s, g))))
wrong("inward_clip", "stopped inside the range as well")(clip_with(lambda c, s, g: summed(jnp.where(g * s < 0, 0, g))))
wrong("inward_clip", "needs the sum")(clip_with(lambda c, s, g: (stopped(c, s, g), stopped(c, s, g).mean(0))))
wrong("inward_clip", "so its share is a sum")(clip_with(lambda c, s, g: (stopped(c, s, g),) * 2))
wrong("inward_clip", "one cotangent for each argument")(clip_with(lambda c, s, g: (stopped(c, s, g),)))
wrong("inward_clip", "static settings come first")(clip_with(lambda s, g, c: summed(stopped(c, s, g))))
wrong("inward_clip", "nothing is clipped")(lambda x, bias, limit: x + bias)


@right("inward_clip")
@jax.custom_vjp
def the_limit_as_an_argument(x, bias, limit):
    return jnp.minimum(jnp.maximum(x + bias, -limit), limit)


def with_limit_bwd(saved, g):
    shifted, limit = saved
    return *summed(stopped(limit, shifted, g)), None


the_limit_as_an_argument.defvjp(lambda x, b, c: (jnp.clip(x + b, -c, c), (x + b, c)), with_limit_bwd)


@right("inward_clip")
def a_rule_for_the_clip_alone(x, bias, limit):
    @jax.custom_vjp
    def clip(shifted):
        return jnp.clip(shifted, -limit, limit)

    clip.defvjp(lambda shifted: (clip(shifted), shifted), lambda shifted, g: (stopped(limit, shifted, g),))
    return clip(x + bias)


def newton(mean, e):
    def turn(carry):
        angle, _, turns = carry
        step = (angle - e * jnp.sin(angle) - mean) / (1 - e * jnp.cos(angle))
        return angle - step, jnp.abs(step), turns + 1

    return lax.while_loop(lambda c: (c[1] > 1e-5) & (c[2] < 50), turn, (mean, jnp.ones_like(mean), 0))[0]


def kepler_with(rule, solve_in_rule=False, freeze=False):
    @jax.custom_jvp
    def kepler(mean, e):
        return newton(mean, e)

    @kepler.defjvp
    def kepler_jvp(primals, tangents):
        angle = (newton if solve_in_rule else kepler)(*primals)
        return angle, rule(lax.stop_gradient(angle) if freeze else angle, *primals, *tangents)

    return kepler


def implicit(angle, mean, e, mean_dot, e_dot):
    return (mean_dot + jnp.sin(angle) * e_dot) / (1 - e * jnp.cos(angle))


wrong("implicit_root", "there is no backward pass through a while_loop")(newton)
wrong("implicit_root", "the share of e is missing")(
    kepler_with(lambda angle, mean, e, mean_dot, e_dot: mean_dot / (1 - e * jnp.cos(angle)))
)
wrong("implicit_root", "the division by 1 - e cos E is missing")(
    kepler_with(lambda angle, mean, e, mean_dot, e_dot: mean_dot + jnp.sin(angle) * e_dot)
)
wrong("implicit_root", "the sign of the share of e")(
    kepler_with(lambda angle, mean, e, mean_dot, e_dot: implicit(angle, mean, e, mean_dot, -e_dot))
)
wrong("implicit_root", "1 + e cos E")(
    kepler_with(lambda angle, mean, e, mean_dot, e_dot: implicit(angle, mean, -e, mean_dot, e_dot))
)
wrong("implicit_root", "call the decorated function, kepler, not solve")(kepler_with(implicit, solve_in_rule=True))
wrong("implicit_root", "the angle is a constant in the rule")(kepler_with(implicit, freeze=True))


@wrong("implicit_root", "custom_vjp has a backward rule only")
@jax.custom_vjp
def backward_only(mean, e):
    return newton(mean, e)


def backward_only_bwd(saved, g):
    angle, e = saved
    return g / (1 - e * jnp.cos(angle)), g * jnp.sin(angle) / (1 - e * jnp.cos(angle))


backward_only.defvjp(lambda mean, e: (newton(mean, e), (newton(mean, e), e)), backward_only_bwd)


@wrong("implicit_root", "runs through the solver's turns")
def through_a_fixed_loop(mean, e):
    def turn(i, angle):
        return angle - (angle - e * jnp.sin(angle) - mean) / (1 - e * jnp.cos(angle))

    return lax.fori_loop(0, 20, turn, mean)


@wrong("implicit_root", "runs through the solver's turns")
def through_a_python_loop(mean, e):
    angle = mean
    for _ in range(20):
        angle = angle - (angle - e * jnp.sin(angle) - mean) / (1 - e * jnp.cos(angle))
    return angle


@right("implicit_root")
@jax.custom_jvp
def with_defjvps(mean, e):
    return newton(mean, e)


with_defjvps.defjvps(
    lambda dot, angle, mean, e: dot / (1 - e * jnp.cos(angle)),
    lambda dot, angle, mean, e: dot * jnp.sin(angle) / (1 - e * jnp.cos(angle)),
)


@right("implicit_root")
def one_newton_step_at_a_frozen_solution(mean, e):
    angle = lax.stop_gradient(newton(lax.stop_gradient(mean), lax.stop_gradient(e)))
    for _ in range(2):  # each step gives one more derivative
        angle = angle - (angle - e * jnp.sin(angle) - mean) / (1 - e * jnp.cos(angle))
    return angle


def loops(block, weights, x):
    for w in weights:
        x = block(x, w)
    return x


def grouped(weights, segment):
    return [weights[i : i + segment] for i in range(0, len(weights), segment)]


wrong("checkpointed_segments", "nothing is checkpointed")(lambda block, weights, x, segment: loops(block, weights, x))
wrong("checkpointed_segments", "nothing is checkpointed")(
    lambda block, weights, x, segment: lax.scan(lambda x, w: (block(x, w), None), x, weights)[0]
)
wrong("checkpointed_segments", "each block is checkpointed by itself")(
    lambda block, weights, x, segment: loops(jax.checkpoint(block), weights, x)
)
wrong("checkpointed_segments", "one checkpoint around several segments")(
    lambda block, weights, x, segment: jax.checkpoint(partial(loops, block))(weights, x)
)


@wrong("checkpointed_segments", "only the first block of each segment")
def the_first_of_each(block, weights, x, segment):
    return loops(jax.checkpoint(block), weights[::segment], x)


@wrong("checkpointed_segments", "the segments are mixed up")
def reshaped_the_other_way(block, weights, x, segment):
    groups = weights.reshape(segment, -1, *weights.shape[1:]).swapaxes(0, 1)
    return lax.scan(lambda x, g: (jax.checkpoint(partial(loops, block))(g, x), None), x, groups)[0]


@wrong("checkpointed_segments", "from the last to the first")
def backwards(block, weights, x, segment):
    for group in grouped(weights, segment)[::-1]:
        x = jax.checkpoint(partial(loops, block))(group[::-1], x)
    return x


@right("checkpointed_segments")
def with_python_loops(block, weights, x, segment):
    for group in grouped(weights, segment):
        x = jax.checkpoint(partial(loops, block))(group, x)
    return x


@right("checkpointed_segments")
def a_loop_of_scans(block, weights, x, segment):
    @jax.remat
    def through(x, group):
        return lax.scan(lambda x, w: (block(x, w), None), x, group)[0]

    for group in jnp.split(weights, len(weights) // segment):
        x = through(x, group)
    return x
