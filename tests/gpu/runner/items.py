"""What tests/gpu/run shows, in its order: that programs start, then that results are right, then what faults do, then rates."""

import json
import os
import signal
import subprocess
import sys
import time

from . import mfu, training
from .item import Failed, Item, NoGpu, Skipped

PROGRAMS = ('espalier', 'gpu_checks', 'mfu_bench')
NCCL_ONE_GPU = dict(NCCL_MULTI_RANK_GPU_ENABLE='1', NCCL_NVLS_ENABLE='0', NCCL_MAX_CTAS='2')


def libraries(context):
    environment = context.machine.environment()
    if not context.machine.torch:
        raise Failed(f'{sys.executable} has no torch; run tests/gpu/run with the Python that has it')
    targets = [context.root / 'bin' / name for name in PROGRAMS]
    targets += sorted((context.root / 'mpi').rglob('*.so*')) + sorted((context.root / 'lib').iterdir())
    missing, count = [], 0
    for target in targets:
        if target.is_symlink():
            continue
        said = subprocess.run(['ldd', target], env=environment, capture_output=True, text=True)
        count += 1
        missing += [f'{target.name}: {line.strip()}' for line in (said.stdout + said.stderr).splitlines()
                    if 'not found' in line]
    context.figure(files=count, missing=missing)
    if missing:
        print(*missing, sep='\n')
        raise Failed(f'{len(missing)} libraries are missing: {missing[0]}')


def nccl_of(doctor_said):
    return next((line.split(None, 1)[1] for line in doctor_said.lines if line.startswith('nccl')), '')


def doctor(context):
    said = context.run('bin/espalier', 'doctor')
    text = '\n'.join(said.lines)
    for word in ('libtorch', 'mpi', 'nccl', 'communicator'):
        if word not in text:
            raise Failed(f'espalier doctor does not speak of {word}')
    if context.gpu and 'usable' not in text:
        raise Failed('espalier doctor sees no usable GPU')
    context.figure(nccl=nccl_of(said))
    about = carried_nccl(context)
    if about:
        version = nccl_of(context.run('bin/espalier', 'doctor', environment=context.machine.environment(**carried_path(context))))
        context.figure(carried_nccl=version)
        if not version.startswith(about['version']):
            raise Failed(f"the NCCL of the bundle, {about['version']}, does not load: doctor says {version}")


def ceilings(context):
    found = context.checks('ceilings')
    context.figure(**found)
    if context.machine.peak_tflops:
        context.figure(product_of_peak=found['bf16_product_TFLOP_per_s']['median'] / context.machine.peak_tflops)


def nccl_one_rank(context):
    context.figure(**context.checks('ranks', '--backend', 'nccl', '--deadline', 15))


def module(name):
    def body(context):
        found = context.checks('module', name, check=False, NVIDIA_TF32_OVERRIDE='0')
        context.figure(**{precision: {k: v for k, v in figures.items() if k != 'too_far' or v}
                          for precision, figures in found.items() if precision != 'holds'})
        if not found['holds']:
            far = [word for figures in found.values() if isinstance(figures, dict) for word in figures['too_far']]
            raise Failed(f'{len(far)} tensors are too far from the CPU\'s: {far[0]}')
    return body


def losses(context):
    """20 steps of each stage on the CPU and on the GPU; without one, twice on the CPU, which must give the same bits."""
    first = training.reference(context)
    other = training.train(context, training.place(context, 'other-cpu'), 'cpu')
    if context.gpu:
        training.compare_losses(context, first, other, 'CUDA against CPU')
        return ''
    count, differing, _, _ = training.largest_difference(first, other)
    context.figure(tensors=count, differing=differing)
    if differing:
        raise Failed(f'two equal runs on the CPU end with {differing} of {count} tensors different')
    return 'no GPU: the same run twice on the CPU ends with the same bits'


def memcheck(context):
    tool = context.machine.tool('compute-sanitizer')
    if not tool:
        raise Skipped('compute-sanitizer is not on this machine')
    command = [tool, '--tool', 'memcheck', '--error-exitcode', '3', 'bin/espalier', 'train', training.CONFIG,
               *training.settings(training.place(context, 'memcheck'), 'cuda', stage__codes__steps=2, stage__both__steps=2,
                                   data__emoji__train=training.FEW_IMAGES)]
    ended = context.run(*command, check=False)
    summary = next((line for line in reversed(ended.lines) if 'ERROR SUMMARY' in line), '')
    context.figure(summary=summary.strip('= '))
    if any('not supported' in line for line in ended.lines):
        raise Skipped('compute-sanitizer does not support this device or its driver')
    if ended.code != 0 or ' 0 errors' not in summary:
        raise Failed(f'exit {ended.code}, {summary.strip("= ") or ended.why()}')


