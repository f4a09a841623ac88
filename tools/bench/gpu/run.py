"""Compares castiron's WGSL backend with its peers on the CPU's Vulkan driver: see README.md."""

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
from options import asked, parsed, parser
from peer import Peer, Place, Unavailable
from report import markdown
from rounds import Row, Versions, prepared, processor, rows, tell
from table import write_json
from workloads import Workload, workloads

REPOSITORY = Path(__file__).resolve().parents[3]


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
    options = parsed(parser(__doc__, "gpu", workloads(quick=False)))
    place = Place(options.work.resolve(), REPOSITORY, options.seconds)
    target = Path(os.environ.get("CARGO_TARGET_DIR") or REPOSITORY / "target")
    castiron = Castiron(place, target.resolve(), options.castiron)
    others: list[Peer] = [LlamaCpp(place, castiron.checkpoint), Meganeura(place), Burn(place), OnnxRuntime(place)]
    peers = [castiron, *asked(others, options)]
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
