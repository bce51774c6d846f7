#!/usr/bin/env python3
"""Small decoders of the public `transformers` library with random weights, and what it makes of random inputs.

Writes tests/parity/golden/hugging_face/NAME/: config.json and model.safetensors, as save_pretrained() leaves them, and
inputs.safetensors and outputs.safetensors for `espalier forward`. Needs torch and transformers 5.

  dump_hugging_face.py [--to FOLDER] [NAME ...]
"""
import argparse
import json
import pathlib

import torch
import transformers
from safetensors.torch import save_file

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SMALL = dict(vocab_size=61, hidden_size=24, intermediate_size=40, num_hidden_layers=3, max_position_embeddings=64)


def qwen2(**more):
    return transformers.Qwen2Config(**(SMALL | dict(num_attention_heads=6, num_key_value_heads=2, rms_norm_eps=1e-6) | more))


def llama(**more):
    return transformers.LlamaConfig(**(SMALL | dict(num_attention_heads=4, num_key_value_heads=4, rms_norm_eps=1e-5) | more))


def rope(**values):
    return dict(rope_parameters=dict(rope_theta=10000.0) | values)


# Each: a configuration, and how its batch is padded.
MODELS = {
    "qwen2-grouped-tied": (qwen2(tie_word_embeddings=True, **rope(rope_theta=1000000.0, rope_type="default")), "right"),
    "qwen2-untied": (qwen2(tie_word_embeddings=False, num_attention_heads=3, num_key_value_heads=1), "none"),
    "qwen2-odd-heads": (qwen2(hidden_size=42, num_attention_heads=7, num_key_value_heads=7, pad_token_id=5), "left"),
    "llama": (llama(num_key_value_heads=2), "right"),
    "llama-biases": (llama(attention_bias=True, mlp_bias=True, head_dim=10, tie_word_embeddings=True), "holes"),
    "llama-linear": (llama(**rope(rope_type="linear", factor=2.5)), "none"),
    "llama-dynamic": (llama(max_position_embeddings=16, **rope(rope_type="dynamic", factor=2.0)), "none"),
    "llama-yarn": (llama(hidden_size=32, num_attention_heads=2, num_key_value_heads=1, **rope(rope_type="yarn", factor=4.0, original_max_position_embeddings=16)), "none"),
    "llama-longrope": (llama(**rope(rope_type="longrope", factor=2.0, original_max_position_embeddings=16,
                                    short_factor=[1.0, 1.5, 2.0], long_factor=[1.5, 2.5, 4.0])), "none"),
    "llama-llama3": (llama(hidden_size=32, num_attention_heads=2, num_key_value_heads=1, **rope(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                                  original_max_position_embeddings=32)), "none"),
}


def make_inputs(config, padding):
    length, batch = 23, 2
    ids = torch.randint(0, config.vocab_size, (batch, length))
    inputs = dict(input_ids=ids)
    mask = torch.ones_like(ids)
    if padding == "right":
        mask[1, 9:] = 0
    elif padding == "left":
        mask[0, :4] = 0
    elif padding == "holes":
        mask[0, 5:8] = 0
        mask[1, 12] = 0
        inputs["position_ids"] = torch.stack([torch.arange(length) + 3, torch.arange(length) // 2 * 3])
    if padding != "none":
        inputs["attention_mask"] = mask
    labels = ids.masked_fill(torch.rand(ids.shape) < 0.2, -100).masked_fill(mask == 0, -100)
    # What only padding comes before is not predicted.
    first = mask.argmax(1)
    for row in range(batch):
        labels[row, first[row]] = -100
    inputs["labels"] = labels
    return inputs


def dump(name, folder):
    config, padding = MODELS[name]
    torch.manual_seed(sorted(MODELS).index(name))
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").float().eval()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            scale = 0.1 if parameter.dim() > 1 else 0.05
            parameter.add_(torch.randn_like(parameter) * scale)
    inputs = make_inputs(config, padding)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    # In double precision, so that rounding is that of what is compared alone.
    model.double()
    result = model(**inputs, output_hidden_states=True)
    result.loss.backward()
    outputs = dict(logits=result.logits, loss=result.loss, last_hidden_state=result.hidden_states[-1])
    for i, state in enumerate(result.hidden_states):
        outputs[f"hidden_states.{i}"] = state
    for parameter_name, parameter in model.named_parameters():
        outputs[f"grad.{parameter_name}"] = parameter.grad
    (folder / "generation_config.json").unlink(missing_ok=True)
    config_file = folder / "config.json"
    config_file.write_text(json.dumps(json.loads(config_file.read_text()), indent=1, sort_keys=True) + "\n")
    save_file({k: v.contiguous() for k, v in inputs.items()}, folder / "inputs.safetensors")
    save_file({k: v.detach().float().clone().contiguous() for k, v in outputs.items()}, folder / "outputs.safetensors")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=pathlib.Path, default=ROOT / "tests" / "parity" / "golden" / "hugging_face")
    parser.add_argument("names", nargs="*", metavar="NAME")
    options = parser.parse_args()
    for name in options.names or MODELS:
        dump(name, options.to / name)
        print(name)


if __name__ == "__main__":
    main()
