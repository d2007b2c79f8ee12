"""Where a package of a Whisper names its alignment heads. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from govor.jsons import read_json, write_json

if TYPE_CHECKING:
    from govor.families.base import Head


def write_heads(package: Path, heads: Sequence[Head]) -> None:
    """Name the heads where `transformers` and CTranslate2 look for those that give word times."""
    for file in (package / "generation_config.json", package / "ct2" / "config.json"):
        if file.exists():
            write_json(file, {**read_json(file), "alignment_heads": [list(head) for head in heads]})
