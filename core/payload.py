"""What the replicated log carries: decisions with their signed opinions, execution reports, toggles, trading state,
limits.

`net` moves these as opaque bytes. Records inside follow the serialization toggle of the node that wrote them and say so
themselves, so a log holds all layouts side by side.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.decision import OPINION_DTYPE, PROPOSAL_DTYPE
from core.limits_change import LimitsChange, decode_limits, encode_limits
from core.records import OrderState
from core.toggle_change import ToggleChange, decode_toggles, encode_toggles
from core.toggles import Serialization
from core.trading_state import TradingChange, decode_trading, encode_trading
from net.wire.kinds import CodecKind
from net.wire.layouts import decode_records, encode_records, register_layout

PROPOSAL_LAYOUT: Final = 1
OPINION_LAYOUT: Final = 2
REPORT_LAYOUT: Final = 3

REPORT_STATES: Final[tuple[OrderState, ...]] = tuple(OrderState)
REPORT_DTYPE: Final = np.dtype(
    [
        ("sequence", "<u8"),  # numbered by the gateway, without gaps
        ("trade_id", "<u8"),  # venue's trade, 0 where nothing traded
        ("quantity", "<i8"),  # lots traded by this report
        ("price", "<i8"),  # ticks
        ("fee", "<i8"),  # cash quanta
        ("client_order_id", "S36"),
        ("state", "u1"),  # index into REPORT_STATES
    ]
)
"""One execution report of the gateway (85 bytes)."""

register_layout(PROPOSAL_LAYOUT, PROPOSAL_DTYPE)
register_layout(OPINION_LAYOUT, OPINION_DTYPE)
register_layout(REPORT_LAYOUT, REPORT_DTYPE)

CODEC_OF: Final = {each: CodecKind[each.name] for each in Serialization}
"""A codec has the same name as a setting and as a number on the wire."""

_SIGNATURE_BYTES: Final = 64
_DECISIONS: Final = struct.Struct("<BBHQQII")  # kind, proposer, opinions, step, judged index, bytes: records, vetoes
_OPINIONS: Final = struct.Struct("<BI")  # peer, bytes of records
_REPORTS: Final = struct.Struct("<BI")  # kind, bytes of records


class PayloadError(ValueError):
    """A payload of the log is malformed."""


class PayloadKind(IntEnum):
    DECISIONS = 1
    REPORTS = 2
    UNSIGNED_TOGGLES = 3
    """Of older builds; it changes nothing any more."""
    TRADING = 4
    LIMITS = 5
    TOGGLES = 6


@dataclass(frozen=True, slots=True)
class SignedOpinions:
    """One peer's opinions on a batch of proposals; the signature covers `opinion_bytes`."""

    peer: int
    opinions: NDArray[np.void]
    signature: bytes


@dataclass(frozen=True, slots=True)
class DecisionBatch:
    """Proposals of one step with the opinions gathered on them. `proposals`: PROPOSAL_DTYPE[k]."""

    step: int
    proposer: int
    proposals: NDArray[np.void]
    opinions: tuple[SignedOpinions, ...]
    judged_index: int = 0
    """The entry behind which the proposer held its proposals against the limits."""
    limit_vetoes: bytes = b""
    """What that gave: one `Veto` code by row (`core.limits.check`); empty where every row passed. Whoever knows the
    state behind `judged_index` can tell whether it is true.
    """


@dataclass(frozen=True, slots=True)
class ReportBatch:
    """Execution reports, signed by the gateway. `reports`: REPORT_DTYPE[k], consecutive sequence numbers."""

    reports: NDArray[np.void]
    signature: bytes


Payload = DecisionBatch | ReportBatch | ToggleChange | TradingChange | LimitsChange


def opinion_bytes(peer: int, proposals: NDArray[np.void], opinions: NDArray[np.void]) -> bytes:
    """What a peer signs: who it is, what it judged, and its judgement."""
    digest = hashlib.sha256(b"tradetui opinion")
    digest.update(bytes([peer]))
    digest.update(proposals.tobytes())
    digest.update(opinions.tobytes())
    return digest.digest()


def report_bytes(reports: NDArray[np.void]) -> bytes:
    """What the gateway signs."""
    return hashlib.sha256(b"tradetui reports" + reports.tobytes()).digest()


