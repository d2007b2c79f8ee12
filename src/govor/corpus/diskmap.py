"""Look-ups whose memory does not grow with the corpus."""

from __future__ import annotations

import sqlite3
import tempfile
from types import TracebackType

_IN_MEMORY = 50_000
_CACHE_KIB = 32_768


class DiskMap:
    """Text → text. Small ones stay in memory; a large one moves into a temporary SQLite file."""

    def __init__(self) -> None:
        self._small: dict[str, str] | None = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._database: sqlite3.Connection | None = None

    def setdefault(self, key: str, value: str) -> str:
        """What `key` holds, after storing `value` where it held nothing."""
        existing = self.get(key)
        if existing is None:
            self._store(key, value)
        return value if existing is None else existing

    def get(self, key: str) -> str | None:
        """What `key` holds."""
        if self._small is not None:
            return self._small.get(key)
        row = self._open().execute("SELECT value FROM entries WHERE key = ?", (_bytes(key),)).fetchone()
        return None if row is None else bytes(row[0]).decode("utf-8", "surrogatepass")

    def __contains__(self, key: str) -> bool:
        return self.get(key) is not None

    def __setitem__(self, key: str, value: str) -> None:
        self._store(key, value)

    def __enter__(self) -> DiskMap:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the temporary file."""
        if self._database is not None:
            self._database.close()
            self._database = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _store(self, key: str, value: str) -> None:
        if self._small is not None:
            self._small[key] = value
            if len(self._small) > _IN_MEMORY:
                self._spill()
        else:
            self._open().execute("REPLACE INTO entries VALUES (?, ?)", (_bytes(key), _bytes(value)))

    def _spill(self) -> None:
        rows_in_memory, self._small = self._small or {}, None
        rows = ((_bytes(key), _bytes(value)) for key, value in rows_in_memory.items())
        self._open().executemany("REPLACE INTO entries VALUES (?, ?)", rows)

    def _open(self) -> sqlite3.Connection:
        if self._database is None:
            self._folder = tempfile.TemporaryDirectory(prefix="govor-")
            self._database = temporary_database(self._folder.name)
            self._database.execute("CREATE TABLE entries (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID")
        return self._database


def temporary_database(folder: str) -> sqlite3.Connection:
    """A fast SQLite file that need not survive a crash."""
    database = sqlite3.connect(f"{folder}/entries.sqlite", isolation_level=None)
    for setting in ("journal_mode=OFF", "synchronous=OFF", "locking_mode=EXCLUSIVE", f"cache_size=-{_CACHE_KIB}"):
        database.execute(f"PRAGMA {setting}")
    database.execute("BEGIN")  # one transaction for its whole life: nothing is flushed row by row
    return database


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
