"""`make kaggle USER=name`: what Kaggle's program uploads, in build/kaggle/: a folder for each lesson, and a data set.

A lesson's folder holds its notebook and kernel-metadata.json. The data set is the course as a wheel lays it out, with
the wheel of flax that some lessons bring; attached, it serves a notebook without internet.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from hatchling.builders.wheel import WheelBuilder

from tools.lessons import FLAX, ROOT, Lesson, address, lessons, new_in_flax, project, tag

OUT = ROOT / "build" / "kaggle"
WHEELS = ROOT / "build" / "wheels"
DATASET = "Torch to JAX course"
KERNEL_FILE, DATASET_FILE = "kernel-metadata.json", "dataset-metadata.json"  # where Kaggle's program looks

# github.com/Kaggle/kaggle-api, docs/datasets_metadata.md
LICENCES = {
    "CC0-1.0", "CC-BY-SA-3.0", "CC-BY-SA-4.0", "CC-BY-NC-SA-4.0", "GPL-2.0", "ODbL-1.0", "DbCL-1.0",
    "copyright-authors", "other", "unknown", "CC-BY-4.0", "CC-BY-NC-4.0", "PDDL", "CC-BY-3.0", "CC-BY-3.0-IGO",
    "US-Government-Works", "CC-BY-NC-SA-3.0-IGO", "CDLA-Permissive-1.0", "CDLA-Sharing-1.0", "CC-BY-ND-4.0",
    "CC-BY-NC-ND-4.0", "ODC-BY-1.0", "LGPL-3.0", "AGPL-3.0", "FDL-1.3", "EU-ODP-Legal-Notice", "apache-2.0",
    "GPL-3.0",
}  # fmt: skip
SLUG = "[a-z0-9]+(-[a-z0-9]+)*"


class KaggleError(Exception):
    """Nothing can be written; the message says expected, got, remedy."""


class Field(NamedTuple):
    """What a field of a metadata file may hold."""

    expected: str
    allowed: Callable[[Any], bool]
    required: bool = True


def _text(shortest: int, longest: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and shortest <= len(value) <= longest


def _name(shortest: int, longest: int) -> Callable[[Any], bool]:
    """owner/slug, the slug this long."""
    return lambda value: (
        isinstance(value, str)
        and re.fullmatch(f"{SLUG}/{SLUG}", value) is not None
        and shortest <= len(value.partition("/")[2]) <= longest
    )


def _list_of(pattern: str) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, list) and all(isinstance(each, str) and re.fullmatch(pattern, each) for each in value)
    )


def _one_licence(value: Any) -> bool:
    match value:
        case [{"name": str(name), **others}]:
            return name in LICENCES and not others
    return False


def _file_in(folder: Path) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and (folder / value).is_file()


# Kaggle's program takes the words "true" and "false" too; one form is enough
SWITCH = Field("true or false", lambda value: isinstance(value, bool))


def kernel_fields(folder: Path) -> dict[str, Field]:
    """The fields of kernel-metadata.json: docs/kernels_metadata.md, and kernels_push of Kaggle's own program."""
    return {
        "id": Field("owner/slug in small letters, digits and hyphens, the slug of 5 to 50 characters", _name(5, 50)),
        "title": Field("a text of 5 to 50 characters", _text(5, 50)),
        "code_file": Field("the name of a file in the same folder", _file_in(folder)),
        "language": Field("python, r or rmarkdown", lambda value: value in ("python", "r", "rmarkdown")),
        "kernel_type": Field("notebook or script", lambda value: value in ("notebook", "script")),
        "is_private": SWITCH,
        "enable_gpu": SWITCH,
        "enable_tpu": SWITCH._replace(required=False),
        "enable_internet": SWITCH,
        "dataset_sources": Field("a list of owner/slug", _list_of(f"{SLUG}/{SLUG}")),
        "competition_sources": Field("a list of slugs", _list_of(SLUG)),
        "kernel_sources": Field("a list of owner/slug", _list_of(f"{SLUG}/{SLUG}")),
        "model_sources": Field(
            "a list of owner/model/framework/variation/version", _list_of(f"{SLUG}(/[A-Za-z0-9.-]+){{4}}")
        ),
        "keywords": Field("a list of tags", _list_of("[a-z0-9 -]+"), required=False),
    }


DATASET_FIELDS = {
    "title": Field("a text of 6 to 50 characters", _text(6, 50)),
    "id": Field("owner/slug in small letters, digits and hyphens, the slug of 6 to 50 characters", _name(6, 50)),
    "licenses": Field('a list with one {"name": …} of a licence that Kaggle knows', _one_licence),
    "subtitle": Field("a text of 20 to 80 characters", _text(20, 80), required=False),
    "description": Field("a text", _text(1, 100_000), required=False),
    "keywords": Field("a list of tags", _list_of("[a-z0-9 -]+"), required=False),
}


