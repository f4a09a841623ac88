"""The tables of reference folders, one module per family."""

from cases import bert, descendants, gguf, gpt2, gpts, llama, mixtures

CASES = bert.CASES + gpt2.CASES + llama.CASES + descendants.CASES + gpts.CASES + mixtures.CASES + gguf.CASES
