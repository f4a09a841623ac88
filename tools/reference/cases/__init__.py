"""The tables of reference folders, one module per family."""

from cases import bert, descendants, gguf, gpt2, llama, gguf_families, formats

CASES = bert.CASES + gpt2.CASES + llama.CASES + descendants.CASES + gguf.CASES + gguf_families.CASES + formats.CASES
