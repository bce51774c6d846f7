"""Bytes of an episode: PNG film strips, safetensors, tar members. Standard library and numpy alone.

The tar headers carry no time, user or machine, so equal episodes are equal bytes.
"""
import io
import json
import struct
import tarfile
import zlib

import numpy as np

TAR_BLOCK = 512
TAR_END = bytes(2 * TAR_BLOCK)


def encode_png(pixels):
    """PNG of U8 [rows, columns, 3]. Of the filters "none" and "up" the one that packs smaller is taken: frames under
    each other repeat, so zlib finds the former frame, and the other filters would hide that from it."""
    rows, columns, channels = pixels.shape
    if pixels.dtype != np.uint8 or channels != 3:
        raise ValueError(f"a PNG takes U8 [rows, columns, 3], got {pixels.dtype} {list(pixels.shape)}")
    lines = pixels.reshape(rows, columns * channels)
    above = np.vstack([np.zeros_like(lines[:1]), lines[:-1]])
    packed = []
    for kind, filtered in ((0, lines), (2, lines - above)):
        kinds = np.full((rows, 1), kind, np.uint8)
        packed.append(zlib.compress(np.hstack([kinds, filtered]).tobytes(), 9))
    header = struct.pack(">IIBBBBB", columns, rows, 8, 2, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + _png_chunk(b"IHDR", header) + _png_chunk(b"IDAT", min(packed, key=len)) +
            _png_chunk(b"IEND", b""))


def decode_png(data):
    """U8 [rows, columns, 3] of a PNG that encode_png made."""
    columns, rows = struct.unpack(">II", data[16:24])
    length = struct.unpack(">I", data[33:37])[0]
    lines = np.frombuffer(zlib.decompress(data[41:41 + length]), np.uint8).reshape(rows, 1 + columns * 3)
    kinds, lines = set(lines[:, 0]), lines[:, 1:]
    if kinds == {2}:
        lines = np.cumsum(lines, axis=0, dtype=np.uint8)
    elif kinds != {0}:
        raise ValueError(f"PNG with the filters {sorted(kinds)}; encode_png uses 0 or 2 alone")
    return lines.reshape(rows, columns, 3)


def _png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


SAFETENSORS_TYPES = {"F32": np.dtype("<f4"), "U8": np.dtype("u1")}


def encode_safetensors(tensors):
    """{name: F32 or U8 array} in the order given."""
    names = {dtype: name for name, dtype in SAFETENSORS_TYPES.items()}
    header, offset, blocks = {}, 0, []
    for name, array in tensors.items():
        block = np.ascontiguousarray(array).tobytes()
        header[name] = {"dtype": names[array.dtype], "shape": list(array.shape),
                        "data_offsets": [offset, offset + len(block)]}
        offset += len(block)
        blocks.append(block)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(blocks)


def decode_safetensors(data):
    length = struct.unpack("<Q", data[:8])[0]
    body = memoryview(data)[8 + length:]
    return {name: np.frombuffer(body[slice(*entry["data_offsets"])], SAFETENSORS_TYPES[entry["dtype"]])
            .reshape(entry["shape"]) for name, entry in json.loads(data[8:8 + length]).items()}


def tar_members(members):
    """Bytes of [(name, data)] as ustar members, padded, without the zero blocks that close an archive."""
    parts = []
    for name, data in members:
        information = tarfile.TarInfo(name)
        information.size = len(data)
        parts.append(information.tobuf(tarfile.USTAR_FORMAT))
        parts.append(data)
        parts.append(bytes(-len(data) % TAR_BLOCK))
    return b"".join(parts)


def read_tar(data):
    """[(name, data)] of what tar_members made, closed or not."""
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        return [(member.name, archive.extractfile(member).read()) for member in archive]


def episode_members(key, episode, views):
    """The members of one episode in their order (see README.md)."""
    frames = episode["images"]  # U8 [T, V, H, W, 3]
    members = [(f"{key}.json", json.dumps(episode["fields"]).encode())]
    for i, view in enumerate(views):
        film = frames[:, i].reshape(-1, *frames.shape[3:])
        members.append((f"{key}.{view}.png", encode_png(film)))
    members.append((f"{key}.safetensors", encode_safetensors(episode["tensors"])))
    return members
