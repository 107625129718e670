"""Derivatives read off a hand-made jet of high order, timed beside the derived ones (`make bench`).

Shi et al. (2024) get mixed derivatives from one jet whose input has tangents at a few orders only: 5-, 7-, 9- and
13-jets, read off by a table of factors. Each is written here as a user would have to write it, with the factors that
lesson 18b finds right, and beside it what `course.taylor` and `course.stde` derive. Both give the same numbers in
float64; times, and what of the digits is left, are in float32. Lesson: 18b_stde_checked.
"""

import inspect
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import jet

from benchmarks import harness
from benchmarks.harness import Contender, Ratio
from benchmarks.jets import network
from course import pde, stde, taylor

SEED = 0
KDV, DISPERSION = stde.kdv_2d(), 0.0025
Way = Callable[[Callable, jax.Array], jax.Array]
"""(f, z) -> derivatives of f at z, (t, x) or (t, x, y)."""


def gapped(f: Callable, z: jax.Array, tangents: Mapping[int, jax.Array], order: int) -> list[jax.Array]:
    """The output of one jet whose input has tangents at these orders only."""
    return jet.jet(f, (z,), ([tangents.get(k, jnp.zeros_like(z)) for k in range(1, order + 1)],))[1]


# --- by hand -------------------------------------------------------------------------------------------------------


def mixed_by_5(f: Callable, z: jax.Array) -> jax.Array:
    t, x = jnp.eye(2, dtype=z.dtype)
    return gapped(f, z, {2: t, 3: x}, 5)[4] / 10


def gpinn_by_7(f: Callable, z: jax.Array) -> jax.Array:
    t, x = jnp.eye(2, dtype=z.dtype)
    plain, bent = gapped(f, z, {1: x}, 7), gapped(f, z, {1: x, 4: t}, 7)
    u, (u_x, u_xx, u_xxx, u_xxxx, *_) = f(z), plain
    u_t, u_tx, u_txxx = bent[3] - plain[3], (bent[4] - plain[4]) / 5, (bent[6] - plain[6]) / 35
    u_tt = gapped(f, z, {1: t}, 2)[1]
    return jnp.stack([
        u_t + u * u_x + DISPERSION * u_xxx,
        u_tt + u_t * u_x + u * u_tx + DISPERSION * u_txxx,
        u_tx + u_x**2 + u * u_xx + DISPERSION * u_xxxx,
    ])  # fmt: skip


def fourth_by_9(f: Callable, z: jax.Array) -> jax.Array:
    _, x, y = jnp.eye(3, dtype=z.dtype)
    return (gapped(f, z, {2: x, 3: y}, 9)[8] - 280 * gapped(f, z, {1: y}, 3)[2]) / 1260


def kdv_by_9(f: Callable, z: jax.Array) -> jax.Array:
    t, x, y = jnp.eye(3, dtype=z.dtype)
    nine, plain, bent = gapped(f, z, {2: x, 3: y}, 9), gapped(f, z, {1: y}, 3), gapped(f, z, {1: y, 2: t}, 3)
    u_ty, u_xxxy = (bent[2] - plain[2]) / 3, (nine[8] - 280 * plain[2]) / 1260
    return u_ty + u_xxxy + 2 * plain[1] - nine[3] / 3


def kdv_by_13(f: Callable, z: jax.Array) -> jax.Array:
    t, x, y = jnp.eye(3, dtype=z.dtype)
    one, other = gapped(f, z, {3: x, 4: y, 7: t}, 13), gapped(f, z, {3: x, 4: y, 7: -t}, 13)
    u_ty, u_xxxy = (one[10] - other[10]) / 660, (one[12] + other[12]) / 400400
    return u_ty + u_xxxy + 2 * one[7] / 35 - one[5] / 10


# --- derived -------------------------------------------------------------------------------------------------------


def mixed(f: Callable, z: jax.Array) -> jax.Array:
    return taylor.partial_derivative(f, z, (1, 1))


def gpinn(f: Callable, z: jax.Array) -> jax.Array:
    t, x = jnp.eye(2, dtype=z.dtype)
    in_time = lambda z: jnp.stack(jax.jvp(f, (z,), (t,)))  # noqa: E731
    (u, u_t), (u_x, u_tx), (u_xx, _), (u_xxx, u_txxx), (u_xxxx, _) = taylor.derivatives(in_time, z, x, 4)
    return jnp.stack([
        u_t + u * u_x + DISPERSION * u_xxx,
        taylor.derivatives(f, z, t, 2)[2] + u_t * u_x + u * u_tx + DISPERSION * u_txxx,
        u_tx + u_x**2 + u * u_xx + DISPERSION * u_xxxx,
    ])  # fmt: skip


