"""What is written in several ways and means the same: letters, names of people and sources, codes of languages."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Literal

# Languages that do not put spaces between words; Whisper cuts the first eight by characters too.
WITHOUT_SPACES = frozenset(
    {"zh", "yue", "ja", "th", "lo", "my", "km", "bo", "wuu", "nan", "hak", "gan", "lzh", "dz", "shn", "nod", "khb"}
)
# What else a language is called: three-letter codes, older two-letter ones, English and own names.
_LANGUAGES = {
    code: names.split()
    for code, names in {
        "he": "heb iw hebrew ivrit עברית",
        "bs": "bos bosnian bosanski bosniac",
        "hr": "hrv scr croatian hrvatski",
        "sr": "srp scc serbian srpski српски",
        "cnr": "montenegrin crnogorski",
        "sh": "hbs serbo-croatian srpskohrvatski bcs bcms",
        "mg": "mlg plt malagasy malgache",
        "cs": "ces cze czech čeština",
        "sk": "slk slo slovak",
        "sl": "slv slovenian",
        "mk": "mkd mac macedonian",
        "en": "eng english",
        "fr": "fra fre french",
        "de": "deu ger german deutsch",
        "es": "spa spanish",
        "it": "ita italian",
        "pt": "por portuguese",
        "ru": "rus russian",
        "uk": "ukr ukrainian",
        "ar": "ara arb arabic",
        "fa": "fas per pes persian farsi",
        "yi": "yid ji yiddish",
        "tr": "tur turkish",
        "az": "aze azj azerbaijani",
        "crh": "crimean-tatar",
        "gag": "gagauz",
        "zh": "zho chi cmn chinese mandarin",
        "yue": "cantonese",
        "ja": "jpn jp japanese",
        "ko": "kor korean",
        "th": "tha thai",
        "lo": "lao",
        "my": "mya bur burmese myanmar",
        "km": "khm khmer",
        "bo": "bod tib tibetan",
        "dz": "dzo dzongkha",
        "shn": "shan",
        "id": "ind in indonesian",
        "no": "nor nb nob nn nno norwegian",
    }.items()
}
_CODES = {name: code for code, names in _LANGUAGES.items() for name in (code, *names)}


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

    What is not known here is only lowered and cut at the first dash.
    """
    whole = name_key(language or "").casefold().replace("_", "-").replace(" ", "-")
    base = whole.partition("-")[0]
    return _CODES.get(whole) or _CODES.get(base, base)


def without_spaces(language: str | None) -> bool:
    """Whether a language's words are not parted by spaces, so that a word of it is no unit."""
    return language_key(language) in WITHOUT_SPACES
