"""A classifier of tones: the mean of the spectrogram, a hidden layer, two classes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, cast

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from govor.audio import SAMPLE_RATE, Samples
from govor.errors import GovorError
from govor.examples.settings import Examples
from govor.families.base import Batch, Exporter, Family
from govor.families.loading import check_dtypes, check_finite, weight_files
from govor.families.task import Task
from govor.jsons import read_json, write_json
from toy_family.examples import LABEL, label_of
from toy_family.exports import Safetensors
from toy_family.features import BANDS, log_mel
from toy_family.renderer import ToneRenderer
from toy_family.task import TONES


class ToneNet(nn.Module):
    """Logits [B, classes] of means [B, bands]."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(BANDS, width)
        self.head = nn.Linear(width, classes)

    def forward(self, means: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return cast(torch.Tensor, self.head(torch.tanh(self.hidden(means))))


class Tone:
    """A `Family` that is no recogniser."""

    name: ClassVar[str] = "tone"
    task: ClassVar[Task] = TONES
    exports: ClassVar[Mapping[str, Exporter[Tone]]] = {"safetensors": Safetensors()}

    def __init__(self, module: ToneNet, classes: Sequence[str], label: str = LABEL) -> None:
        self.module: nn.Module = module
        self.notes: list[str] = []
        self.renderer = ToneRenderer(classes, label)

    @classmethod
    def load(cls, folder: Path, dtype: torch.dtype = torch.float32, **options: object) -> Tone:
        """From a folder with config.json and model.safetensors."""
        files = weight_files(folder)
        check_dtypes(files)
        family = cls.from_base(folder, load_file(files[0]))
        family.module.to(dtype)
        return family

    @classmethod
    def from_base(cls, folder: Path, weights: dict[str, torch.Tensor]) -> Tone:
        """From a configuration and a checkpoint's weights."""
        config = read_json(folder / "config.json", classes=list, width=int, label=str)
        module = ToneNet(len(config["classes"]), config["width"])
        try:
            module.load_state_dict(weights)
        except RuntimeError as error:
            raise GovorError(f"The weights do not fit {folder / 'config.json'}: {error}.") from None
        check_finite(module, folder)
        return cls(module.eval(), config["classes"], config["label"])

    @staticmethod
    def load_renderer(folder: Path, examples: Examples) -> ToneRenderer:
        """See `Family.load_renderer`."""
        return ToneRenderer.load(folder, examples)

    def prepare_training(self, examples: Examples) -> None:
        """From here on it is a model of the recipe's label."""
        self.renderer = ToneRenderer(self.classes, label_of(examples))

    @property
    def classes(self) -> list[str]:
        """What a clip can be."""
        return self.renderer.classes

    @property
    def label(self) -> str:
        """What of a clip is told."""
        return self.renderer.label

    def logits(self, batch: Batch) -> torch.Tensor:
        """Logits [B, classes]."""
        weight = next(self.module.parameters())
        means = torch.stack([mel.mean(-1) for mel in batch["mels"]])
        return cast(torch.Tensor, self.module(means.to(weight.device, weight.dtype)))

    def loss(self, batch: Batch, label_smoothing: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
        """Cross-entropy summed over the clips, and their number."""
        logits, targets = self.logits(batch).float(), batch["targets"]
        loss = F.cross_entropy(logits, targets.to(logits.device), reduction="sum", label_smoothing=label_smoothing)
        return loss, torch.tensor(len(targets), device=logits.device)

    @property
    def chance_loss(self) -> float:
        """Of classes that are equally many: ln 2."""
        return math.log(len(self.classes))

    def parts(self) -> dict[str, list[str]]:
        """The hidden layer and the head."""
        names = [name for name, _ in self.module.named_parameters()]
        layers = {"encoder.0": "hidden.", "head": "head."}
        return {part: [name for name in names if name.startswith(layer)] for part, layer in layers.items()}

    def lora_targets(self) -> list[str]:
        """The hidden layer."""
        return ["hidden"]

    @torch.inference_mode()
    def classify(self, clips: Sequence[Samples]) -> list[str]:
        """The class of each clip."""
        numbers = self.logits({"mels": [log_mel(samples) for samples in clips]}).argmax(-1).tolist()
        return [self.classes[number] for number in numbers]

    def save_processor(self, folder: Path) -> None:
        """The rate of the audio."""
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "preprocessor_config.json", {"sampling_rate": SAMPLE_RATE, "feature_size": BANDS})

    def save_base(self, folder: Path) -> None:
        """config.json and the processor."""
        self.save_processor(folder)
        width = cast(ToneNet, self.module).hidden.out_features
        about = {"model_type": self.name, "classes": self.classes, "label": self.label, "width": width}
        write_json(folder / "config.json", about)

    def save(self, folder: Path) -> None:
        """Everything."""
        self.save_base(folder)
        weights = {name: value.detach().contiguous() for name, value in self.module.state_dict().items()}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


FAMILY: type[Family] = Tone
