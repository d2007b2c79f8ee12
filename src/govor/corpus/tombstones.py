"""What was asked to be forgotten stays forgotten: hashes of removed recordings, checked whenever new ones come in."""

from __future__ import annotations

from pathlib import Path

from govor.corpus.manifests import read_rows
from govor.corpus.records import Row
from govor.runs import Workspace


def tombstones_file(workspace: Workspace) -> Path:
    """Where they stand."""
    return workspace.manifests / "tombstones.jsonl"


class Tombstones:
    """The recordings that must not come back."""

    @classmethod
    def of(cls, workspace: Workspace) -> Tombstones:
        """Those of a workspace."""
        return cls(tombstones_file(workspace))

    def __init__(self, path: Path) -> None:
        rows = [row for _, row in read_rows(path)] if path.exists() else []
        self._hashes = {row[key] for row in rows for key in ("sha256", "pcm_sha256") if row.get(key)}

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def covers(self, row: Row, pcm_sha256: str = "") -> bool:
        """Whether the row's file or samples were removed on request."""
        whole = row.get("sha256") if row.get("offset") is None else None
        return bool({whole, row.get("pcm_sha256"), pcm_sha256} & self._hashes)
