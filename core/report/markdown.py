"""A document as Markdown."""

from __future__ import annotations

from core.report.blocks import Document, Figure, Items, Paragraph, Table


def to_markdown(document: Document) -> str:
    """The whole document without its plots."""
    parts = [f"# {document.title}", f"*{document.subtitle}*"]
    for section in document.sections:
        parts.append(f"## {section.title}")
        parts += [_block(block) for block in section.blocks if not isinstance(block, Figure)]
    return "\n\n".join(parts) + "\n"


def _block(block: Paragraph | Items | Table) -> str:
    if isinstance(block, Paragraph):
        return block.text
    if isinstance(block, Items):
        return "\n".join(f"- {item}" for item in block.items)
    words = {*range(block.text_columns), *block.wrapped}
    rules = ["---" if k in words else "--:" for k in range(len(block.columns))]
    lines = [block.columns, tuple(rules), *block.rows]
    table = "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
    return f"{table}\n\n*{block.caption}*" if block.caption else table
