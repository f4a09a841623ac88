"""HyenaDNA, whose checkpoints transformers does not read."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import PretrainedConfig

from case import Case
from long_convolutions import HyenaDNA
from vocabularies import as_json

SMALL = dict(
    model_type="hyenadna",
    d_model=26,
    d_inner=44,
    n_layer=2,
    vocab_size=27,
    pad_vocab_size_multiple=8,
    max_seq_len=48,
    emb_dim=5,
    filter_order=14,
    num_inner_mlps=2,
    hyena_order=2,
    short_filter_order=3,
    layer_norm_epsilon=1e-5,
    train_freq=True,
    activation_freq=1.0,
    pad_token_id=None,
    eos_token_id=None,
)


@dataclass(frozen=True, kw_only=True)
class HyenaCase(Case):
    """A checkpoint of the published layout with random tensors."""

    freqs: tuple[int, ...] | None = None
    """Places of the copies of a layer's frequencies; all odd ones unless given."""

    dtype: str = "float32"
    """The dtype of the stored tensors."""

    labels: int | None = None
    """Labels of a classifier."""

    settings: dict = field(default_factory=dict)
    """What `config.json` holds besides."""

    def write_checkpoint(self, folder: Path, generator: np.random.Generator) -> None:
        """See `Case`."""
        config = SMALL | self.config
        tensors = draw(config, self.freqs, self.labels, generator)
        stored = {name: tensor.to(getattr(torch, self.dtype)).contiguous() for name, tensor in tensors.items()}
        save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
        labels = {"id2label": {str(i): f"LABEL_{i}" for i in range(self.labels)}} if self.labels else {}
        settings = {"architectures": [self.model]} | config | labels | self.settings
        (folder / "config.json").write_text(as_json(settings))

    def load(self, folder: Path) -> HyenaDNA:
        """See `Case`."""
        config = PretrainedConfig(**json.loads((folder / "config.json").read_text()))
        config.num_hidden_layers = config.n_layer
        return HyenaDNA(config, load_file(folder / "model.safetensors")).eval()


def draw(config: dict, freqs: tuple[int, ...] | None, labels: int | None, generator: np.random.Generator) -> dict:
    """Random tensors by name, of sizes that make every one of them matter."""
    width, inner, order = config["d_model"], config["d_inner"], config["filter_order"]
    rows = -(-config["vocab_size"] // config["pad_vocab_size_multiple"]) * config["pad_vocab_size_multiple"]
    length, features, layers = config["max_seq_len"], config["emb_dim"], config["num_inner_mlps"]
    taps = config["short_filter_order"]
    tensors = {}

    def normal(name: str, shape: tuple[int, ...], scale: float) -> None:
        tensors[name] = torch.from_numpy(generator.normal(0.0, scale, shape)).float()

    def uniform(name: str, shape: tuple[int, ...], low: float, high: float) -> None:
        tensors[name] = torch.from_numpy(generator.uniform(low, high, shape)).float()

    def dense(name: str, outputs: int, inputs: int, gain: float = 1.0) -> None:
        normal(f"{name}.weight", (outputs, inputs), gain / np.sqrt(inputs))
        normal(f"{name}.bias", (outputs,), 0.2)

    def norm(name: str) -> None:
        uniform(f"{name}.weight", (width,), 0.5, 1.5)
        normal(f"{name}.bias", (width,), 0.2)

    normal("hyena.backbone.embeddings.word_embeddings.weight", (rows, width), 0.4)
    for layer in range(config["n_layer"]):
        name = f"hyena.backbone.layers.{layer}."
        norm(f"{name}norm1")
        norm(f"{name}norm2")
        dense(f"{name}mlp.fc1", inner, width)
        dense(f"{name}mlp.fc2", width, inner)
        dense(f"{name}mixer.in_proj", 3 * width, width, 1.5)
        dense(f"{name}mixer.out_proj", width, width, 1.5)
        normal(f"{name}mixer.short_filter.weight", (3 * width, 1, taps), 1.0 / np.sqrt(taps))
        normal(f"{name}mixer.short_filter.bias", (3 * width,), 0.2)
        name = f"{name}mixer.filter_fn."
        normal(f"{name}bias", (width,), 1.0)
        normal(f"{name}pos_emb.z", (1, length, features), 1.0)
        tensors[f"{name}pos_emb.t"] = torch.linspace(0, 1, length).reshape(1, length, 1)
        uniform(f"{name}modulation.deltas", (1, 1, width), -9.0, 3.0)
        dense(f"{name}implicit_filter.0", order, features)
        for j in range(1, layers + 1):
            dense(f"{name}implicit_filter.{2 * j}", order, order)
        normal(f"{name}implicit_filter.{2 * layers + 2}.weight", (width, order), 0.8 / np.sqrt(order))
        if config["train_freq"]:
            values = torch.from_numpy(generator.uniform(0.5, 3.0, (1, order))).float()
            for place in freqs or range(1, 2 * layers + 2, 2):
                tensors[f"{name}implicit_filter.{place}.freq"] = values.clone()
    norm("hyena.backbone.ln_f")
    if labels:
        normal("score.weight", (labels, width), 3.0 / np.sqrt(width))
    else:
        normal("lm_head.weight", (rows, width), 3.0 / np.sqrt(width))
    return tensors


def case(name: str, head: str = "ForCausalLM", **fields) -> HyenaCase:
    """A row of the table."""
    fields = {"config": {}, "lengths": (15, 15)} | fields
    return HyenaCase(name=f"hyenadna-{name}", model=f"HyenaDNA{head}", **fields)


CASES = [
    case("plain"),
    case(
        "switches",
        config=dict(emb_dim=3, num_inner_mlps=1, short_filter_order=5, layer_norm_epsilon=0.02, n_layer=3, d_model=18),
        lengths=(9, 9, 9),
        freqs=(3,),
        settings=dict(use_bias=False, hyena_dropout=0.1, embed_dropout=0.2),
    ),
    case("fixed-frequency", config=dict(train_freq=False, activation_freq=2.5, num_inner_mlps=0), dtype="float16"),
    # Longer than what is summed directly.
    case(
        "long",
        config=dict(max_seq_len=640, vocab_size=16, d_model=10, d_inner=12, filter_order=8, emb_dim=3),
        lengths=(640,),
    ),
    case("sequence", "ForSequenceClassification", config=dict(pad_token_id=4), pad=4, lengths=(13, 7, 1), labels=3),
    case("sequence-unpadded", "ForSequenceClassification", lengths=(12, 12), labels=2),
]
