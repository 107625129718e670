"""The language model and its PyTorch twin: the same weights, the same batches, the same losses."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# x64 is a setting of the whole process
PROGRAM = """
import sys
import jax
jax.config.update("jax_enable_x64", True)
import numpy as np
import torch
from flax import nnx
from course import porting
from examples.language_model import step, twin
from examples.language_model.config import Config
from examples.language_model.model import GPT

config = Config(vocab=61, context=16, width=32, layers=2, heads=4, hidden=48, batch=4, steps=120, warmup=10,
                dtype="float64", param_dtype="float64", accumulate=2)
state, count = step.init(config), int(sys.argv[1])
model = GPT(config, rngs=nnx.Rngs(0))
nnx.update(model, state.params)
other = twin.GPT(config).double()
porting.nnx_to_torch(model, other)
rng = np.random.default_rng(0)
batches = [rng.integers(0, config.vocab, (config.batch, config.context + 1), np.int32) for _ in range(count)]
train, ours = jax.jit(step.make_step(config)), []
for batch in batches:
    state, metrics = train(state, batch)
    ours.append(float(metrics["loss"]))
theirs = twin.losses(other, config, batches)
worst = max(abs(a - b) for a, b in zip(ours, theirs))
print(count, worst, ours[0], ours[-1])
assert worst < 1e-10, worst
assert len(set(ours)) == count
"""


@pytest.mark.parametrize("steps", [8, pytest.param(100, marks=pytest.mark.slow)])
def test_the_twin_has_the_same_losses(steps):
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(steps)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
