"""Manifest rows survive a round trip; what is wrong is said with file and line."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from govor.corpus.manifests import Manifest, read_clips, write_clips
from govor.corpus.records import Clip, Segment, sentence_key
from govor.errors import GovorError

ROW = {"id": "a", "audio": "a.wav", "transcript": "x", "duration": 1.5, "language": "he"}


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def test_unknown_keys_survive_in_order() -> None:
    row = {**ROW, "zebra": [1, {"b": None}], "apple": "ב"}
    back = Clip.from_row(row, "here").to_row()
    assert back == row
    assert list(back)[-2:] == ["zebra", "apple"]


@given(
    st.builds(
        Clip,
        id=st.text(min_size=1),
        audio=st.text(min_size=1),
        transcript=st.text(),
        duration=st.floats(0, 1e4),
        language=st.sampled_from(["he", "bs", "mg"]),
        offset=st.floats(0, 1e4),
        speaker=st.none() | st.text(min_size=1),
        segments=st.lists(st.builds(Segment, st.just(0.0), st.none() | st.just(1.5), st.text())).map(tuple),
        extra=st.dictionaries(st.text(min_size=1).map(lambda key: "x_" + key), st.integers() | st.text()),
    )
)
def test_every_clip_comes_back_as_it_was(clip: Clip) -> None:
    assert Clip.from_row(json.loads(json.dumps(clip.to_row())), "here") == clip


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('{"id": "a"', r":2: the line is not valid JSON"),
        ("[1, 2]", r":2: a JSON object was wanted"),
        (
            '{"id": "a", "audio": "a.wav"}',
            r":2: the key 'transcript' and 'duration' and 'language' is missing",
        ),
        *(
            (
                json.dumps({"id": "a", "audio": "a.wav", "duration": 1.5, "language": "he", "labels": labels}),
                r":2: the key 'transcript' is missing; a manifest row needs id, audio, transcript \(or labels\)",
            )
            for labels in ({}, None)
        ),
        (json.dumps({**ROW, "duration": "long"}), r":2: 'duration' must be a number, found 'long'"),
        (json.dumps({**ROW, "duration": -1}), r":2: 'duration' must be seconds of at least 0"),
        (json.dumps({**ROW, "transcript": None}), r":2: 'transcript' is null"),
        (
            json.dumps({**ROW, "segments": [{"start": 2, "end": 1, "text": ""}]}),
            r":2: segment 0: ends at 1 s, before it starts",
        ),
        (
            '{"id": "a", "audio": "a", "transcript": "x", "duration": NaN, "language": "he"}',
            r":2: the line is not valid JSON \(NaN is no number",
        ),
    ],
)
def test_a_malformed_line_names_file_and_line(tmp_path: Path, line: str, sentence: str) -> None:
    path = write(tmp_path / "m.jsonl", json.dumps({**ROW, "id": "first"}), line)
    with pytest.raises(GovorError, match=r"m\.jsonl" + sentence):
        list(read_clips(path))


def test_a_repeated_id_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "m.jsonl", json.dumps(ROW), json.dumps(ROW))
    with pytest.raises(GovorError, match="'a' stands twice"):
        list(read_clips(path))


def test_rows_are_read_by_number_and_the_index_follows_the_file(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    clips = [Clip(f"c{i}", "a.wav", "ש" * (i % 50), 1.0, "he") for i in range(500)]
    write_clips(path, clips)
    manifest = Manifest(path)
    assert len(manifest) == 500 and manifest[499] == clips[499] and manifest[-500] == clips[0]
    assert list(manifest) == clips and manifest[3:5] == clips[3:5]
    assert (tmp_path / "m.jsonl.idx").exists()
    write_clips(path, clips[:7])
    assert len(Manifest(path)) == 7
    with pytest.raises(IndexError):
        Manifest(path)[7]


def test_a_manifest_in_a_read_only_folder_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.jsonl"
    write_clips(path, [Clip("a", "a.wav", "x", 1.0, "he")])

    def refuse(*_: object) -> None:
        raise PermissionError(13, "no")

    monkeypatch.setattr(Path, "replace", refuse)
    assert len(Manifest(path)) == 1


@pytest.mark.parametrize(("one", "other"), [("มา", "ม้า"), ("मीरा", "मोर"), ("on\u0308ana", "onana")])
def test_marks_make_another_sentence(one: str, other: str) -> None:
    assert sentence_key(one) != sentence_key(other)
    assert sentence_key("שָׁלוֹם") == sentence_key("שלום") and sentence_key("كِتاب") == sentence_key("كتاب")
