"""What stands in .github, and CITATION.cff: valid by their schemas, complete, least in what they may do."""

import re
import shutil
import subprocess

import pytest
import yaml

from tools.lessons import ROOT, address

GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
SCHEMAS = {
    "vendor.github-workflows": WORKFLOWS,
    "vendor.github-actions": sorted(GITHUB.glob("actions/*/action.yml")),
    "vendor.dependabot": [GITHUB / "dependabot.yml"],
    "vendor.github-issue-forms": sorted(
        set(GITHUB.glob("ISSUE_TEMPLATE/*.yml")) - {GITHUB / "ISSUE_TEMPLATE/config.yml"}
    ),
    "vendor.github-issue-config": [GITHUB / "ISSUE_TEMPLATE" / "config.yml"],
    "vendor.citation-file-format": [ROOT / "CITATION.cff"],
}
ASKED = re.compile(r"(?m)^\s*(?:- )?(?:run: )?(?:make|beside) ((?:[a-z-]+ ?)+)")


def validated(schema, *files):
    tool = pytest.importorskip("check_jsonschema", reason="it comes with requirements/dev.txt: `make lint` installs it")
    from click.testing import CliRunner  # it comes along

    return CliRunner().invoke(tool.main, ["--builtin-schema", schema, *map(str, files)])


@pytest.mark.parametrize("schema", SCHEMAS)
def test_files_follow_their_schema(schema):
    assert SCHEMAS[schema]
    done = validated(schema, *SCHEMAS[schema])
    assert done.exit_code == 0, done.output


def test_a_planted_fault_is_seen(tmp_path):
    planted = tmp_path / "ci.yml"
    planted.write_text(WORKFLOWS[0].read_text("utf-8").replace("runs-on:", "runs_on:", 1), "utf-8")
    assert validated("vendor.github-workflows", planted).exit_code == 1


@pytest.mark.skipif(shutil.which("actionlint") is None, reason="actionlint is not here; ci.yml runs it")
def test_actionlint_finds_nothing():
    subprocess.run(["actionlint", *map(str, WORKFLOWS)], check=True)


def targets_of(text):
    """Names of the targets that a script or a workflow makes."""
    return {name for found in ASKED.findall(text) for name in found.split()}


def test_the_workflows_make_what_ci_makes():
    rules = dict(re.findall(r"(?m)^([a-z-]+): ([^#\n]*)##", (ROOT / "Makefile").read_text("utf-8")))
    asked = targets_of((ROOT / ".ci" / "run").read_text("utf-8"))

    def with_needs(targets):
        return targets | {name for target in targets for name in rules[target].split() if name in rules}

    there = " ".join(workflow.read_text("utf-8") for workflow in WORKFLOWS)
    assert {"lint", "test", "test-floor"} <= with_needs(asked)
    named = targets_of(there) | {name for row in re.findall(r"target: \[(.*)\]", there) for name in row.split(", ")}
    assert named <= set(rules)
    assert with_needs(asked) - {"test-all"} - with_needs(named) == set()


def test_jobs_that_need_sandboxes_make_them_possible():
    jobs = yaml.safe_load((GITHUB / "workflows" / "ci.yml").read_text("utf-8"))["jobs"]
    needing = [job for job in jobs.values() if re.search("test-(floor|classroom)", str(job))]
    assert len(needing) == 2  # without bubblewrap, or where Ubuntu forbids user namespaces, they fail
    for job in needing:
        (setup,) = [step["run"] for step in job["steps"] if "apt-get install -y bubblewrap" in step.get("run", "")]
        assert "apparmor_restrict_unprivileged_userns=0" in setup


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_do_little_and_ends(path):
    workflow = yaml.safe_load(path.read_text("utf-8"))
    assert workflow["permissions"] == {"contents": "read"} and "concurrency" in workflow
    for name, job in workflow["jobs"].items():
        assert job["timeout-minutes"] <= 60, name
        writes = {key for key, value in job.get("permissions", {}).items() if value == "write"}
        assert writes <= {"publish": {"pages", "id-token"}, "report": {"issues"}}.get(name, set()), name
        for step in job["steps"]:
            uses = step.get("uses", "./")
            assert uses.startswith("./") or re.fullmatch(r"actions/[a-z-]+@v\d+", uses), uses
            assert "checkout" not in uses or step["with"]["persist-credentials"] is False, name


def test_the_book_is_published_from_tags_alone():
    jobs = yaml.safe_load((GITHUB / "workflows" / "book.yml").read_text("utf-8"))["jobs"]
    (upload,) = [step for step in jobs["build"]["steps"] if "upload-pages" in step.get("uses", "")]
    assert upload["if"] == jobs["publish"]["if"] == "github.ref_type == 'tag'"
    assert upload["with"]["path"] == "build/book/html"


def test_the_address_does_not_stand_here():
    repository = "/".join(address().split("/")[-2:])  # an owner alone may be called python, or actions
    assert [path.name for path in GITHUB.rglob("*.*") if repository in path.read_text("utf-8")] == []


def test_hooks_use_tools_that_make_lint_installs():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))["repos"]
    dev = (ROOT / "requirements" / "dev.txt").read_text("utf-8")
    assert [repo["repo"] for repo in hooks] == ["local"]
    for hook in hooks[0]["hooks"]:
        tool = hook["entry"].split()[0].removeprefix(".venv/bin/")
        assert hook["language"] == "system" and (tool == "python" or f"\n{tool}==" in dev), hook["id"]
