#!/usr/bin/env python3
"""Writes tests/data/metrics_golden.json: SciPy's answers on seeded and hand-made inputs.

The bootstrap's generator, ChaCha8, is written out here from its definition, so that SciPy ranks
and correlates the very resamples that the library draws from a seed.

Needs numpy and scipy. Run from the repository root:

    python3 tools/make-metrics-golden.py > tests/data/metrics_golden.json
"""

import json
import sys

import numpy as np
import scipy
from scipy import stats

rng = np.random.default_rng(20250131)


def correlations():
    """Inputs with and without ties, tiny and long, and of extreme scale."""
    n = 200
    x = rng.normal(size=n)
    cases = {
        "independent normals": (x, rng.normal(size=n)),
        "related normals": (x, 0.6 * x + rng.normal(size=n)),
        "binary label": (x, (x + 2 * rng.normal(size=n) > 0).astype(float)),
        "graded label, rounded scores": (np.round(x, 1), np.clip(np.round(2.5 + x), 0, 5)),
        "heavy ties on both sides": (rng.integers(0, 3, 60), rng.integers(0, 4, 60)),
        "two points": ([1.0, 2.0], [5.0, -1.0]),
        "three points, one tie": ([1.0, 1.0, 2.0], [3.0, 4.0, 5.0]),
        "large offset": (x + 1e6, x**3),
        "small scale": (x * 1e-8, np.exp(x)),
        "negative zero": ([0.0, -0.0, 1.0, 2.0], [1.0, 2.0, 3.0, 4.0]),
        "cosines close to one": (1 - np.abs(x) * 1e-9, x),
    }
    for name, (x, y) in cases.items():
        x, y = np.asarray(x, float), np.asarray(y, float)
        yield {
            "name": name,
            "x": x.tolist(),
            "y": y.tolist(),
            "pearson": float(stats.pearsonr(x, y)[0]),
            "spearman": float(stats.spearmanr(x, y)[0]),
            "ranks_x": stats.rankdata(x).tolist(),
        }


def intervals():
    """Percentile bootstrap intervals of Spearman, 40,000 resamples of another generator."""
    for name, n in (("binary", 408), ("graded", 120)):
        x = rng.normal(size=n)
        noise = rng.normal(size=n)
        y = (x + 2 * noise > 0).astype(float) if name == "binary" else np.clip(np.round(2.5 + x + noise), 0, 5)
        other = x + 0.5 * rng.normal(size=n)

        def rho(x, y):
            return stats.spearmanr(x, y)[0]

        def difference(x, other, y):
            return rho(x, y) - rho(other, y)

        options = dict(paired=True, vectorized=False, n_resamples=40_000, method="percentile", rng=rng)
        own = stats.bootstrap((x, y), rho, **options).confidence_interval
        gap = stats.bootstrap((x, other, y), difference, **options).confidence_interval
        yield {
            "name": name,
            "x": x.tolist(),
            "other": other.tolist(),
            "y": y.tolist(),
            "spearman_ci95": [float(own.low), float(own.high)],
            "difference": float(difference(x, other, y)),
            "difference_ci95": [float(gap.low), float(gap.high)],
        }


