"""What is known of Qwen3-ASR without loading it."""

from __future__ import annotations

from govor.examples.settings import Examples
from govor.families.qwen3_asr.checks import check_model
from govor.families.recogniser import RECOGNITION, RecognitionGates
from govor.families.settings import FamilySettings


def check_examples(examples: Examples) -> None:
    """It has no time tokens, and no window that clips are padded to."""
    if examples.timestamps_share:
        raise ValueError(
            f"examples.timestamps_share is {examples.timestamps_share} and the family is qwen3_asr, which "
            "has no time tokens; set it to 0, or train a whisper"
        )
    if examples.context != "speech" or examples.padded_share or examples.cached_share:
        raise ValueError(
            f"the family qwen3_asr never pads a clip, and examples.context is '{examples.context}' with a padded share of "
            f"{examples.padded_share:g} and a cached one of {examples.cached_share:g}; leave them out"
        )


SETTINGS = FamilySettings(
    task=RECOGNITION,
    gates=RecognitionGates,
    formats=("hf", "thinker"),
    check_examples=check_examples,
    check_model=check_model,
    nested=("audio_config", "text_config", "thinker_config"),
    library="transformers",
)
