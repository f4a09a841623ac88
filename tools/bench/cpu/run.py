"""Compares castiron with its peers on the CPU: see tools/bench/README.md."""

import argparse
import fcntl
import os
import platform
import shlex
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "common"))

from growth import growth
from options import asked, parsed, parser
from padding import padding
from peer import Peer, Place, Unavailable
from peers.candle import Candle
from peers.castiron import Castiron
from peers.frameworks import frameworks
from peers.llama_cpp import LlamaCpp
from quality import quality
from recurrence import recurrence
from report import markdown
from rounds import Row, Versions, prepared, processor, rows, tell
from table import write_json
from workloads import Workload, workloads

REPOSITORY = Path(__file__).resolve().parents[3]
EXTRAS = ("growth", "quality", "padding", "recurrence")


def arguments() -> argparse.Namespace:
    """The command line."""
    made = parser(__doc__, "cpu", [*workloads(quick=False), *EXTRAS])
    made.add_argument("--threads", type=int, default=2, help="threads of each peer [default: 2]")
    made.add_argument("--wait", type=float, default=0, help="longest wait for an idle machine before a process, s")
    return parsed(made)


def compare(
    workload: Workload, peers: list[Peer], versions: Versions, options: argparse.Namespace
) -> list[Row]:
    """All peers in turn, round by round, so that what else the machine does meets all of them."""
    found = rows(peers, versions)
    for number in range(options.rounds):
        for row, peer in zip(found, peers, strict=True):
            tell(f"{workload.title}: round {number + 1}, {peer.name}")
            wait_for_idle(options.wait)
            row.add(lambda peer=peer: peer.measure(workload, options.runs))
    return found


def wait_for_idle(seconds: float) -> None:
    """Until nothing else ran in twenty looks at the machine, or for so long."""
    end, idle = time.monotonic() + seconds, 0
    while time.monotonic() < end and idle < 20:
        running = int(Path("/proc/loadavg").read_text().split()[3].partition("/")[0])
        idle = idle + 1 if running <= 1 else 0
        time.sleep(0.05)


def main() -> None:
    """Prepare, measure, write."""
    options = arguments()
    # Two comparisons would disturb one another, and write artifacts of two compilers to the same files.
    lock = (options.work / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SystemExit(f"another comparison runs in {options.work}") from None
    place = Place(options.work.resolve(), REPOSITORY, options.seconds)
    target = Path(os.environ.get("CARGO_TARGET_DIR") or REPOSITORY / "target")
    castiron = Castiron(place, target.resolve(), options.castiron, options.threads)
    checkpoint = castiron.checkpoints.of
    llama = [LlamaCpp(place, checkpoint, options.threads, is_flash) for is_flash in (False, True)]
    others: list[Peer] = [*llama, Candle(place, checkpoint, options.threads)]
    others += [framework.at(place, checkpoint, options.threads) for framework in frameworks()]
    peers: list[Peer] = [castiron, *asked(others, options)]
    versions = prepared(peers)
    if isinstance(versions[castiron.name], Unavailable):
        raise SystemExit(f"castiron: {versions[castiron.name]}")
    about = {
        "machine": processor(),
        "system": platform.platform(),
        "limits": castiron.limits(),
        "versions": {peer: str(version) for peer, version in versions.items()},
        "command": shlex.join(["python3", "tools/bench/cpu/run.py", *sys.argv[1:]]),
        "rounds": options.rounds,
        "runs": options.runs,
    }
    output = options.output or options.work
    output.mkdir(parents=True, exist_ok=True)
    tables: list[tuple[Workload, dict[str, Any]]] = []
    more: dict[str, dict[str, Any]] = {}

    def write() -> None:
        # After each workload, so that what was measured stays if the rest is interrupted.
        write_json(output / "cpu.json", about | {"more": more}, [table for _, table in tables])
        (output / "cpu.md").write_text(markdown(about, tables, more))

    for name, workload in workloads(options.quick).items():
        if options.workloads and name not in options.workloads:
            continue
        found = compare(workload, peers, versions, options)
        table = {"workload": name, "title": workload.title, "measures": workload.measures}
        tables.append((workload, table | {"rows": [asdict(row) | {"summary": row.summary()} for row in found]}))
        write()
    is_there = [peer for peer in peers if not isinstance(versions[peer.name], Unavailable)]
    decoders = [peer for peer in is_there if isinstance(peer, Castiron | LlamaCpp)]
    encoders = [peer for peer in is_there if not isinstance(peer, LlamaCpp)]
    extras = (
        ("growth", growth, decoders),
        ("quality", quality, decoders),
        ("padding", padding, encoders),
        ("recurrence", recurrence, [castiron]),
    )
    for name, extra, those in extras:
        if not options.workloads or name in options.workloads:
            more[name] = extra(those, options.quick)
            write()
    print(markdown(about, tables, more))


main()
