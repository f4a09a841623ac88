"""Golden data of ggml's block formats: random blocks and what the `gguf` package decodes them to."""

import zlib
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize
from gguf.quants import _type_traits
from safetensors.numpy import save_file

BLOCKS = 3

# Where the f16 numbers of a block are, whose exponents must not be those of infinity or NaN.
HALVES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
    "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0], "IQ3_S": [0], "IQ3_XXS": [0],
    "IQ2_S": [0], "IQ2_XS": [0], "IQ2_XXS": [0], "IQ1_S": [0], "TQ1_0": [52], "TQ2_0": [64],
}  # fmt: skip


def write_golden(folder: Path) -> None:
    """Write `ggml_blocks.safetensors`: `NAME.raw` (bytes) and `NAME.values` (f32) of each format."""
    tensors = {}
    for kind in sorted(_type_traits, key=lambda kind: kind.value):
        if kind == GGMLQuantizationType.BF16:
            continue
        generator = np.random.default_rng(zlib.crc32(kind.name.encode()))
        raw = generator.integers(0, 256, (BLOCKS, GGML_QUANT_SIZES[kind][1]), np.uint8)
        for at in HALVES.get(kind.name, []):
            raw[:, at + 1] &= 0xBF  # exponents below 16
        if kind == GGMLQuantizationType.IQ1_M:
            raw[:, 55] &= 0xBF  # the upper bits of its f16 are the last word's upper nibble
        tensors[f"{kind.name}.raw"] = raw
        tensors[f"{kind.name}.values"] = dequantize(raw, kind).astype(np.float32).reshape(-1)
    path = folder / "ggml_blocks.safetensors"
    save_file(tensors, path)
    path.chmod(0o644)


def write_codebooks(path: Path) -> None:
    """Write the Rust source of the IQ formats' codebooks."""
    from gguf import quants

    tables = [
        ("IQ2_XXS", quants.IQ2_XXS, 2, "Eight of the levels 8, 25, 43."),
        ("IQ2_XS", quants.IQ2_XS, 2, "Eight of the levels 8, 25, 43."),
        ("IQ2_S", quants.IQ2_S, 2, "Eight of the levels 8, 25, 43."),
        ("IQ3_XXS", quants.IQ3_XXS, 4, "Four of the levels 4, 12, 20, 28, 36, 44, 52, 62."),
        ("IQ3_S", quants.IQ3_S, 4, "Four of the levels 1, 3, 5, …, 15."),
        ("IQ1_S", quants.IQ1_S, 2, "Eight of the levels -1, 0, 1."),
    ]
    text = [
        "//! Codebooks of the IQ formats (llama.cpp, `ggml-common.h`): each entry stands for eight or four levels, two or\n"
        "//! four bits a level, the first in the lowest bits. Written by `python tools/reference ggml`.\n"
    ]
    for name, kind, bits, levels in tables:
        kind.init_grid()
        grid = kind.grid.reshape(kind.grid_shape)
        indices = np.argmax(grid[..., None] == np.array(kind.grid_map, np.float32), axis=-1)
        entries = (indices.astype(np.uint32) << (np.arange(grid.shape[1]) * bits)).sum(-1)
        numbers = " ".join(f"{entry:#x}," for entry in entries.tolist())
        text.append(f"/// {levels}\npub(super) const {name}: &[u16; {len(entries)}] = &[\n    {numbers}\n];\n")
    path.write_text("\n".join(text))
