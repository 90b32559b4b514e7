"""A report as Markdown. Pictures are only in the HTML page; their captions say what they show."""

from hicmae_jax.studies.report_page import Block, Listing, Page, Paragraph, Picture, Table


def markdown(page: Page) -> str:
    """Write a page as Markdown; the text ends with a line break."""
    parts = [f"# {_escaped(page.title)}"]
    for section in page.sections:
        parts.append(f"## {_escaped(section.title)}")
        parts += [_block(block) for block in section.blocks]
    return "\n\n".join(parts) + "\n"


def _block(block: Block) -> str:
    match block:
        case Paragraph(text, is_warning):
            return f"**Attention:** {_escaped(text)}" if is_warning else _escaped(text)
        case Listing(lines):
            return "\n".join(f"- {_escaped(line)}" for line in lines)
        case Table(heads, rows):
            rule = f"| --- |{' ---: |' * (len(heads) - 1)}"
            first, *others = (f"| {' | '.join(map(_escaped, line))} |" for line in [heads, *rows])
            return "\n".join([first, rule, *others])
        case Picture(_, caption):
            return f"*Figure in report.html:* {_escaped(caption)}"


def _escaped(text: str) -> str:
    """Text without what Markdown would take for a table, HTML, emphasis or a line break."""
    for sign in ("\\", "|", "<", "*", "`", "_"):
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())
