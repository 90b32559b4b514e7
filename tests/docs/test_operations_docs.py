"""docs/operations.md: each message is one that the program says, and each code, setting and event exists."""

import ast
import functools
import re
import signal
import subprocess
from collections.abc import Iterator

import pytest

from configs import pretrain as recipe
from hicmae_jax.checkpoints import manager as checkpoints
from hicmae_jax.checkpoints.reader import DIRECTORY as CHECKPOINTS
from hicmae_jax.hosts import liveness
from hicmae_jax.hosts.agreement import SECONDS_TO_SEE
from hicmae_jax.logs import events, metrics
from hicmae_jax.runs import broken_clips, pretrain, resuming
from hicmae_jax.settings import pretrain as run_config
from hicmae_jax.supervision import deadline, heartbeats
from hicmae_jax.supervision.signals import EXIT_CODES, GRACE_SECONDS
from tests.support.paths import ROOT
from tests.support.processes import HANG
from tests.support.set_fixtures import write_set

DOCS = (ROOT / "docs" / "operations.md").read_text()
MESSAGES = DOCS.split("## What each message means")[1].split("## Tried by the chaos test")[0]
OTHERS_FLAGS = {"signal", "requeue", "shm", "times", "markdown"}
"""Named in the guide, of Slurm, Docker and a test."""

NUMBERS, HOSTS, TEXTS = re.search(
    r"In the messages (.*?) stand for numbers, (.*?) for hosts, and (.*?) for", MESSAGES, re.S
).groups()
NAMED = re.findall(r"\b[A-Z]+\b", f"{NUMBERS} {HOSTS} {TEXTS}")
PLACEHOLDER = "|".join([*NAMED, "…", r"\d+", "SIG[A-Z]+", "--[a-z_]+"])
JOINT = r"[:;,] +"
"""Between the parts of a message that are made in different places."""

DOCUMENTED_IN_FULL = (
    *(
        "hicmae_jax/hosts/rendezvous.py",
        "hicmae_jax/hosts/liveness.py",
        "data_pipeline/reading/worker_batches.py",
    ),
    *("data_pipeline/format/prepared_set.py", "data_pipeline/reading/fixed_clips.py"),
    *(
        f"hicmae_jax/{name}.py"
        for name in (
            *(
                "agreement",
                "branching",
                "checkpoint_reader",
                "checkpoint_seal",
                "checkpoint_writer",
                "checkpoints",
            ),
            *("deadline", "heartbeats", "interruption", "number_guard", "pretrain", "resuming"),
            *("run_config", "run_sections", "supervision", "train", "watchdog"),
        )
    ),
)
NOT_FOR_USERS = (
    "keep = ",  # the configuration refuses it before
    "batch \0, count ",
    "terminated unexpectedly with exit code ",  # what Grain says
    "the configuration leaves a required_placeholder",  # of who writes a configuration file
    "its shards have ",  # a reason in a message that is there
)


# --- What the program may say -------------------------------------------------------------------------------


