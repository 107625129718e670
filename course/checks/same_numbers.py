"""Checks of the exercises on comparing layers, on a correction in float32, and on a running variance. Needs NumPy, JAX.

Lesson: 02_same_numbers.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from course.checks.core import check, function, same, wrong

LESSON = "02_same_numbers"


@check(
    LESSON,
    "A layer that is right gives another output where its input is another. Which input do both sides need?",
    "Feed both layers torch's activation, whatever the JAX layer before it gave.",
    "The gap is relative to the size of torch's output: abs(a - b).max() > tolerance * abs(a).max().",
    points=3,
)
def guilty_layers(rng: np.random.Generator, guilty_layers: Any) -> None:
    """The layers of a port that are wrong themselves; against ports with known faults."""
    import torch

    answer = function(guilty_layers, "guilty_layers(torch_layers, jax_layers, x, tolerance)")
    for faults in (1, 2, 0):
        n, d = int(rng.integers(6, 9)), int(rng.integers(4, 7))
        torch.manual_seed(int(rng.integers(10**6)))
        chosen = sorted(int(i) for i in rng.choice(n - 1, faults, replace=False))
        if faults == 2:
            chosen = [0, int(rng.integers(2, n - 1))]
        theirs: list[Any] = []
        ours: list[Any] = []
        for i in range(n):
            scale = 10.0 ** float(rng.uniform(-4, 1))  # outputs of any size
            linear = torch.nn.Linear(d, d)
            kernel, bias = (part.detach().numpy().copy() for part in (linear.weight, linear.bias))

            def of_torch(x: Any, linear: Any = linear, scale: float = scale) -> Any:
                return scale * torch.tanh(linear(x / abs(x).max()))

            def of_jax(x: Any, k: Any = kernel, b: Any = bias, scale: float = scale, bad: bool = i in chosen) -> Any:
                x = jnp.asarray(x, jnp.float32)
                return scale * jnp.tanh(x / abs(x).max() @ (k if bad else k.T) + b)

            theirs.append(of_torch)
            ours.append(of_jax)
        x = torch.from_numpy(rng.normal(size=(5, d)).astype("f"))
        with torch.no_grad():
            got = answer(theirs, ours, x, 1e-3)
        if not isinstance(got, list | tuple | np.ndarray) or not all(isinstance(i, int | np.integer) for i in got):
            slip = "a function without `return`" if got is None else "return the list of their indices"
            wrong("expected a list of ints.", got=got, slip=slip)
        found = [int(i) for i in got]
        if found == chosen:
            continue
        slip = ""
        if set(found) >= set(chosen) and chosen and found == list(range(chosen[0], n)):
            slip = "an error travels: each side was fed its own outputs. Feed both layers torch's activation"
        elif found == chosen[:1]:
            slip = "only the first was found; go on with torch's activation after it"
        elif found and found == [i + 1 for i in chosen]:
            slip = "counting starts at 0"
        elif set(found) < set(chosen):
            slip = "the gap was compared with the tolerance alone, and a small output has small gaps; make it relative"
        elif set(found) > set(chosen):
            slip = "the gap was compared with the tolerance alone, or inputs were not torch's"
        wrong(f"the layers that are wrong, of {n}.", expected=str(chosen), got=str(found), slip=slip)


@check(
    LESSON,
    "decay**t with decay in float32 has lost what matters: float32's nearest number to 0.9999 is off by 1e-8.",
    "log(decay) in double precision, in Python, then rounded, has a relative error of at most 6e-8.",
    "1 - exp(z) for a small z is -jnp.expm1(z).",
    points=2,
)
def bias_correction(rng: np.random.Generator, bias_correction: Any) -> None:
    """1 - decay**t for float32 counts, right to six digits; against Python's double precision."""
    answer = function(bias_correction, "bias_correction(decay, t)")
    for decay in (float(rng.uniform(0.85, 0.95)), 0.999, 1 - float(rng.uniform(0.5e-4, 2e-4))):
        t = np.unique(np.r_[1.0, 2.0, 300.0, 10 ** rng.uniform(0.5, 4, 5)].round()).astype("f")
        expected = np.array([-np.expm1(int(step) * np.log(decay)) for step in t])
        rough = np.float32(1) - np.float32(decay) ** t
        for call, how in ((answer, ""), (jax.jit(answer, static_argnums=0), " under jit")):
            got = call(decay, jnp.asarray(t))
            if not hasattr(got, "shape") or got.shape != t.shape:
                same(got, expected, f"1 - decay**t at {len(t)} counts{how}")
            ratio = np.asarray(got, float) / expected
            late = np.float32(1) - np.exp(t * np.float32(np.log(decay)))
            short = -np.expm1(t * np.log(np.float32(decay)))
            same(
                ratio, np.ones(len(t)), f"(1 - {decay:.5f}**t) / its exact value at t = {t.astype(int).tolist()}{how}",
                rtol=0, atol=2e-6,
                slips={
                    "decay**t, without 1 minus it": (1 - expected) / expected,
                    "the sign: expm1(z) is exp(z) - 1": -np.ones(len(t)),
                    "one step ahead: t counts from 1": -np.expm1((t + 1.0) * np.log(decay)) / expected,
                    "the log in base 10 or 2": -np.expm1(t * np.log10(decay)) / expected,
                },
            ) if abs(ratio - 1).max() > 1e-3 else None  # fmt: skip
            if abs(ratio - 1).max() > 2e-6:
                slip = "digits are lost"
                if abs(np.asarray(got) - late).max() < 2e-7:
                    slip = "1 - exp(z) cancels where z is small; that is -jnp.expm1(z)"
                if abs(np.asarray(got) - rough).max() < 2e-7:
                    slip = "decay became float32 before the power: take its log in Python, in double precision"
                if np.allclose(ratio, short / expected, rtol=0, atol=3e-6):
                    slip = "log of a decay that is float32 already; take math.log of the Python number"
                wrong(
                    f"1 - {decay:.5f}**t has a relative error of {abs(ratio - 1).max():.0e}{how}.",
                    expected=expected, got=got, slip=slip,
                )  # fmt: skip


