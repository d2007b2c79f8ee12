"""Scores mean what they say: rows P33, P34, P37 to P40, P42, O30 and O34 of the fault table, and their kinds."""

import json
import sys
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import jiwer
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from govor import recipe as recipes
from govor.corpus.alike import name_key, normal_form
from govor.corpus.normalize import normalizer
from govor.errors import GovorError
from govor.families.recogniser import RecognitionGates
from govor.languages import language_key
from govor.measure.accept import judge
from govor.measure.scoring import read_eval
from govor.metrics.compare import compare
from govor.metrics.intervals import choose_clusters, interval, paired_difference
from govor.metrics.recognition import summarise, with_counts
from govor.metrics.slices import by_slice
from govor.metrics.text import NAME, NORMALISERS, characters_as_words, ivrit_text, lenient_text, scoring_text
from govor.metrics.wer import score, scored_words, word_diff
from govor.runs import Run

Govor = Callable[..., CompletedProcess[str]]

SAME = {
    "P33 two single quotes": ("צה''ל", 'צה"ל'),
    "P33 two geresh": ("צה׳׳ל", "צה״ל"),
    "P33 primes": ("צה′′ל", "צה״ל"),
    "P33 mixed": ("צה’'ל", "צה”ל"),
    "P33 pointed": ("צַהַ''ל", "צַהַ״ל"),
    "P34 heart": ("da ❤️", "da"),
    "P34 suns": ("super ☀️☀️", "super"),
    "P34 check": ("☑️ da", "da"),
    "P34 keycap": ("1️⃣ da #️⃣", "1 da"),
    "P34 family": ("da 👨‍👩‍👧‍👦👍🏽", "da"),
    "P34 flags": ("🇷🇸 da 🏴󠁧󠁢󠁥󠁮󠁧󠁿", "da"),
    "P34 letters in pictures": ("ℹ️ da Ⓜ️ ㊗️ 🆗 Dolby™", "da Dolby"),
    "P34 a mark alone": ("da \u0301 ne", "da ne"),
    "P34 selector on a letter": ("da\ufe0f", "da"),
    "P34 selector on a mark": ("c\u030c\ufe0fa", "ča"),
    "P37": ("İstanbul", "istanbul"),
    "P38": ("STRASSE", "Straße"),
    "P38 final sigma": ("ΛΟΓΟΣ", "λογος"),
    "P39": ("السـلام", "السلام"),
    "P39 with a vowel": ("السـَلام", "السَلام"),
    "O34": ("e\u00ad\u0301", "é"),
    "Thai am": ("น้ำ", "น\u0e49\u0e4d\u0e32"),
}


@pytest.mark.parametrize("row", SAME)
def test_what_looks_the_same_is_the_same_word(row: str) -> None:
    written, plain = SAME[row]
    for by in (NAME, "lenient-v2"):
        assert score([plain], [written], by=by)[0].words.errors == 0
        assert score([written], [plain], by=by)[0].characters.errors == 0


def test_case_is_that_of_the_language_and_digits_are_spelling() -> None:
    assert scoring_text("IŞIK İL", "tr-TR") == "ışık il" == scoring_text("ışık il", "Turkish")
    assert scoring_text("Iran") == "iran"
    assert lenient_text("٣ ۳ ३ 3") == "3 3 3 3" and scoring_text("٣") != scoring_text("3")
    for language in ("sr", "srp", "Serbian", "sr-Cyrl"):
        assert lenient_text("Добар дан", language) == "dobar dan"


def test_what_differs_still_differs() -> None:
    for left, right in (("š", "s"), ("ı", "i"), ("שָׁלוֹם", "שלום"), ("é", "e"), ("3️⃣", "4️⃣"), ("کتاب", "كتاب")):
        assert scoring_text(left) != scoring_text(right)


# Not st.text: it makes one even choice of all characters of these two.
odd = st.lists(
    st.one_of(
        st.sampled_from(
            "'\"׳״’אב\u05b7\u05c1 İIiıčक़\u0307\u0301\u0323\u00ad\u200d\ufe0f\u20e3\u0640\u0e4d\u0e48\u0e32ßſŉ"
        ),
        st.characters(exclude_characters="\u0345"),  # casefold makes a letter of it, which then stands elsewhere
    ),
    max_size=12,
).map("".join)


@given(odd, st.sampled_from([None, "tr", "sr", "he", "th"]))
def test_scoring_is_idempotent_and_blind_to_composition_and_case(text: str, language: str | None) -> None:
    for normalise in (scoring_text, lenient_text):
        once = normalise(text, language)
        assert normalise(once, language) == once == " ".join(once.split())
        assert normalise(unicodedata.normalize("NFD", text), language) == once
    assert scoring_text(text.casefold()) == scoring_text(text)


