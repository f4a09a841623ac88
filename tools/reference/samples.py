"""`text.json`: what a model with a tokenizer answers to text, per task.

Each function takes the loaded model and its tokenizer and returns the file's object.
"""

from inspect import signature

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import PreTrainedModel

from case import Pool, Samples
from generation import continue_text
from suitability import SMALLEST_GREEDY_MARGIN, Unsuitable
from vocabularies import CHAT_TEMPLATE, STOP, render_chat

PROMPTS = ("The dog", "In 1867, iron", "Where is the café — and who's in it?\n\n  The fox, ")
CHATS = (
    [{"role": "user", "content": "  Where is the dog? "}],
    [
        {"role": "system", "content": "You cast iron."},
        {"role": "user", "content": "The fox"},
        {"role": "assistant", "content": "jumps over the dog."},
        {"role": "user", "content": "Then?"},
    ],
)
SENTENCES = (
    "The dog is happy.",
    "A happy dog runs in the garden, over the lazy cat.",
    "Iron is cast in sand.",
)
MASKED = ("The {} jumps over the dog.", "Iron is {} in sand")
QUESTIONS = (("Where is the dog?", "The dog is in the garden with the cat and the fox."),)
MASKS = ("[MASK]", "<mask>")
SPECIAL_IDS = 5
LONGEST_ANSWER = 15
BEST = 5


def generated_text(model: PreTrainedModel, tokenizer: Tokenizer) -> dict:
    """Greedy continuations under the folder's own generation defaults; at least one must reach the end token."""
    prompts = [(text, tokenizer.encode(text).ids) for text in PROMPTS]
    rendered = [(messages, render_chat(messages)) for messages in CHATS]
    chats = [(messages, text, tokenizer.encode(text, add_special_tokens=False).ids) for messages, text in rendered]
    return {
        "prompts": [{"text": text, **continuation(model, tokenizer, ids)} for text, ids in prompts],
        "chat_template": CHAT_TEMPLATE,
        "chats": [
            {"messages": messages, "rendered": text, **continuation(model, tokenizer, ids)}
            for messages, text, ids in chats
        ],
    }


def stopping_text(model: PreTrainedModel, tokenizer: Tokenizer) -> dict:
    """`generated_text` of a model that ends some of its texts and not others."""
    answer = generated_text(model, tokenizer)
    stop = tokenizer.token_to_id(STOP)
    stopped = [entry["new_ids"][-1] == stop for entry in answer["prompts"] + answer["chats"]]
    if all(stopped) or not any(stopped):
        raise Unsuitable("the end token is reached always or never")
    return answer


def continuation(model: PreTrainedModel, tokenizer: Tokenizer, ids: list[int]) -> dict:
    """The prompt's ids, the new ids with the end token if it was reached, and their text without it."""
    decoded = continue_text(model, ids)
    if decoded.margin < SMALLEST_GREEDY_MARGIN:
        raise Unsuitable("a greedy choice is too close")
    new = decoded.tokens[len(ids) :]
    return {"ids": ids, "new_ids": new, "new_text": tokenizer.decode(new)}


def embeddings_by(pool: Pool) -> Samples:
    """What gives the embedding of each sentence, made of hidden states and mask."""

    def embeddings(model: PreTrainedModel, tokenizer: Tokenizer) -> dict:
        entries = []
        for text in SENTENCES:
            ids, outputs = run(model, tokenizer, text)
            hidden = outputs.last_hidden_state.numpy()
            vector = pool(hidden, np.ones(hidden.shape[:2], np.int64))[0]
            entries.append({"text": text, "ids": ids, "embedding": rounded(vector)})
        return {"embeddings": entries}

    return embeddings


def classes(model: PreTrainedModel, tokenizer: Tokenizer) -> dict:
    """The labels of each sentence, most probable first."""
    entries = []
    for text in SENTENCES:
        ids, outputs = run(model, tokenizer, text)
        probabilities = outputs.logits[0].softmax(-1).numpy()
        entries.append({"text": text, "ids": ids, "labels": ranked_labels(model, probabilities)})
    return {"classes": entries}