@check(
    LESSON,
    "torch's momentum is the share of the new batch. And which variance does it average?",
    "The batch is normalised with its own variance, divided by n; the running variance takes the one divided by n - 1.",
    "In training the new averages are (1 - momentum) * old + momentum * new; in evaluation they are used, and returned "
    "as they came.",
    points=3,
)
def batch_norm(rng: np.random.Generator, batch_norm: Any) -> None:
    """torch's BatchNorm as a pure function: outputs and running averages, in training and in evaluation."""
    import torch

    answer = function(batch_norm, "batch_norm(state, x, training, momentum, eps)")
    for _ in range(2):
        n, c = int(rng.integers(3, 6)), int(rng.integers(2, 5))
        momentum, eps = float(rng.uniform(0.2, 0.4)), float(rng.uniform(0.05, 0.2))
        module = torch.nn.BatchNorm1d(c, eps=eps, momentum=momentum, affine=False)
        state: Any = {"mean": jnp.zeros(c, jnp.float32), "var": jnp.ones(c, jnp.float32)}
        for turn, training in enumerate((True, True, False)):
            x = rng.normal(2.0, 1.5, (n, c)).astype("f")
            old = {name: np.array(value) for name, value in state.items()}
            module.train(training)
            y = module(torch.from_numpy(x)).numpy()
            assert module.running_mean is not None and module.running_var is not None
            averages = {"mean": module.running_mean.numpy().copy(), "var": module.running_var.numpy().copy()}
            pair = answer(state, jnp.asarray(x), training, momentum, eps)
            if not isinstance(pair, tuple | list) or len(pair) != 2 or not isinstance(pair[0], dict):
                slip = "the two are swapped" if isinstance(pair, tuple) and isinstance(pair[-1], dict) else ""
                wrong("expected the pair (state, y), state a dict.", slip=slip)
            mean, var, unbiased = x.mean(0), x.var(0), x.var(0, ddof=1)
            moved = {"mean": (1 - momentum) * old["mean"] + momentum * mean,
                     "var": (1 - momentum) * old["var"] + momentum * var}  # fmt: skip
            where = f"in call {turn + 1}, {'training' if training else 'evaluation'}"
            new = pair[0]
            same(
                new, averages, f"the averages {where}", rtol=1e-4,
                slips={
                    "the variance divided by n; the running one takes n - 1": moved,
                    "momentum is the share of the old average here; in torch it is that of the new batch": {
                        "mean": momentum * old["mean"] + (1 - momentum) * mean,
                        "var": momentum * old["var"] + (1 - momentum) * unbiased,
                    },
                    "flax's rule: momentum for the old average, and the variance divided by n": {
                        "mean": momentum * old["mean"] + (1 - momentum) * mean,
                        "var": momentum * old["var"] + (1 - momentum) * var,
                    },
                    "the state as it came: return what was computed from it": old,
                    "evaluation moves the averages; only training does": {
                        "mean": moved["mean"], "var": (1 - momentum) * old["var"] + momentum * unbiased,
                    },
                    "standard deviations for variances": {
                        "mean": moved["mean"], "var": (1 - momentum) * old["var"] + momentum * unbiased**0.5,
                    },
                },
            )  # fmt: skip
            same(
                pair[1], y, f"y {where}", rtol=1e-4,
                slips={
                    "normalised with the variance divided by n - 1; only the running one takes that": (x - mean)
                    / (unbiased + eps) ** 0.5,
                    "eps outside of the root": (x - mean) / (var**0.5 + eps),
                    "training uses the running averages; it normalises with the batch's own": (x - averages["mean"])
                    / (averages["var"] + eps) ** 0.5,
                    "evaluation uses the batch's numbers; it takes the running ones": (x - mean) / (var + eps) ** 0.5,
                    "statistics over the channels too, or over the wrong axis": (x - x.mean(1, keepdims=True))
                    / (x.var(1, keepdims=True) + eps) ** 0.5,
                },
            )  # fmt: skip
            state = {name: jnp.asarray(value) for name, value in averages.items()}
