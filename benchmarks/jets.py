"""When Taylor mode wins and when it loses: lines, mixed partials, linear algebra, loops, long programs (`make bench`).

Time of the value and of its parameter gradient, and the temporary memory that XLA plans. Every side of a comparison is
what one would write without `course.taylor`: nested `jax.jvp`, `jax.experimental.jet`, forward over reverse,
`jax.hessian`. float32. Lessons: 17_taylor_mode, 17b_jets_at_work.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from math import factorial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import jet

from benchmarks import harness
from benchmarks.harness import Contender, Ratio
from benchmarks.operators import memory
from course import pde, stde, taylor

SEED = 0
LEVEL = 0.9  # "no slower", where ratios of runs on one machine vary by a tenth
Way = Callable[[Callable, jax.Array], jax.Array]
"""(f, x) -> a derivative of f at x."""


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    orders: tuple[int, ...] = tuple(range(1, 9))  # along one line
    indices: tuple[tuple[int, ...], ...] = ((1, 1), (3, 1), (1, 1, 1), (2, 1, 1), (1, 1, 1, 1))
    functions: tuple[str, ...] = ("inverse", "solve, a column", "solve, a matrix", "log determinant", "Cholesky")
    steps: int = 24  # of the loop
    blocks: int = 6  # of the loop whose body is under `jax.checkpoint`
    lengths: tuple[int, ...] = (800, 3_200)  # of long programs, in equations
    dimensions: tuple[int, ...] = (400, 100_000)  # of the biharmonic operator
    largest: int = 1_000_000  # in which it is made
    width: int = 50
    matrix: int = 12
    dimension: int = 36
    points: int = 128
    rounds: int = 7


QUICK = Sizes((1, 2), ((1, 1),), ("inverse", "Cholesky"), 2, 2, (10,), (5,), 10, 4, 2, 3, 2, 1)


# --- ways to differentiate -----------------------------------------------------------------------------------------


def nested(axes: Sequence[int], d: int) -> Way:
    """Nested `jax.jvp`, along one axis after the other."""

    def way(f: Callable, x: jax.Array) -> jax.Array:
        for axis in axes:
            f = partial(lambda f, axis, x: jax.jvp(f, (x,), (jnp.eye(d)[axis],))[1], f, axis)
        return f(x)

    return way


def by_jet(order: int) -> Way:
    """`jax.experimental.jet` along the first axis."""

    def way(f: Callable, x: jax.Array) -> jax.Array:
        zeros = [jnp.zeros_like(x)] * (order - 1)
        return jet.jet(f, (x,), ((jnp.eye(len(x))[0], *zeros),))[1][-1]

    return way


def by_signs(index: Sequence[int]) -> Way:
    """Polarisation: the mixed derivative as a sum over signs of pure ones along +-e_1 +-e_2 …, collapsed."""
    axes = [axis for axis, power in enumerate(index) for _ in range(power)]
    weights: dict[tuple[int, ...], float] = {}
    for signs in product((1, -1), repeat=len(axes) - 1):
        line = np.zeros(len(index), int)
        np.add.at(line, axes, (1, *signs))
        turn = -1 if line[np.flatnonzero(line)[:1]].sum() < 0 else 1  # v and -v are one line
        key, weight = tuple(turn * line), turn ** len(axes) * np.prod(signs)
        weights[key] = weights.get(key, 0.0) + weight / (2 ** (len(axes) - 1) * factorial(len(axes)))
    kept = {line: weight for line, weight in weights.items() if weight and any(line)}
    lines, factors = np.array(list(kept), float), np.array(list(kept.values()))
    return lambda f, x: taylor.weighted(f, x, lines, factors, len(axes))


def forward_over_reverse(f: Callable, x: jax.Array) -> jax.Array:
    slope = jax.grad(f)
    return jnp.trace(jax.vmap(lambda v: jax.jvp(slope, (x,), (v,))[1])(jnp.eye(len(x))))


def hessian_trace(f: Callable, x: jax.Array) -> jax.Array:
    return jnp.trace(jax.hessian(f)(x))


LAPLACIANS = {"taylor.laplacian": taylor.laplacian, "forward over reverse": forward_over_reverse,
              "jax.hessian": hessian_trace}  # fmt: skip


# --- functions (weights, x) -> scalar ------------------------------------------------------------------------------


def network(*sizes: int) -> Any:
    """Weights of a tanh network; unlike those of `pde.init_mlp` the last ones are not zero, nor are the derivatives."""
    *hidden, (last, bias) = pde.init_mlp(jax.random.key(SEED), sizes)
    return [*hidden, (jax.random.normal(jax.random.key(SEED + 1), last.shape) / len(last) ** 0.5, bias)]


def of_matrices(name: str, sizes: Sizes) -> tuple[jax.Array, Callable]:
    """A function of a matrix whose entries are tanh of linear functions of x."""
    n, d = sizes.matrix, sizes.dimension
    weights = 0.3 * jax.random.normal(jax.random.key(SEED), (d, n * n)) / d**0.5
    fixed = jax.random.normal(jax.random.key(SEED + 1), (n, n))
    functions = {
        "inverse": lambda a: (jnp.linalg.inv(a) * fixed).sum(),
        "solve, a column": lambda a: jnp.linalg.solve(a, fixed[0]) @ fixed[0],
        "solve, a matrix": lambda a: (jnp.linalg.solve(a, fixed) * fixed).sum(),
        "log determinant": lambda a: jnp.linalg.slogdet(a)[1],
        "Cholesky": lambda a: (jnp.linalg.cholesky(a @ a.T + jnp.eye(n)) * fixed).sum(),
    }
    return weights, lambda w, x: functions[name](3 * jnp.eye(n) + jnp.tanh(x @ w).reshape(n, n))


def recurrent(sizes: Sizes) -> tuple[jax.Array, Callable]:
    """The sum of a recurrent network's last state, by `lax.scan`."""
    weights = jax.random.normal(jax.random.key(SEED), (sizes.dimension, sizes.dimension)) / (4 * sizes.dimension**0.5)

    def f(w: jax.Array, x: jax.Array) -> jax.Array:
        step = lambda h, _: (jnp.tanh(h @ w + x), None)  # noqa: E731
        return jax.lax.scan(step, jnp.zeros_like(x), None, length=sizes.steps)[0].sum()

    return weights, f


