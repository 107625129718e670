"""Published results are found, read and described; a missing one is named."""

import runpy
from pathlib import Path

import pytest

from course import results


def test_published_results_can_be_read():
    result = results.load("titanic_speed")
    table = results.table(result, "one model, seconds per 500 epochs")
    assert (table["median_s"] > 0).all() and "one compiled run" in table.index
    assert result["conditions"]["date"] in results.measured_on(result)


def test_a_missing_result_is_named(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"expected the result nothing-cpu.*there are: none\); run `make bench`"
    ):
        results.load("nothing", folder=tmp_path)
    for name in ("b-cpu", "a-gpu"):
        (tmp_path / f"{name}.json").touch()
    with pytest.raises(FileNotFoundError, match=r"nothing-gpu, got none in .*there are: a-gpu, b-cpu\)"):
        results.load("nothing", "gpu", tmp_path)


def test_without_results_their_place_in_a_checkout_is_named(monkeypatch):
    monkeypatch.setattr(Path, "is_dir", lambda path: False)
    assert runpy.run_path(results.__file__)["FOLDER"] == results.FOLDER
