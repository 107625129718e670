"""What `make lint` promises of types: the project's configuration of mypy sees a planted fault."""

import pytest

from tools.lessons import ROOT

api = pytest.importorskip("mypy.api", reason="mypy comes with requirements/dev.txt, which `make lint` installs")
CLEAN = '''
from course.batching import epoch_permutations


def first_row(rows: int) -> int:
    """The row that the first epoch visits first."""
    return int(epoch_permutations(rows, epochs=1, seed=0)[0, 0])
'''


@pytest.mark.slow  # mypy reads NumPy's types: seconds
@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("rows: int)", "rows)", "no-untyped-def"),
        ("seed=0", "seed='0'", "arg-type"),
        ("-> int", "-> str", "return-value"),
        ("rows: int)", "rows: int = None)", "assignment"),
        ("[0, 0])", "[0, 0])  # type: ignore", "unused-ignore"),
    ],
)
def test_a_planted_fault_is_seen(tmp_path, monkeypatch, old, new, code):
    monkeypatch.chdir(ROOT)  # where mypy finds its configuration, and the package
    clean, planted = tmp_path / "clean.py", tmp_path / "planted.py"
    clean.write_text(CLEAN, "utf-8")
    planted.write_text(CLEAN.replace(old, new), "utf-8")
    found, trouble, status = api.run([str(clean), str(planted)])
    assert (trouble, status) == ("", 1) and f"[{code}]" in found and "clean.py" not in found, found
