"""A reference folder with `config.json` and safetensors."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import transformers
from huggingface_hub import save_torch_state_dict
from safetensors.numpy import save_file
from transformers.core_model_loading import revert_weight_conversion

from case import Case, Config
from routing import with_steady_routing
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

    as_in_memory: bool = False
    """Whether tensors are stored as transformers holds them, such as all experts in one, rather than as it saves them."""

    dtype: str = "float32"
    """The dtype the checkpoint is stored in; the reference is computed in f32 from the stored values."""

    shard_bytes: int | None = None
    """The largest size of one shard; None writes a single file."""

    factors: dict[str, float] = field(default_factory=dict)
    """Factors of the random parameters whose names hold a part, for models that would repeat themselves."""

    extra_files: dict[str, str] = field(default_factory=dict)
    """Further text files of the folder, by path."""

    own_config: bool = False
    """Whether the reference takes the case's config, since transformers does not know the keys of `config.json`."""

    extra_tensors: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    """Further safetensors files of the folder, by path."""

    def write_checkpoint(self, folder: Path, generator: np.random.Generator) -> None:
        """See `Case`."""
        model_class = getattr(transformers, self.model)
        model = model_class(model_class.config_class(**self.config))
        randomise(model, generator, self.factors)
        model.to(getattr(torch, self.dtype))
        self.write_config(model, folder)
        tied = model.all_tied_weights_keys
        stored = {name: tensor for name, tensor in model.state_dict().items() if name not in tied}
        if not self.as_in_memory:
            stored = revert_weight_conversion(model, stored)
        stored = {name: tensor.contiguous().clone() for name, tensor in stored.items()}
        save_torch_state_dict(
            self.edit_tensors(stored),
            folder,
            max_shard_size=self.shard_bytes or WHOLE,
            metadata={"format": "pt"},
        )
        for path, text in self.extra_files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)

        for path, tensors in self.extra_tensors.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            save_file(tensors, folder / path)

    def write_config(self, model: transformers.PreTrainedModel, folder: Path) -> None:
        """Write `config.json` with the case's edits."""
        model.config.architectures = [self.model]
        model.config.dtype = self.dtype
        model.config.save_pretrained(folder)
        path = folder / "config.json"
        path.write_text(as_json(self.edit_config(json.loads(path.read_text()))))

    def load(self, folder: Path) -> transformers.PreTrainedModel:
        """See `Case`."""
        model_class = getattr(transformers, self.model)
        config = {"config": model_class.config_class(**self.config)} if self.own_config else {}
        model, report = model_class.from_pretrained(
            folder,
            dtype=torch.float32,
            attn_implementation=self.attention,
            experts_implementation="eager",
            output_loading_info=True,
            **config,
        )
        if report["missing_keys"] or report["mismatched_keys"]:
            raise ValueError(f"{self.name}: transformers does not find {report}")
        return with_steady_routing(model.eval())


def family(prefix: str, stem: str, shared: Config, **of_all) -> Callable[..., SafetensorsCase]:
    """Makes the cases of one family: model classes begin with `stem`, configs with `shared`; `of_all` says what else
    all cases have."""

    def make(name: str, head: str = "ForCausalLM", case: type = SafetensorsCase, **fields) -> SafetensorsCase:
        config = shared | fields.pop("config", {})
        return case(name=f"{prefix}-{name}", model=stem + head, config=config, **of_all, **fields)

    return make
