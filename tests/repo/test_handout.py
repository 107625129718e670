"""The handout: complete, self-contained, and two pages on either paper."""

import re

import pytest

from rosetta import kinds
from tools import handout, rosetta


def test_it_shows_every_chosen_entry_and_loads_nothing():
    page = handout.handout()
    chosen = {name: entry for name, entry in entries().items() if name in handout.CHOSEN}
    assert len(chosen) == len(handout.CHOSEN) >= 60
    assert page.count("<pre>") == 2 * len(chosen)
    assert page.count("⚠") == 1 + sum(bool(entry.trap) for entry in chosen.values())
    assert len(handout.ERRORS) == 10
    assert not re.search(r"\b(src|href)=(?!.data:)|url\(|@import", page)
    assert all(float(size) >= 7.5 for size in re.findall(r"([\d.]+)pt", page))


def entries():
    return {rosetta.target(group, entry): entry for group, found in rosetta.everything().items() for entry in found}


def test_a_choice_that_does_not_exist_is_named(monkeypatch):
    monkeypatch.setattr(handout, "CHOSEN", ["creation-filled", "creation-nothing"])
    with pytest.raises(ValueError, match="creation-nothing"):
        handout.handout()


def test_code_is_shown_without_what_only_names_the_result():
    assert handout.compact("x[0] = 9\n\nx") == "x[0] = 9"
    assert handout.compact("values, indices = x.max(1)\nvalues, indices") == "values, indices = x.max(1)"
    assert handout.compact("x = y\nf(x)") == "x = y\nf(x)"


def test_a_trap_shows_what_to_write():
    entry = type("Example", (kinds.Pair,), {"torch": theirs, "jax": ours, "fix": fixed, "trap": "Else."})
    assert handout.ours(entry) == "x + 2"


def theirs(x):
    return x + 1


def ours(x):
    return x + 1.5


def fixed(x):
    return x + 2


@pytest.mark.slow
@pytest.mark.skipif(handout.browser() is None, reason="no Chromium here: apt-get install chromium")
@pytest.mark.parametrize("paper", handout.PAPERS)
def test_it_is_two_pages(paper, tmp_path):
    page, pdf = tmp_path / "handout.html", tmp_path / "handout.pdf"
    page.write_text(handout.handout(paper), "utf-8")
    handout.print_page(page, pdf, handout.browser())
    pages = len(re.findall(rb"/Type /Page\b", pdf.read_bytes()))
    assert pages == 2, f"expected two pages on {paper}, got {pages}; choose fewer or shorter entries"
