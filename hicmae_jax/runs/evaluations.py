"""The evaluations of a pre-training run: their clips, which are checked at once, and their intervals.

===========  ==================================================================================
`held_out`   losses and retrieval on held-out clips (`evaluation.held_out`)
`geometry`   of the features that `held_out` has computed (`evaluation.geometry`)
`picture`    rebuilt clips, in the directory `pictures` of the run (`evaluation.pictures`)
`probe`      emotions told from the features of a labelled set (`evaluation.probes`)
===========  ==================================================================================
"""

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax

from data_pipeline.format.clip_sampling import ClipSampling
from data_pipeline.format.finetune_sampling import FinetuneSampling
from data_pipeline.reading.fixed_clips import FixedClips
from data_pipeline.reading.shard_cache import ShardCache
from data_pipeline.reading.sources import ClipSource
from hicmae_jax.evaluation.geometry import Geometry
from hicmae_jax.evaluation.held_out import HeldOut
from hicmae_jax.evaluation.probe_clips import ProbeClips, probe_clips
from hicmae_jax.model.config import ExecutionConfig
from hicmae_jax.runs.capacity import check_scoring
from hicmae_jax.runs.loop import Evaluation
from hicmae_jax.runs.session import Session
from hicmae_jax.settings.pretrain import PretrainSettings

PICTURES = "pictures"
CLIPS_SHOWN = 2


class _Computed(NamedTuple):
    """How every evaluation is computed: the last arguments of each.

    Attributes:
        mesh: the devices.
        reading: a context manager to enter while a batch is read.
        execution: how the model is computed.
    """

    mesh: jax.sharding.Mesh
    reading: Callable[[], contextlib.AbstractContextManager[object]]
    execution: ExecutionConfig


class Evaluations:
    """The clips on which a run is evaluated, and what is computed of them.

    Args:
        config: settings of the run.
        cache: where shards of sets in buckets are put.

    Attributes:
        held_out: fingerprints of the held-out sets by directory.

    Raises:
        ValueError: the sets do not fit the settings, or the batch does not fit into memory.
        FileNotFoundError: a set is not there.
    """

    def __init__(self, config: PretrainSettings, cache: ShardCache | None = None) -> None:
        self._config = config
        self._cache = cache
        self._clips = self._fixed_clips(config.evaluation.clips)
        self._shown = self._fixed_clips(CLIPS_SHOWN) if config.evaluation.picture_every else None
        self._probed = _probed(config, cache)
        self.held_out: dict[str, str] = {}
        if self._clips is not None:
            check_scoring("evaluation.batch", self._clips.batch, config.model)
            self.held_out = fingerprints_of(self._clips.source)
        if self._probed is not None:
            check_scoring("evaluation.batch", self._probed.clips.batch, config.model)

    @property
    def fingerprints(self) -> dict[str, str]:
        """Directory → fingerprint of each set, which all hosts must share."""
        probed = {} if self._probed is None else {self._probed.root: self._probed.fingerprint}
        return {**self.held_out, **probed}

    @property
    def lines(self) -> Sequence[str]:
        """Lines to print before training, which say what is scored."""
        return () if self._probed is None else (f"probe       {self._probed.about}",)

    def of(self, session: Session, mesh: jax.sharding.Mesh) -> list[Evaluation]:
        """The evaluations, in their order.

        Args:
            session: the run; its logs are open.
            mesh: the devices of the run.
        """
        config, settings = self._config, self._config.evaluation
        # Each batch is a sign of life, however long the evaluation takes.
        computed = _Computed(mesh, functools.partial(session.watchdog.stage, "input"), config.execution)
        preprocess = config.held_out_preprocess
        found = []
        if self._clips is not None:
            negatives = config.loss.group_size or config.batch
            sets = self._clips.source.named_sets() if config.log.by_set and len(settings.sets) > 1 else None
            held_out = HeldOut(self._clips, preprocess, config.loss, negatives, *computed, sets=sets)
            collapse = functools.partial(session.events.note, "collapse")
            found += [
                Evaluation("held_out", settings.every, held_out),
                Evaluation("geometry", settings.every, Geometry(held_out, collapse)),
            ]
        # Imported where they are needed, so that other runs do not wait for scikit-learn and Matplotlib.
        if self._shown is not None:
            from hicmae_jax.evaluation.pictures import Pictures

            directory = session.directory / PICTURES
            draw = Pictures(directory, self._shown, preprocess, config.loss, session.is_first, *computed)
            found.append(Evaluation("picture", settings.picture_every, draw, takes_step=True))
        if self._probed is not None:
            from hicmae_jax.evaluation.probes import Probes

            score = Probes(self._probed, config.preprocess, *computed)
            found.append(Evaluation("probe", settings.probe_every, score))
        return found

    def _fixed_clips(self, count: int) -> FixedClips | None:
        """So many held-out clips; None without held-out sets."""
        config = self._config
        settings = config.evaluation
        if not settings.sets:
            return None
        sampling = ClipSampling(config.data.frames, config.data.stride)
        return FixedClips(settings.sets, sampling, settings.batch, count, config.data.threads, self._cache)


def fingerprints_of(source: ClipSource) -> dict[str, str]:
    """Directory → fingerprint of each prepared set of a source."""
    return {str(clips.root): clips.about.fingerprint for clips in source.sets}


def _probed(config: PretrainSettings, cache: ShardCache | None) -> ProbeClips | None:
    """The labelled clips; None without a labelled set."""
    settings = config.evaluation
    if not settings.labelled:
        return None
    return probe_clips(
        settings.labelled,
        settings.protocol,
        settings.labelled_clips,
        FinetuneSampling(config.data.frames, config.data.stride),
        settings.batch,
        config.data.threads,
        cache,
    )
