"""Runs a job on ONNX Runtime: every graph optimisation, threads that spin while they wait."""

from job import Result, job, token_ids

import numpy as np  # isort: skip
import onnxruntime  # isort: skip

result = Result()
options = onnxruntime.SessionOptions()
options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
options.intra_op_num_threads = job.threads
options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(job.path, options, providers=["CPUExecutionProvider"])


def encode() -> None:
    """BERT."""
    result.loaded()
    batch, longest = len(job.lengths), max(job.lengths)
    ids = np.array(token_ids(batch * longest), np.int32).reshape(batch, longest)
    mask = (np.arange(longest) < np.array(job.lengths)[:, None]).astype(np.int32)
    feed = {"ids": ids, "types": np.zeros_like(ids), "mask": mask}
    result.encode(lambda: session.run(None, feed))


def generate() -> None:
    """GPT-2; keys and values are written into the buffers that they are read from."""
    binding = session.io_binding()
    best = session.get_outputs()[0].name
    caches = [node for node in session.get_inputs() if node.name.startswith(("key", "value"))]
    for node, output in zip(caches, session.get_outputs()[1:], strict=True):
        shape = [node.shape[0], node.shape[1], job.prompt + job.new, node.shape[3]]
        cache = onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(shape, np.float32))
        binding.bind_ortvalue_input(node.name, cache)
        binding.bind_ortvalue_output(output.name, cache)
    binding.bind_output(best)
    result.loaded()

    def run(ids: list[int], start: int) -> int:
        total = start + len(ids)
        binding.bind_cpu_input("ids", np.array([ids], np.int64))
        binding.bind_cpu_input("positions", np.arange(start, total, dtype=np.int64)[None])
        binding.bind_cpu_input("past", np.array([total - 1], np.int32))
        binding.bind_cpu_input("total", np.array(total, np.int32))
        session.run_with_iobinding(binding)
        return int(binding.get_outputs()[len(caches)].numpy()[0])

    ids = token_ids(job.prompt)
    result.generate(lambda: run(ids, 0), lambda token, position: run([token], position))


encode() if job.kind == "encoding" else generate()
