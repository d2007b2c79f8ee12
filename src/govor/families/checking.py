"""Is a model folder what it says it is? Its small files are read and judged here, before any library opens them.

Published folders are data of others: sizes become allocations, ids become indices, names become paths. Nothing here needs
torch, so a bad folder is refused at once.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeGuard

from govor.errors import GovorError
from govor.files import check_ordinary, exists, shortened
from govor.jsons import Record, parse_json, read_json

Shapes = dict[str, tuple[int, ...]]

_INDEX = "model.safetensors.index.json"
_OBJECTS = (
    *("generation_config.json", "tokenizer.json", "tokenizer_config.json", "preprocessor_config.json", "vocab.json"),
    *("processor_config.json", "special_tokens_map.json", "added_tokens.json", _INDEX),
)
_READ = (".json", ".safetensors", ".txt", ".bin", ".model")
_MOST_HEADER_BYTES = 32 << 20

# The largest value of each size; published models stay far below. What is larger is a slip or an attack.
_SIZES = {
    **dict.fromkeys(("vocab_size",), 1_000_000),
    **dict.fromkeys(("d_model", "hidden_size", "output_dim", "downsample_hidden_size"), 16_384),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim", "intermediate_size"), 131_072),
    **dict.fromkeys(("encoder_layers", "decoder_layers", "num_hidden_layers"), 256),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads", "num_attention_heads"), 256),
    **dict.fromkeys(("num_key_value_heads",), 256),
    **dict.fromkeys(("head_dim",), 1_024),
    **dict.fromkeys(("num_mel_bins", "feature_size"), 512),
    **dict.fromkeys(("max_source_positions", "max_target_positions"), 100_000),
    **dict.fromkeys(("max_position_embeddings",), 10_000_000),
    **dict.fromkeys(("n_window", "n_window_infer", "conv_chunksize", "num_labels", "median_filter_width"), 100_000),
}
_MAY_BE_NULL = (
    "head_dim",
    "num_key_value_heads",
    "num_labels",
    "max_position_embeddings",
    "n_window_infer",
    "conv_chunksize",
)
_SHARES = (
    *("dropout", "attention_dropout", "activation_dropout", "encoder_layerdrop", "decoder_layerdrop"),
    *("mask_time_prob", "mask_feature_prob", "classifier_dropout"),
)
_ACTIVATIONS = ("gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "quick_gelu", "relu", "relu2", "silu", "swish")
_TEXTS = ("activation_function", "hidden_act", "model_type")
_IDS = (
    *("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "no_timestamps_token_id"),
    *("prev_sot_token_id", "audio_token_id", "audio_start_token_id", "audio_end_token_id"),
    *("suppress_tokens", "begin_suppress_tokens", "suppress_ids", "suppress_ids_begin"),
)
_LENGTHS = ("max_length", "max_new_tokens", "min_length", "max_initial_timestamp_index", "num_beams", "top_k")
_ANY_ID = 10_000_000
_WINDOW_POSITIONS = 1500
_INSIDE = ("audio_config", "text_config", "thinker_config")
# `transformers` leaves out of config.json what equals its defaults.
_WHISPER_DEFAULTS = {
    "vocab_size": 51865,
    "num_mel_bins": 80,
    "d_model": 384,
    "encoder_layers": 4,
    "decoder_layers": 4,
    "encoder_attention_heads": 6,
    "decoder_attention_heads": 6,
    "encoder_ffn_dim": 1536,
    "decoder_ffn_dim": 1536,
    "max_source_positions": 1500,
    "max_target_positions": 448,
}


def read_model_config(folder: Path, weights: Sequence[Path] | None = None) -> Record:
    """`config.json` of a model folder, after it and all that lies beside it was judged: JSON that is whole and not too deep,
    sizes and ids in range, a tokenizer that is one, shards that lie in the folder, weights of the sizes that are stated.

    Args:
        weights: safetensors files elsewhere that go with this configuration, as those of a checkpoint.

    Raises:
        GovorError: with the file and what is wrong with it.
    """
    stay_inside(folder)
    file = folder / "config.json"
    config = read_json(file)
    for place, part in _parts(config):
        _check_sizes(file, place, part)
    vocabulary = _vocabulary(config)
    for place, part in _parts(config):
        # The lists of what to suppress are defaults of the library here, for another vocabulary; nothing reads them.
        used = {key: value for key, value in part.items() if not isinstance(value, list) or key == "eos_token_id"}
        check_ids(file, used, vocabulary, place)
        check_ids(file, part, place=place)
    if config.get("quantization_config") is not None:
        raise GovorError(f"{file} is that of a quantised model; take its version in float16, bfloat16 or float32.")
    for name in _OBJECTS:
        if exists(folder / name):
            _check_beside(folder / name, read_json(folder / name), vocabulary)
    if exists(folder / "tokenizer.json"):
        check_tokenizer(folder / "tokenizer.json", vocabulary if config.get("model_type") == "whisper" else None)
    files = weight_files(folder) if weights is None else weights
    if files:
        _check_fit(config, _all_shapes(files), folder)
    return config


def stay_inside(folder: Path) -> None:
    """Refuse a model file that is a link to somewhere else; those of the Hub's cache lie in its `blobs`."""
    root = folder.resolve()
    blobs = root.parent.parent / "blobs" if root.parent.name == "snapshots" else root
    for path in sorted(folder.iterdir()):
        if path.suffix not in _READ:
            continue
        check_ordinary(path)
        target = path.resolve()
        if path.is_symlink() and not (target.is_relative_to(root) or target.is_relative_to(blobs)):
            raise GovorError(f"{path} is a link that leaves the folder; put the file itself there.")


