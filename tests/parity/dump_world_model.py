#!/usr/bin/env python3
"""Writes tests/parity/golden/world_model.safetensors with the published code of DreamVLA (Zhangwenyao1/DreamVLA at
commit 7145258), run at random small weights, and with diffusers.

    pip install torch==2.11.0 numpy safetensors einops einops-exts timm==1.0.31 transformers==4.45.2 diffusers==0.31.0 pillow
    tests/parity/dump_world_model.py PATH_OF_A_DREAMVLA_CHECKOUT

Its frozen encoders (CLIP, MAE ViT-B) need downloads and say nothing about what is compared, so stand-ins give random
features; from the rows that enter the trunk on, everything is the published code. Weights are kept in half precision
and rounded to it before they are used; the blocks of the depth and motion decoders have the image decoder's. Names are
ours; tensors of a linear are (out, in). The gradients of some blocks are left out for size: they reach the others.
"""
import sys
import tempfile
import types
from pathlib import Path
from unittest import mock

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

BATCH, STEPS, WIDTH, CHUNK, VIEWS, QUERIES = 2, 2, 32, 3, 2, 4
golden = {}


def randomise(module, scale=1.0):
    """Weights that a half keeps exactly, none of them zero."""
    for name, p in module.named_parameters():
        if not p.requires_grad:
            continue
        if p.dim() > 1:
            value = torch.randn(p.shape) * scale / p.shape[-1] ** 0.5
        else:
            value = torch.randn(p.shape) * 0.1 + (1.0 if name.endswith("weight") else 0.0)
        p.data.copy_(value.half().float())


def keep(name, parameter, transpose=False, gradient=True):
    turn = (lambda t: t.t()) if transpose else (lambda t: t)
    golden[f"weight.{name}"] = turn(parameter.detach()).half().contiguous()
    if gradient:
        golden[f"gradient.{name}"] = turn(parameter.grad).clone().contiguous()


def keep_module(name, module, gradient=True, transpose=False):
    for part, parameter in module.named_parameters(recurse=False):
        keep(f"{name}.{part}", parameter, transpose and part == "weight", gradient)


def keep_block(name, names, block, gradient=True, transpose=False):
    """names: the published modules in the order of ours."""
    ours = ["attention_norm", "query_key_value", "attention_out", "mlp_norm", "mlp_in", "mlp_out"]
    for our, theirs in zip(ours, names):
        keep_module(f"{name}.{our}", block.get_submodule(theirs), gradient, transpose)


VIT = ["norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2"]
GPT2 = ["ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj"]


def dump_resampler():
    from models.perceiver_resampler import PerceiverResampler

    resampler = PerceiverResampler(dim=24, depth=2, dim_head=8, heads=3, num_latents=5)
    randomise(resampler)
    media = torch.randn(2, 7, 24, requires_grad=True)
    out = resampler(media[:, None, None])[:, 0]
    probe = torch.randn_like(out)
    (out * probe).sum().backward()
    golden.update({"resampler.media": media.detach(), "resampler.out": out.detach(), "resampler.probe": probe,
                   "resampler.media_gradient": media.grad})
    keep("resampler.latents", resampler.latents)
    keep_module("resampler.norm", resampler.norm)
    for i, (attention, mlp) in enumerate(resampler.layers):
        parts = {"media_norm": attention.norm_media, "latent_norm": attention.norm_latents, "query": attention.to_q,
                 "key_value": attention.to_kv, "attention_out": attention.to_out, "mlp_norm": mlp[0], "mlp_in": mlp[1],
                 "mlp_out": mlp[3]}
        for part, module in parts.items():
            keep_module(f"resampler.layers.{i}.{part}", module)


class FakeVision(torch.nn.Module):
    def __init__(self, *_, **__):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward_encoder(self, images, mask_ratio):
        return torch.randn(images.shape[0], 197, 768), None, None


