"""A list of commands: each is done once, a failure is named, and what is done stays done."""

import sys
import textwrap

import pytest

from hicmae_jax.studies import stages
from hicmae_jax.studies.stages import Record, Stage, StageError, python_command, run_all


def python(source, *arguments):
    return (sys.executable, "-c", textwrap.dedent(source), *map(str, arguments))


def test_a_stage_is_done_once_and_what_it_printed_is_kept(tmp_path, capfd):
    root = tmp_path / "root"
    stage = Stage("count", python("print('one'); print('two')"))
    run_all([stage], Record(root))
    record = Record(root)
    assert record["count"]["printed"] == ["one", "two"]
    assert capfd.readouterr().out == f"\n[1/1] count\n  {stage.typed()}\none\ntwo\n"
    run_all([stage], record)
    assert capfd.readouterr().out == f"\n[1/1] count (done before)\n  {stage.typed()}\n"
    with pytest.raises(ValueError, match="begun with another command for 'count'"):
        run_all([Stage("count", python("print('three')"))], record)


def test_after_a_failure_the_list_goes_on_with_the_stage_that_failed(tmp_path):
    root, log = tmp_path / "root", tmp_path / "log"
    append = "import sys; open(sys.argv[1], 'a').write(sys.argv[2])"
    fail = python("import os, sys; sys.exit(not os.path.exists(sys.argv[1]))", tmp_path / "mended")
    plan = [
        Stage("first", python(append, log, "1")),
        Stage("second", fail),
        Stage("third", python(append, log, "3")),
    ]
    with pytest.raises(StageError, match="second: the command ended with exit code 1"):
        run_all(plan, Record(root))
    assert log.read_text() == "1"
    (tmp_path / "mended").touch()
    run_all(plan, Record(root))
    assert log.read_text() == "13"


def test_a_directory_without_a_record_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(ValueError, match=r"is not empty and has no stages\.json"):
        Record(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    (tmp_path / "thesis.tex").rename(tmp_path / stages.RECORD)
    with pytest.raises(ValueError, match="is damaged"):
        Record(tmp_path)


@pytest.mark.parametrize(
    ("source", "code", "reason"),
    [
        ("raise SystemExit(3)", 3, "exit code 3"),
        ("import os; os.kill(os.getpid(), 9)", 137, "signal SIGKILL"),
    ],
)
def test_a_failing_command_is_named_and_its_code_kept(source, code, reason):
    with pytest.raises(StageError, match=f"prepare shards: the command ended with {reason}") as caught:
        Stage("prepare shards", python(source)).run()
    assert caught.value.code == code


def test_files_of_an_interrupted_attempt_are_removed(tmp_path):
    write = python("import sys; open(sys.argv[1], 'x').write('whole')", tmp_path / "a")
    (tmp_path / "a").write_text("half")
    Stage("write", write, makes=(tmp_path / "a",)).run()
    assert (tmp_path / "a").read_text() == "whole"


def test_the_command_of_a_module_has_its_options():
    command = python_command("launch.prepare", "--check", input="raw", workers=2)
    assert command == (sys.executable, "-m", "launch.prepare", "--check", "--input=raw", "--workers=2")