def weight_files(folder: Path) -> list[Path]:
    """The safetensors of a folder: the single one, or those that its index names.

    Raises:
        GovorError: the index names none, one elsewhere, or one that is not there.
    """
    single, index = folder / "model.safetensors", folder / _INDEX
    if exists(single) or not exists(index):
        return [single] if exists(single) else []
    named = read_json(index, weight_map=dict)["weight_map"].values()
    if not named:
        raise GovorError(f"{index} names no file of weights; fetch the model again.")
    for name in named:
        plain = isinstance(name, str) and name.endswith(".safetensors") and Path(name).name == name
        if not plain or "\0" in name or "\\" in name:
            raise GovorError(
                f"{index} names '{shortened(name, 80)}', and a .safetensors file of its own folder was wanted; fetch it again."
            )
        if not exists(folder / name):
            raise GovorError(f"{index} names {shortened(name, 80)}, which is not there; fetch the model again.")
    return [folder / name for name in sorted(set(named))]


def shapes_of(file: Path) -> Shapes:
    """The tensors of a safetensors file by name, from its header; the file is as long as the header says.

    Raises:
        GovorError: it is no such file, or cut short.
    """
    size = check_ordinary(file).st_size
    with file.open("rb") as handle:
        start = handle.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(size - 8, _MOST_HEADER_BYTES):
            raise GovorError(
                f"{file} cannot be read: it is no safetensors file, or cut short; fetch it again, or take another checkpoint."
            )
        try:
            text = handle.read(length).decode("utf-8")
        except UnicodeDecodeError:
            raise GovorError(
                f"{file} cannot be read: its header is no text; fetch it again, or take another checkpoint."
            ) from None
    header = parse_json(text, f"{file}: the header is not valid JSON")
    shapes: Shapes = {}
    end = 0
    for name, about in header.items() if isinstance(header, dict) else ():
        if name == "__metadata__":
            continue
        shape, place = (about.get("shape"), about.get("data_offsets")) if isinstance(about, dict) else (None, None)
        if not _whole(shape) or not _whole(place) or len(place) != 2:
            raise GovorError(
                f"{file}: the header states no shape and place of '{shortened(name, 80)}'; fetch it again."
            )
        shapes[name], end = tuple(shape), max(end, *place)
    if not shapes:
        raise GovorError(f"{file} holds no weights; fetch or write it again.")
    if size < 8 + length + end:
        raise GovorError(
            f"{file} is cut short: it has {size:,} bytes of {8 + length + end:,}; fetch it again, or take another checkpoint."
        )
    return shapes


