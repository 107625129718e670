"""What a release refuses, and what it leaves behind."""

import datetime
import subprocess

import pytest

from tools.release import CHECKS, ReleaseError, release

PROJECT = '[project]\nname = "x"\nversion = "0.1.0"\n[project.urls]\nRepository = "https://github.com/{owner}/course"\n'
CHANGES = "# Changes\n\n## Unreleased\n\n- a new lesson\n\n## 0.1.0 (2026-01-01)\n\n- the first\n"
CITATION = "title: x\n# the rest is written\nrepository-code: https://github.com/somebody/course\nversion: 0.1.0\n"


def git(root, *arguments):
    return subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True).stdout


def commit(root):
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "a change")


@pytest.fixture
def root(tmp_path, monkeypatch):
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "t")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "t@example.org")
    (tmp_path / "pyproject.toml").write_text(PROJECT.format(owner="somebody"))
    (tmp_path / "CHANGELOG.md").write_text(CHANGES)
    (tmp_path / "CITATION.cff").write_text(CITATION)
    git(tmp_path, "init", "-q")
    commit(tmp_path)
    return tmp_path


def test_it_checks_writes_commits_and_tags(root):
    ran = []
    release("0.2.0", root, lambda command: ran.append(command) or 0)
    assert ran == list(CHECKS)
    assert 'version = "0.2.0"' in (root / "pyproject.toml").read_text()
    today = datetime.date.today().isoformat()
    expected = CHANGES.replace("## Unreleased\n", f"## Unreleased\n\n## 0.2.0 ({today})\n")
    assert (root / "CHANGELOG.md").read_text() == expected
    cited = CITATION.replace("0.1.0", "0.2.0") + f"date-released: {today}\n"
    assert (root / "CITATION.cff").read_text() == cited
    assert git(root, "tag").split() == ["v0.2.0"] and git(root, "status", "--porcelain") == ""
    assert git(root, "rev-parse", "v0.2.0^{commit}") == git(root, "rev-parse", "HEAD")
    with pytest.raises(ReleaseError, match=r"under '## Unreleased', got nothing"):
        release("0.2.1", root, lambda command: 0)


def test_a_failed_check_leaves_everything_as_it_was(root):
    with pytest.raises(ReleaseError, match="expected `make test` to pass"):
        release("0.2.0", root, lambda command: command == ["make", "test"])
    assert git(root, "status", "--porcelain") == git(root, "tag") == ""
    assert (root / "CHANGELOG.md").read_text() == CHANGES
    assert (root / "CITATION.cff").read_text() == CITATION


def refused(root, version="0.2.0"):
    with pytest.raises(ReleaseError) as caught:
        release(version, root, lambda command: pytest.fail("checks ran"))
    return str(caught.value)


def test_the_placeholder_address_is_refused(root):
    (root / "pyproject.toml").write_text(PROJECT.format(owner="your-organisation"))
    commit(root)
    assert "placeholder" in refused(root) and "[project.urls]" in refused(root)


def test_a_dirty_tree_is_refused(root):
    (root / "new.txt").touch()
    assert "clean tree" in refused(root) and "new.txt" in refused(root)


@pytest.mark.parametrize("version", ["0.0.9", "1", "v1.0.0", "new", ""])
def test_a_version_that_is_none_or_older_is_refused(root, version):
    if version == "1":
        release(version, root, lambda command: 0)  # short, and a version
    else:
        assert "expected a version like 0.1.0" in refused(root, version)


def test_a_version_that_is_tagged_is_refused(root):
    git(root, "tag", "v0.2.0")
    assert "which is tagged" in refused(root)
