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

from course.porting.problems import some


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
    if path.is_dir():
        raise ValueError(f"{path}: expected a file, got a folder; name a file in it")
    if path.name.endswith(".index.json"):
        raise ValueError(
            f"{path}: expected a file of weights, got a list of them; read each and join the dicts, "
            "read_checkpoint(one) | read_checkpoint(other)"
        )
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix == ".npz":
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = dict(file)
        except (ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path}: expected a .npz of plain arrays, got another file: {error}") from None
        lost = [name for name, array in arrays.items() if array.dtype.type is np.void]
        if lost:
            raise ValueError(
                f"{path}: expected numbers, got {lost[0]} of {arrays[lost[0]].dtype}: a .npz keeps no bfloat16; save "
                "it as float32, or all of them by safetensors.numpy.save_file"
            )
        return arrays
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
    except AttributeError as error:  # a dtype that NumPy has not
        dtype = str(error).rpartition("attribute ")[2]
        raise ValueError(
            f"{path}: expected dtypes that NumPy has, got {dtype}; convert the tensors first, .float()"
        ) from None
    except safetensors.SafetensorError as error:
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
        reason = str(error).partition("\n")[0] or "an empty file"
        if "Weights only load failed" in reason or "TorchScript" in reason:
            reason = "other objects, a whole model say; torch.save(model.state_dict(), file) where its code is at hand"
        raise ValueError(
            f"{path}: expected weights as torch.save(model.state_dict()) writes them, got: {reason}"
        ) from None
    for name in ("state_dict", "model_state_dict", "model"):
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
    if not isinstance(found, Mapping) or not all(isinstance(tensor, torch.Tensor) for tensor in found.values()):
        kinds, inside = f"{type(found)}", []
        if isinstance(found, Mapping):
            kinds = f"{sorted({type(value).__name__ for value in found.values()})}"
            inside = [repr(key) for key, value in found.items() if isinstance(value, Mapping)]
        here = f", or what is under {some(inside)} alone" if inside else ""
        raise ValueError(f"{path}: expected a dict of tensors, got {kinds}; save model.state_dict(){here}")
    return {str(name): to_numpy(tensor, f"{path}: {name}") for name, tensor in found.items()}
