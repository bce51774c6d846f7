#!/usr/bin/env python3
"""Writes golden/: what Hugging Face's Python package `tokenizers` makes of our tokenizer.json files.

    python3 -m pip install tokenizers==0.23.3 torch==2.11.0
    tests/data/make_golden.py TRAINED_TOKENIZER.json

TRAINED_TOKENIZER.json comes from data_tests, which trains on golden/corpus.txt and leaves the file in the
temporary folder as trained_tokenizer.json; a failing test names it.
"""
import collections
import json
import shutil
import sys
from pathlib import Path

import tokenizers
import torch

GOLDEN = Path(__file__).resolve().parent / "golden"
SPECIAL = ["<pad>", "<begin>", "<end>", "<end of group>"]
TEXTS = [
    "", " ", "grinning face", "flag: Côte d’Ivoire", "woman running: dark skin tone", "  two  spaces ",
    "tabs\tand\nlines\r\n\n x", "it's we'll I'VE don't 's", "1234 5½ Ⅷ ٣", "汉字 かな 한국어 עברית",
    "👩‍👩‍👧‍👦 family 🏳️‍🌈", "e\u0301 vs \u00e9", "a\u00a0b\u2003c\u3000d\u180ee\u0085f", "\u0000\u0001\u007f",
    "<begin>cat<end>", "<end of group><end><en", "word<pad> word <pad>", "!!!???...---", "x" * 300,
    "The quick brown fox jumps over the lazy dog. " * 5, "\ufeffbom \U0010ffff", "naïve café — “quoted”…",
]


def ids_of(path):
    tokenizer = tokenizers.Tokenizer.from_file(str(path))
    parsed = [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]
    decoded = [tokenizer.decode(ids) for ids in parsed]
    tokenizer.encode_special_tokens = True  # special tokens inside a text are plain text
    plain = [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]
    return [{"text": text, "ids": p, "ids_with_special_tokens_parsed": q, "decoded": d}
            for text, p, q, d in zip(TEXTS, plain, parsed, decoded)]


def train_in_python(corpus):
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=600, special_tokens=SPECIAL, show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.save(str(GOLDEN / "python_tokenizer.json"))


def write_legacy_pickles():
    """Small files for prepare_teacher_test.py: a state dict with odd strides, and its expected values."""
    weights = collections.OrderedDict(
        weight=torch.arange(24, dtype=torch.float32).reshape(2, 3, 4).permute(2, 0, 1),
        view=torch.arange(10, dtype=torch.float64)[3:7], steps=torch.tensor(7),
        shared=torch.arange(6, dtype=torch.int32).reshape(2, 3).t())
    weights._metadata = {"": {"version": 1}}
    torch.save(weights, GOLDEN / "legacy_weights.pth", _use_new_zipfile_serialization=False)
    expected = {name: {"shape": list(tensor.shape), "values": tensor.flatten().tolist()}
                for name, tensor in weights.items()}
    (GOLDEN / "legacy_weights.json").write_text(json.dumps(expected, indent=1) + "\n")


def main():
    trained = Path(sys.argv[1])
    if trained.resolve() != GOLDEN / "trained_tokenizer.json":
        shutil.copyfile(trained, GOLDEN / "trained_tokenizer.json")
    train_in_python((GOLDEN / "corpus.txt").read_text(encoding="utf-8").splitlines())
    golden = {"tokenizers_version": tokenizers.__version__,
              **{name: ids_of(GOLDEN / f"{name}.json") for name in ("trained_tokenizer", "python_tokenizer")}}
    (GOLDEN / "token_ids.json").write_text(json.dumps(golden, ensure_ascii=False, indent=None) + "\n",
                                           encoding="utf-8")
    write_legacy_pickles()


if __name__ == "__main__":
    main()
