"""A reference folder with only `model.gguf`, of any decoder: what llama.cpp's converter makes of its weights.

Names come from the `gguf` package's own tables. The reference is the transformers model that the file was made
from, so that it shows whether names, keys and the converter's changes of values are undone.
"""

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import transformers
from gguf import (
    MODEL_ARCH,
    MODEL_ARCH_NAMES,
    GGMLQuantizationType,
    GGUFWriter,
    LlamaFileType,
    RopeScalingType,
    get_tensor_name_map,
)
from gguf.quants import dequantize, quantize

from case import Case
from gguf_case import FILE, frequency_divisors, interleave_rows
from weights import randomise

Tensors = dict[str, np.ndarray]

# What is called otherwise in a checkpoint than in memory, or renamed by the converter.
RENAMED = {
    "e_score_correction_bias": "e_score_correction.bias",
    "self_attn.sinks": "self_attn.sinks.weight",
    "block_sparse_moe.router.weight": "block_sparse_moe.router.layer.weight",
}
EXPERTS = re.compile(r"(?:model\.layers|blk)\.(\d+)\..*(gate_up|down)_(?:proj|exps)(?:\.weight|(_bias))?")

# The models that files were made from, by case.
_MODELS: dict[str, transformers.PreTrainedModel] = {}


@dataclass(frozen=True, kw_only=True)
class GgufFamilyCase(Case):
    """A decoder as GGUF without a tokenizer."""

    architecture: str
    """What llama.cpp calls it."""

    add_keys: Callable[[GGUFWriter, transformers.PretrainedConfig], None] = lambda writer, config: None
    """Writes the keys that not every architecture has."""

    change: Callable[[str, np.ndarray, transformers.PretrainedConfig], np.ndarray] = lambda name, values, config: values
    """What the converter does to a tensor, by its transformers name."""

    extra: Callable[[transformers.PretrainedConfig], Tensors] = lambda config: {}
    """Tensors that the converter makes of the config."""

    merge: Callable[[Tensors], Tensors] = lambda tensors: tensors
    """What the converter makes of several tensors of a layer."""

    matrix_type: GGMLQuantizationType = GGMLQuantizationType.F32
    """The GGML type of matrices; vectors are F32. It has to give its own values back."""

    prepare: Callable[[transformers.PreTrainedModel], None] = lambda model: None
    """Changes the random weights to those that the file's types can hold."""

    types: dict[str, str] = field(default_factory=dict)
    """GGML types of what is not F32, by the part of the name before `.weight`, such as `ffn_up_exps`."""

    parts: int = 1
    """Files that the model is split into."""

    def write_checkpoint(self, folder: Path, generator: np.random.Generator) -> None:
        """See `Case`."""
        model_class = getattr(transformers, self.model)
        model = model_class(model_class.config_class(**self.config))
        randomise(model, generator, {})
        self.round_matrices(model)
        self.prepare(model)
        _MODELS[self.name] = model
        config = model.config
        tensors = self.merge(gguf_tensors(self, model)) | self.extra(config)
        most = -(-len(tensors) // self.parts) if self.parts > 1 else 0
        writer = GGUFWriter(folder / FILE, self.architecture, split_max_tensors=most)
        writer.add_type("model")
        is_f32 = self.matrix_type == GGMLQuantizationType.F32
        writer.add_file_type(LlamaFileType.ALL_F32 if is_f32 else LlamaFileType.MOSTLY_Q8_0)
        add_common_keys(writer, config)
        self.add_keys(writer, config)
        writer.add_tokenizer_model("none")
        for name, values in tensors.items():
            part = name.removesuffix(".weight").split(".")[-1]
            kind = self.matrix_type if values.ndim > 1 else GGMLQuantizationType.F32
            if part in self.types:
                kind = GGMLQuantizationType[self.types[part]]
            writer.add_tensor(name, quantize(np.ascontiguousarray(values, np.float32), kind), raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

    def round_matrices(self, model: transformers.PreTrainedModel) -> None:
        """Give the model the values that the file can hold."""
        for tensor in model.parameters():
            if tensor.ndim > 1:
                stored = quantize(tensor.detach().numpy(), self.matrix_type)
                tensor.data = torch.from_numpy(dequantize(stored, self.matrix_type).reshape(tensor.shape))

    def load(self, folder: Path) -> transformers.PreTrainedModel:
        """See `Case`."""
        model = copy.deepcopy(_MODELS[self.name])
        model.set_attn_implementation("eager")
        model.set_experts_implementation("eager")
        return model.float().eval()


def add_common_keys(writer: GGUFWriter, config: transformers.PretrainedConfig) -> None:
    """Keys of sizes, which all architectures have."""
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(getattr(config, "max_position_embeddings", config.hidden_size))
    writer.add_embedding_length(config.hidden_size)
    inner = getattr(config, "intermediate_size", None) or getattr(config, "ffn_hidden_size", None)
    writer.add_feed_forward_length(inner or 4 * config.hidden_size)
    writer.add_head_count(getattr(config, "num_attention_heads", 0))
    writer.add_vocab_size(config.vocab_size)
    latent = hasattr(config, "kv_lora_rank")
    for name in ("num_key_value_heads", "num_kv_heads"):
        if getattr(config, name, None) and not latent:
            writer.add_head_count_kv(getattr(config, name))
    is_state_space = hasattr(config, "state_size")
    for name, add in (
        ("rms_norm_eps", writer.add_layer_norm_rms_eps),
        ("layer_norm_eps", writer.add_layer_norm_eps),
        ("norm_epsilon", writer.add_layer_norm_eps),
        ("layer_norm_epsilon", writer.add_layer_norm_rms_eps if is_state_space else writer.add_layer_norm_eps),
    ):
        if getattr(config, name, None) is not None:
            add(getattr(config, name))
    head_dim = getattr(config, "head_dim", None)
    if head_dim and not latent and head_dim * config.num_attention_heads != config.hidden_size:
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
    add_rope_keys(writer, config)
    add_expert_keys(writer, config)


def add_expert_keys(writer: GGUFWriter, config: transformers.PretrainedConfig) -> None:
    """Numbers and widths of experts."""
    for names, add in (
        (("num_local_experts", "num_experts", "n_routed_experts"), writer.add_expert_count),
        (("num_experts_per_tok",), writer.add_expert_used_count),
        (("n_group",), writer.add_expert_group_count),
        (("topk_group",), writer.add_expert_group_used_count),
        (("moe_intermediate_size",), writer.add_expert_feed_forward_length),
    ):
        found = [getattr(config, name) for name in names if getattr(config, name, None) is not None]
        if found:
            add(found[0])


def add_rope_keys(writer: GGUFWriter, config: transformers.PretrainedConfig) -> None:
    """Keys of rotary positions, those of full attention where layers differ."""
    rope = getattr(config, "rope_parameters", None)
    if rope is None:
        return
    rope = rope.get("full_attention", rope)
    writer.add_rope_freq_base(rope["rope_theta"])
    share = rope.get("partial_rotary_factor")
    if share:
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        writer.add_rope_dimension_count(int(head_dim * share))
    if rope["rope_type"] in ("linear", "yarn"):
        writer.add_rope_scaling_type(RopeScalingType(rope["rope_type"]))
        writer.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] in ("yarn", "longrope"):
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])


