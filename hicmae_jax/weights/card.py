"""The model card of a folder of exported weights: only what the run has recorded."""

import json
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, NamedTuple

from data_pipeline.corpora import protocols
from hicmae_jax.weights.card_text import ATTRIBUTION, HOW_TO_LOAD, IMPORTED, INTENDED_USE, TRAINED_HERE
from hicmae_jax.weights.trained import Trained

EPOCHS = ("last", "best")
RECIPE = ("finetune", "loss", "masks", "mixing", "optimizer", "tuning")
GENERAL = ("size", "seed", "batch", "epochs", "warmup_epochs", "steps", "warmup_steps", "accumulate")
"""Settings of these sections, and these general ones, are in the card."""


class Interval(NamedTuple):
    """The 95 % interval of a score, in the score's unit."""

    low: float
    high: float


class TestClips(NamedTuple):
    """The test clips of a fold, and the intervals of the scores of the exported checkpoint.

    Attributes:
        clips: number of clips.
        units: number of speakers or sessions, which the intervals resample.
        unit: `speaker` or `session`.
        intervals: name of a score → its interval.
    """

    clips: int
    units: int
    unit: str
    intervals: Mapping[str, Interval]


def run_name(trained: Trained) -> str:
    """The last two parts of the run's path, such as `crema_d/fold-1`: no other path of its machine."""
    path = PurePath(trained.origin.rpartition(", step ")[0] or trained.origin)
    parts = [part for part in path.parts if part not in ("/", "checkpoints")]
    return "/".join(parts[-2:])


def scored_epoch(trained: Trained) -> str:
    """Which of the scored epochs of its fold the checkpoint is: `last`, `best`, or "" for neither."""
    for epoch in EPOCHS:
        if trained.scores.get(epoch, {}).get("step") == trained.step and trained.step is not None:
            return epoch
    return ""


def scores_of(trained: Trained) -> dict[str, float]:
    """The scores of the exported checkpoint on the test clips of its fold; none if they are not recorded."""
    epoch = scored_epoch(trained)
    found = trained.scores[epoch] if epoch else {}
    return {
        name: value for name, value in found.items() if name not in ("step", "epoch") and value is not None
    }


def model_card(trained: Trained, parameters: int, test: TestClips | None = None) -> str:
    """Write `README.md`: YAML for the Hugging Face Hub, then what the model is and how it was trained.

    Args:
        trained: the model.
        parameters: number of its parameters.
        test: the test clips of its fold, if it has scores.
    """
    kind = "pre-training" if trained.finetune is None else "fine-tuned"
    sections = [
        _front_matter(trained),
        f"# HiCMAE, {kind}: {run_name(trained)}\n\n{_summary(trained, parameters)}",
        f"## Architecture\n\n{_architecture(trained, parameters)}",
        f"## Data\n\n{_data(trained)}",
    ]
    if scores_of(trained):
        sections.append(f"## Scores\n\n{_scores(trained, test)}")
    if trained.values and not trained.is_import:
        sections.append(f"## Recipe\n\nAs the run has recorded it.\n\n{_recipe(trained.values)}")
    origin = IMPORTED if trained.is_import else TRAINED_HERE
    sections += [INTENDED_USE, HOW_TO_LOAD[trained.finetune is not None], ATTRIBUTION + origin]
    return "\n\n".join(section.strip() for section in sections) + "\n"


def _front_matter(trained: Trained) -> str:
    tags = ["hicmae", "audio-visual", "emotion-recognition", "masked-autoencoder", "arxiv:2401.05698"]
    about: dict[str, Any] = {
        "license": "other" if trained.imported else "apache-2.0",
        "library_name": "transformers",
        "tags": [*tags, "custom_code"],
        "datasets": _datasets(trained),
        "metrics": [*scores_of(trained)],
    }
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in about.items() if value]
    return "\n".join(["---", *lines, "---"])


def _datasets(trained: Trained) -> list[str]:
    if trained.is_import:
        return []
    if "data.protocol" in trained.values:
        names = (trained.values["data.protocol"], *trained.values["data.other_protocols"])
        return [*dict.fromkeys(protocols.protocol(name).dataset for name in names)]
    return [PurePath(name).name for name in trained.values.get("data.sets", ())]


def _summary(trained: Trained, parameters: int) -> str:
    what = f"{parameters / 1e6:.2f} million parameters, float32"
    step = "" if trained.step is None or trained.is_import else f", after {trained.step:,} updates"
    if trained.finetune is None:
        return f"The pre-training model of HiCMAE: encoders, fusion encoder and decoders; {what}{step}."
    outputs = "dimensions" if trained.regression else "classes"
    labels = ", ".join(trained.labels)
    return (
        f"A fine-tuned model of HiCMAE for {len(trained.labels)} {outputs}: {labels}. It takes "
        f"{trained.finetune.modality} clips; {what}{step}."
    )


