# %% [markdown]
# # 07 · Exercises: Porting checkpoints
#
# **Can you read a stranger's file, and go on with a stranger's run?** (20 minutes)

# %% [markdown]
# Four exercises to the [lesson](../07_porting_checkpoints.ipynb). Fill in the cells that say `your turn` and run the
# check below each. `checks.NAME.hint()` prints one hint at a time, `checks.NAME.solution()` the solution, and
# `checks.progress()` what is done. The minutes count reading and typing; thinking comes on top.

# %%
import numpy as np
import optax
from flax import nnx

from course import checks, porting

# %% [markdown]
# ## Exercise 1: Names with a prefix (3 minutes)
#
# `DistributedDataParallel` puts `module.` before every name of a checkpoint, `torch.compile` puts `_orig_mod.`, and who
# used both has both, in either order: `module._orig_mod.stem.weight`. To save space such a file may be in float16.
#
# **Given** `arrays`, a dict of names and NumPy arrays, as `porting.read_checkpoint` returns it. A model may well have a
# layer called `module` *inside*: `adapter.module.weight`; and one whose name begins like a prefix: `modules.0.weight`.
#
# **Asked** for a new dict with the prefixes gone, at the start of each name, and every float16 array as float32.
# Whole numbers, such as BatchNorm's count of batches, keep their dtype, and so do arrays of other floats.
#
# **Checked** with random files: names, dtypes and values.


# %% tags=["stub"]
def cleaned(arrays):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def cleaned(arrays):
    result = {}
    for name, array in arrays.items():
        while name.startswith(("module.", "_orig_mod.")):
            name = name.partition(".")[2]
        result[name] = array.astype(np.float32) if array.dtype == np.float16 else array
    return result


# %%
checks.cleaned(cleaned)

# %% [markdown]
# ## Exercise 2: A file, and a model (9 minutes)
#
# Somebody trained a network with `classes=10` and published these arrays:
#
# ```
# net.embeddings.position_ids               (16,), int64
# net.embeddings.proj.weight                (6, 1, 3, 3)     and .bias
# net.encoder.layer.0.attention_norm.weight (6,)             and .bias
# net.encoder.layer.0.mlp.dense_in.weight   (12, 6)          and .bias
# net.encoder.layer.0.mlp.dense_out.weight  (6, 12)          and .bias
# net.encoder.layer.1. …                    and so on, for each block
# net.pooler.weight                         (6, 6)           and .bias
# fc.weight                                 (10, 6)          and .bias
# ```
#
# Your model has another head, and no pooler:


# %%
class Block(nnx.Module):
    def __init__(self, *, rngs):
        self.norm = nnx.LayerNorm(6, epsilon=1e-5, rngs=rngs)
        self.up, self.down = nnx.Linear(6, 12, rngs=rngs), nnx.Linear(12, 6, rngs=rngs)

    def __call__(self, x):
        return x + self.down(nnx.relu(self.up(self.norm(x))))


class Model(nnx.Module):
    def __init__(self, blocks, classes, *, rngs):
        self.patch = nnx.Conv(1, 6, (3, 3), strides=3, padding="VALID", rngs=rngs)
        self.blocks = nnx.List([Block(rngs=rngs) for _ in range(blocks)])
        self.head = nnx.Linear(6, classes, rngs=rngs)

    def __call__(self, x):  # (B, 12, 12, 1)
        x = self.patch(x).mean((1, 2))
        for block in self.blocks:
            x = block(x)
        return self.head(x)


# %% [markdown]
# **Given** the file and the model, for any number of blocks.
#
# **Asked** for what `porting.arrays_to_nnx(arrays, model, **port)` needs: a dict with `names`, `ignore` and `keep`.
#
# **Checked** with files of two and of four blocks: everything of the file that has a layer in the model must arrive
# there, and the head must stay as it was drawn.

# %% tags=["stub"]
port = {"names": ..., "ignore": ..., "keep": ...}

# %% tags=["solution"]
port = {
    "names": {
        "net.embeddings.proj": "patch",
        "net.encoder.layer.*.attention_norm": "blocks/*/norm",
        "net.encoder.layer.*.mlp.dense_in": "blocks/*/up",
        "net.encoder.layer.*.mlp.dense_out": "blocks/*/down",
    },
    "ignore": ["net.embeddings.position_ids", "net.pooler", "fc"],
    "keep": ["head"],
}

# %%
checks.port_of_a_file(port)

# %% [markdown]
# ## Exercise 3: Gradients, read from the end (3 minutes)
#
# Four linear layers, `h` a vector, and a loss behind them:
#
# ```python
# h = tanh(stem(x))
# h = h + tanh(a(h))
# h = h + tanh(b(h))
# y = out(h)
# ```
#
# **Given** three slips, each made alone:
#
# - 1: `h = h + tanh(a(stop_gradient(h)))` in the second line;
# - 2: `h = stop_gradient(h + tanh(a(h)))` in the second line;
# - 3: `h = h + stop_gradient(tanh(b(h)))` in the third.
#
# **Asked** what becomes of the gradient of each layer's weights, compared to that without the slip: `"right"`,
# `"wrong"`, or `"zero"`; four words for each slip, for `stem`, `a`, `b`, `out` in this order.
#
# **Checked** by `jax.grad`.

# %% tags=["stub"]
gradients = {1: ..., 2: ..., 3: ...}

# %% tags=["solution"]
gradients = {
    1: ("wrong", "right", "right", "right"),  # the stem still has the way past `a`
    2: ("zero", "zero", "right", "right"),  # nothing gets through
    3: ("wrong", "wrong", "zero", "right"),  # `b` is cut off; before it, the way through `b` is lacking
}

# %%
checks.gradients_from_the_end(gradients)

# %% [markdown]
# ## Exercise 4: Momentum goes along (3 minutes)
#
# A run in torch is to go on in JAX. Its optimizer, and the file's second half:
#
# ```python
# sgd = torch.optim.SGD(net.parameters(), lr=rate, momentum=0.9, weight_decay=1e-3)
# buffers = {name: sgd.state[p]["momentum_buffer"].numpy() for name, p in net.named_parameters()}
# ```


# %%
def make_rule(rate):
    return optax.chain(optax.add_decayed_weights(1e-3), optax.trace(0.9), optax.scale(-rate))


# %% [markdown]
# **Given** `rule`, as `make_rule` returns it; `model`, an NNX model that has torch's weights already; and `buffers`, by
# torch's names and in torch's layouts. Optax's second state is a `TraceState(trace=…)`, laid out like the parameters.
#
# **Asked** for the state with which `rule.update(grads, state, params)` makes torch's next step; `params` is
# `nnx.state(model, nnx.Param)`.
#
# **Checked** by the step after a few steps of torch, for a model with a convolution, whose layouts differ.


# %% tags=["stub"]
def resumed_state(rule, model, buffers):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def resumed_state(rule, model, buffers):
    decay, momentum, scale = rule.init(nnx.state(model, nnx.Param))
    trace = porting.arrays_to_nnx(buffers, momentum.trace, gradients=True)
    return decay, momentum._replace(trace=trace), scale


# %%
checks.resumed_state(resumed_state)

# %% [markdown]
# Back to the [lesson](../07_porting_checkpoints.ipynb), or on to the next one:
# [07b · A real checkpoint](../07b_real_checkpoint.ipynb). [Solutions](../solutions/07_porting_checkpoints.ipynb).
