"""What a peer's process is told, and what it prints: one JSON object each.

The job: `kind` ("generation", "state space" or "encoding"), `path` of the checkpoint, `prompt` and `new` or `lengths`,
`runs`, `threads`, `options`. One run does not count; `runs` follow. The result: `first_at` (milliseconds
since 1970 when the first run had its first token or its output), `imports_ms`, `load_ms`, `runs` by
measure, `peak_rss_mb`. Without runs the process ends after that first token: a cold start.
"""

import json
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

START = time.perf_counter()
"""When this module was imported, which scripts do first."""
job = SimpleNamespace(**json.loads(sys.argv[1]))


def elapsed(start: float) -> float:
    """Milliseconds since a time of `perf_counter`."""
    return (time.perf_counter() - start) * 1e3


def token_ids(count: int) -> list[int]:
    """So many tokens that any vocabulary has, as `castiron bench` takes them."""
    return [index % 29 + 3 for index in range(count)]


class Result:
    """Collects what is measured and prints it."""

    def __init__(self) -> None:
        """Called when everything is imported."""
        self.imports_ms = elapsed(START)
        self.loading = time.perf_counter()
        self.load_ms = 0.0
        self.first_at = 0.0
        self.runs: dict[str, list[float]] = {}

    def loaded(self) -> None:
        """The model can be run now."""
        self.load_ms = elapsed(self.loading)

    def encode(self, forward: Callable[[], object]) -> None:
        """Time a batch."""
        forward()
        self.first_at = time.time() * 1e3
        for _ in range(job.runs):
            start = time.perf_counter()
            forward()
            self.add("batch_ms", elapsed(start))
        self.print()

    def generate(self, prompt: Callable[[], int], step: Callable[[int, int], int]) -> None:
        """Time a prompt and what follows: `prompt()` and `step(token, position)` give the best token."""
        for run in range(job.runs + 1):
            start = time.perf_counter()
            token = prompt()
            prompt_ms = elapsed(start)
            if run == 0:
                self.first_at = time.time() * 1e3
            if job.runs == 0:
                break
            start = time.perf_counter()
            for position in range(job.prompt, job.prompt + job.new - 1):
                token = step(token, position)
            if run > 0:
                self.add("prompt_ms", prompt_ms)
                self.add("token_ms", elapsed(start) / (job.new - 1))
        self.print()

    def add(self, measure: str, value: float) -> None:
        """One measured run."""
        self.runs.setdefault(measure, []).append(value)

    def print(self, **more: Any) -> None:
        """The result, as the last line."""
        fields = vars(self) | {"peak_rss_mb": peak_rss()} | more
        print(json.dumps({key: value for key, value in fields.items() if key != "loading"}))


def peak_rss() -> float:
    """Largest resident memory of this process so far, in megabytes."""
    with open("/proc/self/status") as status:
        kilobytes = next(line.split()[1] for line in status if line.startswith("VmHWM"))
    return int(kilobytes) * 1024 / 1e6
