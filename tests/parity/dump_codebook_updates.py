#!/usr/bin/env python3
"""Writes tests/parity/golden/codebook_updates.safetensors with the public vector-quantize-pytorch 1.32.0.

    pip install torch==2.11.0 numpy safetensors vector-quantize-pytorch==1.32.0

What its codebook becomes over some steps of training, without restarts of dead codes and with thresholds of
one and of four vectors per step. Its random choice of a restarted code's vector is replaced by the candidates
kept here; everything else is the package's. A restarted code counts as the threshold, which is its default.
"""
from pathlib import Path

import torch
from safetensors.torch import save_file
from vector_quantize_pytorch.vector_quantize_pytorch import Codebook

SIZE, CHANNELS, ROWS, STEPS, DECAY = 8, 3, 40, 6, 0.8

torch.manual_seed(5)
start = torch.randn(SIZE, CHANNELS) * 2
rows = torch.randn(STEPS, ROWS, CHANNELS)
candidate_rows = torch.stack([torch.randperm(ROWS)[:SIZE] for _ in range(STEPS)])
golden = dict(start=start, rows=rows, candidate_rows=candidate_rows)
for threshold in (0, 1, 4):
    codebook = Codebook(CHANNELS, SIZE, decay=DECAY, eps=1e-5, threshold_ema_dead_code=threshold).train()
    codebook.embed.copy_(start[None])
    codebook.embed_avg.copy_(start[None])  # a count of one each
    restarted = []
    for step in range(STEPS):
        def offer(samples, count, offered=rows[step][candidate_rows[step]]):
            dead = codebook.cluster_size[0] < threshold
            assert dead.sum() == count
            restarted[-1] = int(count)
            return offered[dead][None]

        restarted.append(0)
        codebook.replace_sample_fn = offer
        _, codes, *_ = codebook(rows[step][None])
        name = f"threshold_{threshold}.step_{step}"
        golden[f"{name}.codes"] = codes[0].clone()
        golden[f"{name}.codebook"] = codebook.embed[0].clone()
        golden[f"{name}.counts"] = codebook.cluster_size[0].clone()
        golden[f"{name}.averages"] = codebook.embed_avg[0].clone()
    golden[f"threshold_{threshold}.restarted"] = torch.tensor(restarted)
    print("threshold", threshold, "restarted per step", restarted)
path = Path(__file__).parent / "golden" / "codebook_updates.safetensors"
save_file({name: tensor.detach().contiguous() for name, tensor in golden.items()}, path)
print(path.name, path.stat().st_size, "bytes")
