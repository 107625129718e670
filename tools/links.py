"""`make links`: ask every external link of pages, lessons, package and Rosetta stone whether it answers.

Their form is the guards' business (`misshapen_links`), always and without a network.
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urldefrag
from urllib.request import Request, urlopen

from tools.lessons import ROOT, address
from tools.tables import print_table

# parentheses and brackets are no part of a link here: the guard asks to write %28 and %29
LINK = re.compile(r"https?://[^\s<>()\[\]{}\"'`\\|…]+")
PLACES = ("*.md", "data/*.md", ".github/**/*.md", ".github/**/*.yml", "notebooks/src/**/*.py", "course/**/*.py",
          "rosetta/*.py")  # fmt: skip
REFUSING = {401, 403, 405, 429}  # sites that talk to browsers alone


def texts(root: Path = ROOT) -> dict[str, str]:
    """Path -> text of everything whose links a reader may follow."""
    paths = sorted({path for place in PLACES for path in root.glob(place)})
    return {path.relative_to(root).as_posix(): path.read_text("utf-8") for path in paths}


def links_of(text: str) -> list[str]:
    """The external links in a text, without the punctuation of the sentence around them."""
    return [found.rstrip(".,;:!?*_") for found in LINK.findall(text)]


def answer(url: str, timeout: float) -> str | int:
    """The HTTP status of a page, redirects followed, or why there is none."""
    try:
        request = Request(url, headers={"User-Agent": "Mozilla/5.0 (a course that checks its links)"})
        with urlopen(request, timeout=timeout) as response:
            return response.status
    except HTTPError as error:
        return error.code
    except (URLError, OSError, ValueError) as error:
        return str(getattr(error, "reason", error)) or type(error).__name__


def check(places: dict[str, str], own: str, timeout: float = 20.0, jobs: int = 16) -> list[dict]:
    """Rows (answer, link, first place where it stands) of the links that do not answer with a page.

    Args:
      places: path -> text.
      own: this repository's address; its pages are left out, as they may not be published yet.
      timeout: seconds for one page.
      jobs: how many pages are asked for at once.
    """
    where = defaultdict(list)
    for path, text in places.items():
        for url in links_of(text):
            if own.partition("://")[2] not in url:
                where[urldefrag(url).url].append(path)
    with ThreadPoolExecutor(jobs) as pool:
        answers = dict(zip(where, pool.map(lambda url: answer(url, timeout), where), strict=True))
    bad = {url: got for url, got in answers.items() if got != 200}
    print(f"{len(answers)} links, {len(answers) - len(bad)} answer")
    return [{"answer": got, "link": url, "in": where[url][0]} for url, got in sorted(bad.items())]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--timeout", type=float, default=20.0, help="seconds for one page")
    rows = check(texts(), address(), parser.parse_args().timeout)
    refusing = [row for row in rows if row["answer"] in REFUSING]
    broken = [row for row in rows if row["answer"] not in REFUSING]
    if refusing:
        print("\nThese refuse programs; look at them in a browser:")
        print_table(refusing)
    if broken:
        print("\nThese do not answer:")
        print_table(broken)
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
