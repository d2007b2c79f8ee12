"""What is written in several ways and means the same: letters, names of people and sources."""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

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
    letters: list[str] = []
    marks: list[str] = []
    for letter in "".join(unicodedata.normalize("NFD", letter) for letter in run):
        if unicodedata.combining(letter):
            marks.append(letter)
            continue
        letters += [*sorted(marks, key=unicodedata.combining), letter]
        marks = []
    return "".join([*letters, *sorted(marks, key=unicodedata.combining)])


def name_key(name: str) -> str:
    """A name as it is compared: composed (NFC), one space between words, none around; what nobody sees is left out."""
    if name.isascii() and name.isprintable():
        return " ".join(name.split())
    seen = "".join(letter for letter in name if unicodedata.category(letter) not in ("Cf", "Cc") or letter.isspace())
    return " ".join(normal_form("NFC", seen).split())
