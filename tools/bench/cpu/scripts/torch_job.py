"""Runs a job on PyTorch, eagerly or compiled (`options.compile` names a mode, or nothing)."""

from job import Result, job, token_ids

import torch  # isort: skip
from transformers import AutoModel, AutoModelForCausalLM, StaticCache  # isort: skip

torch.set_num_threads(job.threads)
result = Result()
mode = job.options.get("compile")


def compiled(function):
    """The function itself if nothing is asked for."""
    return torch.compile(function, mode=mode, dynamic=False) if mode else function


@torch.inference_mode()
def encode() -> None:
    """BERT, f32, scaled-dot-product attention."""
    model = AutoModel.from_pretrained(job.path, attn_implementation="sdpa", dtype=torch.float32).eval()
    result.loaded()
    batch, longest = len(job.lengths), max(job.lengths)
    inputs = {"input_ids": torch.tensor(token_ids(batch * longest)).reshape(batch, longest)}
    if set(job.lengths) != {longest}:
        inputs["attention_mask"] = (torch.arange(longest) < torch.tensor(job.lengths)[:, None]).long()
    forward = compiled(model.forward)
    result.encode(lambda: forward(**inputs).last_hidden_state)


@torch.inference_mode()
def generate() -> None:
    """GPT-2, f32, a cache of fixed size so that every step is one compiled program."""
    model = AutoModelForCausalLM.from_pretrained(job.path, attn_implementation="sdpa", dtype=torch.float32).eval()
    result.loaded()
    ids = torch.tensor([token_ids(job.prompt)])
    cache = StaticCache(config=model.config, max_cache_len=job.prompt + job.new)

    def run(input_ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        out = model(
            input_ids=input_ids, position_ids=positions[None], past_key_values=cache, use_cache=True, logits_to_keep=1
        )
        return out.logits[0, -1].argmax()

    first, next_one = compiled(run), compiled(lambda ids, positions: run(ids, positions))
    every = torch.arange(job.prompt)

    def prompt() -> int:
        cache.reset()
        return int(first(ids, every))

    result.generate(prompt, lambda token, position: int(next_one(torch.tensor([[token]]), torch.tensor([position]))))


@torch.inference_mode()
def generate_with_state() -> None:
    """Mamba, f32, with transformers' own kernels for the CPU and its state of constant size."""
    model = AutoModelForCausalLM.from_pretrained(job.path, dtype=torch.float32).eval()
    result.loaded()
    ids = torch.tensor([token_ids(job.prompt)])
    forward = compiled(model.forward)
    state = None

    def run(input_ids: torch.Tensor) -> int:
        nonlocal state
        out = forward(input_ids=input_ids, cache_params=state, use_cache=True, logits_to_keep=1)
        state = out.cache_params
        return int(out.logits[0, -1].argmax())

    def prompt() -> int:
        nonlocal state
        state = None
        return run(ids)

    result.generate(prompt, lambda token, _position: run(torch.tensor([[token]])))


{"encoding": encode, "generation": generate, "state space": generate_with_state}[job.kind]()
