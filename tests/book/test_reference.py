"""The reference: each module has a page, each public name stands on one, docstrings read as they should."""

import ast
import re

import pytest

from tools import guards
from tools.book import page, places, public
from tools.lessons import ROOT, Lesson

api = pytest.importorskip(
    "tools.book.api", reason="Sphinx comes with requirements/book.txt, which `make book` installs"
)
napoleon = pytest.importorskip("sphinx.ext.napoleon")
main = pytest.importorskip("tools.book.__main__")
NAME = re.compile(r"(\\?\*){0,2}[A-Za-z_][\w.]*(\\_)?")
# what only the modules around them use: the package's page says what they are for
PRIVATE = {
    "course.layers.statistics", "course.porting.modules", "course.porting.problems", "course.porting.trees",
    "course.taylor.arguments",
}  # fmt: skip
MODULES = [name for name in guards.modules() if name != "course" and not name.startswith("course.checks.")]
PAGES = {module: api.page(module) for module in public.pages()}


@pytest.mark.parametrize("module", sorted(set(MODULES) - PRIVATE))
def test_every_public_name_stands_on_a_page(module):
    tree = ast.parse(guards.modules()[module])
    said = next((node.value for node in tree.body if ast.unparse(node).startswith("__all__")), None)
    names = ast.literal_eval(said) if said else [
        node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_"
    ]  # fmt: skip
    for name in names:
        target = public.aliases()[f"{module}.{name}"]
        shown, short = target.rpartition(".")[0], target.rpartition(".")[2]
        if target in PAGES:  # a module that its package offers
            continue
        assert any(f"{line}\n" in PAGES[shown] or f"{line}(" in PAGES[shown] for line in (
            f".. autofunction:: {target}", f".. autoclass:: {target}", f".. py:data:: {short}",
            f".. py:function:: {short}"))  # fmt: skip


def test_private_modules_are_there_and_private():
    assert set(MODULES) >= PRIVATE and not PRIVATE & set(PAGES)


def test_every_module_of_the_index_has_a_page_and_a_row():
    rows = [f"course.{row['module']}" for row in api.ROW.finditer(public.docstring("course"))]
    assert len(rows) >= 27 and set(rows) <= set(PAGES)
    text = api.index_page()
    for module in rows:
        assert f"]({module}.md)" in text and f"\n{module}\n" in text
    # what has no row hangs below a package that has one
    assert all(set(guards.parents(module)) & set(rows) for module in set(PAGES) - set(rows))


@pytest.mark.parametrize("path", sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("course/**/*.py")))
def test_every_file_of_the_package_has_a_page(path):
    found = places.docname(path)
    assert found == public.INDEX or found.removeprefix("api/") in PAGES
    assert (ROOT / page.edited_in(found)).is_file()


def test_signatures_are_those_of_the_source():
    signature = lambda name: api.signature(None, "", name, None, None, "", "")  # noqa: E731
    assert signature("course.train.titanic_nnx.train_step") == (
        "(model: nnx.Module, optimizer: nnx.Optimizer, x: jax.Array, y: jax.Array)", "jax.Array")  # fmt: skip
    assert signature("course.train.titanic_linen.TitanicMLP") == ("(width: int = 64)", None)
    assert signature("course.checks.core.Check.hint") == ("(number: int | None=None)", "None")
    assert signature("course.stde.Kind.fixed") is signature("nothing") is None


def test_types_lead_where_the_code_means():
    assert public.written("ScalarField", "course.stde") == "course.taylor.functions.ScalarField"
    assert public.written("Arrays", "course.porting") == "course.porting.matching.Arrays"
    assert public.written("Path", "course.porting.layouts") == "course.porting.layouts.Path"
    assert public.written("Path", "course.data") is public.written("jax.Array", "course.stde") is None


def test_a_docstring_becomes_what_napoleon_reads():
    text = api.as_rst(
        "Of `laplacian`s, `samples` and `what_`, |x|^2 (*shape).\n\nReturns:\n  A pair: two.\nSource: Shi, 18_stde.\n"
        "Example: >>> f(x_ * 2)",
        "course.stde",
        {"samples"},
    )
    assert text == (
        ":py:obj:`laplacian <course.stde.laplacian>`\\ s".join(["Of ", ", ``samples`` and ``what_``, "])
        + "\\|x\\|^2 (\\*shape).\n\n:returns:\n  A pair: two.\n\nSource: Shi, :doc:`18 · STDE </lessons/18_stde>`.\n"
        "\nExample:\n  >>> f(x_ * 2)"
    )


