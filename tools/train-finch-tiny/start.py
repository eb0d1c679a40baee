"""Where training starts: token vectors from their letters and from what they stand next to.

`pre_ln` brings every token vector to one length. Two opposite components, which it then drops
(weight 0), take a share of that length, so that a sign or a digit starts out shorter than a word.
"""

from collections import defaultdict

import numpy as np
import torch

WINDOW = 5
# Spread of an element of the embedding table, for random vectors and for these.
SPREAD = 0.1
BALLAST = 2
# Length of neighbours' part, that of the letters' being 1.
NEIGHBOURS = 0.3
# Runs of letters that two tokens may have in common.
RUNS = (2, 3)
# Lengths at the start, words that follow a space having 1.
SIGN, DIGIT, INNER = 0.25, 0.5, 0.7


def random_vectors(model):
    torch.nn.init.normal_(model.rwkv.embeddings.weight, std=SPREAD)


def vectors_from_text(model, tokens, encoded, seed):
    """Fills the embedding table; gives the frequency of every id. In the head, one input that the
    output norm holds at 1 carries the log frequencies."""
    n_vocab, n_columns = model.rwkv.embeddings.weight.shape
    counts, near = co_occurrences(encoded, n_vocab)
    frequencies, width = counts / counts.sum(), n_columns - BALLAST
    vectors = unit(letters(tokens, width, seed) + NEIGHBOURS * neighbours(near, width))
    lengths = np.array([1.0] + [length(token) for token in tokens], np.float32)[:, None]
    ballast = np.sqrt((1 - lengths**2) / BALLAST)
    rows = np.hstack([ballast, -ballast, vectors * lengths]) * SPREAD * n_columns**0.5
    with torch.no_grad():
        model.rwkv.embeddings.weight.copy_(torch.from_numpy(rows))
        model.rwkv.blocks[0].pre_ln.weight[:BALLAST] = 0
        model.rwkv.ln_out.weight[0], model.rwkv.ln_out.bias[0] = 0, 1
        log_p = torch.tensor(np.log(frequencies), dtype=torch.float32)
        model.head.weight[:, 0] = log_p - log_p.mean()
    return frequencies


def unit(rows):
    rows = rows - rows.mean(1, keepdims=True)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-9)


def length(token):
    text = token.decode("latin-1").strip()
    if text.isdigit():
        return DIGIT
    if not any(c.isalpha() for c in text):
        return SIGN
    return INNER if token[:1].islower() else 1.0


def letters(tokens, width, seed):
    """Each run of letters has a random vector, a token their sum, whatever its case; [V, width]."""
    random = np.random.default_rng(seed)
    of_run = defaultdict(lambda: random.standard_normal(width))
    rows = [random.standard_normal(width)]
    for token in tokens:
        text = token.decode("latin-1").lower()
        text = ("^" if text[0] == " " else "") + text.strip()
        row = np.zeros(width)
        for n in RUNS:
            runs = [text[i : i + n] for i in range(len(text) - n + 1)] or [text]
            row += sum(of_run[run] for run in runs) / len(runs) ** 0.5
        rows.append(row)
    return unit(np.array(rows, np.float32))


def co_occurrences(encoded, n_vocab):
    """How often every id occurs, and near every other one."""
    counts, near = np.ones(n_vocab), np.zeros((n_vocab, n_vocab), np.float32)
    for ids in encoded:
        ids = np.array(ids)
        np.add.at(counts, ids, 1)
        for gap in range(1, WINDOW + 1):
            np.add.at(near, (ids[:-gap], ids[gap:]), 1 / gap)
    return counts, near + near.T


def neighbours(near, width):
    """The leading components of the positive pointwise mutual information, all of one size."""
    context = near.sum(0) ** 0.75 + 1e-6
    expected = near.sum(1, keepdims=True) * (context / context.sum())
    ppmi = np.log(np.maximum(near, 1e-9) / np.maximum(expected, 1e-9))
    ppmi = torch.from_numpy(np.maximum(ppmi, 0).astype(np.float32))
    u, _, _ = torch.svd_lowrank(ppmi - ppmi.mean(0), q=width, niter=3)
    return unit(u.numpy())
