"""Times a BERT-shaped encoder of random weights on ONNX Runtime's WebGPU provider.

Arguments: layers, hidden, heads, intermediate, vocabulary, batch, sequence, warm-up runs, runs. Prints
the milliseconds of each run, one a line. Needs the packages `onnx` and `onnxruntime-webgpu`.
"""

import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
from onnx import ModelProto, TensorProto, helper

sys.path.append(str(Path(__file__).resolve().parents[1] / "common"))
from onnx_builder import Builder


def encoder(layers: int, hidden: int, heads: int, wide: int, vocabulary: int, batch: int, sequence: int) -> ModelProto:
    """`ids`, `positions`, `types: i32[batch, sequence]` → `[batch, sequence, hidden]`, attention as one contrib op."""
    b = Builder()
    tables = {"ids": b.weight(vocabulary, hidden), "positions": b.weight(512, hidden), "types": b.weight(2, hidden)}
    words, positions, types = (b.op("Gather", table, name) for name, table in tables.items())
    x = b.norm(b.op("Add", b.op("Add", words, positions), types), hidden)
    for _ in range(layers):
        query, key, value = (b.linear(x, hidden, hidden) for _ in range(3))
        mixed = b.op("MultiHeadAttention", query, key, value, num_heads=heads, domain="com.microsoft")
        x = b.norm(b.op("Add", x, b.linear(mixed, hidden, hidden)), hidden)
        inner = b.op("Gelu", b.linear(x, hidden, wide))
        x = b.norm(b.op("Add", x, b.linear(inner, wide, hidden)), hidden)
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT32, [batch, sequence]) for name in tables]
    output = helper.make_tensor_value_info(x, TensorProto.FLOAT, [batch, sequence, hidden])
    graph = helper.make_graph(b.nodes, "encoder", inputs, [output], b.weights)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def main() -> None:
    """Build, run, print."""
    *sizes, warm_up, runs = map(int, sys.argv[1:])
    batch, sequence = sizes[-2:]
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    model = encoder(*sizes).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["WebGpuExecutionProvider"])
    steps = np.tile(np.arange(sequence, dtype=np.int32), (batch, 1))
    feed = {"ids": steps % 29 + 3, "positions": steps, "types": np.zeros_like(steps)}
    for run in range(warm_up + runs):
        start = time.perf_counter()
        session.run(None, feed)
        if run >= warm_up:
            print((time.perf_counter() - start) * 1e3)


main()
