"""The synthetic corpus: files, layouts, and clips in which sound, mouth, face and mood agree."""

import shutil

import av
import numpy as np
import pytest

from data_pipeline.synthetic import (
    EMOTIONS,
    ClipSpec,
    CorpusError,
    make_clip,
    person_of,
    write_crema_d,
    write_voxceleb2,
)
from data_pipeline.synthetic.clip import scene_of
from data_pipeline.synthetic.corpus import plan_crema_d, plan_voxceleb2


def decode(path, stream_type):
    """Frames uint8 [T, H, W, 3] and their rate, or float samples [n] and their rate."""
    with av.open(str(path)) as container:
        if stream_type == "video":
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
            return np.stack(frames), container.streams.video[0].average_rate
        parts = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
        scale = 32_768 if parts[0].dtype == np.int16 else 1
        return np.concatenate(parts) / scale, container.streams.audio[0].codec_context.sample_rate


@pytest.fixture(scope="module")
def voxceleb2(tmp_path_factory):
    root = tmp_path_factory.mktemp("voxceleb2")
    return root, write_voxceleb2(root, clips=8, speakers=3, seconds=(2.0, 3.5), workers=1)


@pytest.fixture(scope="module")
def crema_d(tmp_path_factory):
    root = tmp_path_factory.mktemp("crema_d")
    return root, write_crema_d(root, clips=36, actors=6, workers=2)


def test_voxceleb2_layout(voxceleb2):
    root, planned = voxceleb2
    files = {str(path.relative_to(root)) for path in root.rglob("*.*") if path.is_file()}
    assert files == {name for clip in planned for name in (clip.video, clip.sound)} | {
        "synthetic_corpus.json"
    }
    for clip in planned:
        split, kind, speaker, video, take = clip.video.split("/")
        assert split in ("dev", "test")
        assert kind == "mp4"
        assert (speaker[:2], len(speaker), len(video), len(take)) == ("id", 7, 11, len("00001.mp4"))
        assert clip.sound == f"{split}/aac/{speaker}/{video}/{take[:5]}.m4a"
    speakers = {
        split: {c.spec.speaker for c in planned if c.video.startswith(split)} for split in ("dev", "test")
    }
    assert (len(speakers["dev"]), len(speakers["test"])) == (2, 1)
    assert not speakers["dev"] & speakers["test"]


def test_the_last_speakers_are_the_test_split():
    def test_speakers(**more):
        planned = plan_voxceleb2(48, 24, 0, (2.0, 3.5), 0, **more)
        splits = {clip.spec.speaker: clip.video.split("/")[0] for clip in planned}
        return [speaker for speaker, split in sorted(splits.items()) if split == "test"]

    assert test_speakers() == [22, 23]
    assert test_speakers(test_speakers=5) == [19, 20, 21, 22, 23]
    assert test_speakers(test_speakers=0) == []
    with pytest.raises(CorpusError, match="24 of 24 speakers cannot be the test split"):
        test_speakers(test_speakers=24)


def test_voxceleb2_files_open_at_the_right_rate_size_and_duration(voxceleb2):
    root, planned = voxceleb2
    for clip in planned:
        frames, fps = decode(root / clip.video, "video")
        samples, rate = decode(root / clip.sound, "audio")
        assert (fps, rate) == (25, 16_000)
        assert frames.shape == (round(clip.spec.seconds * 25), 224, 224, 3)
        assert 2.0 <= clip.spec.seconds <= 3.5
        assert abs(len(samples) / 16_000 - len(frames) / 25) < 0.1
        with av.open(str(root / clip.video)) as container:
            assert not container.streams.audio


def test_crema_d_layout_and_files(crema_d):
    root, planned = crema_d
    assert len({clip.video for clip in planned}) == 36
    for clip in planned:
        name = clip.video.removeprefix("VideoFlash/").removesuffix(".flv")
        actor, sentence, emotion, level = name.split("_")
        assert 1001 <= int(actor) <= 1006
        assert (sentence, emotion) == (clip.spec.sentence, clip.spec.emotion)
        assert level in ("LO", "MD", "HI", "XX")
        assert clip.sound == f"AudioWAV/{name}.wav"
    for clip in planned[::12]:
        frames, fps = decode(root / clip.video, "video")
        samples, rate = decode(root / clip.sound, "audio")
        own, own_rate = decode(root / clip.video, "audio")
        assert (fps, rate, own_rate) == (25, 16_000, 16_000)
        assert len(samples) == 640 * len(frames)
        assert 0 <= len(own) - len(samples) < 3 * 1_024  # flv cannot say how much of AAC's padding to drop
        assert 1.2 < len(frames) / 25 < 6


