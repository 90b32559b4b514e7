"""Errors equal the loss terms, all contenders share masks, pictures of exact targets equal the originals."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipeline.format.clip_sampling import ClipSampling
from data_pipeline.reading.fixed_clips import FixedClips
from data_pipeline.reading.named_sets import NamedSets
from hicmae_jax.evaluation.batched import BatchedApply
from hicmae_jax.evaluation.held_out import HeldOut, contrast, losses_by_set, recalls
from hicmae_jax.evaluation.reconstruction import (
    ZERO,
    MaskedForward,
    draw_clips,
    rebuild,
    reconstruction_errors,
    score_clips,
)
from hicmae_jax.model.config import MaskConfig
from hicmae_jax.model.hicmae import HiCMAE
from hicmae_jax.objective import losses
from hicmae_jax.objective.config import LossConfig
from hicmae_jax.objective.pretrain import masked_targets, pretrain_loss
from hicmae_jax.preprocessing.pretrain import PreprocessConfig, preprocess_batch
from hicmae_jax.training import sharding
from tests.support import set_fixtures, tiny_model

MODEL = tiny_model.model_config(audio_bins=128)
PREPROCESS = PreprocessConfig(model=MODEL, masks=tiny_model.MASKS)
SAMPLING = ClipSampling(frames=4, stride=4)


@pytest.fixture(scope="module")
def params():
    return tiny_model.parameters(MODEL)


@pytest.fixture(scope="module")
def held_out_set(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "set"
    return set_fixtures.write_set(root, [20, 31, 16, 25, 40, 18], size=32, noisy=True)


@pytest.fixture(scope="module")
def clips(held_out_set):
    return FixedClips([held_out_set], SAMPLING, batch=4)


@pytest.fixture(scope="module")
def score():
    return BatchedApply(score_clips(PREPROCESS, LossConfig()), rows=4)


@pytest.fixture(scope="module")
def scores(params, clips, score):
    return score(params, clips)


# --- Errors -------------------------------------------------------------------------------------------------


def test_held_out_scores_are_the_terms_of_the_loss(params, clips, held_out_set):
    """Six clips in batches of 4 over 8 devices (one batch is padded), against the loss of all six at once."""
    loss = LossConfig(contrastive_weight=0.1, negatives="global")
    held_out = HeldOut(clips, PREPROCESS, loss, negatives=160, mesh=sharding.make_mesh(fsdp=2))
    scores = held_out(params)
    (batch,) = FixedClips([held_out_set], SAMPLING, batch=6)
    inputs = preprocess_batch(batch, jax.random.key(0), 0, PREPROCESS.for_evaluation())
    _, terms = jax.jit(lambda *of: pretrain_loss(HiCMAE(MODEL), *of, loss))(params, inputs)
    for name in ("total", "video", "audio", "contrastive"):
        assert scores[name] == pytest.approx(float(terms[name]), rel=1e-4), name
    for i, level in enumerate(terms["contrastive_levels"]):
        assert scores[f"contrastive_level_{i}"] == pytest.approx(float(level), rel=1e-4)
    assert scores["clips"] == 6
    assert scores["chance@5"] == pytest.approx(5 / 6)
    ways = ("", "/video_to_audio", "/audio_to_video")
    assert {name for name in scores if "recall@1/" in name} == {
        f"recall@1/layer_{layer}{way}" for layer in (1, 3) for way in ways
    }
    assert set(held_out.features) == {1, 3}
    assert held_out.features[3][1].shape == (6, 32)
    assert held_out(params) == scores
    other = held_out(tiny_model.parameters(MODEL, seed=1))
    assert other["total"] != scores["total"]


def test_held_out_losses_of_sets_are_means_over_their_clips():
    """The clips 1 and 6 could not be read, and none was chosen of one set."""
    examples = np.array([0, 2, 5, 7, 8])
    video, audio = np.float32([1, 2, 3, 5, 7]), np.float32([10, 20, 30, 50, 70])
    terms = MaskedForward(video, audio, video, audio, (), ())
    scores = losses_by_set(terms, examples, NamedSets(("a", "none", "x/b"), (0, 3, 4)))
    assert scores == {"video/a": 1.5, "video/x/b": 5, "audio/a": 15, "audio/x/b": 50}


def test_only_whole_groups_are_contrasted():
    video, audio = np.random.default_rng(0).standard_normal((2, 7, 16)).astype(np.float32)
    for negatives, whole, group in ((3, 6, 3), (4, 4, 4), (160, 7, 7)):
        expected = losses.info_nce_reference(video[:whole], audio[:whole], 0.07, group)
        assert contrast(video, audio, 0.07, negatives) == pytest.approx(float(expected), rel=1e-5)


def test_retrieval_is_scored_in_both_directions():
    """Against a count of the partners among the nearest. The features of a pair are alike in part."""
    video, audio = np.random.default_rng(0).standard_normal((2, 30, 8)).astype(np.float32)
    audio += 0.6 * video
    scores = recalls(video, audio, layer=7)
    found = {}
    for way, queries, gallery in (("video_to_audio", video, audio), ("audio_to_video", audio, video)):
        for k in (1, 5, 10):
            times = 0
            for i, query in enumerate(queries):
                cosines = gallery @ query / np.linalg.norm(gallery, axis=1)
                times += i in np.argsort(-cosines)[:k]
            found[f"recall@{k}/layer_7/{way}"] = times / 30
    assert {name: scores[name] for name in found} == pytest.approx(found)
    assert scores["recall@1/layer_7/video_to_audio"] != scores["recall@1/layer_7/audio_to_video"]
    for k in (1, 5, 10):
        ways = [found[f"recall@{k}/layer_7/{way}"] for way in ("video_to_audio", "audio_to_video")]
        assert scores[f"recall@{k}/layer_7"] == pytest.approx(np.mean(ways))
        assert scores[f"chance@{k}"] == pytest.approx(k / 30)
    assert len(scores) == 12


def test_all_contenders_get_the_same_masks(clips, score, scores):
    other = score(tiny_model.parameters(MODEL, seed=1), clips)
    np.testing.assert_array_equal(other.zero_video, scores.zero_video)
    np.testing.assert_array_equal(other.zero_audio, scores.zero_audio)
    errors = reconstruction_errors({"trained": scores, "untrained": other})
    assert list(errors) == ["trained", "untrained", ZERO]
    assert errors["trained"] != errors["untrained"]
    for of in errors.values():
        assert of["total"] == of["video"] + of["audio"]


def test_a_clip_scores_the_same_in_any_batch(params, held_out_set, score, scores):
    alone = score(params, FixedClips([held_out_set], SAMPLING, batch=1))
    for one, other in zip(jax.tree.leaves(alone), jax.tree.leaves(scores), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_the_error_of_predicting_zero_is_about_one():
    """Without frame differences it is the second moment of standardised values, which is nearly 1."""
    goals = masked_targets(HiCMAE(MODEL), tiny_model.inputs(MODEL), frame_difference=False)
    for goal in goals:
        assert float(jnp.square(goal).mean()) == pytest.approx(1, abs=0.01)


def test_no_clip_and_too_many_are_refused(params, score, clips):
    with pytest.raises(ValueError, match="no clip to evaluate"):
        score(params, [])
    with pytest.raises(ValueError, match="a batch of 6 clips is larger than the 4 compiled for"):
        score(params, [{"example": np.arange(6)}])


# --- Pictures -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frame_difference", [True, False])
@pytest.mark.parametrize("tubelet", [2, 4])
def test_exact_targets_rebuild_the_original(frame_difference, tubelet):
    config = dataclasses.replace(MODEL, tubelet=tubelet)
    inputs = tiny_model.inputs(config)
    goals = masked_targets(HiCMAE(config), inputs, frame_difference)
    picture = rebuild(inputs, *goals, config, frame_difference)
    np.testing.assert_allclose(picture.video, inputs.video / 255, atol=1e-4)
    np.testing.assert_allclose(picture.log_mel, inputs.log_mel, atol=1e-4)


def test_flat_patches_are_rebuilt_flat():
    flat = {"video": jnp.full((4, 4, 32, 32, 3), 77, jnp.uint8), "log_mel": jnp.full((4, 32, 128), 0.467)}
    inputs = tiny_model.inputs(MODEL)._replace(**flat)
    picture = rebuild(inputs, *masked_targets(HiCMAE(MODEL), inputs), MODEL)
    np.testing.assert_allclose(picture.video, 77 / 255, atol=1e-4)
    np.testing.assert_allclose(picture.log_mel, 0.467, atol=1e-4)


def test_pictures_show_what_is_visible_masked_and_predicted(params, clips):
    pictures = BatchedApply(draw_clips(PREPROCESS, LossConfig()), rows=4)(params, clips)
    original, masked, model, zero = (pictures[name] for name in ("original", "masked", "model", ZERO))
    for field, share in (("video", 0.5), ("log_mel", 0.5)):
        whole = getattr(original, field)
        hidden = np.isnan(getattr(masked, field))
        assert len(whole) == 6
        assert hidden.mean() == pytest.approx(share)
        for picture in (masked, model, zero):
            np.testing.assert_array_equal(getattr(picture, field)[~hidden], whole[~hidden])
        for picture in (model, zero):
            assert np.isfinite(getattr(picture, field)).all()
        assert not np.allclose(getattr(model, field)[hidden], getattr(zero, field)[hidden])
    # The zero prediction is each patch's mean: constant over a patch, and the spectrogram's own on average.
    patch = zero.log_mel.reshape(6, 2, 16, 8, 16)
    own = original.log_mel.reshape(6, 2, 16, 8, 16)
    hidden = np.isnan(masked.log_mel).reshape(6, 2, 16, 8, 16)[:, :, 0, :, 0]
    np.testing.assert_allclose(patch.std((2, 4))[hidden], 0, atol=1e-5)
    np.testing.assert_allclose(patch.mean((2, 4)), own.mean((2, 4)), atol=1e-5)


def test_what_is_masked_but_not_decoded_is_not_shown():
    masks = MaskConfig(video_ratio=0.5, audio_ratio=0.5, video_decode_fraction=0.5, audio_decode_fraction=0.5)
    inputs = tiny_model.inputs(MODEL, masks)
    picture = rebuild(inputs, *masked_targets(HiCMAE(MODEL), inputs), MODEL)
    assert np.isnan(picture.video).mean() == pytest.approx(0.25)
    assert np.isnan(picture.log_mel).mean() == pytest.approx(0.25)
