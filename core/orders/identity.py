"""The client order id: a hash of the committed decision, so that whoever sends it sends the same id."""

from __future__ import annotations

import base64
import hashlib
import re
import struct
from typing import Final

CLIENT_ORDER_ID: Final = re.compile(r"[.A-Z:/a-z0-9_-]{1,36}")
"""What Binance Spot accepts as newClientOrderId."""

_PLACE = struct.Struct("<QQI")
PREFIX: Final = "tt-"
"""Marks an order as ours among those of the account."""


def client_order_id(epoch: int, index: int, position: int, digest: bytes) -> str:
    """35 characters of Binance's alphabet: 192 bits of SHA-256 over the decision's place in the log and its digest.

    `epoch` and `index` name the log entry, `position` the row within it, `digest` what was decided.
    Raises ValueError for a negative or oversized number.
    """
    try:
        place = _PLACE.pack(epoch, index, position)
    except struct.error as error:
        raise ValueError(f"client order id of epoch {epoch}, index {index}, position {position}: {error}") from None
    hashed = hashlib.sha256(b"tradetui order" + place + digest).digest()[:24]
    return PREFIX + base64.urlsafe_b64encode(hashed).decode()


def is_client_order_id(text: object) -> bool:
    """Whether the venue would take `text` as a client order id."""
    return isinstance(text, str) and CLIENT_ORDER_ID.fullmatch(text) is not None
