"""The processor alone, for those who tokenize or make features without the model, with the proof that texts survive it."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer

from govor.errors import GovorError
from govor.families.base import Family, Tokenising
from govor.files import atomic_folder, sha256_of
from govor.jsons import read_json, write_json
from govor.languages import script_name
from govor.runs import Json, Run

PROOF = "proof.json"
# A sentence with every letter of the language in Latin and in Cyrillic: whatever a run is of, these two shall survive.
_PANGRAMS = (
    "Ljubazni fenjerdžija čađavog lica hoće da mi pokaže štos.",
    "Љубазни фењерџија чађавог лица хоће да ми покаже штос.",
)
# Written out in a transcript these are text to us, and steer a stock tokenizer.
_STEERING = re.compile(r"<\|[^|]*\|>")


def package_processor(family: Family, run: Run, texts: Iterable[str]) -> Path:
    """Write `models/processor/<run>/` and return it; `texts` are transcripts of the run, which must survive where the
    family has a tokenizer.

    Raises:
        GovorError: a text comes back from the stock tokenizer as another one (composed letters count as the same), or
            is other ids than training saw.
    """
    target = run.workspace.models / "processor" / run.name
    if (target / PROOF).exists() and read_json(target / PROOF).get("family") != family.name:
        target = target.with_name(f"{run.name}-{family.name}")  # another family's run of the same name
    with atomic_folder(target, "the processor", replace=True) as folder:
        family.save_processor(folder)
        proof = _proof(folder, family.tokens.tokenizer, texts) if isinstance(family, Tokenising) else {}
        files = {file.name: sha256_of(file) for file in sorted(folder.iterdir())}
        write_json(folder / PROOF, {"run": run.name, "family": family.name, **proof, "sha256": files})
    return target


def _proof(folder: Path, trained: Tokenizer, texts: Iterable[str]) -> Json:
    """How many texts went through the stock tokenizer of `folder` and back, and how many letters of which scripts."""
    from transformers import AutoProcessor

    tokenizer = AutoProcessor.from_pretrained(folder, local_files_only=True).tokenizer
    letters: Counter[str] = Counter()
    count = 0
    for text in (*_PANGRAMS, *(_STEERING.sub("", text) for text in texts)):
        ids = tokenizer(text, add_special_tokens=False).input_ids
        back = tokenizer.decode(ids)
        if unicodedata.normalize("NFC", back) != unicodedata.normalize("NFC", text):
            raise GovorError(
                f"The processor does not keep this text: '{text[:80]}' comes back as '{back[:80]}'; nothing was packaged. "
                "The tokenizer of the base model lacks letters or is damaged; take another base model."
            )
        if ids != trained.encode(text, add_special_tokens=False).ids:
            raise GovorError(
                f"The stock tokenizer makes other tokens of '{text[:80]}' than training saw; nothing was packaged. "
                "The tokenizer of the base model is not the usual one of its family; take another base model."
            )
        count += 1
        letters.update(script for letter in text if (script := script_name(letter)))
    return {"texts": count, "letters_by_script": dict(letters.most_common())}
