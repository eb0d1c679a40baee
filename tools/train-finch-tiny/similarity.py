"""What the lower part of the model learns: how similar two texts are.

The measure blends that of a teacher (teacher.py) with the letters in common (letters.py): the first
alone holds two texts of one topic for the same, the second knows no synonym.
"""

import numpy as np
import torch
import torch.nn.functional as F

import groups
import letters

TEACHER = 0.3  # share of the teacher's measure
ALIKE = 1500  # groups of like length that a batch is drawn from, so that little is padding


class Texts:
    """Groups of texts with the similarities to learn, and their token ids as written and with
    signs set off: two spellings that are the same to both measures."""

    def __init__(self, made, teacher_vectors, tokenizer):
        texts = [text for group in made for text in group]
        self.teacher = teacher_vectors
        self.letters = torch.from_numpy(np.stack([letters.counts(t) for t in texts]).astype(np.float16))
        self.ids = [(tokenizer(t), tokenizer(groups.set_off(t))) for t in texts]
        longest = [max(len(self.ids[g * groups.SIZE + i][0]) for i in range(groups.SIZE)) for g in range(len(made))]
        self.by_length = sorted(range(len(made)), key=longest.__getitem__)

    def batch(self, size, random):
        """ids [n, T] of `size` groups, padded with 0, and the similarities [n, n] to learn."""
        first = random.randrange(len(self.by_length) - ALIKE + 1)
        chosen = random.sample(self.by_length[first : first + ALIKE], size)
        places = [g * groups.SIZE + i for g in chosen for i in range(groups.SIZE)]
        ids = padded([random.choice(self.ids[place]) for place in places])
        by_teacher, by_letters = self.teacher[places], self.letters[places].float()
        return ids, TEACHER * by_teacher @ by_teacher.T + (1 - TEACHER) * by_letters @ by_letters.T


def padded(rows):
    ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
    return ids


def loss(state, ids, wanted):
    """How far the cosines of mean-pooled rows of state [n, T, C] are from what is wanted [n, n]:
    among all texts, and among versions of one sentence, which differ least."""
    keep = (ids != 0).unsqueeze(-1)
    pooled = F.normalize((state * keep).sum(1) / keep.sum(1), dim=1)
    cosines = pooled @ pooled.T
    row, column = torch.triu_indices(len(ids), len(ids), 1)
    versions = row // groups.SIZE == column // groups.SIZE
    versions &= column % groups.SIZE < groups.VERSIONS
    cosines, wanted = cosines[row, column], wanted[row, column]
    return disagreement(cosines, wanted) + disagreement(cosines[versions], wanted[versions])


def disagreement(x, y):
    """One minus Pearson's correlation."""
    x, y = x - x.mean(), y - y.mean()
    return 1 - (x * y).sum() / (x.norm() * y.norm() + 1e-6)
