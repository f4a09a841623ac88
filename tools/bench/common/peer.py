"""The common shape of what is measured, and how commands are run."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from workloads import Workload

Measured = dict[str, list[float]]
"""Milliseconds of each run by the workload's measures."""


class Unavailable(Exception):
    """A peer that cannot be installed, or does not run a workload; the text is the reason."""


class Peer(Protocol):
    """One program of the comparison."""

    name: str

    def prepare(self) -> str:
        """Install or build it; returns its version. Raises `Unavailable`."""

    def measure(self, workload: Workload, runs: int) -> Measured:
        """One run that does not count, then `runs` that do. Raises `Unavailable`."""


@dataclass(frozen=True)
class Place:
    """Where things are, and how long one command may take."""

    work: Path
    repository: Path
    seconds: float

    def run(self, command: list[str | Path], **environment: str) -> str:
        """What a command prints on its standard output; `Unavailable` says why there is none."""
        return self.run_bytes(command, **environment).decode(errors="replace")

    def run_bytes(self, command: list[str | Path], **environment: str) -> bytes:
        """The same, for what is no text."""
        words = [str(word) for word in command]
        try:
            done = subprocess.run(
                words,
                env=os.environ | environment,
                capture_output=True,
                timeout=self.seconds,
            )
        except FileNotFoundError:
            raise Unavailable(f"`{words[0]}` is not installed") from None
        except subprocess.TimeoutExpired:
            raise Unavailable(f"`{Path(words[0]).name}` took more than {self.seconds:.0f} s") from None
        if done.returncode != 0:
            raise Unavailable(f"`{Path(words[0]).name}` failed ({done.returncode}): {reason(done.stderr.decode(errors='replace'))}")
        return done.stdout

    def cargo_build(self, manifest: Path, target: Path, *arguments: str, **environment: str) -> None:
        """Build a project in release mode."""
        command = ["cargo", "build", "--release", "--manifest-path", manifest, *arguments]
        self.run(command, CARGO_TARGET_DIR=str(target), **environment)

    def python(self, name: str, packages: list[str], **environment: str) -> Path:
        """The interpreter of a virtual environment of that name with these packages."""
        interpreter = self.work / name / "bin" / "python"
        if not interpreter.exists():
            self.run([sys.executable, "-m", "venv", self.work / name])
        self.run([interpreter, "-m", "pip", "install", "--quiet", *packages], **environment)
        return interpreter


def reason(text: str) -> str:
    """The lines of an error output that name an error, else its last; at most 300 characters."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower() or "panicked" in line]
    return " / ".join(errors[:3] or lines[-1:])[:300]
