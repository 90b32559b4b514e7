"""The command `hicmae` lists its commands and runs them as `python -m launch.X` does."""

import importlib.util
import subprocess
import sys

import pytest

from launch import __main__ as hicmae
from tests.support.paths import ROOT
from tests.support.processes import HANG


def run(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "launch", *words], capture_output=True, text=True, cwd=ROOT, timeout=HANG
    )


def test_every_command_of_launch_is_listed():
    files = [*(ROOT / "launch").glob("*.py"), *(ROOT / "launch").glob("*/__main__.py")]
    commands = {
        "launch." + (path.parent.name if path.name == "__main__.py" else path.stem)
        for path in files
        if '\nif __name__ == "__main__":\n' in path.read_text(encoding="utf-8")
        and path.parent.name + path.name != "launch__main__.py"
    }
    assert commands == {module for module, _ in hicmae.COMMANDS.values()}
    assert all(importlib.util.find_spec(module) for module in commands)


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",), ("help",)])
def test_without_a_command_it_lists_all(capsys, words):
    hicmae.main(["hicmae", *words])
    printed = capsys.readouterr().out
    assert all(f"\n  {name}" in printed and does in printed for name, (_, does) in hicmae.COMMANDS.items())


def test_an_unknown_command_is_one_line_with_the_nearest(capsys):
    with pytest.raises(SystemExit) as ended:
        hicmae.main(["hicmae", "pretrian", "--run=x"])
    assert ended.value.code == 1
    line = "hicmae: there is no command pretrian; the nearest is pretrain; `hicmae --help` lists all\n"
    assert capsys.readouterr().err == line


def test_the_flags_of_a_command_are_listed():
    printed = run("make_corpus", "--help").stdout
    assert "--clips: " in printed
    assert "--root: " in printed


def test_a_command_has_the_name_and_exit_code_of_its_module(tmp_path):
    words = (f"--root={tmp_path}/no/such", "--clips=1", "stray")
    here = run("make-corpus", *words)
    there = subprocess.run(
        [sys.executable, "-m", "launch.make_corpus", *words],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=HANG,
    )
    assert here.stderr == there.stderr
    assert here.stderr.startswith("make_corpus: do not know what to do with 'stray'")
    assert here.returncode == there.returncode == 1