def whisper_shapes(config: Mapping[str, Any]) -> Shapes:
    """Name and shape of every weight that a Whisper of this configuration has (the head is tied to the embeddings)."""
    sizes = {**_WHISPER_DEFAULTS, **{key: config[key] for key in _WHISPER_DEFAULTS if key in config}}
    width = sizes["d_model"]
    shapes: Shapes = {
        "encoder.conv1.weight": (width, sizes["num_mel_bins"], 3),
        "encoder.conv1.bias": (width,),
        "encoder.conv2.weight": (width, width, 3),
        "encoder.conv2.bias": (width,),
        "encoder.embed_positions.weight": (sizes["max_source_positions"], width),
        "decoder.embed_positions.weight": (sizes["max_target_positions"], width),
        "decoder.embed_tokens.weight": (sizes["vocab_size"], width),
    }
    for part in ("encoder", "decoder"):
        inner = sizes[f"{part}_ffn_dim"]
        norms = ["layer_norm"]
        for layer in range(sizes[f"{part}_layers"]):
            own = f"layers.{layer}"
            attentions = ("self_attn", "encoder_attn") if part == "decoder" else ("self_attn",)
            for attention in attentions:
                for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
                    shapes[f"{part}.{own}.{attention}.{name}.weight"] = (width, width)
                    if name != "k_proj":
                        shapes[f"{part}.{own}.{attention}.{name}.bias"] = (width,)
            norms += [f"{own}.{name}" for name in (*(f"{item}_layer_norm" for item in attentions), "final_layer_norm")]
            shapes |= {f"{part}.{own}.fc1.weight": (inner, width), f"{part}.{own}.fc1.bias": (inner,)}
            shapes |= {f"{part}.{own}.fc2.weight": (width, inner), f"{part}.{own}.fc2.bias": (width,)}
        shapes |= {f"{part}.{name}.{kind}": (width,) for name in norms for kind in ("weight", "bias")}
    return {f"model.{name}": shape for name, shape in shapes.items()}


def check_whisper_sizes(config: Mapping[str, Any], found: Shapes, origin: Path) -> None:
    """Refuse weights of other shapes than a Whisper of this configuration has, and far fewer of them: what is missing would
    be made up, however much memory that takes. (Which of them are missing, the loader says.)

    Raises:
        GovorError: `origin` stands in the message.
    """
    _check_sizes(origin, "", config)
    if config.get("max_source_positions", _WINDOW_POSITIONS) < _WINDOW_POSITIONS:
        raise GovorError(
            f"{origin}: max_source_positions is {config['max_source_positions']}, and a window of 30 s has {_WINDOW_POSITIONS}."
        )
    wanted = whisper_shapes(config)
    given = {name if name.startswith("model.") else f"model.{name}": shape for name, shape in found.items()}
    for name, shape in wanted.items():
        if given.get(name, shape) != shape:
            raise GovorError(
                f"{origin}: '{name}' is {_by(given[name])}, and its sizes ask for {_by(shape)}; fetch or train it again."
            )
    _check_count(sum(map(math.prod, wanted.values())), found, origin)


def check_tokenizer(file: Path, vocabulary: int | None = None) -> None:
    """Refuse what is no tokenizer; with `vocabulary`, steering tokens must have ids below it too."""
    found = read_json(file)
    added, model = found.get("added_tokens", []), found.get("model")
    # A file without a vocabulary of its own is what damaged downloads leave.
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict | list):
        raise GovorError(f"{file} is no tokenizer: it has no model with a vocabulary; fetch it again.")
    if not isinstance(added, list) or not all(
        isinstance(one, dict) and isinstance(one.get("content"), str) and _is_id(one.get("id")) for one in added
    ):
        raise GovorError(
            f"{file} is damaged: 'added_tokens' is no list of tokens with an id and a content; fetch it again."
        )
    steering = ("<|endoftext|>", "<|startoftranscript|>", "<|transcribe|>", "<|notimestamps|>")
    for one in added if vocabulary is not None else ():
        if one["content"] in steering and one["id"] >= vocabulary:
            raise GovorError(
                f"{file} gives '{one['content']}' the id {one['id']}, and the model has {vocabulary}; it is another model's."
            )


