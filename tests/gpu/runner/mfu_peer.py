"""The step of tests/gpu/mfu_bench in PyTorch as people write it: modules, autocast, scaled_dot_product_attention, fused AdamW.

    mfu_peer.py --size 0.5b
    mfu_peer.py --size tiny --device cpu --precision fp32 --weights FILE     from the weights that mfu_bench wrote

Counts floating-point operations by its own formula and, for sizes that are run on a CPU, by PyTorch's counter too.
Prints one line of JSON.
"""

import argparse
import json
import struct
import time

import torch
from torch import nn
from torch.nn import functional as F

EPSILON = 1e-6
ROTARY_BASE = 10000.0


class RmsNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return F.rms_norm(x, x.shape[-1:], self.weight, EPSILON)


def rotate(x, cosines, sines):
    first, second = x.chunk(2, -1)
    return torch.cat((first * cosines - second * sines, second * cosines + first * sines), -1)


class Block(nn.Module):
    def __init__(self, size):
        super().__init__()
        width, self.heads, self.kv_heads = size['width'], size['heads'], size['kv_heads']
        self.head_dim = width // self.heads
        self.attention_norm = RmsNorm(width)
        self.query_key_value = nn.Linear(width, (self.heads + 2 * self.kv_heads) * self.head_dim, bias=False)
        self.attention_out = nn.Linear(width, width, bias=False)
        self.feed_forward_norm = RmsNorm(width)
        self.gate_up = nn.Linear(width, 2 * size['feed_forward'], bias=False)
        self.down = nn.Linear(size['feed_forward'], width, bias=False)

    def forward(self, x, cosines, sines):
        batch, length, width = x.shape
        qkv = self.query_key_value(self.attention_norm(x)).view(batch, length, -1, self.head_dim).transpose(1, 2)
        q, k, v = qkv.split((self.heads, self.kv_heads, self.kv_heads), dim=1)
        cosines, sines = cosines.to(q.dtype), sines.to(q.dtype)
        q, k = rotate(q, cosines, sines), rotate(k, cosines, sines)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=self.heads != self.kv_heads)
        x = x + self.attention_out(attended.transpose(1, 2).reshape(batch, length, width))
        gate, up = self.gate_up(self.feed_forward_norm(x)).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


