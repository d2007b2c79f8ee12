"""Parquet with embedded audio, the layout of speech sets on the Hub: read without decoding, batch by batch.

The original encoded bytes go, one after the other, into a blob file; a clip is `blob#offset,length`, so that a random
draw reads one clip and not a row group. Nothing here needs `datasets` or torchcodec.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from govor.audio import probe
from govor.corpus.formats.rows import AUDIO_KEYS, EXTRA_KEY
from govor.errors import AudioError, GovorError
from govor.files import workspace_path

BATCH_ROWS = 64
_AUDIO_COLUMNS = ("audio", *AUDIO_KEYS, "wav", "speech")


def rows_into_blob(shards: Iterable[Path], blob: Path) -> Iterator[dict[str, Any]]:
    """Rows of parquet shards; the audio of each is in `blob` before the row is handed over, which names it in `audio`."""
    blob.parent.mkdir(parents=True, exist_ok=True)
    with blob.open("wb") as handle:
        for shard in shards:
            for number, row in enumerate(shard_rows(shard)):
                kept = placed(row, handle, blob, f"{shard.stem}-{number:06d}")
                handle.flush()
                yield kept


def shard_rows(shard: Path | BinaryIO) -> Iterator[dict[str, Any]]:
    """Rows of one shard, `BATCH_ROWS` at a time; audio is a struct of bytes and path.

    Raises:
        GovorError: not parquet, or no column holds audio bytes.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Without pre-buffering, memory is one batch and not one row group.
        with pq.ParquetFile(shard, pre_buffer=False, memory_map=isinstance(shard, Path)) as file:
            column = audio_column(file.schema_arrow.names)
            for batch in file.iter_batches(batch_size=BATCH_ROWS):
                for row in batch.to_pylist():
                    sound = row.pop(column)
                    yield {**row, "audio": sound if isinstance(sound, dict) else {"bytes": sound, "path": None}}
    except (pa.ArrowInvalid, OSError) as error:
        raise GovorError(f"{shard} is not a readable parquet file: {error}.") from None


def audio_column(names: list[str]) -> str:
    """The column that holds the audio."""
    for name in _AUDIO_COLUMNS:
        if name in names:
            return name
    raise GovorError(
        f"No audio column was found; the columns are {', '.join(names)}, one of them named 'audio' was wanted."
    )


def placed(row: dict[str, Any], handle: BinaryIO, blob: Path, default_id: str) -> dict[str, Any]:
    """The row with its audio appended to the blob and named there, and its nested values flattened."""
    row = dict(row)
    sound = row.pop("audio")
    sound = sound if isinstance(sound, dict) else {}
    data = sound.get("bytes")
    data = data if isinstance(data, bytes) else None
    name = str(sound.get("path") or default_id)
    row = {**_flattened(row), "id": str(row.get("id") or row.get("uuid") or default_id)}
    if not data:
        return {**row, "audio": name, "error": "missing: the row holds no audio bytes."}
    offset = handle.tell()
    handle.write(data)
    row["audio"] = f"{workspace_path(blob)}#{offset},{len(data)}"
    if row.get("duration") is None:
        try:
            row["duration"] = round(probe(data).duration_seconds, 6)
        except AudioError as error:
            row |= {"duration": None, "error": f"{error.rule}: {name}: {error}"}
    return row


def write_parquet(path: Path, rows: Iterable[tuple[dict[str, Any], bytes, str]], rows_per_group: int = 100) -> int:
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


def _columns(row: dict[str, Any], data: bytes, name: str) -> dict[str, Any]:
    rest = {key: value for key, value in row.items() if key not in _COLUMNS and key != "audio"}
    plain = {key: row.get(key) for key in _COLUMNS if key != EXTRA_KEY}
    extra = json.dumps(rest, ensure_ascii=False) if rest else None
    return {"audio": {"bytes": data, "path": name}, **plain, EXTRA_KEY: extra}


def _grouped(rows: Iterable[Any], size: int) -> Iterator[list[Any]]:
    group: list[Any] = []
    for row in rows:
        group.append(row)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def _flattened(row: dict[str, Any]) -> dict[str, Any]:
    """What a `metadata` struct states of itself stands beside the other columns; NaN and dates become JSON."""
    inner = row.get("metadata")
    flat = {**inner, **{k: v for k, v in row.items() if k != "metadata"}} if isinstance(inner, dict) else dict(row)
    return {key: _plain(value) for key, value in flat.items() if _plain(value) is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, bytes):
        return None
    return value if value is None or isinstance(value, str | int | float | bool | list | dict) else str(value)
