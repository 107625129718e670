"""Which exercises are done: a small JSON file, and a table of it. Needs filelock.

The environment variable COURSE_PROGRESS names the file; set but empty, nothing is kept beyond the process. Without it
the file is `progress.json`: in the folder `work` where the notebooks run inside the course, else beside the notebook.
A notebook that runs among the solutions counts for nothing.

Lesson: 00_start_here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import NamedTemporaryFile

from filelock import FileLock

ROOT = Path(__file__).parents[2]
SESSION: dict[str, dict[str, str]] = {}  # lesson -> name -> the last outcome, of this process


def path() -> Path | None:
    """The file, or None where nothing is kept."""
    if (named := os.environ.get("COURSE_PROGRESS")) is not None:
        return Path(named) if named else None
    here = Path.cwd()
    if here.name == "solutions":
        return None
    inside = (ROOT / "notebooks").is_dir() and here.is_relative_to(ROOT)
    return (ROOT / "work" if inside else here) / "progress.json"


def load() -> dict[str, dict[str, str]]:
    """Lesson -> name -> outcome, as kept; a file that cannot be read counts as none."""
    file = path()
    try:
        kept = json.loads(file.read_text("utf-8")) if file else {}
    except (OSError, ValueError):
        return {}
    sound = isinstance(kept, dict) and all(isinstance(part, dict) for part in kept.values())
    return {str(lesson): {str(k): str(v) for k, v in part.items()} for lesson, part in kept.items()} if sound else {}


def keep(name: str, lesson: str, kind: str) -> None:
    """Keep an outcome. What was once correct stays so; a folder that cannot be written to is no error."""
    SESSION.setdefault(lesson, {})[name] = kind
    file = path()
    if file is None:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{file}.lock", timeout=5):
            kept = load()
            if kept.get(lesson, {}).get(name) == "correct":
                return
            kept.setdefault(lesson, {})[name] = kind
            with NamedTemporaryFile("w", encoding="utf-8", dir=file.parent, delete=False) as new:
                json.dump(kept, new, indent=1, sort_keys=True)
            os.replace(new.name, file)
    except OSError:  # Timeout of the lock is one too
        return


def table(known: Mapping[str, list[str]]) -> str:
    """What is done: exercise by exercise for the notebooks of this process, in numbers for the course.

    Args:
      known: lesson -> names of its checks, in order.
    """
    kept = load()
    merged = {lesson: {**kept.get(lesson, {}), **SESSION.get(lesson, {})} for lesson in known}
    for lesson, part in merged.items():
        part.update({name: "correct" for name, kind in kept.get(lesson, {}).items() if kind == "correct"})
    width = max(map(len, [*known, "the course", *(name for lesson in SESSION for name in known.get(lesson, []))]))
    rows = [f"{name:<{width}}  {merged[lesson].get(name, '')}" for lesson in SESSION for name in known.get(lesson, [])]
    rows += [""] * bool(rows) + [f"{'lesson':<{width}}  correct  of"]
    for lesson, names in known.items():
        done = sum(merged[lesson].get(name) == "correct" for name in names)
        rows += [f"{lesson:<{width}}  {done:>7}  {len(names):>2}"] if done or lesson in SESSION else []
    every = [(lesson, name) for lesson, names in known.items() for name in names]
    done = sum(merged[lesson].get(name) == "correct" for lesson, name in every)
    return "\n".join([*rows, f"{'the course':<{width}}  {done:>7}  {len(every):>2}"])