def gguf_tensors(case: GgufFamilyCase, model: transformers.PreTrainedModel) -> Tensors:
    """The model's tensors under llama.cpp's names."""
    kind = next(kind for kind, name in MODEL_ARCH_NAMES.items() if name == case.architecture)
    names = get_tensor_name_map(MODEL_ARCH(kind), model.config.num_hidden_layers)
    tensors = {}
    for name, tensor in model.state_dict().items():
        if name in model.all_tied_weights_keys or name.endswith((".attn.bias", ".masked_bias")):
            continue
        for part, renamed in RENAMED.items():
            name = name.replace(part, renamed)
        # Some names are known without the part that only models with a head have.
        known = (names.get_name(n, try_suffixes=(".weight", ".bias")) for n in (name, name.removeprefix("transformer.")))
        gguf_name = next(filter(None, known), name)
        tensors[gguf_name] = case.change(name, tensor.numpy(), model.config)
    return tensors


def rotary_pairs(name: str, values: np.ndarray, config: transformers.PretrainedConfig) -> np.ndarray:
    """Rows of query and key heads in llama.cpp's order, of matrices and biases."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    part = name.split(".")[-2]
    if part not in heads:
        return values
    return interleave_rows(values.reshape(len(values), -1), heads[part]).reshape(values.shape)


def norms_plus_one(name: str, values: np.ndarray, config: transformers.PretrainedConfig) -> np.ndarray:
    """Gemma's norms without their centre."""
    return values + 1 if name.endswith("norm.weight") else values


