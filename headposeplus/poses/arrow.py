"""The columns of Parquet and Feather files of strangers, read within limits.

Whatever a file says of itself, rows are counted as they come, and texts are kept once.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

import numpy as np

from headposeplus import sheets
from headposeplus.errors import DatasetError
from headposeplus.faults import Fault, said, shown
from headposeplus.poses.columns import READ, Cells, check_names
from headposeplus.raw.ids import ID_COLUMNS, id_column
from headposeplus.sheets import Limits

_STARTS = {b"PAR1": "Parquet", b"ARROW1": "Feather"}
_BATCH = 16_384  # rows of a Parquet file that are unpacked at a time
_FEWEST = 20  # rows of a batch of a Feather file, in the mean
_DICTIONARY = 2  # a kind of message


def kind_of(data: bytes) -> str:
    """Return whether bytes are those of a Parquet or a Feather file; empty if of neither."""
    return next((kind for start, kind in _STARTS.items() if data.startswith(start)), "")


def read_arrow(data: bytes, limits: Limits) -> dict[str, Cells]:
    """Return those columns of a Parquet or Feather file that poses may stand in.

    Raises
    ------
    DatasetError
        If it is damaged, larger than the limits, or its columns hold neither numbers nor texts.
    """
    kind = kind_of(data)
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        mend = "pip install 'headposeplus[parquet]', or write a CSV"
        raise DatasetError(Fault(f"{kind} needs the package pyarrow", mend)) from error
    try:
        if kind == "Feather":
            _check_size(_unpacked_size(data, limits), limits)
            with pa.ipc.open_file(pa.BufferReader(data)) as feather:
                batches = map(feather.get_batch, range(feather.num_record_batches))
                return _columns(batches, _wanted(feather.schema, limits), limits)
        names = _wanted(pq.ParquetFile(pa.BufferReader(data)).schema_arrow, limits)
        texts = [name for name, is_text in names.items() if is_text]
        file = pq.ParquetFile(pa.BufferReader(data), read_dictionary=texts)
        groups = (file.metadata.row_group(place).total_byte_size for place in range(file.metadata.num_row_groups))
        _check_size(sum(groups), limits)
        return _columns(file.iter_batches(_BATCH, columns=list(names), use_threads=False), names, limits)
    except DatasetError:
        raise
    # Whatever another's parser raises on a file that was made to break it.
    except Exception as error:
        mend = "write it again, or write a CSV"
        raise DatasetError(Fault(f"a damaged {kind} file ({said(error)})", mend)) from error


def _check_size(size: int, limits: Limits) -> None:
    if size > limits.bytes:
        raise sheets.too_large(limits)


def _wanted(schema: Any, limits: Limits) -> dict[str, bool]:
    """Return the columns that are read, and whether each holds texts."""
    if len(schema) > limits.columns:
        mend = f"keep the id and the pose, {limits.columns} columns at most"
        raise DatasetError(Fault(f"{len(schema):,} columns", mend))
    kinds = {name: _holds(field.type) for name, field in zip(schema.names, schema, strict=True)}
    names = {name: name.strip().lower() for name in schema.names}
    # A column image may hold images.
    naming = id_column([names[name] for name, kind in kinds.items() if kind]) or id_column(names.values())
    wanted = [name for name in schema.names if names[name] in READ - {*ID_COLUMNS} | {naming}]
    check_names([names[name] for name in wanted])
    for name in wanted:
        if not kinds[name]:
            what = f"the column {shown(name)} holds {str(schema.field(name).type)[:40]}"
            raise DatasetError(Fault(what, "write numbers, and texts as ids"))
    return {name: kinds[name] == "texts" for name in wanted}


def _holds(kind: Any) -> str:
    """Return whether values of a type are ``texts`` or ``numbers``; empty if neither."""
    from pyarrow import types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return "texts"
    numbers = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
    return "numbers" if numbers else ""


def _columns(batches: Iterable[Any], names: dict[str, bool], limits: Limits) -> dict[str, Cells]:
    import pyarrow as pa

    parts: dict[str, list[Any]] = {name: [] for name in names}
    empty: dict[str, list[np.ndarray]] = {name: [] for name in names}
    rows = 0
    for batch in batches:
        rows += batch.num_rows
        if rows > limits.rows:
            raise DatasetError(Fault(f"more than {limits.rows:,} rows", "give a row a frame"))
        for name, is_text in names.items():
            column = batch.column(name)
            column.validate(full=True)
            if is_text:
                parts[name] += _texts(column, name, limits)
            else:
                parts[name].append(column.cast(pa.float64()).to_numpy(zero_copy_only=False))
                empty[name].append(column.is_null().to_numpy(zero_copy_only=False))
    return {
        name.strip().lower(): parts[name] if is_text else _with_gaps(parts[name], empty[name])
        for name, is_text in names.items()
    }


def _with_gaps(parts: list[np.ndarray], empty: list[np.ndarray]) -> Cells:
    """Return the numbers of a column; where some are missing, None stands for these, as NaN may for itself."""
    numbers = np.concatenate([np.zeros(0), *parts])
    missing = np.concatenate([np.zeros(0, bool), *empty])
    if not missing.any():
        return numbers
    return [None if gone else number for number, gone in zip(numbers.tolist(), missing.tolist(), strict=True)]


def _texts(column: Any, name: str, limits: Limits) -> list[str]:
    """Return the texts of a column, an empty one where there is none; none is made before all are known to be short."""
    import pyarrow as pa

    indices = column.indices if pa.types.is_dictionary(column.type) else None
    words = column if indices is None else column.dictionary
    if len(words) > limits.rows:
        raise DatasetError(Fault(f"{len(words):,} words in {shown(name)}", "give a row a frame"))
    if _longest(words) > 4 * limits.text:
        what = f"a text of more than {limits.text} characters in {shown(name)}"
        raise DatasetError(Fault(what, "use ids such as biwi/01/00003"))
    words = words.cast(pa.large_string())
    return [text or "" for text in (words if indices is None else words.take(indices)).to_pylist()]


def _longest(words: Any) -> int:
    """Return the bytes of the longest of some texts. Views of a text may be many and long though it is short itself."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not len(words) or not pa.types.is_string_view(words.type):
        return int(pc.max(pc.binary_length(words)).as_py() or 0)
    views = np.frombuffer(words.buffers()[1], np.int32).reshape(-1, 4)[words.offset : words.offset + len(words)]
    return int(views[words.is_valid().to_numpy(zero_copy_only=False), 0].max(initial=0))


