"""The labelled corpus: its files, its table, and what its numbers do to a clip."""

import csv
import shutil
from dataclasses import replace

import av
import numpy as np
import pytest

from data_pipeline.synthetic import EMOTIONS, CorpusError, Difficulty, write_made_up, write_voxceleb2
from data_pipeline.synthetic.camera import film
from data_pipeline.synthetic.clip import ClipSpec, expressions_of, facts_of, make_clip
from data_pipeline.synthetic.corpus import plan_voxceleb2
from data_pipeline.synthetic.difficulty import EASY, Facts, draw_facts
from data_pipeline.synthetic.made_up import plan_made_up
from data_pipeline.synthetic.microphone import record
from data_pipeline.synthetic.person import MOODS, Emotion
from data_pipeline.synthetic.portrait import Portrait
from data_pipeline.synthetic.style import LARGEST_FACTOR, LOWEST, express, make_style

CLEAR = Facts("HAP", 1.0, "HAP", 1.0, "HAP", 1.0, "", 1, 0.0, 0.0, 90.0, 0.0)


def generator(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("made_up")
    return root, write_made_up(root, clips=6, speakers=2, seed=3, seconds=(0.6, 1.0), workers=1)


def table(root):
    with (root / "labels.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_clip_of_the_table_has_its_files(corpus):
    root, planned = corpus
    rows = table(root)
    assert [*rows[0]][:3] == ["clip", "speaker", "emotion"]
    assert len({row["clip"] for row in rows}) == len(rows) == 6
    for row, clip in zip(rows, planned, strict=True):
        assert (row["emotion"], row["speaker"]) == (clip.spec.emotion, f"s{clip.spec.speaker:04d}")
        with av.open(str(root / "video" / f"{row['clip']}.mp4")) as video:
            stream = video.streams.video[0]
            assert (stream.width, stream.height, stream.average_rate) == (160, 160, 25)
            assert sum(1 for _ in video.decode(stream)) == round(25 * clip.spec.seconds)
            assert not video.streams.audio
        with av.open(str(root / "sound" / f"{row['clip']}.wav")) as sound:
            assert sound.streams.audio[0].rate == 16_000
            assert sum(frame.samples for frame in sound.decode(audio=0)) == 16_000 * clip.spec.seconds


def test_a_clip_that_ends_before_the_first_voiced_phone_has_finite_sound():
    specs = [clip.spec for clip in plan_made_up(12, 2, seed=3, seconds=(0.5, 0.6))]
    for _, samples in map(make_clip, specs):
        assert np.isfinite(samples).all()


def test_files_depend_on_neither_workers_nor_interruption(corpus, tmp_path):
    root, planned = corpus
    shutil.copytree(root, tmp_path / "cut")
    for missing in (planned[1].video, planned[4].sound, "labels.csv"):
        (tmp_path / "cut" / missing).unlink()
    write_made_up(tmp_path / "cut", clips=6, speakers=2, seed=3, seconds=(0.6, 1.0), workers=2)
    contents = [
        {path.relative_to(at): path.read_bytes() for path in at.rglob("*") if path.is_file()}
        for at in (root, tmp_path / "cut")
    ]
    assert contents[0] == contents[1]
    with pytest.raises(CorpusError, match="another synthetic corpus"):
        write_made_up(root, clips=6, speakers=2, seed=3, seconds=(0.6, 1.0), difficulty=EASY)


def test_emotions_are_balanced_for_each_speaker_and_in_no_fixed_order():
    planned = plan_made_up(clips=72, speakers=6, seed=0)
    for speaker in range(6):
        emotions = [clip.spec.emotion for clip in planned if clip.spec.speaker == speaker]
        assert sorted(emotions[:6]) == sorted(emotions[6:]) == sorted(EMOTIONS)
    first = {clip.spec.emotion for clip in planned[:6]}
    assert len(first) > 1
    assert all(2.6 <= clip.spec.seconds <= 3.2 for clip in planned)


def test_impossible_numbers_are_refused(tmp_path):
    with pytest.raises(CorpusError, match="at least 2 speakers"):
        write_made_up(tmp_path / "a", clips=5, speakers=1)
    with pytest.raises(CorpusError, match="shortest"):
        plan_made_up(4, 2, 0, seconds=(3.2, 2.6))
    assert not (tmp_path / "a").exists()


def test_the_label_is_the_emotion_of_the_stronger_expression():
    difficulty = replace(Difficulty(), contradiction=0.5)
    drawn = [draw_facts(EMOTIONS[seed % 6], difficulty, generator(seed)) for seed in range(600)]
    for facts in drawn:
        strengths = {"face": facts.face_intensity, "voice": facts.voice_intensity}
        stronger = max(strengths, key=strengths.__getitem__)
        assert getattr(facts, stronger) == facts.emotion
        assert strengths[stronger] == facts.intensity <= difficulty.strongest
        if facts.emotion == "NEU":
            assert (facts.face, facts.voice, facts.intensity) == ("NEU", "NEU", 0)
        else:
            assert facts.intensity >= difficulty.weakest
    expressive = [facts for facts in drawn if facts.emotion != "NEU"]
    for channel in ("face", "voice"):
        share = np.mean([facts.contradiction == channel for facts in expressive])
        assert 0.18 < share < 0.32  # a quarter is expected; 500 draws have a standard deviation of 0.02


def test_without_difficulty_nothing_is_drawn():
    facts = draw_facts("SAD", EASY, generator())
    assert facts == replace(
        facts, intensity=1.0, face="SAD", voice="SAD", covered="", coarseness=1, exposure=0, camera_noise=0
    )
    assert (facts.face_intensity, facts.voice_intensity, facts.level) == (1, 1, 0)
    easy = ClipSpec(0, "test", 0, 0, 0, "SAD", difficulty=EASY)
    assert expressions_of(easy) == (MOODS["SAD"], MOODS["SAD"])
    with pytest.raises(ValueError, match="give `difficulty`"):
        facts_of(replace(easy, difficulty=None))


def test_a_contradicting_clip_has_the_face_of_one_and_the_voice_of_the_other():
    difficulty = replace(EASY, contradiction=1.0, contrast=0.6)
    spec = ClipSpec(0, "test", 0, 0, 0, "ANG", difficulty=difficulty)
    facts = facts_of(spec)
    face, voice = expressions_of(spec)
    assert facts.face != facts.voice
    assert face == MOODS[facts.face].scaled(facts.face_intensity)
    assert voice == MOODS[facts.voice].scaled(facts.voice_intensity)


def test_a_speaker_differs_from_others_at_rest_and_stays_possible():
    styles = [make_style(0.9, 1.0, generator(seed)) for seed in range(100)]
    neutral = [express(Emotion(), style, style.factors) for style in styles]
    assert neutral[0] == styles[0].rest != styles[1].rest
    assert np.std([state.smile for state in neutral]) > 1
    assert min(state.frown for state in neutral) >= 0
    for style in styles:
        sad = express(MOODS["SAD"].scaled(1.2), style, style.factors)
        assert all(getattr(sad, name) >= lowest for name, lowest in LOWEST.items())
        assert abs(sad.smile - style.rest.smile) <= 1.2 * LARGEST_FACTOR * abs(MOODS["SAD"].smile) + 1e-9


def picture(**changes):
    """A grey clip through the camera."""
    frames = np.full((3, 224, 224, 3), 120, np.uint8)
    frames[:, ::2] = 124  # rows that a coarse picture cannot show
    portrait = Portrait(np.zeros((448, 448, 3), np.float32), np.ones(3), 75.0, 62.0, 119.0)
    return frames, film(frames, replace(CLEAR, **changes), portrait, generator())


def test_the_camera_disturbs_what_the_facts_say():
    before, after = picture()
    assert np.array_equal(before, after)
    _, noisy = picture(camera_noise=8.0)
    assert 7 < (noisy - before.astype(float)).std() < 9
    assert not np.array_equal(noisy[0], noisy[1])
    _, dark = picture(exposure=-1.0)
    assert set(np.unique(dark)) == {60, 62}
    _, coarse = picture(coarseness=2)
    assert set(np.unique(coarse)) == {122}


@pytest.mark.parametrize(("part", "row", "free"), [("eyes", 70, 119), ("mouth", 119, 70)])
def test_a_cover_hides_its_part_in_every_frame(part, row, free):
    before, after = picture(covered=part)
    assert len(np.unique(after[:, row, 100:124].reshape(-1, 3), axis=0)) == 1
    assert not np.array_equal(after[:, row], before[:, row])
    assert np.array_equal(after[:, free], before[:, free])


def test_the_microphone_adds_noise_and_level_as_the_facts_say():
    voice = (0.05 * np.sin(np.arange(16_000) * 0.2)).astype(np.float32)
    power = lambda samples: float(np.mean(np.square(samples, dtype=np.float64)))  # noqa: E731
    clean = record(voice, CLEAR, generator())
    np.testing.assert_allclose(clean, voice, atol=1e-3)
    noisy = record(voice, replace(CLEAR, signal_to_noise=10.0), generator())
    assert 8 < 10 * np.log10(power(voice) / power(noisy - voice)) < 12
    quiet = record(voice, replace(CLEAR, level=-6.0), generator())
    assert -7 < 10 * np.log10(power(quiet) / power(voice)) < -5
    loud = record(voice, replace(CLEAR, level=60.0), generator())
    assert np.abs(loud).max() < 1


def test_a_difficult_unlabelled_corpus_has_other_speakers_of_the_same_kind(tmp_path):
    plain, difficult = (
        plan_voxceleb2(6, 2, 0, (0.6, 0.8), 3.5, difficulty=difficulty) for difficulty in (None, Difficulty())
    )
    assert [clip.video for clip in plain] == [clip.video for clip in difficult]
    assert not np.array_equal(make_clip(plain[0].spec)[0], make_clip(difficult[0].spec)[0])
    wish = {"clips": 2, "speakers": 2, "seconds": (0.6, 0.8), "workers": 1}
    write_voxceleb2(tmp_path, **wish, difficulty=Difficulty())
    with pytest.raises(CorpusError, match="another synthetic corpus"):
        write_voxceleb2(tmp_path, **wish)
