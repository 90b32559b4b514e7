"""Train many runs that differ in some settings: a grid, a table, or several lengths of each.

    python -m launch.sweep --root=studies/sizes --config=pretrain:B --config.data.sets=prepared/dev \
        --config.evaluation.sets=prepared/test --grid=size=T,S,B --grid=seed=0,1 --budgets=25,50,100

`--dry_run` prints what every run costs and starts nothing. The same command goes on after an interruption:
finished runs are skipped, and runs that have failed are tried again. `python -m launch.report --study=ROOT`
writes the report.

`--budgets` makes runs of several lengths that branch off one long run (see `hicmae_jax.studies.budgets`). On
a cluster, `--slurm=FILE` or `--jobset=FILE` writes a script that trains each run as a job of its own.
"""

import functools
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from absl import flags
from etils import epath

from data_pipeline.common.errors import CommandError
from data_pipeline.format.prepared_set import read_prepared_set
from data_pipeline.reading.clip_share import clips_of_share
from hicmae_jax.runs.in_use import Hold
from hicmae_jax.settings import pretrain as run_config
from hicmae_jax.settings.pretrain import PretrainSettings
from hicmae_jax.studies import attempts, budgets, cluster_files, grid, plan, price
from hicmae_jax.studies.plan import PlannedRun, Study
from hicmae_jax.studies.sweep import Sweep, command_of
from launch import command, config_flag, sweep_memory, template

FLAGS = flags.FLAGS
_WORD = re.compile(r"--?config(?:\.(?P<key>[^=]*))?(?:=(?P<value>.*))?", re.DOTALL)
_OFF = re.compile(r"--?noconfig\.(?P<key>[^=]*)")
TRY_AGAIN = 75
"""Exit code of a run that cannot go on now, as that of a run that was stopped by SIGTERM."""
_given: dict[str, str] = {}
"""Settings on the command line, for all runs; `config` is the recipe."""


def define_flags() -> None:
    """Declare the flags; not at import, because other commands have flags of the same names."""
    flags.DEFINE_string("root", None, "Directory of the study: new, or one to go on with.", required=True)
    flags.DEFINE_multi_string("grid", [], "A setting and its values, such as size=T,S,B; can be given again.")
    flags.DEFINE_string("table", None, "CSV file whose columns are settings and whose lines are runs.")
    flags.DEFINE_list("budgets", None, "Lengths, in the recipe's unit (epochs or steps), that branch off.")
    flags.DEFINE_integer("least_decay", 100, "Least steps of a decay of --budgets.", lower_bound=1)
    flags.DEFINE_integer("jobs", 1, "Runs to train at a time on this machine.", lower_bound=1)
    flags.DEFINE_integer("retries", 1, "How often a run that fails is tried again.", lower_bound=0)
    flags.DEFINE_bool("dry_run", False, "Print what the runs cost, and start nothing.")
    flags.DEFINE_string("topology", "", "With --dry_run: chips, such as v5e:16x16 or h200:2x8.")
    flags.DEFINE_float("mfu", price.MFU, "With --topology: share of the peak rate.", 0.001, 1)
    flags.DEFINE_bool("fit", True, "With --topology: compile each step to see whether it fits.")
    flags.DEFINE_integer(
        "clips", None, "With --dry_run: clips of data that are not there yet.", lower_bound=1
    )
    flags.DEFINE_string("slurm", None, "Write a Slurm script to this file, and start nothing.")
    flags.DEFINE_string("jobset", None, "Write JobSets for Kubernetes to this file, and start nothing.")
    flags.DEFINE_enum("jobset_for", "gpu", ["gpu", "tpu"], "Devices of --jobset.")
    flags.DEFINE_string("only", None, "Train only this run, in this process; for jobs of a cluster.")
    flags.DEFINE_bool("distributed", False, "With --only: this is one of several processes, see `pretrain`.")


