import os

import pytest
from etils import epath

from data_pipeline.corpora import passed_over, voxceleb2
from tests.support.files import touch


def find(*roots, split="dev"):
    return voxceleb2.find_clips([epath.Path(root) for root in roots], split)


def names(*roots):
    return [clip.name for clip in find(*roots).clips]


def found(root):
    """Names of the clips, and what was passed over."""
    clips, kinds, _ = find(root)
    return [clip.name for clip in clips], kinds


def videos(root):
    return {clip.name: clip.video.path for clip in find(root).clips}


def sounds(root):
    return {clip.name: clip.audio and clip.audio.path for clip in find(root).clips}


def test_clips_are_those_with_a_picture_or_a_sound(tmp_path):
    touch(tmp_path, "dev/mp4/id2/a/00002.mp4", "dev/mp4/id1/b/00001.mp4", "dev/aac/id1/b/00001.m4a")
    touch(tmp_path, "dev/aac/id3/c/00009.wav")  # no picture
    touch(
        tmp_path, "dev/mp4/readme.mp4", "dev/mp4/id1/b/00001.txt", "test/mp4/id4/a/00001.mp4"
    )  # none of them
    assert names(tmp_path) == ["id1/b/00001", "id2/a/00002", "id3/c/00009"]


def test_linked_directories_are_followed_and_nothing_deeper(tmp_path):
    touch(tmp_path, "disk2/b/00001.mp4", "dev/mp4/id1/a/00001.mp4", "dev/mp4/id1/a/deeper/00002.mp4")
    (tmp_path / "dev/mp4/id2").symlink_to(tmp_path / "disk2")
    (tmp_path / "dev/mp4/id1/a/loop").symlink_to(tmp_path / "dev/mp4")
    (tmp_path / "dev/mp4/id1/a/00003.mp4").mkdir()
    assert names(tmp_path) == ["id1/a/00001", "id2/b/00001"]


