#!/usr/bin/env python3
"""Computes golden.json of a small Finch (RWKV-6) checkpoint in float64.

    python3 tools/make-golden.py tests/data/finch-fixture

Needs numpy only. Works on whole sequences with matrix products, reads safetensors and the
vocabulary by itself: nothing is shared with the Rust code it is to check.
"""

import argparse
import ast
import json
import struct
from pathlib import Path

import numpy as np

TEXTS = {
    "one-token": "a",
    "short": "The cat sat on the mat.",
    "paraphrase": "On the mat, the cat was sitting.",
    "long": (
        "Late in the winter the company said that its quarterly profit had grown by 12 percent, "
        "while sales in the north and in the west went down; the bank of the river was still "
        "under snow, and nobody knew how long the cold would last."
    ),
    "other-scripts": "Überall blüht's: 日本の春、世界 — 「€ 5」 не так \U0001f600\t\"ok\"\n\n",
}
STATE_OF = "short"
WEIGHT_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}


def read_safetensors(path):
    raw = path.read_bytes()
    (n,) = struct.unpack_from("<Q", raw)
    header = json.loads(raw[8 : 8 + n])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        start, end = entry["data_offsets"]
        data = raw[8 + n + start : 8 + n + end]
        if entry["dtype"] == "BF16":  # the upper half of a float32
            values = (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
        else:
            values = np.frombuffer(data, WEIGHT_TYPES[entry["dtype"]])
        tensors[name] = values.astype(np.float64).reshape(entry["shape"])
    return tensors


def read_vocabulary(path):
    tokens = {}
    for line in path.read_text(encoding="utf-8").split("\n"):
        if line:
            number, rest = line.split(" ", 1)
            text = ast.literal_eval(rest.rsplit(" ", 1)[0])
            tokens[text if isinstance(text, bytes) else text.encode()] = int(number)
    return tokens


def tokenize(tokens, text):
    """Greedy longest match over the UTF-8 bytes."""
    raw, ids = text.encode(), []
    longest = max(map(len, tokens))
    while raw:
        n = next(n for n in range(longest, 0, -1) if raw[:n] in tokens)
        ids.append(tokens[raw[:n]])
        raw = raw[n:]
    return ids


def norm(x, eps):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt(np.square(x).mean(-1, keepdims=True) + eps)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def previous(x):
    """Row t holds row t-1 of x; the first row is zero."""
    return np.vstack([np.zeros_like(x[:1]), x[:-1]])


class Finch:
    def __init__(self, folder):
        self.tensors = {}
        for path in sorted(folder.glob("*.safetensors")):
            self.tensors.update(read_safetensors(path))
        config = json.loads((folder / "config.json").read_text())
        self.n_layer = config["num_hidden_layers"]
        self.eps = config["layer_norm_epsilon"]
        self.head_eps = self.eps * config["head_size_divisor"] ** 2

    def layer_norm(self, name, x):
        return norm(x, self.eps) * self.tensors[name + ".weight"] + self.tensors[name + ".bias"]

    def run(self, ids):
        """Hidden [n_layer + 1, T, C], logits of the last token [V], state of every layer."""
        x = self.layer_norm("rwkv.blocks.0.pre_ln", self.tensors["rwkv.embeddings.weight"][ids])
        hidden, state = [], []
        for i in range(self.n_layer):
            block = f"rwkv.blocks.{i}."
            a = self.layer_norm(block + "ln1", x)
            mixed, wkv = self.time_mix(block + "attention.", a)
            x = x + mixed
            f = self.layer_norm(block + "ln2", x)
            x = x + self.channel_mix(block + "feed_forward.", f)
            hidden.append(x)
            state.append({"time_shift": a[-1], "wkv": wkv, "channel_shift": f[-1]})
        hidden.append(self.layer_norm("rwkv.ln_out", x))
        return np.array(hidden), self.tensors["head.weight"] @ hidden[-1][-1], state

    def time_mix(self, room, a):
        def get(leaf):
            return self.tensors[room + leaf]

        steps, width = a.shape
        n_head, size = get("time_faaaa").shape
        sx = previous(a) - a
        z = np.tanh((a + sx * get("time_maa_x")[0]) @ get("time_maa_w1"))
        z = z.reshape(steps, 5, -1)
        offsets = np.einsum("tne,nec->ntc", z, get("time_maa_w2"))
        base = np.stack([get("time_maa_" + letter)[0] for letter in "wkvrg"])
        xw, xk, xv, xr, xg = a + sx * (offsets + base)

        heads = (steps, n_head, size)
        r = (xr @ get("receptance.weight").T).reshape(heads)
        k = (xk @ get("key.weight").T).reshape(heads)
        v = (xv @ get("value.weight").T).reshape(heads)
        g = xg @ get("gate.weight").T
        decay = get("time_decay")[0] + np.tanh(xw @ get("time_decay_w1")) @ get("time_decay_w2")
        w = np.exp(-np.exp(decay)).reshape(heads)

        bonus = get("time_faaaa")[:, :, None]
        memory = np.zeros((n_head, size, size))  # [head, key, value]
        y = np.empty(heads)
        for t in range(steps):
            outer = k[t][:, :, None] * v[t][:, None, :]
            y[t] = np.einsum("hi,hij->hj", r[t], bonus * outer + memory)
            memory = w[t][:, :, None] * memory + outer

        y = norm(y, self.head_eps).reshape(steps, width)
        y = y * get("ln_x.weight") + get("ln_x.bias")
        return (y * g * sigmoid(g)) @ get("output.weight").T, memory

    def channel_mix(self, room, f):
        def get(leaf):
            return self.tensors[room + leaf]

        sx = previous(f) - f
        k = np.maximum((f + sx * get("time_maa_k")[0]) @ get("key.weight").T, 0)
        r = sigmoid((f + sx * get("time_maa_r")[0]) @ get("receptance.weight").T)
        return r * (np.square(k) @ get("value.weight").T)


def as_json(values):
    """Numbers of 14 significant digits, one row of a matrix a line."""
    if values.ndim > 1:
        return "[\n" + ",\n".join(as_json(row) for row in values) + "\n]"
    return "[" + ",".join(f"{value:.14g}" for value in values) + "]"


def golden(folder):
    model = Finch(folder)
    tokens = read_vocabulary(next(folder.glob("*vocab*.txt")))
    parts = []
    for name, text in TEXTS.items():
        ids = tokenize(tokens, text)
        hidden, logits, state = model.run(ids)
        fields = {
            "name": json.dumps(name),
            "text": json.dumps(text),
            "token_ids": json.dumps(ids),
            "mean_hidden": as_json(hidden.mean(1)),
            "last_hidden": as_json(hidden[:, -1]),
            "max_hidden": as_json(hidden.max(1)),
            "last_logits": as_json(logits),
        }
        if name == STATE_OF:
            for part in state[0]:
                values = np.stack([layer[part].ravel() for layer in state])
                fields["state_" + part] = as_json(values)
        body = ",\n".join(f'"{key}": {value}' for key, value in fields.items())
        parts.append("{\n" + body + "\n}")
    about = "float64, no rescaling; row i of a *_hidden is after block i, the last after ln_out"
    return f'{{\n"about": "{about}",\n"texts": [\n' + ",\n".join(parts) + "\n]\n}\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folder", type=Path, help="checkpoint; golden.json is written into it")
    folder = parser.parse_args().folder
    (folder / "golden.json").write_text(golden(folder), encoding="utf-8")


if __name__ == "__main__":
    main()
