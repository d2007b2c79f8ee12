"""Splits and forgetting go by the person and the sound, however they are written: rows P43, O4, O5, O26 and O30."""

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import soundfile

from govor.corpus.balance import Balance
from govor.corpus.forget import plan
from govor.corpus.manifests import read_clips, write_clips
from govor.corpus.normalize import normalizer
from govor.corpus.normalize.bcs import to_latin
from govor.corpus.records import Clip, Segment
from govor.corpus.split import Division, SplitSettings, split
from govor.corpus.wishes import Wish
from govor.errors import GovorError
from govor.runs import Workspace
from messy import voice

Govor = Callable[..., CompletedProcess[str]]


def clip(number: int, **about: object) -> Clip:
    row = {"id": f"c{number:04d}", "audio": f"w/{number}.wav", "transcript": f"rečenica broj {number}", "duration": 3.0}
    return Clip(**{**row, "language": "sr", **about})  # type: ignore[arg-type]


def crossing(division: Division, key: Callable[[Clip], object]) -> set[object]:
    parts = [{key(clip) for clip in part} for part in division.parts.values()]
    return (parts[0] & parts[1]) | (parts[0] & parts[2]) | (parts[1] & parts[2])


def spelled(number: int, name: str) -> str:
    return unicodedata.normalize("NFC" if number % 2 else "NFD", name) + " " * (number % 3)


def test_a_speaker_is_one_however_the_name_is_composed() -> None:
    clips = [
        clip(i, speaker=spelled(i, f"Željko {i // 2 % 12}"), source=spelled(i, f"s{i // 2 % 12}č")) for i in range(240)
    ]
    done = split(clips, SplitSettings())
    assert done.proof["groups"] == 12 and done.clean
    assert not crossing(done, lambda c: unicodedata.normalize("NFC", str(c.speaker)).strip())
    assert sum(part["speakers"] for part in done.proof["parts"].values()) == 12


@pytest.mark.parametrize(
    "same",
    [
        {"audio": lambda i: f"w/{i // 2}.wav"},
        {"audio": lambda i: f"{'./' if i % 2 else ''}w//{i // 2}.wav"},
        {"audio": lambda i: str(Path.cwd() / f"w/{i // 2}.wav") if i % 2 else f"w/{i // 2}.wav"},
        {"sha256": lambda i: f"h{i // 2}"},
        {"audio": lambda i: f"w/{i // 2}.wav", "offset": lambda i: 1.0 * (i % 2)},
        {"audio": lambda i: f"w/{i // 2}.wav", "offset": lambda i: 2.0 if i % 2 else None},
        {"audio": lambda i: f"w/{i // 2}.wav", "offset": lambda i: 3.0 * (i % 2), "source": lambda i: f"tape {i}"},
    ],
)
def test_one_audio_in_two_rows_stands_in_one_part(same: dict[str, Callable[[int], object]]) -> None:
    clips = [clip(i, **{key: value(i) for key, value in same.items()}) for i in range(120)]
    done = split(clips, SplitSettings())
    assert not crossing(done, lambda c: int(c.id[1:]) // 2) and done.proof["overlaps"]["audio"] == {
        "train/validation": 0, "train/test": 0, "validation/test": 0,
    }  # fmt: skip


def test_parts_of_one_recording_cross_only_where_it_is_allowed_and_never_where_they_overlap() -> None:
    apart = [clip(i, audio="w/a.wav", offset=3.0 * i) for i in range(60)]
    with pytest.raises(GovorError, match="tied together by 'source'"):
        split(apart, SplitSettings())
    allowed = SplitSettings(allow_overlap=("source",))
    done = split(apart, allowed)
    assert not done.clean and done.proof["overlaps"]["source"]["train/test"] == 1
    assert not any(done.proof["overlaps"]["audio"].values())
    with pytest.raises(GovorError, match="tied together by 'audio'"):
        split([clip(i, audio="w/a.wav", offset=2.0 * i) for i in range(60)], allowed)


