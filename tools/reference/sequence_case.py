"""A reference folder of a sequence model that transformers does not have."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from case import Case, Config
from generation import NEW_TOKENS, Decoded, gap
from sequence_models import logits
from sequence_shapes import shapes
from vocabularies import as_json
from weights import BIAS_STD, EMBEDDING_GAIN, HEAD_GAIN, NORM_RANGE

Tensors = dict[str, torch.Tensor]

# Parts of names, and how the tensors are drawn: uniform between two numbers.
RANGES = {
    "time_mix": (0.0, 1.0),
    "time_maa_w": None,
    "time_maa": (0.0, 1.0),
    ".mu": (0.0, 1.0),
    "x_bias": (0.0, 1.0),
    "x_proj": None,
    ".x_": (0.0, 1.0),
    "time_decay_w": None,
    "time_decay": (-4.0, 0.5),
    "w_proj.linear.lora.2.bias": (-4.0, 0.5),
    "w_lora.lora.2.bias": (-4.0, 1.0),
    ".w0": (-4.0, 1.0),
    "gk_proj.1.bias": (0.0, 3.0),
    "k_k": (0.5, 1.2),
    "k_a": (0.3, 1.2),
    "r_k": (-1.0, 1.0),
    "time_faaaa": (-1.0, 1.0),
    "bonus": (-1.0, 1.0),
}
RIGHT = ("1", "2")


@dataclass(frozen=True, kw_only=True)
class SequenceCase(Case):
    """A checkpoint by `sequence_shapes.py`, run by `sequence_models.py`."""

    dtype: str = "float32"
    """The dtype that tensors are stored in; the reference is computed from the stored values."""

    file: str = "model.safetensors"
    """The name of the file; PyTorch's format for `.pth`."""

    edit_tensors: Callable[[Tensors], Tensors] = lambda tensors: tensors
    """Edits the checkpoint's tensors."""

    @property
    def generates(self) -> bool:
        """See `Case`."""
        return True

    @property
    def is_masked(self) -> bool:
        """See `Case`."""
        return self.model != "RWKV"

    def write_checkpoint(self, folder: Path, generator: np.random.Generator) -> None:
        """See `Case`."""
        config = {"architectures": [self.model], **self.config, "torch_dtype": self.dtype}
        (folder / "config.json").write_text(as_json(config))
        dtype = getattr(torch, self.dtype)
        drawn = {name: draw(name, shape, generator) for name, shape in sorted(shapes(config).items())}
        tensors = {name: torch.from_numpy(values).to(dtype) for name, values in drawn.items()}
        tensors = self.edit_tensors(tensors)
        if self.file.endswith(".safetensors"):
            save_file(tensors, folder / self.file, metadata={"format": "pt"})
        else:
            torch.save(tensors, folder / self.file)

    def load(self, folder: Path) -> "Loops":
        """See `Case`."""
        return Loops(folder)

    def decode(self, model: "Loops", prompt: list[int], beams: int) -> Decoded:
        """See `Case`."""
        return model.decode(prompt, beams)


class Loops:
    """A stored model, as loops."""

    def __init__(self, folder: Path) -> None:
        self.settings: Config = json.loads((folder / "config.json").read_text())
        self.config = SimpleNamespace(vocab_size=self.settings["vocab_size"], is_encoder_decoder=False)
        self.tensors = stored(folder)

    def logits(self, ids: torch.Tensor) -> torch.Tensor:
        """Scores of the token after each, in f64."""
        return logits(self.settings, self.tensors, ids)

    def __call__(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> dict[str, torch.Tensor]:
        """Scores of a padded batch: a row's are those of its tokens alone."""
        out = torch.zeros(*input_ids.shape, self.config.vocab_size)
        for row, (ids, mask) in enumerate(zip(input_ids, attention_mask.bool())):
            out[row, mask] = self.logits(ids[mask][None])[0].float()
        return {"logits": out}

    def decode(self, prompt: list[int], beams: int) -> Decoded:
        """Continue `prompt` by the best of so many texts; each step reads the whole text anew."""
        texts, sums, margins = torch.tensor([prompt]), torch.zeros(1, dtype=torch.float64), []
        for _ in range(NEW_TOKENS):
            scores = self.logits(texts)[:, -1].log_softmax(-1)
            candidates = (sums[:, None] + scores).flatten()
            margins.append(gap(candidates, beams))
            sums, best = candidates.topk(beams)
            row, token = best // scores.shape[-1], best % scores.shape[-1]
            texts = torch.cat([texts[row], token[:, None]], 1)
        if beams > 1:
            margins.append(gap(sums, 1))
        return Decoded(texts[0].tolist(), min(margins))


def stored(folder: Path) -> Tensors:
    """The tensors of a folder's checkpoint."""
    for path in folder.glob("*.pth"):
        return torch.load(path, weights_only=True)
    return load_file(folder / "model.safetensors")


def draw(name: str, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    """Values for a tensor: matrices keep unit size, and decays and mixes differ from channel to channel."""
    bounds = next((bounds for part, bounds in RANGES.items() if part in name), None)
    if bounds is not None:
        return generator.uniform(*bounds, shape)
    if len(shape) == 1 or shape[:2] == (1, 1):
        is_factor = name.endswith("weight")
        return generator.uniform(*NORM_RANGE, shape) if is_factor else generator.normal(0.0, BIAS_STD, shape)
    if "emb" in name:
        return generator.normal(0.0, EMBEDDING_GAIN / np.sqrt(shape[1]), shape)
    inputs = shape[-2] if name.endswith(RIGHT) else shape[-1]
    gain = HEAD_GAIN if name.endswith("head.weight") else 1.0
    return generator.normal(0.0, gain / np.sqrt(inputs), shape)
