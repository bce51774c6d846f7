"""Model FLOP utilization beside PyTorch's: the two take turns, each in a fresh process, in the order A B B A."""

import os
import statistics
import sys

from .item import Failed

SIZES = 'tests/gpu/decoder_sizes.json'
ROOM_GIB = 100  # the sizes' batches are for cards with more memory than this; others get half of the sequences
LOSS_TOLERANCE = 1e-4


def bench(context, *arguments):
    return context.run('bin/mfu_bench', '--sizes', SIZES, *arguments).json()


def peer(context, *arguments):
    # With the environment it came with: its own libraries, not the bundle's.
    ended = context.run(sys.executable, 'tests/gpu/runner/mfu_peer.py', '--sizes', SIZES, *arguments, environment=dict(os.environ))
    return ended.json()


def same_work(ours, theirs):
    for key in ('tokens', 'parameters', 'multiplied_parameters', 'flops_per_step'):
        if ours[key] != theirs[key]:
            raise Failed(f'{key}: {ours[key]} here, {theirs[key]} there: the two do not do the same work')


def tiny(context):
    weights = context.work / 'weights.safetensors'
    arguments = ('--size', 'tiny', '--device', 'cpu', '--precision', 'fp32')
    ours = bench(context, *arguments, '--write-weights', weights)
    theirs = peer(context, *arguments, '--weights', weights)
    same_work(ours, theirs)
    apart = max(abs(a - b) / abs(b) for a, b in zip(ours['losses'], theirs['losses']))
    context.figure(losses=ours['losses'], losses_differ_by=apart, flops_per_step=ours['flops_per_step'],
                   flops_counted_by_pytorch=theirs['flops_counted'])
    # PyTorch's counter sees all scores of attention, of which a causal mask leaves half.
    products = 6.0 * ours['multiplied_parameters'] * ours['tokens']
    whole = products + 2 * (ours['flops_per_step'] - products)
    if theirs['flops_counted'] != whole:
        raise Failed(f"PyTorch counts {theirs['flops_counted']} operations where attention without its mask would make {whole:.0f}")
    if not apart <= LOSS_TOLERANCE:
        raise Failed(f"losses {ours['losses']} here, {theirs['losses']} there")


def summary(rows, peak):
    """The median over the rounds of one side."""
    ms = statistics.median(row['ms_per_step'] for row in rows)
    rate = rows[0]['flops_per_step'] / ms / 1e9  # TFLOP/s
    return dict(ms_per_step=round(ms, 2), least=round(min(row['ms_per_step_least'] for row in rows), 2),
                most=round(max(row['ms_per_step_most'] for row in rows), 2), tokens_per_s=round(rows[0]['tokens'] / ms * 1e3),
                TFLOP_per_s=round(rate, 1), mfu=round(rate / peak, 4) if peak else 'unknown: no peak is known for this card',
                attention=rows[0]['attention'], rounds=len(rows))


def compare(size):
    def body(context):
        few = () if context.gpu['memory_gib'] > ROOM_GIB else ('--sequences', 4 if size == '1.5b' else 8)
        sides = dict(espalier=bench, pytorch=peer)
        rows = dict(espalier=[], pytorch=[])
        slowest, broken = 0.0, {}  # a side that breaks does not keep the other from being measured
        for name in ('espalier', 'pytorch', 'pytorch', 'espalier'):
            before = context.left_s()
            if name in broken or (rows['pytorch'] and before < 1.3 * slowest + 3):
                continue
            try:
                rows[name].append(sides[name](context, '--size', size, *few))
            except Failed as failure:
                broken[name] = str(failure)
                continue
            slowest = max(slowest, before - context.left_s())
            context.figure(**{name: summary(rows[name], context.machine.peak_tflops)})
        if broken:
            raise Failed('; '.join(f'{name}: {why}' for name, why in broken.items()))
        same_work(rows['espalier'][0], rows['pytorch'][0])
        medians = {name: statistics.median(row['ms_per_step'] for row in of) for name, of in rows.items()}
        context.figure(multiplied_parameters=rows['espalier'][0]['multiplied_parameters'],
                       pytorch_time_over_espalier_time=round(medians['pytorch'] / medians['espalier'], 3))
    return body


def graph(context):
    found = bench(context, '--size', '0.3b', '--sequences', 2, '--graph')
    context.figure(**{key: value for key, value in found.items() if key not in ('side',)})
    if not found['captures']:
        raise Failed(f"a step cannot be captured: {found['why_not']}")
    if not found['losses_differ_by'] <= 1e-2:
        raise Failed(f"the graph's losses are {found['losses_differ_by']:.1e} from those of plain steps")
    return f"{found['speedup']:.2f} times as fast as plain steps"