def check_ids(file: Path, part: Mapping[str, Any], vocabulary: int = _ANY_ID, place: str = "") -> None:
    """Refuse what cannot be ids of a vocabulary of that size, where ids are wanted."""
    for key in _IDS:
        value = part.get(key)
        ids = value if isinstance(value, list) else [value] if value is not None else []
        wrong = [one for one in ids if not _is_id(one) or one >= vocabulary]
        if wrong:
            raise GovorError(
                f"{file}: {place}{key} holds {shortened(json.dumps(wrong[0]), 40)}, and an id of the model's {vocabulary:,} "
                "tokens was wanted; fetch it again."
            )
    for key in ("lang_to_id", "task_to_id"):
        value = part.get(key)
        if value is not None and not (
            isinstance(value, dict) and all(_is_id(one) and one < vocabulary for one in value.values())
        ):
            raise GovorError(f"{file}: '{key}' is no table of names with ids of the model's tokens; fetch it again.")
    pairs = {"forced_decoder_ids": True, "alignment_heads": False}
    for key, may_be_null in pairs.items():
        value = part.get(key)
        if value is not None and not (
            isinstance(value, list)
            and all(
                isinstance(pair, list)
                and len(pair) == 2
                and all(_is_id(n) or (n is None and may_be_null) for n in pair)
                for pair in value
            )
        ):
            raise GovorError(f"{file}: '{key}' is no list of pairs of whole numbers; fetch it again.")


def check_adapters(folder: Path) -> None:
    """Refuse adapters whose configuration asks for what no recipe can have made."""
    file = folder / "adapter_config.json"
    config = read_json(file, r=int, lora_alpha=(int, float), target_modules=list)
    stay_inside(folder)
    rank, targets = config["r"], config["target_modules"]
    if not 1 <= rank <= 1024 or not math.isfinite(config["lora_alpha"]) or not all(isinstance(t, str) for t in targets):
        raise GovorError(
            f"{file}: a rank of 1 to 1024 and a list of layers were wanted, found rank {shortened(rank, 30)}."
        )
    _all_shapes([folder / "adapter_model.safetensors"])


@contextmanager
def loading(what: Path) -> Iterator[None]:
    """Libraries raise errors of every kind on damaged model files, plain `Exception` too; each becomes one sentence."""
    try:
        yield
    except GovorError:
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise GovorError(f"{what} cannot be loaded ({shortened(said, 200)}); fetch or package it again.") from error


def _parts(config: Record, place: str = "") -> Iterator[tuple[str, Record]]:
    yield place, config
    for key in _INSIDE:
        if key in config:
            if not isinstance(config[key], Record):
                raise GovorError(f"{config.where}: '{place}{key}' is no object with sizes; fetch the model again.")
            yield from _parts(config[key], f"{place}{key}.")


def _vocabulary(config: Record) -> int:
    texts = [part for place, part in _parts(config) if not place or place.endswith("text_config.")]
    sizes = [part["vocab_size"] for part in texts if "vocab_size" in part]
    if not sizes and config.get("model_type") == "whisper":
        return _WHISPER_DEFAULTS["vocab_size"]
    return max(sizes, default=_ANY_ID)


