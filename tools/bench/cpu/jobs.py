"""Runs one workload in a process of its own: the job as JSON on the command line, a result on the last line."""

import json
import time
from collections.abc import Callable
from pathlib import Path

from models import Gpt2, Mamba
from peer import Measured, Place, Unavailable
from workloads import Encoding, Generation, Workload

Job = dict[str, object]


def job_of(workload: Workload, path: Path, runs: int, threads: int, options: dict[str, object]) -> Job:
    """What `scripts/job.py` describes."""
    job: Job = {"path": str(path), "runs": runs, "threads": threads, "options": options}
    if isinstance(workload, Generation):
        kind = "state space" if is_mamba(workload) else "generation"
        return job | {"kind": kind, "prompt": workload.prompt, "new": workload.new}
    return job | {"kind": "encoding", "lengths": list(workload.lengths)}


def run_job(place: Place, command: list[str | Path], job: Job, **environment: str) -> tuple[dict, float]:
    """The result, and the milliseconds from the start of the process to its first token or output."""
    start = time.time()
    lines = place.run([*command, json.dumps(job)], **environment).splitlines()
    if not lines:
        raise Unavailable("its process printed nothing")
    result = json.loads(lines[-1])
    return result, result["first_at"] - start * 1e3


def measured(
    workload: Workload,
    run: Callable[[Workload, int], tuple[dict, float]],
    runs: int,
    has_cold_start: bool = True,
) -> Measured:
    """A process with warm runs, then one that ends after its first token: `run(workload, runs)` starts them.

    What interpreters take to import things counts as `imports_ms`, not as a cold start.
    """
    result, _ = run(workload, runs)
    found: Measured = result["runs"] | {"load_ms": [result["load_ms"]], "peak_rss_mb": [result["peak_rss_mb"]]}
    if has_cold_start:
        cold, first_ms = run(workload.cold, 0)
        imports = cold.get("imports_ms", 0.0)
        found |= {"cold_ms": [first_ms - imports], "imports_ms": [imports]}
    return found


def is_gpt2(workload: Workload) -> bool:
    """Whether it is GPT-2."""
    return isinstance(workload, Generation) and isinstance(workload.sizes, Gpt2)


def is_mamba(workload: Workload) -> bool:
    """Whether it is a state space."""
    return isinstance(workload, Generation) and isinstance(workload.sizes, Mamba)


def is_gguf(workload: Workload) -> bool:
    """Whether its checkpoint is a GGUF file."""
    return isinstance(workload, Generation) and workload.weights != "f32"


def is_encoding(workload: Workload) -> bool:
    """Whether it is an encoder's."""
    return isinstance(workload, Encoding)
