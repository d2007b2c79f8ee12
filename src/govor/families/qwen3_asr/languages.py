"""English names of languages: Qwen3-ASR is told its language by name, "language Hebrew<asr_text>".

Its own 30 languages are spelled as its authors spell them; for every other one the English name is a hint that its
language model understands, and fine-tuning teaches the rest.
"""

from __future__ import annotations

from govor.errors import GovorError, nearest
from govor.languages import english_name, language_code, names

# The 30 languages that the published models were trained on.
_PUBLISHED = "ar cs da de el en es fa fi fil fr hi hu id it ja ko mk ms nl pl pt ro ru sv th tr vi yue zh"
PRETRAINED = frozenset(_PUBLISHED.split())


def language_name(language: str) -> str:
    """The English name of a language, however it is stated.

    Raises:
        GovorError: no language is called that.
    """
    try:
        return english_name(language_code(language))
    except GovorError:
        options = names().keys() if len(language) <= 3 else names().values()
        raise GovorError(
            f"'{language}' is no language code or English name of one; {nearest(language, options)}"
        ) from None
