"""Label ids and loss mask, byte-exact: with the real tokenizer, and structurally with the tiny one."""

from pathlib import Path

import pytest

from govor.corpus.records import Clip, Segment
from govor.errors import GovorError
from govor.examples.spec import ExampleSpec
from govor.families.base import IGNORED
from govor.families.whisper.labels import build_labels
from govor.families.whisper.renderer import WhisperRenderer
from govor.families.whisper.tiny import tiny
from govor.families.whisper.tokens import LANGUAGES, WhisperTokens


def clip(text: str = "Dobrý den", **changes: object) -> Clip:
    return Clip("a", "a.wav", text, 2.0, "cs").replace(**changes)


@pytest.fixture(scope="module")
def real_tokens(real_base: Path) -> WhisperTokens:
    return WhisperTokens.load(real_base)


def test_ids_with_the_real_tokenizer_are_the_ones_of_whisper(real_tokens: WhisperTokens) -> None:
    labels = build_labels(ExampleSpec(clip(), "cs"), real_tokens)
    text = real_tokens.tokenizer.encode(" Dobrý den", add_special_tokens=False).ids
    assert labels.tokens == [50258, 50283, 50359, 50363, *text, 50257]
    assert labels.tokens.count(50258) == 1, "one start token"
    assert labels.given == 1


def test_real_ids_equal_those_of_transformers(real_base: Path, real_tokens: WhisperTokens) -> None:
    from transformers import WhisperTokenizer

    theirs = WhisperTokenizer.from_pretrained(real_base, language="hebrew", task="transcribe")
    for text in ("שלום עולם", "Đački put u Čačak", "manao ahoana n̈y", "ღამე", "ቋንቋ", "日本"):
        ids = theirs(" " + text).input_ids
        assert build_labels(ExampleSpec(clip(text), "he"), real_tokens).tokens == ids
        assert real_tokens.text(ids) == text


def test_times_and_previous_context_with_the_real_tokenizer(real_tokens: WhisperTokens) -> None:
    segments = (Segment(0.0, 4.2, "first"), Segment(4.4, None, "second"))
    row = clip("first second", segments=segments, prev_transcript="before", duration=6.02)
    labels = build_labels(ExampleSpec(row, "he", with_timestamps=True, with_previous=True), real_tokens)

    def ids(text: str) -> list[int]:
        return list(real_tokens.tokenizer.encode(text, add_special_tokens=False).ids)

    first = 50364
    assert labels.tokens == [
        50361, *ids(" before"), 50258, 50279, 50359,
        first, *ids(" first"), first + 210, first + 220, *ids(" second"), first + 301, 50257,
    ]  # fmt: skip
    assert labels.tokens[labels.given] == 50279, "the loss begins after the start token"


def test_an_empty_previous_transcript_makes_no_token() -> None:
    tokens = tiny().tokens
    for previous in (None, "", "   "):
        labels = build_labels(ExampleSpec(clip(prev_transcript=previous), "cs", with_previous=True), tokens)
        assert tokens.previous not in labels.tokens
        assert labels.tokens[0] == tokens.start and labels.given == 1


def test_a_long_previous_transcript_keeps_its_last_223_tokens() -> None:
    tokens = tiny().tokens
    previous = "".join(chr(97 + i % 26) for i in range(500))
    labels = build_labels(ExampleSpec(clip(prev_transcript=previous), "cs", with_previous=True), tokens)
    kept = labels.tokens[1 : labels.given - 1]
    assert len(kept) == 223
    assert tokens.text(kept) == previous[-223:]


def test_a_transcript_that_does_not_fit_names_the_clip_and_both_numbers() -> None:
    with pytest.raises(GovorError, match=r"'a' needs 506 tokens and Whisper's decoder holds 448"):
        build_labels(ExampleSpec(clip("x" * 500), "cs"), tiny().tokens)


def test_an_unknown_language_names_the_nearest() -> None:
    with pytest.raises(GovorError, match="no token for language 'hbs'"):
        build_labels(ExampleSpec(clip(), "hbs"), tiny().tokens)


def test_times_snap_to_two_hundredths_and_stay_in_the_window() -> None:
    tokens = tiny().tokens
    assert tokens.timestamp(1.009) == tokens.first_timestamp + 50
    assert tokens.timestamp(99.0) == tokens.first_timestamp + 1500


def test_a_transcript_that_spells_a_special_token_stays_text() -> None:
    tokens = tiny().tokens
    labels = build_labels(ExampleSpec(clip("<|endoftext|> <|he|> <|0.00|>"), "cs"), tokens)
    assert labels.tokens.count(tokens.end) == 1
    assert max(labels.tokens[4:-1]) < 256


