"""Languages: one table for everything that is asked of one.

Whatever people call a language (Bosnian, bosanski, bos, iw), `language_code` makes one code of it, for every command.
Rows keep what their author wrote; what compares languages compares `language_key`, to which `sr`, `srp`, `sr-RS`,
`sr_Latn_RS` and `Serbian` are one. Codes and names come from `langcodes` and `language-data`; the lists here hold what these
lack or say in another way than recognisers do. Which languages a model knows stands with its family.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import cache, lru_cache

from govor.errors import GovorError

# Codes of three letters that recognisers use.
_LONGER_CODES = ("fil", "haw", "yue")
# English names as recognisers' vocabularies and prompts have them, where the library's differ ("sh" serves a run that
# groups Bosnian, Croatian and Serbian).
_OUR_NAMES = {
    "bh": "Bihari",
    "bn": "Bengali",
    "ff": "Fulah",
    "mi": "Maori",
    "nb": "Norwegian Bokmal",
    "ny": "Chichewa",
    "os": "Ossetian",
    "sh": "Serbo-Croatian",
    "tl": "Tagalog",
    "vo": "Volapuk",
}
# Codes that the standards have given up, or merged into another, and that mean more here; names that no list has.
_OUR_CODES = {
    "hbs": "sh",
    "scr": "hr",
    "scc": "sr",
    "cnr": "cnr",
    "montenegrin": "cnr",
    "crnogorski": "cnr",
    "serbo croatian": "sh",
}
_REPLACED = frozenset({"in", "iw", "ji", "mo"})
_NO_LANGUAGE = frozenset({"und", "mul", "zxx", "mis", "unknown", "none"})
# One written language under two codes.
_SAME = {"nb": "no", "nn": "no", "jw": "jv", "fil": "tl"}

# Bosnian, Croatian, Serbian and Montenegrin: one language in two scripts to a normaliser.
_BCS = frozenset({"bs", "hr", "sr", "cnr", "sh"})
# Languages that do not put spaces between words; Whisper cuts the first eight by characters too.
_WITHOUT_SPACES = frozenset(
    {"zh", "yue", "ja", "th", "lo", "my", "km", "bo", "wuu", "nan", "hak", "gan", "lzh", "dz", "shn", "nod", "khb"}
)
# Languages in which I is the capital of ı and İ that of i.
_DOTLESS_I = frozenset({"tr", "az", "crh", "gag"})
# No name of a language is longer.
_LONGEST_NAME = 200


@cache
def names() -> dict[str, str]:
    """English name by code: all of ISO 639-1, then the longer codes that recognisers use."""
    from langcodes import Language
    from langcodes.data_dicts import LANGUAGE_ALPHA3

    short = sorted(code for code in LANGUAGE_ALPHA3 if len(code) == 2 and code not in _REPLACED)
    return {
        code: _OUR_NAMES.get(code) or Language.get(code, normalize=False).language_name("en")
        for code in (*short, *_LONGER_CODES)
    }


@cache
def _by_name() -> dict[str, str]:
    return {name.casefold(): code for code, name in reversed(names().items())}


@lru_cache(maxsize=10_000)
def language_code(stated: str) -> str:
    """The code of a language, however it is stated: a code of two or three letters, a tag (`pt_BR`), or its name in any
    language. Codes that the recognisers know stay as they are.

    Raises:
        GovorError: no language is called that; names the nearest.
    """
    text = _seen(stated.encode("utf-8", "replace").decode())
    code = _by_name().get(text.casefold()) or _of_tag(text.replace("_", "-")) or _of_name(text)
    if code is None:
        raise GovorError(f"'{text[:60]}' is no language code or name of a language; {_hint(text)}")
    return code


@lru_cache(maxsize=10_000)
def base_code(language: str | None) -> str:
    """The language without script and country: `sr` of `sr_Latn_RS` and of `Serbian`.

    What no list knows is only lowered and cut at the first dash; nothing stated is "".
    """
    name = _seen(language or "")
    try:
        return language_code(name).partition("-")[0] if name else ""
    except GovorError:
        return name.casefold().replace("_", "-").partition("-")[0]


@lru_cache(maxsize=10_000)
def language_key(language: str | None) -> str:
    """What languages are compared by: `base_code`, under one code where a written language has two (`nb` and `no`)."""
    base = base_code(language)
    return _SAME.get(base, base)


def language_of_all(languages: Iterable[str]) -> str | None:
    """The one language that all of these are, as the first is written; None where they are several or none."""
    stated = list(languages)
    return stated[0] if len({*map(language_key, stated)}) == 1 else None


def english_name(language: str) -> str:
    """What a language is called in English; the code itself where nobody knows."""
    from langcodes import Language
    from langcodes.tag_parser import LanguageTagError

    base = base_code(language)
    if base in names():
        return names()[base]
    unknown = language.partition("-")[0]
    try:
        name: str = Language.get(base, normalize=False).language_name("en")
    except LanguageTagError:
        return unknown
    return unknown if name.startswith("Unknown") else name


def is_bcs(language: str | None) -> bool:
    """Whether it is Bosnian, Croatian, Serbian or Montenegrin, or the group of them (`sh`, `hbs`)."""
    return language_key(language) in _BCS


def without_spaces(language: str | None) -> bool:
    """Whether a language's words are not parted by spaces, so that a word of it is no unit."""
    return language_key(language) in _WITHOUT_SPACES


