"""Carry weights, buffers, gradients and moments between PyTorch, Flax NNX and Flax Linen. Needs JAX and flax.

A layer is found by its path: torch's `model.blocks[1].norm` has the same path in NNX, and is
`params["blocks_1"]["norm"]` in Linen; `names` says where they differ. What a layer is, a torch module says where one is
given; without one, names and shapes do, and no torch is needed: `read_checkpoint` gives the arrays of a file.

| module | what |
|---|---|
| `conversion` | the functions that carry arrays over |
| `layouts` | how each kind of layer is laid out on both sides |
| `matching` | which of torch's arrays goes where in flax |
| `modules` | what a torch module tells of its layers; needs torch |
| `trees` | NNX modules and Linen trees as flat mappings |
| `checkpoints` | files of weights |
| `problems` | what is wrong, all at once |
| `comparison` | the first layer whose output differs |

Lessons: 06_porting_layers, 07_porting_checkpoints.
"""

from course.porting.checkpoints import read_checkpoint
from course.porting.comparison import compare
from course.porting.conversion import (
    arrays_to_linen,
    arrays_to_nnx,
    linen_to_arrays,
    linen_to_nnx,
    linen_to_torch,
    mapping,
    nnx_to_arrays,
    nnx_to_linen,
    nnx_to_torch,
    torch_to_linen,
    torch_to_nnx,
)
from course.porting.problems import PortingError
from course.porting.trees import linen_template

__all__ = [
    "PortingError", "arrays_to_linen", "arrays_to_nnx", "compare", "linen_template", "linen_to_arrays", "linen_to_nnx",
    "linen_to_torch", "mapping", "nnx_to_arrays", "nnx_to_linen", "nnx_to_torch", "read_checkpoint", "torch_to_linen",
    "torch_to_nnx",
]  # fmt: skip
