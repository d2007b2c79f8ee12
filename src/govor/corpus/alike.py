"""What is written in several ways and means the same: letters, names of people and sources, codes of languages."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Literal

from govor.corpus.language import language_code
from govor.errors import GovorError

# Languages that do not put spaces between words; Whisper cuts the first eight by characters too.
WITHOUT_SPACES = frozenset(
    {"zh", "yue", "ja", "th", "lo", "my", "km", "bo", "wuu", "nan", "hak", "gan", "lzh", "dz", "shn", "nod", "khb"}
)
# One written language under two codes.
_SAME = {"nb": "no", "nn": "no", "jw": "jv", "fil": "tl"}

# Serbian, Bosnian and Montenegrin are written in both scripts.
SERBIAN_TO_LATIN = dict(zip("абвгдђежзијклљмнњопрстћуфхцчџш", [
    "a", "b", "v", "g", "d", "đ", "e", "ž", "z", "i", "j", "k", "l", "lj", "m",
    "n", "nj", "o", "p", "r", "s", "t", "ć", "u", "f", "h", "c", "č", "dž", "š",
], strict=True))  # fmt: skip

_LONG_RUN = re.compile(r"\W{64,}")


def normal_form(form: Literal["NFC", "NFD", "NFKC", "NFKD"], text: str) -> str:
    """`unicodedata.normalize` in time that grows with the text: it sorts marks by insertion, and texts with ten thousand
    marks on a letter are made to try that."""
    return unicodedata.normalize(form, _LONG_RUN.sub(lambda run: _ordered(run[0]), text))


def _ordered(run: str) -> str:
    """Marks in the order that Unicode gives them."""
    found: list[str] = []
    marks: list[str] = []
    for letter in "".join(unicodedata.normalize("NFD", letter) for letter in run):
        if unicodedata.combining(letter):
            marks.append(letter)
            continue
        found += [*sorted(marks, key=unicodedata.combining), letter]
        marks = []
    return "".join([*found, *sorted(marks, key=unicodedata.combining)])


def name_key(name: str) -> str:
    """A name as it is compared: composed (NFC), one space between words, none around; what nobody sees is left out."""
    if name.isascii() and name.isprintable():
        return " ".join(name.split())
    seen = "".join(letter for letter in name if unicodedata.category(letter) not in ("Cf", "Cc") or letter.isspace())
    return " ".join(normal_form("NFC", seen).split())


@lru_cache(maxsize=10_000)
def language_key(language: str | None) -> str:
    """The language without script and country, under one code: `sr`, `srp`, `sr-Latn` and `Serbian` are `sr`.

    What no list knows is only lowered and cut at the first dash.
    """
    name = name_key(language or "")
    try:
        base = language_code(name).partition("-")[0] if name else ""
    except GovorError:
        base = name.casefold().replace("_", "-").partition("-")[0]
    return _SAME.get(base, base)


def without_spaces(language: str | None) -> bool:
    """Whether a language's words are not parted by spaces, so that a word of it is no unit."""
    return language_key(language) in WITHOUT_SPACES
