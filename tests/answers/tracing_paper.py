"""Answers to the exercises of 12_tracing_paper."""

import jax
import jax.numpy as jnp

from tests.answers import right, wrong

truth = {
    "scaled": "both",
    "jittered": "static",
    "positives": "pure",
    "halved": "pure",
    "remembered": "neither",
    "relaxed": "both",
}
wrong("pure_or_static", "jnp.maximum is no branch")(truth | {"scaled": "pure"})
wrong("pure_or_static", "it gives two results")(truth | {"jittered": "both"})
wrong("pure_or_static", "stays in the graph for good")(truth | {"jittered": "neither"})
wrong("pure_or_static", "here the shape of")(truth | {"positives": "both"})
wrong("pure_or_static", "Python's `while` asks")(truth | {"halved": "both"})
wrong("pure_or_static", "Python's `if` asks")(truth | {"remembered": "static"})
wrong("pure_or_static", "one node, however often")(truth | {"relaxed": "pure"})
wrong("pure_or_static", "expected 'both'")(truth | {"scaled": True})
wrong("pure_or_static", "expected a dict")(list(truth.values()))
right("pure_or_static")(truth)
right("pure_or_static")(dict(reversed(truth.items())))


def bisected(same_side, result=lambda low, high, turns: ((low + high) / 2, turns), start=0):
    def answer(f, low, high, tolerance):
        def halve(state):
            low, high, turns = state
            middle = (low + high) / 2
            keep = same_side(f(middle), f(high))
            return jnp.where(keep, low, middle), jnp.where(keep, middle, high), turns + 1

        return result(*jax.lax.while_loop(lambda state: state[1] - state[0] > tolerance, halve, (low, high, start)))

    return answer


def signs(middle, high):
    return (middle > 0) == (high > 0)


wrong("bisect", "f is taken to rise")(bisected(lambda middle, high: middle > 0))
wrong("bisect", "the half without the root")(bisected(lambda middle, high: (middle > 0) != (high > 0)))
wrong("bisect", "the lower end")(bisected(signs, lambda low, high, turns: (low, turns)))
wrong("bisect", "the upper end")(bisected(signs, lambda low, high, turns: (high, turns)))
wrong("bisect", "one turn too many")(bisected(signs, start=1))
wrong("bisect", "the root alone")(bisected(signs, lambda low, high, turns: (low + high) / 2))


@wrong("bisect", "`if` on a traced value")
def as_given(f, low, high, tolerance):
    turns = 0
    while high - low > tolerance:
        middle = (low + high) / 2
        if (f(middle) > 0) == (f(high) > 0):
            high = middle
        else:
            low = middle
        turns += 1
    return (low + high) / 2, turns


@wrong("bisect", "a Python loop of a fixed number of turns")
def many_turns(f, low, high, tolerance):
    count = 0
    for _ in range(16):
        active, middle = high - low > tolerance, (low + high) / 2
        keep = (f(middle) > 0) == (f(high) > 0)
        low, high = jnp.where(active & ~keep, middle, low), jnp.where(active & keep, middle, high)
        count = count + active
    return (low + high) / 2, count


@wrong("bisect", "raised an error")
def condition_of_python(f, low, high, tolerance):
    def halve(state):
        low, high, turns = state
        middle = (low + high) / 2
        return jax.lax.cond(signs(f(middle), f(high)), (low, middle), (middle, high)), turns + 1

    return jax.lax.while_loop(lambda state: state[1] - state[0] > tolerance, halve, (low, high, 0))


@right("bisect")
def by_cond(f, low, high, tolerance):
    def halve(state):
        low, high, turns = state
        middle = (low + high) / 2
        side = f(middle) * f(high) > 0
        ends = jax.lax.cond(side, lambda: (low, middle), lambda: (middle, high))
        return (*ends, turns + 1)

    low, high, turns = jax.lax.while_loop(lambda s: s[1] - s[0] > tolerance, halve, (low, high, jnp.int32(0)))
    return [0.5 * (low + high), turns]


@right("bisect")
def sign_at_the_end_first(f, low, high, tolerance):
    rises = f(high) > 0

    def halve(state):
        ends, turns = state
        middle = ends.mean()
        ends = jnp.where((f(middle) > 0) == rises, ends.at[1].set(middle), ends.at[0].set(middle))
        return ends, turns + 1

    ends, turns = jax.lax.while_loop(lambda s: s[0][1] - s[0][0] > tolerance, halve, (jnp.stack([low, high]), 0))
    return ends.mean(), turns


def solved(sign=-1, extra=0, conjugate=1, products=None):
    products = products or (lambda f, w: jax.linearize(jax.grad(f), w))

    def answer(f, w, turns):
        grad, hvp = products(f, w)
        start = sign * grad

        def turn(state, _):
            p, residual, direction = state
            product, size = hvp(direction), residual @ direction
            alpha = size / (direction @ product)
            p, left = p + alpha * direction, residual - alpha * product
            return (p, left, left + conjugate * (left @ left) / (residual @ residual) * direction), None

        return jax.lax.scan(turn, (0 * w, start, start), length=turns + extra)[0][0]

    return answer


def anew(f, w):
    return jax.grad(f)(w), lambda v: jax.jvp(jax.grad(f), (w,), (v,))[1]


wrong("newton_direction", "each product runs f anew")(solved(products=anew))
wrong("newton_direction", "each product runs f anew")(
    solved(products=lambda f, w: (jax.grad(f)(w), lambda v: jax.grad(lambda w: jax.grad(f)(w) @ v)(w)))
)
wrong("newton_direction", "uphill")(solved(sign=1))
wrong("newton_direction", "a turn too few")(solved(extra=-1))
wrong("newton_direction", "a turn too many")(solved(extra=1))
wrong("newton_direction", "steepest descent")(solved(conjugate=0))
wrong("newton_direction", "the exact solution")(
    lambda f, w, turns: -jnp.linalg.solve(jax.hessian(f)(w), jax.grad(f)(w))
)
wrong("newton_direction", "the direction alone")(lambda f, w, turns: w + solved()(f, w, turns))
wrong("newton_direction", "the negative gradient")(lambda f, w, turns: -jax.grad(f)(w))


@wrong("newton_direction", "a Python loop")
def turn_by_turn(f, w, turns):
    grad, hvp = jax.linearize(jax.grad(f), w)
    p, residual, direction = 0 * w, -grad, -grad
    for _ in range(turns):
        product, size = hvp(direction), residual @ residual
        alpha = size / (direction @ product)
        p, residual = p + alpha * direction, residual - alpha * product
        direction = residual + (residual @ residual) / size * direction
    return p


right("newton_direction")(solved())


@right("newton_direction")
def by_vjp(f, w, turns):
    grad, pull = jax.vjp(jax.grad(f), w)  # a Hessian is its own transpose
    return solved(products=lambda f, w: (grad, lambda v: pull(v)[0]))(f, w, turns)


@right("newton_direction")
def by_the_matrix(f, w, turns):
    hessian = jax.hessian(f)(w)
    return solved(products=lambda f, w: (jax.grad(f)(w), lambda v: hessian @ v))(f, w, turns)
