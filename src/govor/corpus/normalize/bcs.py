"""Bosnian, Croatian, Serbian: one script per run, and the letters that keyboards and encodings confuse.

Cyrillic → Latin loses nothing. Latin → Cyrillic is ambiguous (nj is њ in konj and нј in injekcija), so it is for display
and for runs that ask for it, with a list of exceptions; foreign letters (q w x y) stay as they are.
"""

from __future__ import annotations

import re
from typing import Literal

from govor.corpus.alike import SERBIAN_TO_LATIN
from govor.corpus.normalize.rules import Rule

Script = Literal["latin", "cyrillic", "keep"]

_TO_CYRILLIC = {latin: cyrillic for cyrillic, latin in SERBIAN_TO_LATIN.items()}

_LIGATURES = str.maketrans(
    {"ǆ": "dž", "ǅ": "Dž", "Ǆ": "DŽ", "ǉ": "lj", "ǈ": "Lj", "Ǉ": "LJ", "ǌ": "nj", "ǋ": "Nj", "Ǌ": "NJ"}
)
_DJE = str.maketrans({"ð": "đ", "Ð": "Đ", "Ɖ": "Đ", "ɖ": "đ"})
_CEDILLAS = str.maketrans({"ş": "š", "Ş": "Š"})

# Letters that look alike: in a word of one script the stray one of the other was typed by mistake.
_ALIKE_LATIN = "aeojxpcABEKMHOPCTXJ"
_ALIKE_CYRILLIC = "аеојхрсАВЕКМНОРСТХЈ"
_TO_ALIKE_LATIN = str.maketrans(_ALIKE_CYRILLIC, _ALIKE_LATIN)
_TO_ALIKE_CYRILLIC = str.maketrans(_ALIKE_LATIN, _ALIKE_CYRILLIC)

_WORD = re.compile(r"[^\W\d_]+")
_IS_CYRILLIC = re.compile("[\u0400-\u04ff]")
_IS_LATIN = re.compile("[a-zčćžšđA-ZČĆŽŠĐ]")
_FOREIGN = re.compile("[qwxyQWXY]")
_DIGRAPH = re.compile("lj|nj|dž", re.IGNORECASE)
# Word beginnings in which the two letters of a digraph belong to two syllables; `|` parts them.
_PARTED = tuple(
    sorted(
        (
            *(
                "in|jekc",
                "in|jekt",
                "in|jici",
                "kon|jug",
                "kon|junk",
                "kon|jekt",
                "kon|jiv",
                "dis|jun",
                "tan|jug",
                "van|jezič",
            ),
            *(
                "izvan|jezič",
                "pan|jelin",
                "in|jurij",
                "an|jon",
                "nad|živ",
                "nad|žnj",
                "nad|žup",
                "nad|žet",
                "pod|žup",
                "pod|žar",
            ),
            *(
                "pod|žan",
                "pred|živ",
                "od|živ",
                "od|žval",
                "od|žvak",
                "od|žal",
                "od|žel",
                "od|ždr",
                "pred|žet",
                "od|žet",
            ),
        ),
        key=len,
        reverse=True,
    )
)


def script_of(text: str) -> Literal["latin", "cyrillic", "mixed", "none"]:
    """Which of the two scripts a text is written in; `mixed` where both hold over a tenth of the letters."""
    cyrillic, latin = len(_IS_CYRILLIC.findall(text)), len(_IS_LATIN.findall(text))
    if not cyrillic + latin:
        return "none"
    if min(cyrillic, latin) > 0.1 * (cyrillic + latin):
        return "mixed"
    return "cyrillic" if cyrillic > latin else "latin"


def ligatures(text: str) -> str:
    """One-character digraphs as two letters."""
    return text.translate(_LIGATURES)


def dje(text: str) -> str:
    """Eth and the African D in place of đ, as older fonts had it."""
    return text.translate(_DJE)


def cedillas(text: str) -> str:
    """s with cedilla in place of š, as older encodings had it."""
    return text.translate(_CEDILLAS)


def stray_letters(text: str) -> str:
    """A word of one script with a look-alike of the other inside becomes one script."""
    return _WORD.sub(_unmixed, text)


def to_latin(text: str) -> str:
    """Serbian Cyrillic in Latin letters; other Cyrillic letters stay. Lossless."""
    return _WORD.sub(lambda match: _word_to_latin(match[0]), text)


def to_cyrillic(text: str) -> str:
    """Latin BCS in Serbian Cyrillic. Words with foreign letters stay; known words with parted digraphs come out right."""
    return _WORD.sub(lambda match: _word_to_cyrillic(match[0]), text)


def _unmixed(match: re.Match[str]) -> str:
    word = match[0]
    cyrillic, latin = len(_IS_CYRILLIC.findall(word)), len(_IS_LATIN.findall(word))
    if not cyrillic or not latin or cyrillic == latin:
        return word
    changed = word.translate(_TO_ALIKE_CYRILLIC if cyrillic > latin else _TO_ALIKE_LATIN)
    left = _IS_LATIN if cyrillic > latin else _IS_CYRILLIC
    return word if left.search(changed) else changed


def _word_to_latin(word: str) -> str:
    shouted = len(word) > 1 and word.isupper()
    letters = []
    for place, letter in enumerate(word):
        latin = SERBIAN_TO_LATIN.get(letter.lower())
        if latin is None:
            letters.append(letter)
        elif letter.islower():
            letters.append(latin)
        else:
            neighbour = word[place + 1 : place + 2] or word[max(place - 1, 0) : place]
            letters.append(latin.upper() if shouted or (len(latin) > 1 and neighbour.isupper()) else latin.capitalize())
    return "".join(letters)


def _word_to_cyrillic(word: str) -> str:
    if _FOREIGN.search(word) or not _IS_LATIN.search(word):
        return word
    parted = _parting(word)
    letters, place = [], 0
    while place < len(word):
        pair = word[place : place + 2]
        if _DIGRAPH.fullmatch(pair) and place + 1 != parted:
            cyrillic = _TO_CYRILLIC[pair.lower()]
            letters.append(cyrillic.upper() if pair[0].isupper() else cyrillic)
            place += 2
            continue
        letter = word[place]
        cyrillic = _TO_CYRILLIC.get(letter.lower(), letter)
        letters.append(cyrillic.upper() if letter.isupper() else cyrillic)
        place += 1
    return "".join(letters)


def _parting(word: str) -> int:
    """Where the second half of a parted digraph begins; 0 where the word has none."""
    lower = word.lower()
    for pattern in _PARTED:
        place = pattern.index("|")
        if lower.startswith(pattern.replace("|", "")):
            return place
    return 0


_REPAIRS: tuple[Rule, ...] = (
    Rule("bcs_ligatures", ("ǆep", "džep"), ligatures),
    Rule("bcs_dje", ("ðak", "đak"), dje),
    Rule("bcs_cedillas", ("şuma", "šuma"), cedillas),
    Rule("bcs_stray_letters", ("мaма", "мама"), stray_letters),
)
_CONVERSIONS: dict[Script, tuple[Rule, ...]] = {
    "latin": (Rule("bcs_to_latin", ("Љубав", "Ljubav"), to_latin),),
    "cyrillic": (Rule("bcs_to_cyrillic", ("injekcija", "инјекција"), to_cyrillic),),
    "keep": (),
}


def rules(script: Script = "latin") -> tuple[Rule, ...]:
    """The rules for a run in this script."""
    return _REPAIRS + _CONVERSIONS[script]
