"""Runs of tests/gpu/small.toml, and what they leave."""

import array
import json
import struct

from .item import Failed

CONFIG = 'tests/gpu/small.toml'
# Of the bundle; tests/gpu/bundle cuts them out of the quickstart's. The few are for evaluations, which cost more than steps.
IMAGES, FEW_IMAGES = 'data/emoji/emoji-32-48.tar', 'data/emoji/emoji-32-8.tar'
STEPS = 40
# More are no use to so small a model, and threads that wait for each other are slow where others work too.
THREADS = 1
# A loss that two devices computed, relatively, in any of the steps. Losses behind the choice of codes move more: near-ties
# fall either way and training goes on from there.
TOLERANCE = 1e-3
BEHIND_CODES = ('pixel', 'commitment', 'semantic')
TOLERANCE_BEHIND_CODES = 2e-2


def settings(directory, device, **more):
    """Words of --set. Runs beside each other share what a teacher saw; a device's own, for it may see it a bit differently."""
    all_settings = {'run.directory': directory, 'compute.device': device, 'compute.threads_per_rank': THREADS,
                    'teacher.lite0.cache': directory.parent / f'teacher-{device}'}
    all_settings |= {'data.emoji.train': IMAGES, 'data.emoji.validation': FEW_IMAGES, 'data.emoji.test': FEW_IMAGES}
    all_settings |= {name.replace('__', '.'): value for name, value in more.items()}
    words = []
    for name, value in all_settings.items():
        words += ['--set', f'{name}={value}']
    return words


def device_of(context):
    return 'cuda' if context.gpu else 'cpu'


def has_setting(context, name):
    return context.run('bin/espalier', 'config', 'explain', name, check=False).code == 0


def sharing(context):
    """What two ranks on one GPU are told, if this build has to be told."""
    return {'compute__share_gpu': 'true'} if context.gpu and has_setting(context, 'compute.share_gpu') else {}


def place(context, name):
    return context.shared / 'runs' / name


def train(context, directory, device, ranks=1, resume=None, **more):
    """A whole run in `directory`, with TF32 off, which a CPU has not."""
    launcher = ['mpirun', '-n', ranks] if ranks > 1 else []
    resumed = ['--resume', resume] if resume else []
    context.run(*launcher, 'bin/espalier', 'train', CONFIG, *resumed, *settings(directory, device, **more),
                environment=context.machine.environment(NVIDIA_TF32_OVERRIDE='0'))
    return directory


def reference(context):
    """The run that others are compared with, on the GPU where there is one; made once."""
    directory = place(context, f'reference-{device_of(context)}')
    if not (directory / 'checkpoints' / f'step-{STEPS:010d}' / 'manifest.json').exists():
        train(context, directory, device_of(context))
    return directory


def losses(directory):
    """By step and name."""
    found = {}
    for line in (directory / 'metrics.jsonl').read_text().splitlines():
        entry = json.loads(line)
        for name, value in entry['losses'].items():
            found[(entry['global_step'], f"{entry['stage']}/{name}")] = value
    return found


def compare_losses(context, got, expected, what):
    ours, theirs = losses(got), losses(expected)
    if ours.keys() != theirs.keys() or not ours:
        raise Failed(f'{what}: {len(ours)} losses against {len(theirs)}, not the same steps and names')
    worst = (0.0, None)
    for key, value in theirs.items():
        difference = abs(ours[key] - value) / max(abs(value), 1e-12)
        if not difference <= worst[0]:
            worst = (difference, key)
        allowed = TOLERANCE_BEHIND_CODES if key[1].rpartition('/')[2] in BEHIND_CODES else TOLERANCE
        if not difference <= allowed:
            raise Failed(f'{what}: step {key[0]}, {key[1]} is {ours[key]:.6g} against {value:.6g}, {difference:.1e} apart; '
                         f'{allowed:.0e} is allowed')
    context.figure(**{f'{what}: losses differ by': worst[0], f'{what}: losses compared': len(theirs)})


def tensors(path):
    """Name -> (type, bytes) of a safetensors file."""
    data = path.read_bytes()
    (length,) = struct.unpack_from('<Q', data)
    header = json.loads(data[8:8 + length])
    header.pop('__metadata__', None)
    return {name: (entry['dtype'], data[8 + length + entry['data_offsets'][0]:8 + length + entry['data_offsets'][1]])
            for name, entry in header.items()}


def largest_difference(one, other):
    """(tensors, those that differ in any bit, largest absolute difference, its name) of two runs' last checkpoints."""
    count, differing, worst = 0, 0, (0.0, None)
    folders = [run / 'checkpoints' / f'step-{STEPS:010d}' for run in (one, other)]
    names = [sorted(path.name for path in folder.glob('*.safetensors')) for folder in folders]
    if names[0] != names[1] or not names[0]:
        raise Failed(f'checkpoints with other files: {names[0]} against {names[1]}')
    for name in names[0]:
        first, second = tensors(folders[0] / name), tensors(folders[1] / name)
        if first.keys() != second.keys():
            raise Failed(f'{name}: other tensors in one checkpoint than in the other')
        count += len(first)
        for tensor, (kind, mine) in first.items():
            theirs = second[tensor][1]
            if mine == theirs:
                continue
            differing += 1
            difference = float('inf')
            if kind == 'F32' and len(mine) == len(theirs):
                difference = max(abs(x - y) for x, y in zip(array.array('f', mine), array.array('f', theirs)))
            if worst[1] is None or not difference <= worst[0]:
                worst = (difference, tensor)
    return count, differing, worst[0], worst[1]
