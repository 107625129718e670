"""Where torch is not installed (make test-newest), the tests of what needs it are left out by name."""

from importlib.util import find_spec

NEED_TORCH = [
    "test_layers.py", "test_optimizers.py", "test_loaders.py", "test_porting.py", "test_porting_models.py",
    "test_porting_arrays.py", "test_porting_property.py", "test_train_torch.py",
    "test_crepe.py", "test_convnet.py", "test_compare.py", "test_rosetta_kinds.py", "test_rosetta_messages.py",
    "test_rosetta_arrays.py", "test_rosetta_layers.py", "test_rosetta_training.py",
]  # fmt: skip

collect_ignore = [] if find_spec("torch") else NEED_TORCH


def pytest_report_header():
    return f"torch is not installed: left out {', '.join(collect_ignore)}" if collect_ignore else None
