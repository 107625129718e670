"""Laplacians and a fourth-order operator, exact and estimated, in ten to a hundred thousand dimensions (`make bench`).

One network for all sides: 3 hidden tanh layers of 128, linear output, 100 points, float32; 16 samples where coordinates
or directions are sampled. Time of the value and of the value with its parameter gradient; temporary memory as XLA plans
it. Lessons: 16_derivative_cliff, 17_taylor_mode, 18_stde.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax.experimental import jet

from benchmarks import harness
from benchmarks.harness import Contender, Ratio
from course import pde, stde, taylor

try:
    import folx  # requirements/bench.txt
except ImportError:
    folx = None

SEED, SAMPLES = 0, 16
network = pde.mlp


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    dimensions: tuple[int, ...] = (10, 100, 1_000, 10_000, 100_000)
    points: int = 100
    width: int = 128
    rounds: int = 5
    largest: int = 10_000  # of all coordinates against 16, and of the memory by samples
    fourth: int = 10  # the dimension of the fourth-order operator


QUICK = Sizes(dimensions=(20,), points=2, width=4, rounds=1, largest=20, fourth=3)


def network_and_points(d: int, sizes: Sizes) -> tuple:
    """Weights of variance 1 / inputs in all layers, points of the unit ball, and a key."""
    key, key_x, key_last = jax.random.split(jax.random.key(SEED), 3)
    params = pde.init_mlp(key, (d, *(sizes.width,) * 3, 1))
    params[-1] = jax.random.normal(key_last, (sizes.width, 1)) / sizes.width**0.5, params[-1][1]
    return params, pde.sample_ball(key_x, sizes.points, d), jax.random.key(SEED + 1)


# --- one Laplacian at one point: (params, x, key) -> scalar --------------------------------------------------------


def exact(params, x, key):
    return taylor.laplacian(partial(network, params), x)


def exact_uncompressed(params, x, key):
    return taylor.laplacian(partial(network, params), x, compress=False)


def hessian_trace(params, x, key):
    return jnp.trace(jax.hessian(partial(network, params))(x))


def hvp_loop(params, x, key):
    """Forward over reverse along one coordinate after the other, one Hessian row in memory at a time."""
    slope = jax.grad(partial(network, params))

    def entry(total, i):
        e = jnp.zeros_like(x).at[i].set(1.0)
        return total + jax.jvp(slope, (x,), (e,))[1][i], None

    return jax.lax.scan(entry, jnp.zeros(()), jnp.arange(len(x)))[0]


def folx_laplacian(params, x, key):
    return folx.forward_laplacian(partial(network, params))(x).laplacian


def sampled_axes(key, d):
    return jax.random.choice(key, d, (min(SAMPLES, d),), replace=False)


def sdgd(params, x, key):
    """Stochastic dimension gradient descent (Hu et al., 2023): sampled coordinates, backward mode twice."""
    slope = jax.grad(partial(network, params))
    axes = sampled_axes(key, len(x))
    entries = jax.vmap(lambda i: jax.grad(lambda x: slope(x)[i])(x)[i])(axes)
    return entries.mean() * len(x)


def jets(params, x, tangents):
    """`jax.experimental.jet` under vmap over dense tangents: the construction of the STDE paper's code."""
    zeros = jnp.zeros_like(x)
    second = jax.vmap(lambda v: jet.jet(partial(network, params), (x,), ((v, zeros),))[1][1])(tangents)
    return second.mean()


def jet_one_hot(params, x, key):
    d = len(x)
    return d * jets(params, x, jax.vmap(lambda i: jnp.eye(d)[i])(sampled_axes(key, d)))


def jet_rademacher(params, x, key, samples=SAMPLES):
    return jets(params, x, jax.random.rademacher(key, (samples, len(x)), x.dtype))


def sparse_axes(params, x, key, samples=SAMPLES):
    d = len(x)
    return stde.estimate(stde.laplacian(d), partial(network, params), x, key, min(samples, d))


def dense_signs(params, x, key, samples=SAMPLES):
    return stde.estimate(stde.laplacian(len(x)), partial(network, params), x, key, samples, dense="rademacher")