def test_a_directory_that_cannot_be_listed_is_an_error(tmp_path, monkeypatch):
    touch(tmp_path, "dev/mp4/id1/a/00001.mp4", "dev/mp4/id2/b/00001.mp4")
    scandir = os.scandir

    def deny(path):
        if os.fspath(path).endswith("id2"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", deny)
    with pytest.raises(PermissionError, match="dev/mp4/id2"):
        find(tmp_path)


@pytest.mark.parametrize("name", ["line\nfeed", "carriage\rreturn", "latin-\udce9"])
def test_names_that_cannot_be_stored_are_refused(tmp_path, name):
    touch(tmp_path, "dev/mp4/id1/naïve 笑/00 01.mp4")
    assert names(tmp_path) == ["id1/naïve 笑/00 01"]
    touch(tmp_path, f"dev/mp4/id1/b/{name}.mp4")
    with pytest.raises(
        ValueError, match=r"rename 'id1/b/.*\\.*': a name must be one line of UTF-8"
    ) as caught:
        find(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


def test_sound_may_be_m4a_or_wav_or_absent(tmp_path):
    touch(tmp_path, *(f"dev/mp4/id1/a/{number}.mp4" for number in (1, 2, 3)))
    touch(tmp_path, "dev/aac/id1/a/1.m4a", "dev/aac/id1/a/1.wav", "dev/aac/id1/a/2.wav")
    assert sounds(tmp_path) == {
        "id1/a/1": "dev/aac/id1/a/1.m4a",
        "id1/a/2": "dev/aac/id1/a/2.wav",
        "id1/a/3": None,
    }


def test_another_layout_is_an_error_that_names_the_place(tmp_path):
    with pytest.raises(FileNotFoundError, match="dev/mp4 is not a directory"):
        find(tmp_path)
    touch(tmp_path, "dev/mp4/00001.mp4")
    with pytest.raises(ValueError, match="holds no"):
        find(tmp_path)


@pytest.mark.parametrize(
    ("pictures", "beside"),
    [
        ("dev/mp4", "dev/AAC"),
        ("Dev/MP4", "dev/aac"),
        ("dev/dev/mp4", "dev/aac"),
        ("dev/dev/mp4", "dev/dev/wav"),
        ("vox2_dev_mp4/dev/mp4", "vox2_aac/dev/aac"),
        ("mp4", "m4a"),
    ],
)
def test_it_is_found_as_people_unpack_it(tmp_path, pictures, beside):
    touch(tmp_path, f"{pictures}/id1/a/1.mp4", f"{beside}/id1/a/1.m4a", "dev/txt/id1/a/1.txt")
    touch(tmp_path, "test/mp4/id9/a/1.mp4", "vox2_dev_mp4_partaa")
    assert videos(tmp_path) == {"id1/a/1": f"{pictures}/id1/a/1.mp4"}
    assert sounds(tmp_path) == {"id1/a/1": f"{beside}/id1/a/1.m4a"}


def test_parts_of_a_split_count_together_and_a_clip_once(tmp_path):
    touch(tmp_path, "a/dev/mp4/id1/a/1.mp4", "a/dev/mp4/id1/a/2.mp4", "b/dev/mp4/id1/a/2.mp4")
    touch(tmp_path, "b/dev/mp4/id2/a/1.mp4", "a/dev/aac/id2/a/1.m4a", "b/dev/aac/id1/a/1.m4a")
    clips, kinds, _ = find(tmp_path / "a", tmp_path / "b")
    assert [(clip.name, clip.video.source, clip.audio and clip.audio.source) for clip in clips] == [
        ("id1/a/1", 0, 1),
        ("id1/a/2", 0, None),
        ("id2/a/1", 1, 0),
    ]
    assert kinds == {passed_over.SECOND: 1}


def test_archives_that_are_not_unpacked_are_named(tmp_path):
    touch(tmp_path, "vox2_dev_mp4_partab", "vox2_dev_mp4_partaa", "vox2_aac.zip")
    with pytest.raises(FileNotFoundError, match=r"holds vox2_aac\.zip but no dev/mp4: unpack the archives"):
        find(tmp_path)
    (tmp_path / "vox2_aac.zip").unlink()
    with pytest.raises(FileNotFoundError, match=r"vox2_dev_mp4_partaa .*join the parts first: cat"):
        find(tmp_path)


def test_another_split_is_named(tmp_path):
    touch(tmp_path, "test/mp4/id1/a/1.mp4")
    with pytest.raises(FileNotFoundError, match=r"but there is the split test: --split=test$"):
        find(tmp_path)


@pytest.mark.parametrize("suffix", [".mp4", ".MP4", ".Mp4", ".mP4"])
def test_a_picture_is_found_whatever_the_case_of_its_suffix(tmp_path, suffix):
    touch(tmp_path, f"dev/mp4/id1/a/1{suffix}")
    assert found(tmp_path) == (["id1/a/1"], {})
    assert videos(tmp_path) == {"id1/a/1": f"dev/mp4/id1/a/1{suffix}"}


@pytest.mark.parametrize("suffix", [".m4a", ".M4A", ".M4a", ".m4A", ".wav", ".WAV", ".Wav", ".wAv"])
def test_a_sound_is_found_whatever_the_case_of_its_suffix(tmp_path, suffix):
    touch(tmp_path, "dev/mp4/id1/a/1.mp4", f"dev/aac/id1/a/1{suffix}", f"dev/aac/id1/a/only{suffix}")
    assert found(tmp_path) == (["id1/a/1", "id1/a/only"], {})
    assert sounds(tmp_path)["id1/a/1"] == f"dev/aac/id1/a/1{suffix}"


@pytest.mark.parametrize(
    ("files", "chosen"),
    [
        (["1.wav", "1.m4a"], "1.m4a"),
        (["1.wav", "1.M4A"], "1.M4A"),  # the kind counts before the case
        (["1.M4A", "1.m4a", "1.M4a"], "1.m4a"),
        (["1.WAV", "1.Wav"], "1.WAV"),
    ],
)
def test_of_several_sounds_one_rule_chooses_and_the_others_are_counted(tmp_path, files, chosen):
    touch(tmp_path, "dev/mp4/id1/a/1.mp4", *(f"dev/aac/id1/a/{file}" for file in files))
    assert found(tmp_path) == (["id1/a/1"], {passed_over.SECOND: len(files) - 1})
    assert sounds(tmp_path) == {"id1/a/1": f"dev/aac/id1/a/{chosen}"}


def test_of_several_pictures_the_one_in_small_letters_is_taken(tmp_path):
    touch(tmp_path, "dev/mp4/id1/a/1.MP4", "dev/mp4/id1/a/1.mp4", "dev/mp4/id1/a/1.Mp4")
    assert found(tmp_path) == (["id1/a/1"], {passed_over.SECOND: 2})
    assert videos(tmp_path) == {"id1/a/1": "dev/mp4/id1/a/1.mp4"}


def test_names_that_differ_in_case_are_two_clips(tmp_path):
    touch(tmp_path, "dev/mp4/id1/a/x.mp4", "dev/mp4/id1/a/X.MP4")
    assert found(tmp_path) == (["id1/a/X", "id1/a/x"], {})


def test_a_link_to_nowhere_is_the_sound_of_its_clip(tmp_path):
    """It must not be taken for a clip whose sound is in its mp4."""
    touch(tmp_path, "dev/mp4/id1/a/1.mp4", "dev/aac/id1/a/2.m4a")
    (tmp_path / "dev/aac/id1/a/1.m4a").symlink_to(tmp_path / "gone.m4a")
    assert sounds(tmp_path)["id1/a/1"] == "dev/aac/id1/a/1.m4a"


FOREIGN = [
    (["mp4/id1/a/._1.mp4", "aac/id1/a/._1.m4a", "mp4/.DS_Store", "mp4/id1/._a"], {passed_over.COMPANION: 4}),
    (["mp4/__MACOSX/id1/a/1.mp4", "mp4/__MACOSX/id1/a/2.mp4"], {passed_over.COMPANION: 1}),
    (["mp4/id1/a/Thumbs.db", "mp4/desktop.ini", "mp4/id1/a/THUMBS.DB"], {passed_over.THUMBNAIL: 3}),
    (["mp4/@eaDir/id1/1.mp4", "mp4/id1/@eaDir/1.mp4", "mp4/id1/a/@eaDir/1.mp4"], {passed_over.THUMBNAIL: 3}),
    (["mp4/id1/a/.2.mp4", "mp4/id1/.git/3.mp4", "mp4/id1/a/.4.mp4.Xy12Z"], {passed_over.HIDDEN: 3}),
    (["mp4/id1/a/2.mp4.part", "mp4/id1/a/Unconfirmed 9.crdownload"], {passed_over.DOWNLOAD: 2}),
    (["mp4/id1/a/2.mp4.TMP", "mp4/id1/a/2.temp.mp4", "mp4/id1/a/2.tmp"], {passed_over.DOWNLOAD: 3}),
    (["mp4/id1/a/2.mp4.download/2.mp4"], {passed_over.DOWNLOAD: 1}),
    (["mp4/2.mp4", "mp4/id1/2.MP4", "mp4/id1/a/deeper/2.mp4"], {passed_over.MISPLACED: 3}),
    (
        ["mp4/id1/a/1.txt", "mp4/id1/a/1.TXT", "aac/id1/a/1.ac3", "mp4/id1/a/1"],
        {".txt": 2, ".ac3": 1, "without a suffix": 1},
    ),
]


@pytest.mark.parametrize(("files", "kinds"), FOREIGN)
def test_what_is_no_clip_is_passed_over_and_counted(tmp_path, files, kinds):
    touch(tmp_path, "dev/mp4/id1/a/1.mp4", "dev/aac/id1/a/1.m4a", *(f"dev/{file}" for file in files))
    assert found(tmp_path) == (["id1/a/1"], kinds)


@pytest.mark.parametrize(
    "rest",
    [
        "mp4/id1/a/2.mp4.aria2",  # aria2 writes to 2.mp4 itself and leaves gaps in it
        "mp4/id1/a/2.mp4.part",  # Firefox leaves an empty 2.mp4 beside it
        "mp4/id1/a/2.MP4.ab12cd.partial",
        "mp4/id1/a/2.mp4.download/Info.plist",
        "mp4/id1/a/2.tmp.mp4",
        "aac/id1/a/2.m4a.part",
        "aac/id1/a/2.wav.crdownload",
    ],
)
@pytest.mark.parametrize(
    "there", [["mp4/id1/a/2.mp4"], ["aac/id1/a/2.m4a"], ["mp4/id1/a/2.mp4", "aac/id1/a/2.m4a"]]
)
def test_a_clip_whose_download_is_unfinished_is_passed_over_as_a_whole(tmp_path, rest, there):
    touch(tmp_path, "dev/mp4/id1/a/1.mp4", *(f"dev/{file}" for file in (*there, rest)))
    assert found(tmp_path) == (
        ["id1/a/1"],
        {passed_over.DOWNLOAD: 1, passed_over.UNFINISHED_CLIP: 1},
    )


def test_speakers_and_videos_may_have_the_name_of_a_download(tmp_path):
    touch(tmp_path, "dev/mp4/my.part/a.tmp/1.mp4")
    assert found(tmp_path) == (["my.part/a.tmp/1"], {})


def test_a_tree_without_clips_says_what_is_there(tmp_path):
    touch(tmp_path, "dev/mp4/id1/a/._1.mp4", "dev/mp4/id1/a/1.rar", "dev/mp4/id1/a/2.rar")
    with pytest.raises(ValueError, match=r"holds no .*<clip>\.mp4, but 2 \.rar, 1 of macOS; for any other"):
        find(tmp_path)


def test_the_listing_shows_how_many_files_it_has_seen(tmp_path, capsys):
    touch(tmp_path, "dev/mp4/id1/a/1.mp4", "dev/mp4/id1/a/1.txt", "dev/aac/id1/a/1.m4a")
    find(tmp_path)
    assert "listing: 3file [" in capsys.readouterr().err


def test_the_listing_of_twice_as_many_files_takes_twice_as_many_steps(tmp_path, monkeypatch):
    """Counted, not timed: every directory is listed once and no file is looked up."""
    listed, looked_up = [], []
    scandir, lstat = os.scandir, os.lstat
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(path) or scandir(path))
    monkeypatch.setattr(os, "lstat", lambda path, **more: looked_up.append(path) or lstat(path, **more))
    for videos in (4, 8):
        touch(
            tmp_path,
            *(f"dev/{kind}/id{i % 2}/v{i}/1.{kind}" for i in range(videos) for kind in ("mp4", "aac")),
        )
        listed.clear()
        assert len(names(tmp_path)) == videos
        assert len(listed) == 2 * (1 + 2 + videos)
        assert not looked_up


def test_kinds_are_shown_by_frequency_and_the_rarest_together():
    assert passed_over.describe({}) == "nothing"
    counts = {f".{letter}": number for number, letter in enumerate("abcdefghijkl", start=1)}
    assert passed_over.describe(counts).startswith("12 .l, 11 .k, ")
    assert passed_over.describe(counts).endswith("3 .c, 3 of other kinds")
