"""The older `thinker.*` layout of Qwen3-ASR, which its authors published and vLLM reads, from and to the native one.

| thinker layout | native layout |
|---|---|
| thinker.audio_tower.proj1, proj2 | model.multi_modal_projector.linear_1, linear_2 |
| thinker.audio_tower.* | model.audio_tower.* |
| thinker.model.* | model.language_model.* |
| thinker.lm_head.* | lm_head.* |

Its configuration nests everything below `thinker_config`, and its rotary positions are three-fold (mrope). For audio and
text all three are equal, which makes them the ordinary ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import GenerationConfig, Qwen3ASRConfig, Qwen3ASRForConditionalGeneration

from govor.errors import GovorError
from govor.families.loading import check_complete
from govor.families.qwen3_asr.languages import PRETRAINED, language_name
from govor.families.qwen3_asr.tokens import QwenTokens
from govor.files import shortened
from govor.jsons import read_json, write_json
from govor.runs import Json

Weights = dict[str, torch.Tensor]

# The order matters: the first prefix that fits is taken.
_PREFIXES = (
    ("thinker.audio_tower.proj1.", "model.multi_modal_projector.linear_1."),
    ("thinker.audio_tower.proj2.", "model.multi_modal_projector.linear_2."),
    ("thinker.audio_tower.", "model.audio_tower."),
    ("thinker.model.", "model.language_model."),
    ("thinker.lm_head.", "lm_head."),
)
HEAD = "lm_head.weight"
EMBEDDINGS = "model.language_model.embed_tokens.weight"

_AUDIO_KEYS = (
    *("num_mel_bins", "encoder_layers", "encoder_attention_heads", "encoder_ffn_dim", "d_model", "dropout"),
    *("attention_dropout", "activation_function", "activation_dropout", "scale_embedding", "initializer_range"),
    *("n_window", "n_window_infer", "output_dim", "downsample_hidden_size"),
)
_TEXT_KEYS = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "head_dim", "hidden_act", "max_position_embeddings", "initializer_range"),
    *("rms_norm_eps", "use_cache", "attention_bias", "attention_dropout"),
)


def read_config(folder: Path) -> Qwen3ASRConfig:
    """The configuration of a folder in either layout, as the native one.

    Raises:
        GovorError: no configuration, or that of another model.
    """
    if not (folder / "config.json").exists():
        raise GovorError(f"{folder} holds no config.json; it is no model in the transformers layout.")
    stored = read_json(folder / "config.json")
    if stored.get("model_type") != "qwen3_asr":
        raise GovorError(f"{folder} is a '{stored.get('model_type')}' model; a Qwen3-ASR one was wanted.")
    thinker = stored.get("thinker_config")
    if "classify_num" in (thinker or {}) or "Qwen3ASRForTokenClassification" in (stored.get("architectures") or ()):
        raise GovorError(f"{folder} is a forced aligner, which writes no text; a recogniser was wanted.")
    if thinker is None:
        return Qwen3ASRConfig.from_dict(stored)
    return _native_config(thinker)


def is_thinker(folder: Path) -> bool:
    """Whether a folder has the older layout."""
    return "thinker_config" in read_json(folder / "config.json")


def load_thinker(
    folder: Path, tokens: QwenTokens, dtype: torch.dtype, **options: object
) -> Qwen3ASRForConditionalGeneration:
    """The model of a folder in the older layout; `options` go to `from_pretrained`.

    The head is tied to the embeddings unless the file holds another one.
    """
    config = read_config(folder)
    config.pad_token_id, config.eos_token_id = tokens.end, [tokens.end_of_text, tokens.end]
    weights = native_names(_read_weights(folder))
    head, embeddings = weights.get(HEAD), weights.get(EMBEDDINGS)
    tied = head is None or (embeddings is not None and torch.equal(head, embeddings))
    config.tie_word_embeddings = config.text_config.tie_word_embeddings = tied
    if tied:
        weights.pop(HEAD, None)
    module = assemble(config, weights, dtype, folder, **options)
    if (folder / "generation_config.json").exists():
        module.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)
    else:
        module.generation_config = generation_config(tokens)
    return module


def assemble(
    config: Qwen3ASRConfig, weights: Weights, dtype: torch.dtype, origin: Path, **options: object
) -> Qwen3ASRForConditionalGeneration:
    """A model made of a configuration and weights under native names, tied ones once.

    It takes over the tensors that have `dtype` already.

    Raises:
        GovorError: a weight is missing, unknown or of another shape; `origin` stands in the message.
    """
    module, report = Qwen3ASRForConditionalGeneration.from_pretrained(
        None,
        config=config,
        state_dict=weights,
        dtype=dtype,
        attn_implementation="sdpa",
        ignore_mismatched_sizes=True,
        output_loading_info=True,
        **options,
    )
    check_complete(report, origin)
    return module


def write_thinker(
    module: Qwen3ASRForConditionalGeneration, tokens: QwenTokens, languages: Sequence[str], folder: Path
) -> None:
    """config.json, generation_config.json and model.safetensors in the older layout."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", _thinker_config(module, tokens, languages))
    module.generation_config.save_pretrained(folder)
    save_file(thinker_names(module), folder / "model.safetensors", metadata={"format": "pt"})


