"""Writes ONNX graphs with random weights. Needs the packages `numpy` and `onnx`."""

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper


class Builder:
    """Nodes and random weights of a graph; its methods return the names of their results."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []
        self.random = np.random.default_rng(0)

    def weight(self, *shape: int) -> str:
        """A random f32 tensor."""
        return self.constant((self.random.standard_normal(shape, np.float32) * 0.02).astype(np.float32))

    def constant(self, values: np.ndarray) -> str:
        """A tensor with these values."""
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def op(self, kind: str, *inputs: str, **attributes: object) -> str:
        """A node with one result."""
        return self.node(kind, inputs, 1, **attributes)[0]

    def node(self, kind: str, inputs: tuple[str, ...], results: int, **attributes: object) -> list[str]:
        """A node with several results."""
        names = [f"v{len(self.nodes)}_{index}" for index in range(results)]
        self.nodes.append(helper.make_node(kind, inputs, names, **attributes))
        return names

    def linear(self, x: str, inputs: int, outputs: int) -> str:
        """x·W + b."""
        return self.op("Add", self.op("MatMul", x, self.weight(inputs, outputs)), self.weight(outputs))

    def norm(self, x: str, hidden: int, epsilon: float = 1e-12) -> str:
        """LayerNorm over the last axis."""
        return self.op("LayerNormalization", x, self.weight(hidden), self.weight(hidden), epsilon=epsilon)
