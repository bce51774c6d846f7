#!/usr/bin/env python3
"""The same training in Python PyTorch: DistributedDataParallel over gloo, the peer of step_bench.

    OMP_NUM_THREADS=1 python -m torch.distributed.run --nproc_per_node=2 tests/bench/peer.py BATCHES.safetensors \\
        --precision bf16 --warmup 10

BATCHES is what `step_bench --dump` wrote: the weights to start from and every rank's batches, so both sides train
the same model on the same data in the same order. The batches are in memory before the clock starts, padded and
gathered where this side wants them so: Espalier's times include its loading, the peer's do not.
Prints one JSON line: the losses of every step, and samples per second after the warm-up steps.
"""
import argparse
import contextlib
import json
import resource
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors import safe_open
from torch import nn
from torch.nn.parallel import DistributedDataParallel

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "parity"))
from image_tokenizer import ImageTokenizer  # noqa: E402
from y_model import PAD, YModel  # noqa: E402


class TokenizerStep(nn.Module):
    """Stage 1. Losses come from the model; codebooks move by statistics that one all-reduce adds up."""

    finds_unused = False

    def __init__(self, setup, tensors):
        super().__init__()
        self.model = ImageTokenizer(**setup["model"])
        self.quantizer = self.model.quantizer
        self.quantizer.decay, self.quantizer.dead_below = setup["codebook_decay"], setup["restart_below"]
        self.names = setup["loss_names"]
        self.statistics = None

    def prepare(self, task, tensors):
        return tensors

    def forward(self, images, pixel_depth, semantic_depth, visible, teacher, candidate_rows):
        losses, seen = self.model(images, pixel_depth, semantic_depth, visible, teacher)
        part = self.quantizer.statistics(*seen, candidate_rows)
        self.statistics = part if self.statistics is None else self.statistics + part
        return {i: losses[name] for i, name in enumerate(self.names)}

    def after_optimizer(self):
        dist.all_reduce(self.statistics)
        self.quantizer.update(self.statistics)
        self.statistics = None


class UnifiedStep(nn.Module):
    """Stage 2. A micro-batch has one task, and touches the branch of that task alone."""

    finds_unused = True

    def __init__(self, setup, tensors):
        super().__init__()
        self.model = YModel(**setup["model"])
        self.names = setup["loss_names"]
        self.codebooks = tensors["codebooks"]

    def prepare(self, task, tensors):
        """Packed text -> padded text or lists of conditions; codes -> sums of code vectors."""
        codes = tensors["codes"].long()
        sums = torch.stack([book[codes[..., s]] for s, book in enumerate(self.codebooks)]).cumsum(0)
        lengths, ids = tensors["lengths"].tolist(), tensors["text_ids"].tolist()
        batch, positions = codes.shape[:2]
        index = self.names.index(task)
        if task == "draw":
            conditions = []
            for length in lengths:
                conditions.append(ids[:length - positions])
                ids = ids[length - positions:]
            return dict(index=index, conditions=conditions, code_sums=sums, codes=codes[..., :len(self.codebooks)])
        counts = [length - positions - 2 for length in lengths]
        text = torch.zeros(batch, max(counts), dtype=torch.long)
        targets = torch.full_like(text, PAD)
        rows, wanted = tensors["target_rows"].tolist(), tensors["targets"].tolist()
        first = 0
        for b, (count, length) in enumerate(zip(counts, lengths)):
            text[b, :count] = torch.tensor(ids[:count])
            ids = ids[count:]
            while rows and rows[0] < first + length:
                targets[b, rows.pop(0) - first - positions - 2] = wanted.pop(0)
            first += length
        return dict(index=index, code_sums=sums[-1], semantics=tensors["semantics"].float(), text_ids=text,
                    targets=targets)

    def forward(self, index, code_sums, conditions=None, codes=None, semantics=None, text_ids=None, targets=None):
        if conditions is not None:
            return {index: self.model.draw_loss(conditions, code_sums, codes)[0]}
        return {index: self.model.read_loss(code_sums, semantics, text_ids, targets)}

    def after_optimizer(self):
        pass


