"""Hold what a page is made of, as plain records: key figures, sentences, tables, charts, sections.

Sections are made of these and the template draws them, so neither knows the other. All text here is plain
text: only the template turns it into HTML, and it escapes everything.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Spec = dict[str, Any]
Tone = Literal["plain", "good", "bad", "caution"]


@dataclass(frozen=True, kw_only=True)
class KeyFigure:
    """Show one figure large, with what it is and one line about it."""

    label: str
    value: str
    note: str
    tone: Tone = "plain"

    @property
    def word(self) -> bool:
        """Tell whether a word stands in the figure's place."""
        return not any(letter.isdigit() for letter in self.value)


@dataclass(frozen=True, kw_only=True)
class Sentences:
    """Say something: one paragraph, or a list where ``bullets`` is set; under a ``fold`` it opens on a click."""

    sentences: list[str]
    tone: Tone = "plain"
    bullets: bool = False
    fold: str = ""
    kind: str = field(default="sentences", init=False)


@dataclass(frozen=True, kw_only=True)
class Column:
    """Head one column of a table; figures are set to the right, and ``whole`` cells are never broken."""

    name: str
    figures: bool = False
    whole: bool = False


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Show a table. The first cell of a row names the row; ``folded`` tables open on a click."""

    caption: str
    columns: list[Column]
    rows: list[list[str]]
    folded: bool = False
    kind: str = field(default="grid", init=False)


@dataclass(frozen=True, kw_only=True)
class Key:
    """Explain one paint of a chart; ``shape`` is fill, line, dash, dot or a name of ``page.html.jinja``'s marks."""

    label: str
    paint: str
    shape: str = "fill"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Show a chart: the question it answers, what it says in words, its Vega-Lite spec and its data as CSV."""

    key: str
    question: str
    says: str
    spec: Spec
    csv: str
    legend: list[Key] = field(default_factory=list)
    note: str = ""
    kind: str = field(default="figure", init=False)


Part = Sentences | Grid | Figure


@dataclass(frozen=True, kw_only=True)
class Section:
    """Gather parts under one heading; ``key`` is its anchor."""

    key: str
    heading: str
    parts: list[Part]


@dataclass(frozen=True, kw_only=True)
class Page:
    """Hold the whole page: the question, the decision in a sentence, what must be read beside it, what it rests on."""

    title: str
    question: str
    decision: str
    more: list[str]
    key_figures: list[KeyFigure]
    warnings: list[str]
    sections: list[Section]
    footer: str
