"""What the upper part of the model learns, and the measure of it: predicting the next token of running text."""

import torch
import torch.nn.functional as F

import text

ROW = 128


class Rows:
    """Stretches of running text that begin where a sentence does, as an embedded text does."""

    def __init__(self, paragraphs, tokenizer):
        self.parts = []
        for paragraph in paragraphs:
            for i, sentence in enumerate(text.sentences(paragraph)):
                self.parts.append((tokenizer(sentence), tokenizer((" " if i else "\n") + sentence)))

    def row(self, at):
        ids = list(self.parts[at][0])
        while len(ids) < ROW:
            at = (at + 1) % len(self.parts)
            ids += self.parts[at][1]
        return ids[:ROW]

    def batch(self, size, random):
        return torch.tensor([self.row(random.randrange(len(self.parts))) for _ in range(size)])

    def all(self):
        """Rows that cover the text about once."""
        at, rows = 0, []
        while at < len(self.parts):
            rows.append(self.row(at))
            n = 0
            while at < len(self.parts) and n < ROW:
                n += len(self.parts[at][1])
                at += 1
        return torch.tensor(rows)


def loss(model, final, ids):
    """Nats a token; final [B, T, C] is what the head reads of ids [B, T]."""
    return F.cross_entropy(model.head(final[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())


@torch.no_grad()
def held_out(model, rows):
    """Mean loss over rows [N, ROW]."""
    losses = [loss(model, model(ids), ids) * len(ids) for ids in rows.split(8)]
    return (sum(losses) / len(rows)).item()
