import json

import pytest
from etils import epath

from data_pipeline.corpora import clip_list
from tests.support.files import touch


def write(directory, name, *lines):
    (directory / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return epath.Path(directory / name)


def find(*lists, root=None, most_missing=1.0):
    return clip_list.find_clips(lists, root and epath.Path(root), most_missing)


def clips(*lists, **options):
    """Each clip as (name, path of its video, path of its sound, span)."""
    found = find(*lists, **options).clips
    return [(clip.name, clip.video.path, clip.audio and clip.audio.path, clip.span) for clip in found]


def test_a_table_names_videos_sounds_ids_groups_and_times(tmp_path):
    table = write(
        tmp_path,
        "clips.csv",
        "Speaker,Path,Wav,start,END,id,emotion",
        "s1,a/1.mp4,a/1.wav,,,one,happy",
        's2,"b, c/2.mkv",,3.5,9,two,sad',
    )
    assert clips(table) == [
        ("s1/one", "a/1.mp4", "a/1.wav", None),
        ("s2/two@3.50-9.00", "b, c/2.mkv", None, (3.5, 9.0)),
    ]


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("x.csv", ["video,audio", "a/1.mp4,a/1.wav", "2.mp4,"]),
        ("x.TSV", ["audio\tvideo", "a/1.wav\ta/1.mp4", "\t2.mp4"]),
        ("x.jsonl", ['{"video": "a/1.mp4", "audio": "a/1.wav"}', "", '{"video": "2.mp4", "audio": null}']),
        ("x.txt", ["# comment", "a/1.mp4 a/1.wav 3", "2.mp4 0"]),
        ("x.lst", ["a/1.mp4 a/1.wav", "2.mp4"]),
    ],
)
def test_every_kind_of_list_says_the_same(tmp_path, name, lines):
    assert clips(write(tmp_path, name, *lines)) == [
        ("2", "2.mp4", None, None),
        ("a/1", "a/1.mp4", "a/1.wav", None),
    ]


def test_a_list_of_excel_with_a_byte_order_mark_is_read(tmp_path):
    (tmp_path / "x.csv").write_bytes("video\r\nä.mp4\r\n".encode("utf-8-sig"))
    assert clips(epath.Path(tmp_path / "x.csv")) == [("ä", "ä.mp4", None, None)]


def test_paths_are_below_the_list_or_the_root_or_absolute(tmp_path):
    touch(tmp_path, "lists/1.mp4", "data/2.mp4")
    absolute = tmp_path / "data/2.mp4"
    table = write(tmp_path / "lists", "x.csv", "video", "1.mp4", str(absolute))
    assert find(table, most_missing=0).found == f"2 clips of {table}"
    assert clip_list.roots_of([table], None) == [str(tmp_path / "lists")]
    table = write(tmp_path / "lists", "y.csv", "video", "2.mp4")
    assert len(find(table, root=tmp_path / "data", most_missing=0).clips) == 1


def test_the_video_itself_as_its_sound_is_its_track(tmp_path):
    assert clips(write(tmp_path, "x.txt", "1.mp4 1.mp4 2")) == [("1", "1.mp4", None, None)]


def test_missing_files_are_counted_and_too_many_are_an_error(tmp_path):
    touch(tmp_path, "1.mp4", "2.mp4", "3.mp4")
    table = write(tmp_path, "x.csv", "video,audio", "1.mp4,", "2.mp4,2.wav", "3.mp4,", "4.mp4,")
    assert find(table, most_missing=0.5).found.endswith("2 of 4 listed clips have a missing file")
    with pytest.raises(FileNotFoundError, match=r"2 of 4 listed .*/2\.wav, .*/4\.mp4: .*--root") as caught:
        find(table, most_missing=0.4)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "lines", "message"),
    [
        ("x.csv", ["YouTube,x,y", "a,1,2"], "names no column video but YouTube, x, y: name the columns"),
        ("x.csv", ["video,path", "a.mp4,b.mp4"], "the columns video and path both mean video: remove one"),
        ("x.csv", ["video", '"'], "x.csv"),
        ("x.csv", ["video,id", ",3"], "line 2 names no video"),
        ("x.csv", ["video,start", "a.mp4,3"], "line 2 has a begin but no end"),
        ("x.csv", ["video,start,end", "a.mp4,3,x"], "line 2: begin and end must be seconds: .*'x'"),
        ("x.csv", ["video,start,end", "a.mp4,3,2"], "line 2: begin 3 s and end 2 s are no part"),
        ("x.csv", ["video,start,end", "a.mp4,0,nan"], "line 2: begin 0 s and end nan s are no part"),
        ("x.csv", ["video"], "no clip is listed"),
        ("x.csv", ["video", "a.mp4", "a.mp4"], "line 3: a is listed in .*line 2 too: give ids"),
        ("x.csv", ["video", "a.jpg"], r"line 2: a\.jpg is no video \(\.mp4"),
        ("x.txt", ["faces/dir a.wav 0"], r"line 1: faces/dir is no video"),
        ("x.jsonl", ["{"], "line 1 is no JSON"),
        ("x.jsonl", ["[1]"], "line 1 is no JSON object"),
        ("x.jsonl", ['{"video": 1}'], "line 1: 1 is no video"),
    ],
)
def test_mistakes_are_one_line_with_the_place(tmp_path, name, lines, message):
    with pytest.raises(ValueError, match=message) as caught:
        find(write(tmp_path, name, *lines))
    assert len(str(caught.value).splitlines()) == 1
    assert name in str(caught.value)


def test_a_list_that_is_missing_or_no_text_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"x\.csv is missing"):
        find(epath.Path(tmp_path / "x.csv"))
    with pytest.raises(ValueError, match="is a directory: --layout=list takes a file"):
        find(epath.Path(tmp_path))
    (tmp_path / "y.csv").write_bytes(b"video\n\xff\xfe.mp4\n")
    with pytest.raises(ValueError, match=r"y\.csv is not a list in UTF-8"):
        find(epath.Path(tmp_path / "y.csv"))


def test_lists_of_several_corpora_are_read_together(tmp_path):
    one = write(tmp_path, "one.csv", "video,corpus", "1.mp4,a")
    two = write(tmp_path, "two.jsonl", json.dumps({"path": "1.mp4", "corpus": "b"}))
    found = find(one, two).clips
    assert [(clip.name, clip.video.source) for clip in found] == [("a/1", 0), ("b/1", 1)]
