#!/usr/bin/env python3
"""Writes tests/parity/golden/tokenizers/: small tokenizers of the kinds that people bring, trained on texts of this
repository with the public libraries, and what those make of a few hundred random texts (ids.json).

    pip install tokenizers==0.23.3 sentencepiece==0.1.99
    tests/parity/dump_tokenizers.py

tests/data/text/tokenizers_test.py compares many more texts with the same libraries where they are installed.
"""
import json
from pathlib import Path

import sentencepiece
import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers

from fuzzed_texts import corpus, fuzzed_texts

GOLDEN = Path(__file__).resolve().parent / "golden" / "tokenizers"
TEXTS = 60  # of each tokenizer, in ids.json
SEED = 1
# As Qwen2 and Llama 3 publish them.
QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
         r"\s+(?!\S)|\s+")
LLAMA3 = QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")


def byte_level(**options):
    return pre_tokenizers.ByteLevel(**{"add_prefix_space": False, "use_regex": False, **options})


def split(pattern):
    return pre_tokenizers.Split(Regex(pattern), "isolated", invert=False)


def trained(size, pre_tokenizer, normalizer=None, special=(), added=()):
    tokenizer = tokenizers.Tokenizer(models.BPE())
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(vocab_size=size, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.add_special_tokens(list(special))
    tokenizer.add_tokens(list(added))
    return tokenizer


def gpt2():
    """Merges as "a b" texts and the special token in the vocabulary, as GPT-2's file has them."""
    root = json.loads(trained(1200, byte_level(use_regex=True), special=["<|endoftext|>"]).to_str())
    root["model"]["vocab"]["<|endoftext|>"] = len(root["model"]["vocab"])
    root["model"]["merges"] = [" ".join(pair) for pair in root["model"]["merges"]]
    return root


def qwen2():
    pre_tokenizer = pre_tokenizers.Sequence([split(QWEN2), byte_level()])
    return json.loads(trained(
        1500, pre_tokenizer, normalizers.NFC(), ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        [AddedToken("<tool_call>", normalized=False), AddedToken("un cafe\u0301", normalized=True)]).to_str())


def llama3():
    """With tokens that no merge makes, which ignore_merges finds, and every option of added tokens."""
    pre_tokenizer = pre_tokenizers.Sequence([split(LLAMA3), byte_level()])
    root = json.loads(trained(1500, pre_tokenizer).to_str())
    vocabulary = root["model"]["vocab"]
    for token in ("Ġcodebook!", "Ġdatasets", "espalier", "æ¼¢", "xyz"):
        vocabulary.setdefault(token, len(vocabulary))
    root["model"]["ignore_merges"] = True
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(root))
    tokenizer.add_special_tokens(["<|begin_of_text|>", "<|eot_id|>", AddedToken("<mask>", lstrip=True, normalized=False)])
    tokenizer.add_tokens([AddedToken("[R]", rstrip=True, normalized=False), AddedToken("step", single_word=True),
                          AddedToken("[LR]", lstrip=True, rstrip=True), AddedToken("[LR", normalized=False)])
    begin = "<|begin_of_text|>"
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=True),
        processors.TemplateProcessing(single=f"{begin} $A", pair=f"{begin} $A {begin} $B",
                                      special_tokens=[(begin, tokenizer.token_to_id(begin))])])
    return json.loads(tokenizer.to_str())


def prefix_space():
    """A space before every piece, as RoBERTa has it, and digits one by one."""
    pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                             byte_level(add_prefix_space=True, use_regex=True)])
    return json.loads(trained(800, pre_tokenizer, normalizers.Sequence([normalizers.NFC()]), ["<s>", "</s>"]).to_str())


def sentencepiece_model(name, **options):
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus()), model_prefix=str(GOLDEN / name), vocab_size=1000, minloglevel=2,
        hard_vocab_limit=False, num_threads=1, **options)
    (GOLDEN / f"{name}.vocab").unlink()


def expected_of_json(path, texts):
    tokenizer = tokenizers.Tokenizer.from_file(str(path))
    parsed = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    decoded = [tokenizer.decode(ids) for ids in parsed]
    tokenizer.encode_special_tokens = True  # special tokens inside a text are plain text
    plain = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    return [{"text": t, "ids": p, "parsed": q, "decoded": d} for t, p, q, d in zip(texts, plain, parsed, decoded)]


def expected_of_model(path, texts):
    processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
    ids = [processor.encode(text) for text in texts]
    return [{"text": t, "ids": i, "decoded": processor.decode(i)} for t, i in zip(texts, ids)]


def expected(path, texts):
    """What the public library makes of the texts."""
    return (expected_of_json if path.suffix == ".json" else expected_of_model)(path, texts)


def added_tokens(path):
    if path.suffix != ".json":
        return ["<sep>", "<pad>", "</s>"]
    return [token["content"] for token in json.loads(path.read_text(encoding="utf-8"))["added_tokens"]]


def tokenizer_files():
    return sorted(path for path in GOLDEN.iterdir() if path.name != "ids.json")


def main():
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for make in (gpt2, qwen2, llama3, prefix_space):
        text = json.dumps(make(), ensure_ascii=False, separators=(",", ":"))
        (GOLDEN / f"{make.__name__}.json").write_text(text + "\n", encoding="utf-8")
    sentencepiece_model("llama", model_type="bpe", byte_fallback=True, split_digits=True,
                        normalization_rule_name="identity", remove_extra_whitespaces=False)
    sentencepiece_model("t5", model_type="unigram", user_defined_symbols=["<sep>"], pad_id=3,
                        normalization_rule_name="identity")
    ids = {path.name: expected(path, fuzzed_texts(SEED, TEXTS, added_tokens(path))) for path in tokenizer_files()}
    ids["versions"] = {"tokenizers": tokenizers.__version__, "sentencepiece": sentencepiece.__version__}
    # One text a line; characters beyond ASCII are escaped, so that any editor shows them as they are.
    lines = ",\n".join(f"{json.dumps(name)}: " + ("[\n" + ",\n".join(json.dumps(e) for e in entries) + "]"
                                                    if isinstance(entries, list) else json.dumps(entries))
                       for name, entries in ids.items())
    (GOLDEN / "ids.json").write_text("{" + lines + "}\n", encoding="ascii")


if __name__ == "__main__":
    main()
