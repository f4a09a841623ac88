"""llama.cpp's Vulkan backend, from the prebuilt binaries of the npm package `node-llama-cpp`."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from peer import Measured, Place, Unavailable
from workloads import Encoding, Workload

VERSION = "3.22.1"
SCRIPT = Path(__file__).with_name("llama_cpp.mjs")


class LlamaCpp:
    """Greedy decoding of the GGUF file that castiron reads, all layers on the adapter, f16 caches."""

    name = "llama.cpp Vulkan"

    def __init__(self, place: Place, checkpoint: Callable[[Workload], Path]) -> None:
        self.place = place
        self.checkpoint = checkpoint
        self.folder = place.work / "llama-cpp"

    def prepare(self) -> str:
        """Install the package without its scripts, which would build llama.cpp."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # npm gives platforms other than this one an empty package.
        install = ["npm", "install", "--prefix", self.folder, "--ignore-scripts", "--no-audit", "--no-fund"]
        self.place.run([*install, f"node-llama-cpp@{VERSION}"])
        package = self.folder / "node_modules" / "node-llama-cpp"
        release = json.loads((package / "llama" / "binariesGithubRelease.json").read_text())["release"]
        return f"{release} (node-llama-cpp {VERSION})"

    def measure(self, workload: Workload, runs: int) -> Measured:
        """llama.cpp leaves CPU adapters out unless they are named."""
        if isinstance(workload, Encoding):
            raise Unavailable("not measured: its encoders need GGUF checkpoints")
        # Modules are looked for beside the script, so that it has to lie beside them.
        script = shutil.copy(SCRIPT, self.folder)
        command = ["node", script, self.checkpoint(workload), str(workload.prompt), str(workload.new), str(runs)]
        printed = self.place.run(command, GGML_VK_VISIBLE_DEVICES="0")
        return json.loads(printed.splitlines()[-1])
