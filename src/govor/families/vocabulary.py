"""Byte-level byte-pair vocabularies, which both families' tokenizers are: made, read back and mended.

In such a vocabulary a piece's id is the rank of the merge that makes it, so the merges follow from the pieces. That is
how a tokenizer file that lost some is found out and mended.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path

from tokenizers import Tokenizer, models

from govor.errors import GovorError
from govor.families.checking import check_tokenizer
from govor.runs import Json

Merges = list[tuple[bytes, bytes]]


def byte_pair_model(pieces: list[bytes], merges: Merges) -> models.BPE:
    """The model of a vocabulary of byte strings, in the order of their ids."""
    return models.BPE(
        vocab={_spell(piece): index for index, piece in enumerate(pieces)},
        merges=[(left, right) for left, right in spelled_merges(merges)],
    )


def recover_merges(pieces: list[bytes]) -> Merges:
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


def read_byte_pairs(state: Json, file: Path) -> tuple[list[bytes], Merges]:
    """Pieces by id and merges of a `tokenizer.json`, added tokens left out.

    Raises:
        GovorError: it is no byte-level byte-pair vocabulary, or its ids have holes.
    """
    model = state.get("model")
    if (
        not isinstance(model, Mapping)
        or model.get("type", "BPE") != "BPE"
        or not isinstance(model.get("vocab"), Mapping)
    ):
        raise GovorError(
            f"{file} is no byte-pair tokenizer; copy the tokenizer.json of the model's base into its place."
        )
    added = {str(token.get("content")) for token in state.get("added_tokens") or () if isinstance(token, Mapping)}
    vocabulary = model["vocab"]
    by_id = sorted((index, text) for text, index in vocabulary.items() if text not in added)
    if not by_id or [index for index, _ in by_id] != list(range(len(by_id))):
        raise GovorError(
            f"The vocabulary of {file} does not number its {len(by_id):,} pieces from 0 without a hole; copy the "
            "tokenizer.json of the model's base into its place."
        )
    bytes_of = {letter: byte for byte, letter in enumerate(byte_letters())}
    try:
        pieces = [bytes(bytes_of[letter] for letter in text) for _, text in by_id]
        merges = []
        for merge in model.get("merges") or ():
            left, right = merge.split(" ") if isinstance(merge, str) else merge
            merges.append((bytes(bytes_of[x] for x in left), bytes(bytes_of[x] for x in right)))
    except (KeyError, ValueError, TypeError) as error:
        raise GovorError(
            f"{file} is no byte-level tokenizer ({type(error).__name__}: {error}); copy the tokenizer.json of the model's "
            "base into its place."
        ) from None
    return pieces, merges


def fingerprint(parts: Iterable[bytes]) -> str:
    """Hex sha256 over byte strings, each with its length before it."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(4, "little") + part)
    return digest.hexdigest()


def mended_merges(
    pieces: list[bytes], merges: Merges, published: Mapping[str, str], file: Path
) -> tuple[Merges, list[str]]:
    """The merges that the pieces' ranks ask for, with a note where the file had others.

    Args:
        published: fingerprint of the pieces → fingerprint of the merges, of the vocabularies that are known.

    Raises:
        GovorError: pieces of a vocabulary that is not known can never be written, and its ranks do not say how.
    """
    wanted = published.get(fingerprint(pieces))
    if wanted is not None:
        if fingerprint(itertools.chain.from_iterable(merges)) == wanted:
            return merges, []
        return _compared(merges, recover_merges(pieces), file)
    made = {left + right for left, right in merges}
    unmade = [piece for piece in pieces if len(piece) > 1 and piece not in made]
    if not unmade:
        return merges, []
    recovered = recover_merges(pieces)
    if not {left + right for left, right in recovered}.issuperset(unmade):
        raise GovorError(
            f"{file} lacks merges: {len(unmade):,} pieces of its vocabulary can never be written (first: "
            f"{_shown(unmade[0])}); copy the tokenizer.json of the model's base into its place."
        )
    return _compared(merges, recovered, file)


def _compared(merges: Merges, wanted: Merges, file: Path) -> tuple[Merges, list[str]]:
    have, right = set(merges), set(wanted)
    lost = [merge for merge in wanted if merge not in have]
    extra = [merge for merge in merges if merge not in right]
    what = []
    if lost:
        what.append(f"lacks {len(lost):,} of {len(wanted):,} merges (first: {' + '.join(map(_shown, lost[0]))})")
    if extra:
        what.append(f"has {len(extra):,} merges too many (first: {' + '.join(map(_shown, extra[0]))})")
    return wanted, [
        f"{file} {' and '.join(what) or 'has its merges in another order'}; mended from the ranks of its pieces"
    ]


def _shown(piece: bytes) -> str:
    return repr(piece.decode("utf-8", "backslashreplace"))


def tokenizer_state(folder: Path, older: Callable[[], Tokenizer]) -> tuple[Json, Path]:
    """What `tokenizer.json` of a model folder says, and its path; `older` reads vocab.json and merges.txt in its stead.

    Raises:
        GovorError: there is none, or it is no tokenizer.
    """
    file = folder / "tokenizer.json"
    if not file.exists():
        if not (folder / "vocab.json").exists() or not (folder / "merges.txt").exists():
            raise GovorError(f"{folder} holds no tokenizer.json; copy the one of the model's base into it.")
        file = folder / "vocab.json"
    else:
        check_tokenizer(file)
    try:
        tokenizer = Tokenizer.from_file(str(file)) if file.name == "tokenizer.json" else older()
    except Exception as error:  # the library raises bare Exceptions
        first = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise GovorError(
            f"{file} is no tokenizer ({first}); copy the one of the model's base into its place."
        ) from None
    state: Json = json.loads(tokenizer.to_str())
    return state, file


def spelled_merges(merges: Merges) -> list[list[str]]:
    """Merges as `tokenizer.json` writes them."""
    return [[_spell(left), _spell(right)] for left, right in merges]


def _spell(piece: bytes) -> str:
    letters = byte_letters()
    return "".join(letters[byte] for byte in piece)


@cache
def byte_letters() -> list[str]:
    """The printable letter that byte-level BPE writes for each byte: itself, or the next from U+0100 on."""
    themselves = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in themselves else next(others)) for byte in range(256)]
