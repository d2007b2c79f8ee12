"""Scores: jiwer's numbers, no perfect score for a wrong answer, intervals that cover."""

import jiwer
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from govor.errors import GovorError
from govor.metrics.compare import compare
from govor.metrics.intervals import choose_clusters, interval, paired_difference
from govor.metrics.recognition import with_counts
from govor.metrics.text import scoring_text
from govor.metrics.wer import COUNTED, Counts, score, total, word_diff

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


@pytest.mark.parametrize(
    ("written", "scored"),
    [
        ("Dobrý den, pane!", "dobrý den pane"),
        ("צה״ל אמר: «שלום»", 'צה"ל אמר שלום'),
        ('צה"ל', 'צה"ל'),
        ("בית־ספר", "בית ספר"),
        ("שָׁלוֹם", "שָׁלוֹם"),
        ("n’ny zaza n̈y", "n'ny zaza n̈y"),
        ("rock'n'roll 'quoted'", "rock'n'roll quoted"),
        ("می‌خواهم", "میخواهم"),
        ("हिन्दी", "हिन्दी"),
        ("well-known", "well known"),
        ("\u200fשלום\u200e \ufeffx", "שלום x"),
        ("…—!", ""),
        ("S\u030cKOLA", "škola"),
    ],
)
def test_the_scoring_text(written: str, scored: str) -> None:
    assert scoring_text(written) == __import__("unicodedata").normalize("NFC", scored)


@given(st.text())
def test_scoring_text_is_idempotent_and_has_single_spaces(text: str) -> None:
    once = scoring_text(text)
    assert scoring_text(once) == once
    assert once == " ".join(once.split())


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


def rows(errors: list[int], length: int = 10, speakers: int = 20) -> list[dict[str, object]]:
    counts = {"deletions": 0, "insertions": 0, "length": length}
    return [
        {"id": f"c{i}", "speaker": f"s{i % speakers}", "source": None, "language": "cs", "duration": 2.0 + i,
         "reference": "x", "hypothesis": "y",
         **{key: {"substitutions": e, **counts} for key in COUNTED}}
        for i, e in enumerate(errors)
    ]  # fmt: skip


def test_clusters_are_speakers_then_sources_then_clips_and_it_is_said() -> None:
    assert choose_clusters(rows([0] * 40)).unit == "speaker"
    few = [{**row, "source": f"r{i % 15}"} for i, row in enumerate(rows([0] * 40, speakers=3))]
    chosen = choose_clusters(few)
    assert chosen.unit == "source" and "only 3 speaker(s) known" in chosen.note
    assert choose_clusters(rows([0] * 40, speakers=3)).unit == "clip"


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(120):
        # Speakers differ: a clip-wise interval would be far too narrow here.
        rates = np.clip(generator.normal(0.3, 0.1, 30), 0, 1)
        errors = [int(generator.binomial(50, rate)) for rate in rates for _ in range(4)]
        clips = [{"id": str(i), "speaker": f"s{i // 4}", "source": None} for i in range(120)]
        found = interval(errors, [50] * 120, choose_clusters(clips))
        assert found is not None
        hits += found.low <= 0.3 <= found.high
    assert 0.87 < hits / 120 <= 1


def test_the_paired_test_sees_a_small_steady_gain_and_no_gain_in_noise() -> None:
    generator = np.random.default_rng(1)
    before = generator.integers(0, 6, 200)
    clusters = choose_clusters(rows([0] * 200))
    better = paired_difference(before, np.maximum(before - (generator.random(200) < 0.3), 0), [10] * 200, clusters)
    assert better.p_value is not None and better.p_value < 0.01 and better.difference < 0
    noise = paired_difference(before, before + generator.integers(-1, 2, 200), [10] * 200, clusters)
    assert noise.p_value is not None and noise.p_value > 0.05
    same = paired_difference(before, before, [10] * 200, clusters)
    assert same.difference == 0 and same.p_value == 1.0


def test_comparing_refuses_other_clips_and_names_them() -> None:
    left, right = rows([1, 2, 3]), rows([1, 2])
    with pytest.raises(GovorError, match=r"B lacks 1 of the clips of A \(c2\)"):
        compare(left, right, "A", "B")
    other = [{**row, "reference": "z"} for row in left]
    with pytest.raises(GovorError, match="references of 3 clips differ"):
        compare(left, other, "A", "B")


def test_the_comparison_counts_wins_and_names_the_biggest() -> None:
    result = compare(rows([3] * 40), rows([1] * 30 + [3] * 9 + [5]), "A", "B")
    assert (result["better"], result["worse"], result["same"]) == (30, 1, 9)
    assert result["biggest_losses"] == ["c39"] and len(result["biggest_gains"]) == 5
    assert "better" in result["verdict"]


def test_counts_are_stored_so_that_rescoring_needs_no_model() -> None:
    (row,) = with_counts([{"reference": "a b", "hypothesis": "a c d"}])
    assert row["words"] == {"substitutions": 1, "deletions": 0, "insertions": 1, "length": 2}
