"""Tokens and logits of a text on llama.cpp: `llama_cpp_logits.py GGUF TEXT THREADS FILE`.

Writes the logits, f32, a row for each token, into the file; prints the tokens with commas between them.
"""

import sys

import numpy as np
from llama_cpp import Llama

path, text, threads, file = sys.argv[1:]
model = Llama(path, n_ctx=512, n_batch=512, n_ubatch=512, n_threads=int(threads), logits_all=True, verbose=False)
tokens = model.tokenize(text.encode(), add_bos=False)
model.eval(tokens)
model.scores[: len(tokens)].astype(np.float32).tofile(file)
print(",".join(map(str, tokens)))
