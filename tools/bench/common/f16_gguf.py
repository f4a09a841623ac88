"""Writes a GGUF file anew with F16 matrices: `f16_gguf.py QUANTISED F16` (needs the package `gguf`)."""

import sys

import numpy as np
from gguf import GGUFReader, GGUFValueType, GGUFWriter, LlamaFileType, dequantize

OWN_FIELDS = ("GGUF.", "general.architecture", "general.file_type", "general.quantization_version")
"""Fields that the writer makes itself, or that no longer hold."""


def convert(source: str, destination: str) -> None:
    """Copy the metadata; make matrices F16 and leave vectors F32, as llama.cpp's converter does."""
    reader = GGUFReader(source)
    writer = GGUFWriter(destination, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if name.startswith(OWN_FIELDS):
            continue
        kind = field.types[0]
        element = field.types[-1] if kind == GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), kind, sub_type=element)
    writer.add_file_type(LlamaFileType.MOSTLY_F16)
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type)
        writer.add_tensor(tensor.name, values.astype(np.float16 if values.ndim > 1 else np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


convert(sys.argv[1], sys.argv[2])
