"""A random Whisper of a few hundred kilobytes, made offline: every test of the loop runs on it in seconds."""

from __future__ import annotations

import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration

from govor.families.whisper.generation import generation_config
from govor.families.whisper.model import Whisper
from govor.families.whisper.tokens import LANGUAGES, WhisperTokens, build_tokenizer


def tiny(seed: int = 0, width: int = 64, layers: int = 2, n_mels: int = 80) -> Whisper:
    """Whisper's architecture at `width`, with one token per byte instead of a learned vocabulary."""
    tokens = WhisperTokens(build_tokenizer([bytes([byte]) for byte in range(256)], [], list(LANGUAGES[:99])))
    config = WhisperConfig(
        vocab_size=tokens.first_timestamp + 1501,
        num_mel_bins=n_mels,
        d_model=width,
        encoder_layers=layers,
        decoder_layers=layers,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=2 * width,
        decoder_ffn_dim=2 * width,
        pad_token_id=tokens.end,
        bos_token_id=tokens.end,
        eos_token_id=tokens.end,
        decoder_start_token_id=tokens.start,
        attn_implementation="sdpa",
    )
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    model = WhisperForConditionalGeneration(config)
    torch.set_rng_state(state)
    # A lone space cannot begin a text of learned pieces, so Whisper forbids it; here every text begins with it.
    settings = {"alignment_heads": [[layers - 1, head] for head in range(2)], "suppress_ids_begin": [tokens.end]}
    model.generation_config = generation_config(tokens, settings)
    return Whisper(model.eval(), tokens)
