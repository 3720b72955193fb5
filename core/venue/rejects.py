"""Refusals with Binance Spot's error codes and words.

Source: Binance Spot API documentation, "Error codes for Binance" (codes -1000 to -2015).
"""

from __future__ import annotations


class VenueReject(Exception):
    """The request is refused; nothing changed. `status` is the HTTP-like status of the WebSocket API."""

    def __init__(self, code: int, message: str, status: int = 400) -> None:
        super().__init__(f"{code} {message}")
        self.code = code
        self.message = message
        self.status = status


UNKNOWN_ERROR = -1000
TIMESTAMP = -1021
SIGNATURE = -1022
FILTER = -1013
UNSUPPORTED = -1020
ILLEGAL_PARAMETER = -1100
MISSING_PARAMETER = -1102
PRECISION = -1111
TIME_IN_FORCE = -1115
ORDER_TYPE = -1116
SIDE = -1117
SYMBOL = -1121
NEW_ORDER = -2010
CANCEL = -2011
NO_SUCH_ORDER = -2013
AMEND = -2038
API_KEY = -2015


def filter_failure(name: str) -> VenueReject:
    """-1013: PRICE_FILTER, LOT_SIZE, NOTIONAL or MAX_NUM_ORDERS."""
    return VenueReject(FILTER, f"Filter failure: {name}")


def duplicate_order() -> VenueReject:
    return VenueReject(NEW_ORDER, "Duplicate order sent.")


def insufficient_balance() -> VenueReject:
    return VenueReject(NEW_ORDER, "Account has insufficient balance for requested action.")


def would_take() -> VenueReject:
    return VenueReject(NEW_ORDER, "Order would immediately match and take.")


def injected_reject() -> VenueReject:
    return VenueReject(NEW_ORDER, "Order refused by the setting reject_rate.")


def market_closed() -> VenueReject:
    return VenueReject(NEW_ORDER, "Market is closed.")


def amend_rejected(why: str) -> VenueReject:
    return VenueReject(AMEND, f"The order amendment is rejected: {why}")


def unknown_order_sent() -> VenueReject:
    return VenueReject(CANCEL, "Unknown order sent.")


def no_such_order() -> VenueReject:
    return VenueReject(NO_SUCH_ORDER, "Order does not exist.")


def missing_parameter(name: str) -> VenueReject:
    return VenueReject(MISSING_PARAMETER, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")


def illegal_parameter(name: str) -> VenueReject:
    return VenueReject(ILLEGAL_PARAMETER, f"Illegal characters found in parameter '{name}'.")
