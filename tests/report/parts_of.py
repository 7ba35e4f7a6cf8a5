"""Find the parts of a page, for tests."""

from __future__ import annotations

from offtake.report.parts import Figure, Grid, Page, Sentences


def figures_of(page: Page) -> list[Figure]:
    """Return every chart of a page."""
    return [part for section in page.sections for part in section.parts if isinstance(part, Figure)]


def grid_of(page: Page, caption: str) -> Grid:
    """Return the table whose caption starts so."""
    grids = [part for section in page.sections for part in section.parts if isinstance(part, Grid)]
    return next(grid for grid in grids if grid.caption.startswith(caption))


def words_of(page: Page, section_key: str) -> str:
    """Return every sentence of a section."""
    parts = [part for section in page.sections if section.key == section_key for part in section.parts]
    return " ".join(text for part in parts if isinstance(part, Sentences) for text in part.sentences)
