"""The codec bench compares like with like: every candidate gives back the very batch that went in."""

from __future__ import annotations

import numpy as np
import pytest

from core.bench.wire import READ_COLUMNS, _bare_map_calls, _capnp_row_calls, _record_calls, messages, proposals
from net.wire.codec import decode, encode
from net.wire.kinds import CodecKind


@pytest.mark.parametrize("size", [1, 16])
def test_every_candidate_gives_back_the_batch_and_its_columns(size: int) -> None:
    array = proposals(size)
    candidates = [_record_calls(array, codec) for codec in CodecKind]
    candidates += [_capnp_row_calls(array), _bare_map_calls(array)]
    for calls in candidates:
        again = calls[""]()
        assert isinstance(again, np.ndarray)
        assert again.tobytes() == array.tobytes()
        columns = calls[".read"]()
        assert [column.tolist() for column in columns] == [array[name].tolist() for name in READ_COLUMNS]  # type: ignore[attr-defined]


def test_the_messages_measured_are_messages_of_the_wire() -> None:
    for message in messages().values():
        for codec in CodecKind:
            assert decode(encode(message, codec)) == message
