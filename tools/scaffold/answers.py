"""Answers to the exercises of NN_TOPIC."""

import jax
import jax.numpy as jnp

from tests.answers import right, wrong


def gradient(w, x, y):
    return 2 * x.T @ (x @ w - y) / len(y)


def step(w, x, y, rate):
    return w - rate * gradient(w, x, y)


def losses(w, x, y):
    return jnp.square(x @ w - y)


# ‹besides these, what people would really write: five wrong answers or more to each check, two right ones›
for name, answer in {"gradient": gradient, "step": step, "losses": losses}.items():
    check = f"TOPIC_{name}"
    wrong(check, "the sign")(lambda *given, f=answer: -f(*given))
    wrong(check, "a factor")(lambda *given, f=answer: 3 * f(*given))
    wrong(check, "a function without `return`")(lambda *given: None)
    wrong(check, "an axis too many")(lambda *given, f=answer: f(*given)[None])
    wrong(check, "a reduction too many")(lambda *given, f=answer: f(*given).sum())
    right(check)(answer)
    right(check)(jax.jit(answer))
