"""Scripts that train the runs of a study as jobs of a cluster: an array of Slurm, or JobSets of Kubernetes.

They are made from the templates for one run, whose texts the caller gives. Each job runs
`hicmae sweep --root=ROOT --only=NAME`. Branches wait for their trunks. Words between < and > are for the user
to fill in.
"""

import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from hicmae_jax.studies import template_text
from hicmae_jax.studies.plan import LOGS, PlannedRun, Study

_LONGEST_LABEL = 52
"""Letters of a JobSet's name, so that the names of its pods stay below Kubernetes' 63."""
_FIRST_SETTING = "#SBATCH --job-name=hicmae"
_SBATCH_OUTPUT = re.compile(r"^#SBATCH --output=.*\n", re.MULTILINE)
_ONE_RUN = re.compile(r"\A#!.*\n(#(?!SBATCH).*\n)+")
"""The first lines of a template, which say how to start one run."""
_RESTARTS = re.compile(r"\bmaxRestarts: \d+")
_MOST_RESTARTS = 100_000
"""Restarts of a branch's JobSet, which begins again and again while its trunk trains."""
_NAME, _ENVIRONMENT = "name of the run", "directory of the environment"


def only(root: Path, name: str) -> list[str]:
    """The command of one job, on every host of it."""
    return ["hicmae", "sweep", f"--root={root}", f"--only={name}", "--distributed"]


def slurm(root: Path, study: Study, template: str) -> str:
    """A shell script that submits one array of jobs for the runs, and one for the branches.

    A job of the second array starts when the whole first array has ended well. A job that Slurm takes away
    saves, ends with exit code 75 and is queued again.

    Args:
        root: directory of the study.
        study: its runs.
        template: a batch script of Slurm for one run, with marks around its command.

    Returns:
        Text of the script.

    Raises:
        ValueError: the template does not have the lines that are replaced.
    """
    first = [run for run in study.runs if run.trunk is None]
    branches = [run for run in study.runs if run.trunk is not None]
    lines = [
        "#!/usr/bin/env bash",
        "# Submits the runs of a study: bash THIS_FILE",
        "set -euo pipefail",
        f"cd {shlex.quote(str(Path.cwd()))}",
        f"mkdir -p {shlex.quote(str(root / LOGS))}",
        "",
        *_submission("first", _array(root, first, template), after=None),
    ]
    if branches:
        lines += ["", *_submission("branches", _array(root, branches, template), after="first")]
    return "\n".join(lines) + "\n"


def _submission(name: str, job: str, after: str | None) -> list[str]:
    wait = f' --dependency="afterok:${after}"' if after else ""
    return [
        f"{name}=$(sbatch --parsable{wait} <<'JOB'",
        job.rstrip("\n"),
        "JOB",
        ")",
        f'echo "{name}: ${name}"',
    ]


def _array(root: Path, runs: Sequence[PlannedRun], template: str) -> str:
    """The batch script of an array: that of one run with another command."""
    names = " ".join(shlex.quote(run.name) for run in runs)
    words = only(root, "")
    command = [
        f"runs=({names})",
        "command=(",
        f'  "<{_ENVIRONMENT}>/bin/{words[0]}" {words[1]}',
        f"  {shlex.quote(words[2])}",
        '  --only="${runs[$SLURM_ARRAY_TASK_ID]}"',
        *(f"  {word}" for word in words[4:]),
        ")",
    ]
    job = template_text.with_command(_ONE_RUN.sub("#!/usr/bin/env bash\n", template), command)
    job = template_text.inserted(job, _FIRST_SETTING, [f"#SBATCH --array=0-{len(runs) - 1}"])
    return _SBATCH_OUTPUT.sub(lambda _: f"#SBATCH --output={root / LOGS}/slurm-%A_%a.txt\n", job)


def jobsets(root: Path, study: Study, template: str) -> str:
    """JobSets in YAML, one for each run, after what they share.

    A branch's JobSet starts again until its trunk is finished: Kubernetes has no dependencies.

    Args:
        root: directory of the study.
        study: its runs.
        template: YAML whose last document is the JobSet of one run, with marks around its command.

    Returns:
        Text of the file.

    Raises:
        ValueError: the template does not have the lines that are replaced.
    """
    *shared, jobset = re.sub(r"\A(#.*\n)+", "", template).split("---\n")
    documents = [*shared, *(_jobset(root, run, number, jobset) for number, run in enumerate(study.runs))]
    return "# The runs of a study: kubectl apply -f THIS_FILE\n" + "---\n".join(documents)


def _jobset(root: Path, run: PlannedRun, number: int, template: str) -> str:
    # Names of Kubernetes allow small letters, digits and hyphens, so the number tells runs apart.
    label = re.sub(r"[^a-z0-9]+", "-", run.name.lower()).strip("-")
    name = f"r{number}-{label}"[:_LONGEST_LABEL].strip("-")
    command = f"command: {json.dumps(only(root, run.name))}"  # a list in JSON is one in YAML
    text = template_text.with_command(template_text.fill(template, {_NAME: name}), [command])
    mount = ["- name: study", "  mountPath: <directory of the study and the data>"]
    claim = ["- name: study", "  persistentVolumeClaim:", "    claimName: <claim>"]
    text = template_text.inserted(text, "volumeMounts:", [f"  {line}" for line in mount])
    text = template_text.inserted(text, "volumes:", [f"  {line}" for line in claim])
    note = f"run: {json.dumps(run.name)}"
    if "\n  annotations:\n" in text:
        text = template_text.inserted(text, "annotations:", [f"  {note}"])
    else:
        text = template_text.inserted(text, "metadata:", ["  annotations:", f"    {note}"])
    return text if run.trunk is None else _RESTARTS.sub(f"maxRestarts: {_MOST_RESTARTS}", text)
