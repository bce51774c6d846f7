"""The image tokenizer of models/image_tokenizer/ and the masked pass of models/masked_autoencoder/ in plain PyTorch, as
one module with the parameter names of both.

The parity tests compare with it, and tests/bench trains it under DistributedDataParallel as the peer.
The masked pass is the textbook one (ConvMAE): a dense convolution over the whole map, masked cells zeroed
before each. Maps are NCHW in channels_last, what a CPU convolution wants.
"""
import torch
import torch.nn.functional as F
from torch import nn


def merge_cells(map):  # (B, C, H, W) -> (B, 4C, H/2, W/2), channels ordered (row, column, channel)
    b, c, h, w = map.shape
    x = map.permute(0, 2, 3, 1).reshape(b, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h // 2, w // 2, 4 * c).permute(0, 3, 1, 2)


def split_cells(map):
    b, c, h, w = map.shape
    x = map.permute(0, 2, 3, 1).reshape(b, h, w, 2, 2, c // 4).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(b, 2 * h, 2 * w, c // 4).permute(0, 3, 1, 2)


def tokens(map):  # (B, C, H, W) -> (B, H*W, C)
    return map.permute(0, 2, 3, 1).flatten(1, 2)


def as_map(rows):
    side = round(rows.shape[1] ** 0.5)
    return rows.unflatten(1, (side, side)).permute(0, 3, 1, 2)


def linear(layer, map):  # a 1x1 convolution, as the product it is
    return layer(map.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ResidualBlock(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x, mask=None):
        h = F.relu(x)
        h = F.relu(self.first(h if mask is None else h * mask))
        return x + self.second(h if mask is None else h * mask)


class ResidualBlocks(nn.ModuleList):
    def __init__(self, channels, count):
        super().__init__(ResidualBlock(channels) for _ in range(count))

    def forward(self, x, mask=None):
        for block in self:
            x = block(x, mask)
        return x


class Encoder(nn.Module):
    def __init__(self, width, coarse_blocks):
        super().__init__()
        self.stem = nn.Conv2d(12, width, 3, padding=1)
        self.fine = ResidualBlocks(width, 1)
        self.down = nn.Linear(4 * width, 2 * width)
        self.coarse = ResidualBlocks(2 * width, coarse_blocks)
        self.norm = nn.LayerNorm(2 * width)

    def forward(self, cells, mask=None):  # cells (B, 12, 2h, 2h), mask (B, 1, h, h) -> (B, L, 2 width)
        fine_mask = None if mask is None else mask.repeat_interleave(2, 2).repeat_interleave(2, 3)
        x = self.stem(cells if mask is None else cells * fine_mask)
        x = F.relu(self.fine(x, fine_mask))
        return self.norm(tokens(self.coarse(linear(self.down, merge_cells(x)), mask)))


class PixelDecoder(nn.Module):
    def __init__(self, latent_channels, width, coarse_blocks):
        super().__init__()
        self.from_latent = nn.Linear(latent_channels, 2 * width)
        self.coarse = ResidualBlocks(2 * width, coarse_blocks)
        self.up = nn.Linear(2 * width, 4 * width)
        self.fine = ResidualBlocks(width, 2)
        self.out = nn.Conv2d(width, 12, 3, padding=1)

    def forward(self, latents):
        x = self.coarse(as_map(self.from_latent(latents)))
        return self.out(F.relu(self.fine(split_cells(linear(self.up, F.relu(x))))))


class SemanticDecoder(nn.Module):
    def __init__(self, latent_channels, width, teacher_channels):
        super().__init__()
        self.from_latent = nn.Linear(latent_channels, 2 * width)
        self.blocks = ResidualBlocks(2 * width, 1)
        self.out = nn.Linear(8 * width, teacher_channels)

    def forward(self, latents):
        return tokens(linear(self.out, merge_cells(F.relu(self.blocks(as_map(self.from_latent(latents)))))))


class MaskedDecoder(nn.Module):
    def __init__(self, positions, channels, width):
        super().__init__()
        self.from_encoder = nn.Linear(channels, width)
        self.blocks = ResidualBlocks(width, 2)
        self.out = nn.Linear(width, 48)
        self.mask_token = nn.Parameter(torch.randn(width) * 0.02)
        self.position = nn.Parameter(torch.randn(positions, width) * 0.02)

    def forward(self, features, mask):  # (B, L, C), (B, L, 1): 1 visible
        x = self.from_encoder(features)
        x = torch.where(mask > 0, x, self.mask_token.to(x.dtype)) + self.position.to(x.dtype)
        return self.out(F.relu(tokens(self.blocks(as_map(x)))))


class ResidualQuantizer(nn.Module):
    def __init__(self, stages, size, channels, decay=0.98, dead_below=1.0, epsilon=1e-5):
        super().__init__()
        self.decay, self.dead_below, self.epsilon = decay, dead_below, epsilon
        self.register_buffer("codebooks", torch.randn(stages, size, channels) * 0.01)
        self.register_buffer("counts", torch.zeros(stages, size))
        self.register_buffer("averages", torch.zeros(stages, size, channels))

        self.differing, self.largest_excess = 0, 0.0  # of given codes

    @torch.no_grad()
    def quantize(self, latents, given=None):  # (N, d) -> codes (N, S), sums (S, N, d)
        """The nearest code of each stage, or the `given` ones (N, S). Of these it is kept how many are not the nearest,
        and by how much at most: the excess of squared distance over the squares of residual and nearest code vector."""
        residual, total, codes, sums = latents, torch.zeros_like(latents), [], []
        with torch.autocast(latents.device.type, enabled=False):
            for s, book in enumerate(self.codebooks):
                norms = book.square().sum(1)
                scores = torch.addmm(norms, residual, book.t(), beta=-0.5)
                code = scores.argmax(1)
                if given is not None:
                    nearest, code = code, given[:, s]
                    score = lambda which: scores.gather(1, which[:, None])[:, 0]
                    excess = 2 * (score(nearest) - score(code)) / (residual.square().sum(1) + norms[nearest])
                    self.differing += (nearest != code).sum().item()
                    self.largest_excess = max(self.largest_excess, excess.max().item())
                vectors = book[code]
                total, residual = total + vectors, residual - vectors
                codes.append(code)
                sums.append(total)
        return torch.stack(codes, 1), torch.stack(sums)

    @torch.no_grad()
    def statistics(self, latents, codes, sums, candidate_rows):
        """One flat buffer for one all-reduce: counts, sums, restart candidates."""
        stages, size, channels = self.codebooks.shape
        counts, totals = torch.zeros_like(self.counts), torch.zeros_like(self.averages)
        candidates = torch.zeros_like(self.averages)
        residual = latents
        for s in range(stages):
            counts[s] = torch.bincount(codes[:, s], minlength=size)
            totals[s].index_add_(0, codes[:, s], residual)
            rows = candidate_rows[s]
            candidates[s] = torch.where((rows >= 0)[:, None], residual[rows.clamp_min(0)], 0.0)
            residual = latents - sums[s]
        return torch.cat([counts.flatten(), totals.flatten(), candidates.flatten()])

    @torch.no_grad()
    def update(self, statistics):
        """Formulae of vector-quantize-pytorch (dump_codebook_updates.py), with a start from data, a stage a step."""
        counts, totals, candidates = statistics.split(
            [self.counts.numel(), self.averages.numel(), self.averages.numel()])
        candidates = candidates.view_as(self.averages)
        runs = self.counts.sum(1) > 0
        starts = ~runs & torch.cat([torch.ones(1, dtype=torch.bool, device=runs.device), runs[:-1]])
        runs = runs[:, None]
        self.counts.copy_(torch.where(
            runs, self.counts.lerp(counts.view_as(self.counts), 1 - self.decay), self.counts))
        self.averages.copy_(torch.where(
            runs[..., None], self.averages.lerp(totals.view_as(self.averages), 1 - self.decay), self.averages))
        total = self.counts.sum(1, keepdim=True)
        smoothed = (self.counts + self.epsilon) / (total + self.counts.shape[1] * self.epsilon) * total
        moves = runs & (self.counts >= 1e-3)
        self.codebooks.copy_(torch.where(moves[..., None], self.averages / smoothed[..., None], self.codebooks))
        replaced = (runs & (self.counts < self.dead_below)) | starts[:, None]
        count = max(self.dead_below, 1.0)
        self.counts.masked_fill_(replaced, count)
        self.averages.copy_(torch.where(replaced[..., None], candidates * count, self.averages))
        self.codebooks.copy_(torch.where(replaced[..., None], candidates, self.codebooks))


def cosine_fold_loss(features, teacher, folds):
    """Sum over rows of (1 - cos) + mean over folds of (1 - cos)."""
    f, t = features.float().unflatten(-1, (folds, -1)), teacher.float().unflatten(-1, (folds, -1))
    dot, ff, tt = (f * t).sum(-1), (f * f).sum(-1), (t * t).sum(-1)
    piece = dot * (ff * tt + 1e-8).rsqrt()
    whole = dot.sum(-1) * (ff.sum(-1) * tt.sum(-1) + 1e-8).rsqrt()
    return (1 - whole).sum() + (1 - piece).mean(-1).sum()


class ImageTokenizer(nn.Module):
    def __init__(self, latent_size=8, latent_channels=32, codebook_size=256, pixel_stages=4, semantic_stages=2,
                 width=64, encoder_blocks=3, decoder_blocks=3, masked_width=64, teacher_channels=1280, folds=4):
        super().__init__()
        self.side, self.folds = latent_size, folds
        self.encoder = Encoder(width, encoder_blocks)
        self.to_latent = nn.Linear(2 * width, latent_channels)
        self.quantizer = ResidualQuantizer(pixel_stages + semantic_stages, codebook_size, latent_channels)
        self.pixel_decoder = PixelDecoder(latent_channels, width, decoder_blocks)
        self.semantic_decoder = SemanticDecoder(latent_channels, width, teacher_channels)
        self.mimic_head = nn.Linear(2 * width, teacher_channels)
        self.masked_decoder = MaskedDecoder(latent_size ** 2, 2 * width, masked_width)

    def cells(self, images):  # (B, 3, S, S) -> (B, 12, S/2, S/2) in channels_last
        return merge_cells(images).contiguous(memory_format=torch.channels_last)

    def forward(self, images, pixel_depth, semantic_depth, visible, teacher, codes=None):
        """Five sums over targets, and what the codebook statistics need. `codes` are taken instead of the nearest."""
        batch, positions = images.shape[0], self.side ** 2
        cells = self.cells(images)
        latents = self.to_latent(self.encoder(cells)).float()  # (B, L, d)
        flat = latents.detach().flatten(0, 1)
        codes, sums = self.quantizer.quantize(flat, codes)
        per_image = sums.unflatten(1, (batch, positions))
        rows = torch.arange(batch)

        def at_depth(depth):
            return latents + (per_image[depth - 1, rows] - latents).detach()

        pixel = (self.pixel_decoder(at_depth(pixel_depth)).float() - cells).square().sum()
        commitment = (latents[None] - per_image).square().sum()
        semantic = cosine_fold_loss(self.semantic_decoder(at_depth(semantic_depth)), teacher, self.folds)

        mask = torch.zeros(batch, positions).scatter_(1, visible, 1.0)
        features = self.encoder(cells, mask.view(batch, 1, self.side, self.side).to(latents.dtype))
        half = self.side // 2
        place = visible // (2 * self.side) * half + visible % self.side // 2
        pick = lambda x, index: x.gather(1, index[..., None].expand(-1, -1, x.shape[2]))
        mimic = cosine_fold_loss(self.mimic_head(pick(features, visible)), pick(teacher, place), self.folds)
        patches = tokens(merge_cells(cells))
        output = self.masked_decoder(features, mask[..., None]).float()
        reconstruct = ((output - patches).square() * (1 - mask[..., None])).sum()
        return dict(pixel=pixel, commitment=commitment, semantic=semantic, mimic=mimic,
                    reconstruct=reconstruct), (flat, codes, sums)


def target_counts(images, visible, stages, latent_channels):
    batch, keep = visible.shape
    positions = (images.shape[2] // 4) ** 2
    return dict(pixel=images.numel(), commitment=stages * batch * positions * latent_channels,
                semantic=batch * positions // 4, mimic=batch * keep, reconstruct=batch * (positions - keep) * 48)
