"""The scoring normalisers: what counts as the same words.

`strict-v2` is ours and the one that counts: letters, marks and diacritics of every script count (š is not s, a missing
vowel sign is an error); case, punctuation, pictures and typography do not. `lenient-v2` forgives spelling too (marks,
apostrophes, the digits of other scripts, the script of Bosnian, Croatian and Serbian), to tell what of a gain is spelling.
`ivrit` is the one of the ivrit.ai leaderboard for Hebrew.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache, partial

from govor.corpus.alike import normal_form
from govor.corpus.normalize.bcs import to_latin
from govor.errors import GovorError, nearest
from govor.languages import has_dotless_i, is_bcs

NAME = "strict-v2"
LENIENT = "lenient-v2"
IVRIT = "ivrit"

_APOSTROPHES = dict.fromkeys(
    map(ord, "\u2018\u2019\u201b\u02bc\u02bb\u02bd\u05f3\u055a\u00b4\u0060\uff07\uff40\u02b9\u2032\u2035"), "'"
)
_QUOTES = dict.fromkeys(map(ord, "\u05f4\u201c\u201d\u201e\u201f\u2033\u2036\u00ab\u00bb\uff02\u02ba\u02ee"), '"')
# Strokes that only make a word longer: tatweel, lajanyalan, nirugu.
_STRETCHES = dict.fromkeys((0x0640, 0x07FA, 0x180A))
# Nothing is seen of these, whatever their category: joiner of graphemes, fillers, inherent vowels, variation selectors.
_UNSEEN = dict.fromkeys(
    (0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0x180B, 0x1810), 0x3164, *range(0xFE00, 0xFE10), 0xFFA0)
) | dict.fromkeys(range(0xE0100, 0xE01F0))
_FOLD = {**_APOSTROPHES, **_QUOTES, **_STRETCHES, **_UNSEEN}
# NFKC would spell pictures out in letters (ℹ is i, ™ is tm): those of the emoji blocks, and any symbol that asks to be a picture.
_PICTURES = re.compile("[\U0001f10d-\U0001faff\u2120\u2122\u2139]|[^\\w\\s]\ufe0f")
# The dot that lower case keeps of İ, and Lithuanian of an i with an accent, is the dot of the i.
_DOTTED = re.compile("([ij][\u0323-\u0333]*)\u0307+")
# Thai and Lao am comes apart in NFKC; typed in two, it looks the same.
_AM = re.compile("\u0e4d([\u0e48-\u0e4b]?)\u0e32|\u0ecd([\u0ec8-\u0ecb]?)\u0eb2")
_DOUBLED = re.compile("(?<=[\u05d0-\u05ea\u0591-\u05c7])''(?=[\u05d0-\u05ea])")
_LOOSE_QUOTES = re.compile(r"""(?<![^\s'"])['"]|['"](?![^\s'"])""")
_CAPITAL_I = str.maketrans("Iİ", "ıi")
# Letters with a stroke have no decomposition into a letter and a mark.
_STROKES = str.maketrans({"đ": "d", "ł": "l", "ø": "o", "ħ": "h", "ŧ": "t", "ı": "i", "æ": "ae", "œ": "oe"})

# What is longer than a word is a sentence of a language without spaces, and is not said again.
_MOST_WORDS, _LONGEST_WORD = 100_000, 40

Normaliser = Callable[[str, str | None], str]


def normaliser(name: str) -> Normaliser:
    """A normaliser by its name: (text, language code or None) → words separated by single spaces.

    Raises:
        GovorError: there is no such one.
    """
    if name not in NORMALISERS:
        raise GovorError(f"There is no normaliser '{name}'; {nearest(name, list(NORMALISERS))}")
    return NORMALISERS[name]


def scoring_text(text: str, language: str | None = None) -> str:
    """Words separated by single spaces, caseless, without punctuation, symbols and pictures.

    Unicode categories decide: letters (L), numbers (N) and the marks (M) on them stay; format characters (Cf), marks that
    enclose and strokes that stretch go; everything else becomes a space, so no two words are ever joined. A quote inside a
    word belongs to it (n'ny, צה"ל). Case is that of the language: for Turkish, I is the capital of ı.
    """
    return _by_words(_STRICT[has_dotless_i(language)], text)


def _scored(text: str, dotless_i: bool) -> str:
    """`scoring_text` of any text. No rule looks over a space, so a text is scored as its words are."""
    bare = "".join(map(_seen, _PICTURES.sub(_pictured, text).translate(_FOLD)))
    folded = _grounded(normal_form("NFKC", bare))
    if dotless_i:
        folded = folded.translate(_CAPITAL_I)
    # As Unicode defines it; what folding leaves apart is composed at the very end.
    folded = normal_form("NFKC", normal_form("NFD", folded).casefold())
    folded = normal_form("NFKD", folded.casefold())
    folded = normal_form("NFKC", _DOTTED.sub(r"\1", folded)).translate(_FOLD)
    spelled = _LOOSE_QUOTES.sub(" ", _DOUBLED.sub('"', _grounded("".join(map(_kept, folded)))))
    composed = normal_form("NFC", " ".join(spelled.split()))
    return _AM.sub(lambda match: f"{match[1]}\u0e33" if match[1] is not None else f"{match[2]}\u0eb3", composed)


def lenient_text(text: str, language: str | None = None) -> str:
    """`scoring_text` without marks and without quotes inside words, in European digits; BCS in Latin letters."""
    return _by_words(_LENIENT[has_dotless_i(language), is_bcs(language)], text)


def _lenient(text: str, dotless_i: bool, bcs: bool) -> str:
    plain = _without_marks(_STRICT[dotless_i][text])
    if bcs:
        plain = _without_marks(to_latin(plain))
    return " ".join(normal_form("NFC", plain.translate(_STROKES)).split())


class _Words(dict[str, str]):
    """What words are scored as, found out once: a corpus says few words many times."""

    def __init__(self, of_text: Callable[[str], str]) -> None:
        super().__init__()
        self._of_text = of_text

    def __missing__(self, word: str) -> str:
        scored = self._of_text(word)
        if len(word) <= _LONGEST_WORD:
            if len(self) == _MOST_WORDS:
                self.clear()
            self[word] = scored
        return scored


_STRICT = {dotless: _Words(partial(_scored, dotless_i=dotless)) for dotless in (False, True)}
_LENIENT = {
    (dotless, bcs): _Words(partial(_lenient, dotless_i=dotless, bcs=bcs))
    for dotless in (False, True)
    for bcs in (False, True)
}


def _by_words(words: _Words, text: str) -> str:
    return " ".join(filter(None, map(words.__getitem__, text.split())))


def _without_marks(text: str) -> str:
    return "".join(map(_plain, normal_form("NFD", text)))


# Direction marks and the byte-order mark, points (what the `hebrew` package 0.8.1 removes: no meteg, no rafe), quotes.
_IVRIT_REMOVED = re.compile(
    "[\u061c\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff\u05b0-\u05bc\u05c1\u05c2\u05c4\u05c5\u05c7\"']"
)
_ASIDES = ((re.compile(r"[<\[][^>\]]*[>\]]"), ">]"), (re.compile(r"\([^)]+?\)"), ")"))


def ivrit_text(text: str) -> str:
    """The normaliser of the ivrit.ai leaderboard, by its rules, flaws kept: geresh, maqaf and curly quotes split words.

    Direction marks, points and ASCII quotes go; then Whisper's basic normaliser: lower case, asides in brackets go, NFKC,
    every mark, symbol and punctuation sign becomes a space.
    """
    bare = _IVRIT_REMOVED.sub("", text).lower()
    for aside, closing in _ASIDES:
        # Behind the last bracket that closes nothing matches: each of many open ones would be tried to the end.
        end = max(map(bare.rfind, closing)) + 1
        bare = aside.sub("", bare[:end]) + bare[end:]
    letters = (" " if unicodedata.category(letter)[0] in "MSP" else letter for letter in normal_form("NFKC", bare))
    return " ".join("".join(letters).lower().split())


# Thai and Lao, Tibetan, Burmese, Khmer, the scripts of Tai languages, Han, kana, bopomofo.
_UNSPACED = re.compile(
    "[\u0e00-\u109f\u1780-\u17ff\u1950-\u19ff\u1a20-\u1aaf\u2e80-\u2fdf\u3005-\u312f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\ua9e0-\ua9ff\uaa60-\uaa7f\uf900-\ufaff\U0001aff0-\U0001b16f\U00020000-\U000323af]"
)
# The next consonant is written under or over this one: Burmese virama, Khmer coeng, Tai Tham sakot.
_STACKING = "\u1039\u17d2\u1a60"


def characters_as_words(text: str) -> str:
    """Scored text of a language without spaces, with a space between what counts as its words: characters with their marks.

    Words of spaced scripts and numbers inside stay whole; the text's own spaces part nothing but those.
    """
    spaced: list[str] = []
    before = ""
    for letter in text:
        kind = _unit(letter)
        if kind == "mark" and before:
            spaced.append(letter)
            continue
        joins = before and (kind == before != "character" or spaced[-1] in _STACKING)
        if kind:
            spaced += [letter] if joins else [" ", letter]
        before = kind
    return "".join(spaced).strip()


@lru_cache(maxsize=20_000)
def _unit(letter: str) -> str:
    """What a letter is a part of: nothing for a space."""
    if letter == " ":
        return ""
    if letter in "'\"" or unicodedata.category(letter)[0] == "M":
        return "mark"
    if letter.isdecimal():
        return "number"
    return "character" if _UNSPACED.match(letter) else "word"


NORMALISERS: dict[str, Normaliser] = {
    NAME: scoring_text,
    LENIENT: lenient_text,
    IVRIT: lambda text, _: ivrit_text(text),
}


def _grounded(text: str) -> str:
    """The text without the marks that stand on nothing."""
    letters: list[str] = []
    on = False
    for letter in text:
        kind = _major(letter)
        if kind != "M" or on:
            letters.append(letter)
            on = kind in "LMN"
    return "".join(letters)


@lru_cache(maxsize=20_000)
def _major(letter: str) -> str:
    return unicodedata.category(letter)[0]


def _pictured(match: re.Match[str]) -> str:
    """A space for a picture; a mark that a selector follows is a part of its letter."""
    return match[0] if _major(match[0][0]) == "M" else " "


@lru_cache(maxsize=20_000)
def _seen(letter: str) -> str:
    """The letter; nothing for format characters and enclosing marks. A space of no width parts words."""
    kind = unicodedata.category(letter)
    return "" if kind == "Me" or (kind == "Cf" and letter != "\u200b") else letter


@lru_cache(maxsize=20_000)
def _kept(letter: str) -> str:
    """The letter where it can belong to a word, else a space; nothing for what `_seen` leaves out."""
    if unicodedata.category(letter)[0] in "LMN" or letter in "'\"":
        return _seen(letter)
    return _seen(letter) and " "


@lru_cache(maxsize=20_000)
def _plain(letter: str) -> str:
    """The letter, nothing for marks and quotes, the European digit for another script's."""
    if letter in "'\"" or unicodedata.category(letter) == "Mn":
        return ""
    digit = unicodedata.decimal(letter, None)
    return letter if digit is None else str(digit)
