"""What a program or library needs of the machine it runs on."""

import os
import re
import subprocess
from pathlib import Path

# Every Linux of the last years has these, each its own; carrying one would put two into a process.
OF_THE_SYSTEM = re.compile(r'^(ld-linux.*|lib(c|m|dl|rt|pthread|resolv|util|mvec|anl|nsl|stdc\+\+|gcc_s)\.so[.\d]*|linux-vdso.*)$')
# Debian 12's own. Ubuntu has had them since 24.04.
NEWEST = {'GLIBC': (2, 36), 'GLIBCXX': (3, 4, 30), 'CXXABI': (1, 3, 13)}


def is_elf(path):
    with open(path, 'rb') as file:
        return file.read(4) == b'\x7fELF'


def loaded_libraries(path, folders=()):
    """Name -> file of all that the loader brings in for `path`, itself not included; None where it finds none."""
    environment = dict(os.environ)
    if folders:
        environment['LD_LIBRARY_PATH'] = ':'.join(map(str, folders))
    said = subprocess.run(['ldd', path], capture_output=True, text=True, env=environment)
    found = {}
    for line in said.stdout.splitlines():
        if match := re.match(r'\s*(\S+) => (not found|/\S+)', line):
            found[Path(match[1]).name] = None if match[2] == 'not found' else Path(match[2])
    return found


def needed(path):
    """The names that it asks for itself."""
    said = subprocess.run(['readelf', '-d', path], capture_output=True, text=True, check=True)
    return re.findall(r'\(NEEDED\).*\[(.*)\]', said.stdout)


def versions(path):
    """Symbol versions that it asks of other libraries: {'GLIBC': (2, 34), ...}, the newest of each."""
    said = subprocess.run(['readelf', '--wide', '--version-info', path], capture_output=True, text=True, check=True)
    section = said.stdout.partition("Version needs section")[2]
    newest = {}
    for kind, number in re.findall(r'Name: ([A-Z]+)_([\d.]+)\b', section):
        version = tuple(int(part) for part in number.split('.'))
        newest[kind] = max(newest.get(kind, (0,)), version)
    return newest


def too_new(paths, newest=NEWEST):
    """'name needs GLIBC_2.38' for each file and version beyond `newest`."""
    found = []
    for path in paths:
        for kind, version in versions(path).items():
            if kind in newest and version > newest[kind]:
                found.append(f"{path.name} needs {kind}_{'.'.join(map(str, version))}")
    return found


def newest_of(paths):
    newest = {}
    for path in paths:
        for kind, version in versions(path).items():
            if kind in NEWEST:
                newest[kind] = max(newest.get(kind, (0,)), version)
    return {kind: '.'.join(map(str, version)) for kind, version in newest.items()}


def strip(source, target):
    """A copy without symbols; plain where there is nothing to strip."""
    subprocess.run(['strip', '--strip-unneeded', '-o', target, source], check=True)
    os.chmod(target, 0o755)
