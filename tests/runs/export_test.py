#!/usr/bin/env python3
"""Trains a tiny run, exports it, builds its models again in Python PyTorch from the export alone, and compares what
both make of the same inputs: outputs, and by `espalier forward` losses and gradients.

    export_test.py ESPALIER DUMP_OUTPUTS

Needs a Python with torch and safetensors, its own or the one that tests/bench/run keeps in .deps/bench-python; where
there is none it ends with 77, which CTest shows as skipped.
"""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SETS = ["stage.codes.steps=20", "stage.both.steps=40", "stage.both.ema_decay=0.9", "checkpoint.every_steps=30",
        "model.tokenizer.decoder_blocks=2", "model.y.trunk_layers=2"]
TOLERANCE = 1e-5  # absolute, or of the value where that is larger than 1

sys.path.append(str(ROOT / ".deps" / "bench-python"))
sys.path.insert(0, str(ROOT / "tests" / "parity"))
try:
    import torch
    from safetensors.torch import load_file, save_file
except (ImportError, AttributeError) as error:
    print(f"skipped: no Python with torch and safetensors here ({error}); tests/bench/run installs one")
    sys.exit(77)
from image_tokenizer import ImageTokenizer, as_map, split_cells, tokens  # noqa: E402
from y_model import YModel  # noqa: E402


def call(*command):
    result = subprocess.run([str(word) for word in command], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, f"{command}: exit {result.returncode}\n{result.stdout}{result.stderr}"


def load(folder):
    """Every tensor, from one file or from shards, each checked against the index."""
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return load_file(folder / "model.safetensors")
    index = json.loads(index.read_text())
    weights, shards = {}, {name: load_file(folder / name) for name in set(index["weight_map"].values())}
    for name, shard in index["weight_map"].items():
        weights[name] = shards[shard][name]
    assert sum(t.nbytes for t in weights.values()) == index["metadata"]["total_size"]
    assert sum(map(len, shards.values())) == len(weights)
    return weights


def below(weights, prefix):
    return {name[len(prefix):]: tensor for name, tensor in weights.items() if name.startswith(prefix)}


def build_tokenizer(o, weights):
    model = ImageTokenizer(o["image_size"] // 4, o["latent_channels"], o["codebook_size"], o["pixel_stages"],
                           o["semantic_stages"], o["width"], o["encoder_blocks"], o["decoder_blocks"],
                           teacher_channels=weights["semantic_decoder.out.weight"].shape[0])
    missing, unexpected = model.load_state_dict(weights, strict=False)
    # The heads of masked patches are an objective's, not the model's.
    assert not unexpected and all(n.startswith(("mimic_head.", "masked_decoder.")) for n in missing), (missing, unexpected)
    return model


def build_y(o, tokenizer, weights):
    branches = [dict(name=name, head=b["head"], layers=b["layers"]) for name, b in o["branch"].items()]
    sizes = {key: o[key] for key in ("width", "heads", "kv_heads", "feed_forward_width", "trunk_layers", "depth_width",
                                     "depth_heads", "depth_layers", "depth_feed_forward_width")}
    model = YModel(**sizes, branches=branches, longest_sequence=512,
                   vocabulary_size=weights["text_embedding.weight"].shape[0],
                   image_positions=weights["position_embedding"].shape[0], code_channels=tokenizer["latent_channels"],
                   semantic_channels=2 * tokenizer["width"], stages=tokenizer["pixel_stages"],
                   codebook_size=tokenizer["codebook_size"])
    model.load_state_dict(weights)
    return model


def compare(name, mine, theirs):
    assert mine.shape == theirs.shape, (name, mine.shape, theirs.shape)
    worst = float(((mine - theirs).abs() / theirs.abs().clamp_min(1)).max())
    print(f"{name}: {mine.numel()} values, largest difference {worst:.1e}")
    assert worst <= TOLERANCE, name


def forward(espalier, folder, y, inputs, loss, logits):
    """`espalier forward --backward` beside a loss of the decoder in Python."""
    save_file({name: t.contiguous() for name, t in inputs.items()}, folder / "in.safetensors")
    call(espalier, "forward", folder, "--inputs", folder / "in.safetensors", "--outputs", folder / "out.safetensors",
         "--backward")
    theirs = load_file(folder / "out.safetensors")
    with torch.enable_grad():
        mine, of_python = loss(theirs), dict(y.named_parameters())
        gradients = torch.autograd.grad(mine[0], list(of_python.values()), allow_unused=True)
    compare("loss", mine[0], theirs["loss"])
    compare("logits", mine[1], logits(theirs["logits"]))
    for name, gradient in zip(of_python, gradients):
        assert (gradient is not None) == (f"grad.y.{name}" in theirs), name
    found = [(g, theirs[f"grad.y.{name}"]) for name, g in zip(of_python, gradients) if g is not None]
    compare("gradients", *(torch.cat([g.flatten() for g in side]) for side in zip(*found)))
    return theirs


def check_forward(espalier, folder, tokenizer, y, codes, sums, ids):
    branches = sorted(json.loads((folder / "config.json").read_text())["models"]["y"]["branch"])
    picture, skip = torch.full((len(ids), 1), -1), torch.full((len(ids), 1), -100)
    length = ids.shape[1]

    def reading(theirs):
        hidden = y.read_hidden(sums[-1], theirs["semantics"], ids)[:, -length - 1:]
        logits = y.branch["understanding"].text_head(hidden)
        return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids.flatten()), logits

    theirs = forward(espalier, folder, y, dict(
        branch=torch.tensor([branches.index("understanding")]), codes=codes,
        input_ids=torch.cat([picture, ids], 1), labels=torch.cat([skip, ids], 1)), reading, lambda logits: logits)
    latents = sum(book[codes[..., s]] for s, book in enumerate(tokenizer.quantizer.codebooks))
    decoder = tokenizer.semantic_decoder
    semantics = tokens(decoder.blocks(as_map(decoder.from_latent(latents))).relu())
    semantics = (semantics * torch.rsqrt(semantics.square().mean(-1, keepdim=True) + 1e-6)).bfloat16().float()
    # One bit of bfloat16, where a sum in another order was rounded to the other side.
    assert ((semantics - theirs["semantics"]).abs() <= semantics.abs() / 64 + TOLERANCE).all()

    def drawing(_):
        loss, logits = y.draw_loss(ids.tolist(), sums, codes[..., :len(sums)])
        return loss / codes[..., :len(sums)].numel(), logits

    forward(espalier, folder, y, dict(branch=torch.tensor([branches.index("generation")]), codes=codes,
                                      input_ids=torch.cat([ids, picture], 1)),
            drawing, lambda logits: logits.flatten(0, 1).transpose(0, 1))


