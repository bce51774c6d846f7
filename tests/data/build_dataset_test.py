#!/usr/bin/env python3
"""The parts of data/emoji/build_dataset that need neither a download nor a package."""
import importlib.machinery
import importlib.util
import json
import sys
import tarfile
import unittest
import zlib
from pathlib import Path

EMOJI = Path(__file__).resolve().parents[2] / "data/emoji"
sys.dont_write_bytecode = True
loader = importlib.machinery.SourceFileLoader("build_dataset", str(EMOJI / "build_dataset"))
build_dataset = importlib.util.module_from_spec(importlib.util.spec_from_loader("build_dataset", loader))
loader.exec_module(build_dataset)


def samples_of(pattern):
    for path in sorted(EMOJI.glob(pattern)):
        with tarfile.open(path) as archive:
            members = {m.name: archive.extractfile(m).read() for m in archive}
        for name in members:
            if name.endswith(".json"):
                yield name.removesuffix(".json"), json.loads(members[name]), members[name[:-4] + "png"]


class CommittedShards(unittest.TestCase):
    def test_every_sample_is_in_the_split_of_its_code_points(self):
        counts = {}
        for split in ("train", "validation", "test"):
            for _, fields, _ in samples_of(f"emoji-32-{split}*.tar"):
                self.assertEqual(build_dataset.split_of(fields["codepoints"].split()), split)
                counts[split] = counts.get(split, 0) + 1
        self.assertEqual(counts, {"train": 1517, "validation": 175, "test": 178})

    def test_every_tone_is_in_the_split_of_its_emoji(self):
        counts = {}
        for split in ("train", "validation", "test"):
            for _, fields, _ in samples_of(f"tones-32-{split}.tar"):
                points = fields["codepoints"].split()
                tone, = build_dataset.SKIN_TONES.keys() & set(points)
                self.assertEqual(build_dataset.tone_splits(build_dataset.without_tone(points))[tone], split)
                self.assertEqual(build_dataset.SKIN_TONES[tone], fields["tone"])
                counts[split] = counts.get(split, 0) + 1
        self.assertEqual(counts, {"train": 916, "validation": 56, "test": 243})

    def test_files_stay_below_four_megabytes(self):
        for path in EMOJI.iterdir():
            self.assertLess(path.stat().st_size, 4_000_000, path.name)

    def test_headers_hold_no_time_user_or_machine(self):
        for path in EMOJI.glob("*.tar"):
            with tarfile.open(path) as archive:
                for member in archive:
                    self.assertEqual((member.mtime, member.uid, member.uname), (0, 0, ""))


class SplitOf(unittest.TestCase):
    def test_skin_tones_do_not_move_an_emoji_to_another_split(self):
        for points in (["1F44B"], ["1F9D1", "200D", "1F680"]):
            for tone in build_dataset.SKIN_TONES:
                self.assertEqual(build_dataset.split_of([points[0], tone, *points[1:]]),
                                 build_dataset.split_of(points))


class ToneSplits(unittest.TestCase):
    def test_each_emoji_has_one_tone_held_out_for_the_test_and_some_another_for_validation(self):
        emoji = [(f"{point:X}",) for point in range(0x1F440, 0x1F4A4)]
        splits = [sorted(build_dataset.tone_splits(points).values()) for points in emoji]
        for split in splits:
            self.assertIn(split, (["test"] + 4 * ["train"], ["test"] + 3 * ["train"] + ["validation"]))
        self.assertTrue(10 < sum("validation" in split for split in splits) < 50)


class TonesAreVisible(unittest.TestCase):
    def test_a_tenth_of_the_pixels_must_differ_clearly(self):
        light = [bytes(30 * [200]) for _ in range(10)]

        def with_darker_pixels(count, level):
            return [bytes([*(3 * count * [level]), *row[3 * count:]]) for row in light]

        self.assertTrue(build_dataset.tones_are_visible([light, with_darker_pixels(1, 100)]))
        self.assertFalse(build_dataset.tones_are_visible([light, with_darker_pixels(0, 100)]))
        self.assertFalse(build_dataset.tones_are_visible([light, with_darker_pixels(9, 190)]))


class EncodePng(unittest.TestCase):
    def unfilter(self, png):
        """Rows of an RGB PNG, by the definition of the five filters."""
        self.assertEqual(png[:8], b"\x89PNG\r\n\x1a\n")
        width = int.from_bytes(png[16:20], "big")
        start = png.index(b"IDAT")
        size = int.from_bytes(png[start - 4:start], "big")
        data = zlib.decompress(png[start + 4:start + 4 + size])
        stride, rows = 3 * width, []
        for at in range(0, len(data), stride + 1):
            kind, row, above = data[at], bytearray(data[at + 1:at + 1 + stride]), rows[-1] if rows else bytes(stride)
            for i in range(stride):
                left, corner = (row[i - 3], above[i - 3]) if i >= 3 else (0, 0)
                guess = (0, left, above[i], (left + above[i]) // 2,
                         build_dataset.paeth(left, above[i], corner))[kind]
                row[i] = (row[i] + guess) & 255
            rows.append(bytes(row))
        return rows

    def test_rows_come_back_for_smooth_and_rough_pictures(self):
        smooth = [bytes((x + y) // 3 for x in range(30)) for y in range(10)]
        rough = [bytes((x * x * 7 + y * 131) % 256 for x in range(30)) for y in range(10)]
        for rows in (smooth, rough):
            self.assertEqual(self.unfilter(build_dataset.encode_png(rows)), rows)

    def test_committed_pictures_are_packed_by_this_encoder(self):
        for key, _, png in list(samples_of("emoji-32-test.tar"))[:10]:
            self.assertEqual(build_dataset.encode_png(self.unfilter(png)), png, key)


if __name__ == "__main__":
    unittest.main()
