"""Whisper's vocabulary: which ids steer the decoder, and text to ids and back.

Layout of the multilingual vocabularies (51,865 ids; 51,866 with Cantonese in large-v3): 50,257 byte-pair tokens,
then end, start, one token per language, translate, transcribe, startoflm, startofprev, nospeech, notimestamps,
then 1,501 time tokens of 0.02 s.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers

from govor.corpus.alike import without_spaces
from govor.errors import GovorError, nearest
from govor.families.vocabulary import byte_pair_model

END = "<|endoftext|>"
START = "<|startoftranscript|>"
PREVIOUS = "<|startofprev|>"
TRANSCRIBE = "<|transcribe|>"
NO_TIMESTAMPS = "<|notimestamps|>"
TIMESTAMP_STEP_SECONDS = 0.02
TIMESTAMP_COUNT = 1501

# The order is the order of the ids.
LANGUAGES = [
    "en",
    "zh",
    "de",
    "es",
    "ru",
    "ko",
    "fr",
    "ja",
    "pt",
    "tr",
    "pl",
    "ca",
    "nl",
    "ar",
    "sv",
    "it",
    "id",
    "hi",
    "fi",
    "vi",
    "he",
    "uk",
    "el",
    "ms",
    "cs",
    "ro",
    "da",
    "hu",
    "ta",
    "no",
    "th",
    "ur",
    "hr",
    "bg",
    "lt",
    "la",
    "mi",
    "ml",
    "cy",
    "sk",
    "te",
    "fa",
    "lv",
    "bn",
    "sr",
    "az",
    "sl",
    "kn",
    "et",
    "mk",
    "br",
    "eu",
    "is",
    "hy",
    "ne",
    "mn",
    "bs",
    "kk",
    "sq",
    "sw",
    "gl",
    "mr",
    "pa",
    "si",
    "km",
    "sn",
    "yo",
    "so",
    "af",
    "oc",
    "ka",
    "be",
    "tg",
    "sd",
    "gu",
    "am",
    "yi",
    "lo",
    "uz",
    "fo",
    "ht",
    "ps",
    "tk",
    "nn",
    "mt",
    "sa",
    "lb",
    "my",
    "bo",
    "tl",
    "mg",
    "as",
    "tt",
    "haw",
    "ln",
    "ha",
    "ba",
    "jw",
    "su",
    "yue",
]


@dataclass(frozen=True, slots=True)
class Encoded:
    """Ids of a text, the character where each begins, and how many spaces were put before the text."""

    ids: list[int]
    starts: list[int]
    added: int


class WhisperTokens:
    """Ids of one Whisper vocabulary."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        # A transcript that happens to contain "<|he|>" must stay text, not steer the decoder.
        tokenizer.encode_special_tokens = True
        self.tokenizer = tokenizer
        self.end = self._id(END)
        self.start = self._id(START)
        self.previous = self._id(PREVIOUS)
        self.transcribe = self._id(TRANSCRIBE)
        self.no_timestamps = self._id(NO_TIMESTAMPS)
        self.no_speech = self.no_timestamps - 1  # <|nospeech|>, which older vocabularies call <|nocaptions|>
        self.first_timestamp = self.no_timestamps + 1

    @classmethod
    def load(cls, folder: Path) -> WhisperTokens:
        """From `tokenizer.json`, or the older vocab.json and merges.txt."""
        file = folder / "tokenizer.json"
        if file.exists():
            return cls(Tokenizer.from_file(str(file)))
        if (folder / "vocab.json").exists():
            from transformers import WhisperTokenizer

            return cls(WhisperTokenizer.from_pretrained(folder).backend_tokenizer)
        raise GovorError(f"{folder} holds no tokenizer.json; copy the one of the model's base into it.")

    def _id(self, token: str) -> int:
        found = self.tokenizer.token_to_id(token)
        if found is None:
            raise GovorError(f"The tokenizer has no {token}; a multilingual Whisper tokenizer was wanted.")
        return int(found)

    @cached_property
    def languages(self) -> dict[str, int]:
        """Language code → id, as far as this vocabulary goes."""
        ids = {code: self.tokenizer.token_to_id(f"<|{code}|>") for code in LANGUAGES}
        return {code: found for code, found in ids.items() if found is not None}

    def language(self, code: str) -> int:
        """The id of a language; an unknown one is refused with the nearest known."""
        found = self.languages.get(code)
        if found is None:
            raise GovorError(f"Whisper has no token for language '{code}'; {nearest(code, self.languages)}")
        return found

    def text_ids(self, text: str, language: str) -> list[int]:
        """Ids of plain text, with the leading space that the pre-training had."""
        return self.encode(text, language).ids

    def encode(self, text: str, language: str) -> Encoded:
        """Ids of plain text, and where in the stripped text each begins."""
        stripped = text.strip()
        if not stripped:
            return Encoded([], [], 0)
        # Whisper was trained on text that begins with a space, except where a language writes none.
        added = 0 if without_spaces(language) else 1
        found = self.tokenizer.encode(" " * added + stripped, add_special_tokens=False)
        return Encoded(found.ids, [start for start, _ in found.offsets], added)

    def timestamp(self, seconds: float) -> int:
        """The id of a time within a window, snapped to 0.02 s and held within 0…30 s."""
        steps = min(max(round(seconds / TIMESTAMP_STEP_SECONDS), 0), TIMESTAMP_COUNT - 1)
        return self.first_timestamp + steps

    def text(self, ids: list[int]) -> str:
        """Plain text of generated ids; steering and time tokens are left out."""
        decoded: str = self.tokenizer.decode([i for i in ids if i < self.end], skip_special_tokens=True)
        return decoded.strip()

    def steering_ids(self) -> list[int]:
        """Every id that greedy text decoding must not produce (all but text and the end token)."""
        return list(range(self.end + 1, self.first_timestamp))

    def prompt(self, language: str, previous: str | None = None, most: int = 223) -> list[int]:
        """What the decoder is given before it writes plain text: the last `most` tokens of the text before, if any."""
        before = self.text_ids(previous or "", language)[-most:]
        told = [self.previous, *before] if before else []
        return [*told, self.start, self.language(language), self.transcribe, self.no_timestamps]


