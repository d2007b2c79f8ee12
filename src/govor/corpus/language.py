"""Languages: what is stated as a code, and which one a transcript is written in.

Whatever people call a language (Bosnian, bosanski, bos, iw), `language_code` makes one code of it, for every command.

The guess is a hint for the inventory, and "unknown" rather than a bad guess.

The script decides what it can. For the rest a naive Bayes model over byte n-grams (the `py3langid` package, 97
languages) is asked, and believed only where it is sure. Bosnian, Croatian and Serbian in Latin letters are one language
to such a model; the reflex of yat (mleko, mlijeko) and a few words that only one of them uses tell Serbian from the rest.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from functools import cache, lru_cache
from typing import Any

from govor.errors import GovorError

# ISO 639-1, then the longer codes that recognisers use; "sh" serves a run that groups Bosnian, Croatian and Serbian.
_TABLE = """
aa Afar; ab Abkhazian; ae Avestan; af Afrikaans; ak Akan; am Amharic; an Aragonese; ar Arabic; as Assamese; av Avaric;
ay Aymara; az Azerbaijani; ba Bashkir; be Belarusian; bg Bulgarian; bh Bihari; bi Bislama; bm Bambara; bn Bengali;
bo Tibetan; br Breton; bs Bosnian; ca Catalan; ce Chechen; ch Chamorro; co Corsican; cr Cree; cs Czech;
cu Church Slavic; cv Chuvash; cy Welsh; da Danish; de German; dv Divehi; dz Dzongkha; ee Ewe; el Greek; en English;
eo Esperanto; es Spanish; et Estonian; eu Basque; fa Persian; ff Fulah; fi Finnish; fj Fijian; fo Faroese; fr French;
fy Western Frisian; ga Irish; gd Scottish Gaelic; gl Galician; gn Guarani; gu Gujarati; gv Manx; ha Hausa; he Hebrew;
hi Hindi; ho Hiri Motu; hr Croatian; ht Haitian Creole; hu Hungarian; hy Armenian; hz Herero; ia Interlingua;
id Indonesian; ie Interlingue; ig Igbo; ii Sichuan Yi; ik Inupiaq; io Ido; is Icelandic; it Italian; iu Inuktitut;
ja Japanese; jv Javanese; ka Georgian; kg Kongo; ki Kikuyu; kj Kuanyama; kk Kazakh; kl Kalaallisut; km Khmer;
kn Kannada; ko Korean; kr Kanuri; ks Kashmiri; ku Kurdish; kv Komi; kw Cornish; ky Kyrgyz; la Latin; lb Luxembourgish;
lg Ganda; li Limburgish; ln Lingala; lo Lao; lt Lithuanian; lu Luba-Katanga; lv Latvian; mg Malagasy; mh Marshallese;
mi Maori; mk Macedonian; ml Malayalam; mn Mongolian; mr Marathi; ms Malay; mt Maltese; my Burmese; na Nauru;
nb Norwegian Bokmal; nd North Ndebele; ne Nepali; ng Ndonga; nl Dutch; nn Norwegian Nynorsk; no Norwegian;
nr South Ndebele; nv Navajo; ny Chichewa; oc Occitan; oj Ojibwa; om Oromo; or Odia; os Ossetian; pa Punjabi; pi Pali;
pl Polish; ps Pashto; pt Portuguese; qu Quechua; rm Romansh; rn Rundi; ro Romanian; ru Russian; rw Kinyarwanda;
sa Sanskrit; sc Sardinian; sd Sindhi; se Northern Sami; sg Sango; sh Serbo-Croatian; si Sinhala; sk Slovak;
sl Slovenian; sm Samoan; sn Shona; so Somali; sq Albanian; sr Serbian; ss Swati; st Southern Sotho; su Sundanese;
sv Swedish; sw Swahili; ta Tamil; te Telugu; tg Tajik; th Thai; ti Tigrinya; tk Turkmen; tl Tagalog; tn Tswana;
to Tongan; tr Turkish; ts Tsonga; tt Tatar; tw Twi; ty Tahitian; ug Uyghur; uk Ukrainian; ur Urdu; uz Uzbek; ve Venda;
vi Vietnamese; vo Volapuk; wa Walloon; wo Wolof; xh Xhosa; yi Yiddish; yo Yoruba; za Zhuang; zh Chinese; zu Zulu;
fil Filipino; haw Hawaiian; jw Javanese; yue Cantonese
"""

NAMES: dict[str, str] = {
    entry.split()[0]: entry.strip().split(" ", 1)[1] for entry in _TABLE.replace("\n", " ").split(";")
}
_BY_NAME = {name.casefold(): code for code, name in reversed(NAMES.items())}
# Codes that the standards have given up, or merged into another, and that mean more here; names that no list has.
_OURS = {
    "hbs": "sh",
    "scr": "hr",
    "scc": "sr",
    "cnr": "cnr",
    "montenegrin": "cnr",
    "crnogorski": "cnr",
    "serbo croatian": "sh",
}
_NO_LANGUAGE = frozenset({"und", "mul", "zxx", "mis", "unknown", "none"})

UNKNOWN = "unknown"
# What Latin-script BCS is called where its ijekavian form shows, and where neither form does.
BOSNIAN_OR_CROATIAN = "bs/hr"
ANY_BCS = "bs/hr/sr"
MIN_LETTERS = 12
# Set on one half of some translated programs, judged on the other: see docs/corpus.md and `python -m bench language`.
MIN_PROBABILITY = 0.6

_YIDDISH = re.compile("[\u05f0-\u05f2]|\u05d0[\u05b7\u05b8]")
# Macedonian shares the other letters of Serbian.
_SERBIAN_ONLY = frozenset("ђћ")

# Words that only one of the two reflexes of yat allows (vremena, for one, is the same in both and stands in neither).
_EKAVIAN = re.compile(
    r"\b(?:gde|negde|ovde|onde|svugde|uvek|čovek\w*|dete(?:ta|tu)?|dec[aeiu]|decom|mlek\w*|hleb\w*|sneg\w*|reč(?:i|ima|ju)?|"
    r"rek[aeiu]|vreme|lep(?:o|a|e|i|u|oj|og|im|ih|še)?|mest[oaiu]|mestima|cel(?:a|o|i|e|u|og|oj|im|ih)|bel(?:a|o|i|e|u|og|oj)|"
    r"posle|pre|devojk\w*|devojčic\w*|leto|zvezd\w*|pesm\w*|peva\w*|svet(?:a|u|om|ski\w*)?|deo|dela|delu|delov\w*|sreć\w*|"
    r"nedelj\w*|ponedeljak|hte(?:o|la|li|lo)|vide(?:o|la|li|lo|ti)|vole(?:o|la|li|lo|ti)|razume(?:m|ti|o|la)?|ume(?:m|ti)|"
    r"sme(?:h\w*|m|mo|ti|jati)|lek(?:ar\w*|a|ovi)?|tel[oau]|vetar|vest[i]?|primer\w*|verova\w*|veruje\w*|takođe|sede(?:t\w*|o|la)|"
    r"sedi[mš]?|žive(?:ti|o|la|li)|žele(?:ti|o|la|li)|umre(?:o|ti)|obezbedi\w*|poslednj\w*|sledeć\w*|predlog\w*|promen\w*)\b"
)
_IJEKAVIAN = re.compile(
    r"\b(?:gdje|negdje|ovdje|ondje|svugdje|uvijek|čovje\w*|dijete|djetet\w*|djec[aeiou]\w*|mlijek\w*|snijeg\w*|riječ\w*|"
    r"rijek\w*|vrijeme\w*|lijep\w*|ljepš\w*|mjest\w*|cijel\w*|bijel\w*|poslije|prije|djevoj\w*|ljet\w*|zvijezd\w*|pjesm\w*|"
    r"pjeva\w*|svijet\w*|dio|dijel\w*|djel\w*|ponedjelj\w*|nedjelj\w*|htio|htje\w*|vidje\w*|vidio|volio|voljel\w*|razumije\w*|"
    r"umije\w*|smije\w*|lijek\w*|liječ\w*|tijel\w*|vjet\w*|vijest\w*|primjer\w*|vjer\w*|sjed\w*|željel\w*|želio|živje\w*|živio|"
    r"sljedeć\w*|posljednj\w*|obavijest\w*|prijedlog\w*|vrijed\w*|mijenja\w*|promijen\w*|promjen\w*|uspje\w*|uspijev\w*|netko|"
    r"nitko|svatko|tko|također|tisuć\w*|uopće|tjed\w*|tvrtk\w*)\b"
)


@lru_cache(maxsize=4096)
def language_code(stated: str) -> str:
    """The code of a language, however it is stated: a code of two or three letters, a tag (`pt_BR`), or its name in any
    language. Codes that the recognisers know stay as they are.

    Raises:
        GovorError: no language is called that; names the nearest.
    """
    text = " ".join(stated.encode("utf-8", "replace").decode().split())
    found = _BY_NAME.get(text.casefold()) or _of_tag(text.replace("_", "-")) or _of_name(text)
    if found is None:
        raise GovorError(f"'{text[:60]}' is no language code or name of a language; {_hint(text)}")
    return found


def english_name(code: str) -> str:
    """What a language is called in English; the code itself where nobody knows."""
    import langcodes

    base = code.partition("-")[0]
    if base in NAMES:
        return NAMES[base]
    name: str = langcodes.Language.get(base).language_name("en")
    return base if name.startswith("Unknown") else name


def _of_tag(text: str) -> str | None:
    import langcodes

    base, _, rest = text.partition("-")
    base = base.lower()
    if not (2 <= len(base) <= 3 and base.isascii() and base.isalpha()) or base in _NO_LANGUAGE:
        return None
    try:
        # The tag library rewrites some of what recognisers know (sh becomes sr-Latn, tl fil), so it is asked of the rest.
        known = _OURS.get(
            base, base if base in NAMES else langcodes.standardize_tag(base, macro=True).partition("-")[0]
        )
        place = langcodes.Language.get(f"und-{rest}" if rest else "und")
    except ValueError:  # subtags that no tag has
        return None
    if not place.is_valid() or not (known in NAMES or base in _OURS or langcodes.Language.get(known).is_valid()):
        return None
    return "-".join([known, *place.to_tag().split("-")[1:]])


def _of_name(text: str) -> str | None:
    from language_data import names

    name = names.normalize_name(text)
    if name in _OURS or name in _BY_NAME:
        return _OURS.get(name) or _BY_NAME[name]
    if not name:
        return None
    # Taken from the table itself: its own search also takes a name with anything behind it.
    names.name_to_code("language", name)
    held = names.TRIES["und/name_to_language"].get(name)
    return _of_tag(held[0].decode("utf-8")) if held else None


def _hint(text: str) -> str:
    import difflib

    import langcodes

    example = "give a code such as he, bs or mg, or its name, for example Hebrew."
    if text.lower() in _NO_LANGUAGE or len(text) > 60:
        return example
    if len(text) == 2 and text.isascii() and text.isalpha():
        likely = langcodes.Language.make(territory=text.upper()).maximize().language
        if likely and likely != "en" and likely in NAMES:
            return f"as a country it speaks {NAMES[likely]}: did you mean '{likely}'?"
    options = [*_BY_NAME, *_OURS] if len(text) > 3 else [*NAMES]
    close = difflib.get_close_matches(text.casefold(), options, n=1, cutoff=0.6)
    if close:
        code = close[0] if close[0] in NAMES else _OURS.get(close[0]) or _BY_NAME[close[0]]
        name = NAMES.get(code)
        return f"did you mean '{code}'{f' ({name})' if name else ''}?"
    return example


def guess(text: str | None) -> str:
    """A language code (`he`, `sr`, `mg`, `cs`, …), `bs/hr` or `bs/hr/sr` where each is possible, or `unknown`."""
    letters = [letter for letter in unicodedata.normalize("NFC", (text or "").lower()) if letter.isalpha()]
    if len(letters) < MIN_LETTERS:
        return UNKNOWN
    script, share = _script(letters)
    if share < 0.7:
        return UNKNOWN  # two scripts mixed: which one was spoken is anybody's guess
    cleaned = unicodedata.normalize("NFC", text or "").lower()
    if script == "HEBREW":
        return "yi" if _YIDDISH.search(cleaned) else "he"
    if script == "CYRILLIC" and _SERBIAN_ONLY & set(letters):
        return "sr"
    code, probability = _model_guess(cleaned)
    if probability < MIN_PROBABILITY:
        return UNKNOWN
    return _which_south_slavic(cleaned) if code in ("bs", "hr", "sr") and script == "LATIN" else code


def _script(letters: list[str]) -> tuple[str, float]:
    counts = Counter(unicodedata.name(letter, "UNKNOWN").split()[0] for letter in letters)
    name, count = counts.most_common(1)[0]
    return name, count / len(letters)


def _which_south_slavic(text: str) -> str:
    ekavian, ijekavian = len(_EKAVIAN.findall(text)), len(_IJEKAVIAN.findall(text))
    if ekavian > 2 * ijekavian:
        return "sr"
    return BOSNIAN_OR_CROATIAN if ijekavian > 2 * ekavian else ANY_BCS


def _model_guess(text: str) -> tuple[str, float]:
    code, probability = _model().classify(text)
    code = {"nb": "no", "nn": "no"}.get(code, code)
    if code in ("bs", "hr", "sr"):
        # The three share their words: what counts is that it is one of them.
        ranks = dict(_model().rank(text))
        probability = sum(float(ranks.get(name, 0.0)) for name in ("bs", "hr", "sr"))
    return code, float(probability)


@cache
def _model() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
