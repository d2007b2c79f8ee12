"""The scoring normalisers: what counts as the same words.

`strict-v1` is ours and the one that counts: letters, marks and diacritics of every script count (š is not s, a missing
vowel sign is an error); case, punctuation and typography do not. `lenient-v1` forgives spelling too (marks, apostrophes,
the script of Bosnian, Croatian and Serbian), to tell what of a gain is spelling. `ivrit` is the one of the ivrit.ai
leaderboard for Hebrew.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from govor.corpus.normalize.bcs import script_of, to_latin
from govor.errors import GovorError, nearest

NAME = "strict-v1"
LENIENT = "lenient-v1"
IVRIT = "ivrit"

_APOSTROPHES = dict.fromkeys(map(ord, "\u2018\u2019\u02bc\u02bb\u05f3\u00b4\u0060\uff07\u02b9"), "'")
_QUOTES = dict.fromkeys(map(ord, "\u05f4\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb\uff02"), '"')
_JOINERS = {0x200C: None, 0x200D: None}  # they shape letters in Persian and Indic text and separate no words
_FOLD = {**_APOSTROPHES, **_QUOTES, **_JOINERS}
# Letters with a stroke have no decomposition into a letter and a mark.
_STROKES = str.maketrans("đłøħŧıæœß", "dlohti\ue000\ue001\ue002")
_LIGATURES = {"\ue000": "ae", "\ue001": "oe", "\ue002": "ss"}
_BCS = frozenset({"bs", "hr", "sr", "cnr", "sh"})

Normaliser = Callable[[str, str | None], str]


def normaliser(name: str) -> Normaliser:
    """A normaliser by its name: (text, language code or None) → words separated by single spaces.

    Raises:
        GovorError: there is no such one.
    """
    if name not in NORMALISERS:
        raise GovorError(f"There is no normaliser '{name}'; {nearest(name, list(NORMALISERS))}")
    return NORMALISERS[name]


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


def lenient_text(text: str, language: str | None = None) -> str:
    """`scoring_text` without marks and without quotes inside words; BCS in Latin letters."""
    scored = scoring_text(text)
    if language in _BCS and script_of(scored) != "latin":
        scored = to_latin(scored)
    plain = "".join(letter for letter in unicodedata.normalize("NFD", scored) if unicodedata.category(letter) != "Mn")
    plain = plain.translate(_STROKES).replace("'", "").replace('"', "")
    for letter, written in _LIGATURES.items():
        plain = plain.replace(letter, written)
    return " ".join(unicodedata.normalize("NFC", plain).split())


# Direction marks and the byte-order mark, points (what the `hebrew` package 0.8.1 removes: no meteg, no rafe), quotes.
_IVRIT_REMOVED = re.compile(
    "[\u061c\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff\u05b0-\u05bc\u05c1\u05c2\u05c4\u05c5\u05c7\"']"
)
_ASIDES = (re.compile(r"[<\[][^>\]]*[>\]]"), re.compile(r"\([^)]+?\)"))


def ivrit_text(text: str) -> str:
    """The normaliser of the ivrit.ai leaderboard, by its rules, flaws kept: geresh, maqaf and curly quotes split words.

    Direction marks, points and ASCII quotes go; then Whisper's basic normaliser: lower case, asides in brackets go, NFKC,
    every mark, symbol and punctuation sign becomes a space.
    """
    bare = _IVRIT_REMOVED.sub("", text).lower()
    for aside in _ASIDES:
        bare = aside.sub("", bare)
    kept = (
        " " if unicodedata.category(letter)[0] in "MSP" else letter for letter in unicodedata.normalize("NFKC", bare)
    )
    return " ".join("".join(kept).lower().split())


NORMALISERS: dict[str, Normaliser] = {
    NAME: lambda text, _: scoring_text(text),
    LENIENT: lenient_text,
    IVRIT: lambda text, _: ivrit_text(text),
}


def _kept(before: str, letter: str, after: str) -> str:
    if letter in "'\"":
        return letter if _in_word(before) and _in_word(after) else " "
    if _in_word(letter):
        return letter
    return "" if unicodedata.category(letter) == "Cf" and letter != "\u200b" else " "


def _in_word(letter: str) -> bool:
    return unicodedata.category(letter)[0] in "LMN"
