"""The wrapper of commands: flags, errors in one line, exit codes."""

import os
import re
import signal

import pytest

from data_pipeline.common.errors import CommandError
from launch import command
from tests.support.processes import start_module

COMMAND = """
\"\"\"What the command does.\"\"\"

from absl import flags
from launch import command

def define_flags():
    flags.DEFINE_integer("clips", None, "How many clips.", lower_bound=1, required=True)

def main(argv):
    return flags.FLAGS.clips

if __name__ == "__main__":
    command.run("own", define_flags, main)
"""


def raising(error):
    def main(argv):
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ValueError("two\n  lines"), 1, "own: two lines"),
        (FileNotFoundError("nowhere is missing"), 1, "own: nowhere is missing"),
        (ImportError("pip install it"), 1, "own: pip install it"),
        (RuntimeError(), 1, "own: RuntimeError"),
        (CommandError("too many are rejected", 2), 2, "own: too many are rejected"),
        (KeyboardInterrupt(), 130, "own: interrupted"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(capsys, error, code, line):
    assert command.call("own", raising(error), ["own"]) == code
    assert capsys.readouterr().err == f"{line}\n"


def test_a_bug_keeps_its_traceback():
    with pytest.raises(KeyError):
        command.call("own", raising(KeyError("name")), ["own"])


def test_sigterm_ends_a_command_with_143_and_the_previous_handler_is_restored(capsys):
    before = signal.getsignal(signal.SIGTERM)

    def main(argv):
        os.kill(os.getpid(), signal.SIGTERM)
        signal.sigtimedwait([], 60)  # the handler runs here at the latest

    assert command.call("own", main, ["own"], resumable=True) == 143
    assert capsys.readouterr().err == "own: interrupted; run the same command again to go on\n"
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (["--clips=7"], 7, ""),
        ([], 1, "own: --clips is missing: How many clips.\n"),
        (["--clips=7", "more"], 1, "own: do not know what to do with 'more': options begin with --\n"),
        (["--clips=many"], 1, "own: --clips=many: invalid literal for int() with base 10: 'many'\n"),
        (["--clip=7"], 1, "own: Unknown command line flag 'clip'. Did you mean: clips ?\n"),
    ],
)
def test_a_command_line_may_contain_only_flags(tmp_path, monkeypatch, words, code, line):
    (tmp_path / "own_command.py").write_text(COMMAND)
    monkeypatch.chdir(tmp_path)
    process = start_module("own_command", *words)
    assert process.communicate(timeout=300) == ("", line)
    assert process.returncode == code


@pytest.mark.parametrize("word", ["--run=runs/b", "--run=größe 😀", "--run=a\nb"])
def test_text_is_accepted_in_utf_8(word):
    command.check_words(["own", word], "utf-8")


@pytest.mark.parametrize(
    ("word", "encoding", "line"),
    [
        ("--run=größe", "iso8859-1", "--run=größe: names of files are iso8859-1 in this locale"),
        (os.fsdecode("--run=ö".encode()), "ascii", "names of files are ascii in this locale"),
        (os.fsdecode(b"--run=\xf6"), "utf-8", "this is not UTF-8: rename the file, or give a link to it"),
    ],
)
def test_names_that_libraries_would_misread_are_refused(word, encoding, line):
    command.check_words(["own", "--run=b"], encoding)
    with pytest.raises(ValueError, match=line):
        command.check_words(["own", "--run=b", word], encoding)


def test_such_a_name_is_one_line_in_an_ascii_locale(tmp_path, monkeypatch):
    (tmp_path / "own_command.py").write_text(COMMAND)
    monkeypatch.chdir(tmp_path)
    ascii_locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    process = start_module("own_command", "--clips=größe", env={**os.environ, **ascii_locale})
    out, err = process.communicate(timeout=300)
    assert (out, len(err.splitlines())) == ("", 1)
    assert re.match(r"own: --clips=gr\S+e: names of files are ", err)
    assert process.returncode == 1


def test_help_lists_the_flags_of_the_command(tmp_path, monkeypatch):
    (tmp_path / "own_command.py").write_text(COMMAND)
    monkeypatch.chdir(tmp_path)
    out, _ = start_module("own_command", "--help").communicate(timeout=300)
    assert "What the command does." in out
    assert "--clips: How many clips." in out


def test_help_lists_flags_that_other_modules_declare():
    out, _ = start_module("launch.pretrain", "--help").communicate(timeout=300)
    assert all(f"--{name}: " in out for name in ("run", "[no]allow_changes", "platform", "coordinator"))
