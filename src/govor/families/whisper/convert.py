"""Importers: a Whisper in the CTranslate2 or ggml format becomes a folder in the `transformers` layout."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration

from govor.errors import GovorError
from govor.families.vocabulary import recover_merges
from govor.families.whisper.checks import check_weights
from govor.families.whisper.ct2_files import MAX_NAME_BYTES, Array, BoundedFile, read_settings, read_variables
from govor.families.whisper.generation import generation_config
from govor.families.whisper.model import Whisper
from govor.families.whisper.tokens import LANGUAGES, WhisperTokens, build_tokenizer
from govor.runs import Json

Weights = dict[str, torch.Tensor]

_GGML_MAGIC = 0x67676D6C
# Longer than any token that a Whisper has: the file is damaged or hostile.
_MAX_TOKEN_BYTES = 256
_MAX_TOKENS_BYTES = 2 << 20
# Byte-pair tokens, and all tokens, of the multilingual vocabularies.
_PIECES, _MULTILINGUAL = 50257, 51865


def from_ctranslate2(folder: Path) -> Whisper:
    """A float16 or float32 CTranslate2 Whisper (`model.bin`, `config.json`, `tokenizer.json`).

    Raises:
        GovorError: not such a folder, or quantised to integers (which cannot be trained on bit-true).
    """
    file = folder / "model.bin"
    if not file.exists() or not (folder / "tokenizer.json").exists():
        raise GovorError(f"{folder} is no CTranslate2 Whisper: model.bin and tokenizer.json were wanted.")
    settings = read_settings(folder)
    variables = read_variables(file)
    weights = _ct2_names(variables, file)
    heads = [_heads(variables, f"{part}/num_heads", file) for part in ("decoder", "encoder")]
    tokens = WhisperTokens.load(folder)
    return _assemble(weights, heads[0] or heads[1] or 0, heads[1] or heads[0] or 0, tokens, settings, file)


def from_ggml(file: Path) -> Whisper:
    """A whisper.cpp model with float16 or float32 weights; the tokenizer is rebuilt from the file's vocabulary.

    Raises:
        GovorError: not such a file, English-only, or quantised.
    """
    with BoundedFile(file) as source:
        try:
            sizes, pieces = _read_ggml_head(source)
            if sizes["n_vocab"] < _MULTILINGUAL:
                raise GovorError(f"{file} is an English-only Whisper; a multilingual one was wanted.")
            # Byte-pair tokens end where <|endoftext|> stands; files differ in whether they list the special ones.
            pieces = pieces[:_PIECES]
            if len(set(pieces)) < _PIECES:
                raise ValueError(f"it lists {len(set(pieces)):,} different tokens of {_PIECES:,}")
            weights: Weights = {}
            for name, tensor in _ggml_tensors(source):
                if name in weights:
                    raise ValueError(f"'{name}' stands twice")
                weights[name] = tensor
        except (struct.error, ValueError) as error:
            raise GovorError(f"{file} ends too early or is damaged ({error}); fetch it again.") from None
    languages = list(LANGUAGES[: sizes["n_vocab"] - _MULTILINGUAL + 99])
    tokens = WhisperTokens(build_tokenizer(pieces, recover_merges(pieces), languages))
    named = {_openai_name(name): tensor for name, tensor in weights.items()}
    named = {name: tensor.flatten() if name.endswith("bias") else tensor for name, tensor in named.items()}
    return _assemble(named, sizes["n_text_head"], sizes["n_audio_head"], tokens, {}, file)


def _assemble(
    weights: Weights, heads: int, encoder_heads: int, tokens: WhisperTokens, settings: Json, origin: Path
) -> Whisper:
    def layers(part: str) -> int:
        return len({name.split(".")[3] for name in weights if name.startswith(f"model.{part}.layers.")})

    def size(name: str, axis: int, axes: int = 2) -> int:
        if name not in weights or weights[name].ndim != axes:
            raise GovorError(f"{origin} lacks '{name}' with {axes} dimensions; it is not a complete Whisper.")
        return weights[name].shape[axis]

    sizes = {
        "vocab_size": size("model.decoder.embed_tokens.weight", 0),
        "num_mel_bins": size("model.encoder.conv1.weight", 1, 3),
        "d_model": size("model.decoder.embed_tokens.weight", 1),
        "encoder_layers": layers("encoder"),
        "decoder_layers": layers("decoder"),
        "encoder_attention_heads": encoder_heads,
        "decoder_attention_heads": heads,
        "encoder_ffn_dim": size("model.encoder.layers.0.fc1.weight", 0),
        "decoder_ffn_dim": size("model.decoder.layers.0.fc1.weight", 0),
        "max_source_positions": size("model.encoder.embed_positions.weight", 0),
        "max_target_positions": size("model.decoder.embed_positions.weight", 0),
    }
    check_weights(sizes, {name: tuple(tensor.shape) for name, tensor in weights.items()}, origin)
    if sizes["vocab_size"] <= tokens.no_timestamps:
        raise GovorError(f"{origin} has {sizes['vocab_size']:,} embeddings, fewer than its tokenizer has tokens.")
    config = WhisperConfig(
        **sizes,
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
        raise GovorError(f"{origin} is not a complete Whisper: missing {missing[:3]}, unexpected {unexpected[:3]}.")
    model.generation_config = generation_config(tokens, settings)
    whisper = Whisper(model.eval(), tokens)
    whisper.notes = list(tokens.notes)
    return whisper


def _heads(variables: dict[str, Array], name: str, file: Path) -> int | None:
    if name not in variables:
        return None
    if variables[name].size != 1 or variables[name].dtype.kind != "i":
        raise GovorError(f"{file}: '{name}' is no whole number; it is not a complete Whisper.")
    return int(variables[name].reshape(()))


def _ct2_names(variables: dict[str, Array], file: Path) -> Weights:
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
            whole = tensor(f"{source}/{kind}")
            if not whole.ndim or whole.shape[0] % len(targets):
                raise GovorError(
                    f"{file}: '{source}/{kind}' does not hold {len(targets)} parts; it is no whole Whisper."
                )
            for target, part in zip(targets, whole.chunk(len(targets)), strict=True):
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


def _read_ggml_head(source: BoundedFile) -> tuple[dict[str, int], list[bytes]]:
    names = "n_vocab n_audio_ctx n_audio_state n_audio_head n_audio_layer n_text_ctx n_text_state n_text_head n_text_layer n_mels ftype"
    if source.left < 4 or source.number("I") != _GGML_MAGIC:
        raise GovorError(f"{source.file} is no whisper.cpp (ggml) model.")
    sizes = dict(zip(names.split(), source.numbers("11i"), strict=True))
    n_mels, bins = source.numbers("2i")
    if n_mels < 0 or bins < 0:
        raise ValueError("its table of mel filters has a negative size")
    source.skip(4 * n_mels * bins)
    pieces, total = [], 0
    for _ in range(source.number("i")):
        length = source.number("I")
        total += length
        if length > _MAX_TOKEN_BYTES or total > _MAX_TOKENS_BYTES:
            raise ValueError("its tokens are longer than those of any Whisper")
        pieces.append(source.read(length))
    return sizes, pieces


def _ggml_tensors(source: BoundedFile) -> Iterator[tuple[str, torch.Tensor]]:
    while source.left:
        dimensions, name_length, kind = source.numbers("3i")
        if not 0 < dimensions <= 4 or not 0 < name_length <= MAX_NAME_BYTES:
            raise ValueError("a tensor's header is out of range")
        shape = source.numbers(f"{dimensions}i")[::-1]
        name = source.read(name_length).decode()
        if min(shape) < 1:
            raise ValueError(f"'{name}' has a dimension of {min(shape)}")
        if kind not in (0, 1):
            raise GovorError(f"{source.file} is quantised; convert from its float16 or float32 version.")
        dtype = np.dtype("<f4" if kind == 0 else "<f2")
        data = source.read(math.prod(shape) * dtype.itemsize)
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