def test_every_character_alone_scores_alike_in_any_case() -> None:
    every = map(chr, range(sys.maxunicode + 1))
    letters = [c for c in every if unicodedata.category(c) not in ("Lo", "Co", "Cn", "Cs", "So")]
    assert not [c for c in letters if scoring_text(scoring_text(c)) != scoring_text(c)]
    # Which capital ı has without a language nobody can say.
    assert [c for c in letters if scoring_text(f"a{c}".upper()) != scoring_text(f"a{c}".lower())] == ["ı"]
    marks = [c for c in letters if unicodedata.category(c)[0] == "M"]
    assert not [c for c in marks if scoring_text(f"da {c} ❤{c}") != "da"]


UNSPACED = [
    ("zh", "你好，世界。", "你好世界", "你 好 世 界"),
    ("cmn", "我用 iPhone 15 手机", "我用iPhone15手机", "我 用 iphone 15 手 机"),
    ("ja", "こんにちは、世界", "こんにちは世界", "こ ん に ち は 世 界"),
    ("Thai", "สวัสดี ครับ", "สวัสดีครับ", "ส วั ส ดี ค รั บ"),
    ("km", "ភាសា ខ្មែរ", "ភាសាខ្មែរ", "ភា សា ខ្មែ រ"),
    ("my", "မြန်မာ ဘာသာ", "မြန်မာဘာသာ", "မြ န် မာ ဘာ သာ"),
    ("bo", "བོད་སྐད།", "བོདསྐད", "བོ ད སྐ ད"),
    ("lo", "ສະບາຍ ດີ", "ສະບາຍດີ", "ສ ະ བ".replace("བ", "ບ") + " າ ຍ ດີ"),
    ("yue", "你好 嗎？", "你好嗎", "你 好 嗎"),
]


@pytest.mark.parametrize(("language", "reference", "hypothesis", "words"), UNSPACED)
def test_spaces_do_not_count_where_none_are_written(language: str, reference: str, hypothesis: str, words: str) -> None:
    """P40."""
    assert scored_words(reference, language) == words == scored_words(hypothesis, language)
    (found,) = score([reference], [hypothesis], [language])
    assert found.words.errors == found.characters.errors == 0 and found.words.length == len(words.split())
    (wrong,) = score([reference], [hypothesis[1:]], [language])
    assert wrong.words.errors >= 1 and wrong.characters.errors >= 1
    assert [step.kind for step in word_diff(reference, hypothesis, language)] == ["equal"]


def test_it_is_said_where_a_word_is_a_character(workspace: Path, govor: Govor) -> None:
    said = [{**row(i), "language": "zh", "reference": "你好，世界。", "hypothesis": "你好世界"} for i in range(8)]
    summary = keep("a", said)
    assert summary["wer"] == 0 and "zh is written without spaces" in summary["about_words"]
    assert "zh is written without spaces" in govor("rescore", "manifests/evals/a__s__padded.json").stdout
    assert "zh is written without spaces" in str(compare(with_counts(said), with_counts(said), "a", "b")["about_words"])
    spaced = summarise(with_counts([{**row(i), "language": "sr"} for i in range(8)]))
    assert spaced["about_words"] is None


def row(number: int, reference: str = "jedan dva", hypothesis: str = "jedan dva") -> dict[str, object]:
    about = {"language": "sr", "speaker": None, "source": None, "duration": 2.0, "audio": f"{number}.wav"}
    return {"id": f"c{number}", "reference": reference, "hypothesis": hypothesis, **about}


def keep(model: str, rows: list[dict[str, object]], **about: object) -> dict[str, object]:
    counted = with_counts(rows)
    summary = {"model": model, "set": "s", "context": "padded", **summarise(counted), **about}
    path = Path("manifests/evals") / f"{model}__s__padded"
    path.parent.mkdir(parents=True, exist_ok=True)
    Path(f"{path}.json").write_text(json.dumps(summary), encoding="utf-8")
    Path(f"{path}.clips.jsonl").write_text("".join(json.dumps(one) + "\n" for one in counted), encoding="utf-8")
    return summary


