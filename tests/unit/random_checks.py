"""One random program against nested JAX, by one operator in one setting.

For test_random_programs.py and `make fuzz`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from course import stde, taylor
from tests.unit.random_programs import ITEMS, LOW, Program

SETTINGS = ("plain", "jit", "vmap", "gradient by the weights")
PROGRAMS, GROUPS = 150, 16  # 9 operators times 16 groups of two or three items are 144 programs
MORE_ITEMS = 11  # groups, for programs of four items
Choose = Callable[[int, int], int]  # (n, salt) -> a number below n


# --- references: nested forward derivatives ----------------------------------------------------------------


def along(f, v):
    return lambda x: jax.jvp(f, (x,), (v,))[1]


def sum_over(f, rows, order, x, weights=None):
    """The weighted sum over rows v of D^order f along v."""

    def one(v):
        g = f
        for _ in range(order):
            g = along(g, v)
        return g(x)

    terms = jax.vmap(one)(jnp.asarray(rows, x.dtype))
    return terms.sum() if weights is None else terms @ jnp.asarray(weights)


def mixed(f, x, multi_index):
    for axis, power in enumerate(multi_index):
        for _ in range(power):
            f = along(f, jnp.eye(len(x))[axis])
    return f(x)


# --- operators: (choose, d) -> ours and the reference, both (f, x) -> array --------------------------------


def derivatives(choose, d):
    order, v = 1 + choose(4), np.cos(1.0 + np.arange(d) * (1 + choose(3)))

    def reference(f, x):
        found = [f(x)]
        for _ in range(order):
            f = along(f, jnp.asarray(v))
            found.append(f(x))
        return jnp.stack(found)

    return lambda f, x: taylor.derivatives(f, x, v, order), reference


def laplacian(choose, d):
    return taylor.laplacian, lambda f, x: sum_over(f, np.eye(d), 2, x)


def value_and_laplacian(choose, d):
    rows = np.sin(np.arange(d * (1 + choose(d + 2))).reshape(-1, d) + 1.0)
    return (
        lambda f, x: jnp.stack(taylor.value_and_laplacian(f, x, rows)),
        lambda f, x: jnp.stack([f(x), sum_over(f, rows, 2, x)]),
    )


def along_axes(choose, d):
    axes = np.array([choose(d) for _ in range(1 + choose(d + 1))])
    compress = bool(choose(2))
    return (
        lambda f, x: taylor.laplacian(f, x, jnp.asarray(axes), compress=compress),
        lambda f, x: sum_over(f, np.eye(d)[axes], 2, x),
    )


def weighted(choose, d):
    order, axes = 1 + choose(4), np.array([choose(d) for _ in range(1 + choose(d))])
    weights, rows = np.cos(np.arange(len(axes)) * 2.0), np.eye(d)[axes]
    given = axes if choose(2) else rows
    return (
        lambda f, x: taylor.weighted(f, x, given, weights, order),
        lambda f, x: sum_over(f, rows, order, x, weights),
    )


def biharmonic(choose, d):
    def reference(f, x):
        return sum_over(lambda x: sum_over(f, np.eye(d), 2, x), np.eye(d), 2, x)

    return taylor.biharmonic, reference


def partial_derivative(choose, d):
    order, index = 1 + choose(4), [0] * d
    for _ in range(order):
        index[choose(d)] += 1
    return lambda f, x: taylor.partial_derivative(f, x, index), lambda f, x: mixed(f, x, index)


def terms_of(choose, d):
    """An operator of several orders, one coefficient a function, as a dict."""
    orders, found = [(0,), (1,), (2,), (1, 1), (2, 1), (3,)], {}
    for powers in [orders[choose(len(orders))] for _ in range(2)] + [(2,)]:
        index = [0] * d
        for power in powers:
            index[choose(d)] += power
        found[tuple(index)] = (lambda x: x[0] + 1.0) if choose(4) == 0 else choose(7) - 3.0
    return found


def by_terms(terms, f, x):
    return sum((c(x) if callable(c) else c) * mixed(f, x, index) for index, c in terms.items())


def apply(choose, d):
    terms = terms_of(choose, d)
    return lambda f, x: stde.apply(stde.Operator(terms), f, x), partial(by_terms, terms)


def estimate(choose, d):
    """As many samples as the largest kind has terms: all are taken, and the estimate is exact."""
    terms = terms_of(choose, d)
    operator = stde.Operator(terms)
    samples = max(map(len, operator.kinds))
    return (
        lambda f, x: stde.estimate(operator, f, x, jax.random.key(0), samples),
        partial(by_terms, terms),
    )


OPERATORS = (
    laplacian, value_and_laplacian, along_axes, derivatives, weighted, partial_derivative, apply, estimate, biharmonic,
)  # fmt: skip
COMPRESSED = {laplacian, value_and_laplacian, along_axes, biharmonic}
FOURTH = {biharmonic}  # its references are the largest programs


def plan(number: int, groups: int = GROUPS) -> tuple[Callable, str, list[str]]:
    """Operator, setting and items of a program; every item meets every operator and setting in 9 * groups of them."""
    turn, place, group = number // (len(OPERATORS) * groups), number % len(OPERATORS), number % groups
    names = np.random.default_rng(turn).permutation(sorted(ITEMS))  # other groups in every turn
    # op by op, each operation is compiled for itself: only where derivatives are low
    setting = "plain" if place == group % 4 else SETTINGS[1 + (place + group) % 3]
    if OPERATORS[place] in FOURTH and setting == SETTINGS[3]:  # minutes to compile, in the reference
        setting = "jit"
    return OPERATORS[place], setting, [str(name) for name in names[group::groups]]


def draw(number: int, choose: Choose, groups: int = GROUPS) -> tuple[Program, Callable, Callable, str]:
    """A program, an operator and its reference, and the setting."""
    operator, setting, items = plan(number, groups)
    salts = iter(np.random.default_rng(number).integers(0, 2**20, 1000).tolist())

    def pick(n):
        return choose(n, next(salts))

    # plain, each operation is compiled once for each shape: few shapes, and the programs share what is compiled
    plain = setting == "plain"
    d = 3 if plain else 2 if operator in FOURTH else 2 + pick(3)
    order = sorted(range(len(items)), key=lambda _: pick(2**20))
    steps = tuple((items[n], min(pick(len(items)), pick(3)), pick(4)) for n in order)
    widths = tuple(d if plain else 1 + pick(d + 2) for _ in range(3))
    alive = tuple(d if plain else 1 + pick(d + 1) for _ in range(pick(3) if operator in COMPRESSED else 0))
    program = Program(d, steps, widths, alive, pick(2**20))
    ours, reference = operator(pick, d)
    return program, ours, reference, setting


def check(number: int, choose: Choose, groups: int = GROUPS) -> float:
    """Raise an AssertionError where the two differ; returns the relative gap."""
    program, ours, reference, setting = draw(number, choose, groups)
    weights = program.weights()
    x = jnp.asarray(np.random.default_rng(program.seed + 1).uniform(0.2, 0.9, program.d))
    low = any(name in LOW for name, *_ in program.steps)

    def on(operator, exact=False):
        def run(weights, x):
            return operator(lambda x: program(weights, x, exact), x)

        if setting == "vmap":
            return jax.vmap(run, (None, 0))
        return jax.grad(lambda w, x: run(w, x).sum()) if setting.startswith("gradient") else run

    points = jnp.stack([x, 0.8 * x, 0.6 * x[::-1]]) if setting == "vmap" else x
    results = {"reference": on(reference), "exact": on(reference, exact=True)} if low else {"reference": on(reference)}
    if setting != "plain":
        results["ours"] = on(ours)
    found = jax.jit(lambda w, x: {name: run(w, x) for name, run in results.items()})(weights, points)
    if setting == "plain":
        found["ours"] = on(ours)(weights, points)
    flat = {name: np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(v)]) for name, v in found.items()}
    return compare(flat, f"{program} {setting}")


def compare(found: dict[str, np.ndarray], what: str) -> float:
    known = np.isfinite(found["reference"])  # a norm at zero, say, has no derivative there either
    assert known.any(), what
    found = {name: values[known] for name, values in found.items()}
    want = found.get("exact", found["reference"])
    scale = np.abs(want).max(initial=1)
    gap = np.abs(found["ours"] - want).max(initial=0) / scale
    bound = 1e-9
    if "exact" in found:  # low precision: at most three times as far off as nested differentiation
        bound = 3 * max(np.abs(found["reference"] - want).max(initial=0) / scale, 0.004)
    assert gap <= bound, f"{what}: expected {want}, got {found['ours']}, a relative gap of {gap:.1e} > {bound:.1e}"
    return gap
