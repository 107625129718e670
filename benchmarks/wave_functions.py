"""The local energy of wave functions, exact and estimated, against the forward Laplacian (folx) on its home ground.

Three forms of log |psi| of n electrons: a Slater determinant with a Jastrow factor, a network with a stream of pairs
(as FermiNet), and self-attention over the electrons (as PsiFormer). The kinetic energy of each, -(lap log|psi| +
|grad log|psi||^2) / 2, at 8 points in float32, and its parameter gradient; temporary memory as XLA plans it (`make
bench`).
Lessons: 17_taylor_mode, 18_stde.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import harness
from benchmarks.harness import Contender, Ratio
from benchmarks.operators import batched
from course import stde, taylor

try:
    import folx  # requirements/bench.txt
except ImportError:
    folx = None

SEED, SAMPLES = 0, 16


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    electrons: tuple[tuple[str, int], ...] = (
        ("Slater-Jastrow", 10), ("Slater-Jastrow", 30), ("Slater-Jastrow", 60), ("pair stream", 10),
        ("pair stream", 30), ("self-attention", 10), ("self-attention", 30),
    )  # fmt: skip
    points: int = 8
    width: int = 64  # of the networks' layers; a quarter of it for pairs and for each of four heads
    layers: int = 3
    rounds: int = 5


# folx takes minutes to trace attention
QUICK = Sizes((("Slater-Jastrow", 4), ("pair stream", 4)), 2, width=8, layers=1, rounds=1)
DETERMINANTS, HEADS = 4, 4


# --- wave functions: (params, x) -> log |psi|, (3 n,) -> () ------------------------------------------------------


def distances(vectors: jax.Array) -> jax.Array:
    return jnp.sqrt((vectors**2).sum(axis=-1))


def jastrow(params: dict, r: jax.Array) -> jax.Array:
    """Sum over pairs of a r_ij / (1 + b r_ij)."""
    i, j = np.triu_indices(len(r), k=1)
    apart = distances(r[i] - r[j])
    return (params["a"] * apart / (1 + params["b"] * apart)).sum()


def envelopes(params: dict, r: jax.Array) -> jax.Array:
    """Orbitals of each electron, sums over the nuclei of exponentials of the distance, (n, orbitals)."""
    return jnp.exp(-params["decay"] * distances(r[:, None] - params["nuclei"])) @ params["mixing"]


def log_determinants(orbitals: jax.Array) -> jax.Array:
    """log |sum over k of det up_k det down_k|, from (n, K n/2): half of the electrons have spin up."""
    half = len(orbitals) // 2
    signs, logs = jnp.linalg.slogdet(jnp.moveaxis(orbitals.reshape(2, half, half, -1), -1, 0))  # (K, 2)
    return jax.scipy.special.logsumexp(logs.sum(axis=1), b=signs.prod(axis=1), return_sign=True)[0]


def slater_jastrow(params: dict, x: jax.Array) -> jax.Array:
    r = x.reshape(-1, 3)
    return log_determinants(envelopes(params, r)) + jastrow(params, r)


def dense(params: tuple, h: jax.Array) -> jax.Array:
    return h @ params[0] + params[1]


def to_nuclei(params: dict, r: jax.Array) -> jax.Array:
    """Vectors to all nuclei and their lengths, (n, 4 m)."""
    vectors = r[:, None] - params["nuclei"]
    return jnp.concatenate([vectors, distances(vectors)[..., None]], axis=-1).reshape(len(r), -1)


def pair_stream(params: dict, x: jax.Array) -> jax.Array:
    """One stream of electrons (n, width), one of pairs (n, n, width / 4); each layer sees its means over a spin."""
    r = x.reshape(-1, 3)
    n, same = len(r), jnp.eye(len(r))[..., None]
    vectors = r[:, None] - r
    lengths = distances(vectors + same)[..., None] * (1 - same)  # no square root of 0
    h, g = to_nuclei(params, r), jnp.concatenate([vectors, lengths], axis=-1)
    for single, pair in params["layers"]:
        spins = jnp.broadcast_to(h.reshape(2, n // 2, -1).mean(axis=1).ravel(), (n, 2 * h.shape[1]))
        pairs = g.reshape(n, 2, n // 2, -1).mean(axis=2).reshape(n, -1)
        new_h = jnp.tanh(dense(single, jnp.concatenate([h, spins, pairs], axis=1)))
        new_g = jnp.tanh(dense(pair, g))
        h = h + new_h if h.shape == new_h.shape else new_h
        g = g + new_g if g.shape == new_g.shape else new_g
    return log_determinants(dense(params["orbitals"], h) * envelopes(params, r))


def self_attention(params: dict, x: jax.Array) -> jax.Array:
    r = x.reshape(-1, 3)
    n = len(r)
    spin = jnp.where(jnp.arange(n) < n // 2, 1.0, -1.0)[:, None]
    h = dense(params["embedding"], jnp.concatenate([to_nuclei(params, r), spin], axis=1))
    for project, merge, layer in params["layers"]:
        q, k, v = jnp.moveaxis(dense(project, h).reshape(n, 3, HEADS, -1), 1, 0)  # (n, heads, width / heads) each
        weights = jax.nn.softmax(jnp.einsum("ihc,jhc->hij", q, k) / q.shape[-1] ** 0.5)
        h = h + dense(merge, jnp.einsum("hij,jhc->ihc", weights, v).reshape(n, -1))
        h = h + jnp.tanh(dense(layer, h))
    return log_determinants(dense(params["orbitals"], h) * envelopes(params, r)) + jastrow(params, r)


FORMS = {"Slater-Jastrow": slater_jastrow, "pair stream": pair_stream, "self-attention": self_attention}


def wave_function(form: str, n: int, sizes: Sizes) -> tuple[Callable, dict, jax.Array]:
    """The function, its parameters (one nucleus for every two electrons) and points."""
    keys = iter(jax.random.split(jax.random.key(SEED), 100))
    width, small, nuclei = sizes.width, sizes.width // 4, n // 2

    def layer(inputs: int, outputs: int) -> tuple:
        return jax.random.normal(next(keys), (inputs, outputs)) / inputs**0.5, jnp.zeros(outputs)

    count = n // 2 * (1 if form == "Slater-Jastrow" else DETERMINANTS)
    params = {
        "nuclei": jax.random.normal(next(keys), (nuclei, 3)) * n ** (1 / 3),
        "decay": jax.random.uniform(next(keys), (nuclei,), minval=0.5, maxval=1.5),
        "mixing": jax.random.normal(next(keys), (nuclei, count)),
        "a": jnp.array(0.5), "b": jnp.array(1.0),
    }  # fmt: skip
    if form == "pair stream":
        ins = [(4 * nuclei, 4), *[(width, small)] * (sizes.layers - 1)]
        params["layers"] = [(layer(3 * h + 2 * g, width), layer(g, small)) for h, g in ins]
    if form == "self-attention":
        params["embedding"] = layer(4 * nuclei + 1, width)
        params["layers"] = [[layer(width, m) for m in (3 * width, width, width)] for _ in range(sizes.layers)]
    if form != "Slater-Jastrow":
        params["orbitals"] = layer(width, count)
    x = jnp.tile(params["nuclei"], (2, 1)).ravel() + jax.random.normal(next(keys), (sizes.points, 3 * n))
    return FORMS[form], params, x


# --- one kinetic energy: (log_psi, params, x, key) -> () ----------------------------------------------------------


def of_ratio(log_psi: Callable, params: dict, x: jax.Array, laplacian: Callable) -> jax.Array:
    """-lap psi / (2 psi), where psi is scaled to 1 at x: the square of the gradient comes with it."""
    scale = jax.lax.stop_gradient(log_psi(params, x))
    psi, lap = laplacian(lambda x: jnp.exp(log_psi(params, x) - scale), x)
    return -lap / (2 * psi)


def exact(log_psi, params, x, key):
    return of_ratio(log_psi, params, x, taylor.value_and_laplacian)


def exact_uncompressed(log_psi, params, x, key):
    return of_ratio(log_psi, params, x, partial(taylor.value_and_laplacian, compress=False))


def estimated(log_psi, params, x, key, dense=None):
    def laplacian(f, x):
        return f(x), stde.estimate(stde.laplacian(len(x)), f, x, key, min(SAMPLES, len(x)), dense=dense)

    return of_ratio(log_psi, params, x, laplacian)


def hessian_trace(log_psi, params, x, key):
    f = partial(log_psi, params)
    return -(jnp.trace(jax.hessian(f)(x)) + (jax.grad(f)(x) ** 2).sum()) / 2


def loop(log_psi, params, x, key):
    """Forward over reverse, one coordinate after the other."""
    slope, push = jax.linearize(jax.grad(partial(log_psi, params)), x)

    def entry(total, i):
        return total + push(jnp.zeros_like(x).at[i].set(1.0))[i], None

    return -(jax.lax.scan(entry, jnp.zeros(()), jnp.arange(len(x)))[0] + (slope**2).sum()) / 2


def forward_laplacian(log_psi, params, x, key, sparsity=0):
    y = folx.forward_laplacian(partial(log_psi, params), sparsity_threshold=sparsity)(x)
    return -(y.laplacian + (y.jacobian.dense_array**2).sum()) / 2


EXACT = {
    "course.taylor": exact,
    "course.taylor, not compressed": exact_uncompressed,
    "jax.hessian": hessian_trace,
    "forward over reverse, loop": loop,
    "folx, dense": forward_laplacian,
    "folx, sparse": partial(forward_laplacian, sparsity=0.6),  # the share that its documentation recommends
}
ESTIMATES = {
    "course.stde, 16 sparse": estimated,
    "course.stde, 16 Rademacher": partial(estimated, dense="rademacher"),
}


# --- tables --------------------------------------------------------------------------------------------------------


def table(form: str, n: int, sizes: Sizes) -> list[dict]:
    """Milliseconds and temporary memory of every side."""
    log_psi, params, x = wave_function(form, n, sizes)
    arguments = params, x, jax.random.key(SEED + 1)
    sides = {name: way for name, way in (EXACT | ESTIMATES).items() if folx or not name.startswith("folx")}
    rows: dict[str, dict] = {name: {"name": name} for name in sides}
    for which, what in enumerate(("value", "gradient")):
        compiled = {  # once: for some of them that takes longer than all the rounds
            name: batched(partial(way, log_psi))[which].lower(*arguments).compile() for name, way in sides.items()
        }
        apart = gaps({name: compiled[name](*arguments) for name in EXACT if name in sides})
        contenders = [
            Contender(name, lambda: arguments, run, rounds=sizes.rounds, calls=3) for name, run in compiled.items()
        ]
        times = harness.interleave(contenders, f"{form}, {n} electrons: {what}")
        for name, run in compiled.items():
            plan = run.memory_analysis()
            rows[name] |= {
                f"{what}_ms": 1e3 * times[name].median,
                f"{what}_MB": None if plan is None else plan.temp_size_in_bytes / 1e6,
                f"{what}_gap": apart.get(name),
            }
    return list(rows.values())


def gaps(results: dict[str, Any]) -> dict[str, float]:
    """How far the exact sides are from the loop, in float32: relative to the largest energy or part of a gradient.

    Ours must be near: within 5 %, since a matrix of orbitals with a condition number of 10,000 is among the points of
    30 electrons, and the order of a sum then changes the second digit of a gradient. In float64 all agree. Of a batch
    of 30 electrons XLA makes a wrong program for `jax.hessian` (jax 0.10.2, CPU); point by point it agrees.
    """
    reference = [np.asarray(leaf) for leaf in jax.tree.leaves(results["forward over reverse, loop"])]
    largest = max(np.abs(leaf).max() for leaf in reference)
    found = {}
    for name, got in results.items():
        apart = max(np.abs(a - b).max() for a, b in zip(jax.tree.leaves(got), reference, strict=True)) / largest
        found[name] = float(apart)
        if name.startswith("course") and not apart < 0.05:
            raise SystemExit(f"expected {name} to agree with the loop within 5 %, got a relative gap of {apart:.1e}")
    return found


def bench(quick: bool) -> tuple[dict[str, list[dict]], list[Ratio]]:
    sizes = QUICK if quick else Sizes()
    if folx is None:
        print("folx is not installed (requirements/bench.txt): its rows and ratios are left out")
    tables, ratios = {}, []
    for form, n in sizes.electrons:
        title = f"{form}, {n} electrons"
        tables[title] = table(form, n, sizes)
        rows = {row["name"]: row for row in tables[title]}
        rivals = [row for name, row in rows.items() if name.startswith("folx")]
        for key in ("value_ms", "value_MB", "gradient_ms", "gradient_MB") if rivals else ():
            best = min(row[key] for row in rivals)
            ours = rows["course.taylor"][key]
            ratios.append(Ratio(f"{title}, {key}: exact vs the better folx", best / ours, 1))
        for key in ("gradient_ms", "gradient_MB") if rivals else ():
            best, ours = min(row[key] for row in rivals), min(rows[name][key] for name in ESTIMATES)
            ratios.append(Ratio(f"{title}, {key}: the better estimate vs the better folx", best / ours))
    return tables, ratios


def main() -> None:
    harness.command("wave_functions", bench)


if __name__ == "__main__":
    main()