def test_an_older_scoring_is_counted_again_before_it_is_believed(workspace: Path) -> None:
    keep("a", [row(0, "STRASSE", "Straße")], normaliser="strict-v1", wer=1.0)
    path = Path("manifests/evals/a__s__padded.json")
    rows = [json.loads(line) | {"words": {"substitutions": 1, "deletions": 0, "insertions": 0, "length": 1}}
            for line in Path("manifests/evals/a__s__padded.clips.jsonl").read_text().splitlines()]  # fmt: skip
    Path("manifests/evals/a__s__padded.clips.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    summary, clips = read_eval(path)
    assert summary["normaliser"] == NAME and summary["wer"] == 0 and clips[0]["words"]["substitutions"] == 0


@pytest.mark.parametrize("count", [2, 3, 5, 6, 7, 12])
def test_few_clips_give_no_verdict(count: int) -> None:
    """P42: no test of n clips is below 2^(1 - n)."""
    before = with_counts([row(i, hypothesis="ne ne") for i in range(count)])
    after = with_counts([row(i) for i in range(count)])
    result = compare(before, after, "a", "b")
    assert result["wer"]["p_value"] >= 2.0 ** (1 - count)
    assert ("B is better" in result["verdict"]) == (count >= 6)
    assert (result["wer"]["difference_interval"] is None) == (count < 6)
    assert (summarise(after)["wer_interval"] is None) == (count < 6)
    assert count >= 6 or (
        f"no verdict: {count} clip(s)" in result["verdict"] and "no verdict" in result["test"]["note"]
    )


def test_slices_of_few_clips_give_no_interval_and_no_verdict() -> None:
    languages = ["sr"] * 5 + ["mg"] * 8
    before = with_counts([{**row(i, hypothesis="ne ne"), "language": code} for i, code in enumerate(languages)])
    after = with_counts([{**row(i), "language": code} for i, code in enumerate(languages)])
    found = {entry["value"]: entry for entry in by_slice(after)["language"]}
    assert found["sr"]["wer_interval"] is None and found["mg"]["wer_interval"] is not None
    compared = {entry["value"]: entry for entry in compare(before, after, "a", "b")["slices"]["language"]}
    assert "sr" not in compared and compared["mg"]["p_value"] >= 2.0**-7


@given(st.lists(st.integers(-3, 3), min_size=2, max_size=30))
def test_p_is_never_below_that_of_a_sign_flip_test(changes: list[int]) -> None:
    clusters = choose_clusters([{"id": str(i)} for i in range(len(changes))])
    found = paired_difference([3] * len(changes), [3 + c for c in changes], [10] * len(changes), clusters)
    assert found.p_value is not None and found.p_value >= min(1, 2.0 ** (1 - sum(c != 0 for c in changes)))
    assert (interval([1] * len(changes), [10] * len(changes), clusters) is None) == (len(changes) < 6)


def test_spellings_of_a_name_are_one_speaker_and_of_a_language_one_slice() -> None:
    """P43."""
    clips = [{**row(i), "speaker": unicodedata.normalize("NFC" if i % 2 else "NFD", f" Željko {i % 10}"),
              "language": ("sr", "srp", "Serbian", "sr_RS")[i % 4]} for i in range(40)]  # fmt: skip
    assert choose_clusters(clips).count == 10
    slices = by_slice(with_counts(clips))
    assert "language" not in slices and len(slices["speaker"]) == 10
    assert name_key("  Z\u030celjko\u00a0 A\u200e") == "Željko A"
    assert {language_key(code) for code in ("he", "iw", "heb", "Hebrew", "he-IL")} == {"he"}


words = st.lists(st.sampled_from(["a", "b", "c", "ž", "ש"]), min_size=1, max_size=6).map(" ".join)


@given(st.lists(st.tuples(words, words), min_size=1, max_size=6), st.sampled_from([None, "sr", "he"]))
def test_rates_stay_those_of_jiwer_where_words_are_spaced(pairs: list[tuple[str, str]], language: str | None) -> None:
    for (reference, hypothesis), found in zip(
        pairs, score(*map(list, zip(*pairs, strict=True)), [language] * len(pairs)), strict=True
    ):
        assert found.words.rate == pytest.approx(jiwer.wer(reference, hypothesis))
        assert found.characters.rate == pytest.approx(jiwer.cer(reference, hypothesis))


def hostile(n: int) -> list[str]:
    return [
        "(laughs" + " " * n, "(laughs" + ", laughs" * n, "(laughs" + ". " * n, "(music " * n + ")" * n, "*" * n, "(" * n,
        "<|" * n, "<|" * n + "|>" * n, "[" * n + "]" * n, "[<|" * n + "|>]" * n, "[<|" * n + "]|>" * n, "<" * n,
        " " * n + "x", " \u200b" * n + ".", "! " * n, ".. " * n, "n" + " " * n, "n' " * n, "an" + " " * n + "'x",
        "א'" * n, "'" * n, "i\u0307" * n, "i" + "\u0323" * n, "a" + "\u0301\u0323" * n, "nj" * n, "аa" * n, "</b" * n,
        "你" * n, "a" * n, "\u17d2ក" * n,
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["he", "mg", "sr", "sr-cyrillic", "xx", *NORMALISERS, "characters"])
def test_time_grows_with_the_text(name: str) -> None:
    """O30: a text eight times as long takes about eight times as long; quadratic time would be sixty-four."""
    run: Callable[[str], str]
    if name in NORMALISERS:
        run = lambda text: NORMALISERS[name](text, "sr")  # noqa: E731
    elif name == "characters":
        run = characters_as_words
    else:
        run = normalizer(name.partition("-")[0], "cyrillic" if "-" in name else "latin")
    for short, long in zip(hostile(3_000), hostile(24_000), strict=True):
        seconds = []
        for text in (short, long):
            tries = []
            for _ in range(3):
                start = time.process_time()
                run(text)
                tries.append(time.process_time() - start)
            seconds.append(min(tries))
        assert seconds[1] < 28 * max(seconds[0], 2e-3), short[:12]


def test_the_leaderboards_normaliser_is_as_published_on_brackets() -> None:
    import re

    for text in ("a <b> c", "<a [b", "a] [b] <c", "((a) b) (", "() (x", "(a", "[<|x|>", "a ) (b"):
        plain = re.sub(r"[<\[][^>\]]*[>\]]", "", text)
        plain = re.sub(r"\([^)]+?\)", "", plain)
        assert ivrit_text(text) == ivrit_text(plain) and "<" not in ivrit_text(text)


@given(
    st.text(st.sampled_from("a\u0301\u0323\u0344\u05bc é´!"), min_size=60, max_size=200),
    st.sampled_from(["NFC", "NFKD"]),
)
def test_the_normal_form_is_unicodes(text: str, form: str) -> None:
    assert normal_form(form, text) == unicodedata.normalize(form, text)  # type: ignore[arg-type]


def test_the_stages_of_a_recipe_are_judged_by_name(workspace: Path, govor: Govor) -> None:
    """M9."""
    bcs = recipes.load("bcs-whisper-small").acceptance
    limits = {stage: bcs.at(stage)[1].gates() for stage in bcs.stages}
    times = {"timestamp_coverage": 0.8, "timestamp_offset_seconds": 0.2}
    assert limits == {
        "baseline": {"wer": 0.12, **times},
        "first-runs": {"wer": 0.3, **times},
        "production": {"wer": 0.2, **times},
    }
    assert bcs.at(None)[0] == "baseline"
    with pytest.raises(GovorError, match="There is no stage 'prod'"):
        bcs.at("prod")
    qwen = recipes.load("hebrew-qwen3-round3")
    assert qwen.finetune.phases[0].epochs == 3 and qwen.acceptance.at(None)[1].wer == 0.065
    assert qwen.acceptance.at("best-public")[1].wer == 0.051 and qwen.acceptance.at("best-public")[1].measured_on
    run = Path("models/whisper/r1")
    run.mkdir(parents=True)
    stages = {"stages": {"first": {"wer": 0.3}, "last": {"wer": 0.1}}}
    (run / "recipe.yaml").write_text(json.dumps({"examples": {"context": "padded"}, "acceptance": stages}))
    rows = [row(i, "a b c d e", "a b c d x" if i < 8 else "a b c d e") for i in range(10)]
    after = keep("r1", rows)
    headline = {"run": "r1", "contexts": {"padded": {"after": after}}}
    Path("manifests/eval_r1.json").write_text(json.dumps(headline))
    assert "stage: first" in govor("accept", "r1").stdout
    assert "stage: last" in govor("accept", "r1", "--stage", "last", expect=1).stdout
    assert "There is no stage 'next'" in govor("accept", "r1", "--stage", "next", expect=2).stderr
    assert "give one of them" in govor("accept", "r1", "--stage", "last", "--set", "wer=1", expect=2).stderr
    few = keep("r1", rows[-3:])
    Path("manifests/eval_r1.json").write_text(json.dumps({"run": "r1", "contexts": {"padded": {"after": few}}}))
    said = judge(Run(run))["gates"][0]
    assert said["passed"] and "3 clip(s) are too few to tell it from chance" in said["reason"]
    upper = judge(Run(run), RecognitionGates(wer_upper=0.9))
    assert not upper["accepted"] and "3 clip(s) give no interval" in upper["gates"][0]["reason"]
    Path("manifests/eval_r1.json").write_text(
        json.dumps({"run": "r1", "contexts": {"padded": {"after": {**few, "normaliser": "strict-v1"}}}})
    )
    assert "strict-v1, which has changed" in judge(Run(run))["gates"][0]["reason"]


def test_resampling_is_over_many_clusters_as_before() -> None:
    generator = np.random.default_rng(0)
    errors = generator.integers(0, 4, 60)
    clusters = choose_clusters([{"id": str(i)} for i in range(60)])
    found = paired_difference(errors + 1, errors, [10] * 60, clusters)
    assert found.p_value is not None and found.p_value < 0.001 and found.interval is not None
