"""Labelled clips, read for training and for scoring."""

import pickle

import numpy as np
import pytest

from data_pipeline.format.finetune_sampling import FinetuneSampling
from data_pipeline.reading.fixed_clips import ListedClips
from data_pipeline.reading.labelled import DrawnWindow, LabelledSource, View, read_sets
from data_pipeline.reading.labelled_pipeline import LabelledPipeline
from data_pipeline.reading.requests import ClipRequest
from tests.support.finetune_fixtures import SIDE, write_labelled_set

SAMPLING = FinetuneSampling(frames=4, stride=2)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_labelled_set(tmp_path_factory.mktemp("set"), 24, frames=30)


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    return write_labelled_set(tmp_path_factory.mktemp("broken"), 24, frames=30, scrambled=(3, 4))


def source(root, chosen, cutting=None):
    return LabelledSource(read_sets([root]), [chosen], cutting or DrawnWindow(SAMPLING), SAMPLING)


def read(one, example, draw=0.0):
    frames, audio = one.empty_sample()
    found, samples = one.read(ClipRequest(example, draw), frames, audio)
    return found, frames, audio, samples


def test_a_source_gives_the_chosen_clips_in_their_order(root):
    one = source(root, [7, 2, 13])
    assert len(one) == 3
    assert [clip.name for clip in one.clips] == ["clip007", "clip002", "clip013"]
    found, frames, audio, samples = read(one, 2)
    assert found == 2
    # Clip 13 has class 1, whose pictures have grey levels from 40 to 56.
    assert 40 <= frames.mean() <= 56
    assert frames.shape == (4, SIDE, SIDE, 3)
    # Eight of 29 steps between frames, of 19,200 samples.
    assert samples == 19_200 * 8 // 29
    assert np.abs(audio[:samples].astype(float)).mean() == pytest.approx(240, rel=0.1)
    assert not audio[samples:].any()


def test_both_views_take_the_ends_of_a_clip(root):
    starts = []
    for number in (0, 1):
        one = source(root, [0], View(SAMPLING, number))
        starts.append(one.sampling.cut(0.5, 30, 19_200))
    (first, sound), (last, end) = starts
    assert first == [0, 2, 4, 6]
    assert last == [22, 24, 26, 28]
    assert sound[0] == 0
    assert end[1] == 19_200


def test_a_broken_clip_is_replaced_by_one_of_the_same_part(broken):
    chosen = [3, 4, 5, 11]
    one = source(broken, chosen)
    for example in (0, 1):
        found, frames, *_ = read(one, example)
        assert found in (2, 3)
        assert np.isfinite(frames).all()
    line = one.diagnose(ClipRequest(0, 0.0))[0]
    assert "clip003" in line


def test_a_broken_clip_is_left_out_of_scores_and_named(broken):
    clips = ListedClips(source(broken, [2, 3, 5], View(SAMPLING, 0)), range(3), batch=2)
    read_ids = np.concatenate([batch["example"] for batch in clips])
    assert read_ids.tolist() == [0, 2]
    assert list(clips.broken) == [1]


def test_randaugment_follows_the_draw_and_changes_only_pictures(root):
    plain, changed = source(root, [9]), source(root, [9], DrawnWindow(SAMPLING, augment=True))
    differences = 0
    for draw in np.linspace(0.0, 0.99, 12):
        _, frames, audio, _ = read(plain, 0, draw)
        _, augmented, same_audio, _ = read(changed, 0, draw)
        _, again, _, _ = read(changed, 0, draw)
        np.testing.assert_array_equal(augmented, again)
        np.testing.assert_array_equal(audio, same_audio)
        differences += bool((frames != augmented).any())
    # Four operations, each with probability one half: one sample in 16 stays as it is.
    assert differences >= 8


def batches(one, steps, first=0, **choices):
    pipeline = LabelledPipeline(one, 6, 0, range(6), threads=2, **choices)
    with pipeline.batches(first) as stream:
        return [next(stream) for _ in range(steps)]


def test_each_epoch_has_every_clip_once_and_any_step_can_be_the_first(root):
    one = source(root, range(24))
    whole = batches(one, 8)
    for epoch in (whole[:4], whole[4:]):
        assert sorted(np.concatenate([batch["example"] for batch in epoch])) == list(range(24))
    (later,) = batches(one, 1, first=5)
    np.testing.assert_array_equal(later["frames"], whole[5]["frames"])
    np.testing.assert_array_equal(later["audio"], whole[5]["audio"])


def test_worker_processes_read_the_same_batches(root):
    one = source(root, range(24), DrawnWindow(SAMPLING, augment=True))
    (here,), (there,) = batches(one, 1), batches(pickle.loads(pickle.dumps(one)), 1, workers=1)
    for name in ("frames", "audio", "example"):
        np.testing.assert_array_equal(here[name], there[name])


def test_balanced_batches_draw_each_class_equally_often(root):
    classes = np.array([0] * 20 + [1] * 4)
    drawn = np.concatenate(
        [batch["example"] for batch in batches(source(root, range(24)), 20, classes=classes)]
    )
    counts = np.bincount(classes[drawn])
    assert abs(counts[0] - counts[1]) <= 2
    assert set(drawn) == set(range(24))


def test_mixing_pairs_any_two_classes_of_balanced_batches(root):
    """A clip's partner is at the same place of the reversed batch."""
    classes = np.arange(24) % 3
    drawn = batches(source(root, range(24)), 12, classes=classes)
    pairs = set()
    for batch in drawn:
        kinds = classes[batch["example"]]
        assert np.bincount(kinds).tolist() == [2, 2, 2]
        pairs |= set(zip(kinds.tolist(), kinds[::-1].tolist()))
    assert len(pairs) == 9


def test_fewer_clips_than_a_batch_are_refused(root):
    with pytest.raises(ValueError, match="5 training clips are fewer than a batch of 6"):
        LabelledPipeline(source(root, range(5)), 6, 0, range(6))