def _check_sizes(file: Path, place: str, part: Mapping[str, Any]) -> None:
    for key, most in _SIZES.items():
        value = part.get(key)
        if key not in part or (value is None and key in _MAY_BE_NULL):
            continue
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
            raise GovorError(
                f"{file}: {place}{key} is {shortened(json.dumps(value), 40)}, and a whole number from 1 to {most:,} was wanted."
            )
    for width, heads in (
        ("d_model", "encoder_attention_heads"),
        ("d_model", "decoder_attention_heads"),
        ("num_attention_heads", "num_key_value_heads"),
    ):
        if part.get(width) and part.get(heads) and part[width] % part[heads]:
            raise GovorError(f"{file}: {place}{width} is {part[width]}, which {heads} ({part[heads]}) does not divide.")
    for key in _SHARES:
        value = part.get(key)
        if value is not None and (not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1):
            raise GovorError(
                f"{file}: {place}{key} is {shortened(json.dumps(value), 40)}, and a share of 0 to 1 was wanted."
            )
    for key in _TEXTS:
        value = part.get(key)
        if value is not None and (not isinstance(value, str) or (key != "model_type" and value not in _ACTIVATIONS)):
            raise GovorError(f"{file}: {place}{key} is {shortened(json.dumps(value), 40)}, which no such model has.")


def _check_beside(file: Path, found: Record, vocabulary: int) -> None:
    if file.name == "generation_config.json":
        check_ids(file, found, vocabulary)
        for key in _LENGTHS:
            if found.get(key) is not None and (not _is_id(found[key]) or found[key] > _ANY_ID):
                raise GovorError(
                    f"{file}: {key} is {shortened(json.dumps(found[key]), 40)}, and a whole number was wanted; fetch it again."
                )
    if file.name == "preprocessor_config.json":
        _check_sizes(file, "", found)
    if file.name == "processor_config.json" and isinstance(found.get("feature_extractor"), dict):
        _check_sizes(file, "feature_extractor.", found["feature_extractor"])


def _check_fit(config: Record, found: Shapes, folder: Path) -> None:
    if config.get("model_type") == "whisper":
        check_whisper_sizes(config, found, folder / "config.json")
        return
    # Of Qwen3-ASR the sizes that memory goes by; the loader compares every weight.
    thinker = config.get("thinker_config")
    inner = thinker if isinstance(thinker, dict) else config
    audio, text = inner.get("audio_config"), inner.get("text_config")
    if not isinstance(audio, dict) or not isinstance(text, dict):
        raise GovorError(f"{config.where} lacks an audio_config or a text_config; fetch the model again.")
    language = "thinker.model" if thinker is not None else "model.language_model"
    tower = "thinker.audio_tower" if thinker is not None else "model.audio_tower"
    hidden = text.get("hidden_size")
    wanted = {
        f"{language}.embed_tokens.weight": (text.get("vocab_size"), hidden),
        f"{language}.layers.0.mlp.gate_proj.weight": (text.get("intermediate_size"), hidden),
        f"{tower}.layers.0.fc1.weight": (audio.get("encoder_ffn_dim"), audio.get("d_model")),
    }
    for name, shape in wanted.items():
        given = found.get(name)
        if given is not None and (
            len(given) != 2 or any(w not in (None, h) for w, h in zip(shape, given, strict=True))
        ):
            raise GovorError(
                f"{folder}: '{name}' is {_by(given)}, and config.json asks for {_by([size or 0 for size in shape])}; "
                "fetch or train it again."
            )
    layers = text.get("num_hidden_layers", 0) * 3 * (hidden or 0) * text.get("intermediate_size", 0)
    layers += audio.get("encoder_layers", 0) * 2 * audio.get("d_model", 0) * audio.get("encoder_ffn_dim", 0)
    _check_count((text.get("vocab_size") or 0) * (hidden or 0) + layers, found, folder)


def _check_count(wanted: int, found: Shapes, origin: Path) -> None:
    there = sum(map(math.prod, found.values()))
    if wanted > 2 * there:
        raise GovorError(
            f"{origin}: its sizes ask for {wanted:,} numbers and its weights hold {there:,}; fetch or train it again."
        )


def _all_shapes(files: Sequence[Path]) -> Shapes:
    shapes: Shapes = {}
    for file in files:
        shapes |= shapes_of(file)
    return shapes


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _whole(values: Any) -> TypeGuard[list[int]]:
    return isinstance(values, list) and all(_is_id(value) for value in values)


def _by(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape)) or "a single number"
