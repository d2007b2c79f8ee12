"""Is a model folder what it says it is? Its small files are read and judged here, before any library opens them.

Published folders are data of others: sizes become allocations, ids become indices, names become paths. Nothing here needs
torch, so a bad folder is refused at once.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import TypeGuard

from govor.errors import GovorError
from govor.families.settings import FamilySettings, Shapes
from govor.files import check_ordinary, exists, shortened
from govor.jsons import Record, parse_json, read_json
from govor.runs import Json

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


def read_model_config(folder: Path, settings: FamilySettings, weights: Sequence[Path] | None = None) -> Record:
    """`config.json` of a model folder, after it and all that lies beside it was judged: JSON that is whole and not too deep,
    sizes and ids in range, a tokenizer that is one, shards that lie in the folder, weights of the sizes that are stated.

    Args:
        settings: those of the family that the model says it is of.
        weights: safetensors files elsewhere that go with this configuration, as those of a checkpoint.

    Raises:
        GovorError: with the file and what is wrong with it.
    """
    stay_inside(folder)
    file = folder / "config.json"
    config = read_json(file)
    for place, part in _parts(config, settings.nested):
        check_sizes(file, place, part)
    vocabulary = _vocabulary(config, settings)
    for place, part in _parts(config, settings.nested):
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
        check_tokenizer(folder / "tokenizer.json", vocabulary, settings.steering)
    files = weight_files(folder) if weights is None else weights
    if files and settings.check_model is not None:
        settings.check_model(config, _all_shapes(files), folder)
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


def check_tokenizer(file: Path, vocabulary: int = _ANY_ID, steering: Sequence[str] = ()) -> None:
    """Refuse what is no tokenizer, or gives one of the tokens `steering` an id that a vocabulary of that size lacks."""
    tokenizer = read_json(file)
    added, model = tokenizer.get("added_tokens", []), tokenizer.get("model")
    # A file without a vocabulary of its own is what damaged downloads leave.
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict | list):
        raise GovorError(f"{file} is no tokenizer: it has no model with a vocabulary; fetch it again.")
    if not isinstance(added, list) or not all(
        isinstance(one, dict) and isinstance(one.get("content"), str) and _is_id(one.get("id")) for one in added
    ):
        raise GovorError(
            f"{file} is damaged: 'added_tokens' is no list of tokens with an id and a content; fetch it again."
        )
    for one in added:
        if one["content"] in steering and one["id"] >= vocabulary:
            raise GovorError(
                f"{file} gives '{one['content']}' the id {one['id']}, and the model has {vocabulary}; it is another model's."
            )


def check_ids(file: Path, part: Json, vocabulary: int = _ANY_ID, place: str = "") -> None:
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


# A library that loads a model changes the process meanwhile (how layers begin, what is logged): one thread at a time.
_LOADING = RLock()


@contextmanager
def loading(what: Path) -> Iterator[None]:
    """Libraries raise errors of every kind on damaged model files, plain `Exception` too; each becomes one sentence."""
    try:
        with _LOADING:
            yield
    except GovorError:
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise GovorError(f"{what} cannot be loaded ({shortened(said, 200)}); fetch or package it again.") from error


def _parts(config: Record, nested: Sequence[str], place: str = "") -> Iterator[tuple[str, Record]]:
    """A configuration and those inside of it, each with the place it stands at."""
    yield place, config
    for key in nested:
        if key in config:
            if not isinstance(config[key], Record):
                raise GovorError(f"{config.where}: '{place}{key}' is no object with sizes; fetch the model again.")
            yield from _parts(config[key], nested, f"{place}{key}.")


def _vocabulary(config: Record, settings: FamilySettings) -> int:
    texts = [part for place, part in _parts(config, settings.nested) if not place or place.endswith("text_config.")]
    sizes = [part["vocab_size"] for part in texts if "vocab_size" in part]
    if not sizes and settings.vocabulary is not None:
        return settings.vocabulary
    return max(sizes, default=_ANY_ID)


def check_sizes(file: Path, place: str, part: Json) -> None:
    """Refuse sizes out of range in a part of a configuration; `place` stands before their names."""
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


def _check_beside(file: Path, settings: Record, vocabulary: int) -> None:
    if file.name == "generation_config.json":
        check_ids(file, settings, vocabulary)
        for key in _LENGTHS:
            if settings.get(key) is not None and (not _is_id(settings[key]) or settings[key] > _ANY_ID):
                raise GovorError(
                    f"{file}: {key} is {shortened(json.dumps(settings[key]), 40)}, and a whole number was wanted; fetch it again."
                )
    if file.name == "preprocessor_config.json":
        check_sizes(file, "", settings)
    if file.name == "processor_config.json" and isinstance(settings.get("feature_extractor"), dict):
        check_sizes(file, "feature_extractor.", settings["feature_extractor"])


def check_count(wanted: int, shapes: Shapes, origin: Path) -> None:
    """Refuse weights that are far fewer numbers than the sizes ask for."""
    there = sum(map(math.prod, shapes.values()))
    if wanted > 2 * there:
        raise GovorError(
            f"{origin}: its sizes ask for {wanted:,} numbers and its weights hold {there:,}; fetch or train it again."
        )


def _all_shapes(files: Sequence[Path]) -> Shapes:
    shapes: Shapes = {}
    for file in files:
        shapes |= shapes_of(file)
    return shapes


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _whole(values: object) -> TypeGuard[list[int]]:
    return isinstance(values, list) and all(_is_id(value) for value in values)


def by_sizes(shape: Sequence[int]) -> str:
    """A shape as people write it."""
    return "×".join(map(str, shape)) or "a single number"