def blocks(sizes: Sizes, checkpoint: bool) -> tuple[jax.Array, Callable]:
    """The sum of what a scan over blocks of two layers makes of x, each block recomputed or not."""
    weights = jax.random.normal(jax.random.key(SEED), (sizes.blocks, 2, sizes.dimension, sizes.dimension))

    def block(h: jax.Array, w: jax.Array) -> tuple[jax.Array, None]:
        return jnp.tanh(jnp.tanh(h @ w[0]) @ w[1]), None

    body = jax.checkpoint(block) if checkpoint else block
    return weights / sizes.dimension**0.5, lambda w, x: jax.lax.scan(body, x, w)[0].sum()


def long_program(length: int) -> Callable:
    """A program of so many equations."""

    def f(x: jax.Array) -> jax.Array:
        for _ in range(length // 2):
            x = jnp.sin(x) + x
        return x.sum()

    return f


# --- measuring -----------------------------------------------------------------------------------------------------


def compare(title: str, f: Callable, weights: Any, x: jax.Array, ways: dict[str, Way], rounds: int) -> list[dict]:
    """Milliseconds and megabytes of each way, of the values at all points and of a gradient by the weights."""

    def values(way: Way, weights: Any, x: jax.Array) -> jax.Array:
        return jax.vmap(lambda x: way(partial(f, weights), x))(x)

    def gradient(way: Way, weights: Any, x: jax.Array) -> Any:
        return jax.grad(lambda weights: (values(way, weights, x) ** 2).mean())(weights)

    rows: dict[str, dict] = {name: {"name": f"{title}: {name}"} for name in ways}
    for kind, run in (("value", values), ("gradient", gradient)):
        compiled = {name: jax.jit(partial(run, way)) for name, way in ways.items()}
        check(title, {name: each(weights, x) for name, each in compiled.items()})
        sides = [Contender(n, lambda: (weights, x), run, rounds=rounds, calls=3) for n, run in compiled.items()]
        for name, side in harness.interleave(sides, f"{title}: {kind}").items():
            rows[name] |= {
                f"{kind}_ms": 1e3 * side.median, f"{kind}_MB": memory(compiled[name], weights, x),
                f"{kind}_first_s": side.first_s,
            }  # fmt: skip
    return list(rows.values())


def check(title: str, results: dict[str, Any]) -> None:
    """All ways agree, on something other than zero: float32, relative to the largest entry."""
    flat = {n: np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(r)]) for n, r in results.items()}
    reference = next(iter(flat.values()))
    for name, got in flat.items():
        gap = np.abs(got - reference).max() / np.abs(reference).max()
        if not gap < 1e-2:
            raise SystemExit(f"expected {name} to agree within 1e-2, got a relative gap of {gap:.1e} ({title})")


def ratios(rows: list[dict], what: str, bound: float | None = None) -> list[Ratio]:
    """The best of the others over ours, the first row: time and memory, value and gradient."""
    ours, *others = rows
    found = []
    for column in ("value_ms", "gradient_ms", "value_MB", "gradient_MB"):
        if all(row[column] for row in rows):
            best = min(row[column] for row in others)
            found.append(Ratio(f"{what}, {column.replace('_', ', ')}", best / ours[column], bound))
    return found


