"""The tables of reference folders, one module per family."""

from cases import bart, bert, gguf, gpt2, llama, t5

CASES = bert.CASES + gpt2.CASES + llama.CASES + gguf.CASES + t5.CASES + bart.CASES
