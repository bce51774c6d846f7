#!/usr/bin/env python3
"""Compares text tokenizers with the public libraries over thousands of random texts, in both directions.

    tokenizers_test.py ENCODE_TEXTS [SEED [COUNT [TOKENIZER...]]]

Needs tokenizers and sentencepiece of the versions in tests/parity/wheels.txt, which tests/run keeps in
.deps/parity-python; where they are missing it ends with 77, which CTest shows as skipped.
"""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
SHOWN = 5  # differences of one tokenizer

sys.path[:0] = [str(ROOT / "tests" / "parity"), str(ROOT / ".deps" / "parity-python")]
try:
    import sentencepiece
    import tokenizers
except ImportError as error:
    print(f"skipped: no tokenizers and sentencepiece for Python here ({error}); tests/parity/install_libraries gets them")
    sys.exit(77)
VERSIONS = [f"{library.__name__}=={library.__version__}" for library in (tokenizers, sentencepiece)]
PINNED = (ROOT / "tests" / "parity" / "wheels.txt").read_text(encoding="utf-8").split()
if not set(VERSIONS) <= set(PINNED):
    print(f"skipped: {' and '.join(VERSIONS)} are not the versions of tests/parity/wheels.txt")
    sys.exit(77)
from dump_tokenizers import added_tokens, expected, tokenizer_files  # noqa: E402
from fuzzed_texts import corpus, fuzzed_texts  # noqa: E402


def ours(program, path, texts):
    lines = "".join(json.dumps(text) + "\n" for text in texts)
    result = subprocess.run([program, str(path)], input=lines, capture_output=True, text=True, encoding="utf-8", timeout=300)
    assert result.returncode == 0, f"{path}: exit {result.returncode}\n{result.stderr}"
    return [json.loads(line) for line in result.stdout.split("\n") if line]


def differences(program, path, seed, count):
    texts = fuzzed_texts(seed, count, added_tokens(path))
    theirs, got = expected(path, texts), ours(program, path, texts)
    assert len(got) == count, f"{path}: {len(got)} answers for {count} texts"
    return [f"{key} of {json.dumps(e['text'])}: {json.dumps(g[key])}, the library says {json.dumps(e[key])}"
            for e, g in zip(theirs, got) for key in e if key != "text" and g[key] != e[key]]


def normalizing_model(folder):
    """SentencePiece as it is trained by default; its table of normalizations is too large to be kept here."""
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus()), model_prefix=str(folder / "normalizing"), vocab_size=800, minloglevel=2,
        hard_vocab_limit=False, byte_fallback=True)
    return folder / "normalizing.model"


def main():
    program, seed, count = sys.argv[1], int((sys.argv[2:] or [7])[0]), int((sys.argv[3:] or [10000])[0])
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        named = [Path(path) for path in sys.argv[4:]]
        for path in named or [*tokenizer_files(), normalizing_model(Path(folder))]:
            found = differences(program, path, seed, count)
            print(f"{path.name}: {count} texts of seed {seed}, {len(found)} differences", *found[:SHOWN], sep="\n  ")
            failed = failed or bool(found)
    print(*VERSIONS)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