def check(espalier, folder, outputs):
    config, weights = json.loads((folder / "config.json").read_text()), load(folder)
    options = config["models"]["tokenizer"]
    tokenizer = build_tokenizer(options, below(weights, "tokenizer."))
    y = build_y(config["models"]["y"], options, below(weights, "y."))
    images, codes = outputs["images"], outputs["codes"]
    latents = tokenizer.to_latent(tokenizer.encoder(tokenizer.cells(images)))
    found, _ = tokenizer.quantizer.quantize(latents.flatten(0, 1))
    assert torch.equal(found.view_as(codes), codes), f"{(found.view_as(codes) != codes).sum()} codes differ"
    stages = options["pixel_stages"]
    books = tokenizer.quantizer.codebooks[:stages]
    embedded = torch.stack([books[s][codes[..., s]] for s in range(stages)]).cumsum(0)
    compare("pixels", split_cells(tokenizer.pixel_decoder(embedded[-1])).clamp(-1, 1), outputs["pixels"].clamp(-1, 1))
    # What a decoder reads: sums of code vectors of about unit variance (docs/runs.md).
    sums = embedded / books.square().mean((1, 2)).sum().sqrt()
    compare("code sums", sums[-1].flatten(0, 1), outputs["code_sums"])
    semantics = outputs["semantics"].view(len(images), -1, outputs["semantics"].shape[1])
    hidden = y.read_hidden(sums[-1], semantics, outputs["text_ids"])
    compare("logits", y.branch["understanding"].text_head(hidden).flatten(0, 1), outputs["logits"])
    check_forward(espalier, folder, tokenizer, y, codes, sums, outputs["text_ids"])


def main():
    espalier, dump_outputs = sys.argv[1:]
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="espalier-export-") as folder, torch.no_grad():
        folder = Path(folder)
        run = folder / "run"
        sets = [word for value in [f'run.directory="{run}"', *SETS] for word in ("--set", value)]
        call(espalier, "train", ROOT / "tests" / "fault" / "tiny.toml", *sets)
        call(dump_outputs, run, folder / "outputs.safetensors")
        outputs = load_file(folder / "outputs.safetensors")
        for name, size in (("whole", "4GB"), ("shards", "100KB")):
            call(espalier, "checkpoint", "export", run, "--max-shard-size", size, "--to", folder / name)
            check(espalier, folder / name, outputs)
        assert len(list((folder / "shards").glob("model-*.safetensors"))) > 2
        # An older checkpoint is of another stage's middle: other weights, other outputs.
        call(espalier, "checkpoint", "export", run, "--step", "50", "--raw", "--to", folder / "older")
        assert json.loads((folder / "older" / "config.json").read_text())["step"] == 50


if __name__ == "__main__":
    main()
