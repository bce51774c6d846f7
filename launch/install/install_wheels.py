#!/usr/bin/env python3
"""Unpacks the pinned wheels of a requirements file: the libraries and headers in them, not their Python code.

A wheel counts as installed once its stamp exists, and the stamp is written last; so a run that was
killed anywhere goes on with the first wheel that has none. Standard library only.
"""

import argparse
import concurrent.futures
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
import zipfile

# The wheels' own tags, so that the choice does not depend on the Python that runs this.
PLATFORMS = ["manylinux_2_28", "manylinux_2_27", "manylinux_2_25", "manylinux_2_18", "manylinux_2_17",
             "manylinux2014", "manylinux1"]
PIP_OPTIONS = ["-qq", "--no-deps", "--no-cache-dir", "--require-hashes", "--only-binary=:all:",
               "--disable-pip-version-check", "--implementation=cp", "--python-version=3.11",
               "--abi=cp311", "--abi=none"] + [f"--platform={p}_x86_64" for p in PLATFORMS]

TRIES = 3

REQUIREMENT = re.compile(
    r"(?P<name>[\w.-]+)==(?P<version>\S+) --hash=sha256:(?P<digest>[0-9a-f]{64})"
    r"\s+# (?P<download_mb>\d+) -> (?P<disk_mb>\d+) MB")

# Nothing that libtorch loads: Python bindings, the multi-GPU solver, nvrtc's second copy, the profiler's
# own host library, the CUDA C++ templates, static archives, tools; of Arrow all but its core and Parquet.
UNWANTED = re.compile(
    r"^torch/(?!lib/|include/|share/)|^torch/lib/(libtorch_python|libshm)|^torchgen/|^functorch/"
    r"|^pyarrow/(?!include/|libarrow\.so|libparquet\.so)|^pyarrow/include/arrow/python/|\.(a|py|pyi)$|/bin/"
    r"|libcusolverMg|libnvrtc(-builtins)?\.alt|libnvperf_host|libnvblas|/include/cccl/|/lib/cmake/|\.dist-info/(?!licenses/|LICEN[CS]E)")


def is_wanted(name):
    return not name.endswith("/") and not UNWANTED.search(name)


class Wheel:
    def __init__(self, line, match):
        self.requirement = line.split("#")[0]
        self.name, self.version, self.digest = match["name"], match["version"], match["digest"]
        self.download_mb, self.disk_mb = int(match["download_mb"]), int(match["disk_mb"])

    def __str__(self):
        return f"{self.name} {self.version}"

    def stamp(self, target):
        return target / ".installed" / f"{self.name}-{self.version}-{self.digest[:12]}"

    def is_file(self, path):
        """Whether `path` is this wheel, by its digest."""
        normalised = self.name.replace("-", "_").lower()
        if not path.name.lower().startswith(f"{normalised}-{self.version}-"):
            return False
        digest = hashlib.sha256()
        with open(path, "rb") as stream:
            while block := stream.read(1 << 22):
                digest.update(block)
        return digest.hexdigest() == self.digest

    def find_in(self, folder):
        return next((p for p in sorted(folder.glob("*.whl")) if self.is_file(p)), None)


def read_requirements(path):
    wheels = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            match = REQUIREMENT.match(line)
            if not match:
                sys.exit(f"{path}:{number}: expected 'name==version --hash=sha256:... # N -> N MB'")
            wheels.append(Wheel(line, match))
    return wheels


class Downloads:
    """Fetches wheels one after the other with pip, at most one ahead of the unpacking."""

    def __init__(self, folder):
        self.folder = folder
        self.scratch = folder / "partial"  # what a killed pip left is worthless: it cannot resume a file
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir(parents=True)

    def fetch(self, wheel):
        found = wheel.find_in(self.folder)
        if found:
            return found
        for _ in range(TRIES):
            if self.run_pip(wheel):
                file = next((self.scratch / "out").glob("*.whl"))
                return file.replace(self.folder / file.name)
        raise SystemExit(f"{wheel}: the download failed {TRIES} times (pip's messages are above). Run the same "
                         "command again later: what is installed is not fetched twice.")

    def run_pip(self, wheel):
        requirement = self.scratch / "requirement.txt"
        requirement.write_text(wheel.requirement + "\n")
        started = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "pip", "download", *PIP_OPTIONS, "-r", requirement, "-d", self.scratch / "out"],
            env={**os.environ, "TMPDIR": str(self.scratch)}, stdin=subprocess.DEVNULL)
        while process.poll() is None:
            self.show(wheel, started)
            time.sleep(0.1)
        return process.returncode == 0

    def show(self, wheel, started):
        if not sys.stderr.isatty():
            return
        got = sum(f.stat().st_size for f in self.scratch.rglob("*.whl") if f.exists()) / 1e6
        rate = got / max(time.monotonic() - started, 1e-3)
        print(f"\r\033[K  {wheel}: {got:.0f} of {wheel.download_mb} MB, {rate:.0f} MB/s", end="",
              file=sys.stderr, flush=True)


