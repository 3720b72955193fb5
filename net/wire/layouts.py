"""Packed record arrays: which dtype a layout number stands for, and the arrays as bytes.

A record array travels either row by row, as maps with field names (the baseline that most programs start with), or as
the array's own bytes, which the reader uses in place. The second is 30 to 100 times cheaper, whichever library frames
it: the gain is the layout's.
"""

from __future__ import annotations

import struct
from typing import Any, Final

import msgpack
import numpy as np
from numpy.typing import NDArray

from net.wire.errors import COUNT_MAX, MESSAGE_BYTES_MAX, WireError
from net.wire.kinds import CodecKind

LAYOUT_MAX: Final = 2**16 - 1
NO_LAYOUT: Final = 0

_MAGIC: Final = 0xA7
_HEADER: Final = struct.Struct("<BBH")  # magic, codec, layout
_CAPNP: Final = struct.Struct("<IIQQ")  # the struct Records of schema.capnp: segment table, root, pointer to the rows
_BIN: Final = struct.Struct(">BI")  # MessagePack bin 32
_LIST_MASK: Final = (1 << 35) - 1
_CODECS: Final = frozenset(CodecKind)
_PYTHON_TYPE: Final[dict[str, type]] = {"i": int, "u": int, "f": float, "b": bool, "S": bytes}

_DTYPE_OF: Final[dict[int, np.dtype[np.void]]] = {}
_LAYOUT_OF: Final[dict[np.dtype[np.void], int]] = {}


def register_layout(layout: int, dtype: np.dtype[Any]) -> None:
    """Let `layout` (1 to 65535) stand for `dtype` in this process.

    The dtype must be a packed little-endian record of numbers, booleans or fixed byte strings, without padding, so that
    equal rows have equal bytes in every codec. Registering the same pair again does nothing. Raises ValueError.
    """
    if not 1 <= layout <= LAYOUT_MAX:
        raise ValueError(f"layout {layout} must be from 1 to {LAYOUT_MAX}")
    _check_dtype(layout, dtype)
    known = _DTYPE_OF.get(layout)
    if known is not None and known != dtype:
        raise ValueError(f"layout {layout} already stands for another dtype")
    if _LAYOUT_OF.get(dtype, layout) != layout:
        raise ValueError(f"the dtype of layout {layout} is already registered as layout {_LAYOUT_OF[dtype]}")
    _DTYPE_OF[layout] = dtype
    _LAYOUT_OF[dtype] = layout


def _check_dtype(layout: int, dtype: np.dtype[Any]) -> None:
    if dtype.names is None or dtype.fields is None:
        raise ValueError(f"layout {layout}: wanted a record dtype with named fields")
    width = 0
    for name in dtype.names:
        part, offset = dtype.fields[name][:2]
        if offset != width:
            raise ValueError(f"layout {layout}: field {name} leaves padding; pack the dtype")
        if part.subdtype is not None or part.kind not in _PYTHON_TYPE or part.newbyteorder("<") != part:
            raise ValueError(f"layout {layout}: field {name} must be a little-endian number, boolean or S string")
        width += part.itemsize
    if width != dtype.itemsize:
        raise ValueError(f"layout {layout}: the dtype ends in padding; pack it")


def layout_dtype(layout: int) -> np.dtype[np.void]:
    """The dtype that `layout` stands for. Raises WireError when nobody registered it here."""
    try:
        return _DTYPE_OF[layout]
    except KeyError:
        raise WireError(f"layout {layout} is not registered in this process") from None


def check_records(layout: int, size_bytes: int) -> None:
    """Raise WireError unless `size_bytes` is a whole number of rows of `layout` (0: no rows at all)."""
    if layout == NO_LAYOUT:
        if size_bytes:
            raise WireError("records without a layout")
        return
    if size_bytes % layout_dtype(layout).itemsize:
        raise WireError(f"{size_bytes} bytes are no whole number of rows of layout {layout}")


def rows_as_maps(layout: int, records: bytes) -> list[dict[str, Any]]:
    """Every row as a map from field name to Python value. Raises WireError for bytes that do not fit the layout."""
    check_records(layout, len(records))
    if layout == NO_LAYOUT:
        return []
    return _as_maps(np.frombuffer(records, layout_dtype(layout)))


def _as_maps(array: NDArray[np.void]) -> list[dict[str, Any]]:
    names = array.dtype.names or ()
    return [dict(zip(names, row, strict=True)) for row in array.tolist()]


def maps_as_array(layout: int, rows: Any) -> NDArray[np.void]:
    """The inverse of `rows_as_maps`, as a record array. Raises WireError for missing fields or values out of range."""
    dtype = layout_dtype(layout)
    names = dtype.names or ()
    if type(rows) is not list or len(rows) > COUNT_MAX:
        raise WireError(f"wanted a list of at most {COUNT_MAX} rows")
    width = len(names)
    try:
        values = [tuple([row[name] for name in names]) for row in rows if len(row) == width]
        if len(values) != len(rows):
            raise WireError(f"a row of layout {layout} has fields that its dtype does not")
        _check_columns(layout, dtype, values)
        with np.errstate(over="raise"):
            array: NDArray[np.void] = np.array(values, dtype)
    except (KeyError, TypeError, OverflowError, FloatingPointError) as error:
        raise WireError(f"rows of layout {layout} are malformed: {type(error).__name__} {error}") from error
    return array


