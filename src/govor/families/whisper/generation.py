"""How a Whisper is told to write: its generation_config.json, complete and right whatever the file said."""

from __future__ import annotations

from pathlib import Path

from transformers import GenerationConfig, WhisperConfig

from govor.errors import GovorError
from govor.families.whisper.tokens import WhisperTokens
from govor.jsons import read_json
from govor.runs import Json, Run

# What an earlier run or an older library told the model to write; it would hold for every clip.
_FORCED = ("forced_decoder_ids", "language", "task", "return_timestamps")
# (decoder layers, heads, mel bands) of the published models → heads whose attention follows the speech, as OpenAI
# published them. Two large models share a shape; theirs are measured by `govor align`.
_PUBLISHED_HEADS = {
    (4, 6, 80): [[2, 2], [3, 0], [3, 2], [3, 3], [3, 4], [3, 5]],
    (6, 8, 80): [[3, 1], [4, 2], [4, 3], [4, 7], [5, 1], [5, 2], [5, 4], [5, 6]],
    (12, 12, 80): [[5, 3], [5, 9], [8, 0], [8, 4], [8, 7], [8, 8], [9, 0], [9, 7], [9, 9], [10, 5]],
    (24, 16, 80): [[13, 15], [15, 4], [15, 15], [16, 1], [20, 0], [23, 4]],
    (32, 20, 128): [[7, 0], [10, 17], [12, 18], [13, 12], [16, 1], [17, 14], [19, 11], [21, 4], [24, 1], [25, 6]],
    (4, 20, 128): [[2, 4], [2, 11], [3, 3], [3, 6], [3, 11], [3, 14]],
}


def generation_config(tokens: WhisperTokens, settings: Json) -> GenerationConfig:
    """Language and task ids, suppressed ids and alignment heads; a lost one breaks exports and long-form decoding.

    Args:
        settings: suppress_ids, suppress_ids_begin and alignment_heads, as CTranslate2's config.json calls them.
    """
    config = GenerationConfig(
        bos_token_id=tokens.end,
        eos_token_id=tokens.end,
        pad_token_id=tokens.end,
        decoder_start_token_id=tokens.start,
        max_length=448,
        suppress_tokens=settings.get("suppress_ids", tokens.steering_ids()),
        begin_suppress_tokens=settings.get("suppress_ids_begin", _never_first(tokens)),
    )
    for name, value in _told_by(tokens).items():
        setattr(config, name, value)
    config.max_initial_timestamp_index = 50
    if settings.get("alignment_heads"):
        config.alignment_heads = settings["alignment_heads"]
    return config


def completed(folder: Path, tokens: WhisperTokens, config: WhisperConfig) -> tuple[GenerationConfig, list[str]]:
    """The generation config of a model folder with what is missing, wrong or left over mended, and notes of that.

    Args:
        config: the model's own configuration.

    Raises:
        GovorError: the file is no JSON object.
    """
    file = folder / "generation_config.json"
    stored = read_json(file) if file.exists() else {}
    if not isinstance(stored, dict):
        raise GovorError(
            f"{file} holds no JSON object; fetch the model again, or delete the file to have it made anew."
        )
    notes = [] if file.exists() else [f"{folder} has no generation_config.json; made from its tokenizer"]
    # A package of ours names its run's language for stock tools; what that is, its record says here.
    ours = ("language", "task") if Run(folder).packaged else ()
    forced = [name for name in _FORCED if stored.get(name) and name not in ours]
    if forced:
        texts = ", ".join(f"{name} = {stored[name]}" for name in forced)
        notes.append(f"{file} told the model what to write for every clip ({texts[:120]}); left out")
    heads = _heads(stored.get("alignment_heads"), config)
    settings = {
        "suppress_ids": _ids(stored.get("suppress_tokens"), config.vocab_size),
        "suppress_ids_begin": _begin(stored.get("begin_suppress_tokens"), tokens, config.vocab_size),
        "alignment_heads": heads,
    }
    made = generation_config(tokens, {name: value for name, value in settings.items() if value is not None})
    wanted = {
        **_told_by(tokens),
        "suppress_tokens": made.suppress_tokens,
        "begin_suppress_tokens": made.begin_suppress_tokens,
    }
    wanted |= {"alignment_heads": heads} if heads else {}
    lacking = [name for name in wanted if stored.get(name) is None]
    wrong = [name for name in wanted if name not in lacking and stored[name] != wanted[name]]
    if file.exists() and (lacking or wrong):
        what = [f"lacked {', '.join(lacking)}"] if lacking else []
        what += [f"had another {', '.join(wrong)}"] if wrong else []
        notes.append(f"{file} {' and '.join(what)}; mended from the tokenizer")
    return made, notes


def _told_by(tokens: WhisperTokens) -> Json:
    """What the tokenizer alone decides."""
    return {
        "is_multilingual": True,
        "lang_to_id": {f"<|{code}|>": index for code, index in tokens.languages.items()},
        "task_to_id": {"transcribe": tokens.transcribe, "translate": tokens.transcribe - 1},
        "no_timestamps_token_id": tokens.no_timestamps,
        "prev_sot_token_id": tokens.previous,
        "decoder_start_token_id": tokens.start,
        "eos_token_id": tokens.end,
        "pad_token_id": tokens.end,
        "bos_token_id": tokens.end,
    }


def _never_first(tokens: WhisperTokens) -> list[int]:
    """No text begins with its end, nor, in a vocabulary whose words carry their space, with a lone space."""
    space = tokens.tokenizer.token_to_id("Ġ")
    first = tokens.tokenizer.encode(" a", add_special_tokens=False).ids[0]
    return [tokens.end] if space is None or first == space else [space, tokens.end]


def _ids(value: object, rows: int) -> list[int] | None:
    """A list of token ids, or None where it is none."""
    if not isinstance(value, list) or not all(type(item) is int and 0 <= item < rows for item in value):
        return None
    return value


def _begin(value: object, tokens: WhisperTokens, rows: int) -> list[int] | None:
    """The stored ids, unless they are the defaults of the English models, which let a text end before it begins."""
    ids = _ids(value, rows)
    return ids if ids is not None and tokens.end in ids else None


def _heads(value: object, config: WhisperConfig) -> list[list[int]] | None:
    """The stored alignment heads where all exist, else the published ones of a model of this shape."""
    layers, heads = config.decoder_layers, config.decoder_attention_heads
    if isinstance(value, list) and value and all(_is_head(pair, layers, heads) for pair in value):
        return value
    return _PUBLISHED_HEADS.get((layers, heads, config.num_mel_bins))


def _is_head(pair: object, layers: int, heads: int) -> bool:
    return (
        isinstance(pair, list)
        and len(pair) == 2
        and all(type(number) is int for number in pair)
        and 0 <= pair[0] < layers
        and 0 <= pair[1] < heads
    )
