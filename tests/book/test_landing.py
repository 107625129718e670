"""The landing page: made of README, sources and measurements, with a card and a place in the order for every page."""

import re

import pytest

from course import results
from tools import speed
from tools.book import landing, pages
from tools.book.places import docname, rewritten
from tools.book.side_by_side import TRIO
from tools.guards import unquoted_readme_code
from tools.lessons import ROOT, Lesson, exercises, lessons, title_of

PAGE = landing.page_text((ROOT / "book" / "index.md").read_text("utf-8"))


def test_every_lesson_has_a_card():
    linked = re.findall(r":link: lessons/(\S+)", PAGE)
    assert linked == [lesson.stem for lesson in lessons()]
    for lesson in lessons():
        title, question, minutes = title_of(lesson)
        card = landing.card(lesson)
        assert title in card and question in card and f"{minutes} minutes" in card and card in PAGE


def test_every_lesson_is_on_readmes_map():
    rows = re.findall(r"(?m)^\| ((?:\d\d[a-z]? ?)+) \|", landing.section("The course's map"))
    assert [number for row in rows for number in row.split()] == [x.stem.partition("_")[0] for x in lessons()]


def test_what_a_lesson_is_recognised_by_stands_in_it():
    assert landing.RECOGNISED.keys() <= {lesson.stem for lesson in lessons()}
    for lesson in lessons():
        source = lesson.source.read_text("utf-8")
        named = re.findall(r"`(.+?)`", landing.recognised(lesson))
        missing = [name for name in named if not all(part in source for part in re.findall(r"\w+", name))]
        assert not missing, lesson.stem


@pytest.mark.slow
def test_a_lesson_without_a_phrase_gets_its_own_names(monkeypatch):
    monkeypatch.delitem(landing.RECOGNISED, "03_state_and_trees")
    assert "`Dropout`" in landing.recognised(Lesson("03_state_and_trees"))


def test_the_tabs_hold_the_lessons_training_steps():
    tabs = re.findall(r":sync: (\w+)\n\n```python\n(.*?)\n```", PAGE, re.DOTALL)
    assert [key for key, _ in tabs] == list(TRIO)
    for key, code in tabs:
        assert f"\n{code}\n" in Lesson(TRIO[key]).source.read_text("utf-8")
        assert "def train_step(" in code and len(code.splitlines()) <= 8
    assert unquoted_readme_code(PAGE, "\n".join(x.source.read_text("utf-8") for x in lessons())) == []


def test_every_page_has_one_place_in_the_order():
    listed = [page for tree in re.findall(r"```\{toctree\}\n.*?\n\n(.*?)```", PAGE, re.DOTALL) for page in tree.split()]
    written = [f"lessons/{lesson.stem}" for lesson in lessons()]
    written += ["exercises/index", "side_by_side", "rosetta/index", "api/index", *pages.FILES]
    assert sorted(listed) == sorted(written)
    assert listed[: len(lessons())] == [f"lessons/{lesson.stem}" for lesson in lessons()]


def test_every_exercise_has_a_row_and_a_place_in_the_order():
    text, stems = pages.exercises_text(), [found.stem for found in exercises(kinds=("exercise",))]
    assert re.findall(r"\]\((.+?)\.ipynb\) \|", text) == stems
    listed = re.search(r"```\{toctree\}\n.*?\n\n(.*?)```", text, re.DOTALL)[1].split()
    assert listed == stems and stems.index("puzzles") > max(i for i, stem in enumerate(stems) if stem[0].isdigit())


def test_measured_numbers_are_the_published_ones():
    seconds = results.table(results.load("titanic_speed"), speed.LOOP)["median_s"]
    for name, row in speed.ladder_table().iterrows():
        assert row.times == pytest.approx(seconds[speed.EAGER] / seconds[name]) and f"| {name} | " in PAGE
    slower = re.search(r"Slower than PyTorch eager: (.+)\.", PAGE)[1]
    assert [name for name in seconds.index if f"`{name}`" in slower] == ["nnx un-jitted + loader", "@nnx.jit + loader"]
    at = landing.laplacian_table()
    assert list(at.columns) == list(landing.LAPLACIANS) and at.loc[10, "folx"] < at.loc[10, "exact, course.taylor"]
    for result in ("titanic_speed", "operators"):
        assert results.measured_on(results.load(result)) in PAGE
    assert len(set(re.findall(r":alt: (.+)", PAGE))) == 2


@pytest.mark.slow
def test_pictures_for_light_and_dark_pages(tmp_path):
    for dark in (False, True):
        landing.draw_laplacians(tmp_path / f"{dark}.svg", dark)
    light, dark = ((tmp_path / f"{dark}.svg").read_text("utf-8") for dark in (False, True))
    assert "#e6e6e6" in dark and "#e6e6e6" not in light and len(light) < 100_000


def test_a_missing_part_is_named():
    text = (ROOT / "book" / "index.md").read_text("utf-8")
    with pytest.raises(ValueError, match="cards"):
        landing.page_text(text.replace("% part: cards", ""))


def test_code_is_no_link():
    code = "`branches[0](x)`, <code>layers[1](x)</code>\n\n```python\nfs[0](x)\n```\n"
    said = rewritten(f"[`a`](notebooks/08_tracing.ipynb) {code}", "README.md", "teaching")
    assert said == f"[`a`](lessons/08_tracing.ipynb) {code}"
    with pytest.raises(FileNotFoundError, match="got the link x"):
        rewritten("branches[0](x)", "README.md", "teaching")


def test_files_become_pages(tmp_path):
    pages.write(tmp_path)
    assert {path.stem for path in tmp_path.glob("*.md")} == {"teaching", "contributing", "changes"}
    assert all(docname(file) == page for page, file in pages.FILES.items())
    teaching = (tmp_path / "teaching.md").read_text("utf-8")
    assert "(lessons/00_start_here.ipynb)" in teaching and "](notebooks/" not in teaching
