"""Page keys in an option list that was not laid out yet: nothing happens.

Textual (8.2.8) looks up the line of the highlighted option, which has none before the first layout or in a list of no
height, and raises KeyError. The lists are made by Textual too (command palette, themes), so that a subclass would not
reach them all.
"""

from __future__ import annotations

from typing import Any

from textual.widgets import OptionList

_move_page = OptionList._move_page


def _move_page_where_laid_out(self: OptionList, direction: Any) -> None:
    if (self.highlighted or 0) in self._index_to_line:
        _move_page(self, direction)


def mend_page_keys() -> None:
    """From now on, in every option list of this process; a second call changes nothing."""
    OptionList._move_page = _move_page_where_laid_out  # type: ignore[method-assign]