def resume(context):
    """N + N steps from a checkpoint equal 2 N without: bit for bit."""
    straight = training.reference(context)
    middle = straight / 'checkpoints' / f'step-{training.STEPS // 2 - 10:010d}'
    resumed = training.train(context, training.place(context, 'resumed'), training.device_of(context), resume=middle)
    count, differing, difference, name = training.largest_difference(straight, resumed)
    context.figure(tensors=count, differing=differing, largest_difference=difference)
    if not differing:
        return ''
    again = training.train(context, training.place(context, 'again'), training.device_of(context))
    _, own, own_difference, _ = training.largest_difference(straight, again)
    context.figure(differing_between_equal_runs=own, largest_difference_between_equal_runs=own_difference)
    raise Failed(f'{differing} of {count} tensors differ, {name} by {difference:.1e}; between two runs that were not interrupted '
                 f'{own} do, by {own_difference:.1e}')


def held_stream(context):
    """Gives up in time by exception, or by the end of the process: both are an answer, waiting is none."""
    deadline, hold = 2, 15
    started = time.monotonic()
    ended = context.run('bin/gpu_checks', 'held-stream', '--deadline', deadline, '--hold', hold, check=False)
    seconds = time.monotonic() - started
    context.figure(deadline_s=deadline, held_s=hold, process_ended_after_s=round(seconds, 1), exit_code=ended.code)
    if ended.code == 0:
        context.figure(**ended.json())
        return 'given up by exception'
    if 'out of time' in ended.why() or 'Timeout' in ended.why() or 'deadline' in ended.why():
        if seconds < hold:
            return f'given up by the end of the process: {ended.why()}'
    raise Failed(ended.why())


def two_ranks_mpi(context):
    one = training.reference(context)
    two = training.train(context, training.place(context, 'two-ranks'), training.device_of(context), ranks=2, compute__communicator='mpi',
                         **training.sharing(context))
    training.compare_losses(context, two, one, 'two ranks against one')
    if not context.gpu:
        return 'no GPU: on the CPU'
    return 'both on one GPU, staged through the host'


def carried_nccl(context):
    about = context.root / 'nccl' / 'about.json'
    return json.loads(about.read_text()) if about.exists() else None


def carried_path(context):
    return dict(LD_LIBRARY_PATH=f"{context.root / 'nccl'}:{context.machine.environment()['LD_LIBRARY_PATH']}")


def nccl_environment(context):
    """With the NCCL of the bundle, which lets several ranks have one GPU, where it has kernels for this card."""
    about = carried_nccl(context)
    if not about:
        raise Skipped('the bundle has no NCCL of 2.30 or newer, and older ones refuse two ranks on one GPU')
    if context.gpu['compute_capability'] not in about['architectures']:
        raise Skipped(f"the bundle's NCCL is cut to {about['architectures']}; this card is {context.gpu['compute_capability']}")
    context.figure(nccl=about['version'])
    return carried_path(context) | NCCL_ONE_GPU


def two_ranks_nccl(context):
    context.figure(**context.checks('ranks', '--backend', 'nccl', '--deadline', 20, ranks=2, **nccl_environment(context)))


def stopped_rank(context, backend, device, environment):
    """mpirun ends both ranks after one has left; that it does is not asked here."""
    deadline = 4
    running = context.start('mpirun', '-n', 2, 'bin/gpu_checks', 'stopped-rank', '--backend', backend, '--rank', 1,
                            '--deadline', deadline, '--device', device, environment=context.machine.environment(**environment))
    end = time.monotonic() + context.left_s() - 2
    while time.monotonic() < end:
        told = [line for line in running.output.lines if line.startswith('{')]
        if told:
            found = json.loads(told[-1])
            context.figure(**found)
            if found['given_up_after_s'] > deadline + 10:
                raise Failed(f"given up only after {found['given_up_after_s']:.1f} s")
            return found['message']
        if not running.is_running():
            raise Failed(running.wait(1).why())
        time.sleep(0.1)
    raise Failed(f'the other rank still waits after a deadline of {deadline} s')


def stopped_rank_mpi(context):
    return stopped_rank(context, 'mpi', training.device_of(context), {})


def stopped_rank_nccl(context):
    return stopped_rank(context, 'nccl', 'cuda', nccl_environment(context))


def wait_for(context, what, condition):
    started = time.monotonic()
    while context.left_s() > 3:
        found = condition()
        if found:
            return found, time.monotonic() - started
        time.sleep(0.1)
    raise Failed(f'{what}: not within the time of this item')


