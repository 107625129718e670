"""Laplacians and a fourth-order operator, exact and estimated, in ten to a hundred thousand dimensions (`make bench`).

One network for all sides: 3 hidden tanh layers of 128, linear output, 100 points, float32; 16 samples where coordinates
or directions are sampled. Time of the value and of the value with its parameter gradient; temporary memory as XLA plans
it. Lessons: 16_derivative_cliff, 17_taylor_mode, 18_stde.
"""

from benchmarks import harness  # isort: skip  (asks for one core before JAX starts)

from collections.abc import Callable
from functools import partial

import folx
import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax.experimental import jet

from benchmarks.harness import Contender, Ratio
from course import pde, stde, taylor

QUICK = harness.quick()
SEED, ROUNDS, POINTS, WIDTH, SAMPLES = 0, 1 if QUICK else 5, 8 if QUICK else 100, 128, 16
DIMENSIONS = (10, 100) if QUICK else (10, 100, 1_000, 10_000, 100_000)
torch.set_num_threads(harness.CORES)
network = pde.mlp


def problem(d: int) -> tuple:
    """Weights of variance 1 / inputs in all layers, points of the unit ball, and a key."""
    key, key_x, key_last = jax.random.split(jax.random.key(SEED), 3)
    params = pde.init_mlp(key, (d, WIDTH, WIDTH, WIDTH, 1))
    params[-1] = jax.random.normal(key_last, (WIDTH, 1)) / WIDTH**0.5, params[-1][1]
    return params, pde.sample_ball(key_x, POINTS, d), jax.random.key(SEED + 1)


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


def sparse(params, x, key, samples=SAMPLES):
    d = len(x)
    return stde.estimate(stde.laplacian(d), partial(network, params), x, key, min(samples, d))


def dense(params, x, key, samples=SAMPLES):
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
    "course.stde, 16 sparse": (sparse, 100_000, 100_000),
    "course.stde, 16 Rademacher": (dense, 100_000, 100_000),
}
TORCH_LIMITS = {"torch nested autograd": (100, 100), "torch.func Hessian trace": (1_000, 100)}
EXACT = ("exact, course.taylor", "exact, not compressed", "jax.hessian", "Hessian-vector loop", "folx", *TORCH_LIMITS)


def memory(compiled: Callable, *arguments) -> float | None:
    """Temporary memory that XLA plans, in MB."""
    plan = compiled.lower(*arguments).compile().memory_analysis()
    return None if plan is None else plan.temp_size_in_bytes / 1e6


def at_dimension(d: int) -> tuple[list[dict], dict, dict]:
    """One table: milliseconds and temporary memory of every side that fits; and the two sets of contenders."""
    params, x, key = problem(d)
    sides: dict[str, tuple[Callable, Callable]] = {}
    for name, (laplacian, most, most_grad) in JAX_SIDES.items():
        if d <= most:
            value, grad = batched(laplacian)
            sides[name] = (partial(value, params, x, key), partial(grad, params, x, key) if d <= most_grad else None)
    for name, (value, grad) in torch_sides(params, x).items():
        most, most_grad = TORCH_LIMITS[name]
        if d <= most:
            sides[name] = (value, grad if d <= most_grad else None)
    check({name: np.asarray(sides[name][0]()) for name in EXACT if name in sides})

    def contenders(which):
        return [
            Contender(name, lambda: (), pair[which], rounds=ROUNDS, calls=3 if d < 1000 else 1)
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


def against_the_loop(d: int, points: int) -> dict[str, Contender]:
    """The paper's comparison: a loop over all coordinates against 16 of them."""
    params, x, key = problem(d)
    sides = {"Hessian-vector loop": batched(hvp_loop)[0], "16 sparse": batched(sparse)[0]}
    x = x[:points]
    return harness.interleave(
        [Contender(name, lambda: (params, x, key), run, rounds=ROUNDS) for name, run in sides.items()],
        f"all {d:,} coordinates against 16, {points} points",
    )


def fourth_order(d: int = 10) -> dict[str, Contender]:
    """The biharmonic operator: the Laplacian of the Laplacian, fourth jets along lines, and nested Hessians."""
    params, x, _ = problem(d)
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
        [Contender(name, lambda: (params, x), run, rounds=ROUNDS, calls=4) for name, run in sides.items()],
        f"fourth order, d = {d}",
    )


