"""What the classifier is packaged in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from govor.corpus.records import Clip
from govor.families.base import ExportOptions
from govor.families.exporting import verify_reload
from govor.runs import Json

if TYPE_CHECKING:
    from toy_family.model import Tone


class Safetensors:
    """Configuration and weights."""

    folder = "."

    def check_installed(self) -> None:
        """Nothing more is needed."""

    def write(self, family: Tone, target: Path, _options: ExportOptions) -> None:
        """See `Exporter.write`."""
        family.save(target)

    def verify(self, family: Tone, target: Path, clips: Sequence[Clip], _options: ExportOptions) -> Json:
        """See `verify_reload`."""
        return verify_reload(target, family, clips)

    def usage(self, folder: str, _options: ExportOptions) -> list[str]:
        """With govor."""
        return ["```sh", f"govor evaluate {folder} --manifest test.jsonl", "```"]
