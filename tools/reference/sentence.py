"""The files that make a folder a sentence-transformers model."""

import numpy as np

from vocabularies import as_json

FLAGS = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")
FUNCTIONS = "torch.nn.modules.activation."


def sentence_files(
    width: int,
    *modes: str,
    dense: dict[str, np.ndarray] | None = None,
    function: str = "Tanh",
    normalise: bool = True,
    longest: int = 24,
) -> dict[str, str]:
    """The modules of a model that reads `longest` tokens, pools by `modes`, then maybe applies a dense layer and a
    function, and scales to unit length."""
    modules = [("Transformer", ""), ("Pooling", "1_Pooling")]
    modules += [("Dense", "2_Dense")] * (dense is not None)
    modules += [("Normalize", f"{len(modules)}_Normalize")] * normalise
    flags = {f"pooling_mode_{flag}": flag in modes for flag in dict.fromkeys(FLAGS + modes)}
    files = {
        "modules.json": as_json(
            [
                {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
                for i, (kind, path) in enumerate(modules)
            ]
        ),
        "1_Pooling/config.json": as_json({"word_embedding_dimension": width} | flags),
        "sentence_bert_config.json": as_json({"max_seq_length": longest, "do_lower_case": False}),
        "config_sentence_transformers.json": as_json(
            {"__version__": {"sentence_transformers": "2.0.0", "transformers": "4.6.1", "pytorch": "1.8.1"}}
        ),
    }
    if dense is not None:
        outputs, inputs = dense["linear.weight"].shape
        config = {"in_features": inputs, "out_features": outputs, "bias": "linear.bias" in dense}
        files["2_Dense/config.json"] = as_json(config | {"activation_function": FUNCTIONS + function})
    return files


def dense_layer(outputs: int, inputs: int) -> dict[str, np.ndarray]:
    """Tensors of a dense layer, the same for the same extents."""
    generator = np.random.default_rng([outputs, inputs])
    return {
        "linear.weight": generator.normal(0.0, inputs**-0.5, (outputs, inputs)).astype(np.float32),
        "linear.bias": generator.normal(0.0, 0.2, outputs).astype(np.float32),
    }
