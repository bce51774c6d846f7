#!/usr/bin/env python3
"""Writes tests/parity/golden/efficientnet_lite.safetensors with the public efficientnet-lite-pytorch 0.1.0.

    pip install torch==2.11.0 safetensors efficientnet-lite-pytorch==0.1.0

Real weights are too large to keep, so they are waves that the test makes again from the names and shapes kept
here; the golden file holds those, one batch of levels, and the features before pooling.
"""
import math
from pathlib import Path

import torch
from efficientnet_lite_pytorch import EfficientNet
from safetensors.torch import save_file

torch.manual_seed(3)
network = EfficientNet.from_name("efficientnet-lite0").eval()
state, shapes, phase = network.state_dict(), {}, 0.0
for name in sorted(state):
    if name.endswith("num_batches_tracked") or name.startswith("_fc"):
        continue
    shape = state[name].shape
    shapes[f"shape.{name}"] = torch.tensor(shape)
    phase += 1
    wave = torch.sin(torch.arange(state[name].numel(), dtype=torch.float64) * 0.7 + phase).view(shape)
    if len(shape) == 4:
        wave = wave * math.sqrt(4.0 / math.prod(shape[1:]))
    elif name.endswith(("running_var", "weight")):
        wave = wave * 0.3 + 1
    else:
        wave = wave * 0.2
    state[name].copy_(wave.float())
levels = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
with torch.no_grad():
    features = network.extract_features((levels.float() - 127) / 128).flatten(2).transpose(1, 2).contiguous()
path = Path(__file__).parent / "golden" / "efficientnet_lite.safetensors"
save_file(shapes | {"levels": levels, "features": features}, path)
print(path.name, path.stat().st_size, "bytes; features", features.mean().item(), features.std().item())
