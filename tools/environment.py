"""The environment of every kernel that executes a lesson, and of the tests' own process."""

import contextlib
import os
from collections.abc import Iterator
from importlib.metadata import version

KERNEL = {
    "TQDM_DISABLE": "1",  # nobody watches: a progress bar would end up in the outputs
    "OMP_NUM_THREADS": "1",  # lessons and tests share the cores; the models are too small to gain from threads
    "OPENBLAS_NUM_THREADS": "1",
    "COURSE_PROGRESS": "",  # what a build or a test solves is nobody's progress
    "JAX_PLATFORMS": os.environ.get("JAX_PLATFORMS", "cpu"),
}

# Tests compile thousands of small programs and run each once. XLA's older code generator takes half the time; from
# jaxlib 0.11 on there is no such switch. Lessons and benchmarks run with XLA's defaults. Of two equal sums one may be
# rounded otherwise then, so that the gradient of their maximum is 0/0: tests/structures compiles at level 1.
_OLDER = tuple(int(part) for part in version("jaxlib").split(".")[:2]) < (0, 11)
QUICK_XLA = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
QUICK_XLA += " --xla_cpu_use_fusion_emitters=false" * _OLDER


def compile_quickly() -> None:
    """Let XLA compile quickly in this process from here on; processes that it starts are as usual."""
    import jax

    before = os.environ.get("XLA_FLAGS")
    os.environ["XLA_FLAGS"] = f"{before or ''} {QUICK_XLA}"
    jax.devices()  # now the flags are read
    del os.environ["XLA_FLAGS"]
    if before is not None:
        os.environ["XLA_FLAGS"] = before


@contextlib.contextmanager
def double_precision() -> Iterator[None]:
    """JAX with float64, and afterwards as it was."""
    import jax

    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", before)
