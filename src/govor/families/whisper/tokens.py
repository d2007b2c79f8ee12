"""Whisper's vocabulary: which ids steer the decoder, and text to ids and back.

Layout of the multilingual vocabularies (51,865 ids; 51,866 with Cantonese in large-v3): 50,257 byte-pair tokens,
then end, start, one token per language, translate, transcribe, startoflm, startofprev, nospeech, notimestamps,
then 1,501 time tokens of 0.02 s.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers

from govor.corpus.samples import WINDOW_SECONDS
from govor.corpus.transcripts import TIME_STEP_SECONDS
from govor.errors import GovorError, nearest
from govor.families.vocabulary import (
    Merges,
    byte_pair_model,
    fingerprint,
    mended_merges,
    read_byte_pairs,
    tokenizer_state,
)
from govor.languages import base_code, language_key, without_spaces
from govor.runs import Json

END = "<|endoftext|>"
START = "<|startoftranscript|>"
PREVIOUS = "<|startofprev|>"
TRANSCRIBE = "<|transcribe|>"
NO_TIMESTAMPS = "<|notimestamps|>"
TIMESTAMP_COUNT = round(WINDOW_SECONDS / TIME_STEP_SECONDS) + 1

_CONTROL = re.compile(r"<\|[^|]*\|>")

# Fingerprints of the published vocabularies: the pieces by id, and the merges that follow from their ranks. Computed from
# the two rank files of OpenAI's own package.
_MULTILINGUAL = "7a1796f07fce01ae84cc2f83b9a72da17dc652ddc339cb113edcc4c60094f418"
_ENGLISH = "7cff19521369c7f5f5ed77ed7b730e7491800afb47d01d341e12b3ca740d8543"
_PUBLISHED = {_MULTILINGUAL: "91d7f6fc5cf04b90af7f92da4106cac3164c2c4c2c0bf37e21d6e528daab99de"}
# The same by the 5,000 pieces (12 digits each), to tell a vocabulary that was damaged from another one.
_BLOCK = 5_000
_BLOCKS = (
    "5736a5444f29", "d5ee6bc6b6be", "a5cf73edf5b1", "9ba196314d10", "cd59044c2e1c", "d7e5b9e5c8e5",
    "e578fc3b586b", "56d27e5cf3b2", "cf2242ff23d7", "6a2bce1e3f26", "9d077d8d166b",
)  # fmt: skip
# The languages of a published vocabulary: 99, and Cantonese since large-v3.
_PUBLISHED_LANGUAGES = (99, 100)

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
    """Ids of one Whisper vocabulary. `notes` say what was mended when it was loaded."""

    def __init__(self, tokenizer: Tokenizer, notes: Sequence[str] = ()) -> None:
        # A transcript that happens to contain "<|he|>" must stay text, not steer the decoder.
        tokenizer.encode_special_tokens = True
        self.tokenizer = tokenizer
        self.notes = tuple(notes)
        self.end = self._id(END)
        self.start = self._id(START)
        self.previous = self._id(PREVIOUS)
        self.transcribe = self._id(TRANSCRIBE)
        self.no_timestamps = self._id(NO_TIMESTAMPS)
        self.no_speech = self.no_timestamps - 1  # <|nospeech|>, which older vocabularies call <|nocaptions|>
        self.first_timestamp = self.no_timestamps + 1
        self.size = 1 + max(tokenizer.get_vocab(with_added_tokens=True).values())
        last = self.first_timestamp + TIMESTAMP_COUNT
        # Words that somebody added behind the published ids.
        self.added = frozenset(index for index in tokenizer.get_added_tokens_decoder() if index >= last)

    @classmethod
    def load(cls, folder: Path) -> WhisperTokens:
        """From `tokenizer.json`, or the older vocab.json and merges.txt; what is old is mended, with a note.

        Raises:
            GovorError: there is none, or it is not what a multilingual Whisper was trained with.
        """

        def older() -> Tokenizer:
            from transformers import WhisperTokenizer

            tokenizer: Tokenizer = WhisperTokenizer.from_pretrained(folder, local_files_only=True).backend_tokenizer
            return tokenizer

        return cls(*_checked(*tokenizer_state(folder, older)))

    def _id(self, token: str) -> int:
        index = self.tokenizer.token_to_id(token)
        if index is None:
            raise GovorError(f"The tokenizer has no {token}; a multilingual Whisper tokenizer was wanted.")
        return int(index)

    @cached_property
    def languages(self) -> dict[str, int]:
        """Language code → id, as far as this vocabulary goes."""
        ids = {code: self.tokenizer.token_to_id(f"<|{code}|>") for code in LANGUAGES}
        return {code: index for code, index in ids.items() if index is not None}

    def language(self, code: str) -> int:
        """The id of a language; an unknown one is refused with the nearest known."""
        index = self.languages.get(token_code(code))
        if index is None:
            raise GovorError(f"Whisper has no token for language '{code}'; {nearest(code, self.languages)}")
        return index

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
        encoding = self.tokenizer.encode(" " * added + stripped, add_special_tokens=False)
        return Encoded(encoding.ids, [start for start, _ in encoding.offsets], added)

    def timestamp(self, seconds: float) -> int:
        """The id of a time within a window, snapped to 0.02 s and held within 0…30 s."""
        steps = min(max(round(seconds / TIME_STEP_SECONDS), 0), TIMESTAMP_COUNT - 1)
        return self.first_timestamp + steps

    def text(self, ids: list[int]) -> str:
        """Plain text of generated ids; steering and time tokens are left out."""
        words = [i for i in ids if i < self.end or i in self.added]
        decoded: str = self.tokenizer.decode(words, skip_special_tokens=True)
        return decoded.strip()

    def steering_ids(self) -> list[int]:
        """Every id that greedy text decoding must not produce (all but text and the end token)."""
        return list(range(self.end + 1, self.first_timestamp))

    def never_text(self, rows: int) -> list[int]:
        """Every id that a text without times never holds, of a model with `rows` embeddings: what steers, the times, and
        rows that no token belongs to."""
        last = self.first_timestamp + TIMESTAMP_COUNT
        return [
            *self.steering_ids(),
            *range(self.first_timestamp, min(last, rows)),
            *sorted(self._nameless(last, rows)),
        ]

    def _nameless(self, last: int, rows: int) -> set[int]:
        return {index for index in range(last, rows) if index not in self.added}

    def prompt(self, language: str, previous: str | None = None, most: int = 223) -> list[int]:
        """What the decoder is given before it writes plain text: the last `most` tokens of the text before, if any."""
        before = self.text_ids(previous or "", language)[-most:]
        context = [self.previous, *before] if before else []
        return [*context, self.start, self.language(language), self.transcribe, self.no_timestamps]


def token_code(language: str) -> str:
    """What Whisper's vocabulary calls a language, however it is stated; its code where the vocabulary lacks it."""
    base = base_code(language)
    return base if base in LANGUAGES else _by_key().get(language_key(language), base)