def by_samples(d: int) -> list[dict]:
    """Temporary memory with the parameter gradient at 16 and at 1,024 directions."""
    params, x, key = problem(d)
    rows = []
    for name, laplacian in {
        "jet": jet_rademacher,
        "course.stde Rademacher": dense,
        "course.stde sparse": sparse,
    }.items():
        row = {"name": f"{name}, d = {d:,}"}
        for samples in (16, 1_024):
            if samples <= d:
                plan = memory(batched(partial(laplacian, samples=samples))[1], params, x, key)
                row[f"{samples}_directions_MB"] = plan
        rows.append(row)
    return rows


def main() -> None:
    tables, value, grad, rows = {}, {}, {}, {}
    for d in DIMENSIONS:
        table, value[d], grad[d] = at_dimension(d)
        tables[f"d = {d:,}"] = table
        rows[d] = {row["name"]: row for row in table}
    largest = 100 if QUICK else 10_000
    loop, fourth = against_the_loop(largest, points=4), fourth_order()
    tables["all coordinates against 16, 4 points"] = [c.row() for c in loop.values()]
    tables["fourth order, d = 10"] = [c.row() for c in fourth.values()]
    tables["temporary memory with gradient"] = by_samples(100 if QUICK else 10_000)

    def faster(times, d, slow, fast):
        return times[d][slow].median / times[d][fast].median if d in times and slow in times[d] else float("nan")

    def smaller(d, large, small):
        found = rows.get(d, {})
        return found[large]["gradient_MB"] / found[small]["gradient_MB"] if large in found else float("nan")

    ours, estimate, one_hot = "exact, course.taylor", "course.stde, 16 sparse", "jet, 16 one-hot"
    ratios = [
        Ratio("exact vs folx, d = 1K", faster(value, 1_000, "folx", ours), 10),
        Ratio("exact vs folx, d = 10K", faster(value, 10_000, "folx", ours), 60),
        Ratio("exact vs torch.func Hessian trace, d = 1K", faster(value, 1_000, "torch.func Hessian trace", ours), 100),
        Ratio("exact vs 16-sample jet, d = 10K", faster(value, 10_000, one_hot, ours), 0.9),
        Ratio("exact vs 16-sample jet, d = 100K", faster(value, 100_000, one_hot, ours)),
        Ratio("exact vs 16-sample jet, with gradient, d = 100K", faster(grad, 100_000, one_hot, ours), 1.4),
        Ratio("16 sparse vs jet, with gradient, d = 10K: time", faster(grad, 10_000, one_hot, estimate), 1.4),
        Ratio("16 sparse vs jet, with gradient, d = 10K: memory", smaller(10_000, one_hot, estimate), 3),
        Ratio("16 sparse vs jet, with gradient, d = 100K: time", faster(grad, 100_000, one_hot, estimate), 2.2),
        Ratio("16 sparse vs jet, with gradient, d = 100K: memory", smaller(100_000, one_hot, estimate), 8),
        Ratio(
            f"16 sparse vs Hessian-vector loop over all, d = {largest:,}, 4 points",
            loop["Hessian-vector loop"].median / loop["16 sparse"].median,
            1000,
        ),
        Ratio(
            "16 Rademacher vs jax.hessian, with gradient, d = 1K: memory",
            smaller(1_000, "jax.hessian", "course.stde, 16 Rademacher"),
            30,
        ),
        Ratio(
            "fourth order exact (biharmonic, the Laplacian twice) vs nested Hessians, d = 10",
            fourth["nested jax.hessian"].median / fourth["course.taylor.biharmonic"].median,
            3.5,
        ),
        Ratio(
            "fourth order exact (fourth jets along lines) vs nested Hessians, d = 10",
            fourth["nested jax.hessian"].median / fourth["fourth jets along lines"].median,
        ),
    ]
    harness.report("operators", tables, ratios)


if __name__ == "__main__":
    main()