def test_speakers_of_segments_are_speakers() -> None:
    clips = [clip(i, segments=(Segment(0, 1, "da", f"Ana {i % 12}"), Segment(1, 2, "ne", None))) for i in range(240)]
    done = split(clips, SplitSettings())
    assert done.proof["speakers_unknown"] == 0 and done.proof["groups"] == 12
    assert not crossing(done, lambda c: c.segments[0].speaker)
    mixed = [clip(0, speaker="Ana 0", segments=(Segment(0, 1, "da", "Ana 1"),))]
    joined = split([*clips, *(c.replace(id="mixed") for c in mixed)], SplitSettings())
    assert joined.proof["groups"] == 11
    counted = Balance()
    for one in clips:
        counted.see(one)
    found = counted.as_dict()["speakers"]
    assert found["count"] == 12 and found["hours"]["unknown"] == pytest.approx(240 * 2 / 3600, abs=1e-3)


@pytest.mark.parametrize(
    "about",
    [
        lambda name: {"words": ({"word": "da", "start": 0.0, "end": 1.0, "speaker": name},)},
        lambda name: {"extra": {"speakers": [name]}},
        lambda name: {"extra": {"speakers": [name]}, "speaker": f" {name}"},
    ],
)
def test_whoever_speaks_in_a_row_is_its_speaker(about: Callable[[str], dict[str, object]]) -> None:
    clips = [clip(i, **about(f"Željko {i % 12}")) for i in range(240)]
    done = split(clips, SplitSettings())
    assert done.proof["groups"] == 12 and done.proof["speakers_unknown"] == 0
    row = clip(0, **about("Z\u030celjko")).to_row()
    assert Wish("speaker", "Željko").covers(row) and Wish("speaker", "željko").nearly(row) == {"Željko"}


def test_a_sentence_is_one_in_both_scripts() -> None:
    said = [("Љубав је џабе, број", "Ljubav je džabe – broj"), ("ЊЕГОВА Ђачка ћуп", "Njegova đačka ćup")]
    clips = [clip(i, speaker=f"s{i % 20}", transcript=f"{said[i % 4 // 2][i % 2]} {i // 4}") for i in range(200)]
    done = split(clips, SplitSettings())
    assert done.clean and done.proof["dropped"]["sentence_in_held_out"] > 0
    assert not crossing(done, lambda c: to_latin(c.transcript).lower().replace(",", "").replace("– ", ""))


@pytest.mark.parametrize("label", ["SPEAKER_0{}", "spk_{}", "Speaker {}", "unknown"])
def test_labels_of_diarisation_are_another_person_in_each_recording(label: str) -> None:
    clips = [
        clip(i, source=f"call {i // 20}", segments=(Segment(0, 3, "da", label.format(i % 2)),)) for i in range(240)
    ]
    done = split(clips, SplitSettings())
    assert done.proof["groups"] == 12 and done.proof["speakers_unknown"] == 240 and done.clean
    with pytest.raises(GovorError, match="tied together by 'speaker'"):  # a code may be a person everywhere
        split([c.replace(segments=(Segment(0, 3, "da", "F01"),)) for c in clips], SplitSettings())


@pytest.mark.parametrize("text", ["", "   ", "...", "♪"])
def test_rows_without_words_share_no_sentence(text: str) -> None:
    done = split([clip(i, transcript=text, speaker=f"s{i % 20}") for i in range(200)], SplitSettings())
    assert done.proof["rows"] == 200 == sum(part["clips"] for part in done.proof["parts"].values())
    assert not done.proof["dropped"] and not any(done.proof["overlaps"]["sentence"].values())


