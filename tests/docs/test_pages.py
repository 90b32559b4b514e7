"""README and all pages of docs: each command has its flags and settings, and links lead somewhere."""

import re

import pytest

from hicmae_jax.settings import recipes, schema
from launch.__main__ import COMMANDS
from launch.settings import SCHEMAS
from tests.support.declared_flags import flags_of
from tests.support.paths import ROOT

PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
_COMMAND = re.compile(r"(?:\bhicmae |python -m launch\.)(\w+)(.*)")


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def commands(page: str) -> list[tuple[str, list[str]]]:
    """Name and flags of each command in the blocks of shell."""
    found = []
    for block in re.findall(r"```sh\n(.*?)```", text_of(page), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if match := _COMMAND.search(line):
                found.append((match[1], re.findall(r"--\S+", match[2])))
    return found


def test_the_pages_have_commands():
    assert len(commands("README.md")) > 8
    assert len(commands("docs/finetuning.md")) > 20


@pytest.mark.parametrize("page", PAGES)
def test_each_command_has_its_flags_and_settings(page):
    for command, words in commands(page):
        name = "inspect" if command == "inspect_data" else command
        assert name in COMMANDS
        names = [re.match(r"--([\w.]+)", word)[1] for word in words]
        settings = {name.removeprefix("config.") for name in names if name.startswith("config.")}
        own = {name for name in names if not name.startswith("config")}
        assert own <= flags_of(command), command
        for word in words:
            if word.startswith("--config=") and not word.startswith("--config=my/"):
                config = recipes.load(word.removeprefix("--config="))
                assert settings <= set(schema.flatten(config.to_dict())), word


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_a_file_and_a_heading(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = (ROOT / page).parent / file if file else ROOT / page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^a-z0-9 _-]", "", name.lower()).replace(" ", "-") for name in headings}
            assert anchor in anchors, link


def test_every_setting_that_finetuning_names_exists():
    known = set(SCHEMAS["finetune"].entries)
    sections = "|".join(SCHEMAS["finetune"].sections)
    text = text_of("docs/finetuning.md")
    named = set(re.findall(r"--config\.([\w.]*\w)", text))
    named |= set(re.findall(rf"`((?:{sections})\.\w+)(?:=\S+)?`", text))
    assert len(named) > 15
    assert named <= known