def token_classes(model: PreTrainedModel, tokenizer: Tokenizer) -> dict:
    """The most probable label of each token between the special ones, with its place in the text."""
    entries = []
    for text in SENTENCES:
        encoding = tokenizer.encode(text)
        ids, outputs = run(model, tokenizer, text)
        probabilities = outputs.logits[0].softmax(-1).numpy()
        tokens = [
            {"token": encoding.tokens[i], "offsets": encoding.offsets[i], **ranked_labels(model, probabilities[i])[0]}
            for i in range(1, len(ids) - 1)
        ]
        entries.append({"text": text, "ids": ids, "tokens": tokens})
    return {"token_classes": entries}


def fillings(model: PreTrainedModel, tokenizer: Tokenizer) -> dict:
    """The most probable pieces in place of each mask."""
    spelling = next(token for token in MASKS if tokenizer.token_to_id(token) is not None)
    mask = tokenizer.token_to_id(spelling)
    entries = []
    for text in (text.format(spelling) for text in MASKED):
        ids, outputs = run(model, tokenizer, text)
        probabilities = outputs.logits[0, ids.index(mask)].softmax(-1)
        best = probabilities.topk(BEST)
        pieces = [
            {"id": token, "token": tokenizer.id_to_token(token), "score": round(score, 6)}
            for score, token in zip(best.values.tolist(), best.indices.tolist())
        ]
        entries.append({"text": text, "ids": ids, "best": pieces})
    return {"fillings": entries}


def answers(model: PreTrainedModel, tokenizer: Tokenizer) -> dict:
    """The context's span with the largest start logit + end logit, at most `LONGEST_ANSWER` tokens long."""
    entries = []
    for question, context in QUESTIONS:
        encoding = tokenizer.encode(question, context)
        ids, outputs = run(model, tokenizer, question, context)
        inside = [i for i, sequence in enumerate(encoding.sequence_ids) if sequence == 1]
        start_logits, end_logits = outputs.start_logits[0], outputs.end_logits[0]
        spans = [(s, e) for s in inside for e in inside if s <= e < s + LONGEST_ANSWER]
        start, end = max(spans, key=lambda span: (start_logits[span[0]] + end_logits[span[1]]).item())
        score = (
            start_logits[inside].softmax(-1)[inside.index(start)] * end_logits[inside].softmax(-1)[inside.index(end)]
        )
        first, last = encoding.offsets[start][0], encoding.offsets[end][1]
        entries.append(
            {
                "question": question,
                "context": context,
                "ids": ids,
                "token_type_ids": encoding.type_ids,
                "answer": context[first:last],
                "start": first,
                "end": last,
                "score": round(score.item(), 6),
            }
        )
    return {"answers": entries}


def run(model: PreTrainedModel, tokenizer: Tokenizer, *texts: str):
    """The ids of one text or pair, and the model's outputs for it."""
    encoding = tokenizer.encode(*texts)
    inputs = {"input_ids": encoding.ids, "attention_mask": encoding.attention_mask}
    if "token_type_ids" in signature(model.forward).parameters:
        inputs["token_type_ids"] = encoding.type_ids
    with torch.no_grad():
        outputs = model(**{name: torch.tensor([value]) for name, value in inputs.items()})
    return encoding.ids, outputs


def ranked_labels(model: PreTrainedModel, probabilities: np.ndarray) -> list[dict]:
    """Labels and scores, most probable first."""
    order = np.argsort(-probabilities)
    return [{"label": model.config.id2label[int(i)], "score": round(float(probabilities[i]), 6)} for i in order]


def rounded(values: np.ndarray) -> list[float]:
    """Values with the digits that f32 arithmetic in any order agrees on."""
    return [round(float(value), 6) for value in values]
