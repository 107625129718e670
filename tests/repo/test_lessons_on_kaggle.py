"""The three Titanics on Kaggle's tables: told to use train.csv, and with the competition mounted."""

import os
import subprocess
import sys

import pandas as pd
import pytest

from tools import environment, hosts
from tools.lessons import ROOT


@pytest.fixture
def mount(tmp_path):
    return hosts.competition(tmp_path / "competitions" / "titanic")


@pytest.mark.doors
def test_the_lessons_run_on_kaggles_table(mount, tmp_path):
    """One after the other in one process, which imports the frameworks once."""
    script = [
        "from course import data, timing",
        f"data.find_kaggle.__defaults__ = ('train.csv', {str(mount)!r})",
        "timing.measure = lambda function, *args, **_: [function(*args), timing.Timing(1, 1)][1]  # one call",
    ]
    for stem in ("01a_titanic_torch", "01b_titanic_nnx", "01c_titanic_linen"):
        code = (ROOT / "notebooks" / "src" / f"{stem}.py").read_text("utf-8")
        code = code.replace("TABLE = None", f"TABLE = {str(mount / 'train.csv')!r}").replace(
            "= 0, 32, 40,", "= 0, 32, 3,"
        )
        assert code.count("train.csv'") == 1 and "32, 3," in code
        # optimize: no assertions, three epochs do not reach the lesson's accuracy
        script.append(f"exec(compile({code!r}, {stem!r}, 'exec', optimize=1), {{'__name__': '__main__'}})")
        script.append(f"print('ran {stem}')")
    (tmp_path / "lessons.py").write_text("\n".join(script), "utf-8")
    done = subprocess.run(
        [sys.executable, "lessons.py"], cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {"MPLBACKEND": "agg", "PYTHONWARNINGS": "ignore", "XLA_FLAGS": environment.QUICK_XLA},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\nran 01") == 3
    answer = pd.read_csv(tmp_path / "submission.csv")
    assert list(answer) == ["PassengerId", "Survived"]
    assert answer["PassengerId"].tolist() == list(range(892, 1310))
    assert set(answer["Survived"]) == {0, 1}
