"""How far logits of quantised weights are from those of the same weights in f32."""

import json
from pathlib import Path
from typing import Any

from peer import Peer, Unavailable
from peers.castiron import Castiron
from peers.frameworks import environment
from peers.llama_cpp import LlamaCpp
from rounds import tell

SCRIPTS = Path(__file__).with_name("scripts")
TEXT = (
    "Cast iron is a class of iron and carbon alloys with a carbon content of more than two percent. It is made by "
    "melting pig iron, often together with scrap, limestone and coke, and by taking steps to remove contaminants. "
    "Its usefulness derives from its relatively low melting temperature. The colour of a fracture surface tells the "
    "alloys apart: white cast iron is named after its white surface, grey cast iron after its grey one."
)
COLUMNS = ["", "largest error", "mean error", "KL divergence", "same best token"]


def quality(peers: list[Peer], _quick: bool) -> dict[str, Any]:
    """Errors on a text, SmolLM2-135M in Q4_1, against transformers with dequantised weights."""
    part: dict[str, Any] = {"title": "Logits against dequantised f32: SmolLM2-135M, Q4_1", "columns": COLUMNS}
    try:
        found = errors(peers)
    except Unavailable as error:
        return part | {"cells": [["all", str(error), "", "", ""]]}
    cells = [
        [name, f"{e['max']:.4f}", f"{e['mean']:.5f}", f"{e['kl']:.2e}", f"{e['same_best']:.1%}"]
        for name, e in found.items()
    ]
    return part | {"cells": cells}


def errors(peers: list[Peer]) -> dict[str, dict[str, float]]:
    """The errors by peer. Raises `Unavailable` if one of the programs is not there."""
    castiron = next(peer for peer in peers if isinstance(peer, Castiron))
    llama = next((peer for peer in peers if isinstance(peer, LlamaCpp)), None)
    if llama is None:
        raise Unavailable("llama.cpp, which tokenises the text, is not there")
    place, model = castiron.place, castiron.checkpoints.smollm2()
    files = {name: place.work / f"logits.{name}.f32" for name in ("castiron", "llama.cpp", "castiron-f32")}
    tell("quality: logits of llama.cpp and castiron")
    script = SCRIPTS / "llama_cpp_logits.py"
    command = [llama.interpreter, script, model, TEXT, str(castiron.threads), files["llama.cpp"]]
    tokens = place.run(command).splitlines()[-1]
    for name, weights in (("castiron", "keep"), ("castiron-f32", "f32")):
        artifact = place.work / f"{name}.iron"
        place.run([castiron.program, "compile", model, "-o", artifact, "--weights", weights, "--json"])
        files[name].write_bytes(castiron.logits(artifact, tokens))
    tell("quality: logits of transformers")
    named = [f"{name}={file}" for name, file in files.items()]
    return json.loads(place.run([environment(place), SCRIPTS / "logit_errors.py", model, tokens, *named]))
