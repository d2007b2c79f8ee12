"""Whether the parts of a Whisper folder belong together: its sizes, its vocabulary, its feature extractor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from govor.audio import SAMPLE_RATE
from govor.errors import GovorError
from govor.families.whisper.features import FULL_FRAMES, HOP, WINDOW
from govor.families.whisper.tokens import WhisperTokens
from govor.jsons import read_json

# Rows of the published models: 99 languages, 100 since large-v3; the English-only ones have one token less.
_ROWS_ENGLISH, _ROWS_99, _ROWS_100 = 51_864, 51_865, 51_866
_EXTRACTOR = {"sampling_rate": SAMPLE_RATE, "hop_length": HOP, "n_fft": WINDOW, "chunk_length": 30}


def check_sizes(folder: Path, config: Any, tokens: WhisperTokens) -> list[str]:
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
    if 2 * config.max_source_positions != FULL_FRAMES:
        raise GovorError(
            f"The encoder of {folder} takes {config.max_source_positions} positions (max_source_positions of config.json) and "
            f"Whisper's 30 s window has {FULL_FRAMES // 2}; a model with the whole window was wanted."
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


def _mended_ids(folder: Path, config: Any, tokens: WhisperTokens) -> list[str]:
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
