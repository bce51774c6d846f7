#!/usr/bin/env python3
"""What tests/gpu/bundle refuses, and how it cuts NCCL; on files made here."""

import importlib.machinery
import importlib.util
import io
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import unittest
from pathlib import Path
from unittest import mock

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

from bundling import elf, nccl, sizes  # noqa: E402


def load_script(name):
    loader = importlib.machinery.SourceFileLoader(name, str(Path(__file__).resolve().parent / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module


script = load_script('bundle')
PROGRAM = Path(shutil.which('ls')).resolve()


class BundlingTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def test_a_bundle_that_is_too_large_names_its_largest_files(self):
        (self.folder / 'bin').mkdir()
        (self.folder / 'bin' / 'large').write_bytes(bytes(range(256)) * 40)
        (self.folder / 'small').write_text('x')
        rows = sizes.measure(self.folder)
        sizes.check(1000, 1000, rows)
        with self.assertRaisesRegex(sizes.TooLarge, r'largest files: bin/large .*, small'):
            sizes.check(1001, 1000, rows)
        self.assertRegex(sizes.table(rows), r'bin/large +1 +0\.0')

    def test_zeros_pack_to_nothing(self):
        (self.folder / 'zeros').write_bytes(bytes(1 << 20))
        self.assertLess(sizes.packed_size(self.folder / 'zeros'), 2000)

    def test_a_program_that_wants_a_newer_c_library_is_found(self):
        self.assertTrue(elf.is_elf(PROGRAM))
        self.assertIn('GLIBC', elf.versions(PROGRAM))
        self.assertEqual(elf.too_new([PROGRAM], {'GLIBC': (99, 0)}), [])
        (found,) = elf.too_new([PROGRAM], {'GLIBC': (2, 1)})
        self.assertRegex(found, rf'^{PROGRAM.name} needs GLIBC_2\.\d+')

    def test_the_systems_libraries_are_not_carried_and_others_are(self):
        loaded = elf.loaded_libraries(PROGRAM)
        self.assertIn('libc.so.6', loaded)
        self.assertTrue(elf.OF_THE_SYSTEM.match('libc.so.6'))
        self.assertTrue(elf.OF_THE_SYSTEM.match('libstdc++.so.6'))
        self.assertFalse(elf.OF_THE_SYSTEM.match('libmpi.so.40'))
        self.assertFalse(elf.OF_THE_SYSTEM.match('libcrypto.so.3'))

    def small_bundle(self):
        """Of one program of the system's, which loads a library that the system of another machine need not have."""
        (self.folder / 'build').mkdir()
        bundle = script.Bundle(self.folder / 'small', self.folder / 'build')
        bundle.environment = {'libtorch.so'}
        (bundle.folder / 'bin').mkdir(parents=True)
        elf.strip(PROGRAM, bundle.folder / 'bin' / 'program')
        return bundle

    def test_a_small_bundle_carries_what_its_program_loads_and_runs(self):
        bundle = self.small_bundle()
        bundle.libraries()
        carried = {path.name for path in (bundle.folder / 'lib').iterdir()}
        loaded = {name for name in elf.loaded_libraries(PROGRAM) if not elf.OF_THE_SYSTEM.match(name)}
        self.assertEqual(carried, loaded)
        bundle.check()
        archive = script.pack(bundle.folder)
        with tarfile.open(archive) as tar:
            tar.extractall(self.folder / 'there')
        there = self.folder / 'there' / 'small'
        said = subprocess.run([there / 'bin' / 'program', '/'], env=dict(LD_LIBRARY_PATH=str(there / 'lib')), capture_output=True, text=True)
        self.assertIn('usr', said.stdout)

    def test_a_bundle_without_nccl_or_without_a_program_is_refused(self):
        bundle = self.small_bundle()
        shutil.rmtree(bundle.folder)
        with self.assertRaisesRegex(script.Refused, 'espalier is missing'):
            bundle.programs()
        shutil.rmtree(bundle.folder)
        for place in script.PROGRAMS.values():
            (bundle.build / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROGRAM, bundle.build / place)
        with self.assertRaisesRegex(script.Refused, 'no NCCL backend'):
            bundle.programs()

    def test_a_folder_that_is_no_bundle_is_left_alone(self):
        (self.folder / 'mine').write_text('precious')
        said = subprocess.run([sys.executable, script.__file__, self.folder, '--no-compile'], capture_output=True, text=True)
        self.assertEqual((said.returncode, 'is no bundle' in said.stderr), (1, True))
        self.assertTrue((self.folder / 'mine').exists())

    def test_few_images_are_the_first_whole_samples(self):
        with tarfile.open(self.folder / 'all.tar', 'w') as tar:
            for name in ('a.png', 'a.json', 'b.png', 'b.json', 'c.png'):
                info = tarfile.TarInfo(name)
                info.size = 1
                tar.addfile(info, io.BytesIO(b'x'))
        script.few_images(self.folder / 'all.tar', self.folder / 'few.tar', 2)
        with tarfile.open(self.folder / 'few.tar') as tar:
            self.assertEqual(tar.getnames(), ['a.png', 'a.json', 'b.png', 'b.json'])

    def container(self, *codes):
        body = b''
        for kind, architecture, code in codes:
            header = struct.pack('<HHIQ', kind, 0, 64, len(code)) + bytes(12) + struct.pack('<I', architecture) + bytes(32)
            body += header + code
        return struct.pack('<IHHQ', nccl.MAGIC, 1, 16, len(body)) + body

    def test_nccl_keeps_the_kernels_of_one_architecture_and_its_layout(self):
        linked = self.container((2, 80, b'a' * 64), (2, 90, b'b' * 64), (1, 120, b'c' * 64)) + bytes(8) + self.container((2, 90, b'd' * 64))
        relocatable = self.container((2, 90, b'e' * 64))
        (self.folder / 'in').write_bytes(linked + relocatable)
        places = [('.nv_fatbin', 0, len(linked)), ('__nv_relfatbin', len(linked), len(relocatable))]
        with mock.patch.object(nccl, 'sections', lambda path: places):
            self.assertEqual(nccl.cut(self.folder / 'in', self.folder / 'out'), (128, 192))
            with self.assertRaisesRegex(ValueError, 'no kernels for sm_75'):
                nccl.cut(self.folder / 'in', self.folder / 'other', architecture=75)
        after = (self.folder / 'out').read_bytes()
        self.assertEqual(len(after), len(linked) + len(relocatable))
        self.assertEqual([letter * 64 in after for letter in (b'a', b'b', b'c', b'd', b'e')], [False, True, False, True, False])
        self.assertEqual([entry[:2] for entry in nccl.entries(after, 0, len(linked))], [(2, 80), (2, 90), (1, 120), (2, 90)])


if __name__ == '__main__':
    unittest.main(warnings='ignore')
