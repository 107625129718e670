"""The environment of every kernel that executes a lesson."""

import os

KERNEL = {
    "TQDM_DISABLE": "1",  # nobody watches: a progress bar would end up in the outputs
    "OMP_NUM_THREADS": "1",  # lessons and tests share the cores; the models are too small to gain from threads
    "OPENBLAS_NUM_THREADS": "1",
    "JAX_PLATFORMS": os.environ.get("JAX_PLATFORMS", "cpu"),
}