def test_the_end_token_is_in_the_loss_and_padding_and_context_are_not() -> None:
    whisper = tiny()
    tokens = whisper.tokens
    examples = WhisperRenderer(tokens, 80, 448)
    import numpy as np

    rows = [clip("ab", prev_transcript="zz"), clip("abcdef")]
    specs = [ExampleSpec(rows[0], "cs", with_previous=True), ExampleSpec(rows[1], "cs")]
    batch = examples.collate([examples.encode(spec, np.zeros(16_000, dtype=np.float32)) for spec in specs])
    first = batch["targets"][0].tolist()
    taught = [token for token in first if token != IGNORED]
    assert taught == [tokens.language("cs"), tokens.transcribe, tokens.no_timestamps, 32, 97, 98, tokens.end]
    assert first[:4] == [IGNORED] * 4, "previous context and start token"
    assert first.count(tokens.end) == 1, "the padding shares the end token's id and has no loss"
    assert batch["targets"][1].tolist()[-1] == tokens.end
    shifted = batch["inputs"][1].tolist()
    assert shifted[0] == tokens.start and tokens.end not in shifted


def test_the_language_order_is_the_one_of_transformers() -> None:
    from transformers.models.whisper.tokenization_whisper import LANGUAGES as THEIRS

    assert list(THEIRS) == LANGUAGES


def test_the_text_before_keeps_or_loses_its_times_with_the_target(real_tokens: WhisperTokens) -> None:
    def ids(text: str) -> list[int]:
        return list(real_tokens.tokenizer.encode(text, add_special_tokens=False).ids)

    zero = 50364
    row = clip(
        "third",
        segments=(Segment(0.0, 1.013, "third"),),
        prev_transcript="first second",
        prev_segments=(Segment(0.0, 4.2, "first"), Segment(4.41, 9.999, "second")),
    )
    timed = build_labels(ExampleSpec(row, "he", with_timestamps=True, with_previous=True), real_tokens)
    assert timed.tokens == [
        50361, zero, *ids(" first"), zero + 210, zero + 220, *ids(" second"), zero + 500,
        50258, 50279, 50359, zero, *ids(" third"), zero + 51, 50257,
    ]  # fmt: skip
    plain = build_labels(ExampleSpec(row, "he", with_previous=True), real_tokens)
    assert plain.tokens == [50361, *ids(" first second"), 50258, 50279, 50359, 50363, *ids(" third"), 50257]
    untimed = row.replace(prev_segments=())
    mixed = build_labels(ExampleSpec(untimed, "he", with_timestamps=True, with_previous=True), real_tokens)
    assert mixed.tokens[: mixed.given] == [50361, *ids(" first second"), 50258], "a text without times stays without"


def test_a_slice_cut_at_30_s_ends_with_its_open_start(real_tokens: WhisperTokens) -> None:
    from govor.examples.features import Timestamps

    def ids(text: str) -> list[int]:
        return list(real_tokens.tokenizer.encode(text, add_special_tokens=False).ids)

    zero = 50364
    row = clip("one", segments=(Segment(0.0, 24.0, "one"), Segment(25.5, None, "")))
    assert Timestamps().bound(row)
    labels = build_labels(ExampleSpec(row, "he", with_timestamps=True), real_tokens)
    assert labels.tokens == [50258, 50279, 50359, zero, *ids(" one"), zero + 1200, zero + 1275, 50257]
    end = build_labels(
        ExampleSpec(clip("x", segments=(Segment(0.0, 30.0, "x"),)), "he", with_timestamps=True), real_tokens
    )
    assert end.tokens[-2] == zero + 1500, "30.00 is the last time token"


def test_previous_text_gives_way_to_a_long_target_and_never_exceeds_448() -> None:
    tokens = tiny().tokens
    for length in (100, 210, 300, 440, 442):
        row = clip("y" * length, prev_transcript="z" * 400)
        labels = build_labels(ExampleSpec(row, "cs", with_previous=True), tokens)
        assert len(labels.tokens) <= 448
        room = 448 - (1 + 3 + 1 + length + 1)
        kept = labels.given - 2 if tokens.previous in labels.tokens else 0
        assert kept == max(min(223, room - 1), 0)
    with pytest.raises(GovorError, match="needs 449 tokens"):
        build_labels(ExampleSpec(clip("y" * 443), "cs", with_previous=True), tokens)


def test_a_row_without_times_cannot_be_taught_with_them() -> None:
    with pytest.raises(GovorError, match="has no segments"):
        build_labels(ExampleSpec(clip(), "cs", with_timestamps=True), tiny().tokens)
