"""Stages of training that can be stopped and gone on with."""

import json
import math
import os
import random
import time

import torch
from torch import nn

WARM_UP = 20
SAVE_EVERY = 60  # seconds
LAST_RATE = 0.1  # share of the rate that is left at the end of a stage


def log(**fields):
    print(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in fields.items()}), flush=True)


class Run:
    def __init__(self, model, path, seed):
        self.model, self.path, self.random = model, path, random.Random(seed)
        self.done, self.kept = [], None
        if path.exists():
            self.kept = torch.load(path, weights_only=False)
            self.done = self.kept["done"]
            model.load_state_dict(self.kept["model"])
            self.random.setstate(self.kept["random"])

    def stage(self, name, loss_of_step, parts, steps, rate):
        """Minimizes loss_of_step(self) over the parameters of the parts, unless an earlier run did."""
        if name in self.done:
            return
        parameters = [p for part in parts for p in part.parameters() if p.requires_grad]
        matrices = [p for p in parameters if p.dim() == 2]
        others = [p for p in parameters if p.dim() != 2]
        decay = [{"params": matrices, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(decay, lr=rate, betas=(0.9, 0.98), fused=True)
        first = 0
        if self.kept and self.kept["stage"] == name:
            first = self.kept["step"]
            optimizer.load_state_dict(self.kept["optimizer"])
        saved = time.monotonic()
        for step in range(first, steps):
            part = step / steps
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1, (step + 1) / WARM_UP) * (1 - (1 - LAST_RATE) * part)
            loss = loss_of_step(self)
            if not math.isfinite(loss.item()):
                raise SystemExit(f"stage {name}, step {step}: the loss is {loss.item()}; lower the rate")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            if step % 10 == 9:
                log(stage=name, step=step + 1, loss=loss.item(), cpu_s=time.process_time())
            if time.monotonic() - saved > SAVE_EVERY:
                self.save(name, step + 1, optimizer)
                saved = time.monotonic()
        self.done.append(name)
        self.save(name, steps, optimizer)

    def save(self, name, step, optimizer):
        state = {
            "stage": name, "step": step, "done": self.done, "model": self.model.state_dict(),
            "optimizer": optimizer.state_dict(), "random": self.random.getstate(),
        }
        part = self.path.with_suffix(".part")
        torch.save(state, part)
        os.replace(part, self.path)
