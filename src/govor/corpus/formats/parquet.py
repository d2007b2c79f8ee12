"""Parquet with embedded audio, the layout of speech sets on the Hub: read without decoding, batch by batch.

The original encoded bytes go, one after the other, into a blob file; a clip is `blob#offset,length`, so that a random
draw reads one clip and not a row group. Nothing here needs `datasets` or torchcodec.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from govor.audio import probe
from govor.corpus.formats.rows import AUDIO_KEYS, EXTRA_KEY
from govor.corpus.records import Row
from govor.errors import AudioError, GovorError
from govor.files import check_ordinary
from govor.jsons import to_json

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 64
Item = TypeVar("Item")
_AUDIO_COLUMNS = ("audio", *AUDIO_KEYS, "wav", "speech")


def rows_into_blob(shards: Sequence[Path], blob: Path, named: str) -> Iterator[Row]:
    """Rows of parquet shards; the audio of each is in `blob` before the row is handed over. Rows name it `named`: relative
    to the workspace, and as it will be called where the file is renamed in the end."""
    stems = Counter(shard.stem for shard in shards)
    blob.parent.mkdir(parents=True, exist_ok=True)
    with blob.open("wb") as handle:
        for shard in shards:
            name = shard.stem if stems[shard.stem] == 1 else f"{shard.parent.name}-{shard.stem}"
            for number, row in enumerate(shard_rows(shard)):
                row_of_blob = placed(row, handle, named, f"{name}-{number:06d}")
                handle.flush()
                yield row_of_blob


def shard_rows(shard: Path | BinaryIO) -> Iterator[Row]:
    """Rows of one shard, `BATCH_ROWS` at a time; audio is a struct of bytes and path.

    Raises:
        GovorError: not parquet, or no column holds audio bytes.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if isinstance(shard, Path):
        check_ordinary(shard)
    try:
        # Without pre-buffering, memory is one batch and not one row group.
        with pq.ParquetFile(shard, pre_buffer=False, memory_map=isinstance(shard, Path)) as file:
            names = file.schema_arrow.names
            twice = next((name for number, name in enumerate(names) if name in names[:number]), None)
            if twice is not None:
                raise GovorError(f"{shard}: the column '{twice}' stands twice; rename one of them.")
            column = audio_column(file.schema_arrow)
            for batch in file.iter_batches(batch_size=BATCH_ROWS):
                for row in _rows_of(batch):
                    sound = row.pop(column)
                    named = row.pop("audio", None)  # a path beside the bytes of another column
                    yield {**row, "audio": sound if isinstance(sound, dict) else {"bytes": sound, "path": named}}
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise GovorError(f"{shard} is not a readable parquet file: {str(error)[:300].rstrip('.')}.") from None


def _rows_of(batch: pa.RecordBatch) -> list[Row]:
    """A batch as Python rows. A date, time or length of time that Python has no value for is taken as text."""
    try:
        return list(batch.to_pylist())
    except (ValueError, OverflowError):
        columns = {}
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            try:
                columns[name] = column.to_pylist()
            except (ValueError, OverflowError):
                columns[name] = column.cast("string").to_pylist()
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def audio_column(schema: pa.Schema) -> str:
    """The column that holds the audio: bytes, or a struct with bytes in it."""
    import pyarrow.types as kinds

    named = [name for name in _AUDIO_COLUMNS if name in schema.names]
    for name in named:
        kind = schema.field(name).type
        if kinds.is_struct(kind) or kinds.is_binary(kind) or kinds.is_large_binary(kind):
            return name
    columns = ", ".join(f"{field.name} ({str(field.type)[:60]})" for field in schema)
    raise GovorError(f"No audio column was found; the columns are {columns}, one named 'audio' with bytes was wanted.")


def placed(row: Row, handle: BinaryIO, blob: str, default_id: str) -> Row:
    """The row with its audio appended to the blob, which rows call `blob`, and its nested values flattened."""
    row = dict(row)
    sound = row.pop("audio")
    sound = sound if isinstance(sound, dict) else {}
    data = sound.get("bytes")
    data = data if isinstance(data, bytes) else None
    name = str(sound.get("path") or default_id)
    row = _flattened(row)
    stated = next((row[key] for key in ("id", "uuid") if row.get(key) not in (None, "")), default_id)
    row["id"] = stated if isinstance(stated, str | int | float | list | dict) else str(stated)
    if not data:
        return {**row, "audio": name, "error": AudioError("missing", "the row holds no audio bytes.")}
    offset = handle.tell()
    handle.write(data)
    row["audio"] = f"{blob}#{offset},{len(data)}"
    if row.get("duration") is None:
        try:
            row["duration"] = round(probe(data).duration_seconds, 6)
        except AudioError as error:
            row |= {"duration": None, "error": AudioError(error.rule, f"{name}: {error}")}
    return row


def write_parquet(path: Path, rows: Iterable[tuple[Row, bytes, str]], rows_per_group: int = 100) -> int:
    """Rows with their encoded audio as parquet that `datasets` opens with an `Audio` feature; returns how many.

    Values that are no plain column (lists, objects, unknown numbers) stand as JSON in `govor_extra`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    features = {"audio": {"_type": "Audio"}}
    features |= {name: {"dtype": kind, "_type": "Value"} for name, kind in _COLUMNS.items()}
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    kinds = {"string": pa.string(), "float64": pa.float64()}
    fields = [pa.field("audio", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))]
    fields += [pa.field(name, kinds[kind]) for name, kind in _COLUMNS.items()]
    schema = pa.schema(fields, metadata=metadata)
    count = 0
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with pq.ParquetWriter(temporary, schema) as writer:
            for group in _grouped(rows, rows_per_group):
                columns = [_columns(row, data, name) for row, data, name in group]
                writer.write_table(pa.Table.from_pylist(columns, schema=schema))
                count += len(columns)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return count


_COLUMNS = {
    "id": "string",
    "transcript": "string",
    "duration": "float64",
    "language": "string",
    "speaker": "string",
    "source": "string",
    "license": "string",
    "split": "string",
    EXTRA_KEY: "string",
}


def _columns(row: Row, data: bytes, name: str) -> Row:
    rest = {key: value for key, value in row.items() if key == EXTRA_KEY or key not in (*_COLUMNS, "audio")}
    plain = {key: row.get(key) for key in _COLUMNS if key != EXTRA_KEY}
    extra = to_json(rest) if rest else None
    return {"audio": {"bytes": data, "path": name}, **plain, EXTRA_KEY: extra}


def _grouped(rows: Iterable[Item], size: int) -> Iterator[list[Item]]:
    group: list[Item] = []
    for row in rows:
        group.append(row)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def _flattened(row: Row) -> Row:
    """What a `metadata` struct states of itself stands beside the other columns, which win; NaN and dates become JSON."""
    row = {key: _plain(value) for key, value in row.items()}
    inner = row.get("metadata")
    if isinstance(inner, dict):
        alike = {key: value for key, value in inner.items() if row.get(key) is not None and row[key] != value}
        row = {**inner, **{key: value for key, value in row.items() if value is not None}, "metadata": alike or None}
    return {key: value for key, value in row.items() if value is not None}


def _plain(value: Any) -> Any:
    """The value in JSON's kinds: bytes and numbers that are none are left out, dates and decimals become text."""
    if value is None or isinstance(value, bytes) or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if isinstance(value, str | int | float):
        return value
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, timedelta):
        return value.total_seconds()
    return value.isoformat() if isinstance(value, date | time) else str(value)
