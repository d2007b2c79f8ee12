"""Tokenizer and feature-extractor files beside the weights, for `transformers` and for vLLM."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

from govor.families.qwen3_asr.tokens import AUDIO_END, AUDIO_PAD, AUDIO_START, END_OF_TEXT, MESSAGE_END, QwenTokens
from govor.jsons import read_json, write_json
from govor.runs import Json

if TYPE_CHECKING:
    from transformers import Qwen2Tokenizer

_NAMED = {"audio_token": AUDIO_PAD, "audio_bos_token": AUDIO_START, "audio_eos_token": AUDIO_END}

# The prompt of `labels.py` for those who write it by template. What the assistant says stands between generation marks,
# so that a trainer that masks by them teaches the answer alone. Some servers put the audio's place into a plain string.
CHAT_TEMPLATE = (
    "{%- macro words(message) -%}"
    "{%- if message.content is string -%}{{- message.content -}}{%- else -%}"
    "{%- for part in message.content if part.type == 'text' -%}{{- part.text -}}{%- endfor -%}"
    "{%- endif -%}{%- endmacro -%}"
    "{{- '<|im_start|>system\\n' -}}"
    "{%- for message in messages if message.role == 'system' -%}{{- words(message) -}}{%- endfor -%}"
    "{{- '<|im_end|>\\n<|im_start|>user\\n' -}}"
    "{%- for message in messages if message.role == 'user' -%}"
    "{%- if message.content is string -%}"
    "{%- if '<|audio_pad|>' in message.content -%}{{- message.content -}}{%- endif -%}"
    "{%- else -%}"
    "{%- for part in message.content if part.type == 'audio' or 'audio' in part or 'audio_url' in part -%}"
    "{{- '<|audio_start|><|audio_pad|><|audio_end|>' -}}"
    "{%- endfor -%}{%- endif -%}{%- endfor -%}"
    "{{- '<|im_end|>\\n' -}}"
    "{%- for message in messages if message.role == 'assistant' -%}"
    "{{- '<|im_start|>assistant\\n' -}}"
    "{% generation %}{{- words(message) + '<|im_end|>' -}}{% endgeneration %}{{- '\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)


def save_processor(tokens: QwenTokens, n_mels: int, n_window: int, folder: Path) -> None:
    """What `Qwen3ASRProcessor` loads."""
    from transformers import Qwen3ASRFeatureExtractor, Qwen3ASRProcessor

    extractor = Qwen3ASRFeatureExtractor(feature_size=n_mels, n_window=n_window)
    tokenizer = _tokenizer(tokens, folder)
    Qwen3ASRProcessor(extractor, tokenizer, chat_template=CHAT_TEMPLATE).save_pretrained(folder)
    extractor.save_pretrained(folder)
    _keep(tokens.tokenizer, folder)


def save_thinker_processor(tokens: QwenTokens, n_mels: int, folder: Path) -> None:
    """The files of the older layout: vocabulary also as vocab.json and merges.txt, Whisper's feature extractor."""
    from transformers import WhisperFeatureExtractor

    _tokenizer(tokens, folder).save_pretrained(folder)
    _keep(tokens.tokenizer, folder)
    tokens.tokenizer.model.save(str(folder))
    WhisperFeatureExtractor(feature_size=n_mels, return_attention_mask=True).save_pretrained(folder)
    settings = read_json(folder / "preprocessor_config.json")
    write_json(folder / "preprocessor_config.json", {**settings, "processor_class": "Qwen3ASRProcessor"})
    write_json(folder / "chat_template.json", {"chat_template": CHAT_TEMPLATE})
    write_json(folder / "tokenizer_config.json", _older_tokenizer_config(tokens.tokenizer))


def _tokenizer(tokens: QwenTokens, folder: Path) -> Qwen2Tokenizer:
    from transformers import Qwen2Tokenizer

    folder.mkdir(parents=True, exist_ok=True)
    _keep(tokens.tokenizer, folder)
    return Qwen2Tokenizer.from_pretrained(
        folder, eos_token=MESSAGE_END, pad_token=END_OF_TEXT, extra_special_tokens=_NAMED
    )


def _keep(tokenizer: Tokenizer, folder: Path) -> None:
    """Our file has the last word: it is the one that the labels were made with."""
    tokenizer.save(str(folder / "tokenizer.json"))


def _older_tokenizer_config(tokenizer: Tokenizer) -> Json:
    """As `transformers` 4 wrote it; vLLM refuses a list of extra special tokens."""
    added = {
        str(index): {
            "content": token.content,
            "lstrip": token.lstrip,
            "normalized": token.normalized,
            "rstrip": token.rstrip,
            "single_word": token.single_word,
            "special": token.special,
        }
        for index, token in sorted(tokenizer.get_added_tokens_decoder().items())
    }
    return {
        "tokenizer_class": "Qwen2Tokenizer",
        "processor_class": "Qwen3ASRProcessor",
        "added_tokens_decoder": added,
        "additional_special_tokens": [token["content"] for token in added.values() if token["special"]],
        "extra_special_tokens": _NAMED,
        **_NAMED,
        "add_bos_token": False,
        "add_prefix_space": False,
        "bos_token": None,
        "eos_token": MESSAGE_END,
        "pad_token": END_OF_TEXT,
        "unk_token": None,
        "clean_up_tokenization_spaces": False,
        "errors": "replace",
        "model_max_length": 131072,
        "split_special_tokens": False,
    }
