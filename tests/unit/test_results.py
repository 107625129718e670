"""Published results are found, read and described; a missing one is named."""

import pytest

from course import results


def test_published_results_can_be_read():
    result = results.load("titanic_speed")
    table = results.table(result, "one model, seconds per 500 epochs")
    assert (table["median_s"] > 0).all() and "one compiled run" in table.index
    assert result["conditions"]["date"] in results.measured_on(result)


def test_a_missing_result_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected the result nothing-cpu.*make bench"):
        results.load("nothing", folder=tmp_path)