def fourth(f: Callable, z: jax.Array) -> jax.Array:
    return taylor.partial_derivative(f, z, (0, 3, 1))


def kdv(f: Callable, z: jax.Array) -> jax.Array:
    return stde.apply(KDV, f, z)


PAIRS: dict[str, tuple[Way, Way, int]] = {
    "u_tx: a 5-jet": (mixed_by_5, mixed, 2),
    "gPINN of KdV: two 7-jets": (gpinn_by_7, gpinn, 2),
    "u_xxxy: a 9-jet": (fourth_by_9, fourth, 3),
    "KdV in two dimensions: a 9-jet": (kdv_by_9, kdv, 3),
    "KdV in two dimensions: two 13-jets": (kdv_by_13, kdv, 3),
}
"""By hand, derived, coordinates."""


# --- measuring -----------------------------------------------------------------------------------------------------


def values(way: Way, params: Any, z: jax.Array) -> jax.Array:
    return jax.vmap(lambda z: way(partial(pde.mlp, params), z))(z)


def gradient(way: Way, params: Any, z: jax.Array) -> Any:
    return jax.grad(lambda params: (values(way, params, z) ** 2).mean())(params)


def agreed(name: str, params: Any, z: jax.Array) -> np.ndarray:
    """The derived values in float64, which those by hand are held against. JAX is left as it was."""
    before = jnp.result_type(float) == jnp.float64
    jax.config.update("jax_enable_x64", True)
    try:
        params, z = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), (params, z))
        by_hand, exact = (np.asarray(jax.jit(partial(values, way))(params, z)) for way in PAIRS[name][:2])
    finally:
        jax.config.update("jax_enable_x64", before)
    gap = np.abs(by_hand - exact).max() / np.abs(exact).max()
    if not gap < 1e-9:
        raise SystemExit(
            f"expected both sides to agree within 1e-9 in float64, got a relative gap of {gap:.1e} ({name})"
        )
    return exact


def compiled(run: Callable, way: Way, params: Any, z: jax.Array) -> tuple[Callable, float]:
    """The program, and the seconds that tracing and compiling it took."""
    start = time.perf_counter()
    program = jax.jit(partial(run, way)).lower(params, z).compile()
    return program, time.perf_counter() - start


def lines(way: Way) -> int:
    """Lines of a way's body."""
    return len(inspect.getsource(way).strip().splitlines()) - 1


def compare(name: str, width: int, points: int, rounds: int) -> dict:
    """One row: milliseconds of both sides and their ratio, of the values and of a gradient by the weights."""
    hand, derived, d = PAIRS[name]
    params, z = network(d, width, width, width, 1), jax.random.normal(jax.random.key(SEED + 2), (points, d))
    sides = {"by_hand": hand, "derived": derived}
    exact = agreed(name, params, z)
    row: dict[str, Any] = {"name": name}
    for kind, run in (("value", values), ("gradient", gradient)):
        made = {side: compiled(run, way, params, z) for side, way in sides.items()}
        contenders = [Contender(s, lambda: (params, z), each, rounds=rounds, calls=3) for s, (each, _) in made.items()]
        found = harness.interleave(contenders, f"{name}, {kind}")
        row |= {f"{kind}_ms_{side}": 1e3 * found[side].median for side in sides}
        row[f"{kind}_ratio"] = row[f"{kind}_ms_by_hand"] / row[f"{kind}_ms_derived"]
        row |= {f"{kind}_compile_s_{side}": seconds for side, (_, seconds) in made.items()}
        if kind == "value":
            gaps = {side: np.abs(np.asarray(each(params, z)) - exact).max() for side, (each, _) in made.items()}
    row |= {f"float32_error_{side}": float(gap / np.abs(exact).max()) for side, gap in gaps.items()}
    return row | {f"lines_{side}": lines(way) for side, way in sides.items()}


def bench(quick: bool) -> tuple[dict[str, list[dict]], list[Ratio]]:
    names, width, points, rounds = (list(PAIRS)[:1], 4, 2, 1) if quick else (list(PAIRS), 50, 128, 7)
    rows = [compare(name, width, points, rounds) for name in names]
    ratios = [
        Ratio(f"{row['name']}: by hand / derived, {kind}", row[f"{kind}_ratio"], None)
        for row in rows for kind in ("value", "gradient")
    ]  # fmt: skip
    return {"hand-made jets": rows}, ratios


def main() -> None:
    harness.command("jets_by_hand", bench)


if __name__ == "__main__":
    main()