def unpack(file, wheel, target):
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            if is_wanted(member.filename):
                archive.extract(member, target)
    stamp = wheel.stamp(target)
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.touch()


def gigabytes(megabytes):
    return f"{megabytes / 1000:.1f} GB" if megabytes >= 1000 else f"{megabytes} MB"


def remove_other_pins(wheels, target):
    """Starts over when a package was installed that the requirements no longer name with this pin."""
    pinned = {w.stamp(target) for w in wheels}
    if any(stamp not in pinned for stamp in (target / ".installed").glob("*")):
        print(f"wheels: the pins have changed since {target} was installed; removing it")
        shutil.rmtree(target)


def install(wheels, target, source):
    missing = [w for w in wheels if not w.stamp(target).exists()]
    if not missing:
        print(f"wheels: all {len(wheels)} are installed in {target}")
        return
    disk_mb = sum(w.disk_mb for w in missing)
    where = f"to take from {source}" if source else "to download"
    print(f"wheels: {len(missing)} of {len(wheels)} are missing: "
          f"{gigabytes(sum(w.download_mb for w in missing))} {where}, {gigabytes(disk_mb)} on disk in {target}",
          flush=True)
    target.mkdir(parents=True, exist_ok=True)
    spare_mb = 0 if source else 1200  # two wheel files lie beside what is unpacked
    free_mb = shutil.disk_usage(target).free // 10**6
    if free_mb < disk_mb + spare_mb:
        sys.exit(f"{target}: {gigabytes(free_mb)} are free, {gigabytes(disk_mb + spare_mb)} are needed")

    downloads = None if source else Downloads(target.parent / "download")
    with concurrent.futures.ThreadPoolExecutor(1) as fetcher:
        def start(wheel):
            return fetcher.submit(wheel.find_in if source else downloads.fetch, *([source] if source else [wheel]))

        coming = start(missing[0])
        for index, wheel in enumerate(missing):
            file = coming.result()
            if file is None:
                sys.exit(f"{source}: no file is {wheel} with digest {wheel.digest}")
            if index + 1 < len(missing):
                coming = start(missing[index + 1])
            unpack(file, wheel, target)
            if not source:
                file.unlink()
            end_of_bar = "\r\033[K" if sys.stderr.isatty() else ""
            print(f"{end_of_bar}  {wheel}: installed ({index + 1} of {len(missing)})", flush=True)
    if downloads:
        shutil.rmtree(downloads.folder)


def collect(wheels, folder):
    """Fills `folder` with the wheel files themselves, for an installation elsewhere."""
    folder.mkdir(parents=True, exist_ok=True)
    print(f"wheels: {gigabytes(sum(w.download_mb for w in wheels))} to collect in {folder}", flush=True)
    downloads = Downloads(folder)
    for wheel in wheels:
        downloads.fetch(wheel)
    shutil.rmtree(downloads.scratch)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requirements", type=pathlib.Path, required=True)
    parser.add_argument("--only", action="append", help="install just this wheel (can be repeated)")
    parser.add_argument("--target", type=pathlib.Path, help="folder to unpack into")
    parser.add_argument("--from", dest="source", type=pathlib.Path, help="folder of wheel files, instead of the network")
    parser.add_argument("--collect", type=pathlib.Path, help="keep the wheel files in this folder instead of installing")
    arguments = parser.parse_args()
    wheels = read_requirements(arguments.requirements)
    if arguments.target:
        remove_other_pins(wheels, arguments.target)
    if arguments.only:
        wheels = [w for w in wheels if w.name in arguments.only]
    if arguments.collect:
        collect(wheels, arguments.collect)
    else:
        install(wheels, arguments.target, arguments.source)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nstopped; the same command goes on from here")