class Decoder(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.text_embedding = nn.Embedding(size['vocabulary'], size['width'])
        self.image_marks = nn.Parameter(torch.zeros(2, size['width']))  # the other side's model has them; nothing else is done with them
        self.blocks = nn.ModuleList(Block(size) for _ in range(size['layers']))
        self.norm = RmsNorm(size['width'])
        self.text_head = nn.Linear(size['width'], size['vocabulary'], bias=False)
        half = size['width'] // size['heads'] // 2
        angles = torch.outer(torch.arange(size['length'], dtype=torch.float64), ROTARY_BASE ** -(torch.arange(half, dtype=torch.float64) / half))
        self.register_buffer('cosines', angles.cos().float())
        self.register_buffer('sines', angles.sin().float())

    def forward(self, tokens):
        x = self.text_embedding(tokens)
        for block in self.blocks:
            x = block(x, self.cosines, self.sines)
        return self.text_head(self.norm(x))


def made_up_tokens(count, vocabulary):
    i = torch.arange(count)
    return (i * 7919 + (i * i) % 104729) % vocabulary


def read_weights(path):
    data = bytearray(open(path, 'rb').read())
    (length,) = struct.unpack_from('<Q', data)
    header = json.loads(data[8:8 + length])
    header.pop('__metadata__', None)
    return {name: torch.frombuffer(data, dtype=torch.float32, offset=8 + length + entry['data_offsets'][0],
                                   count=(entry['data_offsets'][1] - entry['data_offsets'][0]) // 4).view(entry['shape'])
            for name, entry in header.items()}


def load(model, path, layers):
    """The other side has half of the layers in a trunk and the rest in a branch."""
    weights = read_weights(path)
    trunk = layers // 2
    own = {}
    for name in model.state_dict():
        if name.startswith('blocks.'):
            _, index, rest = name.split('.', 2)
            index = int(index)
            own[name] = f'trunk.{index}.{rest}' if index < trunk else f'branch.text.layers.{index - trunk}.{rest}'
        elif name.startswith(('norm.', 'text_head.')):
            own[name] = f'branch.text.{name}'
        elif name not in ('cosines', 'sines'):
            own[name] = name
    model.load_state_dict({name: weights[theirs] for name, theirs in own.items()}, strict=False)


def count_flops(size, model):
    """(weights that are factors of products, operations of a step): see DecoderStep::flops()."""
    multiplied = sum(module.weight.numel() for module in model.modules() if isinstance(module, nn.Linear))
    tokens = size['length'] * size['sequences']
    scores_and_sums = 2 * 2 * size['length'] ** 2 * size['width'] // 2 * size['sequences'] * size['layers']
    return multiplied, float(2 * multiplied * tokens + scores_and_sums) * 3


def counted_by_pytorch(step):
    """With attention as two products of matrices each way, whose masked half is computed, and counted, as well."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        step()
    return counter.get_total_flops()


def attention_kernel(step):
    """Names of the kernels of attention in one step, as the profiler sees them."""
    from torch.profiler import ProfilerActivity, profile
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        step()
    names = {event.key for event in seen.key_averages() if 'attention' in event.key or 'fmha' in event.key.lower()}
    return ' '.join(sorted(name[:60] for name in names if name.startswith('aten::_')) or sorted(names)[:4])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--sizes', default='tests/gpu/decoder_sizes.json')
    parser.add_argument('--size', required=True)
    parser.add_argument('--sequences', type=int, default=0)
    parser.add_argument('--device', default='cuda', choices=('cuda', 'cpu'))
    parser.add_argument('--precision', default='bf16', choices=('bf16', 'fp32'))
    parser.add_argument('--warmup', type=int, default=3)
    parser.add_argument('--steps', type=int, default=5)
    parser.add_argument('--windows', type=int, default=3)
    parser.add_argument('--weights')
    options = parser.parse_args()
    size = json.load(open(options.sizes))[options.size]
    size['sequences'] = options.sequences or size['sequences']
    tokens = size['length'] * size['sequences']

    torch.manual_seed(1)
    with torch.device(options.device):
        model = Decoder(size)
        nn.init.normal_(model.text_embedding.weight, std=0.02)
    if options.weights:
        load(model, options.weights, size['layers'])
    ids = made_up_tokens(tokens, size['vocabulary']).to(options.device)
    inputs, targets = ids.view(size['sequences'], size['length']), ids.roll(-1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1, eps=1e-8, fused=True)

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(options.device, torch.bfloat16, enabled=options.precision == 'bf16'):
            logits = model(inputs)
            loss = F.cross_entropy(logits.flatten(0, 1).float(), targets)
            # So that every parameter of the other side's optimizer is one of this side's.
            loss = loss + 0.0 * model.image_marks.sum()
        loss.backward()
        optimizer.step()
        return loss.detach()

    def finish():
        if options.device == 'cuda':
            torch.cuda.synchronize()

    multiplied, flops = count_flops(size, model)
    found = dict(side='pytorch', size=options.size, tokens=tokens, parameters=sum(p.numel() for p in model.parameters()),
                 multiplied_parameters=multiplied, flops_per_step=flops)
    found['losses'] = [step().item() for _ in range(options.warmup)]
    windows = []
    for _ in range(options.windows):
        finish()
        start = time.perf_counter()
        for _ in range(options.steps):
            step()
        finish()
        windows.append((time.perf_counter() - start) / options.steps * 1e3)
    windows.sort()
    found |= dict(ms_per_step=windows[len(windows) // 2], ms_per_step_least=windows[0], ms_per_step_most=windows[-1])
    if options.device == 'cpu':
        found |= dict(flops_counted=counted_by_pytorch(step), attention='')
    else:
        try:
            found['attention'] = attention_kernel(step)
        except Exception as error:  # a profiler that does not work here must not cost the rates
            found['attention'] = f'not known: {error}'
    print(json.dumps(found))


if __name__ == '__main__':
    main()
