"""Checks of the exercises on promotion, variances, mixed precision and rounding at random. Needs NumPy and JAX.

Lesson: 05_precision.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from course.checks.core import check, function, keyed, predicted, same, wrong

LESSON = "05_precision"


@check(
    LESSON,
    "A Python number has no type of its own; a scalar array, also of one number, has.",
    "Neither of bfloat16 and float16 holds the other. Any float type beats any integer type.",
    "Reductions return the type that they were given.",
    points=1,
)
def promoted_types(rng: np.random.Generator, prediction: Any) -> None:
    """Which type two types make."""
    b, h, i = jnp.ones(3, jnp.bfloat16), jnp.ones(3, jnp.float16), jnp.ones(3, jnp.int32)
    values = {
        "b * 2.0": b * 2.0, "b * jnp.float32(2.0)": b * jnp.float32(2.0), "b * h": b * h, "b + i": b + i,
        "b.sum()": b.sum(),
    }  # fmt: skip
    rules = {
        "b * 2.0": {"float32": "a Python number takes the array's type"},
        "b * jnp.float32(2.0)": {
            "bfloat16": "so it is in torch, where a tensor without dimensions does not promote; in JAX it does"
        },
        "b * h": {
            "bfloat16": "no type of 16 bits holds both: one lacks digits, the other reach",
            "float16": "no type of 16 bits holds both: one lacks digits, the other reach",
            "float64": "the smallest type that holds both",
        },
        "b + i": {
            "float32": "so it is in NumPy; in JAX an integer takes the float's type, however narrow",
            "int32": "a float beats an integer",
        },
        "b.sum()": {"float32": "the sum may be added up in float32, but it is returned as it came"},
    }
    keyed(prediction, values)
    for part, value in values.items():
        answer = prediction[part]
        if isinstance(answer, type | np.dtype):
            answer = jnp.dtype(answer).name
        predicted(answer, value.dtype.name, f'"{part}"', rules[part])


@check(
    LESSON,
    "Two large numbers that are nearly equal are subtracted. Subtract earlier, where they are small.",
    "The mean of (x - mean)**2, with keepdims=True for the mean.",
    "x.astype(jnp.float32) first, and .astype(x.dtype) in the end.",
    points=2,
)
def steady_variance(rng: np.random.Generator, variance: Any) -> None:
    """The variance of numbers far from 0, in float32 and in bfloat16; against NumPy in float64."""
    answer = function(variance, "variance(x)")
    for dtype, rtol in ((jnp.float32, 1e-3), (jnp.bfloat16, 2.5e-3)):
        rows, columns = int(rng.integers(2, 4)), int(rng.choice([6, 8]))
        if dtype == jnp.float32:
            centre = rng.choice([-3000, 3000], (rows, 1))
            x = jnp.asarray(centre + rng.normal(size=(rows, columns)), dtype)
        else:  # a mean of 200.5, which lies between two numbers of bfloat16
            steps = [-2, -1, 0, 1, 2, 3] if columns == 6 else [-2, -1, -1, 0, 1, 2, 2, 3]
            x = jnp.asarray(np.stack([200 + rng.permutation(steps) for _ in range(rows)]), dtype)
        exact = np.asarray(x, np.float64)

        def fast(x: jax.Array = x) -> jax.Array:
            return (x**2).mean(-1) - x.mean(-1) ** 2

        def rounded(x: jax.Array = x) -> np.ndarray:
            mean = np.asarray(np.asarray(x, np.float64).mean(-1, keepdims=True).astype(x.dtype), np.float64)
            return ((np.asarray(x, np.float64) - mean) ** 2).mean(-1)

        got = answer(x)
        same(
            np.asarray(got, np.float64) if getattr(got, "dtype", None) == dtype else got, exact.var(-1),
            f"the variance of {rows} rows in {jnp.dtype(dtype).name}", rtol=rtol, slips={
                "one more than the rows' length is divided by: torch's var is unbiased, this one is not": (
                    exact.var(-1, ddof=1)),
                "the standard deviation, not its square": exact.std(-1),
                "one variance for all; every row has its own": exact.var(),
                "over the rows, not along them": exact.var(0),
                "mean(x**2) - mean(x)**2 is a difference of large numbers: subtract the mean first": fast,
                "the mean is rounded to 16 bits, and the deviations with it: calculate in float32": rounded,
            },
        )  # fmt: skip
        if got.dtype != dtype:
            wrong(f"expected {jnp.dtype(dtype).name}, the type of x, got {got.dtype}.", slip="cast back at the end")


@check(
    LESSON,
    "The gradient of a cast is a cast back: cast inside of what you differentiate.",
    "jax.tree.map(lambda p: p.astype(jnp.bfloat16), params), and x as well.",
    "logits.astype(jnp.float32) before the loss, which is a mean over the rows.",
    "jax.value_and_grad(loss_fn)(params) of a loss_fn(params) that does all three.",
    points=3,
)
def mixed_gradients(rng: np.random.Generator, mixed: Any) -> None:
    """Loss and gradients with products in bfloat16; against torch.autocast, and by the types in the jaxpr."""
    import torch

    answer = function(mixed, "mixed(model, params, x, y)")
    rows, size, classes = (int(n) for n in rng.integers([6, 4, 3], [9, 8, 6]))
    params = {
        "inner": rng.normal(size=(size, 8)).astype("f") / size**0.5,
        "outer": rng.normal(size=(8, classes)).astype("f"),
    }
    x, y = rng.normal(size=(rows, size)).astype("f"), rng.integers(0, classes, rows).astype("i")

    def model(params: Any, x: jax.Array) -> jax.Array:
        return jnp.tanh(x @ params["inner"]) @ params["outer"]

    def by_torch(reduction: str = "mean") -> tuple[float, dict[str, np.ndarray]]:
        inner, outer = (torch.tensor(params[name], requires_grad=True) for name in ("inner", "outer"))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = torch.tanh(torch.tensor(x) @ inner) @ outer
            loss = torch.nn.functional.cross_entropy(logits, torch.tensor(y).long(), reduction=reduction)
        slopes = torch.autograd.grad(loss, (inner, outer))
        return loss.item(), dict(zip(("inner", "outer"), (slope.numpy() for slope in slopes), strict=True))

    arrays = jax.tree.map(jnp.asarray, params), jnp.asarray(x), jnp.asarray(y)
    pair = answer(model, *arrays)
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        wrong("expected the pair (loss, grads).", got=pair, slip="jax.value_and_grad gives both; jax.grad only one")
    loss, grads = pair
    if isinstance(loss, dict):
        wrong("expected the pair (loss, grads).", got=pair, slip="the pair is swapped")
    types = {str(getattr(leaf, "dtype", type(leaf).__name__)) for leaf in jax.tree.leaves(grads)}
    if types == {"bfloat16"}:
        wrong(
            "the gradients are bfloat16.",
            slip="the weights were cast before they were differentiated; cast inside of the loss",
        )
    products, softmax = set(), set()
    for name, kinds in _operands(lambda *arrays: answer(model, *arrays), *arrays):
        products |= set(kinds) if name == "dot_general" else set()
        softmax |= set(kinds) if name in ("exp", "log", "logistic") else set()
    if not products:
        wrong("there is no product in the program.", slip="model is to be called")
    if "bfloat16" not in products:
        wrong("the products are in float32.", slip="neither weights nor x were cast")
    if products != {"bfloat16"}:
        wrong(
            f"products have operands of {' and '.join(sorted(products))}.",
            slip="weights or x alone were cast: bfloat16 with float32 is promoted to float32",
        )
    if "bfloat16" in softmax:
        wrong("the loss is calculated in bfloat16.", slip="logits.astype(jnp.float32) first")
    exact, slopes = by_torch()
    total, sums = by_torch("sum")
    same(
        loss, exact, f"the loss of {rows} rows", rtol=2e-2, dtype=np.float32,
        slips={"the sum over the rows, not the mean": total},
    )  # fmt: skip
    same(
        grads, slopes, f"the gradients of {rows} rows", rtol=5e-2, dtype=np.float32,
        slips={"the gradient of the sum over the rows, not of the mean": sums},
    )  # fmt: skip


@check(
    LESSON,
    "A bfloat16 is the first half of a float32: jax.lax.bitcast_convert_type(x, jnp.uint32) shows the bits.",
    "The probability of the upper neighbour is the second half of the bits, divided by 2**16.",
    "Add 16 random bits, a number of its own for each element, and cut the second half off: "
    "(bits + noise) & 0xFFFF0000.",
    points=3,
)
def random_rounding(rng: np.random.Generator, stochastic_round: Any) -> None:
    """Rounding to bfloat16 that is right on average; every result a neighbour, and frequencies within 6 sigma."""
    answer = function(stochastic_round, "stochastic_round(x, key)")
    keys = jax.random.split(jax.random.key(int(rng.integers(10**6))), 3)
    exact = (rng.choice([-1, 1], 6) * rng.uniform(0.1, 8, 6)).astype("f")
    share = rng.choice([0.1, 0.2, 0.3, 0.7, 0.8, 0.9], 6)
    low = exact.view(np.uint32) & 0xFFFF0000
    values = (low + np.uint32(1) * (share * 2**16).astype(np.uint32)).view("f")
    share = (values.view(np.uint32) & 0xFFFF).astype(float) / 2**16
    below, above = low.view("f"), (low + np.uint32(0x10000)).view("f")
    draws = 4096
    x = np.tile(values, (draws, 1))
    got = answer(jnp.asarray(x), keys[0])
    if getattr(got, "dtype", None) != jnp.bfloat16:
        wrong("expected an array of bfloat16.", got=got, slip="a cast is missing, or a return")
    if got.shape != x.shape:
        wrong(f"expected the shape of x, {x.shape}, got {got.shape}.", slip="one result for each element")
    rounded = np.asarray(got, np.float32)
    near = (rounded == below) | (rounded == above)
    if not near.all():
        at = tuple(int(n) for n in np.argwhere(~near)[0])
        wrong(
            f"{x[at]:.7g} became {rounded[at]:.7g}, which is none of its two neighbours in bfloat16.",
            expected=np.array([below[at[1]], above[at[1]]]), got=rounded[at],
            slip="noise of another size than the gap between the neighbours, or rounded twice",
        )  # fmt: skip
    up = (rounded == above).mean(0)
    slip = ""
    if set(up.tolist()) <= {0.0, 1.0}:
        slip = "one random number for all elements; every element needs its own: shape x.shape"
        again = np.stack([np.asarray(answer(jnp.asarray(values), key), np.float32) == above for key in keys])
        nearest = np.stack([share > 0.5] * 3)
        if np.array_equal(again, nearest):
            slip = "nothing is random: rounded to the nearest"
        elif not again.any():
            slip = "nothing is random: cut off"
    sigma = np.sqrt(share * (1 - share) / draws)
    if not slip and (np.abs(up - share) > 6 * sigma).any():
        slip = "the probability of the upper neighbour is the share of the way to it"
        if (np.abs(up - (1 - share)) <= 6 * sigma).all():
            slip = "turned round: the nearer neighbour is to be the likelier one"
        elif (np.abs(up - 0.5) <= 6 * np.sqrt(0.25 / draws)).all():
            slip = "a fair coin; the nearer neighbour is to be the likelier one"
    if slip:
        wrong("on average the result is not x: how often each value went to the neighbour farther from 0.",
              expected=share, got=up, slip=slip)  # fmt: skip
    row = (rounded == above).astype(float) - share
    if np.abs((row[:, 0] * row[:, 1]).mean()) > 6 * (sigma[0] * sigma[1] * draws) / draws**0.5:
        wrong("the elements of a row go up together.", slip="every element needs a random number of its own: x.shape")
    other = np.asarray(answer(jnp.asarray(x), keys[1]), np.float32)
    if np.array_equal(other, rounded):
        wrong("another key gave the same result.", slip="a key made inside; draw from the one that is handed in")
    fixed = below.reshape(2, 3)
    same(
        np.asarray(answer(jnp.asarray(fixed), keys[2]), np.float32), fixed, "numbers that bfloat16 holds, which stay,",
        rtol=0, atol=0,
    )  # fmt: skip


# --- inside ------------------------------------------------------------------------------------------------


def _operands(f: Any, *args: Any) -> list[tuple[str, list[str]]]:
    """Every primitive in the jaxpr of f, inner jaxprs included, with the types of its floating-point operands."""
    found, waiting = [], [jax.make_jaxpr(f)(*args).jaxpr]
    while waiting:
        for equation in waiting.pop().eqns:
            kinds = [str(getattr(variable.aval, "dtype", "")) for variable in equation.invars]
            found.append((equation.primitive.name, [kind for kind in kinds if "float" in kind]))
            for value in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda v: hasattr(v, "eqns")):
                inner = getattr(value, "jaxpr", value)
                waiting += [inner] if hasattr(inner, "eqns") else []
    return found
