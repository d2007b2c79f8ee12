"""Splits go by the person, the sound and the sentence, however they are written: P43, O4, O5, O26, O30."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from conftest import WORDS
from govor.corpus.balance import Balance
from govor.corpus.normalize.bcs import to_latin
from govor.corpus.records import Clip, Segment, sentence_key
from govor.corpus.split import Division, SplitSettings, split
from govor.corpus.wishes import Wish
from govor.errors import GovorError


def a_clip(number: int, **about: object) -> Clip:
    row = {"id": f"c{number:04d}", "audio": f"w/{number}.wav", "transcript": f"rečenica broj {number}", "duration": 3.0}
    return Clip(**{**row, "language": "sr", **about})  # type: ignore[arg-type]


def crossing(division: Division, key: Callable[[Clip], object]) -> set[object]:
    parts = [{key(clip) for clip in part} for part in division.parts.values()]
    return (parts[0] & parts[1]) | (parts[0] & parts[2]) | (parts[1] & parts[2])


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
    clips = [a_clip(i, **{key: value(i) for key, value in same.items()}) for i in range(120)]
    done = split(clips, SplitSettings())
    assert not crossing(done, lambda c: int(c.id[1:]) // 2) and done.proof["overlaps"]["audio"] == {
        "train/validation": 0, "train/test": 0, "validation/test": 0,
    }  # fmt: skip


def test_parts_of_one_recording_cross_only_where_it_is_allowed_and_never_where_they_overlap() -> None:
    apart = [a_clip(i, audio="w/a.wav", offset=3.0 * i) for i in range(60)]
    with pytest.raises(GovorError, match="tied together by 'source'"):
        split(apart, SplitSettings())
    allowed = SplitSettings(allow_overlap=("source",))
    done = split(apart, allowed)
    assert not done.clean and done.proof["overlaps"]["source"]["train/test"] == 1
    assert not any(done.proof["overlaps"]["audio"].values())
    with pytest.raises(GovorError, match="tied together by 'audio'"):
        split([a_clip(i, audio="w/a.wav", offset=2.0 * i) for i in range(60)], allowed)


def test_speakers_of_segments_are_speakers() -> None:
    clips = [a_clip(i, segments=(Segment(0, 1, "da", f"Ana {i % 12}"), Segment(1, 2, "ne", None))) for i in range(240)]
    done = split(clips, SplitSettings())
    assert done.proof["speakers_unknown"] == 0 and done.proof["groups"] == 12
    assert not crossing(done, lambda c: c.segments[0].speaker)
    mixed = [a_clip(0, speaker="Ana 0", segments=(Segment(0, 1, "da", "Ana 1"),))]
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
    clips = [a_clip(i, **about(f"Željko {i % 12}")) for i in range(240)]
    done = split(clips, SplitSettings())
    assert done.proof["groups"] == 12 and done.proof["speakers_unknown"] == 0
    row = a_clip(0, **about("Z\u030celjko")).to_row()
    assert Wish("speaker", "Željko").covers(row) and Wish("speaker", "željko").nearly(row) == {"Željko"}


def test_a_sentence_is_one_in_both_scripts() -> None:
    said = [("Љубав је џабе, број", "Ljubav je džabe – broj"), ("ЊЕГОВА Ђачка ћуп", "Njegova đačka ćup")]
    clips = [a_clip(i, speaker=f"s{i % 20}", transcript=f"{said[i % 4 // 2][i % 2]} {i // 4}") for i in range(200)]
    done = split(clips, SplitSettings())
    assert done.clean and done.proof["dropped"]["sentence_in_held_out"] > 0
    assert not crossing(done, lambda c: to_latin(c.transcript).lower().replace(",", "").replace("– ", ""))


@pytest.mark.parametrize("label", ["SPEAKER_0{}", "spk_{}", "Speaker {}", "unknown"])
def test_labels_of_diarisation_are_another_person_in_each_recording(label: str) -> None:
    clips = [
        a_clip(i, source=f"call {i // 20}", segments=(Segment(0, 3, "da", label.format(i % 2)),)) for i in range(240)
    ]
    done = split(clips, SplitSettings())
    assert done.proof["groups"] == 12 and done.proof["speakers_unknown"] == 240 and done.clean
    with pytest.raises(GovorError, match="tied together by 'speaker'"):  # a code may be a person everywhere
        split([c.replace(segments=(Segment(0, 3, "da", "F01"),)) for c in clips], SplitSettings())


@pytest.mark.parametrize("text", ["", "   ", "...", "♪"])
def test_rows_without_words_share_no_sentence(text: str) -> None:
    done = split([a_clip(i, transcript=text, speaker=f"s{i % 20}") for i in range(200)], SplitSettings())
    assert done.proof["rows"] == 200 == sum(part["clips"] for part in done.proof["parts"].values())
    assert not done.proof["dropped"] and not any(done.proof["overlaps"]["sentence"].values())


def test_a_language_is_dealt_as_one_and_reasons_are_true() -> None:
    done = split([a_clip(i, language=("sr", "srp", "Serbian", "sr-Latn")[i % 4]) for i in range(200)], SplitSettings())
    assert done.proof["parts"]["test"]["languages"].keys() == {"sr"}
    with pytest.raises(GovorError, match="say what a clip of a held-out part says"):
        split([a_clip(i, transcript="da") for i in range(60)], SplitSettings())
    with pytest.raises(GovorError, match="2 separate group"):
        split([a_clip(i) for i in range(2)], SplitSettings())


def test_guessed_sources_that_cross_are_counted() -> None:
    clips = [Clip(f"{t}-{n}", f"t{t}.wav", f"{t} {n}", 2.0, "cs", offset=2.0 * n) for t in range(4) for n in range(6)]
    division = split(clips, SplitSettings(allow_overlap=("source",)))
    assert sum(division.proof["overlaps"]["source"].values()) > 0 and not division.clean


def test_equal_samples_are_one_group() -> None:
    clips = [
        Clip(f"c{n}", f"{n}.wav", f"věta {n}", 2.0, "cs", source=f"s{n}", pcm_sha256=f"p{n // 2}") for n in range(60)
    ]
    assert split(clips, SplitSettings()).clean


def clips(count: int, speakers: int, sources: int = 10_000) -> list[Clip]:
    return [
        Clip(
            f"c{i}",
            f"{i}.wav",
            f"{WORDS[i % 6]} {i}",
            1 + i % 5,
            "cs",
            speaker=f"s{i % speakers}",
            source=f"r{i % sources}",
        )
        for i in range(count)
    ]


def test_nothing_crosses_and_the_proof_counts_it() -> None:
    division = split(clips(400, 40), SplitSettings())
    assert division.clean
    assert all(not any(pairs.values()) for pairs in division.proof["overlaps"].values())
    speakers = {part: {clip.speaker for clip in members} for part, members in division.parts.items()}
    assert not speakers["train"] & speakers["test"] and not speakers["train"] & speakers["validation"]
    hours = {part: sum(clip.duration for clip in members) for part, members in division.parts.items()}
    assert 0.05 < hours["test"] / sum(hours.values()) < 0.15


def test_the_order_of_the_rows_has_no_influence() -> None:
    rows = clips(300, 30)
    shuffled = [rows[i] for i in np.random.default_rng(0).permutation(300)]
    assert split(rows, SplitSettings(seed=3)).parts == split(shuffled, SplitSettings(seed=3)).parts
    assert split(rows, SplitSettings(seed=3)).parts != split(rows, SplitSettings(seed=4)).parts


def test_speakers_and_sources_tie_clips_transitively() -> None:
    rows = clips(300, 30)
    rows[0] = rows[0].replace(speaker="s29", source="bridge")
    rows[5] = rows[5].replace(source="bridge")
    division = split(rows, SplitSettings())
    part = {clip.id: name for name, members in division.parts.items() for clip in members}
    assert part["c0"] == part["c5"] == part["c29"]


def test_a_sentence_of_the_test_set_leaves_training() -> None:
    rows = clips(200, 20)
    first = split(rows, SplitSettings())
    held, taught = first.parts["test"][0], first.parts["train"][0]
    rows = [clip.replace(transcript=held.transcript.upper() + "!") if clip.id == taught.id else clip for clip in rows]
    division = split(rows, SplitSettings())
    assert [(clip.id, rule) for clip, rule in division.dropped] == [(taught.id, "sentence_in_held_out")]
    assert sum(map(len, division.parts.values())) + len(division.dropped) == len(rows)
    assert sentence_key("Čau, světe!") == sentence_key("čau světe")


def test_one_speaker_who_says_everything_is_refused_with_the_way_out() -> None:
    with pytest.raises(GovorError, match="--allow-overlap speaker"):
        split(clips(50, 1), SplitSettings())
    division = split(clips(50, 1), SplitSettings(allow_overlap=("speaker",)))
    assert not division.clean and division.proof["overlaps"]["speaker"]["train/test"] == 1
    assert division.proof["overlaps"]["source"]["train/test"] == 0


def test_unknown_speakers_are_said_in_the_proof() -> None:
    rows = [clip.replace(speaker=None) for clip in clips(60, 5, sources=20)]
    proof = split(rows, SplitSettings()).proof
    assert proof["speakers_unknown"] == 60 and proof["speakers_guessed_from"] == "source"


def test_few_groups_still_fill_every_part() -> None:
    division = split(clips(30, 3, sources=3), SplitSettings())
    assert all(division.parts.values())


def test_the_files_of_a_split_are_the_same_whatever_the_order(tmp_path: Path) -> None:
    from govor.corpus.split import write_split

    rows = clips(200, 20)
    for name, ordered in (("one", rows), ("other", list(reversed(rows)))):
        write_split(tmp_path / name, split(ordered, SplitSettings()))
    for part in ("train", "validation", "test", "dropped"):
        assert (tmp_path / "one" / f"{part}.jsonl").read_bytes() == (tmp_path / "other" / f"{part}.jsonl").read_bytes()
