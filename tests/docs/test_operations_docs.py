"""docs/operations.md: its exit codes, settings, flags, events and files are those of the program."""

import re
import signal
import subprocess

import pytest

from configs import pretrain as recipe
from hicmae_jax.checkpoints import disk_store
from hicmae_jax.checkpoints import manager as checkpoints
from hicmae_jax.checkpoints.reader import DIRECTORY as CHECKPOINTS
from hicmae_jax.hosts import liveness
from hicmae_jax.hosts.agreement import SECONDS_TO_SEE
from hicmae_jax.logs import events, metrics
from hicmae_jax.runs import broken_clips, evaluations, in_use, resuming, session
from hicmae_jax.settings.finetune import SCHEMA as FINETUNE
from hicmae_jax.settings.pretrain import SCHEMA as PRETRAIN
from hicmae_jax.supervision import deadline, heartbeats
from hicmae_jax.supervision.signals import EXIT_CODES, GRACE_SECONDS
from hicmae_jax.supervision.watchdog import PATIENCE
from tests.support.paths import ROOT
from tests.support.processes import HANG
from tests.support.set_fixtures import write_set

DOCS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
OTHERS_FLAGS = {"signal", "requeue", "shm", "times", "markdown"}
"""Named in the guide, of Slurm, Docker and a test."""


def first_column(text: str) -> list[str]:
    """The code at the beginning of each row of the tables."""
    return re.findall(r"^\| `([^`]+)`", text, re.M)


# --- Codes, settings, events, files -------------------------------------------------------------------------


def test_the_exit_codes_are_those_of_the_program():
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", DOCS, re.M)}
    assert codes == {0, 1, deadline.EXIT_CODE, *EXIT_CODES.values(), 128 + signal.SIGTERM}
    faults = DOCS.split("## What notices which fault")[1].split("\n## ")[0]
    last_column = re.findall(r"\| ([^|]+) \|$", faults, re.M)[1:]
    assert len(last_column) > 10
    assert {int(code) for text in last_column for code in re.findall(r"\d+", text)} == codes - {0}
    assert EXIT_CODES[signal.SIGTERM] == liveness.GONE
    assert re.search(rf"^\| {liveness.GONE} \| stopped by SIGTERM, and the state is saved", DOCS, re.M)
    assert re.search(rf"^\| {EXIT_CODES[signal.SIGINT]} \| stopped by Ctrl-C; the state is saved", DOCS, re.M)
    assert re.search(rf"^\| {deadline.EXIT_CODE} \| no progress", DOCS, re.M)


def test_every_setting_exists_and_has_the_default_that_is_told():
    settings = {*PRETRAIN.entries, *FINETUNE.entries}
    sections = {name.split(".")[0] for name in settings if "." in name}
    named = set(re.findall(rf"`((?:{'|'.join(sections)})\.\w+)`", DOCS))
    named |= set(re.findall(r"--config\.((?!SETTING)[\w.]*\w)", DOCS))
    assert named <= settings
    assert {name for name in settings if name.startswith("faults.")} <= named
    faults = recipe.get_config("B").faults
    defaults = re.findall(r"`faults\.(\w+)`[^`(|]*\((\d+)\)", DOCS)
    assert len(defaults) == 3
    assert [(name, float(told)) for name, told in defaults] == [(name, faults[name]) for name, _ in defaults]


def test_every_flag_exists():
    declared = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "launch").glob("*.py"))
    flags = set(re.findall(r'flags\.DEFINE_\w+\(\s*"(\w+)"', declared)) | {"config"}
    assert set(re.findall(r"(?<![\w-])--(\w+)", DOCS)) - OTHERS_FLAGS <= flags
    (seconds,) = re.findall(r"`--wait_for_hosts` seconds \((\d+)\)", DOCS)
    assert re.search(rf'"wait_for_hosts", {seconds},', declared)


def test_what_may_change_when_a_run_goes_on_is_what_the_program_lets_change():
    rows = re.search(r"\| setting \|.*?\n\n", DOCS, re.S)[0].strip().splitlines()[2:]
    stay, tuned, on_request, tuned_on_request, _ = (re.findall(r"`([\w.]+)`", row) for row in rows)
    assert tuple(stay) == ("model", resuming.STACKED, resuming.KIND)
    assert tuple(tuned) == resuming.FINETUNING
    assert on_request == [*resuming.BATCHES, "data.sets"]
    assert tuple(tuned_on_request) == resuming.FINETUNING_BATCHES


