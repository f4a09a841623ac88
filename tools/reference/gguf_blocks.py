"""Encodes matrices in GGML types, those included that the `gguf` package can only decode."""

from dataclasses import dataclass

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize, quantize


@dataclass(frozen=True)
class BlockScales:
    """Where a block's f16 scales lie, and how the offset's scale relates to the main one."""

    scale_at: int
    offset_at: int | None = None
    offset_ratio: float = 0.0
    signed: bool = True


SCALES = {
    GGMLQuantizationType.Q2_K: BlockScales(scale_at=80, offset_at=82, offset_ratio=1.5, signed=False),
    GGMLQuantizationType.Q3_K: BlockScales(scale_at=108),
    GGMLQuantizationType.Q4_K: BlockScales(scale_at=0, offset_at=2, offset_ratio=7.5, signed=False),
    GGMLQuantizationType.Q5_K: BlockScales(scale_at=0, offset_at=2, offset_ratio=15.5, signed=False),
    GGMLQuantizationType.Q6_K: BlockScales(scale_at=208),
    GGMLQuantizationType.IQ4_NL: BlockScales(scale_at=0),
    GGMLQuantizationType.IQ4_XS: BlockScales(scale_at=0),
}


def encode(values: np.ndarray, ggml_type: GGMLQuantizationType, generator: np.random.Generator) -> np.ndarray:
    """`values` in a GGML type; where no encoder exists, random blocks of the same spread instead."""
    if ggml_type in SCALES:
        return random_blocks(values.shape, ggml_type, float(values.std()), generator)
    return quantize(np.ascontiguousarray(values, np.float32), ggml_type)


def random_blocks(
    shape: tuple[int, int], ggml_type: GGMLQuantizationType, std: float, generator: np.random.Generator
) -> np.ndarray:
    """Random block bytes `[rows, bytes]` that decode to values of standard deviation `std`."""
    block_size, block_bytes = GGML_QUANT_SIZES[ggml_type]
    rows, columns = shape
    blocks = generator.integers(0, 256, (rows, columns // block_size, block_bytes), np.uint8)
    scales = generator.uniform(0.5, 1.5, blocks.shape[:2])
    if SCALES[ggml_type].signed:
        scales *= generator.choice((-1.0, 1.0), scales.shape)
    unit = with_scales(blocks, ggml_type, scales * 0.01)
    spread = dequantize(unit.reshape(rows, -1), ggml_type).std()
    return with_scales(blocks, ggml_type, scales * 0.01 * std / spread).reshape(rows, -1)


def with_scales(blocks: np.ndarray, ggml_type: GGMLQuantizationType, scales: np.ndarray) -> np.ndarray:
    """The blocks with their f16 scales set; the offset's scale keeps the mean near zero."""
    layout = SCALES[ggml_type]
    blocks = blocks.copy()
    put_f16(blocks, layout.scale_at, scales)
    if layout.offset_at is not None:
        put_f16(blocks, layout.offset_at, scales * layout.offset_ratio)
    return blocks


def put_f16(blocks: np.ndarray, at: int, values: np.ndarray) -> None:
    """Store one f16 per block at a byte offset."""
    blocks[..., at : at + 2] = values.astype(np.float16)[..., None].view(np.uint8)
