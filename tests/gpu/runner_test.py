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
from unittest import mock

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
        result = self.run_item('hangs', limit_s=10)
        self.assertEqual(result['status'], 'timeout')
        self.assertLess(time.monotonic() - started, 60)
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
        self.assertEqual(machine.peak_of('NVIDIA H200'), 989.4)
        self.assertEqual(machine.peak_of('NVIDIA H100 80GB HBM3'), 989.4)
        self.assertEqual(machine.peak_of('NVIDIA H100 PCIe'), 756.5)
        self.assertEqual(machine.peak_of('NVIDIA A100-SXM4-80GB'), 311.9)
        self.assertIsNone(machine.peak_of('NVIDIA RTX A3000'))


FAKE_PROGRAM = """#!{python}
import json, sys
name, words = sys.argv[0].rpartition('/')[2], sys.argv[1:]
answers = json.load(open('answers.json'))
for key, answer in answers.items():
    if key in ' '.join([name, *words]):
        print(answer if isinstance(answer, str) else json.dumps(answer), flush=True)
        sys.exit(answers['exit'].get(key, 0))
sys.exit('no answer for ' + ' '.join([name, *words]))
"""
RATES = dict(ms_per_step=10.0, ms_per_step_least=9.0, ms_per_step_most=11.0, tokens=1024, parameters=10, multiplied_parameters=8,
             flops_per_step=5e12, attention='flash', losses=[1.0])
ANSWERS = {
    'gpu_checks ceilings': dict(copy_TB_per_s=dict(median=4.0), bf16_product_TFLOP_per_s=dict(median=780.0)),
    'gpu_checks module tokenizer': dict(holds=True, fp32=dict(tensors=3, too_far=[])),
    'gpu_checks module decoder': dict(holds=False, fp32=dict(tensors=3, too_far=['hidden states: 0.5'])),
    'gpu_checks held-stream': dict(given_up_after_s=2.1, message='all_reduce made no progress for 2 s'),
    'gpu_checks ranks': dict(ranks=1), 'mpirun -n 2': dict(given_up_after_s=4.2, message='all_reduce made no progress', ranks=2),
    'mfu_bench --sizes tests/gpu/decoder_sizes.json --size 0.3b --sequences 2 --graph': dict(captures=False, why_not='a copy'),
    'mfu_bench': RATES, 'mfu_peer': RATES | dict(ms_per_step=20.0),
    'compute-sanitizer': '========= ERROR SUMMARY: 0 errors', 'exit': {'gpu_checks module decoder': 1},
}


class FakeMachine(machine.Machine):
    """An H200 whose programs answer what they are told."""

    def __init__(self, root):
        self.root, self.torch = root, None
        self.gpu = dict(name='NVIDIA H200', memory_gib=139.8, compute_capability=90)
        self.peak_tflops = 989.4

    def tool(self, name):
        return self.root / 'bin' / name


