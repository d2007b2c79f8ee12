"""Which language a transcript is written in: a hint for the inventory, and "unknown" rather than a bad guess.

The script decides what it can. For the rest a naive Bayes model over byte n-grams (the `py3langid` package, 97
languages) is asked, and believed only where it is sure. Bosnian, Croatian and Serbian in Latin letters are one language
to such a model; the reflex of yat (mleko, mlijeko) and a few words that only one of them uses tell Serbian from the rest.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from functools import cache
from typing import Any

from govor.languages import is_bcs, language_key, script_name

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
    return _which_south_slavic(cleaned) if is_bcs(code) and script == "LATIN" else code


def _script(letters: list[str]) -> tuple[str | None, float]:
    counts = Counter(map(script_name, letters))
    name, count = counts.most_common(1)[0]
    return name, count / len(letters)


def _which_south_slavic(text: str) -> str:
    ekavian, ijekavian = len(_EKAVIAN.findall(text)), len(_IJEKAVIAN.findall(text))
    if ekavian > 2 * ijekavian:
        return "sr"
    return BOSNIAN_OR_CROATIAN if ijekavian > 2 * ekavian else ANY_BCS


def _model_guess(text: str) -> tuple[str, float]:
    code, probability = _model().classify(text)
    code = language_key(code)
    if is_bcs(code):
        # The three share their words: what counts is that it is one of them.
        ranks = dict(_model().rank(text))
        probability = sum(float(ranks.get(name, 0.0)) for name in ("bs", "hr", "sr"))
    return code, float(probability)


@cache
def _model() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