class FakeClip(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def encode_text(self, text):
        return torch.randn(text.shape[0], 512)


def tiny_dit():
    from models.action_model import action_model, models

    action_model.DiT_models["tiny"] = lambda **kwargs: models.DiT(depth=2, hidden_size=WIDTH, num_heads=2, **kwargs)


def published_model():
    sys.modules["clip"] = types.SimpleNamespace(load=lambda *_, **__: (FakeClip(), None))
    from models import dreamvla_model

    dreamvla_model.MaskedAutoencoderViT = FakeVision
    with tempfile.NamedTemporaryFile() as file:
        torch.save({"model": FakeVision().state_dict()}, file.name)
        model = dreamvla_model.DreamVLA(
            "calvin", "cpu", file.name, sequence_length=STEPS, num_resampler_query=2, num_obs_token_per_image=QUERIES,
            obs_pred=True, depth_pred=True, trajectory_pred=True, calvin_input_image_size=32, patch_size=8,
            track_label_patch_size=4, action_pred_steps=CHUNK, transformer_layers=2, hidden_dim=WIDTH,
            transformer_heads=2, phase="finetune", use_dit_head=True, dit_type="tiny", attn_implementation="eager")
    model._init_model_type()
    golden["initial.largest_output_weight"] = model.action_model.net.final_layer.linear.weight.abs().max()
    randomise(model)
    for decoder in (model.depth_decoder, model.traj_decoder):  # kept once
        decoder.load_state_dict(model.image_decoder.state_dict())
    model.eval()  # no dropout
    model.action_model.net.train()  # but conditions are dropped
    return model


def draws_of(seed, rows, generator_of_time):
    """The random numbers of ActionModel.loss and LabelEmbedder.token_drop, in their order."""
    torch.manual_seed(seed)
    noise = torch.randn(rows, CHUNK, 7)
    time = torch.randint(0, generator_of_time, (rows,))
    dropped = torch.rand(rows) < 0.1
    return noise, time, dropped


def run_model(model, seed):
    """Returns what enters and leaves the trunk, and the outputs; the draws of the loss are those of `seed`."""
    seen = {}
    handles = [
        model.embedding_layer_norm.register_forward_pre_hook(lambda _, x: seen.update(rows=x[0])),
        model.transformer_backbone.register_forward_hook(lambda _, __, y: seen.update(
            hidden=y if torch.is_tensor(y) else y[0])),
        model.action_model.net.register_forward_pre_hook(lambda _, x: seen.update(condition=x[2]))]
    actions = golden.setdefault("actions", torch.randn(BATCH, STEPS, CHUNK, 7))
    original = model.action_model.loss

    def seeded(x, z):
        torch.manual_seed(seed)
        return original(x, z)

    torch.manual_seed(5)  # of the features
    with mock.patch.object(model.action_model, "loss", seeded):
        out = model(torch.zeros(BATCH, STEPS, 3, 32, 32), torch.zeros(BATCH, STEPS, 3, 32, 32),
                    torch.randn(BATCH, STEPS, 7), torch.zeros(BATCH, STEPS, 4, dtype=torch.long), action_label=actions)
    for handle in handles:
        handle.remove()
    seen["hidden"].retain_grad()
    return seen, {"action": out[0], "image": out[2][:, :, 0], "depth": out[6][:, :, 0], "track": out[7][:, :, 0]}


def dump_model():
    tiny_dit()
    model = published_model()
    # For pictures of motion, which nothing here makes; transformers looks for the real one first.
    sys.modules["cv2"] = types.ModuleType("cv2")
    from utils.sigloss import SiLogLoss
    from utils.train_utils import normalize_patchfied_image, patchify

    structured, _ = run_model(model, seed=11)
    golden["structured.mask"] = model.attention_mask.detach().isinf().logical_not().to(torch.uint8)
    golden["structured.hidden"] = structured["hidden"].detach()
    model.attention_mask.data.zero_()  # everyone sees everyone
    seen, out = run_model(model, seed=11)

    levels = torch.randint(256, (BATCH * STEPS * VIEWS, 3, 32, 32), dtype=torch.uint8)
    frames = levels.float() / 255
    image_target = normalize_patchfied_image(patchify(frames, 8)).view_as(out["image"])
    image_mask = (torch.rand(BATCH * STEPS, VIEWS, 16) < 0.4).float()
    depth_target = (torch.rand_like(out["depth"]) + 0.1).half().float()
    track_target = torch.randn_like(out["track"])
    losses = {"action": out["action"], "image": 0, "depth": 0, "track": 0}
    for view in range(VIEWS):
        mask = image_mask[:, view, :, None]
        losses["image"] += 0.5 * F.mse_loss(out["image"][:, view] * mask, image_target[:, view] * mask)
        losses["depth"] += 0.5 * SiLogLoss()(out["depth"][:, view], depth_target[:, view])
        losses["track"] += 0.1 * F.mse_loss(out["track"][:, view], track_target[:, view])
    sum(losses.values()).backward()

    noise, time, dropped = draws_of(11, 8 * BATCH * STEPS, 100)
    assert dropped.any() and not dropped.all()
    golden.update({"rows": (seen["rows"].view(BATCH, STEPS, -1, WIDTH) - model.transformer_backbone_position_embedding),
                   "hidden": seen["hidden"], "hidden_gradient": seen["hidden"].grad, "levels": levels,
                   "image_target": image_target[0], "image_mask": image_mask, "depth_target": depth_target.half(),
                   "track_target": track_target, "draws.noise": noise, "draws.time": time,
                   "draws.dropped": dropped.to(torch.uint8)})
    golden.update({f"out.{name}": value for name, value in out.items() if name != "action"})
    golden.update({f"loss.{name}": value for name, value in losses.items()})
    keep_trunk(model)
    keep_decoder("image", model, "image_decoder", model.mask_token, True)
    keep_decoder("depth", model, "depth_decoder", model.depth_mask_token, False)
    keep_decoder("track", model, "traj_decoder", model.traj_mask_token, False)
    keep_dit(model.action_model.net)
    dump_sampling(model.action_model)


def keep_trunk(model):
    golden["weight.trunk.position"] = model.transformer_backbone_position_embedding.detach()[0, :, 0].half()
    golden["gradient.trunk.position"] = model.transformer_backbone_position_embedding.grad[0, :, 0].contiguous()
    keep_module("trunk.embedding_norm", model.embedding_layer_norm)
    keep_module("trunk.norm", model.transformer_backbone.ln_f)
    for i, block in enumerate(model.transformer_backbone.h):
        keep_block(f"trunk.blocks.{i}", GPT2, block, transpose=True)
    for name, tokens in {"dynamic": model.obs_tokens, "depth": model.depth_tokens, "track": model.trajectory_tokens,
                         "action": model.action_pred_token}.items():
        golden[f"weight.queries.{name}"] = tokens.detach()[0, 0].half()
        golden[f"gradient.queries.{name}"] = tokens.grad[0, 0].contiguous()


def keep_decoder(name, model, published, mask_token, has_blocks):
    blocks = getattr(model, published)
    keep_module(f"{name}.from_query", getattr(model, published + "_obs_pred_projector"))
    golden[f"weight.{name}.mask_token"] = mask_token.detach()[0, 0].half()
    golden[f"gradient.{name}.mask_token"] = mask_token.grad[0, 0].contiguous()
    golden[f"position.{name}"] = getattr(model, published + "_position_embedding").detach()[0].clone()
    keep_module(f"{name}.norm", getattr(model, published + "_norm"))
    keep_module(f"{name}.out", getattr(model, published + "_pred"))
    for i, block in enumerate(blocks if has_blocks else []):
        keep_block(f"{name}.blocks.{i}", VIT, block, gradient=i == 0)


def keep_dit(net):
    keep_module("dit.action_in", net.x_embedder.linear)
    keep_module("dit.condition_in", net.z_embedder.linear)
    keep_module("dit.time_in", net.t_embedder.mlp[0])
    keep_module("dit.time_out", net.t_embedder.mlp[2])
    keep("dit.no_condition", net.z_embedder.uncondition)
    keep("dit.position", net.positional_embedding)
    keep_module("dit.out", net.final_layer.linear)
    for i, block in enumerate(net.blocks):
        keep_block(f"dit.blocks.{i}", VIT, block, gradient=i == 0)


def dump_sampling(action_model):
    """DDIM with guidance as the model's test mode does it, flow matching's loss and its Euler steps."""
    from models.action_model import respace
    from models.action_model.action_model import ActionModelFM

    rows = 3
    condition, noise = torch.randn(rows, CHUNK, WIDTH), torch.randn(rows, CHUNK, 7)
    net = action_model.net.eval()
    both = torch.cat([condition, net.z_embedder.uncondition[None].expand(rows, CHUNK, -1)])

    def sample(diffusion, scale):
        return diffusion.ddim_sample_loop(
            net.forward_with_cfg, (2 * rows, CHUNK, 7), torch.cat([noise, noise]), clip_denoised=False,
            model_kwargs={"z": both, "cfg_scale": scale}, progress=False, device="cpu", eta=0.0)[:rows].detach()

    golden.update({"sample.condition": condition, "sample.noise": noise,
                   "sample.ddim": sample(action_model.create_ddim(10), 1.5)})
    flow = ActionModelFM(WIDTH, "tiny", 7, CHUNK - 1, 0)
    flow.net = net
    # Published code draws this noise on a GPU, whatever is passed.
    with mock.patch.object(respace.th, "randn", lambda *_, **__: torch.cat([noise, noise])):
        golden["sample.flow"] = sample(flow.create_ddim(10), 1.5)
    net.train()
    actions = golden["actions"].flatten(0, 1).repeat(8, 1, 1)
    conditions = torch.randn(BATCH * STEPS, CHUNK, WIDTH, requires_grad=True)
    flow_noise, time, dropped = draws_of(12, actions.shape[0], 10)
    torch.manual_seed(12)
    loss = flow.loss(actions, conditions.repeat(8, 1, 1))
    loss.backward()
    golden.update({"flow.noise": flow_noise, "flow.time": time.float() / 10, "flow.dropped": dropped.to(torch.uint8),
                   "flow.condition": conditions.detach(), "flow.loss": loss, "flow.gradient": conditions.grad})


def dump_schedule():
    """Betas and DDIM steps of diffusers."""
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(num_train_timesteps=100, beta_schedule="squaredcos_cap_v2", clip_sample=False,
                              set_alpha_to_one=True, prediction_type="epsilon")
    scheduler.set_timesteps(10)
    golden.update({"schedule.betas": scheduler.betas, "schedule.alpha_bar": scheduler.alphas_cumprod,
                   "schedule.timesteps": scheduler.timesteps.flip(0).contiguous()})
    x, epsilon = torch.randn(2, CHUNK, 7), torch.randn(2, CHUNK, 7)
    golden.update({"schedule.x": x, "schedule.epsilon": epsilon})
    for t in (90, 10, 0):
        golden[f"schedule.step_from_{t}"] = scheduler.step(epsilon, t, x, eta=0.0).prev_sample
    golden["schedule.noised"] = scheduler.add_noise(x, epsilon, torch.tensor([3, 77]))


def dump_losses():
    prediction, target = torch.randn(6, 20, requires_grad=True), torch.randn(6, 20)
    loss = (1 - F.cosine_similarity(prediction, target, dim=-1)).mean()
    loss.backward()
    golden.update({"cosine.prediction": prediction.detach(), "cosine.target": target, "cosine.loss": loss,
                   "cosine.gradient": prediction.grad})


torch.manual_seed(1)
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
dump_resampler()
dump_model()
dump_schedule()
dump_losses()
path = Path(__file__).parent / "golden" / "world_model.safetensors"
save_file({name: value.detach().clone().contiguous() for name, value in golden.items()}, path)
print(path.name, path.stat().st_size, "bytes;", {k: round(v.item(), 5) for k, v in golden.items() if k.startswith("loss.")})
