"""How large a bundle is, part by part, and packed."""

import zlib

MB = 1e6


class TooLarge(Exception):
    """The message names the largest files."""


def packed_size(path):
    """Bytes of a file as a .tar.gz would have it, without what tar adds."""
    packer, size = zlib.compressobj(6), 0
    with open(path, 'rb') as file:
        while block := file.read(1 << 20):
            size += len(packer.compress(block))
    return size + len(packer.flush())


def measure(folder):
    """[(path relative to the folder, bytes, packed bytes)], the largest packed ones first."""
    files = [path for path in folder.rglob('*') if path.is_file() and not path.is_symlink()]
    rows = [(path.relative_to(folder), path.stat().st_size, packed_size(path)) for path in files]
    return sorted(rows, key=lambda row: -row[2])


def table(rows):
    """By part of the bundle: the first folder, programs one by one."""
    parts = {}
    for path, size, packed in rows:
        name = str(path) if path.parts[0] == 'bin' else path.parts[0]
        count, whole, small = parts.get(name, (0, 0, 0))
        parts[name] = (count + 1, whole + size, small + packed)
    lines = [f"{'part':24} {'files':>5} {'MB':>7} {'packed MB':>10}"]
    for name, (count, whole, small) in sorted(parts.items(), key=lambda part: -part[1][2]):
        lines.append(f'{name:24} {count:5} {whole / MB:7.1f} {small / MB:10.2f}')
    total = (sum(row[1] for row in rows), sum(row[2] for row in rows))
    lines.append(f"{'together':24} {len(rows):5} {total[0] / MB:7.1f} {total[1] / MB:10.2f}")
    return '\n'.join(lines)


def check(packed_bytes, limit_bytes, rows):
    if packed_bytes <= limit_bytes:
        return
    largest = ', '.join(f'{path} ({packed / MB:.1f} MB)' for path, _, packed in rows[:5])
    raise TooLarge(f'the bundle is {packed_bytes / MB:.1f} MB, and {limit_bytes / MB:.0f} MB are allowed; the largest files: {largest}')
