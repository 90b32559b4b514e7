"""Computing the goldens of fine-tuning clips: frames and sound, augmentation, mixing."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from data_pipeline.format.finetune_sampling import FinetuneSampling, UnusableSpanError
from data_pipeline.reading.randaugment import Operation, apply
from hicmae_jax.model.tokens import PIXEL_MEAN, PIXEL_STD
from hicmae_jax.preprocessing.mixing import MixDraw, kept_share, mix_group, pasted_box, smooth
from hicmae_jax.preprocessing.video import crop_resize
from tests.goldens import finetune_recipe, recipe
from tests.support.golden_cases import Golden
from tests.support.golden_compare import Comparison


def audio_span(sampling: FinetuneSampling, first: int, n_frames: int, n_samples: int) -> tuple[int, int]:
    """The span as the golden file writes it: (-1, -1) where the published code stops."""
    try:
        return sampling.audio_span(first, n_frames, n_samples)
    except UnusableSpanError:
        return -1, -1


def clips(golden: Golden) -> Iterator[Comparison]:
    """Frames and sound of training clips and of both views in evaluation."""
    count, stored = golden.config["frames"], golden.arrays
    frames, sounds = [], []
    for n, stride, start, samples in stored["train"].tolist():
        sampling = FinetuneSampling(frames=count, stride=stride)
        frames.append(sampling.train_frames(max(start, 0), n))
        sounds.append(audio_span(sampling, frames[-1][0], n, samples))
    yield "train_frames", stored["train_frames"], np.array(frames)
    yield "train_audio", stored["train_audio"], np.array(sounds)
    frames, sounds = [], []
    for n, stride, samples in stored["evaluation"].tolist():
        sampling = FinetuneSampling(frames=count, stride=stride)
        views = [sampling.view_frames(n, view) for view in range(golden.config["views"])]
        frames.append(views)
        sounds.append([audio_span(sampling, view[0], n, samples) for view in views])
    yield "evaluation_frames", stored["evaluation_frames"], np.array(frames)
    yield "evaluation_audio", stored["evaluation_audio"], np.array(sounds)


def operation_names(golden: Golden) -> list[str]:
    """The published operations of RandAugment by this project's names, in the published order."""
    return [name.removesuffix("Increasing").removesuffix("Rel") for name in golden.config["operations"]]


def augmentation(golden: Golden) -> Iterator[Comparison]:
    """Every operation of RandAugment, and crops of normalised frames."""
    config, size = golden.config, golden.config["crop_size"]
    frames = recipe.video(config["seed"], 1, 2, config["size"])[0]
    made = [
        [
            [apply(frames, [Operation(name, magnitude, sign)]) for sign in (1, -1)]
            for magnitude in config["magnitudes"]
        ]
        for name in operation_names(golden)
    ]
    yield "operations", golden.arrays["operations"], np.array(made)
    boxes = golden.arrays["crop_boxes_y_x_h_w"][:, [1, 0, 3, 2]].astype(np.int32)
    frames = recipe.video(config["seed"] + 1, 1, 2, size).repeat(len(boxes), 0)
    yield "crops", golden.arrays["crops"], _normalised(np.asarray(crop_resize(frames, boxes, size)) / 255)


def _normalised(video: np.ndarray) -> np.ndarray:
    return (video - np.float32(PIXEL_MEAN)) / np.float32(PIXEL_STD)


def mixing(golden: Golden) -> Iterator[Comparison]:
    """Mixed clips and labels of given draws, and the boxes of many draws."""
    config, stored = golden.config, golden.arrays
    batch, classes = config["batch"], config["classes"]
    video = recipe.video(config["seed"], batch, config["frames"], config["size"]).astype(np.float32) / 255
    labels = np.eye(classes, dtype=np.float32)[finetune_recipe.labels(config["seed"] + 1, batch, classes)]
    targets = smooth(jnp.array(labels), config["smoothing"])
    for number, case in enumerate(config["cases"]):
        centre = case["centre_y_x"] or [0, 0]
        draw = MixDraw(jnp.bool_(case["kind"] == "cutmix"), jnp.float32(case["lambda"]), jnp.array(centre))
        mixed, mixed_targets = mix_group(video, targets, draw)
        yield f"case{number}_video", stored[f"case{number}_video"], _normalised(np.asarray(mixed))
        yield f"case{number}_target", stored[f"case{number}_target"], np.asarray(mixed_targets)
    side = config["box_size"]
    share, y, x = stored["box_draws"].T
    centres = np.stack([y, x], -1).astype(np.int32)
    boxes = jax.vmap(lambda share, centre: pasted_box(share, centre, side, side))(
        share.astype(np.float32), centres
    )
    yield "boxes", stored["boxes"], np.asarray(boxes)
    kept = jax.vmap(lambda box: kept_share(box, side, side))(boxes)
    yield "box_lambda", stored["box_lambda"], np.asarray(kept)