def slug(title: str) -> str:
    """What Kaggle makes of a title in an address."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode()
    return re.sub("[^a-z0-9]+", "-", plain.lower()).strip("-")


def faults(metadata: dict[str, Any], fields: dict[str, Field]) -> list[str]:
    """What Kaggle would refuse or warn of, field by field, each with its remedy; nothing where all is well."""
    missing = [name for name, field in fields.items() if field.required and name not in metadata]
    found = [f"{name}: expected {fields[name].expected}, got none; add it" for name in missing]
    for name, value in metadata.items():
        if name not in fields:
            found.append(
                f"{name}: expected one of {', '.join(fields)}, got a field that Kaggle does not read; remove it"
            )
        elif not fields[name].allowed(value):
            found.append(f"{name}: expected {fields[name].expected}, got {json.dumps(value)}; change it")
    title, name = metadata.get("title"), metadata.get("id")
    if not found and slug(title) != name.partition("/")[2]:
        found.append(
            f"id: expected {name.partition('/')[0]}/{slug(title)}, as title says, got {name}; change one of the two"
        )
    if (
        not found
        and metadata.get("licenses") == [{"name": "other"}]
        and "licence" not in metadata.get("description", "")
    ):
        found.append("description: expected the licence, because licenses says other, got none; name it there")
    return found


def competitions(lesson: Lesson) -> list[str]:
    """The competitions whose files a lesson looks for."""
    return ["titanic"] if "find_kaggle(" in lesson.source.read_text("utf-8") else []


def kernel_metadata(lesson: Lesson, user: str, wheel: bool) -> dict[str, Any]:
    """kernel-metadata.json of a lesson; titled like the file, so that a reworded heading does not move the page."""
    title = f"Torch to JAX {lesson.stem.replace('_', ' ')}"
    return {
        "id": f"{user}/{slug(title)}",
        "title": title,
        "code_file": lesson.notebook.name,
        "language": "python",
        "kernel_type": "notebook",
        "is_private": True,
        "enable_gpu": False,
        "enable_internet": bool(new_in_flax(lesson)) and not wheel,
        "dataset_sources": [f"{user}/{slug(DATASET)}"],
        "competition_sources": competitions(lesson),
        "kernel_sources": [],
        "model_sources": [],
    }


def dataset_metadata(user: str, root: Path = ROOT) -> dict[str, Any]:
    """dataset-metadata.json of the course. Kaggle's list of licences has no MIT: the description names it."""
    return {
        "id": f"{user}/{slug(DATASET)}",
        "title": DATASET,
        "subtitle": "The code and data behind the lessons, for notebooks without internet",
        "description": f"{project(root)['description']}\n\nVersion {tag(root)} of {address(root)}. Attach it to a "
        "lesson's notebook, and the notebook needs no internet.\n\nThe licence of code and text is MIT (LICENSE). The "
        "passenger table is public data, told in the repository's data/README.md. A wheel of flax is Apache-2.0.",
        "licenses": [{"name": "other"}],
    }


def flax_wheel(folder: Path = WHEELS) -> Path | None:
    """The wheel of the flax that lessons bring to a host, downloaded once; None without a network."""
    pip = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "--dest",
        str(folder),
    ]
    for wanted in ([], [*pip, f"flax=={FLAX}"]):
        if wanted and subprocess.run(wanted, capture_output=True).returncode:
            return None
        if found := sorted(folder.glob(f"flax-{FLAX}-*.whl")):
            return found[0]
    return None


def write_dataset(folder: Path, wheel: Path | None, root: Path = ROOT) -> None:
    """Write what Kaggle mounts: the package with its data inside, as in the course's wheel, and flax's wheel beside it.

    Args:
      folder: made anew.
      wheel: from `flax_wheel`.
      root: the repository.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as built:
        (packed,) = WheelBuilder(str(root)).build(directory=built, versions=["standard"])
        with zipfile.ZipFile(packed) as archive:
            archive.extractall(folder, [name for name in archive.namelist() if name.startswith("course/")])
    shutil.copy(root / "LICENSE", folder)
    if wheel is not None:
        shutil.copy(wheel, folder)


def kaggle(user: str, out: Path = OUT, wheel: Path | None = None, root: Path = ROOT) -> None:
    """Write all folders anew.

    Args:
      user: the name on Kaggle that will own them.
      out: the folder.
      wheel: from `flax_wheel`; without it the lessons that need it ask for internet.
      root: the repository.
    Raises:
      KaggleError: no such name, or a field that Kaggle would refuse.
    """
    if not re.fullmatch(SLUG, user):
        raise KaggleError(
            f"expected your name on Kaggle, as in kaggle.com/name: small letters, digits and hyphens, got {user!r}; "
            "say make kaggle USER=name"
        )
    shutil.rmtree(out, ignore_errors=True)
    write_dataset(out / "dataset", wheel, root)
    metadata = dataset_metadata(user, root)
    found = [f"{DATASET_FILE}, {fault}" for fault in faults(metadata, DATASET_FIELDS)]
    _write(out / "dataset" / DATASET_FILE, metadata)
    for lesson in lessons(root):
        folder = out / lesson.stem
        folder.mkdir()
        shutil.copy(lesson.notebook, folder)
        metadata = kernel_metadata(lesson, user, wheel is not None)
        found += [f"{lesson.stem}/{KERNEL_FILE}, {fault}" for fault in faults(metadata, kernel_fields(folder))]
        _write(folder / KERNEL_FILE, metadata)
    if found:
        raise KaggleError("\n".join(found))


def _write(path: Path, metadata: dict[str, Any]) -> None:
    path.write_text(json.dumps(metadata, indent=2, ensure_ascii=False) + "\n", "utf-8")


NEXT = """\
{out}: the data set, and {count} lessons; private until you publish them. With Kaggle's program (pip install kaggle):

    kaggle datasets create --dir-mode zip -p {out}/dataset    # later: kaggle datasets version … -m "what is new"
    kaggle kernels push -p {out}/00_start_here                # one for each lesson

Accept the rules of kaggle.com/competitions/titanic before you push {looking}."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("user", help="your name on Kaggle")
    wheel = flax_wheel()
    try:
        kaggle(parser.parse_args().user, wheel=wheel)
    except KaggleError as error:
        print(f"nothing for Kaggle: {error}")
        return 1
    if wheel is None:
        print(
            f"No network, so no wheel of flax {FLAX}: the lessons that need it have Internet on; the others do without."
        )
    looking = ", ".join(lesson.stem for lesson in lessons() if competitions(lesson))
    print(NEXT.format(out=OUT.relative_to(ROOT), count=len(lessons()), looking=looking))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
