import multiprocessing
import os
import signal
import threading
import time

import pytest

from data_pipeline.preparation.local_runner import run_local
from tests.support import corpus_fixtures

pytestmark = pytest.mark.filterwarnings(corpus_fixtures.PROTOBUF_IN_TFDS)


def in_processes(workers):
    return lambda specs, plan: run_local(specs, plan.n_clips, 0, workers)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("corpus")
    corpus_fixtures.write_corpus(root)
    return root


def test_processes_make_the_same_bytes_and_show_progress(corpus, tmp_path, capsys):
    corpus_fixtures.prepare(corpus, tmp_path / "one")
    corpus_fixtures.prepare(corpus, tmp_path / "two", run=in_processes(2))
    assert corpus_fixtures.tree(tmp_path / "two") == corpus_fixtures.tree(tmp_path / "one")
    assert "9/9" in capsys.readouterr().err


def test_an_error_ends_the_run_and_the_next_one_goes_on(tmp_path):
    names = corpus_fixtures.write_corpus(tmp_path / "in")
    audio = corpus_fixtures.files_of(tmp_path / "in", names[4])[1]
    sound = audio.read_bytes()

    def with_a_disk_error(specs, plan):  # once planning, which reads some clips, is over
        audio.unlink()
        audio.symlink_to("/proc/self/mem")  # it opens, and then every read fails
        in_processes(2)(specs, plan)

    with pytest.raises(OSError, match=rf"Input/output error.*{audio.name}"):
        corpus_fixtures.prepare(tmp_path / "in", tmp_path / "out", run=with_a_disk_error)
    audio.unlink()
    audio.write_bytes(sound)
    assert corpus_fixtures.prepare(tmp_path / "in", tmp_path / "out", run=in_processes(2)).n_clips == 9


def test_the_death_of_a_process_is_one_clear_error(corpus, tmp_path):
    def kill_a_child():
        while not multiprocessing.active_children():
            time.sleep(0.01)
        os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)

    thread = threading.Thread(target=kill_a_child)
    thread.start()
    with pytest.raises(RuntimeError, match=r"a worker process died.*finished shards are kept"):
        corpus_fixtures.prepare(corpus, tmp_path, run=in_processes(1))
    thread.join()
    assert corpus_fixtures.prepare(corpus, tmp_path, run=in_processes(1)).n_clips == 9
