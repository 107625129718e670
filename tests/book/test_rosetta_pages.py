"""The Rosetta stone in the book: all that the search box reads leads to entries, and the best comes first."""

import json
import re
import shutil

import pytest

from tools.book import rosetta
from tools.lessons import ROOT


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """The pages as they are written for Sphinx, and the files that the search box needs, where a browser finds them."""
    folder = tmp_path_factory.mktemp("book")
    (folder / "src").mkdir()
    rosetta.write(folder / "src")
    static = folder / "extra" / "_static"
    static.mkdir()
    shutil.copy(ROOT / "book" / "static" / "rosetta.js", static)
    form = rosetta.SEARCH.partition("\n")[2].removesuffix("```")
    (folder / "extra" / "rosetta" / "index.html").write_text(f"<!doctype html><html lang=en><body>{form}", "utf-8")
    return folder


@pytest.fixture(scope="module")
def data(book):
    text = (book / "extra" / "rosetta" / "search-data.js").read_text("utf-8")
    return json.loads(text.removeprefix("window.rosetta = ").removesuffix(";\n"))


def anchors(book):
    pages = {path.stem: path.read_text("utf-8") for path in (book / "src" / "rosetta").glob("*.md")}
    return pages, {name: re.findall(r"^\{#(\S+)\}$", text, re.MULTILINE) for name, text in pages.items()}


def test_every_entry_has_its_anchor_and_every_link_leads_to_one(book, data):
    pages, found = anchors(book)
    for anchor, _, _ in data["entries"]:
        assert found[anchor.partition("-")[0]].count(anchor) == 1, anchor
    for page in ("names", "messages"):
        links = re.findall(r"\]\((\w+)\.md#(\S+?)\)", pages[page])
        assert len(links) > 100
        assert [link for link in links if link[1] not in found[link[0]]] == []


def test_every_name_and_message_leads_to_an_entry(data):
    numbers = range(len(data["entries"]))
    assert len(data["names"]) >= 1400 and len(data["messages"]) >= 111
    assert all(found and set(found) <= set(numbers) for _, found in data["names"])
    assert all(number in numbers and meaning for _, _, meaning, number in data["messages"])
    assert {anchor.partition("-")[0] for anchor, _, _ in data["entries"]} == set(data["groups"])


def test_every_synonym_is_said_by_a_title(data):
    titles = [title.lower() for _, title, _ in data["entries"]] + [title.lower() for title in data["groups"].values()]
    for query, said in rosetta.SYNONYMS.items():
        assert any(all(word.lower() in title for word in said.split()) for title in titles), (query, said)


def test_a_trap_says_which_code_is_which_and_the_handout_is_there(book):
    pages, _ = anchors(book)
    entry = pages["indexing"].partition("{#indexing-writeelement}")[2].partition("\n{#")[0]
    assert re.findall(r"^\[(.+)\]\{\.rosetta-side\}", entry, re.MULTILINE) == [
        "PyTorch", "JAX, written alike", "JAX, same result"
    ]  # fmt: skip
    assert 'href="../handout.html"' in pages["index"] and (book / "extra" / "handout.html").is_file()


@pytest.fixture(scope="module")
def page(book, chromium):
    page = chromium.new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto((book / "extra" / "rosetta" / "index.html").as_uri())
    yield page
    page.close()
    assert errors == []


@pytest.mark.book
@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("masked_fill_", "indexing.html#indexing-maskedfill"),  # the very name
        ("F.cross_entropy", "losses.html#losses-crossentropy"),
        ("torch.nn.functional.cross_entropy(x, y)", "losses.html#losses-crossentropy"),  # its last part
        ("dataload", "data.html#data-batches"),  # how it begins
        ("NonConcreteBooleanIndexError", "indexing.html#indexing-mask"),  # a type of error
        ("Abstract tracer value", "devices.html#devices-numberinside"),  # a part of a message
        (  # a whole line of a traceback
            "jax.errors.TracerBoolConversionError: Attempted boolean conversion of traced array with shape bool[].",
            "control_flow.html#control_flow-ifondata",
        ),
        ("gradient stop", "autograd.html#autograd-detach"),  # words of a title
        ("gradient clipping", "optimizers.html#optimizers-clipvalues"),  # other endings
        ("early stopping", "training.html#training-earlystop"),
        ("freeze layers", "optimizers.html#optimizers-freeze"),
        ("normalization RMS", "layers.html#layers-rmsnorm"),  # American
        ("early foobar", "training.html#training-earlystop"),  # most of the words
        ("mixed precision", "mixed_precision.html"),  # a subject
        ("training loop", "training.html"),
        ("lr scheduler", "schedules.html"),  # synonyms
        ("multi gpu", "parallelism.html#parallelism-distributed"),
        ("model summary", "modules.html#modules-namedweights"),
        ("how do I use weight decay", "optimizers.html#optimizers-momentumdecay"),  # filler
        ("optimizer.step()", "optimizers.html#optimizers-onestep"),  # the class of the object
        ("opt.zero_grad(set_to_none=True)", "optimizers.html#optimizers-zerograd"),
        ("scheduler.step()", "schedules.html#schedules-presentrate"),
        ("scaler.step(optimizer)", "mixed_precision.html#mixed_precision-skipinfinite"),
        ("model.train()", "modules.html#modules-traineval"),
        ("loss.backward()", "autograd.html#autograd-lossandgradient"),
        ("x.view(-1)", "creation.html#creation-view"),
        ("torch.device", "devices.html#devices-todevice"),
        ("device", "devices.html#devices-whereisit"),
        ("model(x)", "modules.html#modules-copymodel"),
    ],
)
def test_the_search_box_finds(page, query, first):
    page.get_by_label("A name of PyTorch, or words of an error message").fill(query)
    assert page.locator(".rosetta-results a").first.get_attribute("href") == first
    assert re.fullmatch(r"\d+( of \d+)? results?", page.get_by_role("status").inner_text())


@pytest.mark.book
def test_the_search_box_by_keyboard_and_by_address(page):
    page.get_by_role("searchbox").fill("no such thing")
    assert page.get_by_role("status").inner_text() == "No results"
    page.get_by_role("searchbox").fill("cross_entropy")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.getAttribute('href')") == "losses.html#losses-perexample"
    page.goto(page.url.partition("?")[0] + "?find=clamp_")
    assert page.locator(".rosetta-results a").first.get_attribute("href") == "indexing.html#indexing-clamp"