def build_tokenizer(
    pieces: list[bytes], merges: list[tuple[bytes, bytes]], languages: list[str] | None = None
) -> Tokenizer:
    """A byte-level BPE tokenizer with Whisper's special tokens after `pieces`."""
    tokenizer = Tokenizer(byte_pair_model(pieces, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    codes = LANGUAGES[:99] if languages is None else languages
    names = [END, START, *(f"<|{code}|>" for code in codes), "<|translate|>", TRANSCRIBE]
    names += ["<|startoflm|>", PREVIOUS, "<|nospeech|>", NO_TIMESTAMPS]
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    add_timestamp_tokens(tokenizer)
    return tokenizer


def add_timestamp_tokens(tokenizer: Tokenizer) -> None:
    """Name the 1,501 time tokens; many published tokenizer.json files leave them out."""
    names = [f"<|{index * TIMESTAMP_STEP_SECONDS:.2f}|>" for index in range(TIMESTAMP_COUNT)]
    missing = [name for name in names if tokenizer.token_to_id(name) is None]
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in missing])


def recover_merges(pieces: list[bytes]) -> list[tuple[bytes, bytes]]:
    """The merges of a rank-ordered byte-pair vocabulary: each piece is the join of its two last parts.

    Source: the construction of tiktoken vocabularies, where a piece's id is its merge rank.
    """
    ranks = {piece: index for index, piece in enumerate(pieces)}
    merges = []
    for rank, piece in enumerate(pieces):
        if len(piece) < 2:
            continue
        parts = [bytes([byte]) for byte in piece]
        while len(parts) > 2:
            joined = [ranks.get(a + b, rank) for a, b in itertools.pairwise(parts)]
            lowest = min(joined)
            if lowest >= rank:
                break
            at = joined.index(lowest)
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        if len(parts) == 2:
            merges.append((parts[0], parts[1]))
    return merges