def batched(laplacian: Callable) -> tuple[Callable, Callable]:
    """Values at all points, and the parameter gradient of their mean square; the points share a draw."""

    def values(params, x, key):
        return jax.vmap(laplacian, in_axes=(None, 0, None))(params, x, key)

    return jax.jit(values), jax.jit(jax.value_and_grad(lambda *args: (values(*args) ** 2).mean()))


# --- the same in PyTorch -----------------------------------------------------------------------------------------


def torch_sides(params, x) -> dict[str, tuple[Callable, Callable]]:
    """Nested autograd, coordinate by coordinate; and torch.func, the trace of the Hessian."""
    weights = [(torch.tensor(np.asarray(w)), torch.tensor(np.asarray(b))) for w, b in params]
    flat = [t.requires_grad_() for pair in weights for t in pair]
    points = torch.tensor(np.asarray(x))

    def net(x, flat=tuple(flat)):
        for i in range(0, len(flat) - 2, 2):
            x = torch.tanh(x @ flat[i] + flat[i + 1])
        return (x @ flat[-2] + flat[-1]).squeeze(-1)

    def nested(create_graph):
        x = points.clone().requires_grad_()
        (slope,) = torch.autograd.grad(net(x).sum(), x, create_graph=True)
        total = 0
        for i in range(x.shape[1]):
            row = torch.autograd.grad(slope[:, i].sum(), x, create_graph=create_graph, retain_graph=True)[0]
            total = total + row[:, i]
        return total

    def traced(*flat):
        hessian = torch.func.hessian(lambda x: net(x, flat))
        return torch.func.vmap(lambda x: torch.trace(hessian(x)))(points)

    def functional_values():
        with torch.no_grad():
            return traced(*flat)

    def with_gradient(values):
        return lambda: torch.autograd.grad((values() ** 2).mean(), flat, allow_unused=True)

    return {
        "torch nested autograd": (lambda: nested(False).detach(), with_gradient(lambda: nested(True))),
        "torch.func Hessian trace": (functional_values, with_gradient(lambda: traced(*flat))),
    }


# --- tables --------------------------------------------------------------------------------------------------------

JAX_SIDES = {  # name -> function, largest dimension for the value and for the gradient
    "exact, course.taylor": (exact, 100_000, 100_000),
    "exact, not compressed": (exact_uncompressed, 1_000, 1_000),
    "jax.hessian": (hessian_trace, 1_000, 1_000),
    "Hessian-vector loop": (hvp_loop, 1_000, 100),
    "folx": (folx_laplacian, 10_000, 1_000),
    "SDGD, 16 coordinates": (sdgd, 100_000, 100_000),
    "jet, 16 one-hot": (jet_one_hot, 100_000, 100_000),
    "jet, 16 Rademacher": (jet_rademacher, 100_000, 100_000),
    "course.stde, 16 sparse": (sparse_axes, 100_000, 100_000),
    "course.stde, 16 Rademacher": (dense_signs, 100_000, 100_000),
}
TORCH_LIMITS = {"torch nested autograd": (100, 100), "torch.func Hessian trace": (1_000, 100)}
EXACT = ("exact, course.taylor", "exact, not compressed", "jax.hessian", "Hessian-vector loop", "folx", *TORCH_LIMITS)


def memory(compiled: Callable, *arguments) -> float | None:
    """Temporary memory that XLA plans, in MB."""
    plan = compiled.lower(*arguments).compile().memory_analysis()
    return None if plan is None else plan.temp_size_in_bytes / 1e6


