"""Writes a model with random weights as ONNX, in the fused ops of ONNX Runtime's CPU provider.

Arguments: `encoder` or `gpt2`, the sizes as JSON (fields of `models.Encoder` or `models.Gpt2`), the file.
The ops are those that ONNX Runtime's own optimiser of transformers puts in. Needs `onnx`, `numpy`.
"""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, ValueInfoProto, helper

sys.path.append(str(Path(__file__).resolve().parents[2] / "common"))
from onnx_builder import Builder

MICROSOFT = {"domain": "com.microsoft"}


def encoder(s: SimpleNamespace) -> ModelProto:
    """`ids`, `types: i32[batch, sequence]`, `mask: i32[batch, sequence]` → `[batch, sequence, hidden]`."""
    b = Builder()
    weights = [b.weight(n, s.hidden) for n in (s.vocabulary, s.positions, 2)] + [b.weight(s.hidden), b.weight(s.hidden)]
    x, _ = b.node("EmbedLayerNormalization", ("ids", "types", *weights), 2, epsilon=1e-12, **MICROSOFT)
    for _ in range(s.layers):
        packed, bias = b.weight(s.hidden, 3 * s.hidden), b.weight(3 * s.hidden)
        mixed = b.op("Attention", x, packed, bias, "mask", num_heads=s.heads, **MICROSOFT)
        x = skip_norm(b, b.op("MatMul", mixed, b.weight(s.hidden, s.hidden)), x, s.hidden, 1e-12)[0]
        inner = b.op("MatMul", x, b.weight(s.hidden, s.intermediate))
        inner = b.op("BiasGelu", inner, b.weight(s.intermediate), **MICROSOFT)
        x = skip_norm(b, b.op("MatMul", inner, b.weight(s.intermediate, s.hidden)), x, s.hidden, 1e-12)[0]
    inputs = [tensor(name, TensorProto.INT32, ["batch", "sequence"]) for name in ("ids", "types", "mask")]
    return model(b, inputs, [tensor(x, TensorProto.FLOAT, ["batch", "sequence", s.hidden])])


def gpt2(s: SimpleNamespace) -> ModelProto:
    """`ids`, `positions: i64[1, tokens]`, caches that are replaced where they lie → `best` after the last token."""
    b = Builder()
    table = b.weight(s.vocabulary, s.hidden)
    x = b.op("Add", b.op("Gather", table, "ids"), b.op("Gather", b.weight(s.positions, s.hidden), "positions"))
    inputs = [tensor(name, TensorProto.INT64, [1, "tokens"]) for name in ("ids", "positions")]
    inputs += [tensor("past", TensorProto.INT32, [1]), tensor("total", TensorProto.INT32, [])]
    outputs = []
    shape = [1, s.heads, "capacity", s.hidden // s.heads]
    normed = b.norm(x, s.hidden, 1e-5)
    for layer in range(s.layers):
        caches = [f"key{layer}", f"value{layer}"]
        inputs += [tensor(name, TensorProto.FLOAT, shape) for name in caches]
        operands = (b.linear(normed, s.hidden, 3 * s.hidden), "", "", *caches, "past", "total")
        heads = {"num_heads": s.heads, "kv_num_heads": s.heads}
        mixed, *present = b.node("GroupQueryAttention", operands, 3, **heads, **MICROSOFT)
        outputs += [tensor(name, TensorProto.FLOAT, shape) for name in present]
        normed, x = skip_norm(b, b.op("MatMul", mixed, b.weight(s.hidden, s.hidden)), x, s.hidden, 1e-5)
        inner = b.op("MatMul", normed, b.weight(s.hidden, 4 * s.hidden))
        inner = b.op("FastGelu", inner, b.weight(4 * s.hidden), **MICROSOFT)
        normed, x = skip_norm(b, b.op("MatMul", inner, b.weight(4 * s.hidden, s.hidden)), x, s.hidden, 1e-5)
    last = b.op("Gather", normed, b.constant(np.array(-1)), axis=1)
    logits = b.op("MatMul", last, b.weight(s.hidden, s.vocabulary))
    best = b.op("ArgMax", logits, axis=-1, keepdims=0)
    return model(b, inputs, [tensor(best, TensorProto.INT64, [1]), *outputs])


def skip_norm(b: Builder, x: str, residual: str, hidden: int, epsilon: float) -> tuple[str, str]:
    """LayerNorm of x + residual + bias; and that sum."""
    operands = (x, residual, b.weight(hidden), b.weight(hidden), b.weight(hidden))
    normed, _, _, total = b.node("SkipLayerNormalization", operands, 4, epsilon=epsilon, **MICROSOFT)
    return normed, total


def tensor(name: str, kind: int, shape: list[int | str]) -> ValueInfoProto:
    """An input or an output."""
    return helper.make_tensor_value_info(name, kind, shape)


def model(b: Builder, inputs: list[ValueInfoProto], outputs: list[ValueInfoProto]) -> ModelProto:
    """A model of these nodes."""
    graph = helper.make_graph(b.nodes, "model", inputs, outputs, b.weights)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


onnx.save({"encoder": encoder, "gpt2": gpt2}[sys.argv[1]](SimpleNamespace(**json.loads(sys.argv[2]))), sys.argv[3])
