"""The command line that comparisons share."""

import argparse
import os
from collections.abc import Iterable
from pathlib import Path

from peer import Peer

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def parser(about: str | None, kind: str, workloads: Iterable[str]) -> argparse.ArgumentParser:
    """Options of the comparison `kind`, which can measure these workloads."""
    names = list(workloads)
    made = argparse.ArgumentParser(description=about)
    work = CACHE / "castiron" / f"bench-{kind}"
    made.add_argument("--work", type=Path, default=work, help="folder for installations")
    made.add_argument("--output", type=Path, help=f"folder for {kind}.md and {kind}.json [default: the work folder]")
    made.add_argument("--quick", action="store_true", help="few tokens, two rounds of one run")
    made.add_argument("--rounds", type=int, help="processes of each peer, taking turns [default: 3; quick: 2]")
    made.add_argument("--runs", type=int, help="measured runs of a process [default: 3; quick: 1]")
    made.add_argument("--seconds", type=float, default=3600, help="longest time of one command")
    made.add_argument("--castiron", type=Path, help="a built castiron to measure instead of building one")
    made.add_argument("--peers", nargs="*", help="only peers whose names contain one of these words")
    made.add_argument("--workloads", nargs="*", choices=names, metavar="NAME", help=f"only these of {names}")
    return made


def parsed(made: argparse.ArgumentParser) -> argparse.Namespace:
    """What was asked for, with the defaults that depend on it; the work folder is there."""
    options = made.parse_args()
    options.rounds = options.rounds or (2 if options.quick else 3)
    options.runs = options.runs or (1 if options.quick else 3)
    options.work.mkdir(parents=True, exist_ok=True)
    return options


def asked(peers: list[Peer], options: argparse.Namespace) -> list[Peer]:
    """The peers that were asked for."""
    if options.peers is None:
        return peers
    return [peer for peer in peers if any(word.lower() in peer.name.lower() for word in options.peers)]
