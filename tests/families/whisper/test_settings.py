"""What Whisper's section of a recipe and its early checks know without its weights."""

from pathlib import Path

import pytest

from govor.errors import GovorError
from govor.families.registry import family_here, settings_of
from govor.families.whisper.tokens import WhisperTokens


@pytest.mark.parametrize("language", ["nb", "fil", "fil-PH", "jv", "he-IL"])
def test_what_whisper_calls_otherwise_passes_the_early_check(language: str, tiny_folder: Path) -> None:
    settings = settings_of(str(family_here(str(tiny_folder))))
    settings.check_language(language)
    WhisperTokens.load(tiny_folder).language(language)
    with pytest.raises(GovorError, match="no token for language 'xx'"):
        settings.check_language("xx")
