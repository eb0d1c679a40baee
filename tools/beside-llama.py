#!/usr/bin/env python3
"""Embeds the same texts from the same GGUF with rwkvq and with llama-embedding, in turn.

    tools/beside-llama.py RWKVQ LLAMA_EMBEDDING TEXTS GGUF .. [--rounds 5] [--threads 2]

TEXTS has one text a line. For each GGUF and round both programs run once and rwkvq once more for
layers 1, 3, 5, 7, 9 and 11, which llama-embedding does not offer. The answers are compared first:
the cosine of the mean-pooled last embedding of each text.

The load counts on neither side. llama-embedding's log says when it begins to compute and when it
has finished, with the answers printed; what it prints of its own speed divides all tokens by the
time of the last batch. For rwkvq the run of the first text alone is taken off, and that text's
tokens with it. Rates and seconds are medians, peaks of memory the greatest. Only Python's
standard library is needed. Linux, or where a child's ru_maxrss is in kilobytes.
"""

import argparse
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

HALF = "1,3,5,7,9,11"


def run(arguments):
    """Seconds, peak of resident memory in MB, stdout and stderr of a program."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as log:
        start = time.perf_counter()
        child = subprocess.Popen(arguments, stdout=out, stderr=log)
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
        text = [stream.seek(0) or stream.read().decode(errors="replace") for stream in (out, log)]
    if child.returncode != 0:
        sys.exit(f"{arguments}: exit status {child.returncode}\n{text[1][-2000:]}")
    return seconds, usage.ru_maxrss / 1000, *text


class Own:
    """rwkvq embed."""

    def __init__(self, program, model, texts, first, threads):
        self.command = [program, "embed", model, "--threads", threads, "--device", "cpu"]
        self.texts, self.first = texts, first

    def embed(self, layers):
        """Tokens a second, seconds of the first text alone, peak in MB, the records of all texts."""
        command = [*self.command, "--layers", layers, "-i"]
        load, _, _, _ = run([*command, self.first])
        seconds, peak, out, _ = run([*command, self.texts])
        records = [json.loads(line) for line in out.strip("\n").split("\n")]
        tokens = sum(record["n_tokens"] for record in records[1:])
        return tokens / (seconds - load), load, peak, records


class Llama:
    """llama-embedding."""

    def __init__(self, program, model, texts, threads):
        self.command = [program, "-m", model, "-f", texts, "-t", threads, "-tb", threads]
        self.command += ["--pooling", "mean", "--embd-output-format", "array", "-lv", "5", "--perf"]

    def embed(self):
        """Tokens a second, seconds before the first batch, peak in MB, the embeddings."""
        _, peak, out, log = run(self.command)
        lines = log.split("\n")
        batches = [line for line in lines if "batch_decode: n_tokens" in line]
        end = next(line for line in lines if "llama_perf_context_print:" in line)
        tokens = sum(int(re.search(r"n_tokens = (\d+)", line)[1]) for line in batches)
        start = stamp(batches[0])
        return tokens / (stamp(end) - start), start, peak, json.loads(out)


def stamp(line):
    """Seconds at which a line of the log was written: minutes, seconds, milli- and microseconds."""
    minutes, seconds, milli, micro = map(int, line.split()[0].split("."))
    return 60 * minutes + seconds + milli / 1e3 + micro / 1e6


def cosine(a, b):
    dot = sum(x * y for x, y in zip(a, b))
    return dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def spread(values, digits=0):
    low, middle, high = (f"{x:.{digits}f}" for x in (min(values), median(values), max(values)))
    return f"{middle} ({low} to {high})"


def compare(model, own, llama, rounds):
    """Prints each round and the medians."""
    rates = {"own": [], "half": [], "llama": []}
    loads, peaks = ([], []), ([], [])
    for i in range(rounds):
        rate, load, peak, answers = llama.embed()
        rates["llama"].append(rate)
        loads[1].append(load)
        peaks[1].append(peak)
        rate, load, peak, records = own.embed("final")
        rates["own"].append(rate)
        loads[0].append(load)
        peaks[0].append(peak)
        if i == 0:
            cosines = [cosine(r["embeddings"]["final"], a) for r, a in zip(records, answers, strict=True)]
            print(f"{model}: {len(cosines)} cosines, {spread(cosines, 5)}", flush=True)
        rates["half"].append(own.embed(HALF)[0])
        rounded = ", ".join(f"{name} {values[-1]:.1f}" for name, values in rates.items())
        print(f"{model}, round {i + 1}: {rounded}", flush=True)
    ratios = [[a / b for a, b in zip(rates[kind], rates["llama"])] for kind in ("own", "half")]
    cells = [spread(rates[kind]) for kind in ("own", "half", "llama")]
    cells += [spread(ratio, 2) for ratio in ratios]
    cells.append(" and ".join(f"{median(seconds):.2f}" for seconds in loads))
    cells.append(" and ".join(f"{max(peak):.0f}" for peak in peaks))
    print("| " + " | ".join([Path(model).stem, *cells]) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rwkvq")
    parser.add_argument("llama_embedding")
    parser.add_argument("texts", type=Path)
    parser.add_argument("models", nargs="+", metavar="GGUF")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", default="2")
    args = parser.parse_args()
    lines = args.texts.read_text(encoding="utf-8").strip("\n").split("\n")
    if len(lines) < 2:
        sys.exit(f"{args.texts}: give two texts or more, the first of which is taken off")
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as first:
        first.write(lines[0] + "\n")
        first.flush()
        for model in args.models:
            own = Own(args.rwkvq, model, args.texts, first.name, args.threads)
            llama = Llama(args.llama_embedding, model, args.texts, args.threads)
            compare(model, own, llama, args.rounds)


if __name__ == "__main__":
    main()
