"""Runs a job on OpenVINO: least latency, f32, static shapes."""

from job import Result, elapsed, job, token_ids

import time  # isort: skip
import numpy as np  # isort: skip
import openvino  # isort: skip

result = Result()
core = openvino.Core()
model = core.read_model(job.path)
lengths = job.lengths if job.kind == "encoding" else [job.prompt]
batch, longest = len(lengths), max(lengths)
model.reshape({port: [batch, longest] for port in model.inputs})
settings = {
    "PERFORMANCE_HINT": "LATENCY",
    "INFERENCE_PRECISION_HINT": "f32",
    "INFERENCE_NUM_THREADS": job.threads,
}
compiled = core.compile_model(model, "CPU", settings)
request = compiled.create_infer_request()
result.loaded()
ids = np.array(token_ids(batch * longest), np.int64).reshape(batch, longest)
mask = (np.arange(longest) < np.array(lengths)[:, None]).astype(np.int64)
inputs = [ids, mask][: len(model.inputs)]

if job.kind == "encoding":
    result.encode(lambda: request.infer(inputs, share_inputs=True, share_outputs=True))
else:
    # Its cache would have to be made state by a converter of its own, so that only prompts are run.
    for run in range(job.runs + 1):
        start = time.perf_counter()
        request.infer(inputs, share_inputs=True, share_outputs=True)
        if run == 0:
            result.first_at = time.time() * 1e3
        else:
            result.add("prompt_ms", elapsed(start))
    result.print()
