"""PyTorch, ONNX Runtime and OpenVINO, from their wheels, in one environment."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from jobs import is_encoding, is_gguf, is_mamba, job_of, measured, run_job
from peer import Measured, Place, Unavailable
from workloads import Encoding, Workload

VERSIONS = {
    "torch": "2.15.0",
    "transformers": "5.23.0",
    "accelerate": "1.15.0",
    "onnxruntime": "1.32.0",
    "openvino": "2026.4.1",
    "onnx": "1.23.2",
    "gguf": "0.19.0",
    "numpy": "2.4.6",
    "safetensors": "0.8.0",
}
SCRIPTS = Path(__file__).parents[1] / "scripts"


def environment(place: Place) -> Path:
    """The interpreter that has all of them."""
    return place.python("frameworks", [f"{package}=={version}" for package, version in VERSIONS.items()])


class Framework:
    """What these peers share: an environment, a script, and a checkpoint that may need converting."""

    has_cold_start = True

    def __init__(self, name: str, version: str, script: str, options: dict[str, object]) -> None:
        self.name = name
        self.version = version
        self.script = SCRIPTS / script
        self.options = options
        self.place: Place
        self.checkpoint: Callable[[Workload], Path]
        self.threads = 1
        self.interpreter = Path()

    def at(self, place: Place, checkpoint: Callable[[Workload], Path], threads: int) -> "Framework":
        """The same, with a place to work in."""
        self.place, self.checkpoint, self.threads = place, checkpoint, threads
        return self

    def prepare(self) -> str:
        """Install the wheels."""
        self.interpreter = environment(self.place)
        return self.version

    def model(self, workload: Workload) -> Path:
        """The file or folder that the script reads."""
        return self.checkpoint(workload)

    def run(self, workload: Workload, runs: int) -> tuple[dict, float]:
        """One process."""
        job = job_of(workload, self.model(workload), runs, self.threads, self.options)
        cache = str(self.place.work / "torchinductor")
        command = [self.interpreter, self.script]
        threads = str(self.threads)
        return run_job(self.place, command, job, OMP_NUM_THREADS=threads, TORCHINDUCTOR_CACHE_DIR=cache)

    def measure(self, workload: Workload, runs: int) -> Measured:
        """Models in f32."""
        if is_gguf(workload):
            raise Unavailable("not measured: it does not compute with this file's encoding")
        return measured(workload, self.run, runs, self.has_cold_start)

    def converted(self, workload: Workload, suffix: str, command: list[str | Path]) -> Path:
        """A file that a script writes once: `command` and the file's name."""
        file = self.place.work / f"{self.checkpoint(workload).name}{suffix}"
        if not file.exists():
            self.place.run([self.interpreter, *command, file])
        return file


def refuse_mamba(workload: Workload) -> None:
    """What has no graph here for state spaces says so."""
    if is_mamba(workload):
        raise Unavailable("not measured: its converter has no fused scan for Mamba")


class Compiled(Framework):
    """`torch.compile`; a cold start would measure the compiler."""

    has_cold_start = False


class OnnxRuntime(Framework):
    """A graph in the fused ops of its CPU provider."""

    def model(self, workload: Workload) -> Path:
        """Random weights of the same sizes."""
        refuse_mamba(workload)
        kind = "encoder" if is_encoding(workload) else "gpt2"
        sizes = workload.encoder if isinstance(workload, Encoding) else workload.sizes
        return self.converted(workload, ".onnx", [SCRIPTS / "onnx_write.py", kind, json.dumps(asdict(sizes))])


class OpenVino(Framework):
    """The checkpoint, converted from PyTorch."""

    def model(self, workload: Workload) -> Path:
        """OpenVINO IR in f32."""
        refuse_mamba(workload)
        kind = "encoder" if is_encoding(workload) else "gpt2"
        return self.converted(workload, ".xml", [SCRIPTS / "openvino_write.py", kind, self.checkpoint(workload)])


def frameworks() -> list[Framework]:
    """Each of them, in each way to run it."""
    onnx, vino, torch = (VERSIONS[name] for name in ("onnxruntime", "openvino", "torch"))
    return [
        OnnxRuntime("ONNX Runtime", onnx, "onnx_job.py", {}),
        OpenVino("OpenVINO", vino, "openvino_job.py", {}),
        Framework("PyTorch", torch, "torch_job.py", {}),
        Compiled("torch.compile", torch, "torch_job.py", {"compile": "default"}),
        Compiled("torch.compile, max-autotune", torch, "torch_job.py", {"compile": "max-autotune-no-cudagraphs"}),
    ]
