"""A model that cannot do what is asked is refused before it is loaded."""

from pathlib import Path

import pytest

from govor.cli.models import check_model
from govor.errors import GovorError
from govor.families.whisper.tokens import WhisperTokens


@pytest.mark.parametrize("language", ["nb", "fil", "fil-PH", "jv", "he-IL"])
def test_what_whisper_calls_otherwise_passes_the_early_check(language: str, tiny_folder: Path) -> None:
    check_model(str(tiny_folder), languages=[language])
    WhisperTokens.load(tiny_folder).language(language)
    with pytest.raises(GovorError, match="no token for language 'xx'"):
        check_model(str(tiny_folder), languages=["xx"])
