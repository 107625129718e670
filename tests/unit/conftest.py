"""Where torch is not installed (make test-newest), the tests of what needs it are left out by name.

With UNIT=torch it is the other way round: make test-floor runs the others on the same jax, without torch.
"""

import os
from importlib.util import find_spec
from pathlib import Path

import jax
import pytest

NEED_TORCH = [
    "test_layers.py", "test_optimizers.py", "test_loaders.py", "test_porting.py", "test_porting_models.py",
    "test_porting_arrays.py", "test_porting_property.py", "test_train_torch.py",
    "test_crepe.py", "test_convnet.py", "test_compare.py", "test_rosetta_kinds.py", "test_rosetta_messages.py",
    "test_language_model_twin.py", "test_rosetta_arrays.py", "test_rosetta_layers.py", "test_rosetta_training.py",
]  # fmt: skip

collect_ignore = [] if find_spec("torch") else NEED_TORCH
if os.environ.get("UNIT") == "torch":
    collect_ignore = [path.name for path in Path(__file__).parent.glob("test_*.py") if path.name not in NEED_TORCH]


def pytest_report_header():
    return f"left out: {', '.join(collect_ignore)}" if collect_ignore else None


@pytest.fixture(autouse=True, scope="module")
def dropped_programs():
    """No file uses what another has compiled: without it a worker keeps twice the memory."""
    yield
    jax.clear_caches()
