"""Makes the committed test data: reference folders, sequence-op data, golden data of real models."""

import argparse
import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

import torch
from transformers.utils import logging

TESTS = Path(__file__).resolve().parents[2] / "tests"


def main() -> None:
    """Parse the command line and write what it asks for."""
    parser = argparse.ArgumentParser(prog="python tools/reference", description=__doc__)
    commands = parser.add_subparsers(required=True)
    fixtures = commands.add_parser("fixtures", help="write tests/fixtures/NAME")
    fixtures.add_argument("names", nargs="*", metavar="NAME", help="only these")
    fixtures.set_defaults(run=lambda arguments: write_fixtures(arguments.names))
    ops = commands.add_parser("ops", help="write tests/data/ir/NAME.safetensors")
    ops.set_defaults(run=lambda _: write_ops())
    ggml = commands.add_parser("ggml", help="write tests/data/ggml_blocks.safetensors and ir/src/blocks/grids.rs")
    ggml.set_defaults(run=lambda _: write_ggml())
    configs = commands.add_parser("configs", help="write tests/data/default_configs.json")
    configs.set_defaults(run=lambda _: write_configs())
    packages = commands.add_parser("packages", help="compare tests/fixtures with the packages of their models")
    packages.add_argument("names", nargs="*", metavar="NAME", help="only these")
    packages.set_defaults(run=lambda arguments: check_packages(arguments.names))
    real = commands.add_parser("real", help="write tests/data/smollm2.json and minilm.json")
    real.add_argument("models", type=Path, help="folder that both wheels are unzipped in")
    real.set_defaults(run=lambda arguments: write_real(arguments.models))
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    logging.set_verbosity_error()
    arguments.run(arguments)


def write_fixtures(names: list[str]) -> None:
    """Write the reference folders called `names`, or all of them."""
    from cases import CASES
    from folder import write_folder

    unknown = set(names) - {case.name for case in CASES}
    if unknown:
        raise SystemExit(f"no such case: {', '.join(sorted(unknown))}")
    for case in CASES:
        if not names or case.name in names:
            seed = write_folder(case, TESTS / "fixtures")
            print(f"{case.name} (seed {seed})", flush=True)


def write_ops() -> None:
    """Write the data of every sequence op."""
    from numpy_ops import write_all

    write_all(TESTS / "data" / "ir")


def write_configs() -> None:
    """Write the default configuration of every family."""
    from default_configs import write_all

    write_all(TESTS / "data" / "default_configs.json")


def check_packages(names: list[str]) -> None:
    """Compare references with the packages that define their models."""
    from package_check import check_all

    check_all(TESTS / "fixtures", names)


def write_ggml() -> None:
    """Write golden data of ggml's formats, and the source of their codebooks (to be formatted with rustfmt)."""
    from ggml_golden import write_codebooks, write_golden

    write_golden(TESTS / "data")
    write_codebooks(TESTS.parent / "ir" / "src" / "blocks" / "grids.rs")


def write_real(models: Path) -> None:
    """Write the golden data of the real models."""
    from real_models import write_real_models

    write_real_models(models, TESTS / "data")


if __name__ == "__main__":
    main()
