"""The tables of reference folders, one module per family."""

from cases import albert, bert, distilbert, electra, gguf, gpt2, llama, mpnet, roberta

CASES = [
    case
    for family in (albert, bert, distilbert, electra, gguf, gpt2, llama, mpnet, roberta)
    for case in family.CASES
]
