"""Languages are understood, guessed, or refused with the nearest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import soundfile

from govor.corpus.inventory import Statement, inventory
from govor.corpus.language import guess
from govor.corpus.manifests import read_rows, write_rows
from govor.errors import GovorError
from govor.families.qwen3_asr.languages import language_name
from govor.families.whisper.tokens import LANGUAGES
from govor.languages import english_name, language_code, names
from govor.metrics.text import scoring_text as scoring_text
from govor.runs import Workspace
from messy import voice

Run = Callable[..., CompletedProcess[str]]


@pytest.mark.parametrize(
    ("stated", "code"),
    [
        ("Bosnian", "bs"), ("bosanski", "bs"), ("bos", "bs"), ("BS", "bs"), ("malgache", "mg"), ("mlg", "mg"), ("plt", "mg"),
        ("hebrew", "he"), ("עברית", "he"), ("iw", "he"), ("heb", "he"), ("iw_IL", "he-IL"), ("he-IL", "he-IL"), ("pt_BR", "pt-BR"),
        ("sh", "sh"), ("hbs", "sh"), ("Serbo-Croatian", "sh"), ("sh-Latn", "sh-Latn"), ("српски", "sr"), ("srp", "sr"), ("sr-Cyrl", "sr-Cyrl"),
        ("cnr", "cnr"), ("Montenegrin", "cnr"), ("tl", "tl"), ("fil", "fil"), ("jw", "jw"), ("Norwegian", "no"), ("nb", "nb"), ("yue", "yue"),
        ("cmn", "zh"), ("deu", "de"), ("ger", "de"), ("English ", "en"), ("haitian  creole", "ht"), ("bar", "bar"),
    ],
)  # fmt: skip
def test_a_language_is_understood_however_it_is_called(stated: str, code: str) -> None:
    """[A2]"""
    assert language_code(stated) == code


def test_codes_of_the_recognisers_stay_as_they_are() -> None:
    for code in (*names(), *LANGUAGES):
        assert language_code(code) == code
    for name in names().values():
        assert english_name(language_code(name)) == name


@pytest.mark.parametrize(
    ("stated", "hint"),
    [
        ("Malagassy", "did you mean 'mg' (Malagasy)?"), ("Hebrewww", "did you mean 'he'"), ("cz", "did you mean 'cs'"),
        ("jp", "did you mean 'ja'"), ("xx", "for example Hebrew"), ("und", "for example"), ("", "for example"), ("../..", "for example"),
        ("he-!!", "for example"), ("he-IL-x", "for example"), ("\ud800", "for example"), ("x" * 9999, "for example"), ("English [live]", "did you mean 'en'"),
    ],
)  # fmt: skip
def test_what_is_no_language_is_refused_with_the_nearest(stated: str, hint: str) -> None:
    """[A2]"""
    with pytest.raises(GovorError) as error:
        language_code(stated)
    assert "no language code or name" in str(error.value) and len(str(error.value)) < 250
    assert hint in str(error.value)


def test_the_families_know_a_language_by_its_region_and_other_codes() -> None:
    from govor.families.whisper.tiny import tiny

    tokens = tiny().tokens
    assert tokens.language("he-IL") == tokens.language("he")
    assert language_name("pt-BR") == "Portuguese" and language_name("sr-Latn") == "Serbian"


@pytest.mark.parametrize(
    "command",
    [
        ["inventory", "d"], ["manifest", "d"], ["validate", "x.jsonl"], ["harvest", "x.txt"], ["prepare", "fillets-cs"],
        ["quickstart", "--audio", "d"], ["transcribe", "m", "x.wav"], ["karaoke", "x.mp3", "x.txt"],
    ],
    ids=lambda command: command[0],
)  # fmt: skip
def test_every_command_understands_the_same(workspace: Path, govor: Run, command: list[str]) -> None:
    """[A2]"""
    failed = govor(*command, "--language", "Bosnianx", expect=2)
    assert failed.stderr.strip().endswith("did you mean 'bs' (Bosnian)?") and failed.stderr.count("\n") == 1


def test_a_language_that_is_none_is_not_cleaned_by_the_rules_of_all(workspace: Path, govor: Run) -> None:
    """[A2]"""
    named = [("a", "malgache"), ("b", "zzz"), ("c", "Bosnian")]
    rows = [{"id": i, "audio": "x.wav", "transcript": "da", "duration": 1.0, "language": name} for i, name in named]
    write_rows(workspace / "x.jsonl", rows)
    govor("normalize", "x.jsonl", "--out", "y.jsonl", expect=1)
    assert [row["id"] for _, row in read_rows(workspace / "y.jsonl")] == ["a", "c"]
    ((_, dropped),) = read_rows(workspace / "y.dropped.jsonl")
    assert dropped["rule"] == "language_unknown" and dropped["row"]["id"] == "b" and "zzz" in dropped["message"]


def test_folder_and_provenance_say_it_in_words(workspace: Path, govor: Run) -> None:
    folder = workspace / "rec"
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        soundfile.write(folder / name / "x.wav", voice(1, 1.0), 16_000)
        (folder / name / "x.txt").write_text("da")
    (folder / "a" / "provenance.yaml").write_text("language: bosanski\n")
    (folder / "b" / "provenance.yaml").write_text("language: Bosnianx\n")
    rows = {row["id"]: row for row in inventory(Workspace(), [folder], Statement(), "inline")}
    assert rows["rec/a/x"]["language"] == "bs" and "did you mean 'bs'" in rows["rec/b/x"]["error"]
    govor("inventory", "rec", "--language", "Bosnian", "--license", "cc by 4.0")
    ((_, row), _) = read_rows(workspace / "manifests" / "dataset_inventory.jsonl")
    assert (row["language"], row["license"]) == ("bs", "CC-BY-4.0")


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("אני רוצה לשתות כוס מים קרים בבקשה", "he"),
        ("Деца су јутрос отишла у школу пешке.", "sr"),
        ("Sutra će ceo dan padati kiša i sneg, pa ostajemo kod kuće.", "sr"),
        ("Sutra će cijeli dan padati kiša i snijeg, pa ostajemo kod kuće.", "bs/hr"),
        ("Tonga tany an-tsekoly maraina ny ankizy rehetra.", "mg"),
        ("Děti šly ráno do školy pěšky a odpoledne si hrály na zahradě.", "cs"),
        ("The children walked to school in the morning and came back late.", "en"),
        ("די קינדער זײַנען געגאַנגען אין שול", "yi"),
        ("ok", "unknown"),
        ("12345 67890 12345", "unknown"),
        ("", "unknown"),
        ("sol mar pan luna vid zem", "unknown"),
    ],
)
def test_the_language_is_guessed_or_unknown(text: str, language: str) -> None:
    assert guess(text) in (language, "unknown")
    if language != "unknown":
        assert guess(text) == language
