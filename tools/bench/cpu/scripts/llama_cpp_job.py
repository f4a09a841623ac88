"""Runs a job on llama.cpp, through the low-level functions of `llama-cpp-python`."""

import ctypes

from job import Result, job, token_ids

import llama_cpp.llama_cpp as api  # isort: skip

result = Result()


@api.llama_log_callback
def quiet(_level: int, _text: bytes, _data: object) -> None:
    """Takes what llama.cpp would write to standard error."""


api.llama_log_set(quiet, ctypes.c_void_p(0))
api.llama_backend_init()
model_options = api.llama_model_default_params()
model_options.n_gpu_layers = 0
model = api.llama_model_load_from_file(job.path.encode(), model_options)
options = api.llama_context_default_params()
options.n_ctx = job.prompt + job.new
options.n_batch = options.n_ubatch = 512
options.n_threads = options.n_threads_batch = job.threads
options.flash_attn_type = job.options["flash_attention"]
options.no_perf = True
context = api.llama_init_from_model(model, options)
vocabulary = api.llama_vocab_n_tokens(api.llama_model_get_vocab(model))
sampler = api.llama_sampler_init_greedy()
result.loaded()

ids = token_ids(job.prompt)
tokens = (api.llama_token * len(ids))(*ids)
one = (api.llama_token * 1)()


def decode(first: object, count: int) -> int:
    """Feed tokens; the best that follows. `llama_batch_get_one` asks for the last token's logits alone."""
    code = api.llama_decode(context, api.llama_batch_get_one(first, count))
    if code != 0:
        raise SystemExit(f"llama_decode gave {code}")
    return api.llama_sampler_sample(sampler, context, -1)


def prompt() -> int:
    """The prompt, in an empty cache, in parts of at most a batch."""
    api.llama_memory_clear(api.llama_get_memory(context), False)
    token = 0
    for start in range(0, len(ids), 512):
        count = min(512, len(ids) - start)
        part = ctypes.cast(ctypes.byref(tokens, start * ctypes.sizeof(api.llama_token)), api.llama_token_p)
        token = decode(part, count)
    return token


def step(token: int, _position: int) -> int:
    """One token."""
    one[0] = token
    return decode(one, 1)


result.generate(prompt, step)
