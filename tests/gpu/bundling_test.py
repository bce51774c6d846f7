#!/usr/bin/env python3
"""What tests/gpu/bundle refuses, and how it cuts NCCL; on files made here."""

import shutil
import struct
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

from bundling import elf, nccl, sizes  # noqa: E402

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
    unittest.main()