def texts(source: str) -> Iterator[tuple[str, ...]]:
    """Every text of a program, as the pieces between the holes that it fills; no docstrings."""
    nodes = list(ast.walk(ast.parse(source)))
    parts = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
    parts |= {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            text = "".join(part.value if isinstance(part, ast.Constant) else "\0" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            text = re.sub("%[sd]", "\0", node.value)
        else:
            continue
        text = re.sub("\0+", "\0", text).strip(" ,;:")
        if re.search(r"[A-Za-z]{2}", text):  # holes and joints alone would fit anything
            yield tuple(text.split("\0"))


@functools.cache
def all_texts() -> frozenset[tuple[str, ...]]:
    files = [
        path for name in ("hicmae_jax", "data_pipeline", "launch") for path in (ROOT / name).rglob("*.py")
    ]
    return frozenset(text for path in files for text in texts(path.read_text()))


@functools.cache
def is_said(message: str) -> bool:
    """Whether a message can come about: a placeholder, a text whose holes are said too, or several joined."""
    message = message.strip()
    return (
        not message
        or bool(re.fullmatch(PLACEHOLDER, message))
        or any(fits(text, message) for text in all_texts())
        or any(
            is_said(message[: joint.start()]) and is_said(message[joint.end() :])
            for joint in re.finditer(JOINT, message)
        )
    )


def fits(pieces: tuple[str, ...], message: str) -> bool:
    first, *others = pieces
    if not message.startswith(first):
        return False
    rest = message[len(first) :]
    if not others:
        return not rest
    if others == [""]:
        return is_said(rest)
    return any(
        is_said(rest[: place.start()]) and fits(tuple(others), rest[place.start() :])
        for place in re.finditer(re.escape(others[0]), rest)
    )


# --- Messages -----------------------------------------------------------------------------------------------


def first_column(text: str) -> list[str]:
    """The code at the beginning of each row of the tables."""
    found = re.findall(r"^\| (?:``(.+?) *``|`([^`]+)`)", text, re.M)
    return [double or single for double, single in found]


@pytest.mark.parametrize("message", first_column(MESSAGES), ids=lambda message: message[:60])
def test_the_program_can_say(message):
    assert is_said(message)


@pytest.mark.parametrize(
    "message",
    [
        "the checkpoint of step N was not stored: REASON; mend that, and give the same command to go on",
        "the checkpoint of step N was not saved: REASON; mend that, and give the same command",
        "host I has gone: its process was killed, or its machine or network failed",
        "step N has taken TIME, N × the median, waiting for lunch",
        "all is well",
    ],
)
def test_what_the_program_never_says_is_found(message):
    assert not is_said(message)


def test_every_row_of_the_messages_is_looked_at():
    rows = [line for line in MESSAGES.splitlines() if line.startswith("| ")]
    headings = [line for line in rows if line.startswith("| message ")]
    assert len(headings) == MESSAGES.count("\n### ")
    assert len(first_column(MESSAGES)) == len(rows) - len(headings) > 100


@pytest.mark.parametrize("file", DOCUMENTED_IN_FULL)
def test_no_message_is_left_out(file):
    """Of the files that say what has gone wrong, every text of four words or more."""
    told = first_column(MESSAGES) + first_column(DOCS.split("### Reading events.jsonl")[1].split("\n##")[0])
    left_out = [
        "\0".join(text)
        for text in texts((ROOT / file).read_text())
        if len(re.findall(r"[A-Za-z]+(?= |$)", " ".join(text))) >= 4 and "\n" not in "".join(text)
        if not any(re.search(".*".join(map(re.escape, text)), message) for message in told)
    ]
    assert [text for text in left_out if not text.startswith(NOT_FOR_USERS)] == []


# --- Codes, settings, events, files -------------------------------------------------------------------------


def test_the_exit_codes_are_those_of_the_program():
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", DOCS, re.M)}
    assert told == {0, 1, deadline.EXIT_CODE, *EXIT_CODES.values(), 128 + signal.SIGTERM}
    assert EXIT_CODES[signal.SIGTERM] == liveness.GONE
    assert re.search(rf"^\| {liveness.GONE} \| stopped by SIGTERM, and the state is saved", DOCS, re.M)
    assert re.search(rf"^\| {EXIT_CODES[signal.SIGINT]} \| stopped by Ctrl-C; the state is saved", DOCS, re.M)
    assert re.search(rf"^\| {deadline.EXIT_CODE} \| no progress", DOCS, re.M)


def test_every_setting_exists_and_has_the_default_that_is_told():
    sections = {name.split(".")[0] for name in run_config.settings() if "." in name}
    named = set(re.findall(rf"`((?:{'|'.join(sections)})\.\w+)`", DOCS))
    named |= set(re.findall(r"--config\.((?!SETTING)[\w.]*\w)", DOCS))
    assert len(named) > 20
    assert named <= set(run_config.settings())
    faults = recipe.get_config("B").faults
    defaults = re.findall(r"`faults\.(\w+)`[^`(|]*\((\d+)\)", DOCS)
    assert len(defaults) == 3
    assert [(name, float(told)) for name, told in defaults] == [(name, faults[name]) for name, _ in defaults]


def test_every_flag_exists():
    declared = "".join(path.read_text() for path in (ROOT / "launch").glob("*.py"))
    flags = set(re.findall(r'flags\.DEFINE_\w+\(\s*"(\w+)"', declared)) | {"config"}
    assert set(re.findall(r"(?<![\w-])--(\w+)", DOCS)) - OTHERS_FLAGS <= flags
    (seconds,) = re.findall(r"`--wait_for_hosts` seconds \((\d+)\)", DOCS)
    assert re.search(rf'"wait_for_hosts", {seconds},', declared)


def test_what_may_change_when_a_run_goes_on_is_what_the_program_lets_change():
    rows = re.search(r"\| setting \|.*?\n\n", DOCS, re.S)[0].strip().splitlines()[2:]
    stay, on_request, _ = (re.findall(r"`([\w.]+)`", row) for row in rows)
    assert tuple(stay) == ("model", resuming.STACKED, resuming.KIND)
    assert on_request == [*resuming.BATCHES, "data.sets"]


def test_the_times_are_those_of_the_program():
    vanished = liveness.PROBE_AFTER + liveness.PROBE_EVERY * liveness.PROBES
    assert f"vanishes after {vanished} s" in DOCS
    assert f"must see within {SECONDS_TO_SEE:.0f} s" in DOCS
    assert f"within {GRACE_SECONDS:.0f} s, on all hosts with the same code" in DOCS


def test_the_events_are_those_that_are_written():
    written = set()
    for path in (ROOT / "hicmae_jax").glob("*.py"):
        written |= set(re.findall(r'events\.(?:note|write)[(,]\s*"([^"]+)"', path.read_text()))
    table = DOCS.split("### Reading events.jsonl")[1].split("\n## ")[0]
    assert set(first_column(table)) - {"event"} == written


def test_the_files_are_those_of_a_run():
    table = DOCS.split("## What lies in a run's directory")[1].split("\n###")[0]
    named = set(
        re.findall(r"`([^`]+)`", " ".join(line.split("|")[1] for line in table.splitlines() if "|" in line))
    )
    assert named == {
        *(pretrain.CONFIG, pretrain.VERSIONS, metrics.FILE, events.FILE, broken_clips.BROKEN),
        *(f"{pretrain.PROFILE}/", f"{metrics.TENSORBOARD}/", metrics._WANDB_ID, "wandb/"),
        *(f"{heartbeats.DIRECTORY}/", deadline.STACKS.format(process=0)),
        *(f"{CHECKPOINTS}/STEP{end}/" for end in ("", checkpoints.PARTIAL, checkpoints.REMOVED)),
        f"{checkpoints.DAMAGED}/STEP/",
    }


def test_links_into_the_guide_lead_to_a_heading():
    headings = re.findall(r"^#+ (.+)$", DOCS, re.M)
    anchors = {re.sub(r"[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-") for heading in headings}
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    links = [link for page in pages for link in re.findall(r"operations\.md#([^)]+)\)", page.read_text())]
    links += re.findall(r"\]\(#([^)]+)\)", DOCS)
    assert len(links) >= 3
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
    assert (tmp_path / "codes").read_text() == "99\n"
