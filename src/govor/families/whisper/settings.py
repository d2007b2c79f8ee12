"""What is known of Whisper without loading it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from govor.errors import GovorError, nearest
from govor.families.recogniser import RECOGNITION, RecognitionGates
from govor.families.settings import FamilySettings
from govor.families.whisper.checks import DEFAULT_VOCABULARY, STEERING, check_model
from govor.families.whisper.heads import write_heads
from govor.families.whisper.packages import PACKAGES

if TYPE_CHECKING:
    from govor.families.whisper.ct2 import CTranslate2Whisper
    from govor.families.whisper.model import Whisper


def check_language(code: str) -> None:
    """Refuse a language that the vocabulary has no token for."""
    from govor.families.whisper.tokens import LANGUAGES, token_code

    if token_code(code) not in LANGUAGES:
        raise GovorError(f"Whisper has no token for language '{code}'; {nearest(code, LANGUAGES)}")


def _from_ctranslate2(folder: Path) -> Whisper:
    from govor.families.whisper.convert import from_ctranslate2

    return from_ctranslate2(folder)


def _from_ggml(file: Path) -> Whisper:
    from govor.families.whisper.convert import from_ggml

    return from_ggml(file)


def _ct2(folder: Path) -> CTranslate2Whisper:
    from govor.families.whisper.ct2 import CTranslate2Whisper

    return CTranslate2Whisper.load(folder)


SETTINGS = FamilySettings(
    task=RECOGNITION,
    gates=RecognitionGates,
    formats=("hf", "ct2"),
    check_language=check_language,
    check_model=check_model,
    vocabulary=DEFAULT_VOCABULARY,
    steering=STEERING,
    importers={"ctranslate2": _from_ctranslate2, "ggml": _from_ggml},
    engines={"ct2": _ct2},
    packages=PACKAGES,
    library="transformers",
    write_heads=write_heads,
)
