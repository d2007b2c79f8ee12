"""Qwen3-ASR, 0.6B and 1.7B, through the `transformers` classes."""
