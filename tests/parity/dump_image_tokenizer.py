#!/usr/bin/env python3
"""Writes tests/parity/golden/image_tokenizer.safetensors: what the reference does at random weights.

Weights, one batch, codes, losses, every gradient, the codebooks after one update, and the total loss of ten
AdamW steps on that batch. models_tests compares the C++ tokenizer with it.
"""
from pathlib import Path

import torch
from safetensors.torch import save_file

from image_tokenizer import ImageTokenizer, target_counts

WEIGHTS = dict(pixel=1.0, commitment=0.25, semantic=0.1, mimic=0.05, reconstruct=1.0)
OPTIONS = dict(latent_size=8, latent_channels=8, codebook_size=16, pixel_stages=3, semantic_stages=2, width=12,
               encoder_blocks=2, decoder_blocks=1, masked_width=16, teacher_channels=40, folds=4)
BATCH, KEEP = 3, 16

torch.manual_seed(7)
torch.set_num_threads(1)
model = ImageTokenizer(**OPTIONS)
with torch.no_grad():
    for parameter in model.parameters():  # biases and tokens too, so that each of them is tested
        if parameter.dim() == 1:
            parameter.add_(torch.randn_like(parameter) * 0.1)
stages, side = OPTIONS["pixel_stages"] + OPTIONS["semantic_stages"], 8
inputs = dict(images=torch.rand(BATCH, 3, 32, 32) * 2 - 1,
              pixel_depth=torch.tensor([1, 3, 2]), semantic_depth=torch.tensor([5, 2, 4]),
              visible=torch.rand(BATCH, side * side).argsort(1)[:, :KEEP].contiguous(),
              teacher=torch.randn(BATCH, side * side // 4, OPTIONS["teacher_channels"]))
rows = torch.randint(BATCH * side * side, (stages, OPTIONS["codebook_size"]))
rows[:, ::5] = -1  # offered by another rank
golden = {f"input.{k}": v for k, v in inputs.items()} | {"input.candidate_rows": rows}
golden |= {f"weights.{k}": v.clone() for k, v in model.state_dict().items()}

optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.05)
counts = target_counts(inputs["images"], inputs["visible"], stages, OPTIONS["latent_channels"])
curve = []
for step in range(10):
    optimizer.zero_grad()
    losses, (latents, codes, sums) = model(**inputs)
    total = sum(WEIGHTS[name] / counts[name] * value for name, value in losses.items())
    total.backward()
    curve.append(total.item())
    if step == 0:
        golden |= {f"loss.{k}": v.detach() for k, v in losses.items()} | {"codes": codes}
        golden |= {f"grad.{k}": v.grad.clone() for k, v in model.named_parameters()}
    optimizer.step()
    model.quantizer.update(model.quantizer.statistics(latents, codes, sums, rows))
    if step == 0:
        golden |= {f"updated.{k}": v.clone() for k, v in model.quantizer.named_buffers()}
golden["curve"] = torch.tensor(curve)
path = Path(__file__).parent / "golden" / "image_tokenizer.safetensors"
save_file({k: v.contiguous() for k, v in golden.items()}, path)
print(path.name, path.stat().st_size, "bytes; losses", [round(x, 5) for x in curve])
