"""What Textual (8.2.8) gets wrong in option lists and dialogs, where quick keys and tiny windows lead.

Both are made by Textual too (the list of themes, the command palette), so that a subclass would not reach them all.
"""

from __future__ import annotations

from typing import Any

from textual.await_complete import AwaitComplete
from textual.geometry import Size
from textual.screen import Screen
from textual.widgets import OptionList

NARROWEST_CELLS = 8
"""Padding and scroll bars leave no room for a letter in less, and wrapping text at width 0 raises ValueError."""

_move_page = OptionList._move_page
_update_lines = OptionList._update_lines
_dismiss = Screen.dismiss
_get_content_height = OptionList.get_content_height


def _move_page_where_laid_out(self: OptionList, direction: Any) -> None:
    """An option has no line before the first layout: KeyError."""
    if (self.highlighted or 0) in self._index_to_line:
        _move_page(self, direction)


def _update_lines_where_there_is_room(self: OptionList) -> None:
    if self.scrollable_content_region.width >= NARROWEST_CELLS:
        _update_lines(self)


def _get_content_height_of_some_width(self: OptionList, container: Size, viewport: Size, width: int) -> int:
    return _get_content_height(self, container, viewport, max(width, NARROWEST_CELLS))


def _dismiss_once(self: Screen[Any], result: Any = None) -> AwaitComplete:
    """A second key that waited in a dialog's queue took the screen under it off as well: ScreenStackError."""
    return _dismiss(self, result) if self.app.screen is self else AwaitComplete.nothing()


def mend_textual() -> None:
    """From now on, everywhere in this process; a second call changes nothing."""
    Screen.dismiss = _dismiss_once  # type: ignore[method-assign]
    OptionList._move_page = _move_page_where_laid_out  # type: ignore[method-assign]
    OptionList._update_lines = _update_lines_where_there_is_room  # type: ignore[method-assign]
    OptionList.get_content_height = _get_content_height_of_some_width  # type: ignore[method-assign]