def at_dimension(d: int, sizes: Sizes) -> tuple[list[dict], dict, dict]:
    """One table: milliseconds and temporary memory of every side that fits; and the two sets of contenders."""
    params, x, key = network_and_points(d, sizes)
    sides: dict[str, tuple[Callable, Callable]] = {}
    for name, (laplacian, most, most_grad) in JAX_SIDES.items():
        if d <= most and not (folx is None and laplacian is folx_laplacian):
            value, grad = batched(laplacian)
            sides[name] = (partial(value, params, x, key), partial(grad, params, x, key) if d <= most_grad else None)
    for name, (value, grad) in torch_sides(params, x).items():
        most, most_grad = TORCH_LIMITS[name]
        if d <= most:
            sides[name] = (value, grad if d <= most_grad else None)
    check({name: np.asarray(sides[name][0]()) for name in EXACT if name in sides})

    def contenders(which):
        return [
            Contender(name, lambda: (), pair[which], rounds=sizes.rounds, calls=3 if d < 1000 else 1)
            for name, pair in sides.items()
            if pair[which] is not None
        ]

    value = harness.interleave(contenders(0), f"d = {d:,}: value")
    grad = harness.interleave(contenders(1), f"d = {d:,}: with gradient")
    rows = []
    for name, (run, run_grad) in sides.items():
        plan = [memory(r.func, *r.args) if isinstance(r, partial) else None for r in (run, run_grad)]
        rows.append(
            {
                "name": name, "value_ms": 1e3 * value[name].median, "value_MB": plan[0],
                "gradient_ms": 1e3 * grad[name].median if name in grad else None, "gradient_MB": plan[1],
            }
        )  # fmt: skip
    return rows, value, grad


def check(values: dict[str, np.ndarray]) -> None:
    """The exact sides agree: float32 sums of up to 100,000 terms, relative to the largest value."""
    reference = values["exact, course.taylor"]
    for name, got in values.items():
        gap = np.abs(got - reference).max() / np.abs(reference).max()
        if not gap < 1e-3:
            raise SystemExit(
                f"expected {name} to agree with course.taylor within 1e-3, got a relative gap of {gap:.1e}"
            )


def against_the_loop(points: int, sizes: Sizes) -> dict[str, Contender]:
    """The paper's comparison: a loop over all coordinates against 16 of them."""
    d = sizes.largest
    params, x, key = network_and_points(d, sizes)
    sides = {"Hessian-vector loop": batched(hvp_loop)[0], "16 sparse": batched(sparse_axes)[0]}
    x = x[:points]
    return harness.interleave(
        [Contender(name, lambda: (params, x, key), run, rounds=sizes.rounds) for name, run in sides.items()],
        f"all {d:,} coordinates against 16, {points} points",
    )


def fourth_order(sizes: Sizes) -> dict[str, Contender]:
    """The biharmonic operator: the Laplacian of the Laplacian, fourth jets along lines, and nested Hessians."""
    d = sizes.fourth
    params, x, _ = network_and_points(d, sizes)
    axes, pairs = np.eye(d), [(i, j) for i in range(d) for j in range(i)]
    lines = np.concatenate([axes, *([axes[i] + s * axes[j] for i, j in pairs] for s in (1, -1))])
    weights = np.array([(4 - d) / 3] * d + [1 / 6] * (2 * len(pairs)))  # D^4[e_i + e_j] + D^4[e_i - e_j] has 12 u_iijj

    def nested(params, x):
        inner = lambda x: jnp.trace(jax.hessian(partial(network, params))(x))  # noqa: E731
        return jnp.trace(jax.hessian(inner)(x))

    def ours(params, x):
        return taylor.biharmonic(partial(network, params), x)

    def by_lines(params, x):
        return taylor.weighted(partial(network, params), x, lines, weights, 4)

    ways = {"course.taylor.biharmonic": ours, "fourth jets along lines": by_lines, "nested jax.hessian": nested}
    sides = {name: jax.jit(jax.vmap(run, in_axes=(None, 0))) for name, run in ways.items()}
    results = [np.asarray(run(params, x)) for run in sides.values()]
    if not all(np.allclose(r, results[0], rtol=1e-2, atol=1e-3 * np.abs(results[0]).max()) for r in results):
        raise SystemExit("expected one biharmonic within 1 %, got several")
    return harness.interleave(
        [Contender(name, lambda: (params, x), run, rounds=sizes.rounds, calls=4) for name, run in sides.items()],
        f"fourth order, d = {d}",
    )


