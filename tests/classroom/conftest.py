"""A small course, its classroom folder, and twenty submissions, made once."""

import pytest

from tests.classroom.submissions import solved, tiny_course, write
from tools.classroom import classroom


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    """A course with one small exercise notebook."""
    return tiny_course(tmp_path_factory.mktemp("course"))


@pytest.fixture(scope="session")
def handed_out(root):
    """What `make classroom` writes for it."""
    out = root / "build" / "classroom"
    classroom(out, root)
    return out


@pytest.fixture(scope="session")
def handed_in(root, tmp_path_factory):
    """Twenty submissions, and what each exercise of each should come to."""
    folder = tmp_path_factory.mktemp("submissions")
    return folder, write(folder, solved(root))
