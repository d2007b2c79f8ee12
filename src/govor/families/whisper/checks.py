"""Whether the parts of a Whisper folder belong together: its sizes, its weights, its vocabulary, its feature extractor.

Nothing here needs torch.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from govor.audio import SAMPLE_RATE
from govor.corpus.samples import WINDOW_SECONDS
from govor.errors import GovorError
from govor.families.checking import by_sizes, check_count, check_sizes
from govor.families.settings import Shapes
from govor.jsons import Record, read_json
from govor.mel import FRAMES_PER_SECOND, HOP, WINDOW
from govor.runs import Json

if TYPE_CHECKING:
    from transformers import WhisperConfig

    from govor.families.whisper.tokens import WhisperTokens

# Rows of the published models: 99 languages, 100 since large-v3; the English-only ones have one token less.
_ROWS_ENGLISH, _ROWS_99, _ROWS_100 = 51_864, 51_865, 51_866
_WINDOW_POSITIONS = int(WINDOW_SECONDS * FRAMES_PER_SECOND) // 2
_EXTRACTOR = {"sampling_rate": SAMPLE_RATE, "hop_length": HOP, "n_fft": WINDOW, "chunk_length": int(WINDOW_SECONDS)}

# `transformers` leaves out of config.json what equals its defaults.
_DEFAULTS = {
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
DEFAULT_VOCABULARY = _DEFAULTS["vocab_size"]
STEERING = ("<|endoftext|>", "<|startoftranscript|>", "<|transcribe|>", "<|notimestamps|>")


def check_model(config: Record, shapes: Shapes, folder: Path) -> None:
    """See `FamilySettings.check_model`."""
    check_weights(config, shapes, folder / "config.json")


def whisper_shapes(config: Json) -> Shapes:
    """Name and shape of every weight that a Whisper of this configuration has (the head is tied to the embeddings)."""
    sizes = {**_DEFAULTS, **{key: config[key] for key in _DEFAULTS if key in config}}
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


def check_weights(config: Json, shapes: Shapes, origin: Path) -> None:
    """Refuse weights of other shapes than a Whisper of this configuration has, and far fewer of them: what is missing would
    be made up, however much memory that takes. (Which of them are missing, the loader says.)

    Raises:
        GovorError: `origin` stands in the message.
    """
    check_sizes(origin, "", config)
    if config.get("max_source_positions", _WINDOW_POSITIONS) < _WINDOW_POSITIONS:
        raise GovorError(
            f"{origin}: max_source_positions is {config['max_source_positions']}, and a window of 30 s has {_WINDOW_POSITIONS}."
        )
    wanted = whisper_shapes(config)
    given = {name if name.startswith("model.") else f"model.{name}": shape for name, shape in shapes.items()}
    for name, shape in wanted.items():
        if given.get(name, shape) != shape:
            raise GovorError(
                f"{origin}: '{name}' is {by_sizes(given[name])}, and its sizes ask for {by_sizes(shape)}; fetch or train it again."
            )
    check_count(sum(map(math.prod, wanted.values())), shapes, origin)


def check_folder(folder: Path, config: WhisperConfig, tokens: WhisperTokens) -> list[str]:
    """Refuse a model whose configuration, tokenizer and feature extractor are of different models.

    Returns:
        notes of what was mended in `config`.

    Raises:
        GovorError: what was found, and what was wanted.
    """
    if config.vocab_size == _ROWS_ENGLISH and tokens.size <= _ROWS_ENGLISH:
        raise GovorError(
            f"{folder} is an English-only Whisper (a vocabulary of {_ROWS_ENGLISH:,}); a multilingual one, for example "
            "openai/whisper-base, was wanted."
        )
    if tokens.size > config.vocab_size:
        raise GovorError(
            f"The tokenizer in {folder} has {tokens.size:,} tokens and the model {config.vocab_size:,} rows: they are of "
            "different models; copy the tokenizer.json of the model's base into it."
        )
    published = config.vocab_size == _ROWS_100 or (config.num_mel_bins == 128 and config.vocab_size >= _ROWS_99)
    if published and tokens.size == _ROWS_99:
        raise GovorError(
            f"The tokenizer in {folder} knows 99 languages and the model, one of large-v3's kind, was trained with 100: every "
            "token that steers it would be off by one; copy the tokenizer.json of openai/whisper-large-v3 into it."
        )
    if config.max_source_positions != _WINDOW_POSITIONS:
        raise GovorError(
            f"The encoder of {folder} takes {config.max_source_positions} positions (max_source_positions of config.json) and "
            f"Whisper's 30 s window has {_WINDOW_POSITIONS}; a model with the whole window was wanted."
        )
    _check_extractor(folder, config.num_mel_bins)
    return _mended_ids(folder, config, tokens)


def _check_extractor(folder: Path, bands: int) -> None:
    """The features are ours; what the folder says of them must be the same, or other engines would hear other audio."""
    for file in (folder / "preprocessor_config.json", folder / "processor_config.json"):
        stored = read_json(file) if file.exists() else {}
        settings = stored.get("feature_extractor", stored) if isinstance(stored, dict) else {}
        if not isinstance(settings, dict):
            continue
        for name, wanted in {**_EXTRACTOR, "feature_size": bands}.items():
            if settings.get(name, wanted) != wanted:
                raise GovorError(
                    f"{file} says {name} = {settings[name]} and the model needs {wanted}; copy the file of the model's base "
                    "into its place."
                )


def _mended_ids(folder: Path, config: WhisperConfig, tokens: WhisperTokens) -> list[str]:
    """The ids that begin, end and pad a text are the tokenizer's."""
    wanted = {
        "decoder_start_token_id": tokens.start,
        "eos_token_id": tokens.end,
        "bos_token_id": tokens.end,
        "pad_token_id": tokens.end,
    }
    wrong = [name for name in wanted if getattr(config, name, None) != wanted[name]]
    for name in wrong:
        setattr(config, name, wanted[name])
    # Whisper pads with its end token; files that pad with another one are common and mean no harm.
    telling = [name for name in wrong if name in ("decoder_start_token_id", "eos_token_id")]
    return [f"{folder / 'config.json'} had another {', '.join(telling)}; taken from the tokenizer"] if telling else []
