"""Where training starts: token vectors from what the text's tokens stand next to."""

import numpy as np
import torch
import torch.nn.functional as F

WINDOW = 5
# Spread of an element of the embedding table, for random vectors and for these.
SPREAD = 0.1


def random_vectors(model):
    torch.nn.init.normal_(model.rwkv.embeddings.weight, std=SPREAD)


def vectors_from_counts(model, encoded):
    """The embedding table from co-occurrence counts (PPMI, SVD). In the head, one input that the
    output norm holds at 1 carries the log frequencies."""
    n_vocab, width = model.rwkv.embeddings.weight.shape
    counts, near = np.ones(n_vocab), np.zeros((n_vocab, n_vocab), np.float32)
    for ids in encoded:
        ids = np.array(ids)
        np.add.at(counts, ids, 1)
        for gap in range(1, WINDOW + 1):
            np.add.at(near, (ids[:-gap], ids[gap:]), 1 / gap)
    near += near.T
    context = near.sum(0) ** 0.75 + 1e-6
    expected = near.sum(1, keepdims=True) * (context / context.sum())
    ppmi = np.log(np.maximum(near, 1e-9) / np.maximum(expected, 1e-9))
    ppmi = torch.from_numpy(np.maximum(ppmi, 0).astype(np.float32))
    u, s, _ = torch.svd_lowrank(ppmi, q=width, niter=3)
    vectors = F.normalize(u * s.sqrt(), dim=1) * SPREAD * width**0.5
    with torch.no_grad():
        # Tokens that the text lacks keep their random vectors.
        met = torch.from_numpy(near.sum(1) > 0)
        model.rwkv.embeddings.weight[met] = vectors[met]
        model.rwkv.ln_out.weight[0], model.rwkv.ln_out.bias[0] = 0, 1
        log_p = torch.tensor(np.log(counts / counts.sum()), dtype=torch.float32)
        model.head.weight[:, 0] = log_p - log_p.mean()
    return counts / counts.sum()
