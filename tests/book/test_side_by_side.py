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
        bare = [name for name, code in side_by_side.programs()[key].items() if not code]
        assert bare == (["curves"] if key == "linen" else [])  # it draws all three there
    assert PAGE.count(":sync-group: framework") == len(STEPS)


def test_the_code_on_the_page_is_the_sources():
    shown = [side_by_side.programs()[key][name] for name in STEPS for key in TRIO]
    assert [block.rstrip("\n") for block in blocks()] == [code for code in shown if code]
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
                # a repeated line has the counterpart of the line that it repeats
                assert all(twin.twins[key] is line or line.code in {twin.code, twin.twins[key].code}
                           for twin in line.twins.values())  # fmt: skip


def column(key: str, name: str) -> str:
    """A step's column without highlighting; the spans of whole lines stay, whose classes stand for signs."""
    text = re.sub("</?mark>|<wbr>", "", side_by_side._column(key, name))
    return html.unescape(re.sub(r'<span class="(?!sbs)[^"]*">([^<]*)</span>', r"\1", text))


def sign_and_note(key: str, name: str, code: str) -> tuple[str, str]:
    """How the page marks a line: changed, new, gone or nothing, and what its note says."""
    line = next(line for line in column(key, name).splitlines() if code in line)
    sign = re.search(r'class="sbs-line(?: sbs-(\w+))?"', line)
    note = re.search(r"<small[^>]*>(.*?)</small>", line)
    return (sign[1] or "") if sign else "", re.sub(r"<[^>]+>", "", note[1]) if note else ""


@pytest.mark.parametrize(("name", "code", "marks"), [
    ("data", "passengers = load_titanic(TABLE)", ("", "")),
    ("data", "x_valid, y_valid = torch.from_numpy(", ("changed", "")),
    ("model", "class TitanicMLP(nn.Module):", ("changed", "changed in NNX")),
    ("grad", "return binary_cross_entropy_with_logits(", ("changed", "")),
    ("init", "torch.manual_seed(SEED)", ("gone", "")),
    ("optimizer", "optimizer = torch.optim.Adam(", ("gone", "")),
    ("train", "model = TitanicMLP()", ("changed", "changed in NNX step 3, in Linen step 3")),
    ("curves", "plt.show()", ("", "")),
])  # fmt: skip
def test_what_a_line_of_pytorch_says_of_its_twins(name, code, marks):
    assert sign_and_note("torch", name, code) == marks


def test_no_sign_means_the_same_wherever_it_stands():
    for key, program in side_by_side.marked().items():
        for line in (line for part in program.values() for line in part if line.words):
            if "sbs-line sbs-" not in side_by_side._html(line, key):
                assert {twin.code for twin in line.twins.values()} == {line.code}, (key, line.text)


def test_a_line_marked_as_missing_is_nowhere_in_the_others():
    lines = {key: [line for part in program.values() for line in part if line.words]
             for key, program in side_by_side.marked().items()}  # fmt: skip
    codes = {key: {line.code for line in part} for key, part in lines.items()}
    for line in lines["torch"]:
        assert not [key for key in ("nnx", "linen") if key not in line.twins and line.code in codes[key]]
    for line in lines["nnx"] + lines["linen"]:
        assert line.twins or line.code not in codes["torch"]
    assert sign_and_note("nnx", "update", "    model = TitanicMLP(rngs=") == ("changed", "from step 3")
    assert sign_and_note("nnx", "update", "    loss, grads = ") == ("changed", "")  # that step has it, too


def test_no_program_runs_another():
    for key, program in side_by_side.programs().items():
        others = {stem.partition("_")[2] for stem in TRIO.values()} - {TRIO[key].partition("_")[2]}
        assert not others & set(re.findall(r"\w+", "\n".join(program.values())))
    assert side_by_side.OTHERS_ONLY in column("linen", "curves")
    assert "not in Linen" not in column("torch", "curves")


def test_words_hold_outside_their_lesson():
    said = {(key, name): step.words for key, stem in TRIO.items()
            for name, step in side_by_side.steps(Lesson(stem)).items()}  # fmt: skip
    assert said["torch", "data"] == "One row per passenger; `survived` is the label."
    assert said["torch", "train"].endswith("once an epoch is enough.")
    for (key, name), words in said.items():
        assert words or not side_by_side.programs()[key][name], f"{key}, {name}: no sentence holds outside the lesson"
        assert not re.search(r"this (lesson|notebook)|\bwe\b|yourself", words, re.IGNORECASE)


def test_what_needs_another_program_is_left_out_with_it():
    cells = ("module = titanic_torch.MLP()", "a = module", "b = 1", "module = 2", "c = module")
    step = side_by_side.Step("train", "", "", "", cells)
    assert side_by_side._of_others({"train": step}, "linen") == {"module = titanic_torch.MLP()", "a = module"}
