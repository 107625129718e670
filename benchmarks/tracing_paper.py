"""The two experiments of the tracing paper (Frostig, Johnson, Leary, 2018), in pieces of several sizes (`make bench`).

Newton-CG logistic regression on the passengers (837 x 15, float64) and on synthetic rows (20,000 x 100); one step of a
convolutional network (32 images of 32 x 32 x 3, float32). Lesson: 12_tracing_paper.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import torch
from scipy.optimize import minimize

from benchmarks import harness
from benchmarks.harness import Contender, Ratio
from course import convnet, torch_compile
from course.data import Features, labels, load_titanic, split
from course.newton_cg import newton_cg, value_grad_hvp
from tools.environment import double_precision

SEED = 0


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    rows: int = 20_000
    columns: int = 100
    images: int = 32
    steps: int = 10  # in one compiled run
    rounds: int = 5
    calls: int = 10
    backend: str | None = None  # of torch.compile; None: the best that this machine has


QUICK = Sizes(rows=100, columns=3, images=1, steps=2, rounds=1, calls=1, backend="aot_eager")


def newton_contenders(x: np.ndarray, y: np.ndarray, sizes: Sizes) -> list[Contender]:
    """The same minimisation op by op, function by function, whole, in torch and by SciPy."""
    name = f"{len(x):,} x {x.shape[1]}"
    value, grad, hvp = value_grad_hvp(jnp.asarray(x), jnp.asarray(y))
    pieces = jit_value, jit_grad, jit_hvp = jax.jit(value), jax.jit(grad), jax.jit(hvp)
    whole = jax.jit(partial(newton_cg, value, grad, hvp, while_loop=jax.lax.while_loop))
    x_torch, y_torch, start = torch.from_numpy(x), torch.from_numpy(y), np.zeros(x.shape[1])

    def value_torch(w):
        logits = x_torch @ w
        return (torch.logaddexp(torch.zeros_like(logits), logits) - y_torch * logits).mean() + 1e-3 * (w @ w)

    def grad_torch(w, create_graph=False):
        w = w if create_graph else w.detach().requires_grad_()
        return torch.autograd.grad(value_torch(w), w, create_graph=create_graph)[0]

    def hvp_torch(w, v):
        w = w.detach().requires_grad_()
        return torch.autograd.grad(grad_torch(w, create_graph=True) @ v, w)[0]

    def scipy():  # the factor: SciPy stops where a curvature falls below the machine epsilon, an absolute number
        return minimize(
            lambda w: 1e4 * float(jit_value(w)), start, method="Newton-CG", options={"xtol": 1e-12},
            jac=lambda w: 1e4 * np.asarray(jit_grad(w)), hessp=lambda w, v: 1e4 * np.asarray(jit_hvp(w, v)),
        ).x  # fmt: skip

    def from_zero():
        return (jnp.asarray(start),)

    make = partial(Contender, rounds=sizes.rounds, calls=min(sizes.calls, 5))
    return [
        make(f"{name}: op by op", from_zero, lambda w: newton_cg(value, grad, hvp, w)[0]),
        make(f"{name}: function by function", from_zero, lambda w: newton_cg(*pieces, w)[0]),
        make(f"{name}: whole", from_zero, lambda w: whole(w)[0]),
        make(
            f"{name}: torch eager",
            lambda: (torch.from_numpy(start),),
            lambda w: newton_cg(value_torch, grad_torch, hvp_torch, w)[0],
        ),
        make(f"{name}: SciPy, compiled pieces", lambda: (), scipy),
    ]


def check_optima(contenders: list[Contender]) -> None:
    """All of them find the same minimiser."""
    optima = [np.asarray(contender.run(*contender.setup())) for contender in contenders]
    gap = max(np.abs(w - optima[2]).max() for w in optima)
    if not gap < 1e-6:
        raise SystemExit(f"expected one optimum within 1e-6, got a gap of {gap:.1e}")
    print(f"{contenders[0].name.partition(':')[0]}: one optimum, gap {gap:.0e}")


def conv_contenders(sizes: Sizes) -> list[Contender]:
    """One training step, compiled in pieces of five sizes, and torch."""
    weights, rng = convnet.init(SEED), np.random.default_rng(SEED)
    images = rng.normal(size=(sizes.images, 32, 32, 3)).astype(np.float32)
    classes = rng.integers(0, 10, sizes.images)
    batch = jax.tree.map(jnp.asarray, weights), jnp.asarray(images), jnp.asarray(classes)
    x_torch, y_torch = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()), torch.from_numpy(classes)
    net = convnet.torch_net(weights)
    compiled_net = torch.compile(net, backend=sizes.backend or torch_compile.backend())
    parameters = list(net.parameters())
    jit_layers = tuple(map(jax.jit, convnet.LAYERS))

    def all_steps(params, x, y, unroll):
        return jax.lax.scan(lambda p, _: convnet.sgd_step(p, x, y), params, None, length=sizes.steps, unroll=unroll)

    net(x_torch, y_torch).backward()
    for layer, (kernel, _) in zip([*net.convs, net.dense], jax.grad(convnet.loss_fn)(*batch), strict=True):
        axes = (3, 2, 0, 1) if kernel.ndim == 4 else (1, 0)
        gap = np.abs(np.asarray(kernel).transpose(axes) - layer.weight.grad.numpy()).max()
        if not gap < 1e-4:
            remedy = "on a GPU, which rounds float32 products, set JAX_DEFAULT_MATMUL_PRECISION=highest"
            raise SystemExit(f"expected torch's gradients within 1e-4, got a gap of {gap:.1e}; {remedy}")

    make = partial(Contender, rounds=sizes.rounds, calls=sizes.calls)
    jit_step, unrolled = jax.jit(lambda *b: convnet.sgd_step(*b)), jax.jit(partial(all_steps, unroll=sizes.steps))
    return [
        make("conv step: op by op", lambda: batch, convnet.sgd_step),
        make("conv step: per layer", lambda: batch, lambda *b: convnet.sgd_step(*b, jit_layers)),
        make("conv step: per layer, derivatives too", lambda: batch, convnet.layerwise_step),
        make("conv step: per step", lambda: batch, jit_step),
        make("conv step: whole, ten unrolled", lambda: batch, unrolled, scale=1 / sizes.steps),
        make(
            "conv step: whole, ten in lax.scan",
            lambda: batch,
            jax.jit(partial(all_steps, unroll=1)),
            scale=1 / sizes.steps,
            calls=1,
        ),
        make("conv step: torch eager", lambda: (net, parameters, x_torch, y_torch), convnet.torch_sgd_step),
        make("conv step: torch.compile", lambda: (compiled_net, parameters, x_torch, y_torch), convnet.torch_sgd_step),
        make("conv step: per step, first call", lambda: batch, jit_step, calls=1, cold=True),
    ]


def bench(quick: bool) -> tuple[dict[str, list[dict]], list[Ratio]]:
    with double_precision():  # optima are compared to 1e-6; the convolutions stay in float32
        return both_experiments(QUICK if quick else Sizes())


def both_experiments(sizes: Sizes) -> tuple[dict[str, list[dict]], list[Ratio]]:
    train, _, _ = split(load_titanic(), SEED)
    small = newton_contenders(Features.fit(train)(train).astype(float), labels(train).astype(float), sizes)
    rng = np.random.default_rng(SEED)
    x = rng.normal(size=(sizes.rows, sizes.columns))
    y = (rng.random(sizes.rows) < 1 / (1 + np.exp(-0.3 * x @ rng.normal(size=sizes.columns)))).astype(float)
    large = newton_contenders(x, y, sizes)
    *conv, cold = conv_contenders(sizes)
    newton = harness.interleave([*small, *large], "Newton-CG")
    check_optima(small)
    check_optima(large)
    step = harness.interleave(conv, "conv step") | harness.interleave([cold], "first call")
    many = f"{sizes.rows:,} x {sizes.columns}"

    def ratio(what, slow, fast, at_least=None):
        rows = newton | step
        return Ratio(what, rows[slow].median / rows[fast].median, at_least)

    ratios = [
        ratio("Newton-CG, 837 x 15: whole vs op by op", "837 x 15: op by op", "837 x 15: whole", 100),
        ratio("the same: whole vs torch eager", "837 x 15: torch eager", "837 x 15: whole"),
        ratio(f"Newton-CG, {many}: whole vs op by op", f"{many}: op by op", f"{many}: whole"),
        ratio("the same: whole vs function by function", f"{many}: function by function", f"{many}: whole"),
        ratio("conv: per step vs per layer", "conv step: per layer", "conv step: per step"),
        ratio(
            "conv: per step vs per layer, derivatives too",
            "conv step: per layer, derivatives too",
            "conv step: per step",
        ),
        ratio("conv: per step vs torch eager", "conv step: torch eager", "conv step: per step"),
        ratio("conv: unrolled vs lax.scan", "conv step: whole, ten in lax.scan", "conv step: whole, ten unrolled"),
    ]
    tables = {
        "truncated Newton-CG, seconds": [c.row() for c in newton.values()],
        "one convolutional step, seconds": [c.row() for c in step.values()],
    }
    return tables, ratios


def main() -> None:
    harness.command("tracing_paper", bench)


if __name__ == "__main__":
    main()
