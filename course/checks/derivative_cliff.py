"""Checks of the exercises on high derivatives and many inputs. Needs NumPy and JAX.

Lesson: 16_derivative_cliff.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from course.checks.core import check, float64, function, keyed, predicted, same, wrong

LESSON = "16_derivative_cliff"


def equations(f: Callable[..., Any], *args: Any) -> list[Any]:
    """All equations of the jaxpr of f at args, those of inner jaxprs included."""
    found, waiting = [], [jax.make_jaxpr(f)(*args).jaxpr]
    while waiting:
        for equation in waiting.pop().eqns:
            found.append(equation)
            for value in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda v: hasattr(v, "eqns")):
                inner = getattr(value, "jaxpr", value)
                waiting += [inner] if hasattr(inner, "eqns") else []
    return found


def largest_array(f: Callable[..., Any], *args: Any) -> int:
    """How many numbers the largest array holds that f makes on its way, by its jaxpr."""
    return max((np.prod(o.aval.shape, dtype=int) for e in equations(f, *args) for o in e.outvars), default=0)


@check(
    LESSON,
    "Two gradients, one inside the other: the inner one by x, the outer one by params.",
    "The inner one is of one example: jax.vmap(jax.grad(critic, argnums=1), in_axes=(None, 0))(params, x).",
    "Write the penalty as a function of params, and take jax.grad of it.",
    points=2,
)
def critic_penalty(rng: np.random.Generator, critic_penalty: Any) -> None:
    """The gradient by the weights of a penalty on gradients by the inputs, against torch's double backward."""
    import torch

    answer = function(critic_penalty, "critic_penalty(critic, params, x)")

    def critic(params: Any, x: jax.Array) -> jax.Array:
        return jnp.tanh(x @ params["w"]) @ params["v"]

    n, d = (int(size) for size in rng.integers(3, 6, 2))
    params = {"w": rng.normal(size=(d, 4)), "v": rng.normal(size=4)}
    x = rng.normal(size=(n, d))

    def by_torch(penalty: Callable[[Any], Any]) -> dict[str, np.ndarray]:
        w, v, points = (torch.tensor(part, requires_grad=True) for part in (params["w"], params["v"], x))
        (slope,) = torch.autograd.grad((torch.tanh(points @ w) @ v).sum(), points, create_graph=True)
        grads = torch.autograd.grad(penalty(slope), (w, v))
        return {name: part.numpy() for name, part in zip(("w", "v"), grads, strict=True)}

    expected = by_torch(lambda slope: ((slope.norm(dim=1) - 1) ** 2).mean())
    with float64():
        got = answer(critic, jax.tree.map(jnp.asarray, params), jnp.asarray(x))
    same(
        got, expected, f"the gradient from {n} examples", rtol=1e-5,
        slips={
            "one norm of all examples together; every example's gradient has a norm of its own": by_torch(
                lambda slope: (slope.norm() - 1) ** 2
            ),
            "the gradients are those of the critic's mean, 1 / n of each example's": by_torch(
                lambda slope: ((slope.norm(dim=1) / n - 1) ** 2).mean()
            ),
            "the squared norm, not the norm, is compared with 1": by_torch(
                lambda slope: (((slope**2).sum(1) - 1) ** 2).mean()
            ),
            "the norm is driven to 0, not to 1": by_torch(lambda slope: (slope**2).sum(1).mean()),
            "the norm runs over the examples, not over the inputs": by_torch(
                lambda slope: ((slope.norm(dim=0) - 1) ** 2).mean()
            ),
            "the sum, not the mean": {name: n * part for name, part in expected.items()},
            "nothing flows through the inner gradient: it was stopped": {
                name: 0 * part for name, part in expected.items()
            },
        },
    )  # fmt: skip


def swing(length: Any) -> Any:
    """The exercise's pendulum: a scan that carries two arrays that depend on the length, and two that do not."""

    def step(carry: Any, _: None) -> Any:
        angle, speed, time, count = carry
        speed = speed - 0.1 * jnp.sin(angle) / length
        return (angle + 0.1 * speed, speed, time + 0.1, count + 1), None

    (angle, *_), _ = jax.lax.scan(step, (0.5, 0.0, 0.0, 0), length=20)
    return angle