def fields(docstring, name, kind):
    """What napoleon makes of a docstring: its fields, (word, name or None, text)."""
    lines = docstring.split("\n")
    api.rewrite(None, kind, name, None, None, lines)
    settings = napoleon.Config(napoleon_numpy_docstring=False, napoleon_use_ivar=True)
    text = str(napoleon.GoogleDocstring("\n".join(lines), settings, what=kind, name=name))
    found = re.finditer(r"(?m)^:(?!py:|doc:)(?P<word>[a-z]+)(?: (?P<name>.+?))?:(?: |$)(?P<text>.*)", text)
    return [(field["word"], field["name"], field["text"]) for field in found]


def faults(docstring, name, kind):
    """Sections that would be shown raw or wrong: a name that is none, an error without a reason, "d." as a list."""
    found = []
    for word, named, text in fields(docstring, name, kind):
        if word == "type":  # napoleon takes "Size: of s" for the type of a property
            found.append(f"a property's first line without a colon, got {text!r}")
        elif word in {"param", "ivar", "raises"} and not NAME.fullmatch(named or ""):
            found.append(f"one name before the colon, got {named or text!r}")
        elif word in {"param", "ivar"} and re.fullmatch(r"\w\.", text):
            found.append(f"more than a letter and a point, which is a list's number, got {text!r}")
        elif re.search(r"\b[A-Z]\w+Error: ", text):
            found.append(f"one line for each error, got {text!r}")
    return found


@pytest.mark.parametrize("path", sorted({what.path for what in public.definitions().values()}))
def test_sections_of_every_docstring_name_one_thing_a_line(path):
    kinds = {ast.ClassDef: "class", ast.FunctionDef: "function"}
    for name, what in public.definitions().items():
        if what.path == path and type(what.node) in kinds and (docstring := ast.get_docstring(what.node)):
            kind = "property" if what.is_property else kinds[type(what.node)]
            assert faults(docstring, name, kind) == [], f"{name}: see {path}, line {what.node.lineno}"


@pytest.mark.parametrize(("section", "fault"), [
    ("Attributes:\n  x, y: its middle.", "one name before the colon, got 'x, y'"),
    ("Attributes:\n  order: K.", "more than a letter and a point"),
    ("Raises:\n  ValueError and TypeError, as for `apply`.", "one name before the colon, got 'ValueError and"),
    ("Raises:\n  ValueError: d below 1; TypeError: it is no integer.", "one line for each error"),
])  # fmt: skip
def test_a_section_that_would_be_shown_raw_is_found(section, fault):
    (said,) = faults(f"A box.\n\n{section}", "course.stde.Kind", "class")
    assert fault in said


def test_a_property_with_a_colon_is_found():
    (said,) = faults("Size of s: large.", "course.stde.Kind", "property")
    assert said == "a property's first line without a colon, got 'Size of s'"


def test_constants_stand_with_their_words_and_their_own_value():
    text = PAGES["course.plots"]
    assert ".. py:data:: TORCH\n   :value: '#D55E00'\n\n   PyTorch's orange and JAX's blue.\n" in text
    assert ".. py:data:: NOISE" not in PAGES["course.failures"]  # it has no words
    assert "_PLACES" not in PAGES["course.data"]
    for name, what in public.definitions().items():
        if isinstance(what.node, ast.Assign | ast.AnnAssign):
            assert what.words.endswith("."), f"{name}: expected a sentence below it, got {what.words!r}"


def test_a_module_becomes_markdown():
    text = api.prose("See `rules` of taylor.\n\n  a*b*c\n\nLesson: 18_stde.", "course.taylor")
    assert text == (
        "See {py:obj}`rules <course.taylor.rules>` of taylor.\n\n```text\n  a*b*c\n```\n\n"
        "Lesson: [18 · STDE](../lessons/18_stde.ipynb)."
    )


def test_a_signature_of_several_lines_is_valid_html():
    context = {
        "body": '<dl class="py"><dt class="sig sig-object"><dl>\n<dd><em>x</em>,</dd>\n</dl></dt><dd>Text</dd></dl>'
    }
    api.mend_signatures(None, "api/course.stde", "page.html", context, None)
    assert context["body"] == (
        '<dl class="py"><dt class="sig sig-object"><span class="sig-lines">\n<span><em>x</em>,</span>\n</span></dt>'
        "<dd>Text</dd></dl>"
    )


def test_sources_are_linked_by_line():
    found = api.linkcode_resolve("py", {"module": "course.porting", "fullname": "torch_to_nnx"})
    assert "/course/porting/conversion.py#L" in found
    assert api.linkcode_resolve("py", {"module": "course.porting", "fullname": "nothing"}) is None


def test_a_lesson_that_is_not_built_is_named(monkeypatch, capsys):
    monkeypatch.setattr(main, "lessons", lambda: [Lesson("08_tracing"), Lesson("08d_my_topic")])
    monkeypatch.setattr(main.shutil, "rmtree", lambda *_, **__: pytest.fail("the old book is gone"))
    assert main.main() == 1
    assert "got none of 08d_my_topic; run `make build`" in capsys.readouterr().out