def encode_decisions(batch: DecisionBatch, serialization: Serialization) -> bytes:
    """Bytes of a batch of decisions, records in the layout that the toggle asks for."""
    codec = CODEC_OF[serialization]
    records = encode_records(batch.proposals, codec)
    parts = [
        _DECISIONS.pack(
            PayloadKind.DECISIONS,
            batch.proposer,
            len(batch.opinions),
            batch.step,
            batch.judged_index,
            len(records),
            len(batch.limit_vetoes),
        ),
        records,
        batch.limit_vetoes,
    ]
    for signed in batch.opinions:
        rows = encode_records(signed.opinions, codec)
        parts += [_OPINIONS.pack(signed.peer, len(rows)), rows, signed.signature]
    return b"".join(parts)


def encode_reports(batch: ReportBatch, serialization: Serialization) -> bytes:
    """Bytes of a batch of execution reports."""
    records = encode_records(batch.reports, CODEC_OF[serialization])
    return _REPORTS.pack(PayloadKind.REPORTS, len(records)) + records + batch.signature


def encode_toggle_change(change: ToggleChange) -> bytes:
    return bytes([PayloadKind.TOGGLES]) + encode_toggles(change)


def encode_trading_change(change: TradingChange) -> bytes:
    return bytes([PayloadKind.TRADING]) + encode_trading(change)


def encode_limits_change(change: LimitsChange) -> bytes:
    return bytes([PayloadKind.LIMITS]) + encode_limits(change)


def payload_kind(payload: bytes) -> PayloadKind:
    """The kind by its first byte. Raises PayloadError."""
    try:
        return PayloadKind(payload[0])
    except (ValueError, IndexError):
        raise PayloadError(f"unknown payload kind {payload[:1]!r}") from None


def decode(payload: bytes) -> Payload:
    """The payload back. Raises PayloadError for anything malformed."""
    kind = payload_kind(payload)
    try:
        if kind is PayloadKind.DECISIONS:
            return _decode_decisions(payload)
        if kind is PayloadKind.REPORTS:
            return _decode_reports(payload)
        if kind is PayloadKind.TRADING:
            return decode_trading(payload[1:])
        if kind is PayloadKind.LIMITS:
            return decode_limits(payload[1:])
        if kind is PayloadKind.TOGGLES:
            return decode_toggles(payload[1:])
    except Exception as error:
        # Any member's bytes come here, from the log of every node alike: whatever breaks in reading them, they are
        # malformed, and no reason for a node to end.
        raise PayloadError(f"malformed {kind.name.lower()} payload: {error}") from error
    raise PayloadError("a change of the toggles without a signature, as older builds wrote it")


def _decode_decisions(payload: bytes) -> DecisionBatch:
    _, proposer, opinion_count, step, judged_index, size, vetoes_size = _DECISIONS.unpack_from(payload)
    offset = _DECISIONS.size
    proposals = decode_records(_slice(payload, offset, size), PROPOSAL_LAYOUT)
    offset += size
    limit_vetoes = _slice(payload, offset, vetoes_size)
    if limit_vetoes and len(limit_vetoes) != proposals.size:
        raise PayloadError(f"{len(limit_vetoes)} vetoes of the limits for {proposals.size} proposals")
    offset += vetoes_size
    opinions = []
    for _ in range(opinion_count):
        peer, size = _OPINIONS.unpack_from(payload, offset)
        offset += _OPINIONS.size
        rows = decode_records(_slice(payload, offset, size), OPINION_LAYOUT)
        offset += size
        opinions.append(SignedOpinions(peer, rows, _slice(payload, offset, _SIGNATURE_BYTES)))
        offset += _SIGNATURE_BYTES
    if offset != len(payload):
        raise PayloadError(f"{len(payload) - offset} bytes too many")
    return DecisionBatch(step, proposer, proposals, tuple(opinions), judged_index, limit_vetoes)


def _decode_reports(payload: bytes) -> ReportBatch:
    _, size = _REPORTS.unpack_from(payload)
    reports = decode_records(_slice(payload, _REPORTS.size, size), REPORT_LAYOUT)
    return ReportBatch(reports, _slice(payload, _REPORTS.size + size, _SIGNATURE_BYTES))


def _slice(payload: bytes, offset: int, size: int) -> bytes:
    part = payload[offset : offset + size]
    if len(part) != size:
        raise PayloadError("cut short")
    return part