def test_a_language_is_dealt_as_one_and_reasons_are_true() -> None:
    done = split([clip(i, language=("sr", "srp", "Serbian", "sr-Latn")[i % 4]) for i in range(200)], SplitSettings())
    assert done.proof["parts"]["test"]["languages"].keys() == {"sr"}
    with pytest.raises(GovorError, match="say what a clip of a held-out part says"):
        split([clip(i, transcript="da") for i in range(60)], SplitSettings())
    with pytest.raises(GovorError, match="2 separate group"):
        split([clip(i) for i in range(2)], SplitSettings())


@pytest.fixture
def recordings(workspace: Path) -> Path:
    for number in range(6):
        soundfile.write(f"{number}.wav", voice(number), 16_000)
    said = ["dobro jutro svima redom", "idemo dalje polako", "treća rečenica ovde", "četvrta", "peta", "šesta"]
    names = ["Željko", unicodedata.normalize("NFD", "Željko"), " Željko ", "željko", "Boris", "Boris"]
    clips = [
        clip(i, audio=f"{i}.wav", duration=0.8, transcript=said[i], speaker=names[i], source="traka") for i in range(6)
    ]
    clips[4] = clips[4].replace(prev_transcript="Dobro jutro, svima redom!", prev_segments=(Segment(0, 1, "x"),))
    clips[5] = clips[5].replace(prev_transcript="peta")
    write_clips(Path("manifests/m.jsonl"), clips)
    return workspace


