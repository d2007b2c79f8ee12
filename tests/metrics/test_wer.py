"""Error rates: jiwer's numbers, and no perfect score for a wrong answer."""

import json
import sys

import jiwer
import pytest
from hypothesis import given
from hypothesis import strategies as st

from govor.errors import GovorError
from govor.metrics.recognition import summarise, with_counts
from govor.metrics.text import (
    scoring_text,
)
from govor.metrics.wer import Counts, score, total, word_diff

WRONG = {
    "Hebrew": ("שלום עולם", "תודה רבה"),
    "Arabic": ("مرحبا بالعالم", "شكرا جزيلا"),
    "Devanagari": ("नमस्ते दुनिया", "धन्यवाद मित्र"),
    "Ge'ez": ("ሰላም ለዓለም", "አመሰግናለሁ ጓደኛ"),
    "Thai": ("สวัสดีชาวโลก", "ขอบคุณมาก"),
    "Cyrillic": ("добро јутро", "лаку ноћ"),
    "diacritics": ("kuća čaša", "kuca casa"),
    "vowel signs": ("कि", "की"),
}


@pytest.mark.parametrize("script", WRONG)
def test_a_wrong_answer_scores_above_zero_in_every_script(script: str) -> None:
    right, wrong = WRONG[script]
    assert score([right], [right])[0].words.rate == 0
    (found,) = score([right], [wrong])
    assert found.words.rate and found.words.rate > 0
    assert found.characters.rate and found.characters.rate > 0
    (silent,) = score([right], [""])
    assert silent.words.rate == 1 == silent.characters.rate


words = st.lists(st.sampled_from(["a", "b", "c", "ž", "ש"]), max_size=8).map(" ".join)


@given(st.lists(st.tuples(words.filter(bool), words), min_size=1, max_size=10))
def test_the_corpus_rate_is_the_one_of_jiwer(pairs: list[tuple[str, str]]) -> None:
    references, hypotheses = map(list, zip(*pairs, strict=True))
    scores = score(references, hypotheses)
    assert total(item.words for item in scores).rate == pytest.approx(jiwer.wer(references, hypotheses))
    assert total(item.characters for item in scores).rate == pytest.approx(jiwer.cer(references, hypotheses))


def test_empty_sides_are_defined() -> None:
    assert score([""], [""])[0].words.rate is None
    assert score(["..."], ["said something"])[0].words == Counts(insertions=2)
    assert score(["..."], ["said something"])[0].words.rate == 1.0
    assert total([Counts(length=10), Counts(insertions=2)]).rate == 0.2
    with pytest.raises(GovorError, match="2 references and 1 hypotheses"):
        score(["a", "b"], ["a"])


def test_a_diff_is_a_picture_of_the_alignment() -> None:
    steps = word_diff("Kde je, prosím, nové nádraží?", "kde prosím nové nádraž")
    assert [(s.kind, s.reference, s.hypothesis) for s in steps] == [
        ("equal", "Kde", "kde"),
        ("delete", "je,", ""),
        ("equal", "prosím, nové", "prosím nové"),
        ("substitute", "nádraží?", "nádraž"),
    ]
    assert [s.kind for s in word_diff("a-b", "a b")] == ["equal"]
    assert [(s.kind, s.hypothesis) for s in word_diff("a b", "a x b")] == [
        ("equal", "a"),
        ("insert", "x"),
        ("equal", "b"),
    ]
    assert [s.kind for s in word_diff("", "a")] == ["insert"] and word_diff("!", "?") == []


spoken = st.lists(st.sampled_from(["a", "b", "c", "ž", "ש"]), min_size=1, max_size=6).map(" ".join)


@given(st.lists(st.tuples(spoken, spoken), min_size=1, max_size=6), st.sampled_from([None, "sr", "he"]))
def test_rates_stay_those_of_jiwer_where_words_are_spaced(pairs: list[tuple[str, str]], language: str | None) -> None:
    for (reference, hypothesis), found in zip(
        pairs, score(*map(list, zip(*pairs, strict=True)), [language] * len(pairs)), strict=True
    ):
        assert found.words.rate == pytest.approx(jiwer.wer(reference, hypothesis))
        assert found.characters.rate == pytest.approx(jiwer.cer(reference, hypothesis))


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


letters = st.lists(st.sampled_from("abcčžשלⲁ中"), min_size=1, max_size=4).map("".join)
sentences = st.lists(letters, max_size=12).map(" ".join)


def jiwers(output: jiwer.WordOutput | jiwer.CharacterOutput) -> tuple[int, int, int]:
    return output.substitutions, output.deletions, output.insertions


@given(sentences.filter(bool), sentences)
def test_each_kind_of_error_is_counted_as_jiwer_counts_it(reference: str, hypothesis: str) -> None:
    (found,) = score([reference], [hypothesis])
    words, characters = jiwer.process_words(reference, hypothesis), jiwer.process_characters(reference, hypothesis)
    assert (found.words.substitutions, found.words.deletions, found.words.insertions) == jiwers(words)
    errors = found.characters.substitutions, found.characters.deletions, found.characters.insertions
    assert errors == jiwers(characters)


def test_a_corpus_of_more_words_than_there_are_letters_is_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    references = [f"a{i} b{i} same c{i}" for i in range(40)]
    hypotheses = [f"a{i} same x{i} c{i}" for i in range(40)]
    plenty = score(references, hypotheses)
    monkeypatch.setattr(sys, "maxunicode", 20)
    assert score(references, hypotheses) == plenty
    assert {clip.words for clip in plenty} == {Counts(substitutions=2, length=4)}
