"""A report as one HTML page that needs nothing else: no network, no script, no other file."""

import base64
import html
import itertools

from hicmae_jax.studies.report_page import Block, Listing, Page, Paragraph, Picture, Section, Table

# The policy makes sure of it: a browser loads nothing but what the page itself holds.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

STYLE = """
:root { color-scheme: light dark; --text: #1a1a1a; --soft: #5c5c5c; --page: #fff; --line: #d8d8d8;
  --head: #f3f3f3; --warn: #fff3d6; --edge: #c98a00; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e8e8e8; --soft: #a8a8a8; --page: #151515; --line: #3a3a3a; --head: #222; --warn: #33290f;
    --edge: #c98a00; }
  /* The colours keep their hues, and white becomes the page. */
  figure img { filter: invert(0.917) hue-rotate(180deg); }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.2rem clamp(0.8rem, 3vw, 2.5rem) 4rem; max-width: 96rem; color: var(--text);
  background: var(--page);
  font: 1rem/1.5 system-ui, "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0.4rem 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 0.6rem; padding-top: 0.6rem; border-top: 1px solid var(--line); }
p, li { max-width: 75ch; overflow-wrap: anywhere; }
p { margin: 0.6rem 0; }
ul { margin: 0.6rem 0; padding-left: 1.3rem; }
.warning { background: var(--warn); border-left: 4px solid var(--edge); padding: 0.5rem 0.8rem; }
nav { font-size: 0.95rem; }
nav a { color: inherit; margin-right: 1rem; white-space: nowrap; }
.scroll { overflow-x: auto; width: fit-content; max-width: 100%; margin: 0.8rem 0;
  border: 1px solid var(--line); border-radius: 4px; }
table { border-collapse: collapse; font-size: 0.88rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.3rem 0.65rem; text-align: right; white-space: nowrap; }
td.long { white-space: normal; min-width: 16rem; text-align: left; }
th:first-child, td:first-child { text-align: left; }
thead th { background: var(--head); border-bottom: 1px solid var(--line); font-weight: 600; }
tbody tr + tr > * { border-top: 1px solid var(--line); }
tbody th { font-weight: 500; }
.faint { color: var(--soft); font-style: italic; }
.figures { display: grid; gap: 1.2rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 34rem), 1fr)); }
figure { margin: 0.6rem 0; max-width: 46rem; }
figure img { display: block; width: 100%; height: auto; }
figcaption { color: var(--soft); font-size: 0.9rem; margin-top: 0.3rem; overflow-wrap: anywhere; }
@media (min-width: 60rem) { th:first-child { position: sticky; left: 0; background: var(--page); }
  thead th:first-child { background: var(--head); } }
@media print { .scroll { overflow: visible; border: 0; } nav { display: none; } }
"""

LONG = 24
"""A cell with more letters is broken into lines."""


def page_html(page: Page) -> str:
    """Write a page as HTML; all text is escaped."""
    names = [(f"part-{number}", section) for number, section in enumerate(page.sections, start=1)]
    links = "\n".join(f'<a href="#{name}">{html.escape(section.title)}</a>' for name, section in names)
    body = "\n".join(_section(name, section) for name, section in names)
    title = html.escape(page.title)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{title}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>{title}</h1>
<nav>
{links}
</nav>
<main>
{body}
</main>
</body>
</html>
"""


def _section(name: str, section: Section) -> str:
    parts = [f'<section id="{name}">', f"<h2>{html.escape(section.title)}</h2>"]
    for are_pictures, blocks in itertools.groupby(section.blocks, lambda one: isinstance(one, Picture)):
        inside = "\n".join(_block(block) for block in blocks)
        parts.append(f'<div class="figures">\n{inside}\n</div>' if are_pictures else inside)
    return "\n".join([*parts, "</section>"])


def _block(block: Block) -> str:
    match block:
        case Paragraph(text, is_warning):
            opening = '<p class="warning">' if is_warning else "<p>"
            return f"{opening}{html.escape(text)}</p>"
        case Listing(lines):
            return "<ul>\n" + "\n".join(f"<li>{html.escape(line)}</li>" for line in lines) + "\n</ul>"
        case Table():
            return _table(block)
        case Picture(svg, caption):
            # As an image, so that names inside cannot clash with those of another picture.
            data = base64.b64encode(svg).decode()
            text = html.escape(caption)
            image = f'<img src="data:image/svg+xml;base64,{data}" alt="{text}">'
            return f"<figure>\n{image}\n<figcaption>{text}</figcaption>\n</figure>"


def _table(table: Table) -> str:
    heads = "".join(f'<th scope="col">{html.escape(head)}</th>' for head in table.heads)
    rows = []
    for number, (first, *cells) in enumerate(table.rows):
        faint = ' class="faint"' if number in table.faint else ""
        texts = "".join(_cell(cell) for cell in cells)
        rows.append(f'<tr{faint}><th scope="row">{html.escape(first)}</th>{texts}</tr>')
    body = "\n".join(rows)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{html.escape(table.heads[0])}">'
        f"<table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>"
    )


def _cell(text: str) -> str:
    opening = '<td class="long">' if len(text) > LONG else "<td>"
    return f"{opening}{html.escape(text)}</td>"