def chacha8_words(seed, stream, count):
    """The first `count` 64-bit words of stream `stream` of ChaCha8, keyed by a 64-bit seed.

    The key is the 32 bytes that rand_core's `seed_from_u64` makes of the seed with PCG32. A block
    (Bernstein 2008) is 16 words of 32 bits: 4 constants, 8 of the key, a counter of 2 and the
    stream in 2; 8 rounds are 4 double rounds. Two words make one of 64 bits, the low one first.
    """
    mask32, mask64 = 2**32 - 1, 2**64 - 1
    key, state = [], seed
    for _ in range(8):
        state = (state * 6364136223846793005 + 11634580027462260723) & mask64
        shifted = (((state >> 18) ^ state) >> 27) & mask32
        turn = state >> 59
        key.append((shifted >> turn | shifted << (32 - turn)) & mask32)
    words = []
    for block in range((count + 7) // 8):
        start = [0x61707865, 0x3320646E, 0x79622D32, 0x6B206574, *key]
        start += [block & mask32, block >> 32, stream & mask32, stream >> 32]
        x = start.copy()

        def quarter(a, b, c, d):
            for left, right, target, turn in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
                x[left] = (x[left] + x[right]) & mask32
                mixed = x[target] ^ x[left]
                x[target] = (mixed << turn | mixed >> (32 - turn)) & mask32

        for _ in range(4):
            for i in range(4):
                quarter(i, 4 + i, 8 + i, 12 + i)
            for i in range(4):
                quarter(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
        out = [(a + b) & mask32 for a, b in zip(x, start)]
        words += [low | high << 32 for low, high in zip(out[::2], out[1::2])]
    return words[:count]


def seeded_intervals():
    """SciPy's Spearman on the library's own resamples, and NumPy's quantiles of the results."""
    own = np.random.default_rng(20250132)
    for name, n, resamples, seed in (("binary", 60, 400, 42), ("graded", 41, 300, 2**63 + 5)):
        x = np.round(own.normal(size=n), 1)
        other = np.round(x + 0.5 * own.normal(size=n), 1)
        noise = own.normal(size=n)
        y = (x + 2 * noise > 0).astype(float) if name == "binary" else np.clip(np.round(2.5 + x + noise), 0, 5)
        rhos, differences = [], []
        for stream in range(resamples):
            picks = [n * word >> 64 for word in chacha8_words(seed, stream, n)]
            rhos.append(stats.spearmanr(x[picks], y[picks])[0])
            differences.append(rhos[-1] - stats.spearmanr(other[picks], y[picks])[0])
        yield {
            "name": name,
            "x": x.tolist(),
            "other": other.tolist(),
            "y": y.tolist(),
            "resamples": resamples,
            "seed": seed,
            "spearman_ci95": np.quantile(rhos, [0.025, 0.975]).tolist(),
            "difference_ci95": np.quantile(differences, [0.025, 0.975]).tolist(),
        }


def holm():
    """Holm as the closed test it shortcuts: the largest Bonferroni p over all subsets with i."""
    own = np.random.default_rng(20250133)
    for p in ([0.03, 0.01, 0.5, 0.02], [0.01] * 5, [0.9, 0.8], [1e-12, 1.0], [0.2], (own.random(9) ** 3).tolist()):
        subsets = [[i for i in range(len(p)) if bits >> i & 1] for bits in range(1, 2 ** len(p))]
        bonferroni = [(s, min(1.0, len(s) * min(p[i] for i in s))) for s in subsets]
        yield {"p": p, "adjusted": [max(b for s, b in bonferroni if i in s) for i in range(len(p))]}


def quantiles():
    x = np.sort(rng.normal(size=37))
    for q in (0.0, 0.025, 0.31, 0.5, 0.975, 1.0):
        yield {"x": x.tolist(), "q": q, "quantile": float(np.quantile(x, q))}


def cosines():
    for n in (1, 3, 50, 200):
        a = rng.normal(size=n).astype(np.float32)
        b = (a + rng.normal(size=n)).astype(np.float32)
        x, y = a.astype(float), b.astype(float)
        cosine = float(x @ y / (np.linalg.norm(x) * np.linalg.norm(y)))
        yield {"a": x.tolist(), "b": y.tolist(), "cosine": cosine}


json.dump(
    {
        "made_with": f"numpy {np.__version__}, scipy {scipy.__version__}",
        "correlations": list(correlations()),
        "intervals": list(intervals()),
        "quantiles": list(quantiles()),
        "cosines": list(cosines()),
        "seeded_intervals": list(seeded_intervals()),
        "holm": list(holm()),
    },
    sys.stdout,
)
sys.stdout.write("\n")