class GpuItemsTest(unittest.TestCase):
    """The bodies that only a GPU runs, with programs that only pretend."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        for name in ('bin', 'nccl', 'tests/gpu/runner'):
            (self.root / name).mkdir(parents=True)
        program = FAKE_PROGRAM.format(python=sys.executable)
        for name in ('gpu_checks', 'mfu_bench', 'espalier', 'mpirun', 'compute-sanitizer'):
            (self.root / 'bin' / name).write_text(program)
            (self.root / 'bin' / name).chmod(0o755)
        (self.root / 'tests' / 'gpu' / 'runner' / 'mfu_peer.py').write_text(program)
        (self.root / 'answers.json').write_text(json.dumps(ANSWERS))

    def result_of(self, name, **answers):
        (self.root / 'answers.json').write_text(json.dumps(answers | {key: answer for key, answer in ANSWERS.items() if key not in answers}))
        chosen = next(one for one in items.ITEMS if one.name == name)
        context = item.Context(FakeMachine(self.root), self.root / 'work', name, time.monotonic() + 60)
        with mock.patch('sys.stdout', open(os.devnull, 'w')):
            item.run_body(chosen, context)
        return json.loads((context.work / 'result.json').read_text()), item.figures_of(context.work)

    def test_ceilings_are_held_against_the_peak(self):
        result, figures = self.result_of('ceilings')
        self.assertEqual(result['status'], 'passed')
        self.assertAlmostEqual(figures['product_of_peak'], 780 / 989.4)

    def test_a_module_fails_with_the_tensor_that_is_off(self):
        self.assertEqual(self.result_of('module_tokenizer')[0]['status'], 'passed')
        result, _ = self.result_of('module_decoder')
        self.assertEqual((result['status'], 'hidden states' in result['why']), ('failed', True))

    def test_ranks_and_streams(self):
        self.assertEqual(self.result_of('nccl_one_rank')[1], dict(ranks=1))
        self.assertEqual(self.result_of('held_stream')[0]['status'], 'passed')
        self.assertEqual(self.result_of('two_ranks_nccl')[0]['status'], 'skipped')  # no NCCL is carried
        about = self.root / 'nccl' / 'about.json'
        about.write_text(json.dumps(dict(version='2.30.7', architectures=[100])))
        self.assertIn('cut to [100]', self.result_of('two_ranks_nccl')[0]['why'])
        about.write_text(json.dumps(dict(version='2.30.7', architectures=[90])))
        self.assertEqual(self.result_of('two_ranks_nccl')[0]['status'], 'passed')
        self.assertEqual(self.result_of('stopped_rank_nccl')[0], dict(status='passed', why='all_reduce made no progress'))

    def test_memcheck_wants_a_summary_without_errors(self):
        self.assertEqual(self.result_of('memcheck')[0]['status'], 'passed')
        result, _ = self.result_of('memcheck', **{'compute-sanitizer --tool': '========= ERROR SUMMARY: 3 errors'})
        self.assertEqual((result['status'], '3 errors' in result['why']), ('failed', True))

    def test_both_sides_take_turns_and_the_slower_one_shows(self):
        result, figures = self.result_of('mfu_0.5b')
        self.assertEqual(result['status'], 'passed')
        self.assertEqual((figures['espalier']['rounds'], figures['pytorch']['rounds']), (2, 2))
        self.assertEqual(figures['pytorch_time_over_espalier_time'], 2.0)
        self.assertAlmostEqual(figures['espalier']['mfu'], 500 / 989.4, places=3)

    def test_a_side_that_breaks_leaves_the_others_rates(self):
        result, figures = self.result_of('mfu_0.5b', **{'mfu_bench --sizes': 'mfu_bench: out of memory'},
                                         exit=dict(ANSWERS['exit'], **{'mfu_bench --sizes': 1}))
        self.assertEqual((result['status'], 'out of memory' in result['why']), ('failed', True))
        self.assertIn('pytorch', figures)

    def test_two_programs_that_do_other_work_are_not_compared(self):
        result, _ = self.result_of('mfu_1.5b', **{'mfu_peer.py --sizes': RATES | dict(flops_per_step=4e12)})
        self.assertEqual((result['status'], 'flops_per_step' in result['why']), ('failed', True))

    def test_a_step_that_cannot_be_captured_says_why(self):
        self.assertEqual(self.result_of('cuda_graph')[0], dict(status='failed', why='a step cannot be captured: a copy'))


if __name__ == '__main__':
    if len(sys.argv) > 1 and sys.argv[1] in BODIES:
        name, work, seconds = sys.argv[1], sys.argv[2], float(sys.argv[4])
        root = types.SimpleNamespace(root=Path(work), gpu=None, environment=lambda: dict(os.environ))
        own = item.Item(name, '', seconds, BODIES[name], needs_gpu=False)
        item.run_body(own, item.Context(root, work, name, time.monotonic() + seconds))
    else:
        unittest.main(warnings='ignore')
