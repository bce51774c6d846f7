#!/usr/bin/env python3
"""The same training in Python PyTorch: DistributedDataParallel over gloo, the peer of step_bench.

    OMP_NUM_THREADS=1 python -m torch.distributed.run --nproc_per_node=2 tests/bench/peer.py BATCHES.safetensors \\
        --precision bf16 --warmup 10

BATCHES is what `step_bench --dump` wrote: the weights to start from and every rank's batches, so both sides train
the same model on the same data in the same order. The batches are in memory before the clock starts, padded and
gathered where this side wants them so: Espalier's times include its loading, the peer's do not.

CODES is what `step_bench --codes` wrote, a file per rank: which codes it chose in the steps before the clock. There this
side takes the same codes, so that losses can be compared; a code that is not nearly the nearest here is an error. The
steps of the clock choose for themselves, and so does the step before them: whatever torch.compile makes of that
way, it has made by then.

Prints one JSON line: the losses of every step, how many of them can be compared, what was found of the codes, and
samples per second after the warm-up steps.
"""
import argparse
import contextlib
import json
import os
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
    """Losses come from the model; codebooks move by statistics that one all-reduce adds up."""

    finds_unused = False

    def __init__(self, setup, tensors):
        super().__init__()
        self.model = ImageTokenizer(**setup["model"])
        self.quantizer = self.model.quantizer
        self.quantizer.decay, self.quantizer.dead_below = setup["codebook_decay"], setup["restart_below"]
        # By what the model calls them; an objective's name goes before that.
        self.index = {loss["name"].split("/")[-1]: i for i, loss in enumerate(setup["losses"])}
        self.statistics = None

    def prepare(self, parts):
        """Objectives that share a slot see the same images: one forward pass serves both."""
        return {name: tensor for _, tensors in parts for name, tensor in tensors.items()}

    def forward(self, candidate_rows, **inputs):
        losses, seen = self.model(**inputs)
        part = self.quantizer.statistics(*seen, candidate_rows)
        self.statistics = part if self.statistics is None else self.statistics + part
        return {self.index[name]: loss for name, loss in losses.items()}

    def after_optimizer(self):
        dist.all_reduce(self.statistics)
        self.quantizer.update(self.statistics)
        self.statistics = None


class YStep(nn.Module):
    """Each objective touches the trunk and its branch alone."""

    finds_unused = True

    def __init__(self, setup, tensors):
        super().__init__()
        self.model = YModel(**setup["model"])
        self.objectives = setup["objectives"]
        self.index = {loss["objective"]: i for i, loss in enumerate(setup["losses"])}
        self.codebooks = tensors["codebooks"]

    def prepare(self, parts):
        prepared = []
        for objective, tensors in parts:
            codes = tensors["codes"].long()
            sums = torch.stack([book[codes[..., s]] for s, book in enumerate(self.codebooks)]).cumsum(0)
            draws = self.objectives[objective]["kind"] == "draw"
            inputs = self.prepare_draw(tensors, codes, sums) if draws else self.prepare_read(tensors, sums)
            prepared.append((objective, inputs | dict(branch=self.objectives[objective]["branch"])))
        return dict(parts=prepared)

    def prepare_draw(self, tensors, codes, sums):
        """Packed text -> lists of conditions; codes -> sums of code vectors."""
        ids, positions, conditions = tensors["text_ids"].tolist(), codes.shape[1], []
        for length in tensors["lengths"].tolist():
            conditions.append(ids[:length - positions])
            ids = ids[length - positions:]
        return dict(conditions=conditions, code_sums=sums, codes=codes[..., :len(self.codebooks)])

    def prepare_read(self, tensors, sums):
        """Packed text and targets -> padded ones; codes -> the sum of their vectors."""
        positions = sums.shape[2]
        lengths, ids = tensors["lengths"].tolist(), tensors["text_ids"].tolist()
        counts = [length - positions - 2 for length in lengths]
        text = torch.zeros(len(lengths), max(counts), dtype=torch.long)
        targets = torch.full_like(text, PAD)
        rows, wanted = tensors["target_rows"].tolist(), tensors["targets"].tolist()
        first = 0
        for b, (count, length) in enumerate(zip(counts, lengths)):
            text[b, :count] = torch.tensor(ids[:count])
            ids = ids[count:]
            while rows and rows[0] < first + length:
                targets[b, rows.pop(0) - first - positions - 2] = wanted.pop(0)
            first += length
        return dict(code_sums=sums[-1], semantics=tensors["semantics"].float(), text_ids=text, targets=targets)

    def forward(self, parts):
        losses = {}
        for objective, inputs in parts:
            draws = "conditions" in inputs
            loss = self.model.draw_loss(**inputs)[0] if draws else self.model.read_loss(**inputs)
            losses[self.index[objective]] = loss
        return losses

    def after_optimizer(self):
        pass


STEPS = dict(residual_image_tokenizer=TokenizerStep, y_decoder=YStep)


