"""JSON of others is bounded, whole and of the right kinds, or one sentence (H1, H8)."""

from pathlib import Path

import pytest

from govor.corpus.manifests import read_rows
from govor.corpus.provenance import of_recording
from govor.errors import GovorError
from govor.jsons import parse_json, read_json, read_log
from govor.runs import read_state

HOSTILE_JSON = {
    "nested": ("[" * 100_000, "nested deeper than 64"),
    "nested and whole": ('{"a": ' + "[" * 70 + "]" * 70 + "}", "nested deeper than 64"),
    "a key twice": ('{"a": 1, "a": 2}', "'a' stands twice"),
    "infinity": ('{"a": 1e999}', "too large a number"),
    "NaN": ('{"a": NaN}', "NaN is no number"),
    "5,000 digits": ('{"a": ' + "1" * 5000 + "}", "not valid JSON"),
    "cut": ('{"a": ', "not valid JSON"),
    "nothing": ("", "not valid JSON"),
    "a list": ("[1]", "a list where an object"),
    "a number": ("3", "a number where an object"),
}


@pytest.mark.parametrize("case", HOSTILE_JSON)
def test_hostile_json_is_one_sentence(tmp_path: Path, case: str) -> None:
    text, said = HOSTILE_JSON[case]
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(GovorError) as refused:
        read_json(tmp_path / "x.json")
    assert said in str(refused.value) and len(str(refused.value)) < 400
    (tmp_path / "x.jsonl").write_text(text + "\n")
    if text:
        with pytest.raises(GovorError):
            list(read_rows(tmp_path / "x.jsonl"))
    assert read_log(tmp_path / "x.jsonl") == []
    (tmp_path / "a.wav.provenance.json").write_text(text)
    with pytest.raises(GovorError):
        of_recording(tmp_path / "a.wav", tmp_path)


def test_json_of_ours_comes_back_as_it_was() -> None:
    text = (
        '{"a": [{"b": "\\ud800 [[{"}, 1.5, -0.0, 10000000000000000000000], "c": null, "d": ' + "[" * 60 + "]" * 60 + "}"
    )
    assert parse_json(text, "x")["a"][0] == {"b": "\ud800 [[{"}


def test_a_record_that_lacks_a_key_or_holds_another_kind_says_so(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    file.write_text('{"step": 3, "inner": {}}')
    found = read_json(file)
    with pytest.raises(GovorError, match=r"state\.json lacks 'metrics'"):
        found["metrics"]
    with pytest.raises(GovorError, match=r"state\.json lacks 'x'"):
        found["inner"]["x"]
    assert found.get("metrics") is None and "metrics" not in found
    file.write_text('{"step": "x"}')
    with pytest.raises(GovorError, match=r"state\.json: 'step' is text"):
        read_state(tmp_path)
