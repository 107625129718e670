"""Which torch.compile backend this machine can run. Needs nothing but Python; torch names the backends.

Lesson: 08_tracing.
"""

from __future__ import annotations

import os
import shutil
import sysconfig
import tempfile
from importlib.util import find_spec


def backend() -> str:
    """The name of a torch.compile backend: Inductor needs a C++ compiler and paths without spaces, "aot_eager" neither.

    Returns:
      "inductor" where a C++ compiler is found ($CXX, g++, clang++ or c++) and the paths in its commands have no spaces,
      which Inductor does not quote; otherwise "aot_eager", which traces and differentiates like Inductor and then runs
      operation by operation. Says so on stdout in that case.
    """
    if not any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "g++", "clang++", "c++")):
        reason = "no C++ compiler found"
    elif spaced := [path for path in _paths_in_commands() if " " in path]:
        reason = f"Inductor's compiler commands break at the space in {spaced[0]}"
    else:
        return "inductor"
    print(f"{reason}: torch.compile uses the backend 'aot_eager', which does not fuse operations")
    return "aot_eager"


def _paths_in_commands() -> list[str]:
    """Where torch, Python's headers and library, and Inductor's cache are."""
    torch = find_spec("torch")
    python = [sysconfig.get_path("include"), sysconfig.get_config_var("LIBDIR") or ""]
    cache = [tempfile.gettempdir(), os.environ.get("TORCHINDUCTOR_CACHE_DIR", "")]
    return [torch.origin if torch and torch.origin else "", *python, *cache]