def native_names(weights: Weights) -> Weights:
    """Weights under the native names; what has none keeps its own."""
    return {_renamed(name, _PREFIXES): tensor for name, tensor in weights.items()}


def thinker_names(module: Qwen3ASRForConditionalGeneration) -> Weights:
    """The weights of a model under the older names, each a tensor of its own.

    The head is written even where it is tied to the embeddings, as in the published files.
    """
    backwards = tuple((native, thinker) for thinker, native in _PREFIXES)
    weights: Weights = {}
    for name, tensor in module.state_dict().items():
        own = tensor.detach().clone() if name == HEAD else tensor.detach()
        weights[_renamed(name, backwards)] = own.contiguous()
    return weights


def _renamed(name: str, prefixes: tuple[tuple[str, str], ...]) -> str:
    for old, new in prefixes:
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


def _read_weights(folder: Path) -> Weights:
    single = folder / "model.safetensors"
    files = [single]
    if not single.exists():
        shards = read_json(folder / "model.safetensors.index.json")["weight_map"].values()
        # A name in an index is data: only files of the folder itself are read.
        files = [folder / Path(name).name for name in sorted(set(shards))]
    weights: Weights = {}
    for file in files:
        weights.update(load_file(file))
    return weights


def _native_config(thinker: Json) -> Qwen3ASRConfig:
    audio, text = thinker.get("audio_config") or {}, thinker.get("text_config") or {}
    wanted = [key for key in ("d_model", "output_dim", "encoder_layers") if key not in audio]
    wanted += [key for key in ("hidden_size", "num_hidden_layers", "vocab_size") if key not in text]
    if wanted:
        raise GovorError(f"thinker_config lacks {', '.join(wanted)}; the config.json is not complete.")
    rope = text.get("rope_scaling") or text.get("rope_parameters") or {}
    theta = text.get("rope_theta", rope.get("rope_theta"))
    if theta is None:
        raise GovorError("thinker_config.text_config states no rope_theta; the config.json is not complete.")
    if rope.get("rope_type", "default") not in ("default", "mrope"):
        raise GovorError(
            f"thinker_config scales its positions by '{shortened(rope['rope_type'])}'; only the default is known."
        )
    tied = bool(text.get("tie_word_embeddings", True))
    return Qwen3ASRConfig(
        # Keys that neither side gives keep the defaults, which are those of the published models.
        audio_config={key: audio[key] for key in _AUDIO_KEYS if key in audio},
        text_config={
            **{key: text[key] for key in _TEXT_KEYS if key in text},
            "tie_word_embeddings": tied,
            "rope_parameters": {"rope_type": "default", "rope_theta": float(theta)},
        },
        tie_word_embeddings=tied,
        **{key: thinker[key] for key in ("audio_token_id", "initializer_range") if key in thinker},
    )


def _thinker_config(module: Qwen3ASRForConditionalGeneration, tokens: QwenTokens, languages: Sequence[str]) -> Json:
    config = module.config
    audio, text = config.audio_config, config.text_config
    half = text.head_dim // 2
    third = half * 5 // 16  # 20 of 64 frequencies, as published
    return {
        "architectures": ["Qwen3ASRForConditionalGeneration"],
        "model_type": "qwen3_asr",
        "support_languages": sorted({language_name(item) for item in (*PRETRAINED, *languages)}),
        "thinker_config": {
            "model_type": "qwen3_asr_thinker",
            "audio_config": {
                "model_type": "qwen3_asr_audio_encoder",
                **{key: getattr(audio, key) for key in _AUDIO_KEYS},
                # Of the published files; readers make their table of positions and their batches with them.
                "max_source_positions": 1500,
                "conv_chunksize": 500,
            },
            "text_config": {
                "model_type": "qwen3",
                **{key: getattr(text, key) for key in _TEXT_KEYS},
                "tie_word_embeddings": config.tie_word_embeddings,
                "rope_theta": text.rope_parameters["rope_theta"],
                "rope_scaling": {
                    "rope_type": "default",
                    "type": "default",
                    "mrope_interleaved": True,
                    "interleaved": True,
                    "mrope_section": [half - 2 * third, third, third],
                },
            },
            "audio_token_id": tokens.audio_pad,
            "audio_start_token_id": tokens.audio_start,
            "audio_end_token_id": tokens.audio_end,
            "initializer_range": config.initializer_range,
            "dtype": str(module.dtype).removeprefix("torch."),
        },
    }


def generation_config(tokens: QwenTokens) -> GenerationConfig:
    """How `transformers` shall generate: greedily, ended by either end token."""
    ends = [tokens.end_of_text, tokens.end]
    return GenerationConfig(
        eos_token_id=ends, pad_token_id=tokens.end, do_sample=False, max_new_tokens=512, use_cache=True
    )
