"""A reference folder with only `model.gguf`, as llama.cpp's converter writes it."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import transformers
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType, RopeScalingType, TokenType
from transformers import GenerationConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from case import Case
from gguf_blocks import encode
from vocabularies import CHAT_TEMPLATE, END, START, STOP, byte_level, merges
from weights import randomise

FILE = "model.gguf"
LONGEST_TEXT = 24

LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
TOP_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}


@dataclass(frozen=True, kw_only=True)
class GgufCase(Case):
    """A LLaMA in GGUF with the byte-level tokenizer; norms are F32 and matrices of the given types."""

    matrix_type: str
    """The GGML type of the matrices that `types` does not name."""

    types: dict[str, str] = field(default_factory=dict)
    """GGML types by the part of the name before `.weight`, such as `attn_q`."""

    file_type: str
    """What `general.file_type` says."""

    add_bos: bool = False
    """Whether the file asks for a start token before a text."""

    def write_checkpoint(self, folder: Path, generator: np.random.Generator) -> None:
        """See `Case`."""
        config = transformers.LlamaConfig(**self.config)
        model = transformers.LlamaForCausalLM(config)
        randomise(model, generator, {})
        writer = GGUFWriter(folder / FILE, "llama")
        self.add_model_keys(writer, config)
        self.add_tokenizer_keys(writer)
        for name, values in gguf_tensors(model).items():
            ggml_type = self.type_of(name, values)
            writer.add_tensor(name, encode(values, ggml_type, generator), raw_dtype=ggml_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

    def type_of(self, name: str, values: np.ndarray) -> GGMLQuantizationType:
        """The GGML type to store a tensor in."""
        part = name.split(".")[-2]
        return GGMLQuantizationType[self.types.get(part, self.matrix_type) if values.ndim > 1 else "F32"]

    def add_model_keys(self, writer: GGUFWriter, config: transformers.LlamaConfig) -> None:
        """Sizes and rotary scaling under llama.cpp's keys."""
        writer.add_type("model")
        writer.add_name(self.name)
        writer.add_block_count(config.num_hidden_layers)
        writer.add_context_length(config.max_position_embeddings)
        writer.add_embedding_length(config.hidden_size)
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_head_count(config.num_attention_heads)
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        if config.head_dim * config.num_attention_heads != config.hidden_size:
            writer.add_key_length(config.head_dim)
            writer.add_value_length(config.head_dim)
        writer.add_file_type(LlamaFileType[self.file_type])
        writer.add_vocab_size(config.vocab_size)
        writer.add_rope_dimension_count(config.head_dim)
        rope = config.rope_parameters
        if rope["rope_type"] in ("linear", "yarn"):
            writer.add_rope_scaling_type(RopeScalingType(rope["rope_type"]))
            writer.add_rope_scaling_factor(rope["factor"])
        if rope["rope_type"] == "yarn":
            writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])

    def add_tokenizer_keys(self, writer: GGUFWriter) -> None:
        """The byte-level tokenizer, whose first three tokens are control tokens."""
        vocabulary = byte_level().get_vocab()
        tokens = sorted(vocabulary, key=vocabulary.get)
        control = {END, START, STOP}
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("gpt-2")
        writer.add_token_list(tokens)
        writer.add_token_types([TokenType.CONTROL if token in control else TokenType.NORMAL for token in tokens])
        writer.add_token_merges(merges())
        writer.add_bos_token_id(vocabulary[START])
        writer.add_eos_token_id(vocabulary[STOP])
        writer.add_pad_token_id(vocabulary[END])
        writer.add_add_bos_token(self.add_bos)
        writer.add_chat_template(CHAT_TEMPLATE)
        writer.add_quantization_version(2)

    def load(self, folder: Path) -> transformers.PreTrainedModel:
        """See `Case`. Transformers does not read a LLaMA file's rotary scaling, so the config is completed here."""
        read = transformers.LlamaForCausalLM.from_pretrained(folder, gguf_file=FILE, dtype=torch.float32)
        config = read.config
        config._attn_implementation = "eager"
        config.rope_parameters = transformers.LlamaConfig(**self.config).rope_parameters
        model = transformers.LlamaForCausalLM(config)
        model.load_state_dict(read.state_dict())
        model.generation_config = GenerationConfig(
            bos_token_id=byte_level().token_to_id(START),
            eos_token_id=byte_level().token_to_id(STOP),
            pad_token_id=byte_level().token_to_id(END),
            max_new_tokens=LONGEST_TEXT,
        )
        return model.eval()


def gguf_tensors(model: transformers.LlamaForCausalLM) -> dict[str, np.ndarray]:
    """The model's tensors under llama.cpp's names, with the rows of q and k in its order."""
    config = model.config
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    tensors = {}
    for name, tensor in model.state_dict().items():
        if name in model.all_tied_weights_keys:
            continue
        gguf_name = TOP_NAMES.get(name) or layer_tensor_name(name)
        part = gguf_name.split(".")[-2]
        values = tensor.numpy()
        tensors[gguf_name] = interleave_rows(values, heads[part]) if part in heads else values
    if config.rope_parameters["rope_type"] == "llama3":
        tensors["rope_freqs.weight"] = frequency_divisors(config)
    return tensors


def layer_tensor_name(name: str) -> str:
    """`model.layers.3.mlp.up_proj.weight` is `blk.3.ffn_up.weight`."""
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{LAYER_NAMES[rest.removesuffix('.weight')]}.weight"


def interleave_rows(matrix: np.ndarray, heads: int) -> np.ndarray:
    """Rows of each head from transformers' halves to llama.cpp's pairs: row i and row i + d/2 become neighbours."""
    rows, columns = matrix.shape
    halves = matrix.reshape(heads, 2, rows // heads // 2, columns)
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(rows, columns)


def frequency_divisors(config: transformers.LlamaConfig) -> np.ndarray:
    """What llama.cpp divides each rotary frequency by, stored in the file for llama3's scaling."""
    plain = 1.0 / config.rope_parameters["rope_theta"] ** (np.arange(0, config.head_dim, 2) / config.head_dim)
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    return (plain / scaled.numpy()).astype(np.float32)
