"""Commands of a user without name and home, on files whose owners have no names: in containers, on NFS."""

import os

import pytest

from tests.support import corpus_fixtures, shrunk_recipe, strange_users

ROOT_ONLY = pytest.mark.skipif(
    not strange_users.can_change_user(), reason="only root with setpriv can become an unknown user"
)
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")


@pytest.fixture(params=[pytest.param(True, marks=ROOT_ONLY, id="real"), pytest.param(False, id="patched")])
def user(request, tmp_path):
    (tmp_path / "user").mkdir()
    return strange_users.StrangeUser(tmp_path / "user", request.param)


@pytest.mark.parametrize("look_up", ["getpass.getuser()", "pathlib.Path.home()", "pwd.getpwuid(os.getuid())"])
def test_the_user_has_no_name_and_no_home(user, look_up):
    done = user.python("-c", f"import getpass, os, pathlib, pwd; {look_up}")
    assert done.returncode == 1
    assert "KeyError" in done.stderr or "RuntimeError" in done.stderr or "OSError" in done.stderr


def test_clips_are_prepared_and_verified(user, tmp_path):
    corpus_fixtures.write_corpus(tmp_path / "in", 3)
    if os.geteuid() == 0:
        strange_users.give_away(tmp_path / "in")
    words = (f"--input={tmp_path}/in", "--output=out", "--crop=0,8,32,32", "--workers=1")
    printed = user.run("launch.prepare", *words)
    assert "kept      3 clips" in printed
    assert "rejected  0" in printed
    assert "kept      3 clips" in user.run("launch.prepare", *words)  # looks at what is there
    assert "3 clips read" in (printed := user.run("launch.inspect_data", "--data=out", "--verify"))
    assert "all intact" in printed


# Minutes of compilation, so only as one of the two users.
@pytest.mark.slow
@pytest.mark.parametrize("user", [strange_users.can_change_user()], indirect=True)
def test_a_run_is_trained_continued_scored_and_exported(user, tmp_path):
    data = shrunk_recipe.write_clips(tmp_path / "data")
    if os.geteuid() == 0:
        strange_users.give_away(data)
    train = shrunk_recipe.arguments(data, "run", steps=4, log__tensorboard=True)
    user.run("launch.pretrain", *train)
    assert (user.home / "run" / "checkpoints" / "4").is_dir()
    assert "finished" in user.run("launch.pretrain", *train)
    further = shrunk_recipe.arguments(data, "run", steps=6, log__tensorboard=True)
    user.run("launch.pretrain", *further, "--allow_changes")
    assert (user.home / "run" / "checkpoints" / "6").is_dir()
    user.run("launch.evaluate", "--run=run", f"--data={data}", "--output=scores", "--clips=4", "--batch=4")
    assert (user.home / "scores" / "curves.png").exists()
    user.run("launch.export", "--run=run", "--output=out.safetensors")
    assert (user.home / "out.safetensors").exists()


@AS_ROOT
def test_another_users_set_is_intact_and_complete(tmp_path):
    corpus_fixtures.write_corpus(tmp_path / "in", 3)
    described = corpus_fixtures.prepare(tmp_path / "in", tmp_path / "out")
    strange_users.give_away(tmp_path)
    made = []

    def note(specs, plan):
        made.extend(specs)

    again = corpus_fixtures.prepare(tmp_path / "in", tmp_path / "out", run=note)
    assert again == described
    assert made == []
