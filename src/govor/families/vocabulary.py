"""Byte-level byte-pair vocabularies, which both families' tokenizers are."""

from __future__ import annotations

from functools import cache

from tokenizers import models


def byte_pair_model(pieces: list[bytes], merges: list[tuple[bytes, bytes]]) -> models.BPE:
    """The model of a vocabulary of byte strings, in the order of their ids."""
    return models.BPE(
        vocab={_spell(piece): index for index, piece in enumerate(pieces)},
        merges=[(_spell(left), _spell(right)) for left, right in merges],
    )


def _spell(piece: bytes) -> str:
    letters = byte_letters()
    return "".join(letters[byte] for byte in piece)


@cache
def byte_letters() -> list[str]:
    """The printable letter that byte-level BPE writes for each byte: itself, or the next from U+0100 on."""
    themselves = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in themselves else next(others)) for byte in range(256)]
