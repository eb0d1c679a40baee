"""Finch (RWKV-6) in torch, with the tensor names and shapes of the Hugging Face checkpoints."""

import json
import math

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

import recurrence
import vocabulary

WIDTH, HEAD_SIZE, MIX_RANK, DECAY_RANK = 256, 64, 32, 64
EPS, HEAD_SIZE_DIVISOR = 1e-5, 8
# What readers of a checkpoint derive from the width.
WIDE = int(WIDTH * 3.5) // 32 * 32


def linear(n_in, n_out, gain):
    layer = nn.Linear(n_in, n_out, bias=False)
    nn.init.normal_(layer.weight, std=gain / math.sqrt(n_in))
    return layer


def previous(x):
    """Row t becomes row t-1, the first row zero; x [B, T, C]."""
    return F.pad(x, (0, 0, 1, -1))


class TimeMix(nn.Module):
    def __init__(self):
        super().__init__()
        place = torch.linspace(0, 1, WIDTH).view(1, 1, WIDTH)
        for letter, power in zip("xwkvrg", (0.5, 0.5, 0.5, 0.4, 0.6, 0.6)):
            setattr(self, "time_maa_" + letter, nn.Parameter(0.8 * (1 - place**power)))
        self.time_maa_w1 = nn.Parameter(torch.randn(WIDTH, 5 * MIX_RANK) * 0.01)
        self.time_maa_w2 = nn.Parameter(torch.randn(5, MIX_RANK, WIDTH) * 0.01)
        self.time_decay = nn.Parameter(-5 + 5 * place**0.9)
        self.time_decay_w1 = nn.Parameter(torch.randn(WIDTH, DECAY_RANK) * 0.01)
        self.time_decay_w2 = nn.Parameter(torch.randn(DECAY_RANK, WIDTH) * 0.01)
        self.time_faaaa = nn.Parameter(torch.full((WIDTH // HEAD_SIZE, HEAD_SIZE), 0.5))
        for name in ("receptance", "key", "value", "gate"):
            setattr(self, name, linear(WIDTH, WIDTH, 0.5))
        self.output = linear(WIDTH, WIDTH, 0.15)
        self.ln_x = nn.GroupNorm(WIDTH // HEAD_SIZE, WIDTH, eps=EPS * HEAD_SIZE_DIVISOR**2)

    def forward(self, a):
        b, t, c = a.shape
        change = previous(a) - a
        z = torch.tanh(torch.addcmul(a, change, self.time_maa_x) @ self.time_maa_w1)
        z = z.view(b * t, 5, MIX_RANK).transpose(0, 1)
        base = torch.stack([getattr(self, "time_maa_" + letter).view(1, c) for letter in "wkvrg"])
        mix = torch.baddbmm(base, z, self.time_maa_w2).view(5, b, t, c)
        xw, xk, xv, xr, xg = torch.addcmul(a, change, mix)
        decay = self.time_decay + torch.tanh(xw @ self.time_decay_w1) @ self.time_decay_w2
        per_head = [
            x.view(b, t, -1, HEAD_SIZE).transpose(1, 2)
            for x in (self.receptance(xr), self.key(xk), self.value(xv), -decay.exp())
        ]
        y = recurrence.chunked(*per_head, self.time_faaaa).transpose(1, 2)
        y = self.ln_x(y.reshape(b * t, c)).view(b, t, c)
        return self.output(y * F.silu(self.gate(xg)))


class ChannelMix(nn.Module):
    def __init__(self):
        super().__init__()
        place = torch.linspace(0, 1, WIDTH).view(1, 1, WIDTH)
        self.time_maa_k = nn.Parameter(0.8 * (1 - place**0.5))
        self.time_maa_r = nn.Parameter(0.8 * (1 - place**0.5))
        self.key, self.value = linear(WIDTH, WIDE, 0.7), linear(WIDE, WIDTH, 0.15)
        self.receptance = linear(WIDTH, WIDTH, 0.5)

    def forward(self, a):
        change = previous(a) - a
        k = self.key(torch.addcmul(a, change, self.time_maa_k))
        r = self.receptance(torch.addcmul(a, change, self.time_maa_r))
        return torch.sigmoid(r) * self.value(torch.relu(k).square())


class Block(nn.Module):
    def __init__(self, first):
        super().__init__()
        if first:
            self.pre_ln = nn.LayerNorm(WIDTH, eps=EPS)
        self.ln1, self.ln2 = nn.LayerNorm(WIDTH, eps=EPS), nn.LayerNorm(WIDTH, eps=EPS)
        self.attention, self.feed_forward = TimeMix(), ChannelMix()

    def forward(self, x):
        x = x + self.attention(self.ln1(x))
        return x + self.feed_forward(self.ln2(x))


class Finch(nn.Module):
    def __init__(self, n_vocab, n_layer):
        super().__init__()
        self.rwkv = nn.Module()
        self.rwkv.embeddings = nn.Embedding(n_vocab, WIDTH)
        self.rwkv.blocks = nn.ModuleList(Block(i == 0) for i in range(n_layer))
        self.rwkv.ln_out = nn.LayerNorm(WIDTH, eps=EPS)
        self.head = linear(WIDTH, n_vocab, 0.5)

    def embedded(self, ids):
        """What the first block reads, [B, T, C]."""
        return self.rwkv.blocks[0].pre_ln(self.rwkv.embeddings(ids))

    def stream(self, ids, n_blocks):
        """What the first blocks leave in the stream, one after the other: n_blocks of [B, T, C]."""
        x, states = self.embedded(ids), []
        for block in self.rwkv.blocks[:n_blocks]:
            x = block(x)
            states.append(x)
        return states

    def finish(self, x, n_blocks):
        """The output norm of what all blocks but the first leave of x [B, T, C]."""
        for block in self.rwkv.blocks[n_blocks:]:
            x = block(x)
        return self.rwkv.ln_out(x)

    def forward(self, ids):
        """What the head reads, [B, T, C]."""
        n_blocks = len(self.rwkv.blocks)
        return self.finish(self.stream(ids, n_blocks)[-1], n_blocks)


def write(folder, model, tokens):
    """The checkpoint in Hugging Face's layout, weights in bf16."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: p.detach().to(torch.bfloat16).contiguous() for name, p in model.named_parameters()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "rwkv_vocab_v20230424.txt").write_text(vocabulary.to_file(tokens), encoding="utf-8")
    config = {
        "architectures": ["Rwkv6ForCausalLM"],
        "attention_hidden_size": WIDTH,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "head_size": HEAD_SIZE,
        "head_size_divisor": HEAD_SIZE_DIVISOR,
        "hidden_size": WIDTH,
        "intermediate_size": None,
        "layer_norm_epsilon": EPS,
        "model_type": "rwkv6",
        "num_attention_heads": WIDTH // HEAD_SIZE,
        "num_hidden_layers": len(model.rwkv.blocks),
        "rescale_every": 6,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "vocab_size": len(tokens) + 1,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
