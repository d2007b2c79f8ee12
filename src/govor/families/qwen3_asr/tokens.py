"""Qwen3-ASR's vocabulary: which ids steer the model, and text to ids and back.

151,643 byte-pair tokens, then the added ones: <|endoftext|> 151643, <|im_start|> 151644, <|im_end|> 151645,
<|audio_start|> 151669, <|audio_end|> 151670, <|audio_pad|> 151676, <asr_text> 151704. Both end-of-text and
end-of-message end a text. The embedding has 151,936 rows, so some ids have no token.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers

from govor.errors import GovorError
from govor.families.vocabulary import (
    Merges,
    byte_pair_model,
    mended_merges,
    read_byte_pairs,
    spelled_merges,
    tokenizer_state,
)

END_OF_TEXT = "<|endoftext|>"
MESSAGE_START = "<|im_start|>"
MESSAGE_END = "<|im_end|>"
AUDIO_START = "<|audio_start|>"
AUDIO_END = "<|audio_end|>"
AUDIO_PAD = "<|audio_pad|>"
ASR_TEXT = "<asr_text>"
NO_SPEECH = "None"

# Fingerprint of the 151,643 published pieces → of the merges that follow from their ranks.
_PUBLISHED = {
    "33bc5cb3ea15d95094254600052ea2af5a2b1f2329fe534700587ac0e40a8b2d": "cef5daad934d456e90042cbe11f6129882765c035f95a2b85885561adcfef958",
}

# All that the published tokenizers add are written so: <|im_start|>, <asr_text>, <tool_call>.
_CONTROL = re.compile(r"<[^<>]*>")

# Qwen2's splitting rule: contractions, words with the sign before them, single digits, punctuation, line ends, blanks.
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class QwenTokens:
    """Ids of one Qwen3-ASR vocabulary. Every text is encoded as text: what spells a special token stays letters."""

    def __init__(self, tokenizer: Tokenizer, notes: Sequence[str] = ()) -> None:
        self.tokenizer = tokenizer
        self.notes = tuple(notes)
        self.end_of_text = self._id(END_OF_TEXT)
        self.message_start = self._id(MESSAGE_START)
        self.end = self._id(MESSAGE_END)
        self.audio_start = self._id(AUDIO_START)
        self.audio_end = self._id(AUDIO_END)
        self.audio_pad = self._id(AUDIO_PAD)
        self.asr_text = self._id(ASR_TEXT)
        # Words that somebody added are text like any other.
        added = tokenizer.get_added_tokens_decoder()
        self.added = frozenset(index for index, token in added.items() if _CONTROL.fullmatch(token.content))
        self.size = 1 + max(tokenizer.get_vocab(with_added_tokens=True).values())
        self._plain = _without_control_tokens(tokenizer)
        # A tokenizer numbers what is added without a gap, so there these have other ids.
        self._words = {
            index: self._id(token.content) for index, token in self._plain.get_added_tokens_decoder().items()
        }

    @classmethod
    def load(cls, folder: Path) -> QwenTokens:
        """From `tokenizer.json`, or the older vocab.json and merges.txt; lost merges are put back, with a note.

        Raises:
            GovorError: there is none, or it is not what a Qwen3-ASR model was trained with.
        """

        def older() -> Tokenizer:
            from transformers import Qwen2Tokenizer

            tokenizer: Tokenizer = Qwen2Tokenizer.from_pretrained(folder, local_files_only=True).backend_tokenizer
            return tokenizer

        state, file = tokenizer_state(folder, older)
        pieces, merges = read_byte_pairs(state, file)
        right, notes = mended_merges(pieces, merges, _PUBLISHED, file)
        if right is not merges:
            state["model"]["merges"] = spelled_merges(right)
        for token in state.get("added_tokens") or ():  # decoders that skip special tokens would lose a word
            token["special"] = bool(token.get("special")) and _CONTROL.fullmatch(str(token["content"])) is not None
        return cls(Tokenizer.from_str(json.dumps(state)), notes)

    def _id(self, token: str) -> int:
        index = self.tokenizer.token_to_id(token)
        if index is None:
            raise GovorError(f"The tokenizer has no {token}; the tokenizer of a Qwen3-ASR model was wanted.")
        return int(index)

    def text_ids(self, text: str) -> list[int]:
        """Ids of text as it stands, without a leading space of its own."""
        ids: list[int] = self._plain.encode(text, add_special_tokens=False).ids
        return [self._words.get(index, index) for index in ids]

    def text(self, ids: list[int]) -> str:
        """Plain text of generated ids; control tokens are left out."""
        decoded: str = self.tokenizer.decode([i for i in ids if i not in self.added], skip_special_tokens=False)
        return decoded.strip()

    def parse(self, ids: list[int]) -> tuple[str | None, str]:
        """(language name, text) of "language X<asr_text>TEXT" as the model writes it when it was given no language.

        "language None<asr_text>" is what it says of audio without speech: no language and, as a rule, no text. Without
        <asr_text> everything is text.
        """
        if self.asr_text not in ids:
            return None, self.text(ids)
        at = ids.index(self.asr_text)
        name = self.text(ids[:at]).removeprefix("language").strip()
        return (None if name in ("", NO_SPEECH) else name), self.text(ids[at + 1 :])

    def never_written(self) -> list[int]:
        """Control tokens that are no part of an answer: all but the two ends and <asr_text>."""
        return sorted(self.added - {self.end, self.end_of_text, self.asr_text})


def build_tokenizer(pieces: list[bytes], merges: Merges) -> Tokenizer:
    """A byte-level BPE tokenizer that splits as Qwen2's, with the special tokens that Qwen3-ASR needs after `pieces`."""
    tokenizer = Tokenizer(byte_pair_model(pieces, merges))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [END_OF_TEXT, MESSAGE_START, MESSAGE_END, AUDIO_START, AUDIO_END, AUDIO_PAD]
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in special])
    # Not special in the published tokenizers: decoders that skip special tokens must keep it, they split at it.
    tokenizer.add_tokens([AddedToken(ASR_TEXT, special=False, normalized=False)])
    return tokenizer


def _without_control_tokens(tokenizer: Tokenizer) -> Tokenizer:
    """A copy that knows text alone, words that somebody added among it.

    `encode_special_tokens` would not do: <asr_text> is an added token but not a special one.
    """
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if not _CONTROL.fullmatch(token["content"])]
    return Tokenizer.from_str(json.dumps(state))
