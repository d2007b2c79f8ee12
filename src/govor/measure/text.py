"""The scoring normaliser: what counts as the same words.

Strict on purpose: letters, marks and diacritics of every script count (š is not s, a missing vowel sign is an error);
case, punctuation and typography do not.
"""

from __future__ import annotations

import unicodedata

NAME = "strict-v1"

_APOSTROPHES = dict.fromkeys(map(ord, "\u2018\u2019\u02bc\u02bb\u05f3\u00b4\u0060\uff07\u02b9"), "'")
_QUOTES = dict.fromkeys(map(ord, "\u05f4\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb\uff02"), '"')
_JOINERS = {0x200C: None, 0x200D: None}  # they shape letters in Persian and Indic text and separate no words
_FOLD = {**_APOSTROPHES, **_QUOTES, **_JOINERS}


def scoring_text(text: str) -> str:
    """Words separated by single spaces, in lower case, without punctuation and symbols.

    Unicode categories decide: letters (L), marks (M) and numbers (N) stay, format characters (Cf) go, everything else
    becomes a space, so no two words are ever joined. A quote inside a word belongs to it (n'ny, צה"ל).
    """
    folded = unicodedata.normalize("NFKC", text.translate(_FOLD)).lower()
    folded = unicodedata.normalize("NFC", folded)
    around = f" {folded} "
    kept = (_kept(*three) for three in zip(around, around[1:], around[2:], strict=False))
    return " ".join("".join(kept).split())


def _kept(before: str, letter: str, after: str) -> str:
    if letter in "'\"":
        return letter if _in_word(before) and _in_word(after) else " "
    if _in_word(letter):
        return letter
    return "" if unicodedata.category(letter) == "Cf" and letter != "\u200b" else " "


def _in_word(letter: str) -> bool:
    return unicodedata.category(letter)[0] in "LMN"