def bench(quick: bool) -> tuple[dict[str, list[dict]], list[Ratio]]:
    sizes = QUICK if quick else Sizes()
    titles = ("one line", "mixed partials", "linear algebra", "a loop", "many dimensions", "tracing")
    tables: dict[str, list[dict]] = {title: [] for title in titles}
    measured: list[Ratio] = []

    def add(table: str, name: str, of: tuple, x: jax.Array, ways: dict, bound: float | None, kinds=slice(None)) -> None:
        weights, f = of
        rows = compare(name, f, weights, x, ways, sizes.rounds)
        tables[table] += rows
        measured.extend(ratios(rows, f"{name}: the best of the others / ours", bound)[kinds])

    def points(d: int, count: int) -> jax.Array:
        return jax.random.normal(jax.random.key(SEED + 2), (count, d))

    x, mlp = points(4, sizes.points), (network(4, *[sizes.width] * 3, 1), pde.mlp)
    for order in sizes.orders:
        ours = lambda f, x, order=order: taylor.derivatives(f, x, jnp.eye(4)[0], order)[-1]  # noqa: E731
        ways = {"taylor.derivatives": ours, "nested jvp": nested([0] * order, 4), "jet": by_jet(order)}
        add("one line", f"order {order}", mlp, x, ways, None)
    for index in sizes.indices:
        whole = (*index, *[0] * (4 - len(index)))
        axes = [axis for axis, power in enumerate(index) for _ in range(power)]
        ways = {"taylor.partial_derivative": partial(partial_derivative, index=whole), "signs": by_signs(whole)}
        ways |= {f"nested jvp {order}": nested(order, 4) for order in sorted({tuple(axes), tuple(axes[::-1])})}
        add("mixed partials", str(index), mlp, x, ways, LEVEL)
    kdv = stde.kdv_2d()
    ways = {"stde.apply": lambda f, x: stde.apply(kdv, f, x), "nested jvp": kdv_by_jvp}
    mlp = network(3, *[sizes.width] * 3, 1), pde.mlp
    add("mixed partials", "KdV in two dimensions", mlp, points(3, sizes.points), ways, LEVEL)
    x = points(sizes.dimension, max(sizes.points // 4, 1))
    for name in sizes.functions:
        add("linear algebra", name, of_matrices(name, sizes), x, LAPLACIANS, LEVEL, slice(2))
    add("a loop", f"scan of {sizes.steps} steps", recurrent(sizes), x, LAPLACIANS, None)
    for name, under in (("blocks", False), ("blocks under jax.checkpoint", True)):
        add("a loop", f"scan of {sizes.blocks} {name}", blocks(sizes, under), x, LAPLACIANS, None)
    for d in sizes.dimensions:
        operator, mlp = stde.biharmonic(d), (network(d, 64, 64, 1), pde.mlp)
        ways = {"stde.apply": partial(apply, operator), "taylor.laplacian twice": twice}
        add("many dimensions", f"biharmonic, d = {d:,}", mlp, points(d, 1), ways, LEVEL)
    make = Contender(f"stde.biharmonic({sizes.largest:_})", lambda: (sizes.largest,), made, rounds=sizes.rounds)
    tables["operators"] = [side.row() for side in harness.interleave([make], "an operator").values()]
    for length in sizes.lengths:
        f, start = long_program(length), jnp.ones(3)
        sides = [
            Contender(f"{length:,} equations: {name}", tuple, partial(tracing, LAPLACIANS[name], f, start), rounds=3)
            for name in ("taylor.laplacian", "jax.hessian")
        ]
        ours, rival = harness.interleave(sides, f"tracing {length:,} equations").values()
        tables["tracing"] += [ours.row(), rival.row()]
        measured.append(Ratio(f"tracing {length:,} equations: jax.hessian / ours", rival.median / ours.median, 1))
    return tables, measured


def apply(operator: stde.Operator, f: Callable, x: jax.Array) -> jax.Array:
    return stde.apply(operator, f, x)


def twice(f: Callable, x: jax.Array) -> jax.Array:
    return taylor.laplacian(lambda x: taylor.laplacian(f, x), x)


def made(d: int) -> None:
    stde.biharmonic(d)


def tracing(way: Way, f: Callable, x: jax.Array) -> None:
    jax.make_jaxpr(lambda x: way(f, x))(x)


def partial_derivative(f: Callable, x: jax.Array, index: tuple[int, ...]) -> jax.Array:
    return taylor.partial_derivative(f, x, index)


def kdv_by_jvp(f: Callable, x: jax.Array) -> jax.Array:
    """u_ty + u_xxxy + 2 u_yy - u_xx over (t, x, y)."""
    terms = {(0, 2): 1.0, (1, 1, 1, 2): 1.0, (2, 2): 2.0, (1, 1): -1.0}
    return sum((factor * nested(axes, 3)(f, x) for axes, factor in terms.items()), jnp.zeros(()))


def main() -> None:
    harness.command("jets", bench)


if __name__ == "__main__":
    main()
