"""Trains a small Finch (RWKV-6) on plain text and writes it in the Hugging Face layout.

    python3 tools/train-finch-tiny models/finch-tiny a.txt b.txt --wordnet /usr/share/wordnet

Needs torch, numpy and safetensors. A text file holds one paragraph a line; WordNet is the folder of
its data and index files (Debian: wordnet-base).

1. A World-format vocabulary is cut from the text. Token vectors start from
   the tokens' letters and from co-occurrence counts.
2. Stage one trains next-token prediction, on three blocks, which are then doubled.
3. Stage two puts six new blocks below. Those learn to make the mean of a sentence's hidden states
   tell sentences apart (pairs.py, similarity.py), the others to predict the next token from them.

A run stopped at any time goes on from its last checkpoint (--state) when started again.
"""

import argparse
import json
import math
import os
import random
import time
from pathlib import Path

import torch
from torch import nn

import language
import model as finch
import pairs
import recurrence
import similarity
import start
import text
import vocabulary

N_VOCAB = 4096
HELD_OUT = 50  # one paragraph in so many is never trained on
STAGE_ONE_LAYERS, LOWER = 3, 6
WARM_UP = 20


class Material:
    """Everything that is made from the text: the same for the same files."""

    def __init__(self, args):
        forbidden = text.Forbidden(args.never)
        paragraphs, met = text.read_paragraphs(args.texts, forbidden)
        wordnet = text.WordNet(args.wordnet)
        self.glosses = [pair for pair in wordnet.pairs if not forbidden.met(pair[1])]
        self.synonyms = wordnet.synonyms
        self.held = paragraphs[::HELD_OUT]
        self.train = [p for i, p in enumerate(paragraphs) if i % HELD_OUT]
        self.tokens = vocabulary.cut(self.train + [gloss for _, gloss in self.glosses], N_VOCAB)
        self.tokenizer = vocabulary.Tokenizer(self.tokens)
        self.rows = language.Rows(self.train, self.tokenizer)
        self.held_rows = language.Rows(self.held, self.tokenizer).all()
        log(paragraphs=len(paragraphs), dropped=met, glosses=len(self.glosses),
            tokens=sum(len(part) for part, _ in self.rows.parts), held_out_rows=len(self.held_rows))

    def for_counts(self):
        yield from (self.tokenizer(p) for p in self.train)
        yield from (self.tokenizer(f"{words}: {gloss}") for words, gloss in self.glosses)


def log(**fields):
    print(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in fields.items()}), flush=True)


class Run:
    """What a checkpoint holds: the model, its optimizer, where the run is, the random numbers."""

    def __init__(self, args):
        self.args, self.random = args, random.Random(args.seed)
        torch.manual_seed(args.seed)
        self.stage, self.step, self.seen, self.frequencies = 1, 0, 0, None
        self.use(finch.Finch(N_VOCAB, STAGE_ONE_LAYERS))

    def use(self, model):
        self.model = model
        matrices = [p for p in model.parameters() if p.dim() == 2]
        others = [p for p in model.parameters() if p.dim() != 2]
        groups = [{"params": matrices, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98), fused=True)
        self.warm = self.step + WARM_UP

    def update(self, loss, rate):
        rate *= min(1, 1 - (self.warm - self.step - 1) / WARM_UP)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        if not math.isfinite(loss.item()):
            raise SystemExit(f"stage {self.stage}, step {self.step}: the loss is {loss.item()}; lower the rate")
        self.optimizer.step()
        self.step += 1

    def save(self):
        state = {
            "layers": len(self.model.rwkv.blocks), "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(), "random": self.random.getstate(),
            "torch": torch.get_rng_state(), "frequencies": self.frequencies,
            **{k: getattr(self, k) for k in ("stage", "step", "seen", "warm")},
        }
        torch.save(state, f"{self.args.state}.part")
        os.replace(f"{self.args.state}.part", self.args.state)

    def load(self):
        state = torch.load(self.args.state, weights_only=False)
        self.use(finch.Finch(N_VOCAB, state["layers"]))
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.random.setstate(state["random"])
        torch.set_rng_state(state["torch"])
        self.frequencies = state["frequencies"]
        for name in ("stage", "step", "seen", "warm"):
            setattr(self, name, state[name])
        log(resumed=self.args.state, stage=self.stage, step=self.step)


