#!/usr/bin/env python3
"""Stage 1 in Python PyTorch: DistributedDataParallel over gloo, the peer of tests/bench.

    python -m torch.distributed.run --nproc_per_node=2 tests/bench/tokenizer_peer.py BATCHES.safetensors \\
        --precision bf16 --warmup 5 --lr 2e-3 ...

The file holds the weights to start from and every rank's batches, made by dump_tokenizer_batches, so both sides
train the same model on the same data in the same order. Batches are in memory before the clock starts.
Prints one JSON line: the mean losses of every step and samples per second after the warm-up steps.
"""
import argparse
import json
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors import safe_open
from torch.nn.parallel import DistributedDataParallel

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "parity"))
from image_tokenizer import ImageTokenizer, target_counts  # noqa: E402

arguments = argparse.ArgumentParser()
arguments.add_argument("batches")
arguments.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
arguments.add_argument("--warmup", type=int, default=5)
options = arguments.parse_args()

torch.set_num_threads(1)
dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
with safe_open(options.batches, "pt") as file:
    setup = json.loads(file.metadata()["setup"])
    weights = {k[8:]: file.get_tensor(k) for k in file.keys() if k.startswith("weights.")}
    data = []  # per step this rank's slots; slots of a step belong to ranks in equal runs
    per_rank = setup["slots"] // world
    for step in range(setup["steps"]):
        slots = range(rank * per_rank, (rank + 1) * per_rank)
        data.append([{n: file.get_tensor(f"batch.{step:04d}.{slot:04d}.{n}") for n in
                      ("images", "pixel_depth", "semantic_depth", "visible", "teacher", "candidate_rows")}
                     for slot in slots])

# Convolution weights are kept (O, 3, 3, C) there and (O, C, 3, 3) here.
weights = {k: v.permute(0, 3, 1, 2) if v.dim() == 4 else v for k, v in weights.items()}
model = ImageTokenizer(**setup["model"])
model.load_state_dict(weights)
model.quantizer.decay, model.quantizer.dead_below = setup["codebook_decay"], setup["restart_below"]
model = model.to(memory_format=torch.channels_last)
quantizer = model.quantizer
# Codebooks are kept equal by reducing their statistics, not by broadcasting buffers.
ddp = DistributedDataParallel(model, broadcast_buffers=False, gradient_as_bucket_view=True)
# No decay for what has one dimension, as in the C++ optimizer.
groups = [dict(params=[p for p in model.parameters() if p.dim() > 1], weight_decay=setup["weight_decay"]),
          dict(params=[p for p in model.parameters() if p.dim() <= 1], weight_decay=0.0)]
optimizer = torch.optim.AdamW(groups, lr=1.0, betas=setup["betas"], eps=setup["epsilon"], fused=True)
names = list(setup["loss_weights"])
curve, started = [], None
for step, slots in enumerate(data):
    if step == options.warmup:
        dist.barrier()
        started = time.perf_counter()
    for group in optimizer.param_groups:
        group["lr"] = setup["learning_rates"][step]
    optimizer.zero_grad(set_to_none=False)
    sums, statistics = torch.zeros(len(names)), None
    for i, slot in enumerate(slots):
        rows = slot.pop("candidate_rows")
        counts = target_counts(slot["images"], slot["visible"], *quantizer.codebooks.shape[::2])
        is_last = i + 1 == len(slots)
        ddp.require_backward_grad_sync = is_last
        with torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bf16"):
            losses, seen = ddp(**slot)
            # DDP divides the sum of gradients by the world; all slots have equally many targets.
            total = sum(setup["loss_weights"][n] / (counts[n] * len(slots)) * losses[n] for n in names)
        total.backward()
        sums += torch.stack([losses[n].detach() / (counts[n] * setup["slots"]) for n in names])
        part = quantizer.statistics(*seen, rows)
        statistics = part if statistics is None else statistics + part
    torch.nn.utils.clip_grad_norm_(model.parameters(), setup["clip_norm"])
    optimizer.step()
    dist.all_reduce(statistics)
    quantizer.update(statistics)
    dist.all_reduce(sums)
    curve.append(dict(zip(names, sums.tolist())))
elapsed = time.perf_counter() - started
if rank == 0:
    steps = len(data) - options.warmup
    print(json.dumps(dict(samples_per_s=steps * setup["batch_size"] / elapsed, losses=curve)))
dist.destroy_process_group()
