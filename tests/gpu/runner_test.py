#!/usr/bin/env python3
"""The item runner and its report with items that pass, fail, hang and die; no bundle, no GPU."""

import json
import os
import signal
import sys
import tempfile
import time
import types
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from runner import item, items, machine, process, report  # noqa: E402


def passes(context):
    context.figure(speed=1.5)
    return 'a note'


def fails(context):
    context.figure(speed=0.5)
    raise item.Failed('1 is not 2')


def hangs(context):
    """With a child that would outlive it, stopped like a frozen rank."""
    context.figure(child=context.start('sleep', 1000).process.pid)
    os.kill(int(item.figures_of(context.work)['child']), signal.SIGSTOP)
    time.sleep(1000)


def leaves_a_daemon(context):
    context.run('bash', '-c', 'setsid sleep 1000 & echo $! >daemon.pid; disown', environment=dict(os.environ))


def dies(context):
    os.kill(os.getpid(), signal.SIGKILL)


def trips(context):
    raise KeyError('what no one thought of')


def finds_no_gpu(context):
    context.run('bash', '-c', 'echo no GPU: none here; exit 77', environment=dict(os.environ))


BODIES = dict(passes=passes, fails=fails, hangs=hangs, leaves_a_daemon=leaves_a_daemon, dies=dies, trips=trips, finds_no_gpu=finds_no_gpu)


def is_running(pid):
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except OSError:
        return False


class RunnerTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.work = Path(folder.name)

    def run_item(self, name, limit_s=30):
        process.adopt_orphans()
        planned = item.Item(name, f'what {name} shows', limit_s, BODIES[name], needs_gpu=False)
        with open(self.work / 'log.txt', 'a') as log:
            return item.run_item(planned, [sys.executable, __file__, name, self.work], self.work, limit_s, log)

    def test_a_passing_item_has_its_figures_and_its_note(self):
        result = self.run_item('passes')
        self.assertEqual((result['status'], result['why'], result['figures']), ('passed', 'a note', {'speed': 1.5}))

    def test_a_failing_item_says_why_and_keeps_its_figures(self):
        result = self.run_item('fails')
        self.assertEqual((result['status'], result['why'], result['figures']), ('failed', '1 is not 2', {'speed': 0.5}))

    def test_a_hanging_item_is_ended_with_its_children_even_stopped_ones(self):
        started = time.monotonic()
        result = self.run_item('hangs', limit_s=4)
        self.assertEqual(result['status'], 'timeout')
        self.assertLess(time.monotonic() - started, 20)
        self.assertFalse(is_running(result['figures']['child']))

    def test_what_an_item_leaves_running_is_ended_before_the_next_one(self):
        self.assertEqual(self.run_item('leaves_a_daemon')['status'], 'passed')
        self.assertFalse(is_running(int((self.work / 'daemon.pid').read_text())))

    def test_an_item_that_dies_or_trips_is_a_failed_one(self):
        self.assertIn('SIGKILL', self.run_item('dies')['why'])
        result = self.run_item('trips')
        self.assertEqual((result['status'], result['why']), ('failed', "KeyError: 'what no one thought of'"))
        self.assertIn('Traceback', '\n'.join(result['last_lines']))

    def test_a_program_without_a_gpu_is_neither_a_passed_nor_a_failed_one(self):
        self.assertEqual(self.run_item('finds_no_gpu')['status'], 'no GPU')

    def test_the_report_is_whole_after_every_item(self):
        page = report.Report(self.work, dict(gpu='none'), dict(commit='abc'), ['passes', 'fails', 'later'])
        for name, counts in (('passes', dict(passed=1, failed=0)), ('fails', dict(passed=1, failed=1))):
            page.add(self.run_item(name), 1.0)
            saved = json.loads((self.work / 'gpu_report.json').read_text())
            self.assertEqual({key: saved['counts'][key] for key in counts}, counts)
            self.assertIn(name, (self.work / 'gpu_report.md').read_text())
        self.assertEqual(saved['not_run_yet'], ['later'])
        self.assertIn('1 is not 2', (self.work / 'gpu_report.md').read_text())


class ItemsTest(unittest.TestCase):
    def test_each_has_a_name_of_its_own_and_says_what_it_shows(self):
        self.assertEqual(len({one.name for one in items.ITEMS}), len(items.ITEMS))
        self.assertTrue(all(one.shows.endswith('.') and one.limit_s >= 20 for one in items.ITEMS))

    def test_the_card_decides_the_peak(self):
        def peak(name):
            return next((value for part, value in machine.PEAKS if part in name), None)
        self.assertEqual(peak('NVIDIA H200'), 989.4)
        self.assertEqual(peak('NVIDIA H100 80GB HBM3'), 989.4)
        self.assertEqual(peak('NVIDIA H100 PCIe'), 756.5)
        self.assertIsNone(peak('NVIDIA of next year'))


if __name__ == '__main__':
    if len(sys.argv) > 1 and sys.argv[1] in BODIES:
        name, work, seconds = sys.argv[1], sys.argv[2], float(sys.argv[4])
        root = types.SimpleNamespace(root=Path(work), gpu=None, environment=lambda: dict(os.environ))
        own = item.Item(name, '', seconds, BODIES[name], needs_gpu=False)
        item.run_body(own, item.Context(root, work, name, time.monotonic() + seconds))
    else:
        unittest.main()