def stage_one(run, material):
    args, saved = run.args, time.monotonic()
    while run.step < args.steps:
        ids = material.rows.batch(args.batch, run.random)
        loss = language.loss(run.model, run.model(ids), ids)
        done = run.step / args.steps
        run.update(loss, args.rate * (1 - 0.75 * done))
        run.seen += ids.numel()
        if run.step % 20 == 0:
            log(step=run.step, loss=loss.item(), cpu_s=time.process_time())
        if time.monotonic() - saved > 60 or run.step == args.steps:
            run.save()
            saved = time.monotonic()
    log(held_out=language.held_out(run.model, material.held_rows))
    run.stage, run.step = 2, 0
    run.model.double()
    run.model.underlay()
    run.use(run.model)
    run.save()


def stage_two(run, material):
    args, saved = run.args, time.monotonic()
    maker = pairs.Maker(material.train, material.synonyms, run.random)
    while run.step < args.pair_steps:
        batch = similarity.Batch(maker, material.glosses, material.tokenizer, args.sentences, args.definitions)
        apart, contrast = similarity.version_losses(run.model.stream(batch.ids, LOWER), batch)
        definitions = similarity.definition_loss(run.model.stream(batch.definition_ids, LOWER), batch)
        rows = material.rows.batch(args.pair_rows, run.random)
        with torch.no_grad():
            below = run.model.stream(rows, LOWER)[-1]
        lm = language.loss(run.model, run.model.finish(below, LOWER), rows)
        loss = lm + 4 * apart + 0.3 * contrast + 0.2 * definitions
        run.update(loss, args.pair_rate * (1 - run.step / args.pair_steps))
        run.seen += rows.numel() + int((batch.ids != 0).sum() + (batch.definition_ids != 0).sum())
        if run.step % 5 == 0:
            log(step=run.step, lm=lm.item(), apart=apart.item(), contrast=contrast.item(),
                definitions=definitions.item(), cpu_s=time.process_time())
        if time.monotonic() - saved > 60 or run.step == args.pair_steps:
            run.save()
            saved = time.monotonic()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("texts", nargs="+", help="text files, one paragraph a line")
    parser.add_argument("--wordnet", required=True, help="folder of WordNet's data.* and index.* files")
    parser.add_argument("--never", nargs="*", default=[], help="TSV files whose texts must not be trained on")
    parser.add_argument("--twin", type=Path, help="folder for the same model with its random start")
    parser.add_argument("--state", default="finch-tiny.pt", help="checkpoint, to go on from")
    parser.add_argument("--steps", type=int, default=220, help="steps of stage one")
    parser.add_argument("--batch", type=int, default=8, help="rows of 128 tokens a step of stage one")
    parser.add_argument("--rate", type=float, default=2.5e-3, help="learning rate of stage one")
    parser.add_argument("--pair-steps", type=int, default=60, help="steps of stage two")
    parser.add_argument("--sentences", type=int, default=10, help="sentences a step of stage two, in 4 versions each")
    parser.add_argument("--definitions", type=int, default=10, help="definitions a step of stage two")
    parser.add_argument("--pair-rate", type=float, default=1e-3, help="learning rate of stage two")
    parser.add_argument("--pair-rows", type=int, default=2, help="rows of 128 tokens a step of stage two")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def main():
    args = arguments()
    torch.set_num_threads(args.threads)
    # Decays end in numbers so small that the processor takes a hundred times as long over them.
    torch.set_flush_denormal(True)
    recurrence.check()
    material, run = Material(args), Run(args)
    if Path(args.state).exists():
        run.load()
    else:
        start.random_vectors(run.model)
        run.frequencies = start.vectors_from_text(run.model, material.tokens, material.for_counts(), args.seed)
        run.save()
        log(unigram=language.unigram(material.held_rows, run.frequencies), held_out=language.held_out(run.model, material.held_rows))
    if run.stage == 1:
        stage_one(run, material)
    if run.stage == 2:
        stage_two(run, material)
    finch.write(args.out, run.model, material.tokens)
    if args.twin:
        torch.manual_seed(args.seed)
        twin = finch.Finch(N_VOCAB, 2 * LOWER)
        start.random_vectors(twin)
        finch.write(args.twin, twin, material.tokens)
    log(stage=run.stage, tokens_seen=run.seen, held_out=language.held_out(run.model, material.held_rows),
        unigram=language.unigram(material.held_rows, run.frequencies))


if __name__ == "__main__":
    main()
