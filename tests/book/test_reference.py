"""The reference: each module has a page, each public name stands on one, docstrings read as they should."""

import ast

import pytest

from tools import guards
from tools.book import page, places, public
from tools.lessons import ROOT

api = pytest.importorskip(
    "tools.book.api", reason="Sphinx comes with requirements/book.txt, which `make book` installs"
)
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
