"""Slices: every clip once, and no verdict from few."""

import unicodedata

import pytest

from govor.corpus.alike import name_key
from govor.languages import language_key
from govor.metrics.compare import compare
from govor.metrics.intervals import choose_clusters
from govor.metrics.recognition import with_counts
from govor.metrics.slices import by_slice


def clips(hypotheses: list[str], reference: str = "kuća čaša đak") -> list[dict[str, object]]:
    return with_counts(
        [
            {"id": f"c{i}", "reference": reference, "hypothesis": text, "language": "hr", "duration": 1.5 + i % 12,
             "speaker": f"s{i % 3}", "source": None, "snr_db": 10.0 + i % 30}
            for i, text in enumerate(hypotheses)
        ]
    )  # fmt: skip


def test_slices_cover_every_clip_once_and_add_up() -> None:
    rows = clips(["kuća čaša đak"] * 10 + ["kuća x y"] * 30)
    found = by_slice(rows)
    assert set(found) == {"speaker", "length", "snr"}
    for entries in found.values():
        assert sum(entry["clips"] for entry in entries) == 40
        errors = sum(entry["wer"] * entry["words"] for entry in entries)
        assert errors == pytest.approx(60)
    assert [entry["value"] for entry in found["length"]][:3] == ["≤ 2 s", "≤ 3 s", "≤ 5 s"]
    compared = compare(rows, clips(["kuća čaša đak"] * 40), "a", "b")
    assert {kind: len(entries) for kind, entries in compared["slices"].items()}["speaker"] == 3
    assert all(entry["difference"] <= 0 for entry in compared["slices"]["speaker"])


def row(number: int, reference: str = "jedan dva", hypothesis: str = "jedan dva") -> dict[str, object]:
    about = {"language": "sr", "speaker": None, "source": None, "duration": 2.0, "audio": f"{number}.wav"}
    return {"id": f"c{number}", "reference": reference, "hypothesis": hypothesis, **about}


def test_slices_of_few_clips_give_no_interval_and_no_verdict() -> None:
    languages = ["sr"] * 5 + ["mg"] * 8
    before = with_counts([{**row(i, hypothesis="ne ne"), "language": code} for i, code in enumerate(languages)])
    after = with_counts([{**row(i), "language": code} for i, code in enumerate(languages)])
    found = {entry["value"]: entry for entry in by_slice(after)["language"]}
    assert found["sr"]["wer_interval"] is None and found["mg"]["wer_interval"] is not None
    compared = {entry["value"]: entry for entry in compare(before, after, "a", "b")["slices"]["language"]}
    assert "sr" not in compared and compared["mg"]["p_value"] >= 2.0**-7


def test_spellings_of_a_name_are_one_speaker_and_of_a_language_one_slice() -> None:
    """P43."""
    clips = [{**row(i), "speaker": unicodedata.normalize("NFC" if i % 2 else "NFD", f" Željko {i % 10}"),
              "language": ("sr", "srp", "Serbian", "sr_RS")[i % 4]} for i in range(40)]  # fmt: skip
    assert choose_clusters(clips).count == 10
    slices = by_slice(with_counts(clips))
    assert "language" not in slices and len(slices["speaker"]) == 10
    assert name_key("  Z\u030celjko\u00a0 A\u200e") == "Željko A"
    assert {language_key(code) for code in ("he", "iw", "heb", "Hebrew", "he-IL")} == {"he"}
