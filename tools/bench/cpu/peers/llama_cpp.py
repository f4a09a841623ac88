"""llama.cpp, built from source for this processor by `llama-cpp-python`."""

from collections.abc import Callable
from pathlib import Path

from jobs import is_gguf, job_of, measured, run_job
from peer import Measured, Place, Unavailable
from workloads import Workload

VERSION = "0.3.36"
PACKAGES = [f"llama-cpp-python=={VERSION}", "numpy==2.4.6"]
SCRIPT = Path(__file__).parents[1] / "scripts" / "llama_cpp_job.py"
FEATURES = "import llama_cpp.llama_cpp as api; print(api.llama_print_system_info().decode())"


class LlamaCpp:
    """The GGUF file that castiron compiled; f16 caches; batches of 512; with flash attention or without."""

    def __init__(self, place: Place, checkpoint: Callable[[Workload], Path], threads: int, is_flash: bool) -> None:
        self.place = place
        self.checkpoint = checkpoint
        self.threads = threads
        self.is_flash = is_flash
        self.name = "llama.cpp, flash attention" if is_flash else "llama.cpp"
        self.interpreter = Path()

    def prepare(self) -> str:
        """Build it; the version names the features of the processor that it uses."""
        flags = "-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF -DLLAMA_CURL=OFF"
        self.interpreter = self.place.python("llama-cpp", PACKAGES, CMAKE_ARGS=flags, CMAKE_BUILD_PARALLEL_LEVEL="2")
        info = self.place.run([self.interpreter, "-c", FEATURES])
        used = [part.partition(" = ")[0].split()[-1] for part in info.split("|") if part.strip().endswith("= 1")]
        return f"llama-cpp-python {VERSION} ({' '.join(used)})"

    def run(self, workload: Workload, runs: int) -> tuple[dict, float]:
        """One process."""
        options: dict[str, object] = {"flash_attention": int(self.is_flash)}
        job = job_of(workload, self.checkpoint(workload), runs, self.threads, options)
        return run_job(self.place, [self.interpreter, SCRIPT], job)

    def measure(self, workload: Workload, runs: int) -> Measured:
        """Decoders of the LLaMA family."""
        if not is_gguf(workload):
            raise Unavailable("not measured: its f32 models would need GGUF checkpoints")
        return measured(workload, self.run, runs)
