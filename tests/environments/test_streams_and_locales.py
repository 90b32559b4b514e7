"""Commands do their work when nobody reads, streams are closed, or the terminal knows few characters."""

import os
import subprocess
import sys

import pytest

from tests.support import corpus_fixtures, shrunk_recipe
from tests.support.paths import ROOT
from tests.support.processes import HANG
from tests.support.xla_flags import xla_flags

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
LATIN_1 = {"PYTHONIOENCODING": "latin-1"}
# They start JAX, for each of several shells.
SLOW_SETTINGS = pytest.param(("launch.settings",), marks=pytest.mark.slow)
SLOW_MISTAKE = pytest.param(("launch.settings", "--config=nonesuch"), marks=pytest.mark.slow)
CLOSED = ("exec >&- 2>&- <&-", "exec >&-", "exec 2>&-")


def start(shell, module, *words, **options):
    """Run a command in a shell that first runs another line, and return its ending."""
    command = ["sh", "-c", f'{shell}; exec "$@"', "sh", sys.executable, "-m", module, *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **options.pop("environment", {})}
    return subprocess.run(command, env=environment, timeout=HANG, **options)


def without_reader(module, *words):
    """Run a command whose reader of stdout and stderr has ended, and return its exit code."""
    reads, writes = os.pipe()
    os.close(reads)
    code = start("true", module, *words, stdout=writes, stderr=writes).returncode
    os.close(writes)
    return code


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("corpus")
    corpus_fixtures.write_corpus(root, 3)
    return root


@pytest.fixture(scope="module")
def prepared(corpus, tmp_path_factory):
    root = tmp_path_factory.mktemp("prepared") / "set"
    corpus_fixtures.prepare(corpus, root)
    return root


def prepare_words(corpus, output):
    return (f"--input={corpus}", f"--output={output}", "--crop=0,8,32,32", "--workers=1")


def test_a_preparation_without_a_reader_is_done(corpus, prepared, tmp_path):
    assert without_reader("launch.prepare", *prepare_words(corpus, tmp_path / "set")) == 0
    assert corpus_fixtures.tree(tmp_path / "set") == corpus_fixtures.tree(prepared)


def test_a_preparation_with_closed_streams_is_done(corpus, prepared, tmp_path):
    done = start(CLOSED[0], "launch.prepare", *prepare_words(corpus, tmp_path / "set"), capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert corpus_fixtures.tree(tmp_path / "set") == corpus_fixtures.tree(prepared)


@pytest.mark.parametrize(("environment", "sign"), [(ASCII, rb"32 \xd7 32"), (LATIN_1, b"32 \xd7 32")])
def test_a_set_is_described_on_any_terminal(prepared, environment, sign):
    words = ("launch.inspect_data", f"--data={prepared}", "--verify")
    done = start("true", *words, environment=environment, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert sign in done.stdout
    assert b"all intact" in done.stdout


def test_a_made_up_corpus_without_streams_is_complete(tmp_path):
    words = (f"--root={tmp_path}/raw", "--clips=2", "--speakers=2", "--test_speakers=0", "--seconds=1,1")
    done = start(CLOSED[0], "launch.make_corpus", *words, "--workers=1", capture_output=True)
    assert done.returncode == 0
    assert len(list((tmp_path / "raw").rglob("*.mp4"))) == 2


@pytest.mark.parametrize("words", [("launch", "--help"), ("launch", "--version"), SLOW_SETTINGS])
def test_text_that_nobody_reads_is_no_error(words):
    assert without_reader(*words) == 0
    for shell in CLOSED:
        done = start(shell, *words, capture_output=True)
        assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("words", [("launch", "pretrian"), SLOW_MISTAKE])
def test_a_mistake_has_its_exit_code_without_a_reader(words):
    assert without_reader(*words) == 1
    for shell in CLOSED:
        done = start(shell, *words, capture_output=True)
        assert done.returncode == 1
        assert b"Traceback" not in done.stderr


@pytest.mark.slow
def test_a_run_with_closed_streams_in_an_ascii_locale_is_trained_scored_and_exported(tmp_path):
    data = shrunk_recipe.write_clips(tmp_path / "data")
    run = tmp_path / "run"
    for module, *words in (
        ("launch.pretrain", *shrunk_recipe.arguments(data, run, steps=4)),
        ("launch.evaluate", f"--run={run}", f"--data={data}", f"--output={run}/scores", "--clips=4"),
        ("launch.export", f"--run={run}", f"--output={tmp_path}/out.safetensors"),
    ):
        environment = ASCII | {"XLA_FLAGS": xla_flags(1)}
        assert start(CLOSED[0], module, *words, environment=environment).returncode == 0
    assert (run / "checkpoints" / "4").is_dir()
    assert (run / "scores" / "scores.json").exists()
    assert (tmp_path / "out.safetensors").exists()
