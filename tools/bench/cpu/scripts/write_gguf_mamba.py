"""Writes a Mamba of given sizes with random weights as GGUF: `write_gguf_mamba.py SIZES ENCODING FILE`.

SIZES is a JSON object with the fields of `models.Mamba`. Needs the package `gguf`. As llama.cpp's own quantiser
does, a matrix whose rows are no whole blocks is stored in F16, and what is no matrix product in F32.
"""

import json
import sys
from types import SimpleNamespace

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter, LlamaFileType, quantize

FILE_TYPES = {"F16": LlamaFileType.MOSTLY_F16, "Q8_0": LlamaFileType.MOSTLY_Q8_0}


def main() -> None:
    """Metadata, then tensor after tensor."""
    sizes = SimpleNamespace(**json.loads(sys.argv[1]))
    encoding = GGMLQuantizationType[sys.argv[2]]
    random = np.random.default_rng(0)
    writer = GGUFWriter(sys.argv[3], "mamba")
    writer.add_block_count(sizes.layers)
    writer.add_context_length(1 << 20)
    writer.add_embedding_length(sizes.hidden)
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_ssm_conv_kernel(sizes.taps)
    writer.add_ssm_inner_size(sizes.inner)
    writer.add_ssm_state_size(sizes.state)
    writer.add_ssm_time_step_rank(sizes.rank)
    writer.add_ssm_dt_b_c_rms(False)
    writer.add_vocab_size(sizes.vocabulary)
    writer.add_file_type(FILE_TYPES[encoding.name])
    writer.add_tokenizer_model("no_vocab")

    def matrix(name: str, rows: int, columns: int) -> None:
        kind = encoding if columns % GGML_QUANT_SIZES[encoding][0] == 0 else GGMLQuantizationType.F16
        values = (random.standard_normal((rows, columns), np.float32) * 0.02).astype(np.float32)
        writer.add_tensor(f"{name}.weight", quantize(values, kind), raw_dtype=kind)

    def vector(name: str, values: np.ndarray) -> None:
        writer.add_tensor(name, values.astype(np.float32))

    matrix("token_embd", sizes.vocabulary, sizes.hidden)
    vector("output_norm.weight", np.ones(sizes.hidden))
    for layer in (f"blk.{index}" for index in range(sizes.layers)):
        vector(f"{layer}.attn_norm.weight", np.ones(sizes.hidden))
        matrix(f"{layer}.ssm_in", 2 * sizes.inner, sizes.hidden)
        vector(f"{layer}.ssm_conv1d.weight", random.standard_normal((sizes.inner, sizes.taps)) * 0.2)
        vector(f"{layer}.ssm_conv1d.bias", np.full(sizes.inner, 0.01))
        matrix(f"{layer}.ssm_x", sizes.rank + 2 * sizes.state, sizes.inner)
        matrix(f"{layer}.ssm_dt", sizes.inner, sizes.rank)
        vector(f"{layer}.ssm_dt.bias", np.full(sizes.inner, -4.0))
        vector(f"{layer}.ssm_a", -np.tile(np.arange(1, sizes.state + 1), (sizes.inner, 1)))
        vector(f"{layer}.ssm_d", np.ones(sizes.inner))
        matrix(f"{layer}.ssm_out", sizes.hidden, sizes.inner)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


main()
