"""Which torch.compile backend this machine can run. Needs nothing but Python; torch names the backends.

Lesson: 08_tracing.
"""

from __future__ import annotations

import os
import shutil


def backend() -> str:
    """The name of a torch.compile backend: Inductor needs a C++ compiler, "aot_eager" needs none.

    Returns:
      "inductor" where a C++ compiler is found ($CXX, g++, clang++ or c++); otherwise "aot_eager", which traces and
      differentiates like Inductor and then runs operation by operation. Says so on stdout in that case.
    """
    if any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "g++", "clang++", "c++")):
        return "inductor"
    print("no C++ compiler found: torch.compile uses the backend 'aot_eager', which does not fuse operations")
    return "aot_eager"
