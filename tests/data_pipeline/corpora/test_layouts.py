import pytest
from etils import epath

from data_pipeline.corpora import clip_files, layouts
from data_pipeline.corpora.clip_files import ClipFiles, InputFile
from data_pipeline.corpora.layouts import Corpus
from tests.support.files import touch


def corpus(*roots, **options):
    return Corpus(tuple(map(epath.Path, roots)), **options)


@pytest.mark.parametrize(
    ("files", "given", "layout"),
    [
        (["dev/mp4/id1/a/1.mp4"], "", "voxceleb2"),
        (["test/mp4/id1/a/1.mp4"], "", "voxceleb2"),  # another split, which finding then names
        (["dev/DEV/MP4/id1/a/1.mp4"], "", "voxceleb2"),
        (["id1/a/1.mp4"], "", "folder"),
        (["videos/1.mkv"], "", "folder"),
        (["x.csv"], "x.csv", "list"),
        (["x.txt"], "x.txt", "list"),
    ],
)
def test_the_layout_is_detected(tmp_path, files, given, layout):
    touch(tmp_path, *files)
    assert corpus(tmp_path / given).layout_for("dev") == layout


def test_a_layout_that_is_given_counts(tmp_path):
    touch(tmp_path, "dev/mp4/id1/a/1.mp4")
    found = corpus(tmp_path, layout="folder").find("folder", "dev")
    assert [clip.name for clip in found.clips] == ["dev/mp4/id1/a/1"]


def test_mistakes_are_one_line(tmp_path):
    touch(tmp_path, "one/1.mp4", "two/dev/mp4/id1/a/1.mp4")
    with pytest.raises(ValueError, match=r"one looks like folder, .*two looks like voxceleb2: prepare them"):
        corpus(tmp_path / "one", tmp_path / "two").layout_for("dev")
    with pytest.raises(FileNotFoundError, match="nowhere is missing: --input is a directory"):
        corpus(tmp_path / "nowhere").layout_for("dev")
    with pytest.raises(ValueError, match="no input is given"):
        corpus()
    with pytest.raises(ValueError, match=r"--root is for lists, but .*one is a directory"):
        corpus(tmp_path / "one", root=epath.Path("x")).layout_for("dev")
    with pytest.raises(ValueError, match="--root is for --layout=list, not for folder"):
        corpus(tmp_path / "one", layout=layouts.FOLDER, root=epath.Path("x"))


@pytest.mark.parametrize(
    "clip",
    [
        ClipFiles("a", InputFile(0, "a.mp4")),
        ClipFiles('naïve "笑"\t', InputFile(1, "x y.mp4"), InputFile(0, "x.wav"), (1.5, 2.04)),
    ],
)
def test_a_clip_survives_its_line(clip):
    line = clip.to_line()
    assert len(line.splitlines()) == 1
    assert clip_files.from_line(line) == clip
