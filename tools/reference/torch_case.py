"""A reference folder whose weights are files of `torch.save`."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import transformers

from safetensors_case import SafetensorsCase, Tensors
from weights import randomise


@dataclass(frozen=True, kw_only=True)
class TorchCase(SafetensorsCase):
    """A checkpoint as older versions of transformers, or training scripts, saved it."""

    file: str = "pytorch_model.bin"
    """The name of the file, if there is one."""

    shards: int = 1
    """Files; several have an index."""

    legacy: bool = False
    """Whether the file has the format that PyTorch had before 1.6."""

    wrap: Callable[[Tensors], object] = dict
    """What the file holds besides the tensors."""

    def write_checkpoint(self, folder: Path, generator: np.random.Generator) -> None:
        """See `Case`."""
        model_class = getattr(transformers, self.model)
        model = model_class(model_class.config_class(**self.config))
        randomise(model, generator, {})
        model.to(getattr(torch, self.dtype))
        self.write_config(model, folder)
        tensors = {k: v for k, v in model.state_dict().items() if k not in model.all_tied_weights_keys}
        tensors = self.edit_tensors(tensors)
        if self.shards == 1:
            self.save(self.wrap(tensors), folder / self.file)
            return
        names = list(tensors)
        weight_map = {}
        for shard in range(self.shards):
            file = f"pytorch_model-{shard + 1:05}-of-{self.shards:05}.bin"
            part = {name: tensors[name].clone() for name in names[shard :: self.shards]}
            self.save(self.wrap(part), folder / file)
            weight_map |= dict.fromkeys(part, file)
        index = {"metadata": {}, "weight_map": dict(sorted(weight_map.items()))}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index, indent=2))

    def save(self, content: object, path: Path) -> None:
        """Write one file."""
        torch.save(content, path, _use_new_zipfile_serialization=not self.legacy)

    def load(self, folder: Path) -> transformers.PreTrainedModel:
        """See `Case`. The tensors are read by PyTorch itself."""
        model_class = getattr(transformers, self.model)
        model = model_class(model_class.config_class(**self.config))
        tensors: Tensors = {}
        for path in [*folder.glob("*.bin"), *folder.glob("*.pth")]:
            content = torch.load(path, weights_only=True)
            tensors |= content.get("state_dict", content)
        missing, unexpected = model.load_state_dict(tensors, strict=False)
        if set(missing) - set(model.all_tied_weights_keys) or unexpected:
            raise ValueError(f"{self.name}: {missing} {unexpected}")
        model.set_attn_implementation("eager")
        return model.float().eval()
