"""One table of languages: however a language is written, every stage takes it for the same one."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import pytest
import soundfile

from conftest import speech
from govor.corpus.balance import Balance
from govor.corpus.formats.writing import to_qwen
from govor.corpus.normalize import normalize_clips, normalizer
from govor.corpus.records import Clip
from govor.corpus.split import Table
from govor.families.qwen3_asr.languages import language_name
from govor.families.whisper.tokens import LANGUAGES, token_code
from govor.languages import base_code, english_name, is_bcs, language_key, language_of_all, names, without_spaces
from govor.metrics.slices import SLICES
from govor.metrics.text import lenient_text, scoring_text
from govor.metrics.wer import scored_words
from govor.timing.karaoke import write_page
from govor.timing.words import Line, Word, pieces_of

# Spellings of one language: its key, Whisper's token, the name in Qwen3-ASR's prompt, the training normaliser.
SPELLINGS = [
    (("sr", "srp", "sr-RS", "sr-Cyrl", "sr_Latn_RS", "Serbian", "српски", " SR "), "sr", "sr", "Serbian", "bcs-latin"),
    (("bs", "bos", "bs-BA", "Bosnian", "bosanski"), "bs", "bs", "Bosnian", "bcs-latin"),
    (("sh", "hbs", "sh-Latn", "Serbo-Croatian"), "sh", None, "Serbo-Croatian", "bcs-latin"),
    (("cnr", "Montenegrin", "cnr-ME", "crnogorski"), "cnr", None, "Montenegrin", "bcs-latin"),
    (("he", "iw", "heb", "he_IL", "Hebrew", "עברית", "h\u200be"), "he", "he", "Hebrew", "hebrew"),
    (("mg", "mlg", "plt", "malgache", "mg-MG"), "mg", "mg", "Malagasy", "malagasy"),
    (("th", "tha", "th-TH", "Thai", "ไทย"), "th", "th", "Thai", "generic"),
    (("zh", "cmn", "zho", "zh-Hans-CN", "Chinese", "中文"), "zh", "zh", "Chinese", "generic"),
    (("yue", "Cantonese", "yue_HK"), "yue", "yue", "Cantonese", "generic"),
    (("jv", "jav", "jv-ID"), "jv", "jw", "Javanese", "generic"),
    (("fil", "fil-PH", "Filipino"), "tl", "tl", "Filipino", "generic"),
    (("nb", "nb-NO"), "no", "no", "Norwegian Bokmal", "generic"),
    (("nn", "nno"), "no", "nn", "Norwegian Nynorsk", "generic"),
    (("tr", "tur", "tr_TR", "Türkçe"), "tr", "tr", "Turkish", "generic"),
    (("sk", "slk", "slo", "Slovak"), "sk", "sk", "Slovak", "generic"),
]
ONE_BY_ONE = [(spelling, *rest) for spellings, *rest in SPELLINGS for spelling in spellings]


def clip(language: str, name: str = "a") -> Clip:
    row = {"id": name, "audio": "a.wav", "transcript": "Љубав II", "duration": 1.0, "language": language}
    return Clip.from_row(row, "the row")


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("karaoke") / "song.wav"
    soundfile.write(file, speech(["sol"]), 16_000)
    return file


@pytest.mark.parametrize(("spelling", "key", "token", "name", "rules"), ONE_BY_ONE, ids=lambda value: str(value))
def test_every_stage_takes_a_spelling_for_its_language(
    spelling: str, key: str, token: str | None, name: str, rules: str, audio: Path
) -> None:
    row = clip(spelling)
    assert row.to_row()["language"] == spelling, "a manifest keeps what its author wrote"
    assert language_key(spelling) == language_key(base_code(spelling)) == key
    # corpus
    assert normalizer(spelling).name == rules
    assert next(iter(normalize_clips([row], Counter()))).script == ("Latn" if rules == "bcs-latin" else None)
    table, balance = Table(), Balance()
    table.add(row)
    balance.see(row)
    assert table.language == [key] and list(balance.languages) == [key]
    assert to_qwen(row)["text"] == f"language {name}<asr_text>{row.transcript}"
    # metrics
    assert SLICES["language"]({"language": spelling}) == key
    assert scoring_text("II", spelling) == ("ıı" if key == "tr" else "ii")
    assert lenient_text("Љубав", spelling) == ("ljubav" if is_bcs(key) else "љубав")
    spaced = key not in ("th", "zh", "yue")
    assert without_spaces(spelling) is not spaced
    assert scored_words("กข", spelling) == ("กข" if spaced else "ก ข")
    # families
    assert token_code(spelling) == (token or key) and (token_code(spelling) in LANGUAGES) is (token is not None)
    assert language_name(spelling) == name
    # timing
    assert len(pieces_of("กข", spelling)) == (1 if spaced else 2)
    pages = []
    for text in ("Љубав", "שלום"):
        write_page(audio.with_suffix(".html"), audio, [Line((Word(text, 0.0, 0.4),))], "x", spelling, False)
        pages.append(audio.with_suffix(".html").read_text(encoding="utf-8"))
    assert [('id="script"' in page) for page in pages] == [is_bcs(key)] * 2
    assert ['dir="rtl"' in page for page in pages] == [False, True]


def test_languages_of_a_run_are_one_however_they_are_written() -> None:
    assert language_of_all(["sr-Cyrl", "srp", "Serbian"]) == "sr-Cyrl"
    assert language_of_all(["sr", "hr"]) is None and language_of_all([]) is None


def test_what_no_list_knows_is_told_apart_by_its_letters() -> None:
    assert [language_key(text) for text in ("Zzzq-x", "zzzq", "zzzr", "", None)] == ["zzzq", "zzzq", "zzzr", "", ""]
    assert language_key("\u0300" * 100_000 + "a") == language_key("\u0300" * 100_000 + "a")
    assert english_name("zzzq-x") == "zzzq" and english_name("ckb") == "Central Kurdish"


def test_the_names_that_models_were_trained_with_stay() -> None:
    """They stand in the prompts of trained models, and a new version of the library may call a language otherwise."""
    lines = "\n".join(f"{code} {name}" for code, name in sorted(names().items()))
    assert (
        hashlib.sha256(lines.encode()).hexdigest() == "fae1cd73b3138b70ca4b630a5924067b2bda35d0d917c46fd201de21d48c6f88"
    ), lines
