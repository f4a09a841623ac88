"""HyenaDNA in the size of hyenadna-large-1m through castiron and through PyTorch's FFT: see tools/bench/README.md."""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]
CONFIG = dict(
    architectures=["HyenaDNAForSequenceClassification"],
    model_type="hyenadna",
    d_model=256,
    d_inner=1024,
    n_layer=8,
    vocab_size=32,
    pad_vocab_size_multiple=8,
    emb_dim=5,
    filter_order=64,
    num_inner_mlps=2,
    hyena_order=2,
    short_filter_order=3,
    num_labels=2,
)


def arguments() -> argparse.Namespace:
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--lengths", nargs="+", type=int, default=[1024, 32768], help="tokens [default: 1024 32768]")
    made.add_argument("--alone", nargs="*", type=int, default=[], help="tokens that only castiron reads")
    made.add_argument("--rounds", type=int, default=3, help="processes of each that take turns [default: 3]")
    made.add_argument("--runs", type=int, default=2, help="runs of each process that count [default: 2]")
    made.add_argument("--threads", type=int, default=2, help="threads of each [default: 2]")
    made.add_argument("--castiron", type=Path, help="a built program [default: cargo run --release]")
    made.add_argument("--work", type=Path, default=Path.home() / ".cache" / "castiron-bench" / "hyena")
    return made.parse_args()


def write_checkpoint(folder: Path, places: int) -> None:
    """Random weights, and features of places as the published code initialises them."""
    generator = np.random.default_rng(1)
    width, inner, order = CONFIG["d_model"], CONFIG["d_inner"], CONFIG["filter_order"]
    tensors: dict[str, np.ndarray] = {}

    def normal(name: str, *shape: int, scale: float) -> None:
        tensors[name] = generator.normal(0.0, scale, shape).astype(np.float32)

    def dense(name: str, outputs: int, inputs: int) -> None:
        normal(f"{name}.weight", outputs, inputs, scale=inputs**-0.5)
        normal(f"{name}.bias", outputs, scale=0.1)

    def norm(name: str) -> None:
        tensors[f"{name}.weight"] = np.ones(width, np.float32)
        tensors[f"{name}.bias"] = np.zeros(width, np.float32)

    normal("hyena.backbone.embeddings.word_embeddings.weight", 32, width, scale=0.5)
    normal("score.weight", 2, width, scale=0.1)
    norm("hyena.backbone.ln_f")
    t = np.linspace(0, 1, places, dtype=np.float32)
    bands = np.linspace(1e-4, 1, (CONFIG["emb_dim"] - 1) // 2)
    waves = np.exp(-2j * np.pi * np.arange(places)[:, None] / places * bands)
    z = np.concatenate([t[:, None], waves.real, waves.imag], 1)[None].astype(np.float32)
    for layer in range(CONFIG["n_layer"]):
        name = f"hyena.backbone.layers.{layer}."
        norm(f"{name}norm1")
        norm(f"{name}norm2")
        dense(f"{name}mlp.fc1", inner, width)
        dense(f"{name}mlp.fc2", width, inner)
        name = f"{name}mixer."
        dense(f"{name}in_proj", 3 * width, width)
        dense(f"{name}out_proj", width, width)
        normal(f"{name}short_filter.weight", 3 * width, 1, 3, scale=0.6)
        normal(f"{name}short_filter.bias", 3 * width, scale=0.1)
        name = f"{name}filter_fn."
        normal(f"{name}bias", width, scale=1.0)
        tensors |= {f"{name}pos_emb.z": z, f"{name}pos_emb.t": t[None, :, None]}
        tensors[f"{name}modulation.deltas"] = np.linspace(-3.07, -15.35, width, dtype=np.float32)[None, None]
        dense(f"{name}implicit_filter.0", order, CONFIG["emb_dim"])
        dense(f"{name}implicit_filter.2", order, order)
        dense(f"{name}implicit_filter.4", order, order)
        normal(f"{name}implicit_filter.6.weight", width, order, scale=order**-0.5)
        tensors[f"{name}implicit_filter.1.freq"] = np.ones((1, order), np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG | {"max_seq_len": places}))


def last_json(command: list[str | Path]) -> dict:
    """What a process prints last."""
    done = subprocess.run([str(part) for part in command], cwd=REPOSITORY, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure, and print a line for each length."""
    options = arguments()
    program = [options.castiron] if options.castiron else ["cargo", "run", "--release", "--quiet", "--bin", "castiron", "--"]
    longest = max([*options.lengths, *options.alone])
    folder, artifact = options.work / f"{longest}", options.work / f"{longest}.iron"
    if not (folder / "config.json").exists():
        write_checkpoint(folder, longest)
    subprocess.run([str(part) for part in [*program, "compile", folder, "-o", artifact]], cwd=REPOSITORY, check=True)

    def castiron(length: int) -> dict:
        command = ["bench", artifact, "--batch", 1, "--seq", length, "--runs", options.runs, "--json"]
        found = last_json([*program, *command, "--threads", options.threads])
        return {"ms": [run["ms_per_batch"] for run in found["runs"]], "peak_rss_bytes": found["peak_rss_bytes"]}

    def torch(length: int) -> dict:
        return last_json([sys.executable, HERE / "torch_hyena.py", folder, length, options.runs, options.threads])

    load = os.getloadavg()[0]
    print(f"load average before: {load:.1f}\n| tokens | castiron, ms | PyTorch, ms | castiron ÷ PyTorch | peak, MB | PyTorch's peak, MB |\n|-|-|-|-|-|-|")
    for length in [*options.lengths, *options.alone]:
        rounds = [(castiron(length), torch(length) if length in options.lengths else None) for _ in range(options.rounds)]
        own = [statistics.median(ours["ms"]) for ours, _ in rounds]
        ratios = [statistics.median(theirs["ms"]) / ms for ms, (_, theirs) in zip(own, rounds) if theirs]
        peaks = [max(run["peak_rss_bytes"] for run in side if run) / 1e6 for side in zip(*rounds) if any(side)]
        others = [statistics.median(theirs["ms"]) for _, theirs in rounds if theirs]
        ratio = f"{statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]" if ratios else ""
        other = f"{statistics.median(others):.0f}" if others else ""
        other_peak = f"{peaks[1]:.0f}" if len(peaks) > 1 else ""
        print(f"| {length} | {statistics.median(own):.0f} | {other} | {ratio} | {peaks[0]:.0f} | {other_peak} |", flush=True)


main()
