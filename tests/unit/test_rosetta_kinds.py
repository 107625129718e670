"""Entries with optimizers and schedules are compared in float64, and what stays in float32 has to be said."""

import jax
import optax
import pytest
import torch
from torch.optim import lr_scheduler

from rosetta import kinds

THEIRS = {"torch": lambda optimizer: lr_scheduler.ExponentialLR(optimizer, gamma=0.9)}
ROUGH = {"jax": lambda: optax.exponential_decay(0.1, 1, 0.9)}  # in float32 with x64 on too
EXACT = {"fix": lambda: lambda step: 0.1 * 0.9**step}
SAID = {"float32_only": ("jax",)}


def entry(*parts, base=kinds.Schedule):
    return type("Entry", (base,), {name: value for part in parts for name, value in part.items()})


def test_a_side_in_float32_is_said_and_mended():
    entry(THEIRS, ROUGH, EXACT, SAID).check(0)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ((THEIRS, ROUGH), "jax in float64"),
        ((THEIRS, ROUGH, EXACT), "jax in float64"),
        ((THEIRS, ROUGH, SAID), "write the exact form"),
        ((THEIRS, {"jax": EXACT["fix"]}, EXACT, SAID), "exact in float64"),
        ((THEIRS, ROUGH, {"fix": lambda: lambda step: 0.1 * 0.9**step * (1 + 1e-9)}, SAID), "fix in float64"),
    ],
)
def test_what_is_not_exact_is_noticed(parts, words):
    with pytest.raises(AssertionError, match=words):
        entry(*parts).check(0)
    assert torch.get_default_dtype() == torch.float32 and not jax.config.jax_enable_x64


def test_an_optimizer_is_compared_in_float64_too():
    theirs = {"torch": lambda params: torch.optim.SGD(params, lr=0.1)}
    entry(theirs, {"jax": lambda: optax.sgd(0.1)}, base=kinds.Optimizer).check(0)
    with pytest.raises(AssertionError, match="jax in float64"):
        entry(theirs, {"jax": lambda: optax.sgd(0.1 * (1 + 1e-8))}, base=kinds.Optimizer).check(0)


def test_each_seed_has_its_own_gradients():
    paths = [kinds.Optimizer.draw(seed) for seed in (0, 1)]
    rule = entry({"jax": lambda: optax.sgd(0.1)}, base=kinds.Optimizer)
    assert abs(rule.result("jax", paths[0])[0] - rule.result("jax", paths[1])[0]).max() > 0.1
