"""Checkpoints as a flat dict of NumPy arrays. Needs NumPy; safetensors and torch where a file is theirs.

Lesson: 07_porting_checkpoints.
"""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of a file by their names in torch.

    Args:
      path: `.safetensors`; `.npz`; or `.pt`, `.pth`, `.bin` as `torch.save` writes them, which needs torch. Of a file
        that holds more than weights, those under "state_dict", "model_state_dict" or "model" are taken.
    Returns:
      Names -> arrays, in the file's dtypes (bfloat16 as JAX has it).
    Raises:
      ValueError: another kind of file, or one that is no checkpoint.
      ImportError: the library that reads it is not here.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix == ".npz":
        try:
            with np.load(path, allow_pickle=False) as file:
                return dict(file)
        except (ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path}: expected a .npz of plain arrays, got another file: {error}") from None
    if path.suffix in (".pt", ".pth", ".bin", ".ckpt"):
        return _read_torch(path)
    raise ValueError(
        f"expected a .safetensors, .npz, .pt, .pth, .bin or .ckpt file, got {path.name}; save it as one of them"
    )


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        import ml_dtypes  # noqa: F401  # NumPy learns bfloat16 from it; JAX brings it
        import safetensors
        from safetensors.numpy import load_file
    except ImportError as error:
        raise ImportError(
            f"expected safetensors to read {path.name} with, got none; pip install safetensors"
        ) from error
    try:
        return load_file(path)
    except (safetensors.SafetensorError, AttributeError) as error:  # a dtype that NumPy has not is an AttributeError
        raise ValueError(f"{path}: expected a safetensors file, got another: {error}") from None


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"expected torch to read {path.name} with, got none; on a machine that has it, safetensors.torch.save_file("
            "torch.load(path, weights_only=True), 'weights.safetensors') writes a file that needs no torch"
        ) from error
    from course.porting.modules import to_numpy

    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"{path}: expected weights as torch.save(model.state_dict()) writes them, got: {reason}"
        ) from None
    for name in ("state_dict", "model_state_dict", "model"):
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
    if not isinstance(found, Mapping) or not all(isinstance(tensor, torch.Tensor) for tensor in found.values()):
        kinds = (
            sorted({type(value).__name__ for value in found.values()}) if isinstance(found, Mapping) else type(found)
        )
        raise ValueError(f"{path}: expected a dict of tensors, got {kinds}; save model.state_dict()")
    return {str(name): to_numpy(tensor, f"{path}: {name}") for name, tensor in found.items()}
