"""The RWKV-6 recurrence in chunks of matrix products, and as it is defined, to check against."""

import torch
import torch.nn.functional as F

CHUNK = 16
# Decay of one step in nats, at most. Half a chunk of them stays within the range of f32, and what
# is left of a state after one such step (0.0003) is nothing a product notices.
MOST_DECAY = 8.0


def plain(r, k, v, log_w, u):
    """r, k, v, log_w [B, H, T, S] and u [H, S] to [B, H, T, S], step by step."""
    state, ys = torch.zeros_like(k[:, :, 0, :, None] * v[:, :, 0, None, :]), []
    for t in range(r.shape[2]):
        outer = k[:, :, t, :, None] * v[:, :, t, None, :]
        ys.append((r[:, :, t, :, None] * (u[:, :, None] * outer + state)).sum(-2))
        state = log_w[:, :, t, :, None].exp() * state + outer
    return torch.stack(ys, 2)


def chunked(r, k, v, log_w, u):
    """The same: products inside every chunk at once, then the states from chunk to chunk.

    A decay from step i to step j is exp(a_j - a_i) with a the running sum of log_w. It is split
    as exp(a_j - middle) * exp(middle - a_i), so an exponent spans half a chunk.
    """
    b, h, steps, size = r.shape
    log_w = log_w.clamp(min=-MOST_DECAY)
    if pad := -steps % CHUNK:
        r, k, v, log_w = (F.pad(x, (0, 0, 0, pad)) for x in (r, k, v, log_w))
    r, k, v, log_w = (x.reshape(b, h, -1, CHUNK, size) for x in (r, k, v, log_w))
    upto = log_w.cumsum(3)
    before, end = upto - log_w, upto[:, :, :, -1:]
    middle = upto[:, :, :, CHUNK // 2 - 1 : CHUNK // 2].detach()
    scores = (r * (before - middle).exp()) @ (k * (middle - upto).exp()).mT
    y = scores.tril(-1) @ v + (r * u[:, None, None] * k).sum(-1, True) * v
    added = (k * (end - upto).exp()).mT @ v
    kept = end.exp().mT
    state = torch.zeros_like(added[:, :, 0])
    states = [state]
    for n in range(added.shape[2] - 1):
        state = torch.addcmul(added[:, :, n], kept[:, :, n], state)
        states.append(state)
    y = y + (r * before.exp()) @ torch.stack(states, 2)
    return y.reshape(b, h, -1, size)[:, :, :steps]


def check():
    """Values and all gradients in float64; gives the largest difference."""
    random = torch.Generator().manual_seed(1)
    shape = (2, 3, 53, 8)
    r, k, v, w, weight = (torch.randn(shape, generator=random, dtype=torch.float64) for _ in range(5))
    u = torch.randn(3, 8, generator=random, dtype=torch.float64)
    leaves = [x.requires_grad_() for x in (r, k, v, -w.exp().clamp(max=MOST_DECAY), u)]
    results = []
    for form in (plain, chunked):
        y = form(*leaves)
        results.append((y, *torch.autograd.grad((y * weight).sum(), leaves)))
    worst = max((a - b).abs().max().item() for a, b in zip(*results))
    if not worst < 1e-9:
        raise SystemExit(f"the chunked and the plain recurrence differ by {worst:.1e}")
    return worst
