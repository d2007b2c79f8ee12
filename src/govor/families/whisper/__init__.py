"""Whisper, tiny … large-v3-turbo, through the `transformers` classes."""
