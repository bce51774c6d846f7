#!/usr/bin/env python3
"""The Y-shaped model in plain PyTorch: same parameters, names and arithmetic as models/decoder/y_model.cpp.

Sequences are padded to the longest of a batch, as a PyTorch user would; the C++ model packs them.
Run as a program, it writes tests/parity/golden/y_model.safetensors: random weights and inputs, and
what this model makes of them (forward, every gradient, ten training steps).

  y_model.py [--check]      needs torch, numpy and safetensors; --check compares with the file
"""
import argparse
import math
import pathlib

import torch
import torch.nn.functional as F
from torch import nn

PAD = -1  # target of a row that predicts nothing


class Linear(nn.Linear):
    def __init__(self, inputs, outputs, bias=False):
        super().__init__(inputs, outputs, bias=bias)
        nn.init.normal_(self.weight, 0.0, inputs**-0.5)


class RmsNorm(nn.Module):
    def __init__(self, width, epsilon=1e-6):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x):
        return F.rms_norm(x, (x.shape[-1],), self.weight, self.epsilon)


def rotary_table(length, head_dim, base=10000.0):
    steps = torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim
    angles = torch.outer(torch.arange(length, dtype=torch.float64), base**-steps)
    return angles.cos().float(), angles.sin().float()


def rotate(x, cosines, sines):
    a, b = x.chunk(2, -1)
    return torch.cat([a * cosines - b * sines, b * cosines + a * sines], -1)


class Block(nn.Module):
    def __init__(self, width, heads, kv_heads, feed_forward_width):
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, width // heads
        self.attention_norm = RmsNorm(width)
        self.query_key_value = Linear(width, (heads + 2 * kv_heads) * self.head_dim)
        self.attention_out = Linear(width, width)
        self.feed_forward_norm = RmsNorm(width)
        self.gate_up = Linear(width, 2 * feed_forward_width)
        self.down = Linear(feed_forward_width, width)
        with torch.no_grad():
            self.attention_out.weight.mul_(0.5)
            self.down.weight.mul_(0.5)

    def forward(self, x, rotary):
        batch, length, width = x.shape
        qkv = self.query_key_value(self.attention_norm(x))
        qkv = qkv.view(batch, length, self.heads + 2 * self.kv_heads, self.head_dim).transpose(1, 2)
        q, k, v = qkv.split([self.heads, self.kv_heads, self.kv_heads], 1)
        if rotary is not None:
            cosines, sines = (t[:length].to(q.dtype) for t in rotary)
            q, k = rotate(q, cosines, sines), rotate(k, cosines, sines)
        y = F.scaled_dot_product_attention(
            q, k, v, is_causal=True, enable_gqa=self.heads != self.kv_heads)
        x = x + self.attention_out(y.transpose(1, 2).reshape(batch, length, width))
        gate, up = self.gate_up(self.feed_forward_norm(x)).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


class Projector(nn.Module):
    def __init__(self, inputs, width):
        super().__init__()
        self.add_module("in", Linear(inputs, width, bias=True))
        self.add_module("out", Linear(width, width, bias=True))
        for layer in self.children():
            nn.init.zeros_(layer.bias)

    def forward(self, x):
        return self.out(F.gelu(getattr(self, "in")(x)))


class DepthTransformer(nn.Module):
    def __init__(self, o):
        super().__init__()
        width = o["depth_width"]
        self.from_context = Linear(o["width"], width)
        self.from_codes = Linear(o["code_channels"], width)
        self.stage_embedding = nn.Parameter(torch.randn(o["stages"], width) * 0.02)
        self.blocks = nn.ModuleList(
            Block(width, o["depth_heads"], o["depth_heads"], o["depth_feed_forward_width"])
            for _ in range(o["depth_layers"]))
        self.norm = RmsNorm(width)
        self.heads = nn.ModuleList(
            Linear(width, o["codebook_size"]) for _ in range(o["stages"]))

    def forward(self, hidden, code_sums):
        """hidden (M, D), code_sums (stages - 1, M, C) -> logits (stages, M, K)."""
        x = torch.cat([self.from_context(hidden)[None], self.from_codes(code_sums)])
        x = x.transpose(0, 1) + self.stage_embedding[: x.shape[0]]
        for block in self.blocks:
            x = block(x, None)
        x = self.norm(x)
        return torch.stack([head(x[:, i]) for i, head in enumerate(self.heads[: x.shape[1]])])


