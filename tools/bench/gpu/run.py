"""Compares castiron's WGSL backend with its peers on the CPU's Vulkan driver: see README.md."""

import argparse
import os
import platform
import shlex
import statistics
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

from burn import Burn
from castiron import Castiron
from llama_cpp import LlamaCpp
from meganeura import Meganeura
from onnx_runtime import OnnxRuntime
from peer import Peer, Place, Unavailable
from report import markdown, write_json
from workloads import Workload, workloads

REPOSITORY = Path(__file__).resolve().parents[3]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


@dataclass
class Row:
    """What one peer did with one workload: milliseconds by measure, or why there are none."""

    peer: str
    version: str
    runs: dict[str, list[float]] = field(default_factory=dict)
    load: list[float] = field(default_factory=list)
    reason: str | None = None

    def add(self, peer: Peer, workload: Workload, runs: int) -> None:
        """Measure once more, unless it did not work before."""
        if self.reason:
            return
        self.load.append(round(os.getloadavg()[0], 2))
        try:
            for measure, values in peer.measure(workload, runs).items():
                self.runs.setdefault(measure, []).extend(values)
        except Unavailable as error:
            self.reason = str(error)

    def summary(self) -> dict[str, dict[str, float]]:
        """Median and extremes of each measure."""
        return {
            measure: {"median": statistics.median(values), "least": min(values), "most": max(values)}
            for measure, values in self.runs.items()
        }


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=CACHE / "castiron" / "bench-gpu", help="folder for installations")
    parser.add_argument("--output", type=Path, help="folder for gpu.md and gpu.json [default: the work folder]")
    parser.add_argument("--quick", action="store_true", help="few tokens, two rounds of one run")
    parser.add_argument("--rounds", type=int, help="processes of each peer, taking turns [default: 3; quick: 2]")
    parser.add_argument("--runs", type=int, help="measured runs of a process [default: 3; quick: 1]")
    parser.add_argument("--seconds", type=float, default=3600, help="longest time of one command")
    parser.add_argument("--castiron", type=Path, help="a built castiron to measure instead of building one")
    parser.add_argument("--peers", nargs="*", help="only peers whose names contain one of these words")
    parser.add_argument("--workloads", nargs="*", choices=list(workloads(quick=False)), help="only these")
    parsed = parser.parse_args()
    parsed.rounds = parsed.rounds or (2 if parsed.quick else 3)
    parsed.runs = parsed.runs or (1 if parsed.quick else 3)
    return parsed


def prepared(peers: list[Peer]) -> dict[str, str | Unavailable]:
    """The version of each peer, or why it is not there."""
    versions: dict[str, str | Unavailable] = {}
    for peer in peers:
        tell(f"preparing {peer.name}")
        try:
            versions[peer.name] = peer.prepare()
        except Unavailable as error:
            versions[peer.name] = error
    return versions


def compare(
    workload: Workload, peers: list[Peer], versions: dict[str, str | Unavailable], rounds: int, runs: int
) -> list[Row]:
    """All peers in turn, `rounds` times, so that what else the machine does meets all of them."""
    rows = []
    for peer in peers:
        version = versions[peer.name]
        if isinstance(version, Unavailable):
            rows.append(Row(peer.name, "", reason=str(version)))
        else:
            rows.append(Row(peer.name, version))
    for number in range(rounds):
        for row, peer in zip(rows, peers, strict=True):
            tell(f"{workload.title}: round {number + 1}, {peer.name}")
            row.add(peer, workload, runs)
    return rows


def machine() -> str:
    """The processor's name and how many cores this process may use."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name}, {len(os.sched_getaffinity(0))} cores"


def tell(text: str) -> None:
    """Progress, apart from the result."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Prepare, measure, write."""
    options = arguments()
    options.work.mkdir(parents=True, exist_ok=True)
    place = Place(options.work.resolve(), REPOSITORY, options.seconds)
    target = Path(os.environ.get("CARGO_TARGET_DIR") or REPOSITORY / "target")
    castiron = Castiron(place, target.resolve(), options.castiron)
    others: list[Peer] = [LlamaCpp(place, castiron.checkpoint), Meganeura(place), Burn(place), OnnxRuntime(place)]
    if options.peers is not None:
        others = [peer for peer in others if any(word.lower() in peer.name.lower() for word in options.peers)]
    peers = [castiron, *others]
    versions = prepared(peers)
    if isinstance(versions[castiron.name], Unavailable):
        raise SystemExit(f"castiron: {versions[castiron.name]}")
    about = {
        "machine": machine(),
        "adapters": castiron.devices(),
        "system": platform.platform(),
        "command": shlex.join(["python3", "tools/bench/gpu/run.py", *sys.argv[1:]]),
        "rounds": options.rounds,
        "runs": options.runs,
    }
    tables = []
    for name, workload in workloads(options.quick).items():
        if options.workloads and name not in options.workloads:
            continue
        rows = compare(workload, peers, versions, options.rounds, options.runs)
        tables.append(
            {
                "workload": name,
                "title": workload.title,
                "measures": workload.measures,
                "rows": [asdict(row) | {"summary": row.summary()} for row in rows],
            }
        )
        # After each workload, so that what was measured stays if the rest is interrupted.
        output = options.output or options.work
        output.mkdir(parents=True, exist_ok=True)
        write_json(output / "gpu.json", about, tables)
        (output / "gpu.md").write_text(markdown(about, tables))
    print(markdown(about, tables))


main()
