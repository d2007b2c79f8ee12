"""The windows of silence that a Whisper keeps: in memory for as long as its weights are what they were, and on disk.

See `govor.families.whisper.silence`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from transformers import WhisperForConditionalGeneration

from govor.families.whisper.features import LEVELS
from govor.families.whisper.forward import encode_silence
from govor.families.whisper.silence import STRIDE, Memory, Silence
from govor.files import beside

# What is made faster than this is not worth a file.
WORTH_SECONDS = 1.0
# The oldest give way.
MOST_FILES = 32


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
        self._folder: Path | None = None
        self._notify: Callable[[str], None] = print
        self._loaded: tuple[object, ...] = ()
        self._sha256 = ""

    def keep_in(self, folder: Path, notify: Callable[[str], None]) -> None:
        """Keep those of the weights as they are now in files of `folder`, too; a file that is no good is made anew."""
        self._folder, self._notify, self._loaded, self._sha256 = folder, notify, self._weights(), ""

    def of(self, levels: Sequence[float]) -> list[Silence | None]:
        """The silence of each level (see `LEVELS`); none of one that is no number."""
        wanted = [level for level in dict.fromkeys(levels) if level == level]
        if self._model.training and self._of_training:
            return [self._of_training.get(level) for level in levels]
        state = (torch.is_autocast_enabled(self._model.device.type), *self._weights())
        if wanted and state != self._state:
            self._made.clear()
            self._state = state
        for level in wanted:
            if level not in self._made:
                self._made[level] = self._on_disk(level) or self._made_now(level)
        return [self._made.get(level) for level in levels]

    def refresh(self) -> None:
        """Make those that a training step attends to, from the weights as they are."""
        self._of_training = {level: self._encoded(level) for level in LEVELS}

    def tensors(self) -> dict[str, torch.Tensor]:
        """Those of `refresh`, by name."""
        return {
            f"{level}.{name}": tensor
            for level, silence in self._of_training.items()
            for name, tensor in _tensors(silence).items()
        }

    def restore(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """The inverse of `tensors`."""
        of_level = {
            level: {n.removeprefix(f"{level}."): t for n, t in tensors.items() if n.startswith(f"{level}.")}
            for level in LEVELS
        }
        self._of_training = {level: self._silence(level, some) for level, some in of_level.items() if some}

    def _weights(self) -> tuple[object, ...]:
        """What differs when a weight has changed: torch counts every change of a tensor in its place."""
        return tuple(
            (weight.data_ptr(), 0 if weight.is_inference() else weight._version, weight.dtype)
            for weight in self._model.parameters()
        )

    def _silence(self, level: float, tensors: Mapping[str, torch.Tensor]) -> Silence:
        """The inverse of `_tensors`."""
        config, device = self._model.config, self._model.device

        def memories(side: str, layers: int) -> tuple[Memory, ...]:
            names = [f"{side}.{layer}" for layer in range(layers)]
            return tuple((tensors[f"{n}.keys"].to(device), tensors[f"{n}.values"].to(device)) for n in names)

        return Silence(
            level,
            config.max_source_positions,
            memories("encoder", config.encoder_layers),
            memories("decoder", config.decoder_layers),
        )

    def _stored(self, level: float) -> Path | None:
        """The file of a level; None where there is none to be, as the weights are no longer those of the model's files."""
        if self._folder is None or torch.is_autocast_enabled(self._model.device.type) or self._model.training:
            return None
        return self._folder / f"{self._key()[:24]}-{level}.safetensors" if self._weights() == self._loaded else None

    def _key(self) -> str:
        """What the silence depends on, as sha256: the encoder's weights, how the decoder projects its states, what is kept."""
        if self._sha256:
            return self._sha256
        digest = hashlib.sha256(f"{STRIDE} {LEVELS}".encode())
        for name, weight in self._model.named_parameters():
            if name.startswith("model.encoder.") or ".encoder_attn." in name:
                digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
                digest.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy())
        self._sha256 = digest.hexdigest()
        return self._sha256

    def _on_disk(self, level: float) -> Silence | None:
        file = self._stored(level)
        if file is None or not file.is_file():
            return None
        try:
            with safe_open(file, "pt") as stored:
                tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118  (it is no mapping)
                whole = stored.metadata() == {"weights": self._key(), "level": str(level)}
            silence = self._silence(level, tensors)
        except (OSError, KeyError, SafetensorError) as error:
            self._notify(f"note: the cached silence {file} cannot be read ({error}); made anew")
            return None
        if not whole:
            self._notify(f"note: the cached silence {file} is of other weights; made anew")
            return None
        return silence

    def _made_now(self, level: float) -> Silence:
        started = time.perf_counter()
        silence = self._encoded(level)
        file = self._stored(level) if time.perf_counter() - started >= WORTH_SECONDS else None
        if file is not None:
            try:
                self._write(silence, file)
            except (OSError, SafetensorError) as error:
                self._notify(f"note: the cached silence cannot be kept in {file} ({error}); it is made anew next time")
        return silence

    def _write(self, silence: Silence, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = beside(file)
        try:
            save_file(_tensors(silence), temporary, {"weights": self._key(), "level": str(silence.level)})
            temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)
        for old in sorted(file.parent.glob("*.safetensors"), key=lambda f: f.stat().st_mtime)[:-MOST_FILES]:
            old.unlink(missing_ok=True)

    def _encoded(self, level: float) -> Silence:
        # They may be attended to while something is learned, whatever is going on now.
        with torch.inference_mode(False), torch.no_grad():
            return encode_silence(self._model, level)


def _tensors(silence: Silence) -> dict[str, torch.Tensor]:
    return {
        f"{side}.{layer}.{name}": tensor.contiguous()
        for side, memories in (("encoder", silence.encoder), ("decoder", silence.decoder))
        for layer, memory in enumerate(memories)
        for name, tensor in zip(("keys", "values"), memory, strict=True)
    }
