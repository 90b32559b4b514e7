"""`launch.embed`: settings, the model and the output directory of an embedding."""

import dataclasses
import functools
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath

from data_pipeline.common import atomic_files
from data_pipeline.format.clip_sampling import ClipSampling
from data_pipeline.media import face_views, plain_views
from data_pipeline.media.faces import installed
from data_pipeline.media.inputs import find_inputs
from data_pipeline.media.limits import FPS
from data_pipeline.media.video_windows import View, read_windows
from data_pipeline.media.windows import Windows
from hicmae_jax.evaluation import embed_files, embedded_file, embedding_tables
from hicmae_jax.evaluation.embedded_file import EmbeddedFile
from hicmae_jax.evaluation.figures import timeline
from hicmae_jax.evaluation.window_model import WindowModel
from hicmae_jax.weights.trained import Trained, load_trained

ABOUT = "embed.json"
FACES = ("auto", "largest", "each", "centre", "voxceleb2", "whole")


@dataclasses.dataclass(frozen=True)
class Choices:
    """How videos are embedded.

    Attributes:
        faces: which part of each frame is seen, one of `FACES`.
        hop: from one window to the next, in s; None for half a window.
        batch: windows computed at a time.
        threads: files that are read at the same time; of fewer files, threads that look for faces in each.
        parquet: whether to write a table of all features.
    """

    faces: str = "auto"
    hop: float | None = None
    batch: int = 16
    threads: int = 2
    parquet: bool = False


@dataclasses.dataclass(frozen=True)
class Done:
    """What an embedding has made.

    Attributes:
        files: names of the files with results, in order.
        broken: name → why, of those without.
        emotions: name → a line with the largest mean scores; empty for features.
    """

    files: Sequence[str]
    broken: dict[str, str]
    emotions: dict[str, str]


def embed_videos(
    source: epath.PathLike,
    given: Sequence[str],
    output: epath.PathLike,
    choices: Choices,
    step: int | None = None,
    best: bool = False,
) -> Done:
    """Embed videos and sounds, or go on where an earlier call with this directory has stopped.

    Args:
        source: a run, a folder of exported weights, or a weight file; see `load_trained`.
        given: files, folders and lists of videos.
        output: directory to write to: new, empty, or of an earlier call with the same model and choices.
        choices: how they are embedded.
        step: step of the run's checkpoint; None for the last.
        best: take the run's checkpoint with the best score instead.

    Raises:
        FileNotFoundError: there is no such model or input.
        FileExistsError: the directory holds something else.
        ImportError: a package for faces is missing.
        ValueError: the model is damaged, or a choice does not fit it.
        OSError: a result cannot be written.
    """
    inputs, root = find_inputs(given), epath.Path(output)
    trained = load_trained(source, step, best)
    windows = _windows(trained, choices.hop)
    faces = choices.faces
    if faces == "auto":
        faces = "largest" if installed() else "centre"
        if faces == "centre":
            line = "no faces are looked for, the centre is used: pip install 'hicmae_jax[face]' finds them"
            print(f"warning: {line}", file=sys.stderr)
    view = _view(faces, trained.model.image_size, max(1, choices.threads // len(inputs)))
    about = {
        "model": trained.origin,
        "parameters": _digest(trained.params),
        "labels": list(trained.labels),
        "faces": faces,
        "window": trained.stride * trained.frames / FPS,
        "hop": windows.hop / FPS,
    }
    _claim(root, about)
    print(f"model     {trained.origin}")
    print(f"files     {len(inputs):,}, in windows of {about['window']:g} s every {about['hop']:g} s, {faces}")
    broken = embed_files.embed(
        inputs,
        functools.partial(read_windows, windows=windows, view=view),
        WindowModel(trained, choices.batch),
        root,
        trained.labels,
        functools.partial(_draw, trained),
        choices.threads,
    )

    def results() -> Iterator[EmbeddedFile]:
        found = (embedded_file.read(embed_files.array_file(root, each.name)) for each in inputs)
        return (each for each in found if each is not None)

    embedding_tables.write(root, results, trained.labels, trained.regression, broken, choices.parquet)
    emotions = {each.name: _summary(each, trained) for each in results()}
    return Done(list(emotions), broken, {name: line for name, line in emotions.items() if line})


def _windows(trained: Trained, hop: float | None) -> Windows:
    """The windows of a model, whose hop is rounded to whole strides."""
    sampling = ClipSampling(trained.frames, trained.stride)
    frames = sampling.window / 2 if hop is None else hop * FPS
    if frames < sampling.stride / 2:
        raise ValueError(
            f"--hop={hop:g} s is too short: the model sees a frame every {sampling.stride / FPS:g} s"
        )
    return Windows(sampling, max(1, round(frames / sampling.stride)) * sampling.stride)


def _view(faces: str, side: int, threads: int) -> View:
    """The view of that name; `threads` look for faces in one video.

    Raises:
        ImportError: it looks for faces, and the packages for that are missing.
    """
    views: dict[str, Callable[[int], View]] = {
        "largest": functools.partial(face_views.largest, threads=threads),
        "each": functools.partial(face_views.each, threads=threads),
        "centre": plain_views.centre,
        "voxceleb2": plain_views.voxceleb2,
        "whole": plain_views.whole,
    }
    return views[faces](side)


def _digest(params: Any) -> str:
    """SHA-256 of the parameters."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.ascontiguousarray(leaf).data)
    return digest.hexdigest()


def _claim(root: epath.Path, about: dict[str, Any]) -> None:
    """Write what the results are of, or compare with it.

    Raises:
        FileExistsError: there are other files, or results of another model or of other choices.
    """
    path = root / ABOUT
    if not path.exists():
        if root.exists() and any(root.iterdir()):
            raise FileExistsError(f"{root} is not empty and holds no results: give another --output")
        root.mkdir(parents=True, exist_ok=True)
        atomic_files.replace_text(path, json.dumps(about, indent=1) + "\n")
        return
    before = json.loads(path.read_text())
    for name, value in about.items():
        if name != "model" and before.get(name) != value:  # the same weights may lie elsewhere
            raise FileExistsError(
                f"{root} holds results with {name} {before.get(name)}, not {value}: give another --output"
            )


def _draw(
    trained: Trained, found: EmbeddedFile, pictures: Sequence[np.ndarray | None], path: epath.Path
) -> None:
    figure = timeline.draw(found, pictures, trained.labels, trained.regression)
    with atomic_files.replacing(path) as partial, partial.open("wb") as file:
        figure.savefig(file, dpi=100, format="png")


def _summary(found: EmbeddedFile, trained: Trained) -> str:
    """The largest mean scores of a file, or its dimensions."""
    scores = embedding_tables.mean_scores(found)
    if scores is None:
        return ""
    order = range(len(scores)) if trained.regression else np.argsort(-scores, kind="stable")[:3].tolist()
    return ", ".join(f"{trained.labels[number]} {scores[number]:.2f}" for number in order)
