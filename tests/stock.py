"""What the wider world is like: Whispers with vocabularies of the published sizes, and a reader as whisper.cpp's converter is.

The converter itself (models/convert-h5-to-ggml.py of ggml-org/whisper.cpp) needs a checkout of openai/whisper beside it. What
is kept here is which files and keys it opens, and what it makes of them: vocab.json (bytes of every entry but the end token,
spelled in byte-level letters, in the order of ids), added_tokens.json (read, not used), config.json, the stock model.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration

from govor.families.vocabulary import byte_letters, recover_merges
from govor.families.whisper.generation import generation_config
from govor.families.whisper.model import Whisper
from govor.families.whisper.tiny import tiny
from govor.families.whisper.tokens import LANGUAGES, WhisperTokens, build_tokenizer

VOCABULARIES = {"multilingual": 51865, "large-v3": 51866, "English-only": 51864}


def published(kind: str = "multilingual", seed: int = 0) -> Whisper:
    """A tiny Whisper with as many tokens, languages and bands as the published ones of a kind."""
    english = kind == "English-only"
    pairs = [bytes([left, right]) for left in range(256) for right in range(256)]
    pieces = [*(bytes([byte]) for byte in range(256)), *pairs][:50256]
    pieces += [] if english else [b""]  # the published ones end so, and CTranslate2 takes others for English-only
    languages = list(LANGUAGES[: 100 if kind == "large-v3" else 99])
    tokens = WhisperTokens(build_tokenizer(pieces, recover_merges(pieces), languages))
    small = tiny(width=32, layers=2, n_mels=128 if kind == "large-v3" else 80)
    about = {
        **small.module.config.to_dict(),  # type: ignore[operator, union-attr]
        **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), tokens.end),
        "vocab_size": VOCABULARIES[kind],
        "decoder_start_token_id": tokens.start,
    }
    torch.manual_seed(seed)
    model = WhisperForConditionalGeneration(WhisperConfig.from_dict(about))
    model.generation_config = generation_config(tokens, {"suppress_ids_begin": [tokens.end]})
    if english:
        model.generation_config.is_multilingual = False
        for name in ("lang_to_id", "task_to_id"):
            delattr(model.generation_config, name)
    assert tokens.first_timestamp + 1501 == VOCABULARIES[kind]
    return Whisper(model.eval(), tokens)


_SPELLED = {
    "self_attn": "attn",
    "encoder_attn": "cross_attn",
    "q_proj": "query",
    "k_proj": "key",
    "v_proj": "value",
    "out_proj": "out",
    "self_attn_layer_norm": "attn_ln",
    "encoder_attn_layer_norm": "cross_attn_ln",
    "fc1": "mlp.0",
    "fc2": "mlp.2",
    "final_layer_norm": "mlp_ln",
    "layers": "blocks",
}
_WHOLE = {
    "encoder.layer_norm": "encoder.ln_post",
    "decoder.layer_norm": "decoder.ln",
    "encoder.embed_positions.weight": "encoder.positional_embedding",
    "decoder.embed_positions.weight": "decoder.positional_embedding",
    "decoder.embed_tokens": "decoder.token_embedding",
}


def to_ggml(folder: Path, file: Path) -> list[bytes]:
    """A package as whisper.cpp's converter reads it, as a ggml file; returns the pieces that it found."""
    vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    json.loads((folder / "added_tokens.json").read_text(encoding="utf-8"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    vocabulary.pop("<|endoftext|>", None)
    letters = {letter: byte for byte, letter in enumerate(byte_letters())}
    pieces = [bytes(letters[letter] for letter in piece) for piece in sorted(vocabulary, key=vocabulary.__getitem__)]
    model = WhisperForConditionalGeneration.from_pretrained(folder)
    width, bands = config["d_model"], config["num_mel_bins"]
    with file.open("wb") as out:
        numbers = (config["vocab_size"], config["max_source_positions"], width, config["encoder_attention_heads"])
        numbers += (config["encoder_layers"], config["max_target_positions"], width)
        numbers += (config["decoder_attention_heads"], config["decoder_layers"], bands, 1)
        out.write(struct.pack("<I11i", 0x67676D6C, *numbers))
        out.write(struct.pack("<2i", bands, 201) + bytes(4 * bands * 201))
        out.write(struct.pack("<i", len(pieces)))
        out.writelines(struct.pack("<I", len(piece)) + piece for piece in pieces)
        for name, tensor in model.state_dict().items():
            if name == "proj_out.weight":
                continue
            plain = name.removeprefix("model.")
            for theirs, ours in _WHOLE.items():
                plain = plain.replace(theirs, ours) if plain.startswith(theirs) else plain
            spelled = ".".join(_SPELLED.get(part, part) for part in plain.split("."))
            values = tensor.squeeze().numpy()
            if spelled in ("encoder.conv1.bias", "encoder.conv2.bias"):
                values = values[:, None]
            half = values.ndim > 1 and not spelled.endswith(("bias", "positional_embedding"))
            values = values.astype(np.float16).astype(np.float16 if half else np.float32)
            out.write(struct.pack("<3i", values.ndim, len(spelled), int(half)))
            out.write(struct.pack(f"<{values.ndim}i", *values.shape[::-1]) + spelled.encode() + values.tobytes())
    return pieces
