"""Scripts that train the runs of a study as jobs of a cluster: an array of Slurm, or JobSets of Kubernetes.

Each job runs `python -m launch.sweep --root=ROOT --only=NAME`. Branches wait for their trunks. Words between
< and > are for the user to fill in.
"""

import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from hicmae_jax.studies.plan import LOGS, PlannedRun, Study

_HOURS = 24
_LONGEST_LABEL = 52
"""Letters of a JobSet's name, so that the names of its pods stay below Kubernetes' 63."""


def only(root: Path, name: str) -> list[str]:
    """The command of one job, on every host of it."""
    return ["python", "-m", "launch.sweep", f"--root={root}", f"--only={name}"]


def slurm(root: Path, study: Study) -> str:
    """A shell script that submits one array of jobs for the runs, and one for the branches.

    A job of the second array starts when the whole first array has ended well. A job that Slurm takes away
    saves, ends with exit code 75 and is queued again.
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
        *_array("first", root, first, after=None),
    ]
    if branches:
        lines += ["", *_array("branches", root, branches, after="first")]
    return "\n".join(lines) + "\n"


def _array(name: str, root: Path, runs: Sequence[PlannedRun], after: str | None) -> list[str]:
    names = " ".join(shlex.quote(run.name) for run in runs)
    wait = f' --dependency="afterok:${after}"' if after else ""
    job = [
        "#!/usr/bin/env bash",
        f"#SBATCH --array=0-{len(runs) - 1}",
        "#SBATCH --nodes=<hosts of a run>",
        "#SBATCH --ntasks-per-node=1",
        "#SBATCH --gpus-per-node=<GPUs of a host>",
        f"#SBATCH --time={_HOURS}:00:00",
        "#SBATCH --requeue --signal=TERM@120",
        f"#SBATCH --output={root / LOGS}/slurm-%A_%a.txt",
        f"runs=({names})",
        f"srun python -m launch.sweep --root={shlex.quote(str(root))} "
        '--only="${runs[$SLURM_ARRAY_TASK_ID]}" && exit 0',
        "code=$?",
        # 75: the run has saved and wants to go on.
        '[ "$code" -eq 75 ] && scontrol requeue "$SLURM_ARRAY_JOB_ID"_"$SLURM_ARRAY_TASK_ID"',
        'exit "$code"',
    ]
    return [f"{name}=$(sbatch --parsable{wait} <<'JOB'", *job, "JOB", ")", f'echo "{name}: ${name}"']


def jobsets(root: Path, study: Study) -> str:
    """JobSets in YAML, one for each run.

    A branch's JobSet fails and is restarted until its trunk is finished: Kubernetes has no dependencies.
    """
    names: dict[str, str] = {}
    for number, run in enumerate(study.runs):
        # Names of Kubernetes allow small letters, digits and hyphens, so the number tells runs apart.
        label = re.sub(r"[^a-z0-9]+", "-", run.name.lower()).strip("-")
        names[run.name] = f"r{number}-{label}"[:_LONGEST_LABEL].strip("-")
    return "---\n".join(_jobset(root, run, names[run.name]) for run in study.runs)


def _jobset(root: Path, run: PlannedRun, name: str) -> str:
    command = json.dumps(only(root, run.name))  # a list in JSON is one in YAML
    return f"""\
apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata:
  name: {name}
  annotations:
    run: {json.dumps(run.name)}
spec:
  failurePolicy:
    maxRestarts: 100
  replicatedJobs:
    - name: hosts
      replicas: 1
      template:
        spec:
          parallelism: 1  # <hosts of a run>
          completions: 1  # <hosts of a run>
          backoffLimit: 0
          template:
            spec:
              restartPolicy: Never
              terminationGracePeriodSeconds: 120
              containers:
                - name: run
                  image: <image>
                  command: {command}
                  volumeMounts:
                    - name: data
                      mountPath: <directory of the study and the data>
              volumes:
                - name: data
                  persistentVolumeClaim:
                    claimName: <claim>
"""
