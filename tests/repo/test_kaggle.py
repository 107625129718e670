"""What `make kaggle` writes is what Kaggle takes, field by field."""

import json
import shutil
import subprocess

import pytest

from tools import kaggle
from tools.kaggle import DATASET_FIELDS, KaggleError, dataset_metadata, faults, kernel_fields, kernel_metadata, slug
from tools.lessons import FLAX, ROOT, Lesson, lessons, new_in_flax

LESSON = Lesson("01b_titanic_nnx")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """What the target writes, with a stand-in for flax's wheel."""
    folder = tmp_path_factory.mktemp("kaggle")
    wheel = folder / f"flax-{FLAX}-py3-none-any.whl"
    wheel.write_bytes(b"a wheel")
    kaggle.kaggle("someone", folder / "out", wheel)
    return folder / "out"


@pytest.mark.slow
def test_each_lesson_has_a_folder_that_kaggle_takes(written):
    stems = [lesson.stem for lesson in lessons()]
    assert sorted(path.name for path in written.iterdir()) == [*stems, "dataset"]
    names = set()
    for stem in stems:
        metadata = json.loads((written / stem / "kernel-metadata.json").read_text("utf-8"))
        assert faults(metadata, kernel_fields(written / stem)) == []
        assert (written / stem / metadata["code_file"]).read_bytes() == Lesson(stem).notebook.read_bytes()
        assert metadata["dataset_sources"] == ["someone/torch-to-jax-course"] and not metadata["enable_internet"]
        assert metadata["competition_sources"] == (["titanic"] if stem == LESSON.stem else [])
        names.add(metadata["id"])
    assert len(names) == len(stems)


@pytest.mark.slow
def test_the_data_set_is_the_course_as_a_wheel_has_it(written):
    folder = written / "dataset"
    metadata = json.loads((folder / "dataset-metadata.json").read_text("utf-8"))
    assert faults(metadata, DATASET_FIELDS) == [] and metadata["id"] == "someone/torch-to-jax-course"
    names = {path.name for path in folder.iterdir()}
    assert names == {"course", "LICENSE", "dataset-metadata.json", f"flax-{FLAX}-py3-none-any.whl"}
    assert (folder / "course" / "titanic.csv").read_bytes() == (ROOT / "data" / "titanic.csv").read_bytes()
    assert {path.name for path in (folder / "course" / "published_results").iterdir()} == {
        path.name for path in (ROOT / "benchmarks" / "results").iterdir()
    }
    modules = {path.relative_to(ROOT) for path in (ROOT / "course").rglob("*.py")}
    assert modules == {path.relative_to(folder) for path in folder.rglob("*.py")}


@pytest.mark.slow
def test_without_the_wheel_only_lessons_that_need_it_ask_for_internet():
    asking = [lesson for lesson in lessons() if kernel_metadata(lesson, "someone", wheel=False)["enable_internet"]]
    assert asking == [lesson for lesson in lessons() if new_in_flax(lesson)] != []


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("id", "torch-to-jax-01b-titanic-nnx", "id: expected owner/slug"),
        ("id", "someone/abcd", "id: expected owner/slug"),
        ("id", "someone/titanic-nnx", "id: expected someone/torch-to-jax-01b-titanic-nnx, as title says"),
        ("title", "JAX", "title: expected a text of 5 to 50 characters"),
        ("title", "Torch to JAX " * 4, "title: expected a text of 5 to 50 characters"),
        ("code_file", "01b_titanic.ipynb", "code_file: expected the name of a file in the same folder"),
        ("language", "Python", "language: expected python, r or rmarkdown"),
        ("kernel_type", "ipynb", "kernel_type: expected notebook or script"),
        ("is_private", "true", "is_private: expected true or false"),
        ("enable_internet", 1, "enable_internet: expected true or false"),
        ("competition_sources", "titanic", "competition_sources: expected a list of slugs"),
        ("competition_sources", ["c/titanic"], "competition_sources: expected a list of slugs"),
        ("dataset_sources", ["torch-to-jax-course"], "dataset_sources: expected a list of owner/slug"),
        ("model_sources", ["google/gemma"], "model_sources: expected a list of owner/model"),
        ("enable_internt", True, "enable_internt: expected one of id, title,"),
        ("language", None, "language: expected python, r or rmarkdown, got none"),
    ],
)
def test_a_wrong_field_of_a_lesson_is_named(field, value, message):
    metadata = kernel_metadata(LESSON, "someone", wheel=True) | {field: value}
    if value is None:
        del metadata[field]
    (fault,) = faults(metadata, kernel_fields(LESSON.notebook.parent))
    assert fault.startswith(message) and ", got " in fault and "; " in fault


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("title", "JAX", "title: expected a text of 6 to 50 characters"),
        ("id", "someone/" + "x" * 51, "id: expected owner/slug"),
        ("licenses", [{"name": "MIT"}], "licenses: expected a list with one"),
        ("licenses", [{"name": "other"}, {"name": "unknown"}], "licenses: expected a list with one"),
        ("licenses", "other", "licenses: expected a list with one"),
        ("subtitle", "Too short", "subtitle: expected a text of 20 to 80 characters"),
        ("description", "A course.", "description: expected the licence, because licenses says other"),
        ("licenses", None, "licenses: expected a list with one"),
    ],
)
def test_a_wrong_field_of_the_data_set_is_named(field, value, message):
    metadata = dataset_metadata("someone") | {field: value}
    if value is None:
        del metadata[field]
    (fault,) = faults(metadata, DATASET_FIELDS)
    assert fault.startswith(message) and ", got " in fault


@pytest.mark.parametrize("user", ["", "Some one", "https://kaggle.com/someone"])
def test_without_a_user_name_nothing_is_written(user, tmp_path):
    with pytest.raises(KaggleError, match=r"expected your name on Kaggle.*got.*; say make kaggle USER=name"):
        kaggle.kaggle(user, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_name_of_the_login_is_no_name_on_kaggle():
    """Most shells set USER; what they say must not become an address."""
    make = shutil.which("make") or pytest.skip("no make here")
    dry = [make, "--dry-run", "--old-file=.venv/.ready", "kaggle"]
    said = [
        subprocess.run(
            [*dry, *more], cwd=ROOT, env={"USER": "root", "PATH": "/usr/bin:/bin"}, capture_output=True, text=True
        )
        for more in ([], ["USER=someone"])
    ]
    assert [done.stdout.strip().splitlines()[-1].split()[-1] for done in said] == ['""', '"someone"']


def test_slugs_are_kaggles():
    # python-slugify, which Kaggle's program uses, makes the same of these
    assert slug("01b · Who survives? Été & co") == "01b-who-survives-ete-co" and slug("a_b c--d") == "a-b-c-d"
