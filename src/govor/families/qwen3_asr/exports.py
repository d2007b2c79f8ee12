"""What a Qwen3-ASR is packaged in: the native layout of `transformers`, and the older one that vLLM reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from govor.corpus.records import Clip
from govor.families.base import ExportOptions
from govor.families.exporting import verify_reload
from govor.runs import Json

if TYPE_CHECKING:
    from govor.families.qwen3_asr.model import Qwen3Asr


class Transformers:
    """The layout that `transformers` loads."""

    folder = "."

    def check_installed(self) -> None:
        """Nothing more is needed."""

    def write(self, family: Qwen3Asr, target: Path, _options: ExportOptions) -> None:
        """See `Exporter.write`."""
        family.save(target)

    def verify(self, family: Qwen3Asr, target: Path, clips: Sequence[Clip], _options: ExportOptions) -> Json:
        """See `verify_reload`: the family's loader is the stock class itself."""
        return verify_reload(target, family, clips)

    def usage(self, folder: str, options: ExportOptions) -> list[str]:
        """With govor."""
        return ["```sh", f"govor transcribe {folder} clip.wav --language {options.languages[0]}", "```"]


class Thinker:
    """The older `thinker.*` layout."""

    folder = "thinker"

    def check_installed(self) -> None:
        """Nothing more is needed."""

    def write(self, family: Qwen3Asr, target: Path, options: ExportOptions) -> None:
        """See `Exporter.write`."""
        family.save_thinker(target, options.languages)

    def verify(self, family: Qwen3Asr, target: Path, clips: Sequence[Clip], _options: ExportOptions) -> Json:
        """See `verify_reload`."""
        return verify_reload(target, family, clips)

    def usage(self, _folder: str, _options: ExportOptions) -> list[str]:
        """vLLM itself was not run on it, so nothing is promised."""
        return []