def frozen_run(context):
    """A coordinator, two ranks, one of them stopped (SIGSTOP): it is named, and the run goes on from a checkpoint."""
    run = training.place(context, 'frozen')
    command = ['bin/espalier', 'launch', training.CONFIG, '-n', 2, *training.settings(
        run, training.device_of(context), stage__codes__steps=100000, compute__communicator='mpi', log__every_steps=5,
        deadline__suspect_after=2, deadline__dead_after=3, deadline__kill_grace=2, deadline__backoff_base=0,
        **training.sharing(context))]
    launched = context.start(*command)

    def status():
        said = subprocess.run([context.root / 'bin' / 'espalier', 'status', '--json', run], capture_output=True, text=True,
                              cwd=context.root, env=context.machine.environment())
        return json.loads(said.stdout) if said.returncode == 0 and said.stdout.startswith('{') else {}

    def last_step():
        lines = (run / 'metrics.jsonl').read_text().splitlines() if (run / 'metrics.jsonl').exists() else []
        return json.loads(lines[-1])['global_step'] if lines else 0

    def running_or_failed(condition):
        if not launched.is_running():
            raise Failed(launched.wait(1).why())
        return condition()

    wait_for(context, 'a first checkpoint', lambda: running_or_failed(
        lambda: any((run / 'checkpoints').glob('step-*/manifest.json')) and last_step() >= 12))
    victim = next(rank['pid'] for rank in status()['ranks'] if rank['rank'] == 1)
    os.kill(victim, signal.SIGSTOP)
    before = last_step()
    words = f'rank 1 (pid {victim}) has been silent'
    _, named_after = wait_for(context, f'"{words}"', lambda: words in (run / 'events.jsonl').read_text())
    _, back_after = wait_for(context, 'steps of a second generation', lambda: running_or_failed(
        lambda: status().get('generation', 1) > 1 and last_step() > before + 12))
    context.figure(named_after_s=round(named_after, 1), trains_again_after_s=round(named_after + back_after, 1),
                   generation=status().get('generation'))
    context.run('bin/espalier', 'stop', run)
    ended = launched.wait(max(2, context.left_s() - 1))
    context.figure(exit_code=ended.code)
    if ended.code != 75:
        raise Failed(f'stopped with exit {ended.code}, not 75: {ended.why()}')
    return 'on the CPU' if not context.gpu else 'both ranks on one GPU'


ITEMS = [
    Item('libraries', 'Every library that the programs and Open MPI\'s plugins name is found.', 30, libraries, needs_gpu=False),
    Item('doctor', '`espalier doctor` runs, and sees the GPU where there is one.', 60, doctor, needs_gpu=False),
    Item('ceilings', 'What the card reaches at its best: a copy on the device, and a bf16 product of 8192 x 8192 matrices.', 45,
         ceilings),
    Item('nccl_one_rank', 'A world of one rank over NCCL does all that tests/comm asks of a communicator.', 45, nccl_one_rank),
    Item('module_tokenizer', 'CPU = CUDA: the image tokenizer, forward, every gradient, one update of its codebooks.', 45,
         module('tokenizer')),
    Item('module_decoder', 'CPU = CUDA: the Y-shaped decoder, both branches, forward and every gradient; bf16 forward.', 45,
         module('decoder')),
    Item('module_masked_autoencoder', 'CPU = CUDA: masked patches, mimic and reconstruct, forward and every gradient.', 45,
         module('masked_autoencoder')),
    Item('module_world_model', 'CPU = CUDA: the world model, dreams and actions, forward and every gradient; bf16 forward.', 45,
         module('world_model')),
    Item('losses', 'Twenty steps of each stage in fp32 have the same losses on the CPU and on the GPU.', 100, losses, needs_gpu=False),
    Item('memcheck', 'Two steps of each stage under compute-sanitizer\'s memcheck: no error.', 75, memcheck),
    Item('resume', 'Half of a run, then the rest from its checkpoint, ends with the bits of the whole run.', 60, resume,
         needs_gpu=False),
    Item('held_stream', 'A kernel holds the stream for 15 s; an operation with a deadline of 2 s is given up long before.', 40,
         held_stream),
    Item('two_ranks_mpi', 'Two ranks over MPI have the losses of one; on a GPU both share it.', 60, two_ranks_mpi, needs_gpu=False),
    Item('two_ranks_nccl', 'Two ranks of NCCL on one GPU do all that tests/comm asks.', 45, two_ranks_nccl),
    Item('stopped_rank_mpi', 'One of two ranks over MPI stops; the other is told within seconds.', 35, stopped_rank_mpi,
         needs_gpu=False),
    Item('stopped_rank_nccl', 'One of two ranks of NCCL on one GPU stops; the other is told within seconds.', 35, stopped_rank_nccl),
    Item('frozen_run', 'A stopped rank of a run is named, and the run goes on from its last checkpoint.', 60, frozen_run,
         needs_gpu=False),
    Item('mfu_tiny', 'The two programs that are compared train alike and count the same operations.', 60, mfu.tiny,
         needs_gpu=False),
    Item('mfu_0.3b', 'A decoder of 0.3 billion parameters: share of the peak, beside PyTorch.', 75, mfu.compare('0.3b')),
    Item('mfu_0.5b', 'The same at 0.5 billion, in the shape of Qwen2.5-0.5B.', 80, mfu.compare('0.5b')),
    Item('mfu_1.5b', 'The same at 1.5 billion, in the shape of Qwen2.5-1.5B.', 110, mfu.compare('1.5b')),
    Item('cuda_graph', 'Whether a whole step can be captured as a CUDA graph, and what that gains.', 50, mfu.graph),
]
