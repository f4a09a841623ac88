"""Peers take turns: what one of them did with one workload, round by round."""

import os
import platform
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from peer import Measured, Peer, Unavailable

Versions = dict[str, str | Unavailable]
"""The version of each peer, or why it is not there."""


@dataclass
class Row:
    """What one peer did with one workload: values by measure, or why there are none."""

    peer: str
    version: str
    runs: Measured = field(default_factory=dict)
    load: list[float] = field(default_factory=list)
    reason: str | None = None

    def add(self, measure_once: Callable[[], Measured]) -> None:
        """Measure once more, unless it did not work before."""
        if self.reason:
            return
        self.load.append(round(os.getloadavg()[0], 2))
        try:
            for measure, values in measure_once().items():
                self.runs.setdefault(measure, []).extend(values)
        except Unavailable as error:
            self.reason = str(error)

    def summary(self) -> dict[str, dict[str, float]]:
        """Median and extremes of each measure."""
        return {
            measure: {"median": statistics.median(values), "least": min(values), "most": max(values)}
            for measure, values in self.runs.items()
            if values
        }


def prepared(peers: list[Peer]) -> Versions:
    """Install or build every peer."""
    versions: Versions = {}
    for peer in peers:
        tell(f"preparing {peer.name}")
        try:
            versions[peer.name] = peer.prepare()
        except Unavailable as error:
            versions[peer.name] = error
    return versions


def rows(peers: list[Peer], versions: Versions) -> list[Row]:
    """A row for each peer; those that are not there have their reason already."""
    found = []
    for peer in peers:
        version = versions[peer.name]
        is_missing = isinstance(version, Unavailable)
        found.append(Row(peer.name, "", reason=str(version)) if is_missing else Row(peer.name, str(version)))
    return found


def processor() -> str:
    """The processor's name and how many cores this process may use."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name}, {len(os.sched_getaffinity(0))} cores"


def tell(text: str) -> None:
    """Progress, apart from the result."""
    print(text, file=sys.stderr, flush=True)