def has_dotless_i(language: str | None) -> bool:
    """Whether I is the capital of ı and İ that of i."""
    return language_key(language) in _DOTLESS_I


def script_name(letter: str) -> str | None:
    """The script of a letter by its Unicode name (LATIN, CYRILLIC, HEBREW, …); None for what is no letter."""
    if unicodedata.category(letter)[0] not in "LM":
        return None
    return unicodedata.name(letter, "UNNAMED").split()[0]


def _seen(text: str) -> str:
    """Composed, one space between words, none around; what nobody sees is left out."""
    if text.isascii() and text.isprintable():
        return " ".join(text.split())
    seen = (letter for letter in text if unicodedata.category(letter) not in ("Cf", "Cc") or letter.isspace())
    return " ".join(unicodedata.normalize("NFC", "".join(seen)[:_LONGEST_NAME]).split())


def _of_tag(text: str) -> str | None:
    import langcodes

    base, _, rest = text.partition("-")
    base = base.lower()
    if not (2 <= len(base) <= 3 and base.isascii() and base.isalpha()) or base in _NO_LANGUAGE:
        return None
    try:
        # The tag library rewrites some of what recognisers know (sh becomes sr-Latn, tl fil), so it is asked of the rest.
        known = _OUR_CODES.get(
            base, base if base in names() else langcodes.standardize_tag(base, macro=True).partition("-")[0]
        )
        place = langcodes.Language.get(f"und-{rest}" if rest else "und")
    except ValueError:  # subtags that no tag has
        return None
    if not place.is_valid() or not (known in names() or base in _OUR_CODES or langcodes.Language.get(known).is_valid()):
        return None
    return "-".join([known, *place.to_tag().split("-")[1:]])


def _of_name(text: str) -> str | None:
    from language_data import names as of_languages

    name = of_languages.normalize_name(text)
    if name in _OUR_CODES or name in _by_name():
        return _OUR_CODES.get(name) or _by_name()[name]
    if not name:
        return None
    # Taken from the table itself: its own search also takes a name with anything behind it.
    of_languages.name_to_code("language", name)
    codes = of_languages.TRIES["und/name_to_language"].get(name)
    return _of_tag(codes[0].decode("utf-8")) if codes else None


def _hint(text: str) -> str:
    import difflib

    import langcodes

    example = "give a code such as he, bs or mg, or its name, for example Hebrew."
    if text.lower() in _NO_LANGUAGE or len(text) > 60:
        return example
    if len(text) == 2 and text.isascii() and text.isalpha():
        likely = langcodes.Language.make(territory=text.upper()).maximize().language
        if likely and likely != "en" and likely in names():
            return f"as a country it speaks {names()[likely]}: did you mean '{likely}'?"
    options = [*_by_name(), *_OUR_CODES] if len(text) > 3 else [*names()]
    close = difflib.get_close_matches(text.casefold(), options, n=1, cutoff=0.6)
    if close:
        code = close[0] if close[0] in names() else _OUR_CODES.get(close[0]) or _by_name()[close[0]]
        name = names().get(code)
        return f"did you mean '{code}'{f' ({name})' if name else ''}?"
    return example
