"""The page of the three Titanics: every step three times, in the sources' own lines, and enough of them to run."""

import builtins
import html
import re

import jupytext
import pytest

from tools.book import side_by_side
from tools.book.side_by_side import TRIO
from tools.guards import STEPS
from tools.lessons import Lesson

PAGE = side_by_side.page_text()


def blocks() -> list[str]:
    """The code on the page, as somebody copies it: without notes."""
    found = re.findall(r"<pre>(.*?)</pre>", PAGE, re.DOTALL)
    return [html.unescape(re.sub(r"<[^>]+>", "", re.sub(r" <small.*?</small>", "", block))) for block in found]


def test_every_step_thrice():
    assert PAGE.count("::::::{tab-set}") == len(STEPS)
    for key in TRIO:
        assert PAGE.count(f":sync: {key}\n") == len(STEPS)
        assert list(side_by_side.steps(Lesson(TRIO[key]))) == STEPS
        assert all(side_by_side.programs()[key].values())
    assert PAGE.count(":sync-group: framework") == len(STEPS)


def test_the_code_on_the_page_is_the_sources():
    shown = [side_by_side.programs()[key][name] for name in STEPS for key in TRIO]
    assert [block.rstrip("\n") for block in blocks()] == shown
    for key, stem in TRIO.items():
        lines = Lesson(stem).source.read_text("utf-8").splitlines()
        for code in side_by_side.programs()[key].values():
            place = -1
            for line in filter(None, code.splitlines()):  # in the source's order
                place = lines.index(line, place + 1)


@pytest.mark.parametrize("key", TRIO)
def test_the_code_on_the_page_needs_nothing_else(key):
    cells = [cell.source for cell in jupytext.read(Lesson(TRIO[key]).source).cells if cell.cell_type == "code"]
    bound, needed = side_by_side._names("\n".join(cells[:2]))  # imports and configuration
    bound = bound | {name for line in re.findall(r"import (.+)", cells[0]) for name in re.findall(r"\w+", line)}
    for code in side_by_side.programs()[key].values():
        added, needed = side_by_side._names(code)
        assert needed - bound - set(dir(builtins)) == set()
        bound |= added


def test_what_stayed_what_moved_what_went():
    lines = {key: {line.code: line for part in found.values() for line in part}
             for key, found in side_by_side.marked().items()}  # fmt: skip
    assert not lines["torch"]["optimizer.zero_grad()"].twins
    assert "torch" not in lines["nnx"]["optimizer.update(model, grads)"].twins
    assert lines["nnx"]["history = []"].twins["torch"].step == "train"
    returned = lines["nnx"]["loss, grads = nnx.value_and_grad(loss_fn)(model, x, y)"].twins["torch"]
    assert returned.code == "loss = loss_fn(model, x, y)"
    run = lines["torch"]["history = fit(model, optimizer, loader, EPOCHS, valid=(x_valid, y_valid))"]
    assert (run.step, run.twins["nnx"].step) == ("train", "curves")
    assert "<mark>grads</mark>" in re.sub(r"</?span[^>]*>", "", PAGE)


def test_a_line_has_one_counterpart_and_is_its():
    for key in ("nnx", "linen"):
        for part in side_by_side.marked()[key].values():
            for line in part:
                assert all(twin.twins[key] is line for twin in line.twins.values())
