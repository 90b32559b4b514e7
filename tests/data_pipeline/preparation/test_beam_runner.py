import pytest

from data_pipeline.preparation.beam_runner import run_beam
from data_pipeline.preparation.shard_writer import ShardSpec
from tests.support import corpus_fixtures

pytestmark = pytest.mark.filterwarnings(corpus_fixtures.PROTOBUF_IN_TFDS)


def test_options_reach_beam(tmp_path):
    with pytest.raises(ValueError, match="NoSuchRunner"):
        run_beam([ShardSpec(("in",), "out", 0)], ["--runner=NoSuchRunner"])


def test_an_error_in_a_worker_is_raised(tmp_path):
    with pytest.raises(RuntimeError, match=r"FileNotFoundError.*plan\.json"):
        run_beam([ShardSpec((str(tmp_path / "in"),), str(tmp_path / "out"), 0)], [])


def test_nothing_to_do_needs_no_pipeline():
    run_beam([], ["--runner=NoSuchRunner"])
