#!/usr/bin/env python3
"""Converts a .pth of Finch-1B6's shape, written by torch.save, and holds its memory below 1 GB and
its bytes to those that the same weights give as safetensors. Linux, or where a child's ru_maxrss is
in kilobytes.

    tools/check-memory.py RWKVQ DIR [PRESET ..]

RWKVQ is the binary; under DIR 9 GB are written, and removed at the end. Needs torch and Python 3.11.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

LIMIT_KB = 1_000_000


def run(arguments):
    """Runs a program to its end; its peak of resident memory in kB, which counts from this
    process's own at the start: torch is not imported here."""
    child = subprocess.Popen(arguments)
    _, status, usage = os.wait4(child.pid, 0)
    if status != 0:
        sys.exit(f"{arguments}: status {status}")
    return usage.ru_maxrss


def convert(rwkvq, source, out, presets):
    """Hashes of what the presets make of `source`, by file name, and the peak of memory."""
    chosen = [argument for preset in presets for argument in ("--preset", preset)]
    peak = run([rwkvq, "convert", source, *chosen, "-o", out])
    hashes = {}
    for path in sorted(out.iterdir()):
        with path.open("rb") as file:
            hashes[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    shutil.rmtree(out)
    return hashes, peak


def main():
    rwkvq, folder = sys.argv[1], Path(sys.argv[2])
    presets = sys.argv[3:] or ["q8_0", "q5_k", "q4_k"]
    work = folder / "rwkvq-check-memory"
    work.mkdir()
    try:
        run([rwkvq, "make-checkpoint", work / "finch", "--shape", "finch-1b6"])
        expected, peak = convert(rwkvq, work / "finch", work / "out", presets)
        print(f"safetensors: {peak / 1e3:.0f} MB")
        tool = Path(__file__).with_name("make-torch-checkpoints.py")
        run([sys.executable, tool, work / "finch", work, "--only", "pth"])
        shutil.rmtree(work / "finch")
        pth = work / "pth" / "finch.pth"
        found, peak = convert(rwkvq, pth, work / "out", presets)
        print(f".pth of {pth.stat().st_size / 1e9:.2f} GB: {peak / 1e3:.0f} MB")
        if found != expected:
            sys.exit(f"other bytes: {expected} and {found}")
        if peak >= LIMIT_KB:
            sys.exit("too much memory")
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