def block(o):
    return Block(o["width"], o["heads"], o["kv_heads"], o["feed_forward_width"])


class Branch(nn.Module):
    """Layers, a norm and a head: {"name", "head": "text" or "codes", "layers"}."""

    def __init__(self, o, head, layers):
        super().__init__()
        width = o["width"]
        if head == "text" and o["semantic_channels"] > 0:
            self.semantic_projector = Projector(o["semantic_channels"], width)
        self.layers = nn.ModuleList(block(o) for _ in range(layers))
        self.norm = RmsNorm(width)
        if head == "text":
            self.text_head = Linear(width, o["vocabulary_size"])
        else:
            self.depth = DepthTransformer(o)


class YModel(nn.Module):
    def __init__(self, **o):
        super().__init__()
        self.o = o
        width = o["width"]
        self.rotary = rotary_table(o["longest_sequence"], width // o["heads"])
        self.text_embedding = nn.Embedding(o["vocabulary_size"], width)
        nn.init.normal_(self.text_embedding.weight, 0.0, 0.02)
        self.image_marks = nn.Parameter(torch.randn(2, width) * 0.02)
        self.position_embedding = nn.Parameter(torch.randn(o["image_positions"], width) * 0.02)
        self.projector = Projector(o["code_channels"], width)
        self.trunk = nn.ModuleList(block(o) for _ in range(o["trunk_layers"]))
        self.branch = nn.ModuleDict(
            {b["name"]: Branch(o, b["head"], b["layers"]) for b in o["branches"]})

    def image(self, code_sums, reader=None, semantics=None):
        x = self.projector(code_sums) + self.position_embedding[: code_sums.shape[1]]
        return x if semantics is None else x + reader.semantic_projector(semantics)

    def marks(self, batch, index):
        return self.image_marks[index].expand(batch, 1, -1)

    def run(self, x, branch):
        for layer in [*self.trunk, *branch.layers]:
            x = layer(x, self.rotary)
        return branch.norm(x)

    def read_hidden(self, code_sums, semantics, text_ids, branch="understanding"):
        """<image> positions </image> text: (B, 2 + P + T, D)."""
        batch, reader = code_sums.shape[0], self.branch[branch]
        x = torch.cat([self.marks(batch, 0), self.image(code_sums, reader, semantics),
                       self.marks(batch, 1), self.text_embedding(text_ids)], 1)
        return self.run(x, reader)

    def read_loss(self, code_sums, semantics, text_ids, targets, branch="understanding"):
        """Sum over targets; targets (B, T) is PAD where nothing is predicted."""
        hidden = self.read_hidden(code_sums, semantics, text_ids, branch)
        logits = self.branch[branch].text_head(hidden[:, -text_ids.shape[1]:])
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=PAD,
                               reduction="sum")

    def draw_hidden(self, conditions, code_sums, branch="generation"):
        """conditions: lists of text ids; code_sums (B, P, C) -> hidden states (B * P, D)."""
        batch, positions = code_sums.shape[:2]
        width = self.o["width"]
        length = max(map(len, conditions)) + positions
        ids = torch.zeros(batch, length, dtype=torch.long)
        first = torch.tensor([len(c) for c in conditions])
        for i, condition in enumerate(conditions):
            ids[i, : len(condition)] = torch.tensor(condition)
        column = torch.arange(length)
        is_mark = column == first[:, None]
        is_image = (column > first[:, None]) & (column < first[:, None] + positions)
        is_target = is_mark | is_image
        x = self.text_embedding(ids)
        x = torch.where(is_mark[..., None], self.image_marks[0], x)
        image = self.image(code_sums[:, :-1]).to(x.dtype)
        x = x.masked_scatter(is_image[..., None], image)
        return self.run(x, self.branch[branch])[is_target].view(batch * positions, width)

    def draw_loss(self, conditions, code_sums, codes, branch="generation"):
        """code_sums (S, B, P, C), codes (B, P, S) -> sum over codes, logits (S, B * P, K)."""
        hidden = self.draw_hidden(conditions, code_sums[-1], branch)
        logits = self.branch[branch].depth(hidden, code_sums[:-1].flatten(1, 2))
        targets = codes.permute(2, 0, 1).flatten()
        return F.cross_entropy(logits.flatten(0, 1).float(), targets, reduction="sum"), logits


