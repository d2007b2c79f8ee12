"""The text that is scored: which differences count, and which do not (P33, P34, P37 to P40, P42, O30)."""

import json
import sys
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.whisper.english_normalizer import BasicTextNormalizer

from govor.corpus.alike import normal_form
from govor.corpus.normalize import normalizer
from govor.errors import GovorError
from govor.metrics import text as scoring
from govor.metrics.compare import compare
from govor.metrics.recognition import summarise, with_counts
from govor.metrics.text import (
    NAME,
    NORMALISERS,
    characters_as_words,
    ivrit_text,
    lenient_text,
    normaliser,
    scoring_text,
)
from govor.metrics.wer import score, scored_words, word_diff

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


@given(st.lists(odd, max_size=4), st.sampled_from([" ", "  ", "\n", "\u00a0", "\u2028"]), st.booleans())
def test_a_text_is_scored_as_its_words_are(texts: list[str], space: str, turkish: bool) -> None:
    text, language = space.join(texts), "tr" if turkish else "sr"
    assert scoring_text(text, language) == scoring._scored(text, turkish)
    assert lenient_text(text, language) == scoring._lenient(text, turkish, not turkish)


def test_what_words_are_scored_as_is_kept_of_short_words_and_of_no_more_than_so_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scoring, "_MOST_WORDS", 10)
    words = scoring._Words(str.lower)
    for number in range(100):
        assert (words[f"A{number % 30}"], words["A" * 41]) == (f"a{number % 30}", "a" * 41)
    assert len(words) <= 10 and "A" * 41 not in words


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

    def fastest(text: str, tries: int) -> float:
        seconds = []
        for _ in range(tries):
            start = time.process_time()
            run(text)
            seconds.append(time.process_time() - start)
        return min(seconds)

    for short, long in zip(hostile(3_000), hostile(24_000), strict=True):
        most = 28 * max(fastest(short, 3), 2e-3)
        assert fastest(long, 1) < most or fastest(long, 2) < most, short[:12]


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
