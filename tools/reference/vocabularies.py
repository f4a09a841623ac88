"""Two tiny tokenizers: byte-level BPE with a chat template, and lower-cased WordPiece."""

import json
from functools import cache

from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

SENTENCES = (
    "The quick brown fox jumps over the lazy dog.",
    "An ahead-of-time compiler turns a checkpoint into one artifact.",
    "The runtime maps the artifact, makes its code and runs the model.",
    "In 1867, iron was cast in sand; the moulds were used only once.",
    "Where is the dog? The dog is in the garden, with the cat and the fox.",
    "That's what they said: they're sure we'll run it, and we've run it.",
)

END, START, STOP = "<|end|>", "<|start|>", "<|stop|>"
BYTE_LEVEL_SIZE = 300
ROBERTA_SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}<|start|>system\nBe brief.<|stop|>\n{% endif %}"
    "<|start|>{{ message['role'] }}\n{{ message['content'] | trim }}<|stop|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)

WORDS = (
    "the a is in on of and with where who it dog cat fox garden iron model runs jumps over lazy quick brown "
    "cast sand happy sad fine not was one ##ed ##ing ##er ##ly"
).split()
PUNCTUATION = list(".,;:!?'-")
LETTERS = list("abcdefghijklmnopqrstuvwxyz")
SPECIAL_PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@cache
def byte_level() -> Tokenizer:
    """Byte-level BPE of `BYTE_LEVEL_SIZE` tokens trained on `SENTENCES`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=BYTE_LEVEL_SIZE,
        special_tokens=[END, START, STOP],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return tokenizer


def merges() -> list[str]:
    """The byte-level tokenizer's merges in order of rank, each as `left right`."""
    return [" ".join(pair) for pair in json.loads(byte_level().to_str())["model"]["merges"]]


def render_chat(messages: list[dict[str, str]]) -> str:
    """What `CHAT_TEMPLATE` makes of a conversation, ready for the assistant's turn."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(CHAT_TEMPLATE)
    return template.render(messages=messages, add_generation_prompt=True)


@cache
def byte_level_with_start() -> Tokenizer:
    """The byte-level tokenizer of a file that asks for a start token."""
    tokenizer = Tokenizer.from_str(byte_level().to_str())
    start = tokenizer.token_to_id(START)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{START} $A", special_tokens=[(START, start)])
    return tokenizer


def byte_level_files() -> dict[str, str]:
    """The tokenizer's and the generation defaults' files, as a chat model's folder holds them."""
    vocabulary = byte_level().get_vocab()
    return {
        "tokenizer.json": byte_level().to_str(pretty=True) + "\n",
        "tokenizer_config.json": as_json(
            {
                "add_prefix_space": False,
                "bos_token": START,
                "chat_template": CHAT_TEMPLATE,
                "clean_up_tokenization_spaces": False,
                "eos_token": STOP,
                "model_max_length": 64,
                "pad_token": END,
                "tokenizer_class": "PreTrainedTokenizerFast",
                "unk_token": END,
            }
        ),
        "generation_config.json": as_json(
            {
                "bos_token_id": vocabulary[START],
                "eos_token_id": vocabulary[STOP],
                "pad_token_id": vocabulary[END],
                "do_sample": False,
                "max_new_tokens": 24,
                "transformers_version": "4.46.0",
            }
        ),
    }


@cache
def roberta() -> Tokenizer:
    """RoBERTa's byte-level BPE, trained on `SENTENCES`."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=BYTE_LEVEL_SIZE,
        special_tokens=ROBERTA_SPECIAL,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True)])
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return tokenizer


def roberta_files() -> dict[str, str]:
    """The tokenizer's files, as a RoBERTa folder holds them."""
    return {
        "tokenizer.json": roberta().to_str(pretty=True) + "\n",
        "tokenizer_config.json": as_json(
            {
                "add_prefix_space": False,
                "bos_token": "<s>",
                "cls_token": "<s>",
                "eos_token": "</s>",
                "mask_token": "<mask>",
                "model_max_length": 35,
                "pad_token": "<pad>",
                "sep_token": "</s>",
                "tokenizer_class": "RobertaTokenizer",
                "unk_token": "<unk>",
            }
        ),
    }


@cache
def pieces() -> list[str]:
    """The WordPiece vocabulary in the order of ids."""
    continuations = [f"##{letter}" for letter in LETTERS]
    return SPECIAL_PIECES + PUNCTUATION + LETTERS + continuations + [word for word in WORDS if len(word) > 1]


@cache
def word_piece() -> Tokenizer:
    """BERT's uncased tokenizer over `pieces`."""
    vocabulary = {piece: index for index, piece in enumerate(pieces())}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(piece, vocabulary[piece]) for piece in ("[CLS]", "[SEP]")],
    )
    tokenizer.add_special_tokens(SPECIAL_PIECES)
    return tokenizer


def word_piece_files() -> dict[str, str]:
    """The tokenizer's files, as a BERT folder holds them."""
    return {
        "tokenizer.json": word_piece().to_str(pretty=True) + "\n",
        "vocab.txt": "".join(f"{piece}\n" for piece in pieces()),
        "tokenizer_config.json": as_json(
            {
                "cls_token": "[CLS]",
                "do_lower_case": True,
                "mask_token": "[MASK]",
                "model_max_length": 37,
                "pad_token": "[PAD]",
                "sep_token": "[SEP]",
                "strip_accents": None,
                "tokenize_chinese_chars": True,
                "tokenizer_class": "BertTokenizer",
                "unk_token": "[UNK]",
            }
        ),
    }


def as_json(value) -> str:
    """Indented JSON text with a newline at its end."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
