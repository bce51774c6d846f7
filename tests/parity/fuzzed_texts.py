"""Seeded random texts that tokenizers have to agree on: all planes of Unicode, marks, scripts, emoji, white
space and control characters, digits, contractions, long runs, words, and added tokens among them."""
import random
import re
import unicodedata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SPACES = [*map(chr, range(9, 14)), " ", "\x85", "\xa0", "\u1680", *map(chr, range(0x2000, 0x200B)), "\u2028",
          "\u2029", "\u202f", "\u205f", "\u3000"]
NEARLY_SPACES = ["\u180e", "\u200b", "\u200d", "\u2060", "\ufeff", "\x1c", "\x1f", "\x7f"]
SCRIPTS = [(0x370, 0x3FF), (0x400, 0x4FF), (0x590, 0x5FF), (0x600, 0x6FF), (0x900, 0x97F), (0xE00, 0xE7F),
           (0x1100, 0x11FF), (0x1E00, 0x1EFF), (0x1F00, 0x1FFF), (0x2100, 0x218F), (0x2460, 0x24FF), (0x3041, 0x30FF),
           (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xF900, 0xFAFF), (0xFF01, 0xFFEE), (0x1D15E, 0x1D1C0),
           (0x1D400, 0x1D7FF), (0x20000, 0x2A6DF), (0x2F800, 0x2FA1D), (0x10400, 0x1044F), (0x12000, 0x123FF)]
MARKS = [*range(0x300, 0x370), *range(0x591, 0x5C8), *range(0x64B, 0x660), 0x93C, 0x9BE, 0xBBE, 0x3099, 0x309A,
         *range(0x1AB0, 0x1AC0), *range(0x1DC0, 0x1E00), *range(0x20D0, 0x20F1), *range(0xFE20, 0xFE30), 0x1D165]
DIGITS = "0123456789" * 3 + "٠١٢٣۴۵६७８９½¾²³Ⅷⅷ①㊿𝟘𝟙〇"
EMOJI = ["😀", "👩", "👧", "🧑", "🏽", "🏿", "\u200d", "\ufe0f", "\ufe0e", "\u20e3", "🇨", "🇮", "❤", "🏳", "🌈", "♀", "🫠"]
ENDINGS = ["s", "t", "re", "ve", "m", "ll", "d", "S", "T", "RE", "Ve", "M", "lL", "D", "ſ", "x"]
PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~…—“”’«»¿、。！？№€£"


def corpus():
    """Lines of the repository's own texts."""
    paths = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "tests/data/golden/corpus.txt"]
    return [line for path in paths for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


class Fuzzer:
    def __init__(self, seed, added=()):
        self.random = random.Random(seed)
        self.added = list(added)
        self.words = sorted(set(re.findall(r"\w+", " ".join(corpus()))))

    def scalar(self):
        code = self.random.randrange(0x110000 - 0x800)
        return chr(code if code < 0xD800 else code + 0x800)

    def letter(self):
        return chr(self.random.randint(*self.random.choice(SCRIPTS)))

    def several(self, make, most):
        return "".join(make() for _ in range(self.random.randint(1, most)))

    def fragment(self):
        r = self.random
        kinds = [
            lambda: self.several(self.scalar, 5),
            lambda: self.several(self.letter, 6),
            lambda: self.several(lambda: self.letter() + self.several(lambda: chr(r.choice(MARKS)), 4), 3),
            lambda: unicodedata.normalize(r.choice(["NFD", "NFKD", "NFC"]), self.several(self.letter, 4)),
            lambda: self.several(lambda: r.choice(EMOJI), 6),
            lambda: self.several(lambda: chr(r.choice([*range(32), 127, *range(128, 160)])), 3),
            lambda: self.several(lambda: r.choice(SPACES), 4),
            lambda: self.several(lambda: r.choice(SPACES + NEARLY_SPACES), 3),
            lambda: r.choice([" ", "  ", "\n", "\r\n", " \n", "\n\n  ", "\t"]),
            lambda: self.several(lambda: r.choice(DIGITS), 8),
            lambda: r.choice(self.words + [""]) + r.choice("''’") + r.choice(ENDINGS),
            lambda: r.choice([" ", ""]) + r.choice(self.words),
            lambda: " ".join(r.choice(self.words) for _ in range(r.randint(2, 6))),
            lambda: self.several(lambda: r.choice(PUNCTUATION), 5),
            lambda: self.added_token(),
        ]
        return r.choice(kinds)()

    def added_token(self):
        """One of them, sometimes cut short, with space or a letter beside it."""
        if not self.added:
            return ""
        token = self.random.choice(self.added)
        if self.random.random() < 0.2:
            token = token[:self.random.randint(0, len(token))]
        beside = ["", "", "", " ", "  ", "\n", "a", "é", "_", "."]
        return self.random.choice(beside) + token + self.random.choice(beside)

    def text(self):
        chance = self.random.random()
        if chance < 0.01:
            return ""
        if chance < 0.03:
            return self.fragment()[:2] * self.random.randint(50, 300)
        return "".join(self.fragment() for _ in range(self.random.randint(1, 10)))


def fuzzed_texts(seed, count, added=()):
    fuzzer = Fuzzer(seed, added)
    return [fuzzer.text() for _ in range(count)]