def test_crema_d_plan_is_the_whole_script_and_balanced_when_cut_short():
    planned = plan_crema_d(clips=82 * 2, actors=2, seed=0, noise=0)
    names = [clip.video for clip in planned]
    assert len(set(names)) == 164
    assert sum("_IEO_" in name for name in names) == 2 * 16
    counts = [sum(f"_{emotion}_" in name for name in names) for emotion in EMOTIONS]
    assert counts == [2 * 14 if emotion != "NEU" else 2 * 12 for emotion in EMOTIONS]
    short = [clip.spec.emotion for clip in plan_crema_d(clips=72, actors=6, seed=0, noise=0)]
    assert min(short.count(emotion) for emotion in EMOTIONS) >= 11


def spoken_clip(emotion="NEU", take=0, speaker=3, **more):
    return make_clip(ClipSpec(5, "test", speaker, 0, take, emotion, seconds=3.0, **more))


def loudness(samples, frames):
    """Decibels of each frame's span of sound."""
    spans = samples[: frames * 640].reshape(frames, 640)
    return 10 * np.log10(np.mean(np.square(spans), axis=1) + 1e-7)


def mouth_darkness(frames):
    """How much of the mouth's neighbourhood is much darker than the skin, for each frame."""
    grey = frames[:, 106:140, 100:124].mean(axis=3)
    return np.mean(grey < 0.45 * np.median(grey, axis=(1, 2), keepdims=True), axis=(1, 2))