def test_the_times_are_those_of_the_program():
    vanished = liveness.PROBE_AFTER + liveness.PROBE_EVERY * liveness.PROBES
    text = " ".join(DOCS.split())
    assert f"vanishes after {vanished} s" in text
    assert f"| {vanished} s |" in text
    assert f"must see within {SECONDS_TO_SEE:.0f} s" in text
    assert f"within {GRACE_SECONDS:.0f} s, on all hosts with the same code" in text
    assert f"It waits for {in_use.EXPIRES_AFTER:.0f} s if the file system has no locks" in text
    assert f"renews its time stamp every {in_use.RENEWED_EVERY:.0f} s" in text
    assert f"which one holds it up, or after {PATIENCE:.0f} s" in text


def test_the_events_are_those_that_are_written():
    written = set()
    for path in (ROOT / "hicmae_jax").rglob("*.py"):
        written |= set(
            re.findall(r'events\.(?:note|write)[(,]\s*"([^"]+)"', path.read_text(encoding="utf-8"))
        )
    table = DOCS.split("### Reading events.jsonl")[1].split("\n## ")[0]
    assert set(first_column(table)) - {"event"} == written


def test_the_files_are_those_of_a_run():
    table = DOCS.split("## What lies in a run's directory")[1].split("\n###")[0]
    named = set(
        re.findall(r"`([^`]+)`", " ".join(line.split("|")[1] for line in table.splitlines() if "|" in line))
    )
    assert named == {
        *(session.CONFIG, session.VERSIONS, metrics.FILE, events.FILE, broken_clips.BROKEN, in_use.FILE),
        *(
            f"{session.PROFILE}/",
            f"{evaluations.PICTURES}/",
            f"{metrics.TENSORBOARD}/",
            metrics.WANDB_ID,
            "wandb/",
        ),
        *(f"{heartbeats.DIRECTORY}/", deadline.STACKS.format(process=0)),
        *(f"{CHECKPOINTS}/STEP{end}/" for end in ("", disk_store.PARTIAL, disk_store.REMOVED)),
        f"{checkpoints.DAMAGED}/STEP/",
    }


def test_links_into_the_guide_lead_to_a_heading():
    headings = re.findall(r"^#+ (.+)$", DOCS, re.M)
    anchors = {re.sub(r"[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-") for heading in headings}
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    links = [
        link
        for page in pages
        for link in re.findall(r"operations\.md#([^)]+)\)", page.read_text(encoding="utf-8"))
    ]
    links += re.findall(r"\]\(#([^)]+)\)", DOCS)
    assert len(links) >= 2
    assert set(links) <= anchors


# --- Commands -----------------------------------------------------------------------------------------------


def test_the_python_names_a_clip(tmp_path, capsys):
    (block,) = re.findall(r"```python\n(.*?)```", DOCS, re.S)
    root = write_set(tmp_path, [64] * 20)
    exec(compile(block.replace('"data/dev"', repr(str(root))), "docs/operations.md", "exec"), {})
    assert capsys.readouterr().out.endswith(f"(clip 12 of {root})\n")


@pytest.mark.parametrize("last", [0, 1, 130])
def test_the_loop_goes_on_until_there_is_something_to_read(tmp_path, last):
    """With a command that ends with one code after the other."""
    loop = next(block for block in re.findall(r"```sh\n(.*?)```", DOCS, re.S) if block.startswith("until "))
    loop = re.sub(r"^until .*", "until sh command.sh", loop).replace("sleep 10", ":")
    codes = [75, 70, 143, 137, last]
    (tmp_path / "codes").write_text("".join(f"{code}\n" for code in [*codes, 99]))
    (tmp_path / "command.sh").write_text("read code < codes\nsed -i 1d codes\nexit $code\n")
    subprocess.run(["sh", "-c", loop], cwd=tmp_path, check=True, timeout=HANG)
    assert (tmp_path / "codes").read_text(encoding="utf-8") == "99\n"
