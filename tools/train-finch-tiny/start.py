"""Where training starts: token vectors of letters, blocks that add nothing, frequencies in the head."""

import torch
from torch import nn

import letters

# Spread of an element of the embedding table.
SPREAD = 0.1
# `pre_ln` brings every token vector to one length. Two opposite elements, which it then drops
# (weight 0), take a share of that length, so that a token can learn to weigh less in a mean.
BALLAST, SHARE = 2, 0.6


def token_vectors(model, tokens, seed):
    width = model.rwkv.embeddings.weight.shape[1]
    vectors = torch.from_numpy(letters.token_vectors(tokens, width - BALLAST, seed))
    ballast = torch.full((len(vectors), 1), SHARE * BALLAST**-0.5)
    rows = torch.cat([ballast, -ballast, vectors * (1 - SHARE**2) ** 0.5], 1)
    with torch.no_grad():
        model.rwkv.embeddings.weight.copy_(rows * SPREAD * width**0.5)
        model.rwkv.blocks[0].pre_ln.requires_grad_(False).weight[:BALLAST] = 0


def silence(blocks):
    """The blocks add nothing to the stream yet: a text is the mean of its token vectors."""
    for block in blocks:
        nn.init.zeros_(block.attention.output.weight)
        nn.init.zeros_(block.feed_forward.value.weight)


def frequencies_in_head(model, rows):
    """One input of the head, which the output norm holds at 1, carries the log frequencies of the
    ids in rows: the first guess at a token is how common it is."""
    counts = 1 + torch.bincount(rows.flatten(), minlength=len(model.head.weight))
    log_p = (counts / counts.sum()).log()
    with torch.no_grad():
        model.rwkv.ln_out.weight[0], model.rwkv.ln_out.bias[0] = 0, 1
        model.head.weight[:, 0] = log_p - log_p.mean()
    return log_p
