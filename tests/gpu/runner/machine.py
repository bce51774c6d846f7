"""The machine that the bundle was unpacked on: its Python environment, its GPU, its libraries."""

import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

# TFLOP/s of dense bf16 products with fp32 sums, from the maker's data sheets; the first name that the card's
# contains as words counts.
PEAKS = [('GH200', 989.4), ('H200 NVL', 835.5), ('H200', 989.4), ('H100 PCIe', 756.5), ('H100 NVL', 835.5), ('H100', 989.4),
         ('H800', 989.4), ('GB200', 2500.0), ('B200', 2250.0), ('B100', 1750.0), ('A100', 311.9), ('A800', 311.9), ('A30', 165.1),
         ('L40S', 362.1), ('L40', 181.1), ('L4', 121.0), ('RTX 6000 Ada', 364.2), ('RTX 4090', 165.2), ('A10', 125.0)]

# Asks the driver itself, in a process of its own: what a call there breaks stays there.
ASK_DRIVER = '''
import ctypes, json
cuda = ctypes.CDLL('libcuda.so.1')
number, version, name, memory = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(200), ctypes.c_size_t()
device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
if cuda.cuInit(0) == 0 and cuda.cuDeviceGetCount(ctypes.byref(number)) == 0 and number.value > 0:
    cuda.cuDeviceGet(ctypes.byref(device), 0)
    cuda.cuDeviceGetName(name, 200, device)
    cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    cuda.cuDeviceGetAttribute(ctypes.byref(major), 75, device)
    cuda.cuDeviceGetAttribute(ctypes.byref(minor), 76, device)
    cuda.cuDriverGetVersion(ctypes.byref(version))
    print(json.dumps(dict(name=name.value.decode(), count=number.value, memory_gib=round(memory.value / 2**30, 1),
                          compute_capability=10 * major.value + minor.value, driver_cuda=version.value)))
'''

MPI_ENVIRONMENT = dict(
    OMPI_ALLOW_RUN_AS_ROOT='1', OMPI_ALLOW_RUN_AS_ROOT_CONFIRM='1', OMPI_MCA_rmaps_base_oversubscribe='1',
    OMPI_MCA_hwloc_base_binding_policy='none', OMPI_MCA_btl_vader_single_copy_mechanism='none',
    OMPI_MCA_plm='isolated')  # ranks start on this machine alone; a bare one has no ssh to look for


def ask_driver():
    answer = subprocess.run([sys.executable, '-c', ASK_DRIVER], capture_output=True, text=True)
    return json.loads(answer.stdout) if answer.returncode == 0 and answer.stdout.startswith('{') else None


def find_torch():
    """Folder of the environment's PyTorch; None when there is none."""
    spec = importlib.util.find_spec('torch')
    return Path(spec.submodule_search_locations[0]) if spec else None


def torch_version(folder):
    found = re.search(r"__version__\s*(?::\s*str)?\s*=\s*'([^']*)'", (folder / 'version.py').read_text())
    return found.group(1) if found else 'unknown'


def peak_of(card):
    return next((peak for name, peak in PEAKS if re.search(rf'\b{re.escape(name)}\b', card)), None)


class Machine:
    def __init__(self, root):
        self.root = Path(root)
        self.gpu = ask_driver()
        self.torch = find_torch()
        self.peak_tflops = peak_of(self.gpu['name']) if self.gpu else None

    def library_folders(self):
        """The bundle's first; none of them has a libc or a libstdc++."""
        folders = [self.root / 'lib']
        if self.torch:
            folders.append(self.torch / 'lib')
            folders += sorted((self.torch.parent / 'nvidia').glob('*/lib'))
        return folders

    def environment(self, **more):
        """For the bundle's programs. Python of the environment goes without: it has libraries of its own."""
        # Where the driver's own libraries lie may be said there, so it stays, at the end.
        inherited = [folder for folder in os.environ.get('LD_LIBRARY_PATH', '').split(':') if folder]
        usr, library = self.root / 'mpi' / 'usr', self.root / 'mpi' / 'usr' / 'lib' / 'x86_64-linux-gnu'
        openmpi, pmix = library / 'openmpi', library / 'pmix2'
        mpi = dict(
            OPAL_PREFIX=usr, OPAL_EXEC_PREFIX=usr, OPAL_BINDIR=usr / 'bin', OPAL_LIBDIR=openmpi / 'lib',
            OPAL_INCLUDEDIR=openmpi / 'include', OPAL_PKGLIBDIR=openmpi / 'lib' / 'openmpi3',
            OPAL_PKGINCLUDEDIR=openmpi / 'include' / 'openmpi', OPAL_DATADIR=usr / 'share',
            OPAL_PKGDATADIR=usr / 'share' / 'openmpi', OPAL_SYSCONFDIR=self.root / 'mpi' / 'etc' / 'openmpi',
            PMIX_INSTALL_PREFIX=pmix, PMIX_LIBDIR=pmix / 'lib', PMIX_PKGLIBDIR=pmix / 'lib' / 'pmix',
            PMIX_DATADIR=pmix / 'share', PMIX_PKGDATADIR=pmix / 'share' / 'pmix', HWLOC_PLUGINS_PATH=library / 'hwloc')
        return os.environ | MPI_ENVIRONMENT | {name: str(path) for name, path in mpi.items()} | {
            'LD_LIBRARY_PATH': ':'.join([*map(str, self.library_folders()), *inherited]),
            'PATH': f"{self.root / 'bin'}:{usr / 'bin'}:{os.environ.get('PATH', '')}"} | {k: str(v) for k, v in more.items()}

    def tool(self, name):
        """A program of the CUDA Toolkit, if it is there."""
        return shutil.which(name) or shutil.which(name, path='/usr/local/cuda/bin')

    def describe(self):
        cpu = re.search(r'model name\s*:\s*(.*)', Path('/proc/cpuinfo').read_text())
        system = re.search(r'PRETTY_NAME="(.*)"', Path('/etc/os-release').read_text()) if Path('/etc/os-release').exists() else None
        return dict(gpu=self.gpu or 'none', peak_bf16_TFLOP_per_s=self.peak_tflops or 'unknown',
                    cpu=f"{cpu.group(1) if cpu else platform.machine()}, {len(os.sched_getaffinity(0))} cores",
                    system=system.group(1) if system else platform.platform(), kernel=platform.release(),
                    python=platform.python_version(), torch=torch_version(self.torch) if self.torch else 'none')
