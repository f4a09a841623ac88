"""Writes a LLaMA or Qwen2 of given sizes with random weights as GGUF: `write_gguf.py SIZES ENCODING FILE`.

SIZES is a JSON object with the fields of `models.Decoder`. Needs the package `gguf`. As llama.cpp's own
quantiser does, 4-bit files store the head of the vocabulary in more bits: as Q6_K where its rows have
whole blocks of 256, else as Q8_0.
"""

import itertools
import json
import sys
from types import SimpleNamespace

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter, LlamaFileType, quantize

POOL = 4093 * 256
"""Weights that are drawn; they are repeated, since values do not matter to time."""
FILE_TYPES = {
    "F16": LlamaFileType.MOSTLY_F16,
    "Q8_0": LlamaFileType.MOSTLY_Q8_0,
    "Q4_0": LlamaFileType.MOSTLY_Q4_0,
    "Q4_1": LlamaFileType.MOSTLY_Q4_1,
}


def pool(encoding: GGMLQuantizationType) -> np.ndarray:
    """The bytes of the drawn weights."""
    random = np.random.default_rng(0)
    if encoding == GGMLQuantizationType.Q6_K:
        # 128 + 64 bytes of numbers, 16 of scales, then a factor in f16, small as a real one.
        blocks = random.integers(0, 256, (POOL // 256, 210), np.uint8)
        blocks[:, 192:208] %= 32
        blocks[:, 208:] = np.frombuffer(np.float16(1e-4).tobytes(), np.uint8)
        return blocks.reshape(-1)
    values = (random.standard_normal(POOL) * 0.02).astype(np.float32)
    return quantize(values, encoding).view(np.uint8).reshape(-1)


def main() -> None:
    """Metadata, then tensor after tensor."""
    sizes = SimpleNamespace(**json.loads(sys.argv[1]))
    encoding = GGMLQuantizationType[sys.argv[2]]
    head_dim = sizes.hidden // sizes.heads
    writer = GGUFWriter(sys.argv[3], sizes.architecture)
    writer.add_block_count(sizes.layers)
    writer.add_context_length(sizes.positions)
    writer.add_embedding_length(sizes.hidden)
    writer.add_feed_forward_length(sizes.intermediate)
    writer.add_head_count(sizes.heads)
    writer.add_head_count_kv(sizes.kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(sizes.theta)
    writer.add_rope_dimension_count(head_dim)
    writer.add_vocab_size(sizes.vocabulary)
    writer.add_file_type(FILE_TYPES[encoding.name])
    writer.add_tokenizer_model("no_vocab")
    turn = itertools.count()
    pools: dict[GGMLQuantizationType, np.ndarray] = {}

    def matrix(name: str, rows: int, columns: int, kind: GGMLQuantizationType = encoding) -> None:
        block, block_bytes = GGML_QUANT_SIZES[kind]
        if kind not in pools:
            pools[kind] = pool(kind)
        row = columns // block * block_bytes
        # Compilers merge products with equal weights, so that every tensor starts elsewhere.
        start = next(turn) * 101 % 4093 * (256 // block * block_bytes)
        data = np.resize(np.roll(pools[kind], -start), rows * row).reshape(rows, row)
        writer.add_tensor(f"{name}.weight", data, raw_dtype=kind)

    def vector(name: str, values: np.ndarray) -> None:
        writer.add_tensor(name, values.astype(np.float32))

    finer = GGMLQuantizationType.Q8_0 if sizes.hidden % 256 else GGMLQuantizationType.Q6_K
    head = finer if encoding.name.startswith("Q4") else encoding
    matrix("token_embd", sizes.vocabulary, sizes.hidden, head if sizes.tied else encoding)
    if not sizes.tied:
        matrix("output", sizes.vocabulary, sizes.hidden, head)
    vector("output_norm.weight", np.ones(sizes.hidden))
    width, key_width = sizes.heads * head_dim, sizes.kv_heads * head_dim
    for layer in (f"blk.{index}" for index in range(sizes.layers)):
        vector(f"{layer}.attn_norm.weight", np.ones(sizes.hidden))
        vector(f"{layer}.ffn_norm.weight", np.ones(sizes.hidden))
        for name, rows, columns in (
            ("attn_q", width, sizes.hidden),
            ("attn_k", key_width, sizes.hidden),
            ("attn_v", key_width, sizes.hidden),
            ("attn_output", sizes.hidden, width),
        ):
            matrix(f"{layer}.{name}", rows, columns)
            if sizes.architecture == "qwen2" and name != "attn_output":
                vector(f"{layer}.{name}.bias", np.full(rows, 0.01))
        matrix(f"{layer}.ffn_gate", sizes.intermediate, sizes.hidden)
        matrix(f"{layer}.ffn_up", sizes.intermediate, sizes.hidden)
        matrix(f"{layer}.ffn_down", sizes.hidden, sizes.intermediate)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


main()
