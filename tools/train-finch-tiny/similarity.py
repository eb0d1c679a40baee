"""Stage two: the mean of a text's hidden states is to say how much two texts have in common."""

import torch
import torch.nn.functional as F

import pairs

DEPTHS = 6
VERSIONS = 4
TEMPERATURE, SHARPNESS = 0.05, 20.0
# Below this difference of what they share two pairs are not put in order.
MARGIN = 0.04
# What counts as the same text to the contrastive loss.
SAME = 0.5
MAX_TOKENS, MAX_DEFINITION = 52, 24


def layers(n):
    """The hidden states whose means are trained: at most six on the way, and after the output
    norm. Doubling a model of six layers keeps them: state i becomes state 2 i + 1."""
    return [i for i in range(n) if (i + 1) * DEPTHS % n == 0] + [n]


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


def in_order(cosines, shares):
    """Of two pairs the one that shares more is to have the larger cosine."""
    wrong = (cosines[:, None] - cosines[None, :]) * SHARPNESS  # [i, j]: i above j
    wrong = wrong[shares[None, :] > shares[:, None] + MARGIN]
    return F.softplus(torch.logsumexp(wrong, 0)) if len(wrong) else cosines.sum() * 0


def contrast(cosines, same):
    """Each row is to find its partners among all others; cosines and same are [n, n]."""
    alone = torch.eye(len(cosines), dtype=torch.bool)
    scores = (cosines / TEMPERATURE).masked_fill(alone, -1e9)
    log_p = scores - torch.logsumexp(scores, 1, keepdim=True)
    same = same & ~alone
    rows = same.any(1)
    return -((log_p * same).sum(1)[rows] / same.sum(1)[rows]).mean()


def version_losses(states, batch):
    """Mean over the layers of (order, contrast); states: n_layer + 1 of [n, T, C]."""
    n, s = len(batch.ids), batch.sentences
    upper = torch.ones(n, n, dtype=torch.bool).triu(1)
    one_sentence = torch.arange(n)[:, None] % s == torch.arange(n)[None, :] % s
    # All pairs of versions of one sentence, and as many of different ones.
    own = (upper & one_sentence).nonzero()
    others = (upper & ~one_sentence).nonzero()
    others = others[torch.linspace(0, len(others) - 1, len(own)).long()]
    i, j = torch.cat([own, others]).T
    same = one_sentence & (batch.shares >= SAME)
    # Versions that share less than SAME are neither partners nor strangers.
    unclear = one_sentence & ~same
    order = near = 0.0
    chosen = layers(len(states) - 1)
    for layer in chosen:
        e = means(states[layer], batch.ids)
        cosines = e @ e.T
        order += in_order(cosines[i, j], batch.shares[i, j])
        near += contrast(cosines.masked_fill(unclear, -1.0), same)
    return order / len(chosen), near / len(chosen)


def definition_loss(states, batch):
    n = len(batch.definition_ids)
    partner = (torch.arange(n)[:, None] - torch.arange(n)[None, :]).abs() == n // 2
    chosen = layers(len(states) - 1)
    each = (means(states[layer], batch.definition_ids) for layer in chosen)
    return sum(contrast(e @ e.T, partner) for e in each) / len(chosen)