def test_forgetting_finds_every_spelling_and_what_quotes_it(recordings: Path, govor: Govor) -> None:
    Path("outputs/0").mkdir(parents=True)
    Path("outputs/0/transcription_base.json").write_text(json.dumps({"audio": "0.wav", "text": "dobro jutro"}))
    Path("outputs/5").mkdir()
    Path("outputs/5/transcription_base.json").write_text(json.dumps({"audio": "5.wav", "text": "ne"}))
    Path("data/processed/x").mkdir(parents=True)
    Path("data/processed/x/copy.wav").write_bytes(Path("0.wav").read_bytes())
    for place in ("reports/r/clips.js", "logs/training/r.log", "data/notes.txt"):
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        Path(place).write_text(f'"{unicodedata.normalize("NFD", "Željko")}"')
    Path("provenance.yaml").write_text("speaker: Željko\n")
    dry = json.loads(govor("forget", "--speaker", "Željko", "--dry-run", "--json", expect=1).stdout)
    assert Path("0.wav").exists() and Path("outputs/0").exists()
    done = json.loads(govor("forget", "--speaker", "Željko", "--json", expect=1).stdout)
    assert {**dry, "dry_run": False} == done
    kept = list(read_clips("manifests/m.jsonl"))
    assert [c.id for c in kept] == ["c0003", "c0004", "c0005"] and done["names_that_differ_by_case"] == ["željko"]
    assert kept[1].prev_transcript is None and not kept[1].prev_segments and kept[2].prev_transcript == "peta"
    assert done["contexts_emptied_by_file"] == {"manifests/m.jsonl": 1}
    assert not any(Path(f"{i}.wav").exists() for i in range(3)) and Path("3.wav").exists()
    assert not Path("outputs/0").exists() and Path("outputs/5").exists()
    assert not Path("data/processed/x/copy.wav").exists()
    assert set(done["files_that_still_hold_them"]) == {"reports/r/clips.js", "logs/training/r.log", "data/notes.txt"}
    assert done["files_beside_the_audio_that_name_them"] == ["provenance.yaml"]
    # Rows without a hash: the files' own keep them from coming back.
    assert sum("sha256" in line for line in Path("manifests/tombstones.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize("spelled_as", ["0.wav", "./0.wav", "../{}/0.wav", "{}/0.wav"])
@pytest.mark.parametrize("part", [False, True])
def test_one_file_is_one_however_its_path_is_spelled(
    recordings: Path, govor: Govor, spelled_as: str, part: bool
) -> None:
    place = spelled_as.format(Path.cwd().name if spelled_as.startswith("..") else Path.cwd())
    both = [clip(0, audio="0.wav", speaker="Ana"), clip(1, audio=place, speaker="Iva")]
    if part:
        both = [one.replace(offset=0.4 * number, duration=0.4) for number, one in enumerate(both)]
    write_clips(Path("manifests/m.jsonl"), both)
    govor("forget", "--speaker", "Ana", "--json", expect=1 if part else 0)
    assert [c.id for c in read_clips("manifests/m.jsonl")] == (["c0001"] if part else [])
    assert Path("0.wav").exists() == part


@pytest.mark.parametrize("name", ["", " ", "\u200b"])
@pytest.mark.parametrize("kind", ["speaker", "source"])
def test_a_blank_name_forgets_nobody(recordings: Path, govor: Govor, kind: str, name: str) -> None:
    Path("manifests/t.csv").write_text("file_name,transcription,speaker,source\n0.wav,da,,\n")
    assert "no name" in govor("forget", f"--{kind}", name, expect=2).stderr
    assert not Wish("source", name).covers({"source": "", "dataset": None})
    with pytest.raises(GovorError, match="No row has the source 'None'"):
        plan(Workspace(), Wish("source", "None"))


@pytest.mark.parametrize("cell", ['["Iva", "Ana"]', "Iva; Ana", "Ana"])
def test_tables_name_several_who_speak(cell: str) -> None:
    assert Wish("speaker", "Ana").covers({"speaker": "", "speakers": cell})
    assert Wish("speaker", "Ana").covers({"segments": '[{"start": 0, "text": "da", "speaker": "Ana"}]'})
    assert not Wish("speaker", "Ana").covers({"segments": "[" * 9000, "words": "[nije", "speakers": None})


def test_a_name_of_other_case_is_named_and_nothing_is_done(recordings: Path) -> None:
    with pytest.raises(GovorError, match=r"No row has the speaker 'BORIS'.*there is 'Boris'"):
        plan(Workspace(), Wish("speaker", "BORIS"))
    assert Wish("source", "cafe\u0301").covers({"source": "rec/café "}) and Wish("speaker", "a").covers(
        {"segments": [{"speaker": "a "}]}
    )


@pytest.mark.parametrize(
    ("written", "clean"),
    [
        ("ho an’ ny zaza", "ho an'ny zaza"),
        ("amin' ny", "amin'ny"),
        ("amin’ ny", "amin'ny"),
        ("amin ’ny", "amin'ny"),
        ("tamin` ilay", "tamin'ilay"),
        ("Amin´ Ny", "Amin'Ny"),
        ("ho an ' ny", "ho an'ny"),
        ("amin’ ireny", "amin'ireny"),
        ("an’ Andriamatoa sy an ' olona", "an'Andriamatoa sy an'olona"),
        ("tsara izany’ hoy izy", "tsara izany’ hoy izy"),
        ("hoy izy ’ ny ", "hoy izy ’ ny"),
    ],
)
def test_malagasy_apostrophes_with_spaces(written: str, clean: str) -> None:
    """O26."""
    assert normalizer("mg")(written) == clean == normalizer("Malagasy")(clean)


@pytest.mark.parametrize("mark", ["''", "׳׳", "′′", "’’", "׳'", "״", "“", "”", "″", "´´", "``"])
def test_gershayim_are_one_however_typed(mark: str) -> None:
    assert normalizer("he")(f"צה{mark}ל") == 'צה"ל'


@pytest.mark.parametrize(
    ("written", "clean"),
    [
        ("a [b [c] d] e", "a e"),
        ("a [b c", "a [b c"),
        ("a (music (laughs)) b", "a b"),
        ("a (smeh, aplauz ...) b (rekao je)", "a b (rekao je)"),
        ("<|a <|b|>|> c <i>d</i>", "c d"),
        ("a *laughs* b * c", "a b * c"),
        ("(he (laughs) left)", "(he left)"),
    ],
)
def test_remarks_in_one_pass_take_what_is_inside_of_them(written: str, clean: str) -> None:
    assert normalizer("xx")(written) == clean == normalizer("xx")(clean)