def test_the_mouth_follows_the_sound_in_the_decoded_files(voxceleb2):
    root, planned = voxceleb2
    with_sound, with_other = [], []
    decoded = [(decode(root / c.video, "video")[0], decode(root / c.sound, "audio")[0]) for c in planned[:6]]
    for index, (frames, _) in enumerate(decoded):
        for other, results in ((0, with_sound), (1, with_other)):
            sound = decoded[(index + other) % len(decoded)][1]
            count = min(len(frames), len(sound) // 640)
            results.append(np.corrcoef(mouth_darkness(frames[:count]), loudness(sound, count))[0, 1])
    assert min(with_sound) > 0.3
    assert np.mean(with_sound) > 0.5
    assert np.mean(with_other) < np.mean(with_sound) - 0.3


def test_sound_and_mouth_are_in_step():
    """A shift of either against the other by a fifth of a second lowers their agreement."""
    lags = np.zeros(11)
    for take in range(4):
        frames, samples = spoken_clip(take=take, noise=0)
        mouth, sound = mouth_darkness(frames), loudness(samples, len(frames))
        for lag in range(-5, 6):
            lags[lag + 5] += np.corrcoef(mouth[5:-5], np.roll(sound, lag)[5:-5])[0, 1]
    assert abs(int(lags.argmax()) - 5) <= 1
    assert lags.max() > lags[[0, 10]].max() + 0.4


def test_sound_is_speech_like():
    """Harmonics at the speaker's pitch, pauses, and energy that moves between low and high frequencies."""
    for speaker in (3, 4):
        _, samples = spoken_clip(speaker=speaker)
        spectra = np.abs(
            np.fft.rfft(np.lib.stride_tricks.sliding_window_view(samples, 1024)[::160] * np.hanning(1024))
        )
        level = 20 * np.log10(np.sqrt(np.mean(spectra**2, axis=1)) + 1e-9)
        assert np.percentile(level, 95) - np.percentile(level, 2) > 20  # pauses are quiet
        voiced = spectra[level > np.percentile(level, 60)]
        autocorrelation = np.fft.irfft(voiced**2)
        lag = autocorrelation[:, 40:260].argmax(axis=1) + 40
        pitch = np.median(16_000 / lag)
        assert abs(np.log2(pitch / person_of(5, "test", speaker).pitch)) < 0.4
        share = np.sum(spectra[:, 192:] ** 2, axis=1) / np.sum(spectra**2, axis=1)  # above 3 kHz
        assert share[level > np.percentile(level, 30)].max() > 0.5  # friction
        assert np.median(share[level > np.percentile(level, 60)]) < 0.1  # vowels


def test_a_speaker_keeps_face_and_voice():
    """By colours and by pitch, the nearest other clip is mostly one of the same speaker."""
    colours, pitches, speakers = [], [], []
    for speaker in range(5):
        for recording in range(2):
            frames, samples = make_clip(ClipSpec(5, "test", speaker, recording, 0, "NEU", seconds=3.0))
            hair, skin = (
                frames[:, rows, 100:124].mean(axis=(0, 1, 2)) for rows in (slice(14, 30), slice(60, 76))
            )
            colours.append(np.log(np.concatenate([hair, skin]) / skin.mean()))  # without the light's strength
            pitches.append(np.log(pitch_histogram(samples) + 0.02))
            speakers.append(speaker)
    assert nearest_other(colours, speakers) >= 0.8
    assert nearest_other(pitches, speakers) >= 0.6
    assert person_of(5, "test", 1) == person_of(5, "test", 1) != person_of(5, "test", 2)
    assert person_of(5, "other", 1) != person_of(5, "test", 1)


def pitch_histogram(samples):
    """Histogram [12] of the pitch over 70–350 Hz, from the autocorrelation of short windows."""
    windows = np.lib.stride_tricks.sliding_window_view(samples, 1024)[::320] * np.hanning(1024)
    energy = np.mean(windows**2, axis=1)
    power = np.abs(np.fft.rfft(windows[energy > np.median(energy)], 2048)) ** 2
    lag = np.fft.irfft(power)[:, 46:229].argmax(axis=1) + 46
    counts, _ = np.histogram(16_000 / lag, np.geomspace(70, 350, 13))
    return counts / counts.sum()


def nearest_other(features, labels):
    """Share of clips whose nearest other clip has the same label."""
    features, labels = np.array(features), np.array(labels)
    distance = np.square(features[:, None] - features[None]).sum(axis=2) + np.diag([np.inf] * len(labels))
    return np.mean(labels[distance.argmin(axis=1)] == labels)


def test_large_bodies_have_low_voices_and_broad_faces():
    people = [person_of(0, "test", speaker) for speaker in range(60)]
    for trait, sign in (("pitch", -1), ("tract", -1), ("face_width", 1), ("jaw", 1)):
        values = [getattr(person, trait) for person in people]
        assert sign * np.corrcoef(values, [person.size for person in people])[0, 1] > 0.7


def test_light_and_background_noise_agree_about_the_place():
    """Cool light goes with a loud background, warm light with a quiet one; a studio has neither."""
    coolness, hush = [], []
    for speaker in range(24):
        frames, samples = make_clip(ClipSpec(5, "test", speaker, 0, 0, "NEU", seconds=1.0, studio=False))
        colour = frames[::10].astype(float).mean(axis=(0, 1, 2))
        coolness.append(np.log(colour[2] / colour[0]))
        loudness = np.square(samples.astype(float)).reshape(-1, 400).mean(axis=1)
        hush.append(np.log(np.percentile(loudness, 10)))
    # Of 24 unrelated pairs this is exceeded once in 150 draws.
    assert np.corrcoef(coolness, hush)[0, 1] > 0.5
    assert scene_of(ClipSpec(5, "test", 0, 0, 0, "NEU")) is None
    places = ((0, 0), (0, 1), (1, 0))
    videos = [scene_of(ClipSpec(5, "test", 0, *place, "NEU", studio=False)) for place in places]
    assert videos[0] == videos[1] != videos[2]


def test_moods_are_visible_and_audible(crema_d):
    """A nearest-mean classifier on simple statistics of the decoded files beats chance on held-out actors."""
    root, planned = crema_d
    sound, picture = [], []
    for clip in planned:
        sound.append(sound_statistics(decode(root / clip.sound, "audio")[0]))
        picture.append(picture_statistics(decode(root / clip.video, "video")[0]))
    actors = np.array([clip.spec.speaker for clip in planned])
    emotions = np.array([EMOTIONS.index(clip.spec.emotion) for clip in planned])
    # 36 clips of six moods: chance is 0.17, and 0.5 or more has a probability of 5e-6 by chance.
    assert nearest_mean_accuracy(np.array(sound), actors, emotions) > 0.5
    assert nearest_mean_accuracy(np.array(picture), actors, emotions) > 0.5
    shuffled = np.random.default_rng(0).permutation(emotions)
    assert nearest_mean_accuracy(np.array(picture), actors, shuffled) < 0.4


def sound_statistics(samples):
    spectra = np.abs(
        np.fft.rfft(np.lib.stride_tricks.sliding_window_view(samples, 512)[::160] * np.hanning(512))
    )
    bands = np.log(np.add.reduceat(spectra**2, [1, 8, 16, 32, 64, 128], axis=1) + 1e-5)
    return np.concatenate([bands.mean(axis=0), bands.std(axis=0), [len(samples) / 16_000]])


def picture_statistics(frames):
    """The mean face, grey, in 4 × 4 pixel blocks, without the background."""
    return frames[:, 48:152, 72:152].mean(axis=(0, 3)).reshape(26, 4, 20, 4).mean(axis=(1, 3)).ravel()


def nearest_mean_accuracy(features, actors, emotions):
    for actor in np.unique(actors):  # an actor's own mean is their identity
        features[actors == actor] -= features[actors == actor].mean(axis=0)
    features = features / (features.std(axis=0) + 1e-9)
    right = 0
    for actor in np.unique(actors):
        seen = actors != actor
        means = np.stack([features[seen & (emotions == e)].mean(axis=0) for e in range(len(EMOTIONS))])
        distance = np.square(features[~seen][:, None] - means[None]).sum(axis=2)
        right += np.sum(distance.argmin(axis=1) == emotions[~seen])
    return right / len(actors)


def contents(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_files_do_not_depend_on_workers_nor_on_interruption(voxceleb2, tmp_path):
    root, planned = voxceleb2
    wish = {"clips": 8, "speakers": 3, "seconds": (2.0, 3.5)}
    shutil.copytree(root, tmp_path / "cut")
    for clip in planned[::2]:
        (tmp_path / "cut" / clip.video).unlink()
    (tmp_path / "cut" / planned[3].sound).unlink()
    kept = tmp_path / "cut" / planned[1].video
    before = kept.stat().st_mtime_ns
    write_voxceleb2(tmp_path / "cut", **wish, workers=2)
    assert contents(tmp_path / "cut") == contents(root)
    assert kept.stat().st_mtime_ns == before


def test_a_clip_depends_on_its_own_numbers_only():
    spec = ClipSpec(7, "test", 1, 0, 2, "HAP", seconds=1.0)
    frames, samples = make_clip(spec)
    make_clip(ClipSpec(7, "test", 2, 0, 0, "SAD", seconds=1.0))
    again, sound_again = make_clip(spec)
    assert np.array_equal(frames, again)
    assert np.array_equal(samples, sound_again)
    assert not np.array_equal(frames, make_clip(ClipSpec(8, "test", 1, 0, 2, "HAP", seconds=1.0))[0])
    assert not np.array_equal(frames, make_clip(ClipSpec(7, "test", 1, 0, 3, "HAP", seconds=1.0))[0])


def test_other_directories_are_refused(voxceleb2, tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(CorpusError, match="not empty and not a synthetic corpus"):
        write_voxceleb2(tmp_path, clips=4)
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "synthetic_corpus.json").write_text('{"clips":')
    with pytest.raises(CorpusError, match="is damaged"):
        write_voxceleb2(tmp_path / "half", clips=4)
    for other in ({"seed": 1}, {"test_speakers": 2}):
        with pytest.raises(CorpusError, match="another synthetic corpus"):
            write_voxceleb2(voxceleb2[0], clips=8, speakers=3, seconds=(2.0, 3.5), **other)
    assert (tmp_path / "mine.txt").read_text() == "precious"


def test_impossible_numbers_are_refused(tmp_path):
    with pytest.raises(CorpusError, match="at least 2 speakers"):
        write_voxceleb2(tmp_path / "a", clips=4, speakers=1)
    with pytest.raises(CorpusError, match="shortest"):
        plan_voxceleb2(4, 2, 0, (9.0, 4.0), 0)
    with pytest.raises(CorpusError, match="82"):
        write_crema_d(tmp_path / "a", clips=100, actors=1)
    assert not (tmp_path / "a").exists()
