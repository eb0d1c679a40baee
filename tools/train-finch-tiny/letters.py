"""What texts have in common by their letters: counts of three letters in a row within words."""

import zlib

import numpy as np

import text

BUCKETS = 4096


def counts(sentence):
    """Unit vector [BUCKETS] of the counts, each run of letters in the bucket of its checksum."""
    found = np.zeros(BUCKETS, np.float32)
    for word in text.words(sentence):
        padded = f" {word} "
        for i in range(len(padded) - 2):
            found[zlib.crc32(padded[i : i + 3].encode()) % BUCKETS] += 1
    return found / max(np.linalg.norm(found), 1e-9)


def token_vectors(tokens, width, seed):
    """[1 + tokens, width] unit rows: tokens of like letters are alike, others at random angles.
    Row 0, the end of a text, and tokens without letters or digits are random."""
    random = np.random.default_rng(seed)
    of_bucket = random.standard_normal((BUCKETS, width)).astype(np.float32)
    rows = random.standard_normal((1 + len(tokens), width)).astype(np.float32)
    for i, token in enumerate(tokens, 1):
        found = counts(token.decode("latin-1"))
        if found.any():
            rows[i] = found @ of_bucket
    rows -= rows.mean(1, keepdims=True)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