def parse(argv: list[str]) -> list[str]:
    """Parse the command line; the recipe and its changes stay words, for the commands of the runs."""
    rest, words = [], iter(argv)
    for word in words:
        if word in ("--config", "-config"):
            word = f"--config={next(words, '')}"
        if found := _WORD.fullmatch(word):
            _given[found["key"] or grid.CONFIG] = "True" if found["value"] is None else found["value"]
        elif found := _OFF.fullmatch(word):
            _given[found["key"]] = "False"
        else:
            rest.append(word)
    return command.parse_flags(rest)


def main(argv: list[str]) -> int:
    """Plan the study and train its runs; return the exit code, 1 if a run is not finished."""
    del argv
    root = Path(FLAGS.root)
    if FLAGS.only is not None:
        return _train_one(root, FLAGS.only)
    study, configs = make_study()
    if FLAGS.dry_run:
        print_prices(study, configs)
        return 0
    written = [path for path in (FLAGS.slurm, FLAGS.jobset) if path]
    for path in written:
        if not Path(path).absolute().parent.is_dir():
            raise ValueError(f"{path} cannot be written: there is no directory {Path(path).parent}")
    plan.write(root, study)
    attempts.check_runs_are_planned(root, study)
    for path, text in _cluster_files(root, study).items():
        Path(path).write_text(text, encoding="utf-8")
        print(f"written     {path}: {len(study.runs)} jobs; fill in what is between < and >")
    return 0 if written else _train(root, study, configs)


def _cluster_files(root: Path, study: Study) -> dict[str, str]:
    """The scripts for a cluster that were asked for, by the file to write them to."""
    texts = {}
    if FLAGS.slurm:
        texts[FLAGS.slurm] = cluster_files.slurm(root, study, template.read("slurm.sh"))
    if FLAGS.jobset:
        jobset = template.read(f"gke_{FLAGS.jobset_for}.yaml")
        texts[FLAGS.jobset] = cluster_files.jobsets(root, study, jobset)
    return texts


def _train(root: Path, study: Study, configs: Mapping[str, PretrainSettings]) -> int:
    with Hold(root):
        work = {run.name: price.price(run, configs[run.name]).flops for run in study.runs}
        sweep = Sweep(root, study, FLAGS.jobs, FLAGS.retries, work)
        print(f"study       {len(study.runs)} runs in {root}, {len(sweep.finished())} finished before")
        sweep.run()
        problems = sweep.problems()
    if problems:
        print("\n".join(problems), file=sys.stderr)
        unfinished = f"{len(problems)} of {len(study.runs)} runs are not finished"
        raise CommandError(f"{unfinished}; run the same command again to go on", 1)
    print(f"finished    all {len(study.runs)} runs; python -m launch.report --study={root}")
    return 0


def _train_one(root: Path, name: str) -> int:
    """Become the command of one run."""
    study = plan.read(root)
    runs = {run.name: run for run in study.runs}
    if name not in runs:
        raise ValueError(f"--only={name}: {root} has no such run")
    if attempts.is_finished(plan.directory_of(root, name)):
        print(f"finished    already: {name}")
        return 0
    trunk = runs[name].trunk
    if trunk is not None and not attempts.is_finished(plan.directory_of(root, trunk)):
        raise CommandError(f"{name} waits for {trunk}; run the same command again later", TRY_AGAIN)
    words = [*command_of(root, study, runs[name]), *["--distributed"] * FLAGS.distributed]
    sys.stdout.flush()
    os.execv(words[0], words)


