"""`make new-lesson NUMBER=23 NAME=my_topic`: a lesson, its exercises, their checks and answers, all but the words.

The scaffold, of four files in tools/scaffold/, runs as it is: the same small fit in PyTorch and in JAX, for the author
to replace. What is to be written stands ‹in marks like these›, and `make guards` names each of them until it is gone.
"""

from __future__ import annotations

import argparse
import ast
import keyword
import re
import textwrap
from pathlib import Path

from tools.lessons import ROOT, Lesson, lessons, title_of

LONGEST = 33  # letters of a name: Kaggle's titles, "Torch to JAX 08d my topic", have 50
LAST = "this is the last lesson. The map of [the README](../README.md) shows the way back to every other one."


class NewLessonError(Exception):
    """The number or the name can't be used; the message says why and what to do."""


def faults(number: str, name: str, root: Path) -> list[str]:
    """What is wrong with a number and a name, each with its remedy; nothing where both will do."""
    found, lesson = [], Lesson(f"{number}_{name}", root)
    taken = {other.stem.partition("_")[0]: other.stem for other in lessons(root)}
    if not re.fullmatch("[0-9]{2}[a-z]?", number):
        found.append(f"expected two digits and at most one letter, like 23 or 08d, got {number!r}; say NUMBER=…")
    elif number in taken:
        found.append(f"expected a number that is free, got {number}, of {taken[number]}; take another, or add a letter")
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name):
        found.append(f"expected a name in lower case with underscores, like my_topic, got {name!r}; say NAME=…")
    elif len(name) > LONGEST:
        found.append(f"expected a name of at most {LONGEST} letters, got {len(name)}: {name}; shorten it")
    elif keyword.iskeyword(name) or name.startswith("test_"):
        found.append(f"expected a name that a module can have, got {name}, a word of Python or pytest; take another")
    elif lesson.checks.exists() or lesson.checks.with_suffix("").exists():
        found.append(f"expected a name that is free, got {name}, which course/checks has; take another")
    return found


def closing(number: str, root: Path) -> str:
    """The last line of a lesson: the one after it, or that there is none."""
    later = next((other for other in lessons(root) if other.stem.partition("_")[0] > number), None)
    return f"[{title_of(later)[0]}]({later.stem}.ipynb)." if later else LAST


def with_checks(text: str, name: str, checks: list[str]) -> str:
    """course/checks/__init__.py with one more module's checks, in alphabetical order."""
    line = f"from course.checks.{name} import {', '.join(checks)}\n"
    if len(line) > 121:
        line = f"from course.checks.{name} import (\n" + "".join(f"    {check},\n" for check in checks) + ")\n"
    lines, tree = text.splitlines(keepends=True), ast.parse(text)
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    place = next((node.lineno - 1 for node in imports if node.module > f"course.checks.{name}"), imports[-1].end_lineno)
    lines.insert(place, line)
    head, _, rest = "".join(lines).partition("__all__ = [")
    listed = sorted([*ast.literal_eval("[" + rest.partition("]")[0] + "]"), *checks])
    body = textwrap.fill(", ".join(f'"{one}"' for one in listed) + ",", 112, break_on_hyphens=False)
    return f"{head}__all__ = [\n{textwrap.indent(body, '    ')}\n]{rest.partition(']')[2]}"


def write(number: str, name: str, root: Path = ROOT) -> list[Path]:
    """Write the scaffold of a lesson, and enter its checks in the package.

    Args:
      number: two digits and at most one letter, free: "23", "08d".
      name: lower case with underscores, free: "my_topic".
    Returns:
      The files written or changed; the author fills in the words of each new one.
    Raises:
      NewLessonError: the number or the name is taken, or is none.
    """
    if found := faults(number, name, root):
        raise NewLessonError("\n".join(found))
    lesson, exercise = (Lesson(f"{number}_{name}", root, kind) for kind in ("lesson", "exercise"))
    places = {
        "lesson": lesson.source,
        "exercise": exercise.source,
        "checks": exercise.checks,
        "answers": root / "tests" / "answers" / exercise.checks.name,
    }
    words = {"NN": number, "TOPIC": name, "NEXT": closing(number, root)}
    for kind, path in places.items():
        text = (ROOT / "tools" / "scaffold" / f"{kind}.py").read_text("utf-8")
        path.write_text(re.sub(r"(?<![A-Z])(NN|TOPIC|NEXT)(?![A-Z])", lambda m: words[m[0]], text), "utf-8")
    index = root / "course" / "checks" / "__init__.py"
    checks = re.findall(r"(?m)^def ([a-z]\w+)\(", exercise.checks.read_text("utf-8"))
    index.write_text(with_checks(index.read_text("utf-8"), name, sorted(checks)), "utf-8")
    return [*places.values(), index]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("number")
    parser.add_argument("name")
    options = parser.parse_args()
    try:
        files = write(options.number, options.name)
    except NewLessonError as error:
        print(f"not written: {error}")
        return 1
    print("written:", *(f"  {path.relative_to(ROOT)}" for path in files), sep="\n")
    print(
        "now: fill in the words ‹in marks›, of which `make guards` names every one, and replace the code by your own;\n"
        'then `make build`. Point the "Next: …" of the lesson before to this one, and enter it in README\'s map.'
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