def initial_weights(file, nudge):
    """By the names of the models of tests/parity: those of a checkpoint without model/NAME/, objective/MODEL/NAME/."""
    weights = {}
    for name in file.keys():
        if name.startswith("weights.") and not name.endswith("/teacher_mean"):
            weight = file.get_tensor(name)
            # 3x3 convolutions are kept (O, 3, 3, C) there and (O, C, 3, 3) here.
            is_convolution = weight.dim() == 4 and weight.shape[1:3] == (3, 3)
            weights[name.split("/")[-1]] = weight.permute(0, 3, 1, 2) if is_convolution else weight
    if nudge:
        noise = torch.Generator().manual_seed(0)
        weights = {n: w * (1 + nudge * torch.randn(w.shape, generator=noise)) if w.is_floating_point() else w
                   for n, w in sorted(weights.items())}
    return weights


def load(path, rank, world, steps, nudge):
    """The module with its weights, and per step this rank's slots; a step's slots belong to ranks in equal runs."""
    with safe_open(path, "pt") as file:
        setup = json.loads(file.metadata()["setup"])
        names = list(file.keys())
        shared = {n: file.get_tensor(n) for n in names if "." not in n}
        module = STEPS[setup["model_kind"]](setup, shared)
        module.model.load_state_dict(initial_weights(file, nudge))
        parts = {}
        for name in names:
            if name.startswith("batch."):
                _, step, slot, objective, kind = name.split(".")
                parts.setdefault((int(step), int(slot), int(objective)), {})[kind] = name
        data = []
        for step, slots in enumerate(setup["slots"][:steps]):
            per_rank = len(slots) // world
            data.append([])
            for slot in range(rank * per_rank, (rank + 1) * per_rank):
                tensors = [(o, {k: file.get_tensor(n) for k, n in parts[step, slot, o].items()})
                           for o in slots[slot]["objectives"]]
                data[-1].append(module.prepare(tensors))
    return setup, module, data


def add_codes(path, rank, data, steps):
    """Puts the codes that the other side chose into the slots of the first steps. Returns how many codes there are."""
    count = 0
    with safe_open(f"{path}.{rank}", "pt") as file:
        names = iter(sorted(file.keys()))
        for slots in data[:steps] if file.keys() else []:
            for slot in slots:
                slot["codes"] = file.get_tensor(next(names)).long()
                count += slot["codes"].numel()
    return count


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
    names = [loss["name"] for loss in setup["losses"]]
    logged, started, cpu_before = [], None, None
    for step, slots in enumerate(data):
        if step == options.warmup:
            dist.barrier()
            started, cpu_before = time.perf_counter(), cpu_seconds()
        for group in optimizer.param_groups:
            group["lr"] = setup["learning_rates"][step]
        counts = [sum(slot["counts"][k] for slot in setup["slots"][step]) for k in range(len(names))]
        weights = [loss["weight"] * share for loss, share in zip(setup["losses"], setup["shares"][step])]
        optimizer.zero_grad()
        sums = torch.zeros(len(names))
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
        losses.append({n: means[k] / counts[k] for k, n in enumerate(names) if counts[k] > 0})
    return dict(samples_per_s=steps * setup["batch_size"] / seconds, step_s=seconds / steps,
                cpu_s_per_step=summed([cpu])[0] / steps, losses=losses)


def compare_codes(quantizer, given, allowed):
    """How many of the other side's codes are not the nearest here, over all ranks; an error when one is no near-tie."""
    count, differing = (int(total) for total in summed([given, quantizer.differing]))
    largest = torch.tensor(quantizer.largest_excess)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    if not largest.item() <= allowed:
        sys.exit(f"of {count} codes chosen by the other side {differing} are not the nearest here, and one is farther by "
                 f"{largest.item():.1e} of the squares of what is compared: no near-tie, which is {allowed:.0e}")
    return dict(count=count, differing=differing, largest_excess=largest.item())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("batches")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--warmup", type=int, default=10, help="steps before the clock")
    parser.add_argument("--steps", type=int, help="steps that are timed (default: all that BATCHES has left)")
    parser.add_argument("--nudge", type=float, default=0.0,
                        help="scale every weight by 1 + NUDGE * noise first: how much does a rounding error grow?")
    parser.add_argument("--codes", help="what step_bench --codes wrote, without the rank behind it")
    parser.add_argument("--near-tie", type=float, default=1e-3,
                        help="how much farther than the nearest code one of CODES may be; see quantize()")
    parser.add_argument("--compile", action="store_true", help="torch.compile the model")
    options = parser.parse_args()
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    steps = None if options.steps is None else options.warmup + options.steps
    setup, module, data = load(options.batches, rank, world, steps, options.nudge)
    given = add_codes(options.codes, rank, data, options.warmup - 1) if options.codes else 0
    result = train(module, setup, data, options)
    result["comparable_steps"] = options.warmup - 1 if given else options.warmup
    if given:
        result["codes"] = compare_codes(module.quantizer, given, options.near_tie)
    if rank == 0:
        print(json.dumps(result), flush=True)
    dist.barrier()
    # All is said. The end of the interpreter has aborted here over a thread that was still running.
    os._exit(0)


if __name__ == "__main__":
    main()
