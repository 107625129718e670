"""What stands around a page: launch, download and edit buttons, the exercise, how to cite."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from tools.book.pages import FILES
from tools.book.places import in_repository
from tools.book.public import INDEX, file_of
from tools.lessons import Lesson, address, badges, book_address, exercises, lessons, project, tag, title_of

BY_PAGE = {f"lessons/{lesson.stem}": lesson for lesson in lessons()}
BY_PAGE |= {f"exercises/{lesson.stem}": lesson for lesson in exercises(kinds=("exercise",))}


def launch_addresses(lesson: Lesson) -> dict[str, str]:
    """Where a notebook opens in a browser, on three hosts."""
    urls = {}
    for host, badge in badges(lesson.name, address(), tag()).items():
        urls[host] = re.findall(r"\]\((\S+?)\)", badge)[-1]
    repository = address().removeprefix("https://github.com/")
    path = quote(f"notebooks/{lesson.name}.ipynb", safe="")
    urls["Binder"] = f"https://mybinder.org/v2/gh/{repository}/{tag()}?urlpath=lab%2Ftree%2F{path}"
    return urls


def add_words(app: Any, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """A handler of Sphinx's html-page-context, before the theme drops templates that are empty: what ours say."""
    del app, templatename, doctree
    context["citation"] = citation(pagename, context) if pagename != "index" else ""  # which has a section on it
    context["partner"] = partner(pagename)


def add_buttons(app: Any, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """A handler of Sphinx's html-page-context, after the theme's own: header buttons of one page."""
    del app, templatename
    context["generate_toctree_html"] = _with_named_toggles(context["generate_toctree_html"])
    lesson = BY_PAGE.get(pagename)
    if doctree is None:
        return
    pathto, buttons = context["pathto"], []
    if lesson is not None:
        launch = [
            _link(f"Open in {host}", url, "fas fa-rocket", f"launch-{host.lower()}")
            for host, url in launch_addresses(lesson).items()
        ]
        buttons.append(_group("Launch this page", "fas fa-rocket", "launch-buttons", launch))
        notebook = pathto(f"notebooks/{lesson.name}.ipynb", 1)
        save = [
            _link("Notebook", notebook, "fas fa-file-code", "download-notebook"),
            {"type": "javascript", "javascript": "window.print()", "text": "Print, or save as PDF",
             "tooltip": "Print this page", "icon": "fas fa-print", "label": "print-page"},
        ]  # fmt: skip
        buttons.append(_group("Download this page", "fas fa-download", "download-buttons", save))
    if source := edited_in(pagename):
        buttons.append(
            _link("Edit this page", in_repository(source, "edit"), "fas fa-pencil-alt", "edit-page", text_shown=False)
        )
    context["header_buttons"][:0] = buttons


def _with_named_toggles(toctree: Callable[..., Any]) -> Callable[..., str]:
    """The theme's tree of pages; what opens a part of it is an icon there, and needs words for a screen reader."""
    return lambda *args, **options: str(toctree(*args, **options)).replace(
        "<summary>", '<summary aria-label="Pages below">'
    )


def partner(pagename: str) -> tuple[str, str, int] | None:
    """The exercises of a lesson, or the lesson to exercises: what the button says, the page, the minutes."""
    folder, _, stem = pagename.partition("/")
    other = {"lessons": "exercises", "exercises": "lessons"}.get(folder)
    if other is None or (lesson := BY_PAGE.get(f"{other}/{stem}")) is None:
        return None
    return "Exercises" if other == "exercises" else "Lesson", f"{other}/{stem}", title_of(lesson)[2]


def edited_in(pagename: str) -> str | None:
    """The file of the repository in which a page is edited."""
    if lesson := BY_PAGE.get(pagename):
        return f"notebooks/src/{lesson.name}.py"
    if pagename.startswith("rosetta/") and pagename not in ("rosetta/index", "rosetta/names"):
        return f"{pagename}.py"
    if pagename == INDEX:
        return "course/__init__.py"
    if pagename.startswith("api/"):
        return file_of(pagename.removeprefix("api/"))
    return {"index": "book/index.md", "side_by_side": "tools/book/side_by_side.py", **FILES}.get(pagename)


def citation(pagename: str, context: dict[str, Any]) -> str:
    """One line to cite a page by."""
    title = re.sub(r"<[^>]+>", "", context.get("title", ""))
    year = re.search(r"\d{4}", context.get("copyright", ""))
    year = year[0] if year else ""
    book = f"From PyTorch to JAX, version {project()['version']}. {book_address()}{pagename}.html"
    return f"The PyTorch-to-JAX course authors ({year}). “{title}”. {book}"


def _link(text: str, url: str, icon: str, label: str, *, text_shown: bool = True) -> dict[str, Any]:
    return {
        "type": "link",
        "url": url,
        "text": text if text_shown else "",
        "tooltip": text,
        "icon": icon,
        "label": label,
    }


def _group(tooltip: str, icon: str, label: str, buttons: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "group", "tooltip": tooltip, "icon": icon, "buttons": buttons, "label": label}
