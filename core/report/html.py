"""A document as one HTML file that needs nothing else: no script, no font, no request; it prints as it reads."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from core.report.blocks import Document, Figure, Items, Paragraph, Table

# The policy makes the browser refuse any request, whatever a text in the report may hold.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1b1f24; background: #fff; max-width: 68rem; margin: 2rem auto;
  padding: 0 1.25rem; }
h1 { font-size: 1.7rem; margin: 0; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; padding-top: .6rem; border-top: 1px solid #c9d1d9; }
.subtitle, caption, figcaption { color: #57606a; font-size: .85rem; }
p { max-width: 52rem; margin: .6rem 0; }
table { border-collapse: collapse; margin: .8rem 0; font-size: .82rem; font-variant-numeric: tabular-nums; }
caption { caption-side: bottom; text-align: left; padding-top: .35rem; max-width: 52rem; }
th, td { padding: .2rem .55rem; text-align: right; vertical-align: top; white-space: nowrap; }
th { border-bottom: 1.5px solid #1b1f24; font-weight: 600; vertical-align: bottom; white-space: normal; }
td { border-bottom: 1px solid #eaeef2; }
.text { text-align: left; }
td.wrapped { text-align: left; white-space: normal; }
td.CRITICAL { color: #a4262c; font-weight: 600; } td.HIGH { color: #c8641d; font-weight: 600; }
td.MEDIUM { color: #8f6e10; } td.ACCEPTABLE { color: #3d6b42; } td.NEGLIGIBLE { color: #6e7781; }
code { font: .9em ui-monospace, monospace; background: #f3f5f7; padding: 0 .2em; }
figure { margin: 1rem 0; } figure svg { max-width: 100%; height: auto; }
.wide { overflow-x: auto; }
@page { size: A4; margin: 14mm; }
@media print { body { margin: 0; max-width: none; font-size: 9.5pt; padding: 0; }
  h2, figcaption { break-after: avoid; } figure, tr { break-inside: avoid; } table { font-size: 7.2pt; }
  th, td { padding: .1rem .3rem; } thead { display: table-header-group; } .wide { overflow: visible; } }
"""
_VERDICTS = frozenset(("CRITICAL", "HIGH", "MEDIUM", "ACCEPTABLE", "NEGLIGIBLE"))


def to_html(document: Document, plots: Mapping[str, str]) -> str:
    """The page; `plots` are `<svg>` elements by the name that a `Figure` gives. Every text is escaped."""
    body = [f"<h1>{escape(document.title)}</h1>", f'<p class="subtitle">{escape(document.subtitle)}</p>']
    for section in document.sections:
        body.append(f"<section><h2>{escape(section.title)}</h2>")
        body += [_block(block, plots) for block in section.blocks]
        body.append("</section>")
    title = escape(f"{document.title}: {document.subtitle}")
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}">'
        f"<title>{title}</title><style>{_STYLE}</style>"
    )
    page = "\n".join(body)
    return f'<!doctype html>\n<html lang="en">\n<head>{head}</head>\n<body>\n{page}\n</body>\n</html>\n'


def _block(block: Paragraph | Items | Table | Figure, plots: Mapping[str, str]) -> str:
    if isinstance(block, Paragraph):
        return f"<p>{_inline(block.text)}</p>"
    if isinstance(block, Items):
        return f"<ul>{''.join(f'<li>{_inline(item)}</li>' for item in block.items)}</ul>"
    if isinstance(block, Figure):
        plot = plots.get(block.plot)
        return f"<figure>{plot}<figcaption>{escape(block.caption)}</figcaption></figure>" if plot else ""
    return _table(block)


def _inline(text: str) -> str:
    """Escaped, with what stands between backquotes as code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if k % 2 and k < len(parts) - 1 else part for k, part in enumerate(parts))


def _table(table: Table) -> str:
    def cell(k: int, text: str) -> str:
        kinds = [
            name for name, applies in (("wrapped", k in table.wrapped), ("text", k < table.text_columns)) if applies
        ]
        kinds += [text] if text in _VERDICTS else []
        return f'<td class="{" ".join(kinds)}">{escape(text)}</td>' if kinds else f"<td>{escape(text)}</td>"

    words = {*range(table.text_columns), *table.wrapped}
    head = "".join(
        f'<th scope="col" class="text">{escape(name)}</th>' if k in words else f'<th scope="col">{escape(name)}</th>'
        for k, name in enumerate(table.columns)
    )
    rows = "\n".join(f"<tr>{''.join(cell(k, text) for k, text in enumerate(row))}</tr>" for row in table.rows)
    caption = f"<caption>{escape(table.caption)}</caption>" if table.caption else ""
    return f'<div class="wide"><table>{caption}<thead><tr>{head}</tr></thead><tbody>\n{rows}\n</tbody></table></div>'