def _architecture(trained: Trained, parameters: int) -> str:
    model = trained.model
    rows = {
        "parameters": f"{parameters:,}",
        "encoders": f"{model.encoder_depth} layers, width {model.encoder_dim}, {model.encoder_heads} heads",
        "fusion encoder": f"{model.fusion_depth} layers each way, information flow {model.fusion_flow}",
        "video": f"{model.frames} frames {model.image_size} × {model.image_size}, {trained.stride} frames "
        f"apart at 25 a second; tubelets {model.tubelet} × {model.patch} × {model.patch}",
        "sound": f"16 kHz mono; log-mel {model.audio_frames} × {model.audio_bins}; patches {model.patch} × "
        f"{model.patch}",
    }
    if trained.finetune is None:
        rows["decoders"] = (
            f"{model.decoder_depth} layers, width {model.decoder_dim}, {model.decoder_heads} heads"
        )
        rows["contrast at layers"] = ", ".join(map(str, model.skip_layers))
    else:
        rows["feature fusion over layers"] = "yes" if trained.finetune.feature_fusion else "no"
    return _table(("part", ""), rows)


def _data(trained: Trained) -> str:
    origin = f"weights of another program, a file of SHA-256 `{trained.imported}`"
    if trained.is_import:
        return f"These are {origin}. Neither their data nor their recipe are recorded here."
    if not trained.values:
        return "The data are not recorded with these weights."
    lines = [f"- training began with {origin}, whose terms apply too"] if trained.imported else []
    lines += [
        f"- `{PurePath(name).name}`"
        + (f", fingerprint `{trained.data[name]}`" if name in trained.data else "")
        for name in trained.values["data.sets"]
    ]
    if "data.protocol" in trained.values:
        protocol = protocols.protocol(trained.values["data.protocol"])
        part = "test part"
        if protocol.held_out_test:
            part = "validation part; the data set has a test part of its own"
        lines += [
            f"- protocol `{protocol.name}` of {protocol.dataset}; source and terms: {protocol.reference}",
            f"- **fold {trained.values['data.fold']}** of {protocol.folds} is the {part}",
            f"- {100 * trained.values['data.labels_share']:g} % of the labels of the training part were used",
        ]
        weights = PurePath(trained.values["initial.weights"])
        began = f"weights of `{'/'.join(weights.parts[-2:])}`" if weights.parts else "random weights"
        lines.append(f"- training began with {began}")
    return "\n".join(lines)


def _scores(trained: Trained, test: TestClips | None) -> str:
    epoch, fold = scored_epoch(trained), trained.scores.get("fold")
    same = len({trained.scores.get(name, {}).get("step") for name in EPOCHS}) == 1
    chosen = trained.scores.get("selection", "in a way that is not recorded")
    which = {
        "last": "the last epoch, which no score has chosen",
        "best": f"the best epoch, chosen {chosen}",
    }[epoch]
    if same:
        which = f"the last epoch, which is also the best, chosen {chosen}"
    lines = [f"Scored: the test clips of fold {fold} of `{trained.scores.get('protocol')}`"]
    if test is not None:
        lines[0] += f", {test.clips:,} clips of {test.units:,} {test.unit}s"
    lines[0] += f". The checkpoint is {which}."
    intervals = {} if test is None else test.intervals
    if intervals:
        lines.append(
            f"Intervals of 95 % resample {test.unit if test else ''}s of the test part; they do not cover "
            "other training runs."
        )
    rows = {
        name: f"{value:.2f}"
        + (f" [{intervals[name].low:.2f}, {intervals[name].high:.2f}]" if name in intervals else "")
        for name, value in scores_of(trained).items()
    }
    notes = [
        *trained.scores.get("flags", ()),
        *(f"left out: {n}" for n in trained.scores.get("left_out", ())),
    ]
    return "\n\n".join([" ".join(lines), _table(("score", "value"), rows), *notes])


def _recipe(values: Mapping[str, Any]) -> str:
    rows = {
        f"`{name}`": _plain(values[name])
        for name in (*GENERAL, *sorted(values))
        if values.get(name) is not None and (name in GENERAL or name.split(".")[0] in RECIPE)
    }
    return _table(("setting", "value"), rows)


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _table(heads: tuple[str, str], rows: Mapping[str, str]) -> str:
    lines = [f"| {heads[0]} | {heads[1]} |", "|---|---|"]
    return "\n".join([*lines, *(f"| {name} | {value} |" for name, value in rows.items())])


def results(trained: Trained, test: TestClips | None = None) -> str:
    """Write `eval_results.yaml`: a list with the fields of Hugging Face's evaluation results.

    Hugging Face reads such lists from `.eval_results/` and asks for data sets that it knows as benchmarks.
    These are not, so the file lies beside the card.

    Returns:
        YAML; "" if the checkpoint has no scores.
    """
    fold, intervals = trained.scores.get("fold"), {} if test is None else test.intervals
    entries = []
    for name, value in scores_of(trained).items():
        notes = f"{name}, fold {fold}, {scored_epoch(trained)} epoch, checkpoint of step {trained.step}"
        if name in intervals:
            notes += f", 95 % interval {intervals[name].low:.2f} to {intervals[name].high:.2f}"
        task = {"id": trained.scores.get("protocol"), "task_id": name}
        entries.append(
            f"- dataset: {json.dumps(task)}\n  value: {json.dumps(value)}\n  notes: {json.dumps(notes)}\n"
        )
    return "".join(entries)
