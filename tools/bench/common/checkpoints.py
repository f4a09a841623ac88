"""The checkpoints: fetched by castiron, converted, or written with random weights."""

import json
import os
import random
from array import array
from pathlib import Path

from models import Encoder, Gpt2, Mamba
from peer import Place

GGUF_PACKAGES = ["gguf==0.19.0"]


def published(place: Place, castiron: Path, model: str, path: str) -> Path:
    """A checkpoint in castiron's cache; `castiron demo` fetches it."""
    cache = os.environ.get("CASTIRON_CACHE")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    checkpoint = (Path(cache) if cache else home / "castiron") / path
    if not checkpoint.exists():
        place.run([castiron, "demo", "--model", model])
    return checkpoint


def f16_gguf(place: Place, quantised: Path) -> Path:
    """A GGUF file with the same model in F16, its matrices dequantised."""
    file = place.work / f"{quantised.stem}.F16.gguf"
    if not file.exists():
        script = Path(__file__).with_name("f16_gguf.py")
        place.run([place.python("gguf", GGUF_PACKAGES), script, quantised, file])
    return file


def random_bert(place: Place, name: str, encoder: Encoder) -> Path:
    """A checkpoint folder of a BERT model with small random f32 weights."""
    return random_folder(place.work / name, bert_shapes(encoder), bert_config(encoder))


def random_gpt2(place: Place, name: str, model: Gpt2) -> Path:
    """A checkpoint folder of GPT-2 with small random f32 weights."""
    return random_folder(place.work / name, gpt2_shapes(model), gpt2_config(model))


def random_mamba(place: Place, name: str, model: Mamba) -> Path:
    """A checkpoint folder of a Mamba with small random f32 weights."""
    return random_folder(place.work / name, mamba_shapes(model), mamba_config(model))


def random_folder(folder: Path, tensors: dict[str, list[int]], config: dict[str, object]) -> Path:
    """A checkpoint folder; `config.json` comes last, so that a folder with one is whole."""
    if (folder / "config.json").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    header, start = {}, 0
    for tensor, shape in tensors.items():
        end = start + 4 * size(shape)
        header[tensor] = {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
        start = end
    text = json.dumps({"__metadata__": {"format": "pt"}} | header).encode()
    text += b" " * (-len(text) % 8)
    generator = random.Random(0)
    # A pool of numbers, repeated: values do not matter to the time, and Python draws slowly. Its length is
    # odd and no tensor starts where another did: compilers merge products with equal weights.
    pool, at = array("f", (generator.gauss(0, 0.02) for _ in range((1 << 18) - 5))), 0
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for shape in tensors.values():
            missing = size(shape)
            while missing:
                part = pool[at : at + missing]
                part.tofile(file)
                missing -= len(part)
                at = (at + len(part)) % len(pool)
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    return folder


def size(shape: list[int]) -> int:
    """The number of elements."""
    count = 1
    for extent in shape:
        count *= extent
    return count


def bert_shapes(encoder: Encoder) -> dict[str, list[int]]:
    """Every parameter of transformers' `BertModel`."""
    hidden, wide = encoder.hidden, encoder.intermediate
    found = {
        "embeddings.word_embeddings.weight": [encoder.vocabulary, hidden],
        "embeddings.position_embeddings.weight": [encoder.positions, hidden],
        "embeddings.token_type_embeddings.weight": [2, hidden],
    }

    def norm(name: str) -> None:
        found.update({f"{name}.weight": [hidden], f"{name}.bias": [hidden]})

    def linear(name: str, inputs: int, outputs: int) -> None:
        found.update({f"{name}.weight": [outputs, inputs], f"{name}.bias": [outputs]})

    norm("embeddings.LayerNorm")
    for layer in (f"encoder.layer.{index}" for index in range(encoder.layers)):
        for projection in ("query", "key", "value"):
            linear(f"{layer}.attention.self.{projection}", hidden, hidden)
        linear(f"{layer}.attention.output.dense", hidden, hidden)
        norm(f"{layer}.attention.output.LayerNorm")
        linear(f"{layer}.intermediate.dense", hidden, wide)
        linear(f"{layer}.output.dense", wide, hidden)
        norm(f"{layer}.output.LayerNorm")
    linear("pooler.dense", hidden, hidden)
    return found


def bert_config(encoder: Encoder) -> dict[str, object]:
    """`config.json` of that model."""
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "initializer_range": 0.02,
        "pad_token_id": 0,
        "hidden_size": encoder.hidden,
        "intermediate_size": encoder.intermediate,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": encoder.positions,
        "num_attention_heads": encoder.heads,
        "num_hidden_layers": encoder.layers,
        "type_vocab_size": 2,
        "vocab_size": encoder.vocabulary,
    }


