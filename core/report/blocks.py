"""A document as blocks: what Markdown and HTML are both laid out from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Paragraph:
    text: str


@dataclass(frozen=True, slots=True)
class Items:
    """A list of sentences."""

    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Cells are text; the first `text_columns` columns and those in `wrapped` are words, the others figures."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    text_columns: int = 1
    wrapped: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Figure:
    """A plot, by its name in `core.report.plots`; only HTML shows it."""

    plot: str
    caption: str


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    blocks: tuple[Paragraph | Items | Table | Figure, ...]


@dataclass(frozen=True, slots=True)
class Document:
    title: str
    subtitle: str
    sections: tuple[Section, ...]
