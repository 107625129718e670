"""pytest and the kernels that nbval starts run in the environment of every other lesson run."""

import os

import pytest

from tools import environment

os.environ.update(environment.KERNEL)


def pytest_itemcollected(item):
    """Alarms of XLA, which a busy machine sets off, are no output of a cell, as `make run` has it."""
    compare = getattr(item, "compare_outputs", None)  # a cell under nbval
    if compare is not None:
        from tools.lessons import without_alarms

        item.compare_outputs = lambda test, ref, skip=None: compare(without_alarms(test), ref, skip)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """nbval says that a cell wrote to stderr, but not what: that stands in the report of a cell that failed."""
    report = yield
    if report.failed:
        for output in getattr(item, "test_outputs", None) or ():
            if output.get("name") == "stderr":
                report.sections.append(("what the cell wrote to stderr", output["text"]))
    return report
