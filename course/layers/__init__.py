"""Layers that train as PyTorch's do where flax's do not: recurrent biases, a running variance, a padding row.

Those for NNX stand here, those for Linen in `layers.linen`. Each is flax's own class with the difference added, so that
settings, shapes and calls are flax's, and `course.porting` carries torch's weights into it. Needs JAX and flax.

| flax's | differs from torch's in | here |
|---|---|---|
| OptimizedLSTMCell | one bias instead of two | `LSTMCell`, `linen.LSTMCell` |
| NNX's GRUCell | no `b_hn` (Linen's has it) | `GRUCell` |
| BatchNorm | the running variance is the biased one, batches are not counted | `BatchNorm`, `linen.BatchNorm` |
| Embed | no `padding_idx` | `Embed`, `linen.Embed` |
| all norms | E[x²] - E[x]², which cancels where means are large | flax's own, with `use_fast_variance=False` |

Lessons: 06b_porting_sequences, 07_porting_checkpoints.
"""

from course.layers import linen
from course.layers.nnx import BatchNorm, Embed, GRUCell, LSTMCell

__all__ = ["BatchNorm", "Embed", "GRUCell", "LSTMCell", "linen"]
