"""What machine a result was measured on. Needs nothing but Python, on Linux, macOS and Windows."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

try:
    import resource
except ImportError:  # Windows
    resource = None


def cpu_name() -> str:
    """The processor's name as Linux gives it, else what Python knows."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def cores() -> int:
    """How many cores this process may use; all of the machine's where the system knows no affinity (macOS)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak_memory_gib() -> float | None:
    """The most memory that this process has held so far, in GiB; None where the system does not say."""
    if resource is None:
        return None
    unit = 1 if sys.platform == "darwin" else 2**10  # macOS counts bytes, Linux KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
