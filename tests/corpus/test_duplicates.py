"""Copies are found by file, samples and fingerprint; a priority decides; files move and come back."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
import soundfile

from govor.audio import decode
from govor.corpus import fingerprint as prints
from govor.corpus.diskmap import DiskMap
from govor.corpus.fingerprint import MAX_BIT_ERROR, Fingerprint, Index, best_match, compare, fingerprint
from govor.corpus.formats import read_source
from govor.corpus.inventory import Statement
from govor.corpus.moves import move, plan_moves, undo, with_sidecars
from govor.corpus.records import Clip
from govor.corpus.validate import Checks, Limits, validate
from govor.errors import GovorError
from govor.runs import Workspace
from messy import voice

Run = Callable[..., CompletedProcess[str]]


def real_like(number: int, seconds: float = 3.0) -> np.ndarray:
    """Sound that changes all the time, as speech does."""
    return np.concatenate([voice(1000 * number + part, 0.15) for part in range(int(seconds / 0.15))])


def through(samples: np.ndarray, container: str, subtype: str, rate: int = 16_000) -> np.ndarray:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=container, subtype=subtype)
    buffer.seek(0)
    return soundfile.read(buffer, dtype="float32")[0]


@pytest.mark.parametrize("change", ["mp3", "opus", "quieter", "trimmed", "all"])
def test_a_changed_copy_is_found_and_no_other(change: str) -> None:
    originals = [real_like(number) for number in range(12)]
    copy = originals[5]
    if change in ("trimmed", "all"):
        copy = copy[5_003:-3_001]
    if change in ("mp3", "all"):
        copy = through(copy, "MP3", "MPEG_LAYER_III")
    if change == "opus":
        copy = through(copy, "OGG", "OPUS")
    if change in ("quieter", "all"):
        copy = copy * 0.2
    with Index() as index:
        for samples in [*originals, copy]:
            index.add(fingerprint(samples.astype(np.float32)))
        matches = list(index.matches())
    assert [(match.first, match.second) for match in matches] == [(5, 12)]
    assert matches[0].bit_error < MAX_BIT_ERROR and matches[0].cover > 0.6


def test_the_shift_of_a_match_is_where_the_copy_begins() -> None:
    samples = real_like(1)
    error, common, shift = best_match(fingerprint(samples), fingerprint(samples[128 * 2 * 20 :]), range(15, 25))
    assert (shift, error < 0.02) == (20, True) and common > 60


def test_sound_too_short_or_silent_has_no_fingerprint() -> None:
    assert len(fingerprint(np.zeros(1_000, np.float32)).words) == 0
    assert not fingerprint(np.zeros(16_000, np.float32)).audible.any()


def test_a_frame_is_heard_that_is_at_most_35_db_under_the_loudest() -> None:
    quiet, loud = real_like(1), real_like(2)
    for decibels, heard in ((-25.0, True), (-50.0, False)):
        print_ = fingerprint(np.concatenate([loud, quiet * 10 ** (decibels / 20)]).astype(np.float32))
        assert bool(print_.audible[-100:-30].any()) is heard


def write(folder: Path, name: str, samples: np.ndarray, **row: Any) -> dict[str, Any]:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.round(samples * 32767).astype(np.int16), 16_000)
    return {
        "id": name,
        "audio": str(path),
        "duration": len(samples) / 16_000,
        "language": "cs",
        "transcript": "ano",
        **row,
    }


def run(rows: list[dict[str, Any]], **limits: Any) -> tuple[list[Clip], list[dict[str, Any]]]:
    kept: list[Clip] = []
    dropped: list[dict[str, Any]] = []
    for _ in validate(Workspace(), rows, Checks(Limits(**limits)), kept.append, dropped.append, engine_name="inline"):
        pass
    return kept, dropped


def test_times_beat_none_and_newer_beats_older(tmp_path: Path) -> None:
    sound, other = real_like(1), real_like(2)
    timed = {"segments": [{"start": 0.0, "end": 1.0, "text": "ano"}]}
    rows = [
        write(tmp_path, "old.wav", sound, date="2023-01"),
        write(tmp_path, "new.mp3", sound, date="2025-01"),
        write(tmp_path, "timed.flac", sound, date="2020-01", **timed),
        write(tmp_path, "a.wav", other, date="2023-01", transcript="ne"),
        write(tmp_path, "b.flac", other, date="2024-01", transcript="ne"),
    ]
    kept, dropped = run(rows)
    assert {clip.id for clip in kept} == {"timed.flac", "b.flac"}
    reasons = {row["row"]["id"]: (row["rule"], row["message"]) for row in dropped}
    assert reasons["old.wav"][0] == "duplicate_audio" and "it has times" in reasons["old.wav"][1]
    assert reasons["new.mp3"][0] == "near_duplicate" and "it has times" in reasons["new.mp3"][1]
    assert "it is newer (2024-01)" in reasons["a.wav"][1]


def test_a_preferred_dataset_overrules(tmp_path: Path) -> None:
    sound = real_like(1)
    rows = [
        write(tmp_path, "a.wav", sound, dataset="big", date="2025"),
        write(tmp_path, "b.flac", sound, dataset="ours"),
    ]
    kept, dropped = run(rows, prefer=("ours",))
    assert [clip.id for clip in kept] == ["b.flac"] and "preferred" in dropped[0]["message"]


def test_copies_that_say_something_else_stay_as_one_group(tmp_path: Path) -> None:
    sound = real_like(1, 6.0)
    rows = [
        write(tmp_path, "whole.wav", sound, transcript="ano a ne"),
        write(tmp_path, "part.mp3", sound[:48_000], transcript="ano"),
        write(tmp_path, "else.wav", real_like(3), transcript="jiné"),
    ]
    kept, dropped = run(rows)
    assert not dropped
    groups = {clip.id: clip.near_duplicate_group for clip in kept}
    assert groups == {"whole.wav": "whole.wav", "part.mp3": "whole.wav", "else.wav": None}
    assert len(run(rows, near_duplicates="off")[0]) == 3


def test_files_of_copies_move_and_come_back(workspace: Path, govor: Run) -> None:
    sound = real_like(1)
    for name in ("tapes/a.wav", "tapes/sub/b.wav", "tapes/c.wav"):
        write(workspace, name, sound if name != "tapes/c.wav" else real_like(2))
        Path(name).with_suffix(".txt").write_text("ano" if name != "tapes/c.wav" else "ne")
    govor("inventory", "tapes", "--language", "cs", "--license", "own")
    before = sorted(str(path) for path in Path("tapes").rglob("*.*"))
    dry = govor("validate", "manifests/dataset_inventory.jsonl", "--move-duplicates", "--dry-run", expect=1)
    assert "would move" in dry.stderr and sorted(str(path) for path in Path("tapes").rglob("*.*")) == before
    govor("validate", "manifests/dataset_inventory.jsonl", "--move-duplicates", "--overwrite", expect=1)
    moved = sorted(path.name for path in Path("uploads/duplicates").rglob("b.*"))
    govor("inventory", "tapes", "uploads", "--out", "manifests/again.jsonl", "--language", "cs")
    assert "uploads" not in Path("manifests/again.jsonl").read_text(), "what was moved away is not found again"
    assert moved == ["b.txt", "b.wav"] and not Path("tapes/sub/b.wav").exists() and Path("tapes/a.wav").exists()
    govor("validate", "--undo")
    assert sorted(str(path) for path in Path("tapes").rglob("*.*")) == before
    assert "no duplicates have been moved" in govor("validate", "--undo", expect=2).stderr


def test_a_file_that_a_kept_part_needs_is_not_moved(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.wav", real_like(1), 16_000)
    row = {"id": "x", "audio": str(tmp_path / "long.wav"), "offset": 0.0}
    rejection = {"row": row, "rule": "duplicate_audio", "message": "copy"}
    assert not list(plan_moves(Workspace(), [rejection], [], tmp_path / "out"))
    whole = {**rejection, "row": {"id": "x", "audio": str(tmp_path / "long.wav")}}
    assert not list(plan_moves(Workspace(), [whole], [str(tmp_path / "long.wav")], tmp_path / "out"))
    assert len(list(plan_moves(Workspace(), [whole], [], tmp_path / "out"))) == 1


def test_undo_never_overwrites(tmp_path: Path) -> None:
    source = tmp_path / "a.wav"
    soundfile.write(source, real_like(1), 16_000)
    rejection = {"row": {"id": "x", "audio": str(source)}, "rule": "duplicate_audio", "message": "copy"}
    assert move(Workspace(), plan_moves(Workspace(), [rejection], [], tmp_path / "out"), tmp_path / "out") == 1
    source.write_text("somebody wrote here")
    back, failed = undo(Workspace(), tmp_path / "out")
    assert back == 0 and "exists again" in failed[0] and source.read_text() == "somebody wrote here"
    with pytest.raises(GovorError, match="already exists"):
        move(Workspace(), plan_moves(Workspace(), [rejection], [], tmp_path / "out"), tmp_path / "out")


def test_a_large_map_moves_to_disk_and_keeps_all(monkeypatch: pytest.MonkeyPatch) -> None:
    from govor.corpus import diskmap

    monkeypatch.setattr(diskmap, "_IN_MEMORY", 10)
    with DiskMap() as held:
        for number in range(200):
            assert held.setdefault(f"k{number % 50}\udc80", f"v{number}") == f"v{number % 50}"
        held["k3\udc80"] = "new"
        assert held.get("k3\udc80") == "new" and "nothing" not in held


def test_re_encoded_real_speech_is_decoded_to_the_same_samples(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", real_like(1), 16_000, subtype="PCM_16")
    samples, rate = soundfile.read(tmp_path / "a.wav", dtype="int16")
    soundfile.write(tmp_path / "a.flac", samples, rate)
    assert np.array_equal(decode(tmp_path / "a.wav"), decode(tmp_path / "a.flac"))


def test_words_stay_where_another_recording_of_that_name_needs_them(tmp_path: Path) -> None:
    for name in ("a.wav", "a.flac", "b.wav"):
        soundfile.write(tmp_path / name, voice(1), 16_000)
    for name in ("a.txt", "b.txt", "b.norm.txt"):
        (tmp_path / name).write_text("ano")
    assert [path.name for path in with_sidecars(tmp_path / "a.wav")] == ["a.wav"]
    assert [path.name for path in with_sidecars(tmp_path / "b.wav")] == ["b.wav", "b.txt", "b.norm.txt"]


def test_one_channel_of_a_stereo_recording_is_not_its_mix(tmp_path: Path) -> None:
    recording = {
        "id": "r",
        "sources": [{"type": "file", "channels": [0, 1], "source": "r.wav"}],
        "duration": 1.0,
        "channel_ids": [0, 1],
    }
    cut = {
        "id": "c",
        "start": 0.0,
        "duration": 1.0,
        "channel": 1,
        "supervisions": [{"start": 0, "duration": 1, "text": "a", "language": "cs"}],
        "recording": recording,
    }
    (tmp_path / "cuts.jsonl").write_text(json.dumps(cut) + "\n")
    dropped: list[dict] = []
    assert not list(read_source(Workspace(), tmp_path / "cuts.jsonl", Statement(), dropped.append))
    assert dropped[0]["rule"] == "one_channel"


def test_copies_with_other_words_are_called_a_conflict(tmp_path: Path) -> None:
    rows = [
        write(tmp_path, "a.wav", real_like(1), transcript="dobře"),
        write(tmp_path, "b.flac", real_like(1), transcript="docela jinak"),
    ]
    _, dropped = run(rows)
    assert "their transcripts differ" in dropped[0]["message"]


def test_a_shared_jingle_is_no_copy(tmp_path: Path) -> None:
    jingle = real_like(9, 2.5)
    rows = [write(tmp_path, f"{n}.wav", np.concatenate([jingle, real_like(n, 1.5)])) for n in range(3)]
    kept, dropped = run(rows)
    assert len(kept) == 3 and not dropped and len({clip.near_duplicate_group for clip in kept}) == 1


def made_up(count: int) -> list[Fingerprint]:
    """Words of so few that many clips share some by chance, and a copy of every tenth with a twelfth of its bits turned."""
    generator = np.random.default_rng(0)
    clips = [Fingerprint(generator.integers(0, 3_000, 120).astype(np.uint32) * 1_315_423_911, np.ones(120, bool))
             for _ in range(count)]  # fmt: skip
    for clip in clips[::10]:
        turned = (generator.random((120, 32)) < 1 / 12) @ (1 << np.arange(32))
        clips.append(Fingerprint((clip.words ^ turned.astype(np.uint32))[15:], clip.audible[15:]))
    return clips


def found(clips: list[Fingerprint]) -> list[tuple[int, int]]:
    with Index() as index:
        for clip in clips:
            index.add(clip)
        return sorted((match.first, match.second) for match in index.matches())


def test_copies_are_found_among_pairs_that_share_words_by_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    clips = made_up(200)
    copies = [(10 * number, 200 + number) for number in range(20)]
    voted = []
    monkeypatch.setattr(prints, "_voted", lambda pairs, vote=prints._voted: voted.append(len(pairs)) or vote(pairs))
    assert found(clips) == copies
    looked_at = sum(voted)
    monkeypatch.setattr(prints, "_SPREAD", 1.0)
    assert found(clips) == copies and sum(voted) - looked_at > 20 * looked_at, "most pairs are known at a glance"


def test_an_index_on_disk_finds_what_one_in_memory_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    clips = [fingerprint(real_like(number % 7, 2.0 + number / 10)) for number in range(10)] + made_up(40)
    in_memory = found(clips)
    monkeypatch.setattr(prints, "_IN_MEMORY", 500)
    monkeypatch.setattr(prints, "_PAIRS_AT_ONCE", 50)
    assert found(clips) == in_memory and (0, 7) in in_memory
    assert found([]) == [] and found([fingerprint(np.zeros(100, np.float32))] * 2) == []


def test_a_long_recording_is_heard_as_its_parts_are() -> None:
    sound = np.concatenate([real_like(number) for number in range(15)]).astype(np.float32)
    whole = fingerprint(sound)
    assert len(whole.words) == len(sound) // 256 - 16 > 2 * prints._BLOCK_HOPS
    for hop in (0, 700, 980, 1_960, 2_400):  # edges of blocks lie inside
        part = fingerprint(sound[256 * hop : 256 * (hop + 200)])
        assert compare(whole, part, hop)[0] < 0.03
