"""The tables of reference folders, one module per family."""

from cases import bert, gguf, gpt2, llama, mixtures

CASES = bert.CASES + gpt2.CASES + llama.CASES + mixtures.CASES + gguf.CASES
