"""A reference folder with `config.json` and safetensors."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import transformers
from huggingface_hub import save_torch_state_dict

from case import Case, Config
from vocabularies import as_json
from weights import randomise

Tensors = dict[str, torch.Tensor]

WHOLE = "1GB"


def unchanged(value):
    """The edit that changes nothing."""
    return value


@dataclass(frozen=True, kw_only=True)
class SafetensorsCase(Case):
    """A checkpoint as transformers saves it, or as its older versions did."""

    edit_config: Callable[[Config], Config] = unchanged
    """Edits `config.json`, for instance into the keys that older versions wrote."""

    edit_tensors: Callable[[Tensors], Tensors] = unchanged
    """Edits the checkpoint's tensors: renames, buffers that older versions stored."""

    dtype: str = "float32"
    """The dtype the checkpoint is stored in; the reference is computed in f32 from the stored values."""

    shard_bytes: int | None = None
    """The largest size of one shard; None writes a single file."""

    factors: dict[str, float] = field(default_factory=dict)
    """Factors of the random parameters whose names hold a part, for models that would repeat themselves."""

    extra_files: dict[str, str] = field(default_factory=dict)
    """Further text files of the folder, by path."""

    def write_checkpoint(self, folder: Path, generator: np.random.Generator) -> None:
        """See `Case`."""
        model_class = getattr(transformers, self.model)
        model = model_class(model_class.config_class(**self.config))
        randomise(model, generator, self.factors)
        model.to(getattr(torch, self.dtype))
        self.write_config(model, folder)
        tied = model.all_tied_weights_keys
        stored = {name: tensor for name, tensor in model.state_dict().items() if name not in tied}
        save_torch_state_dict(
            self.edit_tensors(stored),
            folder,
            max_shard_size=self.shard_bytes or WHOLE,
            metadata={"format": "pt"},
        )
        for path, text in self.extra_files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)

    def write_config(self, model: transformers.PreTrainedModel, folder: Path) -> None:
        """Write `config.json` with the case's edits."""
        model.config.architectures = [self.model]
        model.config.dtype = self.dtype
        model.config.save_pretrained(folder)
        path = folder / "config.json"
        path.write_text(as_json(self.edit_config(json.loads(path.read_text()))))

    def load(self, folder: Path) -> transformers.PreTrainedModel:
        """See `Case`."""
        model, report = getattr(transformers, self.model).from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
        )
        if report["missing_keys"] or report["mismatched_keys"]:
            raise ValueError(f"{self.name}: transformers does not find {report}")
        return model.eval()
