"""ONNX Runtime's WebGPU provider."""

from pathlib import Path

from peer import Measured, Place, Unavailable
from workloads import Generation, Workload

VERSION = "1.27.0"
PACKAGES = [f"onnxruntime-webgpu=={VERSION}", "onnx==1.23.2", "numpy==2.4.6"]
SCRIPT = Path(__file__).with_name("onnx_encoder.py")
WARM_UP = 1


class OnnxRuntime:
    """A BERT-shaped ONNX graph with random weights, built by `onnx_encoder.py`; no fallback to the CPU."""

    name = "ONNX Runtime WebGPU"

    def __init__(self, place: Place) -> None:
        self.place = place
        self.interpreter = Path()

    def prepare(self) -> str:
        """Install the wheels."""
        self.interpreter = self.place.python("onnxruntime", PACKAGES)
        return VERSION

    def measure(self, workload: Workload, runs: int) -> Measured:
        """Token ids to output, f32."""
        if isinstance(workload, Generation):
            raise Unavailable("not measured: it does not read GGUF")
        e = workload.encoder
        sizes = [e.layers, e.hidden, e.heads, e.intermediate, e.vocabulary, workload.batch, workload.sequence]
        printed = self.place.run([self.interpreter, SCRIPT, *map(str, sizes), str(WARM_UP), str(runs)])
        return {"batch_ms": [float(line) for line in printed.splitlines()]}