def make_study() -> tuple[Study, dict[str, PretrainSettings]]:
    """Plan the runs that the flags describe, and check their settings.

    Returns:
        The study, and the settings of each run by its name.

    Raises:
        ValueError: one line: no recipe, an unknown setting, runs that are alike, or impossible settings.
        OSError: the table or a prepared set cannot be read.
    """
    if grid.CONFIG not in _given and not any(word.startswith("config=") for word in FLAGS.grid):
        raise ValueError("--config is missing: name a recipe or a file, such as --config=pretrain:B")
    known = run_config.settings()
    points = grid.combinations(grid.axes(FLAGS.grid, known))
    if FLAGS.table:
        points = grid.combined(grid.table(Path(FLAGS.table), known), points)
    runs: list[PlannedRun] = []
    for point in points:
        runs += _runs_of(PlannedRun(grid.name_of(point), grid.settings_of(point)))
    study = Study(tuple(runs), dict(_given))
    configs = {run.name: settings(run, _platform()) for run in study.runs}
    _check_different(configs)
    return study, configs


def _check_different(configs: Mapping[str, PretrainSettings]) -> None:
    """Refuse two runs that are the same, however their settings were typed."""
    found: dict[str, str] = {}
    for name, config in configs.items():
        values = json.dumps(config.to_dict(), sort_keys=True)
        if values in found:
            raise ValueError(f"{name} and {found[values]} have the same settings: remove one")
        found[values] = name


def _platform() -> str:
    """The platform for which settings that are `auto` are chosen; the runs choose for themselves."""
    from hicmae_jax.aot import topology

    return topology.platform(FLAGS.topology) if FLAGS.topology else "cpu"


def _runs_of(run: PlannedRun) -> list[PlannedRun]:
    """The runs of a point of the grid: one, or one for each budget."""
    config = settings(run)
    unit = "epochs" if config.general.steps is None else "steps"
    per_epoch = _clips_of(config.data.data, config.data.share) // config.batch if unit == "epochs" else 1
    if not per_epoch:
        raise ValueError(f"{run.name}: the data have fewer clips than a batch of {config.batch}")
    optimizer = config.optimizer_config(per_epoch)
    if FLAGS.budgets is None:
        return [PlannedRun(run.name, run.settings, config.total_steps(per_epoch))]
    given = budgets.parse(FLAGS.budgets)
    lengths = budgets.Lengths(
        setting=unit,
        budgets=given,
        steps=tuple(budget * per_epoch for budget in given),
        warmup=optimizer.warmup_steps,
        share=optimizer.decay_share,
        least=FLAGS.least_decay,
    )
    return budgets.branch_off(run, lengths)


def settings(run: PlannedRun, platform: str = "cpu") -> PretrainSettings:
    """The settings of a run.

    Args:
        run: the run.
        platform: see `chips.platform`.

    Raises:
        ValueError: one line that begins with the name of the run.
    """
    values = {**_given, **run.settings}
    words = [f"--config{'' if name == grid.CONFIG else f'.{name}'}={value}" for name, value in values.items()]
    flag_values = flags.FlagValues()
    try:
        config_flag.parse(["sweep", *words], flag_values)
        return run_config.from_config_dict(flag_values.config, platform)
    except ValueError as error:
        raise ValueError(f"{run.name}: {error}") from None


@functools.cache
def _clips_of(sets: Sequence[str], share: float) -> int:
    """Number of clips of prepared sets that a run trains on."""
    if FLAGS.dry_run and FLAGS.clips:
        return clips_of_share(FLAGS.clips, share)
    return sum(clips_of_share(read_prepared_set(epath.Path(name)).n_clips, share) for name in sets)


def print_prices(study: Study, configs: Mapping[str, PretrainSettings]) -> None:
    """Print what every run of a study costs."""
    topology = FLAGS.topology
    chip = price.chip_of(topology) if topology else None
    host = price.host_chips(topology) if topology else 1
    fits = sweep_memory.fits(list(configs.values()), topology) if topology and FLAGS.fit else {}
    prices = {
        run.name: price.price(
            run, configs[run.name], chip, host, FLAGS.mfu, fits.get(sweep_memory.key(configs[run.name]), "")
        )
        for run in study.runs
    }
    for line in price.table(study.runs, prices, topology, FLAGS.mfu):
        print(line)


if __name__ == "__main__":
    command.run("sweep", define_flags, main, parse=parse, resumable=True)
