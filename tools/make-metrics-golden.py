#!/usr/bin/env python3
"""Writes tests/data/metrics_golden.json: SciPy's answers on seeded and hand-made inputs.

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
    },
    sys.stdout,
)
sys.stdout.write("\n")