@cache
def _by_key() -> dict[str, str]:
    return {language_key(code): code for code in reversed(LANGUAGES)}


def build_tokenizer(pieces: list[bytes], merges: Merges, languages: list[str] | None = None) -> Tokenizer:
    """A byte-level BPE tokenizer with Whisper's special tokens after `pieces`, the 1,501 times included."""
    tokenizer = Tokenizer(byte_pair_model(pieces, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    codes = LANGUAGES[:99] if languages is None else languages
    names = _steering_names(codes) + _time_names()
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    return tokenizer


def _steering_names(codes: Sequence[str]) -> list[str]:
    """In the order of their ids."""
    names = [END, START, *(f"<|{code}|>" for code in codes), "<|translate|>", TRANSCRIBE]
    return [*names, "<|startoflm|>", PREVIOUS, "<|nospeech|>", NO_TIMESTAMPS]


def _time_names() -> list[str]:
    return [f"<|{index * TIME_STEP_SECONDS:.2f}|>" for index in range(TIMESTAMP_COUNT)]


def _checked(state: Json, file: Path) -> tuple[Tokenizer, list[str]]:
    """A tokenizer file made anew from its pieces, merges and added tokens, and what was mended in it.

    The time tokens, which many published files leave out, are named without a note.

    Raises:
        GovorError: other pieces or control tokens than the model was trained with.
    """
    pieces, merges = read_byte_pairs(state, file)
    named = {str(token["content"]): int(token["id"]) for token in state.get("added_tokens") or ()}
    if END.encode() in pieces:  # some files list what steers among the pieces
        at = pieces.index(END.encode())
        named = {**{piece.decode("utf-8", "replace"): at + i for i, piece in enumerate(pieces[at:])}, **named}
        pieces = pieces[:at]
    mark = fingerprint(pieces)
    if mark == _ENGLISH:
        raise GovorError(
            f"{file.parent} is an English-only Whisper; a multilingual one, for example openai/whisper-base, was wanted."
        )
    if mark != _MULTILINGUAL and (other := _changed_blocks(pieces)):
        raise GovorError(
            f"{file} is Whisper's vocabulary with other pieces ({', '.join(other[:3])} are not the published ones), so the "
            "model would read and write wrong words; copy the tokenizer.json of its base into its place."
        )
    merges, notes = mended_merges(pieces, merges, _PUBLISHED, file)
    notes += _unusual(state, file)
    if "<|nocaptions|>" in named:  # what older files call it
        named["<|nospeech|>"] = named.pop("<|nocaptions|>")
    codes = _languages_of(named, mark == _MULTILINGUAL, file)
    steering = _steering_names(codes)
    wanted = {name: len(pieces) + index for index, name in enumerate([*steering, *_time_names()])}
    wrong = [(name, named[name]) for name in wanted if named.get(name, wanted[name]) != wanted[name]]
    taken = {index: name for name, index in wanted.items()}
    wrong += [(name, index) for name, index in named.items() if name not in wanted and index in taken]
    if wrong:
        name, index = wrong[0]
        meant = f"where {taken[index]} belongs" if index in taken else f"{wanted[name]} was wanted"
        raise GovorError(
            f"{file} gives '{name}' the id {index}, {meant} ({len(wrong):,} of its control tokens are misplaced); copy the "
            "tokenizer.json of the model's base into its place."
        )
    missing = [name for name in steering if name not in named]
    if missing and mark != _MULTILINGUAL:
        raise GovorError(f"The tokenizer {file} has no {missing[0]}; a multilingual Whisper tokenizer was wanted.")
    if missing:
        notes.append(f"{file} names {len(missing)} control tokens too few (first: {missing[0]}); named as published")
    tokenizer = build_tokenizer(pieces, merges, codes)
    words = [token for token in state.get("added_tokens") or () if int(token["id"]) not in taken]
    _add_words(tokenizer, words, file)
    return tokenizer, notes


def _changed_blocks(pieces: list[bytes]) -> list[str]:
    """Which ids differ from the published vocabulary, where others are the same; nothing of an altogether other one."""
    cut = [fingerprint(pieces[at : at + _BLOCK])[:12] for at in range(0, len(pieces), _BLOCK)]
    same = [block == known for block, known in zip(cut, _BLOCKS, strict=False)]
    if not any(same) or (all(same) and len(cut) == len(_BLOCKS)):
        return []
    ids = [f"ids {at * _BLOCK:,} to {(at + 1) * _BLOCK - 1:,}" for at, equal in enumerate(same) if not equal]
    return ids or [f"all after id {min(len(cut), len(_BLOCKS)) * _BLOCK - 1:,}"]


def _languages_of(named: dict[str, int], published: bool, file: Path) -> list[str]:
    """Codes in the order of their ids."""
    if published:
        count = 100 if "<|yue|>" in named else 99
        if START in named and "<|translate|>" in named:
            count = named["<|translate|>"] - named[START] - 1
        if count not in _PUBLISHED_LANGUAGES:
            raise GovorError(
                f"{file} leaves room for {count} languages, and Whisper has {' or '.join(map(str, _PUBLISHED_LANGUAGES))}; "
                "copy the tokenizer.json of the model's base into its place."
            )
        return LANGUAGES[:count]
    first, last = named.get(START), named.get("<|translate|>")
    if first is None or last is None:
        raise GovorError(f"The tokenizer {file} has no {START}; a multilingual Whisper tokenizer was wanted.")
    between = [name for name, index in sorted(named.items(), key=lambda item: item[1]) if first < index < last]
    return [name.strip("<|>") for name in between if name not in _steering_names(())]


def _unusual(state: Json, file: Path) -> list[str]:
    """Settings of a tokenizer file that no published Whisper has; the tokenizer is made without them."""
    before = state.get("pre_tokenizer") or {}
    names = [name for name in ("normalizer", "truncation", "padding") if state.get(name)]
    names += [name for name in ("dropout", "unk_token", "byte_fallback", "ignore_merges") if state["model"].get(name)]
    names += ["add_prefix_space"] if before.get("add_prefix_space") else []
    names += ["pre_tokenizer"] if before.get("type") != "ByteLevel" or before.get("use_regex") is False else []
    return [f"{file} sets {', '.join(names)}, which no Whisper was trained with; left out"] if names else []


def _add_words(tokenizer: Tokenizer, words: list[Json], file: Path) -> None:
    """Put back, under the same ids, what somebody added behind the published tokens.

    One that was added as special is a word like the others, or it could be neither taught nor written; one that is written
    as what steers (<|…|>) stays special.
    """
    for word in sorted(words, key=lambda token: int(token["id"])):
        flags = {key: bool(word.get(key)) for key in ("single_word", "lstrip", "rstrip", "normalized", "special")}
        flags["special"] &= _CONTROL.fullmatch(str(word["content"])) is not None
        tokenizer.add_tokens([AddedToken(str(word["content"]), **flags)])
        if tokenizer.token_to_id(word["content"]) != word["id"]:
            raise GovorError(
                f"{file} gives the added token '{word['content']}' the id {word['id']}, and the next free one is "
                f"{tokenizer.token_to_id(word['content'])}; add tokens without a gap behind the 1,501 times."
            )
