"""Peers take turns: what one of them did with one workload, round by round."""

import os
import platform
import resource
import statistics
import sys
import time
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
    others: list[float] = field(default_factory=list)
    """Share of the machine that other programs took in each round."""
    reason: str | None = None

    def add(self, measure_once: Callable[[], Measured]) -> None:
        """Measure once more, unless it did not work before."""
        if self.reason:
            return
        self.load.append(round(os.getloadavg()[0], 2))
        busy, own, start = busy_seconds(), own_seconds(), time.monotonic()
        try:
            for measure, values in measure_once().items():
                self.runs.setdefault(measure, []).extend(values)
        except Unavailable as error:
            self.reason = str(error)
        others = busy_seconds() - busy - (own_seconds() - own)
        whole = (time.monotonic() - start) * (os.cpu_count() or 1)
        self.others.append(round(max(0.0, others / whole), 3))

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


def busy_seconds() -> float:
    """Processor time of all programs since the machine started; 0 where the system does not tell it."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return 0.0
    user, nice, system, _idle, _iowait, irq, softirq, steal, *_ = map(int, stat.read_text().split("\n", 1)[0].split()[1:])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def own_seconds() -> float:
    """Processor time of this process and of those that it started and that ended."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


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
