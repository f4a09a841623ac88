"""The tables of reference folders, one module per family."""

from cases import albert, bert, deberta, distilbert, electra, gguf, gpt2, llama, modernbert, mpnet, nomic_bert, roberta

CASES = [
    case
    for family in (albert, bert, deberta, distilbert, electra, gguf, gpt2, llama, modernbert, mpnet, nomic_bert, roberta)
    for case in family.CASES
]
