"""Describe and check prepared sets.

    python -m launch.inspect_data --data=prepared/dev                    describes the set
    python -m launch.inspect_data --data=prepared/dev --verify           reads and decodes all of it
    python -m launch.inspect_data --data=prepared/dev --sheet=dev.png    draws samples as the model sees them

For several sets, such as two splits, give ``--data=A,B``; the command also counts the speakers that they
share. The exit code is 1 after an error and 2 if `--verify` found a fault.
"""

import sys
import time

import numpy as np
from absl import flags
from etils import epath
from tqdm import tqdm

from data_pipeline.corpora.layouts import VOXCELEB2
from data_pipeline.preparation import inspection
from data_pipeline.preparation.inspection import Survey
from launch import command, face_look

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Declare the flags; not at import, because other commands have flags of the same names."""
    flags.DEFINE_list("data", None, "Directories of prepared sets, separated by commas.", required=True)
    flags.DEFINE_bool("verify", False, "Read every record and decode every frame.")
    flags.DEFINE_string("sheet", None, "PNG file to write, with random samples as the model sees them.")
    flags.DEFINE_integer("samples", 8, "Number of samples on the sheet.", lower_bound=1, upper_bound=64)
    flags.DEFINE_integer("seed", 0, "Seed of the sheet's samples and their augmentation.", lower_bound=0)
    flags.DEFINE_integer("workers", None, "Threads that verify; by default one a core.", lower_bound=1)


def main(argv: list[str]) -> int:
    """Run the command and return its exit code: 2 if a set has a fault."""
    if not FLAGS.data:
        raise ValueError("--data names no prepared set")
    if FLAGS.sheet:
        _check_sheet(epath.Path(FLAGS.sheet))
    surveys = {root: inspection.survey(root) for root in FLAGS.data}
    faces = {root: face_look.report(root, surveyed.about) for root, surveyed in surveys.items()}
    print("\n\n".join(table(root, surveyed, faces[root].found) for root, surveyed in surveys.items()))
    for root, seen in faces.items():
        if seen.warning:
            print(f"inspect_data: {root}: {seen.warning}", file=sys.stderr)
    if sum(surveyed.about.layout == VOXCELEB2 for surveyed in surveys.values()) > 1:
        print("\n" + shared_speakers(surveys))
    if FLAGS.sheet:
        _write_sheet(FLAGS.sheet)
    n_wrong = sum(_verify(root, surveyed) for root, surveyed in surveys.items()) if FLAGS.verify else 0
    return 2 if n_wrong else 0


def table(root: str, surveyed: Survey, faces: str) -> str:
    """Describes a prepared set in aligned lines.

    Args:
        root: directory of the set.
        surveyed: what it holds.
        faces: in how many frames faces were found.
    """
    about, seconds, sizes = surveyed.about, surveyed.seconds, surveyed.frame_bytes
    n_clips, n_rejected = about.n_clips, sum(about.rejected.values())
    rows = [
        ("split", about.split),
        ("clips", f"{n_clips:,}, of which {about.n_resampled:,} resampled"),
        _groups(surveyed),
        ("hours", f"{about.n_frames / about.fps / 3600:,.2f}"),
        ("clip length", f"{_range(seconds, '.1f')} s"),
        ("picture", f"{about.height} × {about.width}, {about.fps} frames a second, {about.stride} phases"),
        ("sound", f"{about.sample_rate:,} Hz, {about.n_samples / about.sample_rate / 3600:,.2f} hours"),
        ("stored", f"{about.n_bytes / 1e9:,.3f} GB in {len(about.shards):,} pairs of shards"),
        (
            "a clip",
            f"{about.n_bytes / n_clips / 1e6:.2f} MB, {about.n_bytes / seconds.sum() / 1e6:.3f} MB a second",
        ),
        ("a frame", f"{_range(sizes / 1e3, '.1f')} kB as JPEG ({surveyed.sampled} clips sampled)"),
        ("faces", faces),
        ("rejected", f"{n_rejected:,} ({n_rejected / (n_rejected + n_clips):.1%})"),
        *((f"  {reason}", f"{count:,}") for reason, count in about.rejected.items()),
        ("identity", about.fingerprint),
    ]
    width = max(len(name) for name, _ in rows) + 2
    return "\n".join([str(root), *(f"  {name:{width}}{value}" for name, value in rows)])


def _groups(surveyed: Survey) -> tuple[str, str]:
    if surveyed.about.layout == VOXCELEB2:
        return "speakers", f"{len(surveyed.speakers):,} in {len(surveyed.recordings):,} videos"
    return "groups", f"{len(surveyed.speakers):,}, by the first part of the clips' names"


def shared_speakers(surveys: dict[str, Survey]) -> str:
    """Counts the speakers that each pair of sets shares; two splits should share none."""
    roots = [root for root, surveyed in surveys.items() if surveyed.about.layout == VOXCELEB2]
    return "\n".join(
        f"speakers in both {first} and {second}: {len(surveys[first].speakers & surveys[second].speakers):,}"
        for number, first in enumerate(roots)
        for second in roots[number + 1 :]
    )


def _range(values: np.ndarray, form: str) -> str:
    if not len(values):
        return "unknown"
    low, high = np.percentile(values, [5, 95])
    return (
        f"mean {values.mean():{form}}, 5 % to 95 % {low:{form}}–{high:{form}}, at most {values.max():{form}}"
    )


def _verify(root: str, surveyed: Survey) -> int:
    """Verifies a set, prints its faults and returns their number."""
    begun = time.monotonic()
    with tqdm(desc=f"verifying {root}", unit="clip", total=surveyed.about.n_clips, smoothing=0.05) as bar:
        problems = inspection.verify(root, surveyed, FLAGS.workers, bar.update)
    print(f"\n{root}: {surveyed.about.n_clips:,} clips read in {time.monotonic() - begun:.1f} s, ", end="")
    print("all intact" if not problems else f"problems: {len(problems):,}")
    for problem in problems:
        print(f"  {problem}")
    return len(problems)


def _check_sheet(path: epath.Path) -> None:
    if path.suffix != ".png":
        raise ValueError(f"--sheet={path} does not end in .png")
    if path.exists():
        raise ValueError(f"--sheet={path} exists: delete it or give another name")
    if not path.parent.is_dir():
        raise ValueError(f"--sheet={path}: there is no directory {path.parent}")


def _write_sheet(file: str) -> None:
    import jax  # takes seconds to start

    from hicmae_jax.evaluation.contact_sheet import draw_samples, draw_sheet

    jax.config.update("jax_platforms", "cpu")  # leaves the TPU to a training run

    draw_sheet(*draw_samples(FLAGS.data, FLAGS.samples, FLAGS.seed)).savefig(file, dpi=80)
    print(f"\nsheet     {file}")


if __name__ == "__main__":
    command.run("inspect_data", define_flags, main)
