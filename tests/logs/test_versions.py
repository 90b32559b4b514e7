"""A run records the versions and devices that it used."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import orbax.checkpoint
import pytest

from hicmae_jax.logs import versions

SOURCE = Path(versions.__file__)


def git(directory, *arguments):
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.com"]
    command = ["git", "-C", str(directory), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def versions_from(source):
    """The versions that a copy of the module in another place reports."""
    command = [sys.executable, "-c", "import json, versions; print(json.dumps(versions.versions()))"]
    # Start in that directory, so that Python finds the copy first.
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=source.parent)
    return json.loads(done.stdout)


@pytest.fixture
def repository(tmp_path):
    """A repository with a copy of the module that it does not track yet."""
    git(tmp_path, "init")
    (tmp_path / "notes.txt").write_text("a project\n")
    git(tmp_path, "add", "notes.txt")
    git(tmp_path, "commit", "-m", "Begin")
    return Path(shutil.copy(SOURCE, tmp_path / "versions.py"))


def test_versions_and_devices_are_named():
    found = versions.versions()
    assert found["jax"] == jax.__version__
    assert found["orbax-checkpoint"] == orbax.checkpoint.__version__
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert (found["platform"], found["devices"], found["processes"]) == ("cpu", 8, 1)
    assert json.loads(json.dumps(found)) == found


def test_another_line_of_code_changes_the_source_hash(tmp_path):
    for name in versions.CODE:
        shutil.copytree(SOURCE.parents[2] / name, tmp_path / name)
    assert versions._source(tmp_path) == versions._source() == versions.versions()["source"]
    with (tmp_path / "data_pipeline/format/records.py").open("a") as file:
        file.write("# changed\n")
    assert versions._source(tmp_path) != versions._source()


def test_the_commit_and_uncommitted_changes_are_recorded(repository):
    git(repository.parent, "add", "versions.py")
    git(repository.parent, "commit", "-m", "Add")
    commit = git(repository.parent, "rev-parse", "HEAD")
    found = versions_from(repository)
    assert (found["commit"], found["dirty"]) == (commit, False)
    (repository.parent / "notes.txt").write_text("changed\n")
    found = versions_from(repository)
    assert (found["commit"], found["dirty"]) == (commit, True)


def test_a_copy_inside_another_projects_repository_has_no_commit(repository):
    found = versions_from(repository)
    assert (found["commit"], found["dirty"]) == (None, None)


def test_a_source_file_that_is_not_text_is_part_of_the_hash(tmp_path):
    (tmp_path / "launch").mkdir()
    before = versions._source(tmp_path)
    (tmp_path / "launch" / "._prepare.py").write_bytes(b"\x00\x05\x16\x07\xff")
    assert versions._source(tmp_path) != before
