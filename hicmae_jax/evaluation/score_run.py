"""Scores and pictures of a run, written into a directory."""

import dataclasses
import json
from collections.abc import Sequence

from etils import epath

from data_pipeline.format.clip_sampling import ClipSampling
from data_pipeline.reading.fixed_clips import FixedClips
from hicmae_jax.checkpoints import load as checkpoints
from hicmae_jax.evaluation import report
from hicmae_jax.evaluation.figures.curves import draw_curves
from hicmae_jax.evaluation.figures.reconstructions import draw_reconstructions
from hicmae_jax.evaluation.figures.retrieval import draw_retrieval
from hicmae_jax.logs import metrics
from hicmae_jax.model.initialise import initial_parameters
from hicmae_jax.settings import recorded as recorded_config

SCORES, CURVES = "scores.json", "curves.png"
RECONSTRUCTIONS, RETRIEVAL = "reconstructions.png", "retrieval.png"
CLIPS_SHOWN = 2


def score_run(
    run: str, step: int | None, data: Sequence[str], count: int, batch: int, output: epath.Path
) -> None:
    """Score a run, write scores and pictures, and print tables.

    Args:
        run: directory of the run.
        step: step of the checkpoint; None for the last.
        data: directories of prepared sets.
        count: number of clips.
        batch: number of clips computed at a time.
        output: directory to write to.

    Raises:
        FileNotFoundError: no such run, checkpoint or prepared set.
        FileExistsError: one of the files to write exists, or `output` is a file.
        OSError: no clip can be read.
        ValueError: a checkpoint or a set is damaged, or parameters are not finite.
    """
    for name in (SCORES, RECONSTRUCTIONS, RETRIEVAL, CURVES):
        if (output / name).exists():
            raise FileExistsError(f"{output / name} exists: delete it or give another --output")
    if output.exists() and not output.is_dir():
        raise FileExistsError(f"--output={output} is not a directory: give another one")
    step = checkpoints.find_step(run, step)  # a run in training may save another while this reads
    params, record = checkpoints.load_parameters(run, step)
    config = recorded_config.load(record["config"], "cpu")
    execution = dataclasses.replace(config.execution, dtype="float32")
    sampling = ClipSampling(config.data.frames, config.data.stride)
    clips = FixedClips(data, sampling, min(batch, count), count)

    untrained = initial_parameters(config.model, config.masks, config.seed, execution)
    contenders = {report.TRAINED: params, report.UNTRAINED: untrained}
    scores = report.score(contenders, clips, config.preprocess, config.loss, execution)
    shown = FixedClips(data, sampling, CLIPS_SHOWN, CLIPS_SHOWN)
    blocks = report.picture_blocks(contenders, shown, CLIPS_SHOWN, config.preprocess, config.loss, execution)
    recalls = {
        name: {layer: by_direction["mean"] for layer, by_direction in by_layer.items()}
        for name, by_layer in scores.retrieval.items()
    }

    output.mkdir(parents=True, exist_ok=True)
    title = "Held-out clips rebuilt from their visible tokens"
    draw_reconstructions(blocks, title).savefig(output / RECONSTRUCTIONS, dpi=80)
    draw_retrieval(recalls, scores.clips).savefig(output / RETRIEVAL, dpi=100)
    if (epath.Path(run) / metrics.FILE).exists():
        draw_curves(metrics.read_metrics(run)).savefig(output / CURVES, dpi=100)
    about = {"run": str(run), "step": step, "data": list(data), "left_out": sorted(clips.broken.values())}
    (output / SCORES).write_text(json.dumps(about | scores.to_dict(), indent=1) + "\n")
    print(scores.as_text())
    for line in clips.broken.values():
        print(f"left out  {line}")
    print(f"wrote     {output}")
