"""English names of languages: Qwen3-ASR is told its language by name, "language Hebrew<asr_text>".

Its own 30 languages are spelled as its authors spell them; for every other one the English name is a hint that its
language model understands, and fine-tuning teaches the rest.
"""

from __future__ import annotations

from govor.corpus.language import NAMES
from govor.errors import GovorError, nearest

# The 30 languages that the published models were trained on.
_PUBLISHED = "ar cs da de el en es fa fi fil fr hi hu id it ja ko mk ms nl pl pt ro ru sv th tr vi yue zh"
PRETRAINED = frozenset(_PUBLISHED.split())
_BY_NAME = {name.casefold(): name for name in NAMES.values()}


def language_name(language: str) -> str:
    """The English name of a language code; a full English name stays as it is, in the table's spelling.

    Raises:
        GovorError: neither a known code nor a known name.
    """
    found = NAMES.get(language.partition("-")[0]) or _BY_NAME.get(language.casefold())
    if found is None:
        options = NAMES.keys() if len(language) <= 3 else NAMES.values()
        raise GovorError(f"'{language}' is no language code or English name of one; {nearest(language, options)}")
    return found
