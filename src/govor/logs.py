"""Logs of one JSON object a line."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import IO, Any

from govor import files
from govor.errors import disk_errors
from govor.jsons import to_json
from govor.machine import now


class JsonLines:
    """A log of one JSON object per line, flushed line by line; appended to on resume."""

    def __init__(self, path: Path, keep_until_step: int | None = None) -> None:
        """With `keep_until_step`, lines of later steps are cut first: a resumed run writes them again."""
        with disk_errors(path, "the log"):
            path.parent.mkdir(parents=True, exist_ok=True)
            if keep_until_step is not None and path.exists():
                _truncate(path, keep_until_step)
            self._handle: IO[str] = path.open("a", encoding="utf-8")
        self._path = path

    def write(self, **values: Any) -> None:
        """Append one line."""
        with disk_errors(self._path, "the log"):
            self._handle.write(to_json(values) + "\n")
            self._handle.flush()

    def close(self) -> None:
        """Close the file."""
        self._handle.close()


class RunLog:
    """`logs/training/<run>.log`: every line with timestamp, stage and the run's request_id."""

    def __init__(self, logs: Path, run: str, stage: str) -> None:
        """`logs` is the workspace's folder of logs."""
        self._lines = JsonLines(logs / "training" / f"{run}.log")
        self._fixed = {"request_id": uuid.uuid4().hex[:16], "run": run, "stage": stage}

    def write(self, message: str, **values: Any) -> None:
        """One event."""
        self._lines.write(timestamp=now(), **self._fixed, message=message, **values)

    def close(self) -> None:
        """Close the file."""
        self._lines.close()


def _truncate(path: Path, step: int) -> None:
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue  # the line that was being written when the run was killed
        if row.get("step", 0) <= step:
            lines.append(line)
    files.write_text(path, "".join(line + "\n" for line in lines))
