"""The command `hicmae template` lists the templates, fills their blanks, and refuses mistakes in one line."""

import subprocess
import sys

import pytest

from hicmae_jax.studies import template_text
from launch import template
from tests.support.filled_templates import VALUES, filled
from tests.support.paths import ROOT
from tests.support.processes import HANG

NAMES = template.names()


def run(*words, cwd=ROOT):
    command = [sys.executable, "-m", "launch.template", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=HANG)


def test_without_a_name_each_template_is_listed_with_a_purpose():
    files = sorted(path.name for path in (ROOT / "launch" / "templates").iterdir())
    lines = run().stdout.splitlines()
    assert [line.split()[0] for line in lines] == files
    assert all(len(line.split()) > 4 for line in lines)


def test_it_prints_a_template_with_its_blanks_and_says_which():
    done = run("gke_gpu.yaml", "--fill=hosts of a run=3", "--fill=<image>=registry.example/a:1")
    text = template.read("gke_gpu.yaml")
    assert done.stdout == text.replace("<hosts of a run>", "3").replace("<image>", "registry.example/a:1")
    left = [name for name in template_text.blanks(text) if name not in ("hosts of a run", "image")]
    assert done.stderr == "template: still to fill in: " + ", ".join(f"<{name}>" for name in left) + "\n"
    assert done.returncode == 0


def test_it_writes_a_new_file_and_never_over_another(tmp_path):
    output = tmp_path / "run.sh"
    assert run("restart.sh", f"--output={output}").stderr == ""
    assert output.read_text(encoding="utf-8") == template.read("restart.sh")
    again = run("slurm.sh", f"--output={output}")
    assert again.stderr == f"template: {output} is there already: remove it, or give another --output\n"
    assert output.read_text(encoding="utf-8") == template.read("restart.sh")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ("slurm",),
            "there is no template slurm; the nearest is slurm.sh; without a name the command lists all",
        ),
        (("slurm.sh", "--fill=host of a run=4"), "no blank <host of a run>; the nearest is <hosts of a run>"),
        (("restart.sh", "--fill=image=a"), "the template has no blank <image>; it has none"),
        (("slurm.sh", "--fill=hosts of a run"), "--fill=hosts of a run is not NAME=TEXT"),
        (("slurm.sh", "--fill=prepared sets=$HOME/a"), "'$HOME/a' has '$': fill this blank by hand"),
        (("slurm.sh", '--fill=prepared sets=a"; b'), "fill this blank by hand"),
        (("slurm.sh", "stray"), "do not know what to do with 'stray'"),
        (("--output=a",), "which template?"),
    ],
)
def test_mistakes_are_one_line(words, line, tmp_path):
    done = run(*words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("template: ")
    assert line in done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_every_blank_can_be_filled(name):
    assert template_text.blanks(filled(name)) == ()


def test_the_values_of_these_tests_are_of_blanks():
    known = {blank for name in NAMES for blank in template_text.blanks(template.read(name))}
    assert set(VALUES) - known == {"claim", "directory of the study and the data"}  # of a study's JobSets