def by_samples(sizes: Sizes) -> list[dict]:
    """Temporary memory with the parameter gradient at 16 and at 1,024 directions."""
    d = sizes.largest
    params, x, key = network_and_points(d, sizes)
    rows = []
    for name, laplacian in {
        "jet": jet_rademacher,
        "course.stde Rademacher": dense_signs,
        "course.stde sparse": sparse_axes,
    }.items():
        row = {"name": f"{name}, d = {d:,}"}
        for samples in (16, 1_024):
            run = batched(partial(laplacian, samples=samples))[1] if samples <= d else None
            row[f"{samples}_directions_MB"] = run and memory(run, params, x, key)
        rows.append(row)
    return rows


def bench(quick: bool) -> tuple[dict[str, list[dict]], list[Ratio]]:
    sizes = QUICK if quick else Sizes()
    if folx is None:
        print("folx is not installed (requirements/bench.txt): its rows and ratios are left out")
    tables, value, grad, rows = {}, {}, {}, {}
    for d in sizes.dimensions:
        table, value[d], grad[d] = at_dimension(d, sizes)
        tables[f"d = {d:,}"] = table
        rows[d] = {row["name"]: row for row in table}
    loop, fourth = against_the_loop(4, sizes), fourth_order(sizes)
    tables["all coordinates against 16, 4 points"] = [c.row() for c in loop.values()]
    tables[f"fourth order, d = {sizes.fourth}"] = [c.row() for c in fourth.values()]
    tables["temporary memory with gradient"] = by_samples(sizes)

    def faster(times, d, slow, fast):
        both = times.get(d, {})
        return both[slow].median / both[fast].median if slow in both else None

    def smaller(d, large, small):
        both = rows.get(d, {})
        return both[large]["gradient_MB"] / both[small]["gradient_MB"] if large in both else None

    ours, estimate, one_hot = "exact, course.taylor", "course.stde, 16 sparse", "jet, 16 one-hot"
    nested, whole = fourth["nested jax.hessian"].median, loop["Hessian-vector loop"].median
    measured = [  # what, how many times faster or smaller, what we ask for
        ("exact vs folx, d = 1K", faster(value, 1_000, "folx", ours), 10),
        ("exact vs folx, d = 10K", faster(value, 10_000, "folx", ours), 60),
        ("exact vs torch.func Hessian trace, d = 1K", faster(value, 1_000, "torch.func Hessian trace", ours), 100),
        ("exact vs 16-sample jet, d = 10K", faster(value, 10_000, one_hot, ours), 0.9),
        ("exact vs 16-sample jet, d = 100K", faster(value, 100_000, one_hot, ours), None),
        ("exact vs 16-sample jet, with gradient, d = 100K", faster(grad, 100_000, one_hot, ours), 1.4),
        ("16 sparse vs jet, with gradient, d = 10K: time", faster(grad, 10_000, one_hot, estimate), 1.4),
        ("16 sparse vs jet, with gradient, d = 10K: memory", smaller(10_000, one_hot, estimate), 3),
        ("16 sparse vs jet, with gradient, d = 100K: time", faster(grad, 100_000, one_hot, estimate), 2.2),
        ("16 sparse vs jet, with gradient, d = 100K: memory", smaller(100_000, one_hot, estimate), 8),
        (
            f"16 sparse vs Hessian-vector loop over all, d = {sizes.largest:,}, 4 points",
            whole / loop["16 sparse"].median,
            1000,
        ),
        (
            "16 Rademacher vs jax.hessian, with gradient, d = 1K: memory",
            smaller(1_000, "jax.hessian", "course.stde, 16 Rademacher"),
            30,
        ),
        (
            f"fourth order exact (biharmonic, the Laplacian twice) vs nested Hessians, d = {sizes.fourth}",
            nested / fourth["course.taylor.biharmonic"].median,
            3.5,
        ),
        (
            f"fourth order exact (fourth jets along lines) vs nested Hessians, d = {sizes.fourth}",
            nested / fourth["fourth jets along lines"].median,
            None,
        ),
    ]
    return tables, [Ratio(*row) for row in measured if row[1] is not None]  # not at dimensions that were not measured


def main() -> None:
    harness.command("operators", bench)


if __name__ == "__main__":
    main()
