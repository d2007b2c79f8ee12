"""Importers: a Whisper in the CTranslate2 or ggml format becomes a folder in the `transformers` layout."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration

from govor.errors import GovorError
from govor.families.vocabulary import recover_merges
from govor.families.whisper.generation import generation_config
from govor.families.whisper.model import Whisper
from govor.families.whisper.tokens import LANGUAGES, WhisperTokens, build_tokenizer

Weights = dict[str, torch.Tensor]

_GGML_MAGIC = 0x67676D6C
_CT2_TYPES = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2"}
# A longer name or token than any Whisper has: the file is damaged or hostile.
_MAX_NAME_BYTES = 4096


def from_ctranslate2(folder: Path) -> Whisper:
    """A float16 or float32 CTranslate2 Whisper (`model.bin`, `config.json`, `tokenizer.json`).

    Raises:
        GovorError: not such a folder, or quantised to integers (which cannot be trained on bit-true).
    """
    file = folder / "model.bin"
    if not file.exists() or not (folder / "tokenizer.json").exists():
        raise GovorError(f"{folder} is no CTranslate2 Whisper: model.bin and tokenizer.json were wanted.")
    with file.open("rb") as handle:
        variables, aliases = _read_ctranslate2(handle, file)
    for alias, name in aliases.items():
        variables[alias] = variables[name]
    weights = _ct2_names(variables, file)
    heads = int(variables["decoder/num_heads"])
    tokens = WhisperTokens.load(folder)
    settings = json.loads((folder / "config.json").read_text()) if (folder / "config.json").exists() else {}
    return _assemble(
        weights,
        heads,
        int(variables["encoder/num_heads"]) if "encoder/num_heads" in variables else heads,
        tokens,
        settings,
    )


def from_ggml(file: Path) -> Whisper:
    """A whisper.cpp model with float16 or float32 weights; the tokenizer is rebuilt from the file's vocabulary.

    Raises:
        GovorError: not such a file, English-only, or quantised.
    """
    with file.open("rb") as handle:
        try:
            sizes, pieces = _read_ggml_head(handle, file)
            weights = dict(_ggml_tensors(handle, file))
        except (struct.error, ValueError) as error:
            raise GovorError(f"{file} ends too early or is damaged ({error}); fetch it again.") from None
    if sizes["n_vocab"] < 51865:
        raise GovorError(f"{file} is an English-only Whisper; a multilingual one was wanted.")
    # Byte-pair tokens end where <|endoftext|> stands; files differ in whether they list the special ones.
    pieces = pieces[:50257]
    languages = list(LANGUAGES[: sizes["n_vocab"] - 51865 + 99])
    tokens = WhisperTokens(build_tokenizer(pieces, recover_merges(pieces), languages))
    named = {_openai_name(name): tensor for name, tensor in weights.items()}
    named = {name: tensor.flatten() if name.endswith("bias") else tensor for name, tensor in named.items()}
    return _assemble(named, sizes["n_text_head"], sizes["n_audio_head"], tokens, {})


def _assemble(
    weights: Weights, heads: int, encoder_heads: int, tokens: WhisperTokens, settings: dict[str, Any]
) -> Whisper:
    def layers(part: str) -> int:
        return 1 + max(int(name.split(".")[3]) for name in weights if name.startswith(f"model.{part}.layers."))

    vocabulary, width = weights["model.decoder.embed_tokens.weight"].shape
    config = WhisperConfig(
        vocab_size=vocabulary,
        num_mel_bins=weights["model.encoder.conv1.weight"].shape[1],
        d_model=width,
        encoder_layers=layers("encoder"),
        decoder_layers=layers("decoder"),
        encoder_attention_heads=encoder_heads,
        decoder_attention_heads=heads,
        encoder_ffn_dim=weights["model.encoder.layers.0.fc1.weight"].shape[0],
        decoder_ffn_dim=weights["model.decoder.layers.0.fc1.weight"].shape[0],
        max_source_positions=weights["model.encoder.embed_positions.weight"].shape[0],
        max_target_positions=weights["model.decoder.embed_positions.weight"].shape[0],
        # The defaults of WhisperConfig are those of the English models.
        pad_token_id=tokens.end,
        bos_token_id=tokens.end,
        eos_token_id=tokens.end,
        decoder_start_token_id=tokens.start,
        attn_implementation="sdpa",
    )
    model = WhisperForConditionalGeneration(config)
    for name in list(weights):
        # Keys have no bias in Whisper; CTranslate2 writes zeros for it.
        if name.endswith("k_proj.bias"):
            del weights[name]
    missing, unexpected = model.load_state_dict({k: v.float() for k, v in weights.items()}, strict=False)
    model.tie_weights()
    if unexpected or set(missing) - {"proj_out.weight"}:
        raise GovorError(f"The weights are not those of a Whisper: missing {missing[:3]}, unexpected {unexpected[:3]}.")
    model.generation_config = generation_config(tokens, settings)
    whisper = Whisper(model.eval(), tokens)
    whisper.notes = list(tokens.notes)
    return whisper


def _read_ctranslate2(handle: IO[bytes], file: Path) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, str]]:
    def number(form: str) -> int:
        return int(struct.unpack("<" + form, handle.read(struct.calcsize(form)))[0])

    def string() -> str:
        length = number("H")
        if length > _MAX_NAME_BYTES:
            raise ValueError("a name is too long")
        return handle.read(length).rstrip(b"\0").decode()

    try:
        version = number("I")
        if not 4 <= version <= 6 or string() != "WhisperSpec":
            raise GovorError(f"{file} is no CTranslate2 Whisper of format 4 to 6.")
        number("I")
        variables = {}
        for _ in range(number("I")):
            name = string()
            shape = [number("I") for _ in range(number("B"))]
            kind, size = _CT2_TYPES.get(number("B")), number("I")
            if kind is None:
                raise GovorError(f"{file}: '{name}' has a type that is not float16, float32 or integer.")
            variables[name] = np.frombuffer(handle.read(size), dtype=kind).reshape(shape)
        aliases = {string(): string() for _ in range(number("I"))}
    except (struct.error, ValueError, UnicodeDecodeError) as error:
        raise GovorError(f"{file} ends too early or is damaged ({error}); fetch it again.") from None
    quantised = [name for name, value in variables.items() if value.ndim == 2 and value.dtype.kind == "i"]
    if any(name.endswith("weight") for name in quantised):
        raise GovorError(f"{file} is quantised to integers; convert from its float16 or float32 version.")
    return variables, aliases


def _ct2_names(variables: dict[str, np.ndarray[Any, Any]], file: Path) -> Weights:
    def tensor(name: str) -> torch.Tensor:
        if name not in variables:
            raise GovorError(f"{file} lacks '{name}'; it is not a complete Whisper.")
        return torch.from_numpy(variables[name].astype(np.float32))

    weights: Weights = {}

    def norm(source: str, target: str) -> None:
        weights[target + ".weight"], weights[target + ".bias"] = (
            tensor(source + "/gamma"),
            tensor(source + "/beta"),
        )

    def linear(source: str, *targets: str) -> None:
        for kind in ("weight", "bias"):
            for target, part in zip(targets, tensor(f"{source}/{kind}").chunk(len(targets)), strict=True):
                weights[f"{target}.{kind}"] = part.contiguous()

    for conv in ("conv1", "conv2"):
        linear(f"encoder/{conv}", f"model.encoder.{conv}")
    weights["model.encoder.embed_positions.weight"] = tensor("encoder/position_encodings/encodings")
    weights["model.decoder.embed_positions.weight"] = tensor("decoder/position_encodings/encodings")
    weights["model.decoder.embed_tokens.weight"] = tensor("decoder/embeddings/weight")
    for part in ("encoder", "decoder"):
        norm(f"{part}/layer_norm", f"model.{part}.layer_norm")
        index = 0
        while f"{part}/layer_{index}/ffn/linear_0/weight" in variables:
            source, target = f"{part}/layer_{index}", f"model.{part}.layers.{index}"
            own = f"{target}.self_attn"
            norm(f"{source}/self_attention/layer_norm", f"{own}_layer_norm")
            linear(f"{source}/self_attention/linear_0", f"{own}.q_proj", f"{own}.k_proj", f"{own}.v_proj")
            linear(f"{source}/self_attention/linear_1", f"{own}.out_proj")
            if part == "decoder":
                cross = f"{target}.encoder_attn"
                norm(f"{source}/attention/layer_norm", f"{cross}_layer_norm")
                linear(f"{source}/attention/linear_0", f"{cross}.q_proj")
                linear(f"{source}/attention/linear_1", f"{cross}.k_proj", f"{cross}.v_proj")
                linear(f"{source}/attention/linear_2", f"{cross}.out_proj")
            norm(f"{source}/ffn/layer_norm", f"{target}.final_layer_norm")
            linear(f"{source}/ffn/linear_0", f"{target}.fc1")
            linear(f"{source}/ffn/linear_1", f"{target}.fc2")
            index += 1
    return weights


def _read_ggml_head(handle: IO[bytes], file: Path) -> tuple[dict[str, int], list[bytes]]:
    names = "n_vocab n_audio_ctx n_audio_state n_audio_head n_audio_layer n_text_ctx n_text_state n_text_head n_text_layer n_mels ftype"
    if struct.unpack("<I", handle.read(4))[0] != _GGML_MAGIC:
        raise GovorError(f"{file} is no whisper.cpp (ggml) model.")
    sizes = dict(zip(names.split(), struct.unpack("<11i", handle.read(44)), strict=True))
    n_mels, bins = struct.unpack("<2i", handle.read(8))
    handle.seek(4 * n_mels * bins, 1)
    (count,) = struct.unpack("<i", handle.read(4))
    pieces = []
    for _ in range(count):
        (length,) = struct.unpack("<I", handle.read(4))
        if length > _MAX_NAME_BYTES:
            raise ValueError("a token is too long")
        pieces.append(handle.read(length))
    return sizes, pieces


def _ggml_tensors(handle: IO[bytes], file: Path) -> Iterator[tuple[str, torch.Tensor]]:
    while head := handle.read(12):
        dimensions, name_length, kind = struct.unpack("<3i", head)
        if not 0 < dimensions <= 4 or not 0 < name_length <= _MAX_NAME_BYTES:
            raise ValueError("a tensor's header is out of range")
        shape = struct.unpack(f"<{dimensions}i", handle.read(4 * dimensions))[::-1]
        name = handle.read(name_length).decode()
        if kind not in (0, 1):
            raise GovorError(f"{file} is quantised; convert from its float16 or float32 version.")
        dtype = np.dtype("<f4" if kind == 0 else "<f2")
        data = handle.read(int(np.prod(shape)) * dtype.itemsize)
        yield name, torch.from_numpy(np.frombuffer(data, dtype=dtype).reshape(shape).astype(np.float32))


_OPENAI = (
    ("cross_attn_ln", "encoder_attn_layer_norm"),
    ("attn_ln", "self_attn_layer_norm"),
    ("mlp_ln", "final_layer_norm"),
    ("cross_attn", "encoder_attn"),
    (".attn.", ".self_attn."),
    ("query", "q_proj"),
    ("key", "k_proj"),
    ("value", "v_proj"),
    (".out.", ".out_proj."),
    ("mlp.0", "fc1"),
    ("mlp.2", "fc2"),
    ("blocks", "layers"),
    ("ln_post", "layer_norm"),
    ("decoder.ln.", "decoder.layer_norm."),
    ("token_embedding", "embed_tokens"),
    ("positional_embedding", "embed_positions.weight"),
)


def _openai_name(name: str) -> str:
    """OpenAI's parameter name as `transformers` spells it."""
    for old, new in _OPENAI:
        if old in name and new not in name:
            name = name.replace(old, new)
    return "model." + name
