"""Importers: a model written by CTranslate2, or as ggml, comes back as it was."""

import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from govor.errors import GovorError
from govor.families.opening import find_model, open_model, trainable_folder
from govor.families.vocabulary import recover_merges
from govor.families.whisper.convert import from_ctranslate2, from_ggml
from govor.families.whisper.model import Whisper
from govor.families.whisper.tiny import tiny
from govor.families.whisper.tokens import WhisperTokens


def same_weights(a: Whisper, b: Whisper, tolerance: float) -> None:
    left, right = a.module.state_dict(), b.module.state_dict()
    assert left.keys() == right.keys()
    for name in left:
        torch.testing.assert_close(left[name], right[name], atol=tolerance, rtol=0, msg=name)


def to_ctranslate2(folder: Path, target: Path, quantization: str = "float32") -> Path:
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(str(folder), copy_files=["tokenizer.json", "preprocessor_config.json"]).convert(
        str(target), quantization=quantization
    )
    return target


def test_ctranslate2_round_trip(tiny_folder: Path, tmp_path: Path) -> None:
    back = from_ctranslate2(to_ctranslate2(tiny_folder, tmp_path / "ct2"))
    same_weights(back, tiny(), 1e-6)
    config = back.module.config
    assert (config.pad_token_id, config.decoder_start_token_id) == (back.tokens.end, back.tokens.start)
    assert back.module.generation_config.alignment_heads == [[1, 0], [1, 1]]


def test_a_quantised_model_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(GovorError, match="quantised"):
        from_ctranslate2(to_ctranslate2(tiny_folder, tmp_path / "ct2", "int8"))


def test_a_truncated_ctranslate2_file_is_one_sentence(tiny_folder: Path, tmp_path: Path) -> None:
    folder = to_ctranslate2(tiny_folder, tmp_path / "ct2")
    data = (folder / "model.bin").read_bytes()
    (folder / "model.bin").write_bytes(data[: len(data) // 2])
    with pytest.raises(GovorError, match="ends too early"):
        from_ctranslate2(folder)


OPENAI_NAMES = (
    ("encoder_attn_layer_norm", "cross_attn_ln"), ("self_attn_layer_norm", "attn_ln"), ("final_layer_norm", "mlp_ln"),
    ("encoder_attn", "cross_attn"), ("self_attn", "attn"), ("q_proj", "query"), ("k_proj", "key"),
    ("v_proj", "value"), ("out_proj", "out"), ("fc1", "mlp.0"), ("fc2", "mlp.2"), ("layers", "blocks"),
    ("encoder.layer_norm", "encoder.ln_post"), ("decoder.layer_norm", "decoder.ln"),
    ("embed_tokens.weight", "token_embedding.weight"), ("embed_positions.weight", "positional_embedding"),
)  # fmt: skip


def write_ggml(whisper: Whisper, path: Path) -> None:
    """whisper.cpp's layout, independently of the reader: 50,257 pieces, OpenAI's names, float16 matrices."""
    config = whisper.module.config
    pieces = [bytes([byte]) for byte in range(256)] + [bytes(divmod(i, 256)) for i in range(50257 - 256)]
    with path.open("wb") as out:
        out.write(struct.pack("<I11i", 0x67676D6C, 51865, 1500, config.d_model, 2, config.encoder_layers, 448, config.d_model, 2, config.decoder_layers, 80, 1))  # fmt: skip
        out.write(struct.pack("<2i", 80, 201) + np.zeros(80 * 201, np.float32).tobytes())
        out.write(struct.pack("<i", len(pieces)) + b"".join(struct.pack("<I", len(p)) + p for p in pieces))
        for name, tensor in whisper.module.state_dict().items():
            if name == "proj_out.weight":
                continue
            openai = name.removeprefix("model.")
            for ours, theirs in OPENAI_NAMES:
                openai = openai.replace(ours, theirs)
            values = tensor.numpy()
            if name == "model.decoder.embed_tokens.weight":
                values = np.zeros((51865, config.d_model), np.float32)
                values[:256] = tensor[:256]
            if "conv" in name and name.endswith("bias"):
                values = values[:, None]
            half = values.ndim > 1 and "bias" not in name
            values = values.astype(np.float16 if half else np.float32)
            encoded = openai.encode()
            out.write(struct.pack("<3i", values.ndim, len(encoded), int(half)))
            out.write(struct.pack(f"<{values.ndim}i", *values.shape[::-1]) + encoded + values.tobytes())


def test_ggml_is_read_with_its_vocabulary(tmp_path: Path) -> None:
    original = tiny()
    file = tmp_path / "model.bin"
    write_ggml(original, file)
    back = from_ggml(file)
    wanted = original.module.state_dict()
    for name, tensor in back.module.state_dict().items():
        if "embed_tokens" in name or name == "proj_out.weight":
            torch.testing.assert_close(tensor[:256], wanted[name][:256], atol=2e-4, rtol=0)
        else:
            torch.testing.assert_close(tensor, wanted[name], atol=2e-3, rtol=0, msg=name)
    assert back.tokens.start == 50258 and back.tokens.first_timestamp == 50364
    opened = open_model(str(file))
    assert opened.recogniser.transcribe([np.zeros(8000, np.float32)], ["he"])[0].text is not None


def test_a_file_that_is_no_model_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("hello, this is no model")
    with pytest.raises(GovorError, match=r"no whisper\.cpp"):
        open_model(str(file))


def test_merges_are_recovered_from_ranks() -> None:
    pieces = [bytes([byte]) for byte in range(256)] + [b"ab", b"cd", b"abcd", b"abcde"]
    assert recover_merges(pieces) == [(b"a", b"b"), (b"c", b"d"), (b"ab", b"cd"), (b"abcd", b"e")]


def test_the_tokenizer_rebuilt_from_ranks_is_the_published_one(real_base: Path) -> None:
    import json

    from govor.families.vocabulary import byte_letters
    from govor.families.whisper.tokens import build_tokenizer

    published = json.loads((real_base / "tokenizer.json").read_text())["model"]
    letters = {letter: byte for byte, letter in enumerate(byte_letters())}
    ordered = sorted(published["vocab"], key=published["vocab"].get)[:50257]
    pieces = [bytes(letters[letter] for letter in piece) for piece in ordered]
    rebuilt = WhisperTokens(build_tokenizer(pieces, recover_merges(pieces)))
    original = WhisperTokens.load(real_base)
    for text in (
        "Příliš žluťoučký kůň",
        "שָׁלוֹם עולם, צה״ל",
        "Ђоковић и Đoković",
        "manao ahoana n'ny",
        "日本語 ไทย ቋንቋ",
        "x = 3.14; #!",
    ):
        assert rebuilt.text_ids(text, "cs") == original.text_ids(text, "cs")


def test_an_unknown_model_says_what_was_wanted() -> None:
    with pytest.raises(GovorError, match="not found"):
        find_model("./nowhere")


def test_real_base_is_the_published_whisper(real_base: Path) -> None:
    model = Whisper.load(trainable_folder(find_model("openai/whisper-base")))
    assert sum(parameter.numel() for parameter in model.module.parameters()) == 72_593_920
