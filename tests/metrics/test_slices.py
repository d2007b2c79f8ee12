"""Which differences count: strict, lenient, and the leaderboard's rules."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.whisper.english_normalizer import BasicTextNormalizer

from govor.errors import GovorError
from govor.measure.scoring import read_eval, rescore, write_eval
from govor.metrics.compare import compare, normalisation_share
from govor.metrics.recognition import summarise, with_counts
from govor.metrics.slices import by_slice
from govor.metrics.text import ivrit_text, lenient_text, normaliser, scoring_text
from govor.metrics.wer import score, total
from govor.runs import Workspace

# What the `hebrew` package 0.8.1 takes for points.
POINTS = [*range(0x5B0, 0x5BD), 0x5C1, 0x5C2, 0x5C4, 0x5C5, 0x5C7]


@pytest.mark.parametrize(
    ("text", "language", "lenient"),
    [
        ("čaša ćuk žaba šljiva đak", "hr", "casa cuk zaba sljiva dak"),
        ("Ћирилица и Љубав", "sr", "cirilica i ljubav"),
        ("Москва", "ru", "москва"),
        ("שָׁלוֹם צה״ל", "he", "שלום צהל"),
        ("n'ny zaza n̈y", "mg", "nny zaza ny"),
        ("łódź straße œuvre", "pl", "lodz strasse oeuvre"),
    ],
)
def test_the_lenient_text_forgives_spelling(text: str, language: str, lenient: str) -> None:
    assert lenient_text(text, language) == lenient


@given(st.text(alphabet=st.sampled_from("aáčđשָׁ״׳'\"־ -.,Љљ’()[]<>ß")))
def test_normalisers_are_idempotent_and_leave_single_spaces(text: str) -> None:
    for name in ("strict-v2", "lenient-v2", "ivrit"):
        once = normaliser(name)(text, "sr")
        assert normaliser(name)(once, "sr") == once and "  " not in once and once == once.strip()


@given(
    st.text(
        alphabet=st.sampled_from(
            "aZš\u05e9\u05dc\u05d5\u05dd\u05b8\u05bc\u05c1\u05be\u05f3\u05f4\u05bd'\"[](<>) .,!?1½\ufb01\u200f\u200b"
        )
    )
)
def test_the_leaderboards_normaliser_is_points_quotes_and_whispers_basic_one(text: str) -> None:
    marks = {0x61C, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0xFEFF}
    bare = "".join(c for c in text if ord(c) not in {*marks, *POINTS} and c not in "\"'")
    assert ivrit_text(text) == BasicTextNormalizer()(bare).strip()


def test_an_unknown_normaliser_is_refused() -> None:
    with pytest.raises(GovorError, match="did you mean 'ivrit'"):
        normaliser("ivritt")


def clips(hypotheses: list[str], reference: str = "kuća čaša đak") -> list[dict[str, object]]:
    return with_counts(
        [
            {"id": f"c{i}", "reference": reference, "hypothesis": text, "language": "hr", "duration": 1.5 + i % 12,
             "speaker": f"s{i % 3}", "source": None, "snr_db": 10.0 + i % 30}
            for i, text in enumerate(hypotheses)
        ]
    )  # fmt: skip


def test_a_gain_of_spelling_alone_is_told_from_one_of_words() -> None:
    spelled = normalisation_share(clips(["kuca casa dak"] * 20), clips(["kuća čaša đak"] * 20))
    assert spelled["share_of_gain"] == 1.0 and spelled["lenient_gain"] == 0
    words = normalisation_share(clips(["ne ne ne"] * 20), clips(["kuća čaša đak"] * 20))
    assert words["share_of_gain"] == 0
    assert normalisation_share(clips(["kuća čaša đak"]), clips(["ne"]))["share_of_gain"] is None


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


def test_rescoring_needs_the_texts_alone(workspace: Path) -> None:
    Path("m.jsonl").write_text('{"id": "a", "audio": "a", "transcript": "x", "duration": 1, "language": "hr"}\n')
    write_eval(
        Workspace(),
        Path("e/x"),
        clips(["kuca čaša đak"] * 4),
        {"model": "x", "set": "m", "context": "speech"},
        Path("m.jsonl"),
    )
    path = Path("e/x.json")
    before = json.loads(path.read_text())
    rows = [json.loads(line) for line in Path("e/x.clips.jsonl").read_text().splitlines()]
    old = [{key: value for key, value in row.items() if not key.startswith("lenient")} for row in rows]
    Path("e/x.clips.jsonl").write_text("".join(json.dumps(row) + "\n" for row in old))
    path.write_text(json.dumps({key: value for key, value in before.items() if key not in ("slices", "lenient")}))
    summary, filled = read_eval(path)
    assert "lenient_words" in filled[0] and summary["lenient"]["wer"] == 0
    assert rescore(path) == before


@pytest.mark.parametrize(
    ("reference", "hypothesis", "wer"),
    [
        ("", "", None),
        ("", "slovo", 1.0),
        ("...", "!?", None),
        ("...", "slovo", 1.0),
        ("slovo", "", 1.0),
        ("slovo", "...", 1.0),
    ],
)
def test_empty_and_punctuation_have_defined_results(reference: str, hypothesis: str, wer: float | None) -> None:
    (found,) = score([reference], [hypothesis])
    assert found.words.rate == wer
    rows = with_counts(
        [{"id": "a", "reference": reference, "hypothesis": hypothesis, "duration": 0.5, "language": "hr"}]
    )
    assert "NaN" not in json.dumps(summarise(rows), allow_nan=False)


def test_many_clips_score_as_each_alone() -> None:
    references = ["a b c", "", "d e", "žluťoučký kůň", "x"] * 20
    hypotheses = ["a c", "x", "d e f", "zlutoucky kun", ""] * 20
    together = score(references, hypotheses)
    alone = [score([r], [h])[0] for r, h in zip(references, hypotheses, strict=True)]
    assert together == alone and total(s.words for s in together).length == 160
    assert scoring_text("x") == "x"