def load(path, rank, world, steps, nudge):
    """The module with its weights, and per step this rank's slots; a step's slots belong to ranks in equal runs."""
    with safe_open(path, "pt") as file:
        setup = json.loads(file.metadata()["setup"])
        names = list(file.keys())
        weights = {n[8:]: file.get_tensor(n) for n in names if n.startswith("weights.")}
        shared = {n: file.get_tensor(n) for n in names if "." not in n}
        module = (TokenizerStep if setup["kind"] == "tokenizer" else UnifiedStep)(setup, shared)
        weights.pop("teacher_mean", None)
        # 3x3 convolutions are kept (O, 3, 3, C) there and (O, C, 3, 3) here.
        weights = {n: w.permute(0, 3, 1, 2) if w.dim() == 4 and w.shape[1:3] == (3, 3) else w for n, w in weights.items()}
        if nudge:
            noise = torch.Generator().manual_seed(0)
            weights = {n: w * (1 + nudge * torch.randn(w.shape, generator=noise)) if w.is_floating_point() else w
                       for n, w in sorted(weights.items())}
        module.model.load_state_dict(weights)
        by_slot = {}
        for name in names:
            if name.startswith("batch."):
                _, step, slot, kind = name.split(".")
                by_slot.setdefault((int(step), int(slot)), []).append((kind, name))
        data = []
        for step, slots in enumerate(setup["slots"][:steps]):
            per_rank = len(slots) // world
            mine = range(rank * per_rank, (rank + 1) * per_rank)
            data.append([module.prepare(slots[slot]["task"], {k: file.get_tensor(n) for k, n in by_slot[step, slot]})
                         for slot in mine])
    return setup, module, data


def make_optimizer(module, setup):
    # No decay for what has one dimension, as in the C++ optimizer.
    parameters = list(module.parameters())
    groups = [dict(params=[p for p in parameters if p.dim() > 1], weight_decay=setup["weight_decay"]),
              dict(params=[p for p in parameters if p.dim() <= 1], weight_decay=0.0)]
    return torch.optim.AdamW(groups, lr=1.0, betas=setup["betas"], eps=setup["epsilon"], fused=True)


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def summed(values):
    tensor = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(tensor)
    return tensor.tolist()


def train(module, setup, data, options):
    world = dist.get_world_size()
    module = module.to(memory_format=torch.channels_last)
    # Codebooks are kept equal by reducing their statistics, not by broadcasting buffers.
    wrapped = torch.compile(module) if options.compile else module
    ddp = DistributedDataParallel(wrapped, broadcast_buffers=False, gradient_as_bucket_view=True,
                                  find_unused_parameters=module.finds_unused)
    optimizer = make_optimizer(module, setup)
    weights = setup["loss_weights"]
    logged, started, cpu_before = [], None, None
    for step, slots in enumerate(data):
        if step == options.warmup:
            dist.barrier()
            started, cpu_before = time.perf_counter(), cpu_seconds()
        for group in optimizer.param_groups:
            group["lr"] = setup["learning_rates"][step]
        counts = [sum(slot["counts"][i] for slot in setup["slots"][step]) for i in range(len(weights))]
        optimizer.zero_grad()
        sums = torch.zeros(len(weights))
        for i, slot in enumerate(slots):
            with contextlib.nullcontext() if i + 1 == len(slots) else ddp.no_sync():
                with torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bf16"):
                    losses = ddp(**slot)
                    # DDP divides the sum of gradients by the number of ranks.
                    total = sum(weights[k] * world / counts[k] * loss for k, loss in losses.items())
                total.backward()
            for k, loss in losses.items():
                sums[k] += loss.detach()
        torch.nn.utils.clip_grad_norm_(module.parameters(), setup["clip_norm"])
        optimizer.step()
        module.after_optimizer()
        logged.append((sums, counts))
    dist.barrier()
    seconds, cpu = time.perf_counter() - started, cpu_seconds() - cpu_before
    steps = len(data) - options.warmup
    losses = []
    for sums, counts in logged:
        means = summed(sums.tolist())
        losses.append({n: means[k] / counts[k] for k, n in enumerate(setup["loss_names"]) if counts[k] > 0})
    return dict(samples_per_s=steps * setup["batch_size"] / seconds, step_s=seconds / steps,
                cpu_s_per_step=summed([cpu])[0] / steps, losses=losses)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("batches")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--warmup", type=int, default=10, help="steps before the clock")
    parser.add_argument("--steps", type=int, help="steps that are timed (default: all that BATCHES has left)")
    parser.add_argument("--nudge", type=float, default=0.0,
                        help="scale every weight by 1 + NUDGE * noise first: how much does a rounding error grow?")
    parser.add_argument("--compile", action="store_true", help="torch.compile the model")
    options = parser.parse_args()
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    steps = None if options.steps is None else options.warmup + options.steps
    setup, module, data = load(options.batches, dist.get_rank(), dist.get_world_size(), steps, options.nudge)
    result = train(module, setup, data, options)
    if dist.get_rank() == 0:
        print(json.dumps(result), flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
