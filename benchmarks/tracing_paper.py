"""The two experiments of the tracing paper (Frostig, Johnson, Leary, 2018), in pieces of several sizes (`make bench`).

Newton-CG logistic regression on the passengers (837 x 15, float64) and on synthetic rows (20,000 x 100); one step of a
convolutional network (32 images of 32 x 32 x 3, float32). Lesson: 12_tracing_paper.
"""

from benchmarks import harness  # isort: skip  (asks for one core before JAX starts)

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import torch
from scipy.optimize import minimize

from benchmarks.harness import Contender, Ratio
from course import convnet, torch_compile
from course.data import Features, labels, load_titanic, split
from course.newton_cg import derivatives, newton_cg

QUICK = harness.quick()
SEED, ROUNDS = 0, 1 if QUICK else 5
jax.config.update("jax_enable_x64", True)  # optima are compared to 1e-6; the convolutions stay in float32
torch.set_num_threads(harness.CORES)


def newton_contenders(name: str, x: np.ndarray, y: np.ndarray) -> list[Contender]:
    """The same minimisation op by op, function by function, whole, in torch and by SciPy."""
    value, grad, hvp = derivatives(jnp.asarray(x), jnp.asarray(y))
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

    make = partial(Contender, rounds=ROUNDS, calls=5)
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


def conv_contenders() -> list[Contender]:
    """One training step, compiled in pieces of five sizes, and torch."""
    weights, rng = convnet.init(SEED), np.random.default_rng(SEED)
    images, classes = rng.normal(size=(32, 32, 32, 3)).astype(np.float32), rng.integers(0, 10, 32)
    batch = jax.tree.map(jnp.asarray, weights), jnp.asarray(images), jnp.asarray(classes)
    x_torch, y_torch = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()), torch.from_numpy(classes)
    net = convnet.torch_net(weights)
    compiled_net, parameters = torch.compile(net, backend=torch_compile.backend()), list(net.parameters())
    jit_layers = tuple(map(jax.jit, convnet.LAYERS))

    def ten_steps(params, x, y, unroll):
        return jax.lax.scan(lambda p, _: convnet.sgd_step(p, x, y), params, None, length=10, unroll=unroll)

    net(x_torch, y_torch).backward()
    for layer, (kernel, _) in zip([*net.convs, net.dense], jax.grad(convnet.loss_fn)(*batch), strict=True):
        axes = (3, 2, 0, 1) if kernel.ndim == 4 else (1, 0)
        gap = np.abs(np.asarray(kernel).transpose(axes) - layer.weight.grad.numpy()).max()
        if not gap < 1e-4:
            raise SystemExit(f"expected torch's gradients within 1e-4, got a gap of {gap:.1e}")

    make = partial(Contender, rounds=ROUNDS, calls=10)
    jit_step, unrolled = jax.jit(lambda *b: convnet.sgd_step(*b)), jax.jit(partial(ten_steps, unroll=10))
    return [
        make("conv step: op by op", lambda: batch, convnet.sgd_step),
        make("conv step: per layer", lambda: batch, lambda *b: convnet.sgd_step(*b, jit_layers)),
        make("conv step: per layer, derivatives too", lambda: batch, convnet.layerwise_step),
        make("conv step: per step", lambda: batch, jit_step),
        make("conv step: whole, ten unrolled", lambda: batch, unrolled, scale=0.1),
        make(
            "conv step: whole, ten in lax.scan",
            lambda: batch,
            jax.jit(partial(ten_steps, unroll=1)),
            scale=0.1,
            calls=1,
        ),
        make("conv step: torch eager", lambda: (net, parameters, x_torch, y_torch), convnet.torch_sgd_step),
        make("conv step: torch.compile", lambda: (compiled_net, parameters, x_torch, y_torch), convnet.torch_sgd_step),
        make("conv step: per step, first call", lambda: batch, jit_step, calls=1, cold=True),
    ]


def main() -> None:
    train, _, _ = split(load_titanic(), SEED)
    small = newton_contenders("837 x 15", Features.fit(train)(train).astype(float), labels(train).astype(float))
    rng = np.random.default_rng(SEED)
    x = rng.normal(size=(20_000, 100))
    y = (rng.random(20_000) < 1 / (1 + np.exp(-0.3 * x @ rng.normal(size=100)))).astype(float)
    large = newton_contenders("20,000 x 100", x, y)
    *conv, cold = conv_contenders()
    newton = harness.interleave([*small, *large], "Newton-CG")
    check_optima(small)
    check_optima(large)
    step = harness.interleave(conv, "conv step") | harness.interleave([cold], "first call")

    def ratio(what, slow, fast, at_least=None):
        rows = newton | step
        return Ratio(what, rows[slow].median / rows[fast].median, at_least)

    ratios = [
        ratio("Newton-CG, 837 x 15: whole vs op by op", "837 x 15: op by op", "837 x 15: whole", 100),
        ratio("the same: whole vs torch eager", "837 x 15: torch eager", "837 x 15: whole"),
        ratio("Newton-CG, 20,000 x 100: whole vs op by op", "20,000 x 100: op by op", "20,000 x 100: whole"),
        ratio("the same: whole vs function by function", "20,000 x 100: function by function", "20,000 x 100: whole"),
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
    harness.report("tracing_paper", tables, ratios)


if __name__ == "__main__":
    main()
