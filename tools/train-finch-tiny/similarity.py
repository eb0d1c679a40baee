"""Losses of stage two: the mean of a text's hidden states is to say how much two texts have in common."""

import torch
import torch.nn.functional as F

import pairs

VERSIONS = 4
TEMPERATURE = 0.05
# What counts as the same text to the contrastive loss.
SAME = 0.5
MAX_TOKENS, MAX_DEFINITION = 52, 24


def padded(rows):
    ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
    return ids


class Batch:
    """ids [n, T]: versions of sentences, the plain ones first; shares [n, n] says what they have in
    common. definition_ids [2 m, T]: terms, then their definitions."""

    def __init__(self, maker, glosses, tokenizer, sentences, definitions):
        places = maker.places(sentences)
        versions = [maker.plain(p) for p in places]
        versions += [maker.changed(p) for _ in range(VERSIONS - 1) for p in places]
        self.sentences = sentences
        self.ids = padded([tokenizer(v.text())[:MAX_TOKENS] for v in versions])
        words = [v.identities() for v in versions]
        self.shares = torch.tensor([[pairs.shared(a, b) for b in words] for a in words])
        terms, texts = zip(*maker.random.sample(glosses, definitions))
        self.definition_ids = padded([tokenizer(t)[:MAX_DEFINITION] for t in terms + texts])


def means(states, ids):
    keep = (ids != 0).unsqueeze(-1)
    return F.normalize((states * keep).sum(1) / keep.sum(1), dim=1)


def disagreement(cosines, shares):
    """One minus Pearson's correlation of the pairs' cosines with what they share."""
    x, y = cosines - cosines.mean(), shares - shares.mean()
    return 1 - (x * y).sum() / (x.norm() * y.norm() + 1e-6)


def contrast(cosines, same):
    """Each row is to find its partners among all others; cosines and same are [n, n]."""
    alone = torch.eye(len(cosines), dtype=torch.bool)
    scores = (cosines / TEMPERATURE).masked_fill(alone, -1e9)
    log_p = scores - torch.logsumexp(scores, 1, keepdim=True)
    same = same & ~alone
    rows = same.any(1)
    return -((log_p * same).sum(1)[rows] / same.sum(1)[rows]).mean()


def version_losses(states, batch):
    """Mean over the states of (disagreement, contrast); each state is [n, T, C]."""
    n, s = len(batch.ids), batch.sentences
    one_sentence = torch.arange(n)[:, None] % s == torch.arange(n)[None, :] % s
    i, j = one_sentence.triu(1).nonzero().T
    same = one_sentence & (batch.shares >= SAME)
    # Versions that share less than SAME are neither partners nor strangers.
    unclear = one_sentence & ~same
    apart = near = 0.0
    for state in states:
        e = means(state, batch.ids)
        cosines = e @ e.T
        apart += disagreement(cosines[i, j], batch.shares[i, j])
        near += contrast(cosines.masked_fill(unclear, -1.0), same)
    return apart / len(states), near / len(states)


def definition_loss(states, batch):
    n = len(batch.definition_ids)
    partner = (torch.arange(n)[:, None] - torch.arange(n)[None, :]).abs() == n // 2
    each = (means(state, batch.definition_ids) for state in states)
    return sum(contrast(e @ e.T, partner) for e in each) / len(states)
