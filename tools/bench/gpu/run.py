"""Compares castiron's WGSL backend with its peers on the CPU's Vulkan driver: see README.md."""

import argparse
import os
import platform
import shlex
import sys
from dataclasses import asdict
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "common"))

from burn import Burn
from castiron import Castiron
from llama_cpp import LlamaCpp
from meganeura import Meganeura
from onnx_runtime import OnnxRuntime
from peer import Peer, Place, Unavailable
from report import markdown
from rounds import Row, Versions, prepared, processor, rows, tell
from table import write_json
from workloads import Workload, workloads

REPOSITORY = Path(__file__).resolve().parents[3]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


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


def compare(workload: Workload, peers: list[Peer], versions: Versions, rounds: int, runs: int) -> list[Row]:
    """All peers in turn, `rounds` times, so that what else the machine does meets all of them."""
    found = rows(peers, versions)
    for number in range(rounds):
        for row, peer in zip(found, peers, strict=True):
            tell(f"{workload.title}: round {number + 1}, {peer.name}")
            row.add(lambda peer=peer: peer.measure(workload, runs))
    return found


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
        "machine": processor(),
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
        found = compare(workload, peers, versions, options.rounds, options.runs)
        tables.append(
            {
                "workload": name,
                "title": workload.title,
                "measures": workload.measures,
                "rows": [asdict(row) | {"summary": row.summary()} for row in found],
            }
        )
        # After each workload, so that what was measured stays if the rest is interrupted.
        output = options.output or options.work
        output.mkdir(parents=True, exist_ok=True)
        write_json(output / "gpu.json", about, tables)
        (output / "gpu.md").write_text(markdown(about, tables))
    print(markdown(about, tables))


main()
