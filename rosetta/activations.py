"""Activations

Functions of single numbers are functions in JAX, `jax.nn.silu` for `F.silu` and `nn.SiLU()` alike; flax offers the same
ones as `nnx.silu` and `nn.silu`. Compared: values and slopes, also at kinks and far out.
"""

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F

from rosetta.kinds import Pair, normal
from tools.environment import double_precision

GRID = np.linspace(-4, 4, 81, dtype=np.float32)


class Activations(Pair):
    """Activation functions"""

    inputs = {"x": normal(20)}
    note = (
        "`F.hardtanh` is `jax.nn.hard_tanh`, `F.logsigmoid` is `jax.nn.log_sigmoid`. Defaults agree, and slopes but at "
        "two kinks: that of leaky_relu at 0 is 0.01 in PyTorch and 1 in JAX, that of hardtanh at -1 and 1 is 0 and 1. "
        "Above 20 PyTorch's softplus is x itself, in float64 up to 2e-9 less."
    )

    def torch(x):
        return F.relu(x), F.leaky_relu(x), F.elu(x), F.selu(x), F.silu(x), F.softplus(x), F.mish(x)

    def jax(x):
        return (
            jax.nn.relu(x), jax.nn.leaky_relu(x), jax.nn.elu(x), jax.nn.selu(x), jax.nn.silu(x), jax.nn.softplus(x),
            jax.nn.mish(x),
        )  # fmt: skip

    def claims():
        """Values and slopes at kinks and far out."""
        points = np.array([-50.0, -20, -1, 0, 1, 3, 6, 20, 20.001, 21, 50])
        kinks = {"leaky_relu": {0.0: (0.01, 1)}, "hardtanh": {-1.0: (0, 1), 1.0: (0, 1)}}
        ours = {"hardtanh": "hard_tanh", "logsigmoid": "log_sigmoid"}
        for name in ("relu", "leaky_relu", "elu", "selu", "silu", "softplus", "mish", "hardtanh", "logsigmoid"):
            x, f = torch.tensor(points, requires_grad=True), getattr(jax.nn, ours.get(name, name))
            values = getattr(F, name)(x)
            (slopes,) = torch.autograd.grad(values.sum(), x)
            with double_precision():
                found, tilts = f(jnp.asarray(points)), jax.grad(lambda x, f=f: f(x).sum())(jnp.asarray(points))
            bound = 2.1e-9 if name == "softplus" else 1e-14
            np.testing.assert_allclose(values.detach(), found, atol=bound, rtol=0)
            for point, theirs, mine in zip(points, slopes.tolist(), tilts.tolist(), strict=True):
                theirs_at_kink, mine_at_kink = kinks.get(name, {}).get(float(point), (theirs, theirs))
                assert theirs == theirs_at_kink and abs(mine - mine_at_kink) < bound, (name, point)


class GELU(Pair):
    """GELU activation"""

    inputs = {"x": GRID}
    trap = "PyTorch's is exact, JAX's the tanh approximation by default: 5e-4 apart."
    lesson = ("02_same_numbers", "nnx.gelu(z, approximate=False)")

    def torch(x):
        return F.gelu(x)

    def jax(x):
        return jax.nn.gelu(x)

    def fix(x):
        return jax.nn.gelu(x, approximate=False)

    def differ(theirs, ours):
        by_tanh = F.gelu(torch.from_numpy(GRID), approximate="tanh")
        return np.allclose(ours, by_tanh, atol=1e-5) and 1e-4 < float(abs(ours - theirs.numpy()).max()) < 1e-3
