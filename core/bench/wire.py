"""`tradetui bench wire`: what each codec costs for record arrays by size and for messages by kind.

Every figure is one call of the product's own codec, from and to the same in-memory value. Cap'n Proto row by row, which
the product does not use, stands beside it: it shows that the layout wins, not the library.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import capnp
import msgpack
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from core.bench.rows import Row, interleaved, row_of_pairs, table_of, write_rows
from core.decision import PROPOSAL_DTYPE
from core.payload import PROPOSAL_LAYOUT
from net.messages import (
    AppendEntries,
    AppendEntriesReply,
    Application,
    Channel,
    Entry,
    EntryKind,
    Message,
    Phase,
    Propose,
    Vote,
)
from net.wire.codec import decode, encode
from net.wire.kinds import CodecKind
from net.wire.layouts import decode_records, encode_records

SIZES: Final = (1, 16, 256, 4_096)
READ_COLUMNS: Final = ("instrument", "side", "limit_price")
SLICE_S: Final = 0.004
"""Each side runs about this long in each round."""
MAPS: Final = "MessagePack maps"

Call = Callable[[], object]


def proposals(count: int) -> NDArray[np.void]:
    """A record array of `count` proposals with values of realistic width, PROPOSAL_DTYPE[count]."""
    rng = np.random.default_rng(20_120_614)
    rows = np.zeros(count, PROPOSAL_DTYPE)
    rows["step"] = 1_234
    rows["quantity"] = rng.integers(0, 5_000, count)
    rows["limit_price"] = rng.integers(1_000, 500_000, count)
    rows["target"] = rng.integers(-5_000, 5_000, count)
    rows["confidence"] = rng.random(count, np.float32)
    rows["instrument"] = np.arange(count) % 20
    rows["side"] = rng.integers(-1, 2, count)
    rows["reason"] = rng.integers(0, 7, count)
    return rows


def messages(entry_counts: tuple[int, ...] = (1, 16, 256)) -> dict[str, Message]:
    """One message of every kind that a round sends, by name."""
    signature, digest = b"s" * 64, b"d" * 32
    found: dict[str, Message] = {
        "Vote": Vote(3, Phase.NOTARIZE, 17, 1_000, digest, 2, signature),
        "Propose": Propose(3, 17, 1_000, digest, EntryKind.DATA, bytes(1_024), 0, signature),
        "AppendEntriesReply": AppendEntriesReply(3, 17, 2, True, 1_000, 0, 99, True),
    }
    for count in entry_counts:
        entries = tuple(Entry(1_000 + k, 17, EntryKind.DATA, bytes(200)) for k in range(count))
        found[f"AppendEntries.{count}"] = AppendEntries(3, 17, 0, 999, 17, 998, 99, entries)
    rows = proposals(20)
    found["Application.20"] = Application(Channel.OPINION, 1, 7, 1_234, PROPOSAL_LAYOUT, rows.tobytes(), b"")
    return found


def bench_wire(rounds: int, json_file: Path | None, console: Console) -> list[Row]:
    """Measure every codec, print the table, write `json_file`. Raises OSError where it cannot be written."""
    rows: list[Row] = []
    named = messages()
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("codecs", total=len(SIZES) + len(named))
        for size in SIZES:
            rows += _array_rows(size, rounds)
            progress.advance(task)
        for name, message in named.items():
            rows += _message_rows(name, message, rounds)
            progress.advance(task)
    console.print(table_of("wire: codecs, µs a call", rows))
    if json_file is not None:
        settings = {"rounds": rounds, "record_bytes": PROPOSAL_DTYPE.itemsize, "read_columns": READ_COLUMNS}
        write_rows(json_file, settings, rows)
    return rows


def _array_rows(size: int, rounds: int) -> list[Row]:
    array = proposals(size)
    rows: list[Row] = []
    maps = _record_calls(array, CodecKind.MSGPACK)
    candidates = {
        "columns": (_record_calls(array, CodecKind.CAPNP), MAPS, maps),
        "msgpack_columns": (_record_calls(array, CodecKind.MSGPACK_COLUMNS), MAPS, maps),
        "capnp_rows": (_capnp_row_calls(array), MAPS, maps),
        # The baseline without its checks: what a program that trusts its peers would pay.
        "bare_maps": (_bare_map_calls(array), MAPS, maps),
    }
    for codec, (ours, against, theirs) in candidates.items():
        for step in ("", ".encode", ".decode", ".read"):
            name = f"codec.{codec}.{size}{step}"
            rows.append(compare(name, ours[step], against, theirs[step], rounds))
    return rows


def _record_calls(array: NDArray[np.void], codec: CodecKind) -> dict[str, Call]:
    data = encode_records(array, codec)

    def read() -> list[NDArray[Any]]:
        decoded = decode_records(data, PROPOSAL_LAYOUT)
        return [np.ascontiguousarray(decoded[name]) for name in READ_COLUMNS]

    return {
        "": lambda: decode_records(encode_records(array, codec), PROPOSAL_LAYOUT),
        ".encode": lambda: encode_records(array, codec),
        ".decode": lambda: decode_records(data, PROPOSAL_LAYOUT),
        ".read": read,
    }


def _bare_map_calls(array: NDArray[np.void]) -> dict[str, Call]:
    names = PROPOSAL_DTYPE.names or ()
    pack, unpack = msgpack.Packer(autoreset=True).pack, msgpack.unpackb

    def write() -> Any:
        return pack([dict(zip(names, row, strict=True)) for row in array.tolist()])

    def parse(data: bytes) -> NDArray[np.void]:
        return np.array([tuple([row[name] for name in names]) for row in unpack(data)], PROPOSAL_DTYPE)

    def read() -> list[NDArray[Any]]:
        rows = unpack(data)
        return [np.array([row[name] for row in rows], PROPOSAL_DTYPE[name]) for name in READ_COLUMNS]

    data = write()
    return {"": lambda: parse(write()), ".encode": write, ".decode": lambda: parse(data), ".read": read}


def _capnp_row_calls(array: NDArray[np.void]) -> dict[str, Call]:
    schema: Any = capnp.load(str(Path(__file__).with_name("proposals.capnp")), imports=[])
    names = PROPOSAL_DTYPE.names or ()
    spelled = {name: "limitPrice" if name == "limit_price" else name for name in names}

    def write() -> bytes:
        message = schema.Proposals.new_message()
        rows = message.init("rows", len(array))
        for target, row in zip(rows, array.tolist(), strict=True):
            for name, value in zip(names, row, strict=True):
                setattr(target, spelled[name], value)
        return bytes(message.to_bytes())

    def parse(data: bytes) -> NDArray[np.void]:
        with schema.Proposals.from_bytes(data) as message:
            rows = [tuple([getattr(row, spelled[name]) for name in names]) for row in message.rows]
        return np.array(rows, PROPOSAL_DTYPE)

    def read() -> list[NDArray[Any]]:
        with schema.Proposals.from_bytes(data) as message:
            return [
                np.array([getattr(row, spelled[name]) for row in message.rows], PROPOSAL_DTYPE[name])
                for name in READ_COLUMNS
            ]

    data = write()
    return {"": lambda: parse(write()), ".encode": write, ".decode": lambda: parse(data), ".read": read}


def _message_rows(name: str, message: Message, rounds: int) -> list[Row]:
    rows = []
    for codec, label in ((CodecKind.CAPNP, "capnp"), (CodecKind.MSGPACK_COLUMNS, "msgpack_columns")):
        ours, theirs = _message_calls(message, codec), _message_calls(message, CodecKind.MSGPACK)
        for step in ours:
            row_name = f"message.{label}.{name}{step}"
            rows.append(compare(row_name, ours[step], MAPS, theirs[step], rounds))
    return rows


def _message_calls(message: Message, codec: CodecKind) -> dict[str, Call]:
    data = encode(message, codec)
    return {
        "": lambda: decode(encode(message, codec)),
        ".encode": lambda: encode(message, codec),
        ".decode": lambda: decode(data),
    }


def compare(name: str, ours: Call, against: str, theirs: Call, rounds: int) -> Row:
    """One row in microseconds a call; each side is called so often a round that the clock's grain does not matter."""
    counts = {"ours": _count(ours), "theirs": _count(theirs)}

    def repeated(call: Call, count: int) -> Call:
        def run() -> None:
            for _ in range(count):
                call()

        return run

    sides = {"ours": repeated(ours, counts["ours"]), "theirs": repeated(theirs, counts["theirs"])}
    # A codec waits for nothing: this thread's own time keeps other processes out of the figure.
    seconds = interleaved(sides, rounds, time.thread_time)
    microseconds = {side: [1e6 * took / counts[side] for took in took_s] for side, took_s in seconds.items()}
    return row_of_pairs(name, "µs", microseconds["ours"], against, microseconds["theirs"])


def _count(call: Call) -> int:
    """How often `call` fits into a slice."""
    call()
    count = 1
    while True:
        began = time.perf_counter()
        for _ in range(count):
            call()
        took_s = time.perf_counter() - began
        if took_s >= SLICE_S / 4:
            return max(1, round(count * SLICE_S / took_s))
        count *= 4
