"""Small labelled sets whose emotions a tiny model can learn: brightness and loudness follow the class."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import simplejpeg
from array_record.python.array_record_module import ArrayRecordWriter

from configs import finetune
from data_pipeline.corpora.protocols import protocol as protocol_of
from data_pipeline.format import records
from data_pipeline.format.labelled_record import encode_clip
from data_pipeline.format.labelled_set import (
    CLIPS,
    LABELLED,
    LabelledClip,
    LabelledSet,
    LabelledShard,
    clip_line,
    read_labelled_set,
    shard_file,
)
from hicmae_jax.checkpoints.best import BestBy
from hicmae_jax.checkpoints.manager import Checkpoints
from hicmae_jax.model.initialise import finetune_initialiser
from hicmae_jax.settings import finetune as settings
from hicmae_jax.settings.finetune import FinetuneSettings
from tests.support import tiny_model

SIDE = 32
CLASSES = ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")
MODEL = tiny_model.model_config(audio_bins=128)


def write_labelled_set(
    root: Path,
    n_clips: int = 48,
    speakers: int = 8,
    frames: int = 20,
    scrambled: tuple[int, ...] = (),
    dataset: str = "made_up",
    classes: tuple[str, ...] = CLASSES,
    name: str = "clip",
) -> Path:
    """Write a set of two shards; the clips in `scrambled` have frames that are no JPEGs.

    Clip c has the class c modulo the number of classes; its speaker says one sentence of each class.
    """
    shards, clips = [], []
    for index, members in enumerate(np.array_split(np.arange(n_clips), 2)):
        path = shard_file(dataset, index, 2)
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        writer = ArrayRecordWriter(str(root / path), records.ARRAY_RECORD_OPTIONS)
        for c in members.tolist():
            rng = np.random.default_rng(c)
            kind = c % len(classes)
            shape = (SIDE, SIDE, 3)
            pictures = [(40 * kind + rng.integers(0, 16, shape)).astype(np.uint8) for _ in range(frames)]
            jpegs = [simplejpeg.encode_jpeg(np.ascontiguousarray(picture)) for picture in pictures]
            if c in scrambled:
                jpegs = [jpeg[::-1] for jpeg in jpegs]
            loud = 100 * 3**kind
            sound = np.clip(rng.normal(size=640 * frames) * loud, -32_000, 32_000).astype(np.int16)
            title = f"{name}{c:03}"
            writer.write(encode_clip(title, jpegs, sound, height=SIDE, width=SIDE, sample_rate=16_000))
            speaker = f"s{c * speakers // n_clips:02}"
            labels = {"emotion": classes[kind]}
            clips.append(LabelledClip(title, frames, len(sound), speaker, labels, {}))
        writer.close()
        shards.append(LabelledShard(path, len(members)))
    about = LabelledSet(
        dataset, n_clips, SIDE, SIDE, 16_000, {}, f"{dataset}{n_clips}", tuple(shards), tuple(clips)
    )
    (root / CLIPS).write_text("".join(map(clip_line, clips)))
    (root / LABELLED).write_text(about.to_json())
    return root


def write_run(root: Path, run: FinetuneSettings, steps: tuple[int, ...] = (3,), best: int = 3) -> Path:
    """Write checkpoints of a fold that was not trained; the step is the seed of the parameters."""
    data = {name: read_labelled_set(name).fingerprint for name in run.data.sets}
    record = {"config": run.to_dict(), "versions": {}, "data": data}
    with Checkpoints(root, keep=9, best=BestBy("validation/WAR")) as checkpoints:
        for step in steps:
            scores = {"validation/WAR": 50.0 + (step == best)}
            checkpoints.save(step, {"params": parameters(run, step), "step": np.int32(step)}, record, scores)
    return root


def parameters(run: FinetuneSettings, seed: int) -> Any:
    outputs = protocol_of(run.data.protocol).n_outputs
    initialise = finetune_initialiser(run.model, run.for_outputs(outputs), run.execution)
    return tiny_model.random_like(jax.eval_shape(initialise, jax.random.key(0)), seed)


def config(data: Path, protocol: str = "made_up", **changes) -> FinetuneSettings:
    """Settings of a run of the tiny model on one fold; `a__b` in the changes stands for `a.b`."""
    recipe = finetune.get_config(f"{protocol},runlocal")
    recipe.data.sets = (str(data),)
    recipe.data.stride = 2
    recipe.data.threads = 1
    for name in ("image_size", "frames", "audio_frames", "encoder_dim", "encoder_heads", "encoder_depth"):
        recipe.model[name] = getattr(MODEL, name)
    recipe.model.fusion_depth = 1
    recipe.execution.remat_encoder = "none"
    for name, value in changes.items():
        section, _, key = name.rpartition("__")
        (recipe[section] if section else recipe)[key] = value
    return settings.from_config_dict(recipe, "cpu")
