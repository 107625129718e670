"""`make book`: write the pages and have Sphinx make the site, in build/book/html/. No cell is executed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from tools.book import api, landing, notebooks, pages, rosetta, side_by_side
from tools.lessons import ROOT, exercises, lessons

OUT = ROOT / "build" / "book"
WRITERS = (notebooks, landing, side_by_side, pages, rosetta, api)


def main() -> int:
    if missing := [lesson.name for lesson in (*lessons(), *exercises()) if not lesson.notebook.is_file()]:
        print(f"no book: expected executed notebooks, got none of {', '.join(missing)}; run `make build`")
        return 1
    source = OUT / "src"
    shutil.rmtree(OUT, ignore_errors=True)
    shutil.copytree(ROOT / "book", source, ignore=shutil.ignore_patterns("conf.py", "static", "templates"))
    for writer in WRITERS:
        writer.write(source)
    command = [sys.executable, "-m", "sphinx", "-c", ROOT / "book", "-d", OUT / "doctrees", "-j", "auto"]
    command += ["-q", "--fail-on-warning", "--keep-going", *sys.argv[1:], source, OUT / "html"]
    return subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}).returncode


if __name__ == "__main__":
    raise SystemExit(main())
