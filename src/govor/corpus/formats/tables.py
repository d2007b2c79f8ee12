"""Rows of tables in text: CSV, TSV, JSON Lines and JSON, as they stand there, each with its place.

A line that is broken for itself becomes a row with an `AudioError` under `error`, so that it is listed; a table whose rows
cannot be told apart any more is refused.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, Literal, cast

from govor.corpus.cells import from_cells
from govor.corpus.formats.rows import AUDIO_KEYS, TEXT_KEYS, of_inventory
from govor.corpus.inventory import is_inventory_row
from govor.corpus.manifests import parse_row
from govor.corpus.records import Row
from govor.errors import AudioError, GovorError

_DELIMITERS = {",": "a comma", "\t": "a tab", ";": "a semicolon", "|": "a bar"}
# A JSON document is read whole.
_MAX_JSON_BYTES = 500_000_000
_MAX_CELL_CHARACTERS = 10_000_000
_BOMS = ((b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


def table_rows(path: Path, encoding: str | None = None) -> Iterator[tuple[Row, str]]:
    """(row, "file:line") of a `.csv`, `.tsv`, `.jsonl` or `.json`, also gzipped; `encoding` is that of a file without a
    byte-order mark, UTF-8 by default.

    Raises:
        GovorError: no such table, another encoding, no audio column, or quotes that swallow rows.
    """
    suffix = Path(path.stem).suffix.lower() if path.suffix.lower() == ".gz" else path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        yield from _separated(path, "\t" if suffix == ".tsv" else ",", encoding)
    elif suffix in (".jsonl", ".json", ".ndjson"):
        yield from _json_rows(path, suffix, encoding)
    else:
        raise GovorError(f"{path} is no manifest: a folder, .jsonl, .json, .csv, .tsv or .parquet was wanted.")


@contextmanager
def _opened(path: Path, encoding: str | None, newline: str | None) -> Iterator[IO[str]]:
    """The text of a file; whatever is wrong with its bytes while it is read is one sentence."""
    named = "UTF-8"
    try:
        with _bytes_of(path) as handle:
            start = handle.read(4)
            handle.seek(0)
            marked = next((name for bom, name in _BOMS if start.startswith(bom)), None)
            named = marked or encoding or "UTF-8"
            wanted = marked or encoding or "utf-8-sig"
            with io.TextIOWrapper(handle, encoding=wanted, newline=newline) as text:
                yield text
    except LookupError:
        raise GovorError(f"'{named}' is no text encoding; cp1250, cp1255 and utf-16-le are some.") from None
    except UnicodeError:
        raise GovorError(f"{path} is not {named} text; save it as UTF-8, or try --encoding cp1250 or cp1255.") from None
    except (gzip.BadGzipFile, EOFError) as error:
        raise GovorError(f"{path} cannot be read as gzip: {error}.") from None
    except FileNotFoundError:
        raise GovorError(f"{path} was not found.") from None
    except OSError as error:
        raise GovorError(f"{path} cannot be read: {error.strerror or error}.") from None
    except Exception as error:
        if path.suffix.lower() != ".gz" or type(error).__module__ != "zlib":
            raise
        raise GovorError(f"{path} cannot be read as gzip: {error}.") from None


def _bytes_of(path: Path) -> BinaryIO:
    if not path.is_file():
        raise GovorError(f"{path} is not an ordinary file." if path.exists() else f"{path} was not found.")
    return cast(BinaryIO, gzip.open(path, "rb")) if path.suffix.lower() == ".gz" else path.open("rb")


def _separated(path: Path, delimiter: str, encoding: str | None) -> Iterator[tuple[Row, str]]:
    with _opened(path, encoding, _line_ends(path)) as handle:
        above = 0  # lines before the rows
        first = "\n"
        while first.isspace():
            first = handle.readline()
            above += 1
        names, quoted = _header(path, first, delimiter)
        # Common Voice writes quotes as they are.
        quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
        cells_of = csv.reader(handle, delimiter=delimiter, quoting=quoting, strict=True)
        csv.field_size_limit(_MAX_CELL_CHARACTERS)
        while True:
            before = cells_of.line_num
            where = f"{path}:{before + above + 1}"
            try:
                cells = next(cells_of)
            except StopIteration:
                return
            except csv.Error as error:
                yield _broken_line(where, error, cells_of.line_num - before), where
                continue
            if any(cell.strip() for cell in cells):
                yield _row(names, cells if quoted else [_unquoted(cell) for cell in cells], where), where


def _line_ends(path: Path) -> str:
    """Lines end at \\n, so that a carriage return in a cell stays where it is; old files know nothing but \\r."""
    with _bytes_of(path) as handle:
        try:
            start = handle.read(65_536)
        except Exception:  # said where the file is read
            return "\n"
    return "" if b"\r" in start and b"\n" not in start else "\n"


def _header(path: Path, line: str, delimiter: str) -> tuple[list[str], bool]:
    """Names of the columns, and whether quotes are signs of the table and not letters."""
    quoted = delimiter == "," or all(_in_quotes(cell) for cell in line.strip().split(delimiter))
    try:
        names = next(csv.reader([line], delimiter=delimiter, strict=True), []) if quoted else line.split(delimiter)
    except csv.Error as error:
        raise GovorError(f"{path}:1: the names of the columns cannot be read ({error}).") from None
    names = [name.strip().removeprefix("\ufeff") for name in names]
    twice = next((name for number, name in enumerate(names) if name and name in names[:number]), None)
    if twice:
        raise GovorError(f"{path}: the column '{twice}' stands twice; rename one of them.")
    for wanted, what in ((AUDIO_KEYS, "audio"), ((*TEXT_KEYS, "segments"), "transcript")):
        if not set(wanted) & set(names):
            raise GovorError(
                f"{path}: no {what} column; the columns, separated by {_DELIMITERS[delimiter]} ({delimiter!r}), are "
                f"{', '.join(map(repr, names))[:300]}; one named {', '.join(wanted)} was wanted{_other(line, delimiter)}."
            )
    return names, quoted


def _other(line: str, delimiter: str) -> str:
    """A hint where another delimiter would show the columns."""
    for other, called in _DELIMITERS.items():
        cells = {cell.strip().strip('"') for cell in line.split(other)}
        if other != delimiter and cells & set(AUDIO_KEYS) and len(cells) > 1:
            return f" (the cells look separated by {called}, {other!r}: save the table with {_DELIMITERS[delimiter]} between them)"
    return ""


def _row(names: list[str], cells: list[str], where: str) -> Row:
    row: Row = dict(zip(names, cells, strict=False))
    if len(cells) != len(names):
        message = (
            f"{where}: {len(cells)} cells where the table has {len(names)} columns; put texts with commas into quotes."
        )
        over = {"more_cells": cells[len(names) :]} if len(cells) > len(names) else {}
        return {**row, **over, "error": AudioError("malformed_row", message)}
    if is_inventory_row(row):
        row = of_inventory(from_cells(row))
    return {name: value for name, value in row.items() if name and value != ""}


def _broken_line(where: str, error: csv.Error, lines: int) -> Row:
    if lines != 1:
        raise GovorError(
            f"{where}: a quote is opened here and not closed where its cell ends; mend it, or rows are lost."
        )
    what = "a line break or carriage return without quotes" if "new-line" in str(error) else str(error)
    return {"line": where, "error": AudioError("malformed_row", f"{where}: the row cannot be read ({what}).")}


def _in_quotes(cell: str) -> bool:
    return len(cell) >= 2 and cell[0] == cell[-1] == '"'


def _unquoted(cell: str) -> str:
    """A cell that some program has put into quotes after all, doubling those inside; any other as it is."""
    inner = cell[1:-1]
    return (
        inner.replace('""', '"') if _in_quotes(cell) and '""' in inner and '"' not in inner.replace('""', "") else cell
    )


def _json_rows(path: Path, suffix: str, encoding: str | None) -> Iterator[tuple[Row, str]]:
    with _opened(path, encoding, None) as handle:
        start = next((line for line in handle if not line.isspace()), "")
    if start.lstrip().startswith("[") or (suffix == ".json" and start and not _is_row(start)):
        yield from _document(path, encoding)
        return
    with _opened(path, encoding, None) as handle:
        for number, line in enumerate(handle, start=1):
            if not line.isspace():
                where = f"{path}:{number}"
                try:
                    row = parse_row(line, where)
                except GovorError as error:
                    yield {"line": line[:200], "error": AudioError("malformed_row", str(error))}, where
                    continue
                yield _object(row, where), where


def _is_row(line: str) -> bool:
    try:
        return isinstance(parse_row(line, ""), dict)
    except GovorError:
        return False


def _document(path: Path, encoding: str | None) -> Iterator[tuple[Row, str]]:
    """A JSON file that is one list of rows, or one row written over several lines."""
    with _opened(path, encoding, None) as handle:
        text = handle.read(_MAX_JSON_BYTES)
        if len(text) == _MAX_JSON_BYTES:
            raise GovorError(f"{path} is too large for one JSON document; write it as JSON Lines, one row a line.")
    value = parse_row(text, str(path))
    if isinstance(value, dict) and not set(value) & {*AUDIO_KEYS, "supervisions"}:
        names = ", ".join(map(repr, value))[:300]
        raise GovorError(f"{path}: a list of rows was wanted, found one object with {names or 'nothing in it'}.")
    rows = value if isinstance(value, list) else [value]
    for number, row in enumerate(rows, start=1):
        where = f"{path}: row {number}"
        yield _object(row, where), where


def _object(row: object, where: str) -> Row:
    if isinstance(row, dict):
        return row
    message = f"{where}: a JSON object was wanted, found {type(row).__name__}."
    return {"line": str(row)[:200], "error": AudioError("malformed_row", message)}