def _check_columns(layout: int, dtype: np.dtype[np.void], values: list[tuple[Any, ...]]) -> None:
    """numpy would truncate a float to an integer field, parse text, and cut a long byte string, all in silence."""
    for name, column in zip(dtype.names or (), zip(*values, strict=True), strict=False):
        part = dtype[name]
        if set(map(type, column)) != {_PYTHON_TYPE[part.kind]}:
            raise WireError(
                f"field {name} of layout {layout} holds a value that is no {_PYTHON_TYPE[part.kind].__name__}"
            )
        if part.kind == "S" and max(map(len, column)) > part.itemsize:
            raise WireError(f"field {name} of layout {layout} holds more than {part.itemsize} bytes")


def maps_as_records(layout: int, rows: Any) -> bytes:
    """As `maps_as_array`, in bytes; layout 0 has no rows."""
    if layout == NO_LAYOUT:
        if rows != []:
            raise WireError("records without a layout")
        return b""
    return maps_as_array(layout, rows).tobytes()


def encode_records(array: NDArray[np.void], kind: CodecKind) -> bytes:
    """A one-dimensional record array of a registered dtype as bytes that say what they are.

    MSGPACK writes a list of maps, the column codecs the array's own bytes. Raises WireError for an unregistered dtype
    or too many rows.
    """
    layout = _LAYOUT_OF.get(array.dtype)
    if layout is None or array.ndim != 1:
        raise WireError("wanted a one-dimensional record array of a registered dtype")
    if array.nbytes > MESSAGE_BYTES_MAX or (kind is CodecKind.MSGPACK and len(array) > COUNT_MAX):
        raise WireError(f"{len(array)} rows of layout {layout} are too many for one message")
    header = _HEADER.pack(_MAGIC, kind, layout)
    size = array.nbytes
    if kind is CodecKind.MSGPACK:
        return header + bytes(msgpack.packb(_as_maps(array)))
    if kind is CodecKind.CAPNP:
        words = -(-size // 8)
        return (
            header + _CAPNP.pack(0, words + 2, 1 << 48, 1 | 2 << 32 | size << 35) + array.tobytes() + bytes(-size % 8)
        )
    return header + _BIN.pack(0xC6, size) + array.tobytes()


def decode_records(data: bytes, layout: int) -> NDArray[np.void]:
    """A read-only array of `layout` from `encode_records`, whichever codec wrote it.

    Columns are read in place: the array keeps `data` alive and shares its memory (unaligned). Raises WireError.
    """
    if len(data) < _HEADER.size or len(data) > MESSAGE_BYTES_MAX:
        raise WireError(f"{len(data)} bytes are no record array")
    magic, codec, written = _HEADER.unpack_from(data)
    if magic != _MAGIC or codec not in _CODECS:
        raise WireError("these bytes are no record array of a known version and codec")
    if written != layout:
        raise WireError(f"wanted records of layout {layout}, got layout {written}")
    dtype = layout_dtype(layout)
    if codec == CodecKind.MSGPACK:
        array = maps_as_array(layout, unpack(data[_HEADER.size :]))
        array.flags.writeable = False
        return array
    start, size = _columns_of(codec, data)
    if size % dtype.itemsize:
        raise WireError(f"{size} bytes are no whole number of rows of layout {layout}")
    return np.frombuffer(data, dtype, size // dtype.itemsize, start)


def _columns_of(codec: int, data: bytes) -> tuple[int, int]:
    """Where the rows start in `data` and how many bytes they have."""
    try:
        if codec == CodecKind.CAPNP:
            segments, words, root, rows = _CAPNP.unpack_from(data, _HEADER.size)
            size, start = rows >> 35, _HEADER.size + _CAPNP.size
            whole = start + -(-size // 8) * 8
            known = (segments, words, root, rows & _LIST_MASK) == (0, -(-size // 8) + 2, 1 << 48, 1 | 2 << 32)
        else:
            code, size = _BIN.unpack_from(data, _HEADER.size)
            start = _HEADER.size + _BIN.size
            whole, known = start + size, code == 0xC6
    except struct.error as error:
        raise WireError(f"{len(data)} bytes are no record array") from error
    if not known or whole != len(data):
        raise WireError("a record array whose frame does not fit its bytes")
    return start, size


def unpack(data: bytes) -> Any:
    """Plain MessagePack values with every bound in place. Raises WireError.

    The array bound matters: MessagePack allocates what a header claims before it sees the elements, at every level of
    nesting.
    """
    try:
        return msgpack.unpackb(
            data,
            max_array_len=COUNT_MAX,
            max_map_len=COUNT_MAX,
            max_ext_len=0,
            max_str_len=65_536,
            max_bin_len=len(data),
        )
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError, OverflowError) as error:
        raise WireError(f"malformed MessagePack: {type(error).__name__}") from error
