"""A random Qwen3-ASR of a few hundred kilobytes, made offline: every test of the family runs on it in seconds."""

from __future__ import annotations

import torch
from transformers import Qwen3ASRConfig, Qwen3ASRForConditionalGeneration

from govor.families.qwen3_asr.convert import generation_config
from govor.families.qwen3_asr.model import Qwen3Asr
from govor.families.qwen3_asr.tokens import QwenTokens, build_tokenizer

# The published 0.02 fits a width of 2,048; at a width of 64 a head that small could never be sure of a token.
_INITIAL_STD = 0.1


def tiny(seed: int = 0, width: int = 64, layers: int = 2, n_mels: int = 128, tied: bool = True) -> Qwen3Asr:
    """Qwen3-ASR's architecture at `width`, with one token per byte instead of a learned vocabulary.

    As in the real ones two query heads share a key head, the head is tied to the embeddings, and the vocabulary has
    rows without a token.
    """
    tokens = QwenTokens(build_tokenizer([bytes([byte]) for byte in range(256)], []))
    config = Qwen3ASRConfig(
        audio_config={
            "num_mel_bins": n_mels,
            "d_model": width,
            "encoder_layers": layers,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 2 * width,
            "downsample_hidden_size": 8,
            "output_dim": width,
            "initializer_range": _INITIAL_STD,
        },
        text_config={
            "vocab_size": 272,
            "hidden_size": width,
            "intermediate_size": 2 * width,
            "num_hidden_layers": layers,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "max_position_embeddings": 4096,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0},
            "tie_word_embeddings": tied,
            "initializer_range": _INITIAL_STD,
        },
        audio_token_id=tokens.audio_pad,
        pad_token_id=tokens.end,
        eos_token_id=[tokens.end_of_text, tokens.end],
        tie_word_embeddings=tied,
        initializer_range=_INITIAL_STD,
        attn_implementation="sdpa",
    )
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    model = Qwen3ASRForConditionalGeneration(config)
    torch.set_rng_state(state)
    model.generation_config = generation_config(tokens)
    return Qwen3Asr(model.eval(), tokens)
