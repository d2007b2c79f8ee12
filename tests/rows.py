"""Manifests for tests, row by row, right or wrong."""

from __future__ import annotations

import json
from pathlib import Path


def row(name: str, audio: str = "a.wav", **more: object) -> dict[str, object]:
    """A row that is right but for what is stated."""
    return {
        "id": name,
        "audio": audio,
        "transcript": "ano",
        "duration": 1.0,
        "language": "cs",
        "license": "own",
        **more,
    }


def lines(path: str, *rows: object) -> Path:
    """A manifest of such rows, and of texts as they stand."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows), encoding="utf-8")
    return Path(path)


# What the head of a scoring that was stopped says of it, besides the number of its clips.
_HEAD = ("model", "source", "set", "context", "decoding", "beam_size", "engine", "precision", "weights", "manifest")


def head_of(summary: dict[str, object]) -> dict[str, object]:
    """The head of the unfinished scoring that a finished one was."""
    return {key: summary[key] for key in _HEAD}