@check(
    LESSON,
    "Nested jvp knows nothing of the symmetry of derivatives: each order doubles what has a tangent.",
    "Which of the four parts of the carry depend on `length`? Only those get tangents.",
    "Two parts double with every order; two stay as they are.",
    points=2,
)
def arrays_carried(rng: np.random.Generator, arrays_carried: Any) -> None:
    """A prediction of what the loop of a nested derivative carries, against its jaxpr."""
    keyed(arrays_carried, {1, 2, 3})

    def along(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda t: jax.jvp(f, (t,), (1.0,))[1]

    def fits(rule: Callable[[int], int]) -> bool:
        return all(type(number) is int and number == rule(order) for order, number in arrays_carried.items())

    rules: dict[str, Callable[[int], int]] = {
        "that is the loop of the function itself": lambda k: 4,
        "four parts are carried, not one": lambda k: 2**k,
        "as many as a Taylor series has; nested jvp does not see which tangents are equal": lambda k: 2 * (k + 1) + 2,
        "as many as a Taylor series has, and tangents of what does not depend on length": lambda k: 4 * (k + 1),
        "as many as a Taylor series has, without time and count": lambda k: 2 * (k + 1),
        "time is a float, but does not depend on length: it gets no tangent": lambda k: 3 * 2**k + 1,
        "time and count are still carried, once each": lambda k: 2 * 2**k,
        "both time and count are carried, once each": lambda k: 2 * 2**k + 1,
        "time and count do not depend on length, so they get no tangents": lambda k: 4 * 2**k,
    }
    f: Callable[[Any], Any] = swing
    for order in (1, 2, 3):
        f = along(f)
        (carried,) = (e.params["num_carry"] for e in equations(f, 1.0) if e.primitive.name == "scan")
        predicted(
            arrays_carried[order],
            carried,
            f"arrays carried at order {order}",
            slips={rule(order): text for text, rule in sorted(rules.items(), key=lambda pair: fits(pair[1]))},
        )


@check(
    LESSON,
    "One second derivative is a product of the Hessian with a unit vector; jax.vmap makes it several.",
    "jax.lax.map goes through the rows of jnp.arange(d).reshape(-1, block), one row at a time.",
    "The unit vectors of a row: jax.nn.one_hot(row, d), of shape (block, d). Of H e_i take entry i.",
    "jax.lax.map has an argument batch_size, which does the reshape and the vmap.",
    points=3,
)
def laplacian_in_blocks(rng: np.random.Generator, laplacian_in_blocks: Any) -> None:
    """The trace of the Hessian, in a program that holds `block` of its rows at a time; against jax.hessian."""
    answer = function(laplacian_in_blocks, "laplacian_in_blocks(f, x, block)")

    with float64():
        block, count = (int(n) for n in rng.permutation([2, 3]))
        d = block * count
        a, x = jnp.asarray(rng.normal(size=(d, d))), jnp.asarray(rng.normal(size=d))

        def f(x: jax.Array) -> jax.Array:
            return jnp.tanh(a @ x).sum() + (x**3).sum()

        hessian = jax.hessian(f)(x)
        diagonal = jnp.diag(hessian)
        same(
            answer(f, x, block), jnp.trace(hessian), f"the Laplacian of {d} inputs in blocks of {block}", rtol=1e-9,
            slips={
                "all entries of the Hessian; of H e_i take entry i only": hessian.sum(),
                "only the first block": diagonal[:block].sum(),
                "only the last block": diagonal[-block:].sum(),
                "the mean over the blocks, not the sum": diagonal.sum() * block / d,
                "the mean, not the sum": diagonal.mean(),
                "the sums of the blocks, not yet added up": diagonal.reshape(-1, block).sum(1),
                "the second derivatives, not yet added up": diagonal,
                "the sum of the first derivatives": jax.grad(f)(x).sum(),
            },
        )  # fmt: skip

    def plain(x: jax.Array) -> jax.Array:
        return jnp.sin(x).sum() + (x[:-1] * x[1:]).sum()

    def run(x: jax.Array) -> Any:
        return answer(plain, x, 8)

    short, long = jnp.ones(64), jnp.ones(128)
    sizes = [len(equations(run, x)) for x in (short, long)]
    if sizes[1] > 1.2 * sizes[0]:
        wrong(
            f"the program grows with the inputs: {sizes[0]} equations for 64, {sizes[1]} for 128.",
            slip="a Python loop, which is unrolled; jax.lax.map runs the blocks one after the other",
        )
    most = largest_array(run, long)
    if most >= 128 * 128 // 2:
        wrong(
            f"128 inputs in blocks of 8: an array of {most} numbers is made.",
            slip="all rows at once: jax.hessian, a vmap over all directions, or the identity jnp.eye(d)",
        )
    if most < 128 * 8:
        wrong(
            f"128 inputs in blocks of 8: the largest array holds {most} numbers, not 8 x 128.",
            slip="one direction at a time; jax.vmap over the block of directions inside jax.lax.map",
        )