def transposed(name: str, values: np.ndarray, config: transformers.PretrainedConfig) -> np.ndarray:
    """GPT-2's `Conv1D` as linear layers."""
    return values.T if name.split(".")[-2] in ("c_attn", "c_proj", "c_fc") and values.ndim == 2 else values


def joint_rows(name: str, values: np.ndarray, config: transformers.PretrainedConfig) -> np.ndarray:
    """All queries before all keys and all values, which come in a group for each key head."""
    if "query_key_value" not in name:
        return values
    groups = getattr(config, "num_kv_heads", config.num_attention_heads)
    head_dim = config.hidden_size // config.num_attention_heads
    heads = values.reshape(groups, -1, head_dim, *values.shape[1:])
    parts = (heads[:, :-2], heads[:, -2:-1], heads[:, -1:])
    return np.concatenate([part.reshape(-1, *values.shape[1:]) for part in parts])


def stacked_norms(tensors: Tensors) -> Tensors:
    """StableLM's norms of single heads, stacked."""
    out: Tensors = {}
    for name, values in tensors.items():
        if "_layernorm.norms." not in name:
            out[name] = values
            continue
        _, _, layer, _, part, _, _, _ = name.split(".")
        stack = f"blk.{layer}.attn_{part[0]}_norm.weight"
        out[stack] = np.concatenate([out[stack], values[None]]) if stack in out else values[None]
    return out


def llama3_divisors(config: transformers.PretrainedConfig) -> Tensors:
    """Divisors of the frequencies, where the config has llama3's scaling."""
    return {"rope_freqs.weight": frequency_divisors(config)}


def longrope_factors(config: transformers.PretrainedConfig) -> Tensors:
    """Both lists of factors."""
    rope = config.rope_parameters
    return {f"rope_factors_{kind}.weight": np.array(rope[f"{kind}_factor"], np.float32) for kind in ("short", "long")}


def separate_experts(tensors: Tensors, alternating: bool = False) -> Tensors:
    """Gates and inputs of all experts apart; in GPT-OSS they take turns, and matrices are transposed."""
    out: Tensors = {}
    for name, values in tensors.items():
        match = EXPERTS.fullmatch(name)
        if not match:
            out[name] = values
            continue
        layer, part, bias = match.groups()
        kind = "bias" if bias else "weight"
        if alternating and not bias:
            values = values.swapaxes(1, 2)
        if part == "down":
            out[f"blk.{layer}.ffn_down_exps.{kind}"] = values
            continue
        inner = values.shape[1] // 2
        halves = (values[:, ::2], values[:, 1::2]) if alternating else (values[:, :inner], values[:, inner:])
        for name, half in zip(("gate", "up"), halves):
            out[f"blk.{layer}.ffn_{name}_exps.{kind}"] = half
    return out


def separate_latent(tensors: Tensors, plain: int, value: int) -> Tensors:
    """What makes keys and values of latents apart, the first transposed; and experts."""
    out: Tensors = {}
    for name, values in separate_experts(tensors).items():
        if not name.endswith("attn_kv_b.weight"):
            out[name] = values
            continue
        heads = values.reshape(-1, plain + value, values.shape[-1])
        out[name.replace("kv_b", "k_b")] = heads[:, :plain].swapaxes(1, 2)
        out[name.replace("kv_b", "v_b")] = heads[:, plain:]
    return out


def vector_gate(name: str, values: np.ndarray, config: transformers.PretrainedConfig) -> np.ndarray:
    """The gate of Qwen2-MoE's shared expert without its axis of one row."""
    return values[0] if name.endswith("shared_expert_gate.weight") else values


def state_space(name: str, values: np.ndarray, config: transformers.PretrainedConfig) -> np.ndarray:
    """Mamba's decays as they are used, and its convolution without the axis of one input channel."""
    if name.endswith("A_log"):
        return -np.exp(values)
    return values.squeeze(1) if name.endswith("conv1d.weight") else values


def to_mxfp4(model: transformers.PreTrainedModel) -> None:
    """GPT-OSS's experts as MXFP4 holds them, along their inputs."""
    for name, tensor in model.named_parameters():
        if name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            rows = np.ascontiguousarray(tensor.detach().numpy().swapaxes(1, 2))
            kind = GGMLQuantizationType.MXFP4
            held = dequantize(quantize(rows, kind), kind).reshape(rows.shape)
            tensor.data = torch.from_numpy(held.swapaxes(1, 2).copy())
