"""Whether configuration and weights of a Qwen3-ASR folder belong together. Nothing here needs torch."""

from __future__ import annotations

from pathlib import Path

from govor.errors import GovorError
from govor.families.checking import by_sizes, check_count
from govor.families.settings import Shapes
from govor.jsons import Record


def check_model(config: Record, shapes: Shapes, folder: Path) -> None:
    """See `FamilySettings.check_model`: the sizes that memory goes by are compared here, every weight by the loader."""
    thinker = config.get("thinker_config")
    inner = thinker if isinstance(thinker, dict) else config
    audio, text = inner.get("audio_config"), inner.get("text_config")
    if not isinstance(audio, dict) or not isinstance(text, dict):
        raise GovorError(f"{config.where} lacks an audio_config or a text_config; fetch the model again.")
    language = "thinker.model" if thinker is not None else "model.language_model"
    tower = "thinker.audio_tower" if thinker is not None else "model.audio_tower"
    hidden = text.get("hidden_size")
    wanted = {
        f"{language}.embed_tokens.weight": (text.get("vocab_size"), hidden),
        f"{language}.layers.0.mlp.gate_proj.weight": (text.get("intermediate_size"), hidden),
        f"{tower}.layers.0.fc1.weight": (audio.get("encoder_ffn_dim"), audio.get("d_model")),
    }
    for name, shape in wanted.items():
        given = shapes.get(name)
        if given is not None and (
            len(given) != 2 or any(w not in (None, h) for w, h in zip(shape, given, strict=True))
        ):
            raise GovorError(
                f"{folder}: '{name}' is {by_sizes(given)}, and config.json asks for {by_sizes([size or 0 for size in shape])}; "
                "fetch or train it again."
            )
    layers = text.get("num_hidden_layers", 0) * 3 * (hidden or 0) * text.get("intermediate_size", 0)
    layers += audio.get("encoder_layers", 0) * 2 * audio.get("d_model", 0) * audio.get("encoder_ffn_dim", 0)
    check_count((text.get("vocab_size") or 0) * (hidden or 0) + layers, shapes, folder)
