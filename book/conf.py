"""Sphinx's configuration of the book: `make book`. Pages are written by tools/book."""

import importlib.util
from pathlib import Path

from tools.book.api import linkcode_resolve  # noqa: F401 - Sphinx looks for it here
from tools.book.page import add_buttons, add_words
from tools.lessons import address, project, tag

project_table = project()
project = "From PyTorch to JAX"
author = "The PyTorch-to-JAX course authors"
copyright = f"2026, {author}"
version = release = project_table["version"]

extensions = [
    "myst_nb",
    "sphinx_design",
    "sphinx_copybutton",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.linkcode",
    "tools.book.api",
]
nb_execution_mode = "off"  # the committed outputs are what the course was tested with
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "colon_fence", "attrs_inline", "attrs_block"]
myst_heading_anchors = 3
suppress_warnings = ["mystnb.unknown_mime_type"]

# MathJax comes from the site itself, not from another host; the package's own extension forbids parallel reading
MATHJAX = Path(importlib.util.find_spec("sphinx-mathjax-offline").origin).parent
mathjax_path = "mathjax/tex-chtml.js"

napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False  # types stand in the signature
smartquotes_action = "D"  # dashes alone: prose quotes code, {"h.*": "blocks"}
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 80
python_trailing_comma_in_multi_line_signatures = False
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "sphinx_book_theme"
html_title = project
html_static_path = ["static", str(MATHJAX / "static")]
html_css_files = ["course.css", "rosetta.css", "landing.css", "side_by_side.css", "exercises.css", "api.css"]
html_js_files = ["course.js"]
templates_path = ["templates"]
html_copy_source = False  # a page's notebook is downloaded as it is in the repository
html_show_sourcelink = False
html_extra_path = ["../build/book/extra"]
html_theme_options = {
    "repository_url": address(),
    "repository_branch": tag(),
    "use_repository_button": True,
    "use_download_button": False,
    "use_fullscreen_button": False,
    "navbar_persistent": [],  # the search field stands in the sidebar, its button in the header
    "show_navbar_depth": 1,
    "collapse_navbar": True,
    "show_toc_level": 2,
    "search_bar_text": "Search the course",
    "article_header_start": ["toggle-primary-sidebar.html", "partner.html"],
    "article_footer_items": ["citation.html"],
}
html_favicon = "static/favicon.svg"
html_context = {"default_mode": "auto"}  # light or dark, as the visitor's system is
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_exclude = ".linenos, .gp, .sbs-note"


def setup(app):
    app.connect("html-page-context", add_words, priority=400)  # before the theme leaves out empty templates
    app.connect("html-page-context", add_buttons, priority=502)  # after the theme's own buttons
