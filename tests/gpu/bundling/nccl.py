"""NCCL with the kernels of one architecture: those of the others are replaced by zeros, which pack to nothing.

The library's own layout stays as it is, headers of the kernels included: the driver looks through these for the
architecture of its card and reads no other's code. Kernels that could be linked again at run time (relocatable code),
which only a card that has none of its own would need, go as well.
"""

import json
import re
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

VERSION = '2.30.7'  # 2.30 was the first to let several ranks have one GPU
REQUIREMENTS = 'nccl.txt'
ARCHITECTURE = 90  # H100, H200, GH200
MAGIC = 0xBA55ED50
KIND_MACHINE_CODE = 2


def sections(path):
    """(name, offset, size) of those that hold kernels."""
    said = subprocess.run(['readelf', '--wide', '--section-headers', path], capture_output=True, text=True, check=True)
    found = re.findall(r'(\.nv_fatbin|__nv_relfatbin)\s+PROGBITS\s+[0-9a-f]+ ([0-9a-f]+) ([0-9a-f]+)', said.stdout)
    return [(name, int(offset, 16), int(size, 16)) for name, offset, size in found]


def entries(data, start, size):
    """(kind, architecture, offset of the code, its size) of each entry of each container."""
    position, end = start, start + size
    while position + 16 <= end:
        magic, _, header, length = struct.unpack_from('<IHHQ', data, position)
        if magic != MAGIC:
            position += 8  # containers are aligned
            continue
        entry, stop = position + header, position + header + length
        while entry < stop:
            kind, _, own_header, code = struct.unpack_from('<HHIQ', data, entry)
            (architecture,) = struct.unpack_from('<I', data, entry + 28)
            yield kind, architecture, entry + own_header, code
            entry += own_header + code
        position = stop


def cut(source, target, architecture=ARCHITECTURE):
    """Writes the cut library; returns (bytes of code kept, bytes replaced)."""
    data = bytearray(source.read_bytes())
    kept = replaced = 0
    for name, offset, size in sections(source):
        for kind, arch, start, length in entries(data, offset, size):
            if name == '.nv_fatbin' and kind == KIND_MACHINE_CODE and arch == architecture:
                kept += length
            else:
                data[start:start + length] = bytes(length)
                replaced += length
    if not kept:
        raise ValueError(f'{source} has no kernels for sm_{architecture}')
    target.write_bytes(data)
    return kept, replaced


def fetch(folder, seconds):
    """The library of the wheel that nccl.txt names, from `folder` or by pip; None with the reason where it cannot be had."""
    library = folder / f'libnccl-{VERSION}.so.2'
    if library.exists():
        return library, ''
    folder.mkdir(parents=True, exist_ok=True)
    requirements = Path(__file__).resolve().parent / REQUIREMENTS
    command = [sys.executable, '-m', 'pip', 'download', '--quiet', '--no-deps', '--only-binary=:all:', '--require-hashes',
               '-r', requirements, '-d', folder]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return None, f'pip did not get it within {seconds} s'
    if said.returncode != 0:
        return None, (said.stderr.strip().splitlines() or ['pip failed'])[-1]
    (wheel,) = folder.glob('*.whl')
    with zipfile.ZipFile(wheel) as archive:
        library.with_suffix('.partial').write_bytes(archive.read('nvidia/nccl/lib/libnccl.so.2'))
    library.with_suffix('.partial').rename(library)
    wheel.unlink()
    return library, ''


def describe(folder, architecture=ARCHITECTURE):
    (folder / 'about.json').write_text(json.dumps(dict(version=VERSION, architectures=[architecture])) + '\n')
