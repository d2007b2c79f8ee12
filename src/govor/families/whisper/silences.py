"""The windows of silence that a Whisper keeps: in memory, for as long as its weights are what they were.

See `govor.families.whisper.silence`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from transformers import WhisperForConditionalGeneration

from govor.families.whisper.features import LEVELS
from govor.families.whisper.forward import encode_silence
from govor.families.whisper.silence import Memory, Silence


class Silences:
    """The windows of silence of one model.

    They are made when they are asked for, and anew where the weights have changed. While a model is trained it is asked
    for those of some steps ago, which `refresh` makes and nothing else changes.
    """

    def __init__(self, model: WhisperForConditionalGeneration) -> None:
        self._model = model
        self._made: dict[float, Silence] = {}
        self._state: tuple[object, ...] = ()
        self._of_training: dict[float, Silence] = {}

    def of(self, levels: Sequence[float]) -> list[Silence | None]:
        """The silence of each level (see `LEVELS`); none of one that is no number."""
        wanted = [level for level in dict.fromkeys(levels) if level == level]
        if self._model.training and self._of_training:
            return [self._of_training.get(level) for level in levels]
        # torch counts every change of a tensor in its place.
        state: tuple[object, ...] = (
            torch.is_autocast_enabled(self._model.device.type),
            *(
                (weight.data_ptr(), 0 if weight.is_inference() else weight._version, weight.dtype)
                for weight in self._model.parameters()
            ),
        )
        if wanted and state != self._state:
            self._made.clear()
            self._state = state
        for level in wanted:
            if level not in self._made:
                self._made[level] = self._encoded(level)
        return [self._made.get(level) for level in levels]

    def made(self) -> list[Silence]:
        """Those that were asked for."""
        return list(self._made.values())

    def refresh(self) -> None:
        """Make those that a training step attends to, from the weights as they are."""
        self._of_training = {level: self._encoded(level) for level in LEVELS}

    def tensors(self) -> dict[str, torch.Tensor]:
        """Those of `refresh`, by name."""
        return {
            f"{level}.{side}.{layer}.{name}": tensor
            for level, silence in self._of_training.items()
            for side, memories in (("encoder", silence.encoder), ("decoder", silence.decoder))
            for layer, memory in enumerate(memories)
            for name, tensor in zip(("keys", "values"), memory, strict=True)
        }

    def restore(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """The inverse of `tensors`."""

        def memories(level: float, side: str, layers: int) -> tuple[Memory, ...]:
            names = [f"{level}.{side}.{layer}" for layer in range(layers)]
            device = self._model.device
            return tuple((tensors[f"{n}.keys"].to(device), tensors[f"{n}.values"].to(device)) for n in names)

        config = self._model.config
        self._of_training = {
            level: Silence(
                level,
                config.max_source_positions,
                memories(level, "encoder", config.encoder_layers),
                memories(level, "decoder", config.decoder_layers),
            )
            for level in LEVELS
            if tensors
        }

    def _encoded(self, level: float) -> Silence:
        # They may be attended to while something is learned, whatever is going on now.
        with torch.inference_mode(False), torch.no_grad():
            return encode_silence(self._model, level)