def gpt2_shapes(model: Gpt2) -> dict[str, list[int]]:
    """Every parameter of transformers' `GPT2LMHeadModel`; its head is the embedding."""
    hidden = model.hidden
    found = {"transformer.wte.weight": [model.vocabulary, hidden], "transformer.wpe.weight": [model.positions, hidden]}

    def norm(name: str) -> None:
        found.update({f"{name}.weight": [hidden], f"{name}.bias": [hidden]})

    def linear(name: str, inputs: int, outputs: int) -> None:
        found.update({f"{name}.weight": [inputs, outputs], f"{name}.bias": [outputs]})

    for layer in (f"transformer.h.{index}" for index in range(model.layers)):
        norm(f"{layer}.ln_1")
        linear(f"{layer}.attn.c_attn", hidden, 3 * hidden)
        linear(f"{layer}.attn.c_proj", hidden, hidden)
        norm(f"{layer}.ln_2")
        linear(f"{layer}.mlp.c_fc", hidden, 4 * hidden)
        linear(f"{layer}.mlp.c_proj", 4 * hidden, hidden)
    norm("transformer.ln_f")
    return found


def gpt2_config(model: Gpt2) -> dict[str, object]:
    """`config.json` of that model."""
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "activation_function": "gelu_new",
        "n_embd": model.hidden,
        "n_head": model.heads,
        "n_layer": model.layers,
        "n_positions": model.positions,
        "layer_norm_epsilon": 1e-5,
        "vocab_size": model.vocabulary,
    }


def mamba_shapes(model: Mamba) -> dict[str, list[int]]:
    """Every parameter of transformers' `MambaForCausalLM`; its head is the embedding."""
    hidden, inner = model.hidden, model.inner
    found = {"backbone.embeddings.weight": [model.vocabulary, hidden], "backbone.norm_f.weight": [hidden]}
    for layer in (f"backbone.layers.{index}" for index in range(model.layers)):
        found[f"{layer}.norm.weight"] = [hidden]
        mixer = {
            "in_proj.weight": [2 * inner, hidden],
            "conv1d.weight": [inner, 1, model.taps],
            "conv1d.bias": [inner],
            "x_proj.weight": [model.rank + 2 * model.state, inner],
            "dt_proj.weight": [inner, model.rank],
            "dt_proj.bias": [inner],
            "A_log": [inner, model.state],
            "D": [inner],
            "out_proj.weight": [hidden, inner],
        }
        found.update({f"{layer}.mixer.{name}": shape for name, shape in mixer.items()})
    return found


def mamba_config(model: Mamba) -> dict[str, object]:
    """`config.json` of that model."""
    return {
        "architectures": ["MambaForCausalLM"],
        "model_type": "mamba",
        "hidden_size": model.hidden,
        "intermediate_size": model.inner,
        "expand": model.inner // model.hidden,
        "num_hidden_layers": model.layers,
        "state_size": model.state,
        "conv_kernel": model.taps,
        "time_step_rank": model.rank,
        "vocab_size": model.vocabulary,
    }
