"""The tables of reference folders, one module per family."""

from cases import (
    albert,
    bert,
    deberta,
    descendants,
    distilbert,
    electra,
    gguf,
    gpt2,
    gpts,
    llama,
    modernbert,
    mpnet,
    nomic_bert,
    roberta,
)

FAMILIES = (
    albert,
    bert,
    deberta,
    descendants,
    distilbert,
    electra,
    gguf,
    gpt2,
    gpts,
    llama,
    modernbert,
    mpnet,
    nomic_bert,
    roberta,
)

CASES = [case for family in FAMILIES for case in family.CASES]
