"""Reader of numbers in MATLAB's files of version 5 (``.mat``), which holds out against damaged ones.

SciPy's reader crashes the process on some files with a few changed bytes, so a build would end with the first one.
The format is MathWorks' "MAT-File Format", level 5: a header of 128 bytes, then elements, each with its type and its
number of bytes; variables are elements of the type matrix, alone or compressed.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Container, Iterator

import numpy as np

from headposeplus.rotations import Floats

_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_TYPES = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8",
}  # fmt: skip
_NUMBERS = range(6, 16)  # the classes of arrays of numbers
_COMPLEX = 0x0800
_LARGEST = 4 << 20  # bytes of a variable that are decompressed


def read_arrays(data: bytes, names: Container[str]) -> dict[str, Floats]:
    """Return the named arrays of real numbers among the variables in the bytes of a file.

    Raises
    ------
    ValueError
        If the bytes are no such file, or it is damaged as far as it was read.
    """
    mark = data[_HEADER - 2 : _HEADER]
    if mark not in (b"IM", b"MI") or not data.startswith(b"MATLAB 5.0"):
        raise ValueError("not a MATLAB file of version 5")
    order = "<" if mark == b"IM" else ">"
    arrays: dict[str, Floats] = {}
    for kind, content in _elements(data[_HEADER:], order):
        if kind == _COMPRESSED:
            elements = _decompressed(content, order)
        else:
            elements = iter([(kind, content)])
        found = [_variable(inner, order) for inner_kind, inner in elements if inner_kind == _MATRIX]
        arrays |= {name: values for name, values in found if values is not None and name in names}
    return arrays


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Yield the type and the content of each element."""
    at = 0
    word = np.dtype(f"{order}u4")
    while at < len(data):
        if at + 8 > len(data):
            raise ValueError(f"ends within the tag of an element, {len(data) - at} bytes short of 8")
        kind, size = (int(value) for value in np.frombuffer(data, word, 2, at))
        start = at + 8
        if kind >> 16:  # a small element: its content lies in the tag
            kind, size, start = kind & 0xFFFF, kind >> 16, at + 4
            if size > 4:
                raise ValueError(f"a small element of {size} bytes")
        if start + size > len(data):
            raise ValueError(f"ends {start + size - len(data)} bytes early")
        yield kind, data[start : start + size]
        at = start + size if kind == _COMPRESSED else start + size + -(start + size) % 8


def _decompressed(content: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Return the elements of a compressed one."""
    unpack = zlib.decompressobj()
    try:
        plain = unpack.decompress(content, _LARGEST)
    except zlib.error as error:
        raise ValueError(f"a compressed variable is damaged: {error}") from error
    if not unpack.eof:
        raise ValueError("a compressed variable is cut off or too large")
    return _elements(plain, order)


def _variable(content: bytes, order: str) -> tuple[str, Floats | None]:
    """Return the name of a variable, and its array if that holds real numbers."""
    parts = list(_elements(content, order))
    if len(parts) < 3 or len(parts[0][1]) != 8:
        raise ValueError("a variable without class, shape and name")
    flags = int(np.frombuffer(parts[0][1], f"{order}u4", 1)[0])
    name = parts[2][1].decode("ascii", "replace")
    if flags & 0xFF not in _NUMBERS or flags & _COMPLEX or len(parts) < 4 or parts[3][0] not in _TYPES:
        return name, None
    if len(parts[1][1]) % 4:
        raise ValueError(f"{name}: the shape is damaged")
    shape = [int(length) for length in np.frombuffer(parts[1][1], f"{order}i4")]
    stored = np.dtype(f"{order}{_TYPES[parts[3][0]]}")
    if min(shape, default=-1) < 0 or math.prod(shape) * stored.itemsize != len(parts[3][1]):
        raise ValueError(f"{name}: {len(parts[3][1])} bytes for the shape {shape}")
    with np.errstate(invalid="ignore"):  # of garbage read as numbers
        values = np.frombuffer(parts[3][1], stored).astype(np.float64)
    return name, values.reshape(shape, order="F")