SMALL = dict(width=32, heads=2, kv_heads=1, feed_forward_width=48, trunk_layers=2,
             branches=[dict(name="understanding", head="text", layers=1),
                       dict(name="generation", head="codes", layers=2)],
             longest_sequence=24, vocabulary_size=40,
             image_positions=5, code_channels=8, semantic_channels=6, stages=3, codebook_size=11,
             depth_width=32, depth_heads=2, depth_layers=2, depth_feed_forward_width=40)


def golden():
    torch.manual_seed(7)
    model = YModel(**SMALL)
    with torch.no_grad():  # nothing may hide behind a one or a zero
        for p in model.parameters():
            if p.dim() == 1:
                p.add_(torch.randn_like(p) * 0.1)
    out = {"weights/" + n: p.detach().clone() for n, p in model.named_parameters()}
    books = torch.randn(SMALL["stages"], SMALL["codebook_size"], SMALL["code_channels"])
    codes = torch.randint(SMALL["codebook_size"], (3, SMALL["image_positions"], SMALL["stages"]))
    sums = torch.stack([books[s][codes[..., s]] for s in range(SMALL["stages"])]).cumsum(0)
    semantics = torch.randn(3, SMALL["image_positions"], SMALL["semantic_channels"])
    conditions = [[3, 9], [3, 11, 12, 13, 14], [3, 5, 6]]
    prompt, answers = [21, 22], [[30, 31, 32], [33], [34, 35]]
    end = 0
    longest = max(map(len, answers)) + len(prompt)
    text = torch.zeros(3, longest, dtype=torch.long)
    targets = torch.full((3, longest), PAD)
    for i, answer in enumerate(answers):
        text[i, : len(prompt) + len(answer)] = torch.tensor(prompt + answer)
        targets[i, len(prompt) - 1: len(prompt) + len(answer)] = torch.tensor(answer + [end])
    out |= {"codebooks": books, "codes": codes, "semantics": semantics}
    hidden = model.read_hidden(sums[-1], semantics, text)
    out["read/hidden_of_first"] = hidden[0].detach()

    def losses():
        read = model.read_loss(sums[-1], semantics, text, targets)
        draw, logits = model.draw_loss(conditions, sums, codes)
        return read, draw, logits

    read, draw, logits = losses()
    out |= {"read/loss": read.detach(), "draw/loss": draw.detach(), "draw/logits": logits.detach()}
    for name, loss in (("read", read), ("draw", draw)):
        gradients = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
        for (parameter, _), g in zip(model.named_parameters(), gradients):
            if g is not None:
                out[f"{name}/grad/{parameter}"] = g
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2, betas=(0.9, 0.95), weight_decay=0.1)
    course = []
    for _ in range(10):
        read, draw, _ = losses()
        loss = read / 9 + draw / 45
        course.append(loss.detach())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    out["course"] = torch.stack(course)
    return out


def main():
    from safetensors.torch import load_file, save_file

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    torch.set_num_threads(1)
    path = pathlib.Path(__file__).parent / "golden" / "y_model.safetensors"
    tensors = {name: t.contiguous() for name, t in golden().items()}
    if not check:
        save_file(tensors, path)
        return
    stored = load_file(path)
    assert stored.keys() == tensors.keys(), stored.keys() ^ tensors.keys()
    worst = max(float((stored[n].double() - t.double()).abs().max() /
                      t.double().abs().max().clamp_min(1e-12)) for n, t in tensors.items())
    print(f"{len(tensors)} tensors, largest relative difference {worst:.1e}")
    assert worst < 1e-4 and not math.isnan(worst)


if __name__ == "__main__":
    main()
