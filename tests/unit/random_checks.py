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
    """By itself, or less a multiple of the pure fourth derivatives and with a Laplacian: no multiple of it any more."""

    def reference(f, x):
        return sum_over(lambda x: sum_over(f, np.eye(d), 2, x), np.eye(d), 2, x)

    if choose(2):
        return taylor.biharmonic, reference
    pure, lap = choose(3) - 1.0, float(choose(2))
    fourths = stde.Operator({tuple(4 * (i == j) for j in range(d)): pure for i in range(d)})
    mixture = stde.biharmonic(d) - fourths + lap * stde.laplacian(d)

    def by_parts(f, x):
        eye = np.eye(d)
        return reference(f, x) - pure * sum_over(f, eye, 4, x) + lap * sum_over(f, eye, 2, x)

    return partial(stde.apply, mixture), by_parts


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


def bend(x):
    return 1 + x[0] * x[-1]


def operator_of(choose, d):
    """An operator and its reference: terms, the same times a function, orders along one axis, or diffusion."""
    form = choose(4)
    if form == 3:

        def flux(f, x):
            rows = jnp.eye(d)
            return sum(along(lambda x, v=v: bend(x) * along(f, v)(x), v)(x) for v in rows) - along(f, rows[0])(x)

        return stde.diffusion(bend, d) - stde.advection(np.eye(d)[0], d), flux
    terms = terms_of(choose, d)
    if form == 2:  # three orders along one axis, two of which are read
        axis = choose(d)
        terms |= {tuple(order * (i == axis) for i in range(d)): order - 2.5 for order in (1, 2, 3)}
    if form == 1:
        return bend * stde.Operator(terms), lambda f, x: bend(x) * by_terms(terms, f, x)
    return stde.Operator(terms), partial(by_terms, terms)


def apply(choose, d):
    operator, reference = operator_of(choose, d)
    return partial(stde.apply, operator), reference


def estimate(choose, d):
    """As many samples as the largest kind has terms: all are taken, and the estimate is exact."""
    operator, reference = operator_of(choose, d)
    samples = max(map(len, operator.kinds))
    return lambda f, x: stde.estimate(operator, f, x, jax.random.key(0), samples), reference


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
    """Raise an AssertionError where the two differ; returns the relative gap.

    A program that has no derivative at all where it was drawn (a norm at zero, say) makes way for another draw.
    """
    for _ in range(5):
        program, ours, reference, setting = draw(number, choose, groups)
        what, low = f"{program} {setting}", any(name in LOW for name, *_ in program.steps)
        found = results(program, ours, reference, setting, low)
        known = np.isfinite(found["reference"])
        if known.any():
            found = {name: values[known] for name, values in found.items()}
            return compare_low(found, program, ours, reference, setting) if low else compare(found, what)
    raise AssertionError(f"{what}: five draws, and nested JAX has no derivative of any")


def results(program: Program, ours: Callable, reference: Callable, setting: str, low: bool) -> dict[str, np.ndarray]:
    """What the two operators give, flat; of a program in low precision, also what it gives in full precision."""
    runs = {"reference": runner(program, reference, setting), "ours": runner(program, ours, setting)}
    if low:
        runs["exact"] = runner(program, reference, setting, exact=True)
    weights, x = program.weights(), start(program)
    if setting == "vmap":
        x = jnp.stack([x, 0.8 * x, 0.6 * x[::-1]])
        runs = {name: jax.vmap(run, (None, 0)) for name, run in runs.items()}
    op_by_op = {"ours": runs.pop("ours")} if setting == "plain" else {}
    found = jax.jit(lambda weights, x: {name: run(weights, x) for name, run in runs.items()})(weights, x)
    found |= {name: run(weights, x) for name, run in op_by_op.items()}
    return {name: np.ravel(values) for name, values in found.items()}


def runner(program: Program, operator: Callable, setting: str, exact: bool = False) -> Callable:
    """The operator, or its gradient by the weights: (weights, point (d,)) -> (n,)."""

    def run(weights, x):
        return jnp.ravel(operator(lambda x: program(weights, x, exact), x))

    def gradient(weights, x):
        leaves = jax.tree.leaves(jax.grad(lambda weights: run(weights, x).sum())(weights))
        return jnp.concatenate([jnp.ravel(leaf) for leaf in leaves])

    return gradient if setting.startswith("gradient") else run


def start(program: Program) -> jax.Array:
    """The point at which a program is differentiated, (d,)."""
    return jnp.asarray(np.random.default_rng(program.seed + 1).uniform(0.2, 0.9, program.d))


def compare(found: dict[str, np.ndarray], what: str) -> float:
    want, got = found["reference"], found["ours"]
    gap = relative(got, want)
    assert gap <= 1e-9, f"{what}: expected {want}, got {got}, a relative gap of {gap:.1e}"
    return gap


def compare_low(found: dict, program: Program, ours: Callable, reference: Callable, setting: str) -> float:
    """In low precision: at most three times as far off as nested differentiation.

    At one point the errors of both are a matter of luck: either is three times the other's at one point in fifty. Where
    ours is that much larger, the medians over 64 points decide.
    """
    want, got = found["exact"], found["ours"]
    assert np.isfinite(got).all(), f"{program} {setting}: expected {want}, got {got}"
    gap = relative(got, want)
    if gap <= 3 * max(relative(found["reference"], want), 0.004):
        return gap
    points = start(program) * np.random.default_rng(program.seed).uniform(0.9, 1.1, (64, program.d))
    want, nested, mine = (
        np.asarray(jax.jit(jax.vmap(runner(program, operator, setting, exact), (None, 0)))(program.weights(), points))
        for operator, exact in ((reference, True), (reference, False), (ours, False))
    )
    typical, allowed = (np.nanmedian(list(map(relative, values, want))) for values in (mine, nested))
    assert typical <= 3 * max(allowed, 0.004), (
        f"{program} {setting}: expected {found['exact']}, got {got}; over 64 points the relative gap is {typical:.1e}, "
        f"that of nested differentiation {allowed:.1e}"
    )
    return gap


def relative(got: np.ndarray, want: np.ndarray) -> float:
    """The largest error over the largest value, or over 1 where all are smaller."""
    return np.abs(got - want).max(initial=0) / np.abs(want).max(initial=1)