def _unpacked_size(data: bytes, limits: Limits) -> int:
    """Return the bytes that a Feather file unpacks to, as each of its buffers says.

    Arrow allocates as much before it unpacks anything. The file's last bytes list its batches: where each message
    starts, and how long it and the buffers behind it are.
    """
    footer = data[-10 - _number(data, len(data) - 10, "<i") : -10]
    root, size, described = _number(footer, 0, "<I"), 0, 0
    for number, (start, length, buffers) in enumerate(
        struct.iter_unpack("<qi4xq", _list(footer, root, 2, 24) + _list(footer, root, 3, 24))
    ):
        if number * _FEWEST > limits.rows:
            raise DatasetError(Fault(f"batches of less than {_FEWEST} rows", "write it as one batch"))
        described += length
        if described > len(data):
            raise ValueError("batches that overlap")
        message = data[start : start + length]
        words = message[8:] if message.startswith(b"\xff" * 4) else message[4:]
        root_of_message = _number(words, 0, "<I")
        kind, records = _field(words, root_of_message, 1), _table(words, root_of_message, 2)
        if kind is not None and records is not None and words[kind] == _DICTIONARY:
            records = _table(words, records, 1)
        if records is None:
            raise ValueError("a message without records")
        # Its first version said that it is packed in the message's own fields.
        if _field(words, records, 3) is None and _field(words, root_of_message, 4) is None:
            size += buffers
            continue
        for place, count in struct.iter_unpack("<qq", _list(words, records, 2, 16)):
            size += max(count, _number(data, start + length + place, "<q")) if count >= 8 else 0
    return size


def _list(words: bytes, table: int, number: int, size: int) -> bytes:
    """Return the items, each of so many bytes, of the list that is a field of a FlatBuffers table."""
    place = _table(words, table, number)
    return b"" if place is None else words[place + 4 : place + 4 + size * _number(words, place, "<I")]


def _number(words: bytes, place: int, form: str) -> int:
    return int(struct.unpack_from(form, words, place)[0])


def _field(words: bytes, table: int, number: int) -> int | None:
    """Return the place of a field of a FlatBuffers table; None if it is absent."""
    layout = table - _number(words, table, "<i")
    if 4 + 2 * number >= _number(words, layout, "<H"):
        return None
    offset = _number(words, layout + 4 + 2 * number, "<H")
    return table + offset if offset else None


def _table(words: bytes, table: int, number: int) -> int | None:
    """Return the place of the table, or of the list, that a field of a FlatBuffers table refers to."""
    place = _field(words, table, number)
    return None if place is None else place + _number(words, place, "<I")
