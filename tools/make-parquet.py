#!/usr/bin/env python3
"""Writes tests/data/parquet: our own sentence pairs as pyarrow writes them, in several ways.

Usage: make-parquet.py OUTDIR   (needs pyarrow)
"""
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

PAIRS = [
    (1, "The bakery on the corner sells rye bread .", "Rye bread is sold at the corner bakery ."),
    (0, "A storm closed the northern road for two days .", "The library bought two hundred new books ."),
    (1, "She repaired the old radio with a new valve .", "With a new valve she fixed the old radio ."),
    (0, "The goats graze on the hill above the village .", "The village has a hill and a chapel ."),
    (1, "Ferries leave for the island every hour .", "Every hour a ferry departs to the island ."),
    (0, "He paints boats blue , never green .", "Green paint was spilled in the harbour ."),
    (1, "Our school garden grew forty pumpkins this year .", "This year the school garden had forty pumpkins ."),
    (1, "Snow fell on the caf\u00e9 terrace overnight .", "Overnight the caf\u00e9 terrace was covered with snow ."),
    (0, "The clock tower is taller than the mill .", "The miller wound the clock ."),
    (1, "Nobody answered the door at the lighthouse .", "At the lighthouse no one came to the door ."),
    (0, "Three students wrote the play together .", "The play was cancelled for lack of light ."),
    (1, "The river is too cold for swimming in April .", "In April the river is too cold to swim in ."),
]


def glue(scores):
    """The columns and types of GLUE's pairs on the hub."""
    return pa.table({
        "sentence1": pa.array([p[1] for p in PAIRS], pa.string()),
        "sentence2": pa.array([p[2] for p in PAIRS], pa.string()),
        "label": scores,
        "idx": pa.array(range(len(PAIRS)), pa.int32()),
    })


def main():
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    labels = [p[0] for p in PAIRS]
    # As the hub: Snappy, dictionaries, pages of version 1.
    pq.write_table(glue(pa.array(labels, pa.int64())), out / "mrpc.parquet")
    # Float scores, version 2 pages, several row groups, no dictionaries, not packed.
    floats = [5.0 * x + 0.25 * i / len(labels) for i, x in enumerate(labels)]
    pq.write_table(glue(pa.array(floats, pa.float32())), out / "stsb.parquet", row_group_size=5,
                   data_page_version="2.0", use_dictionary=False, compression="none")
    # SICK's columns: an entailment label stands before the score, and one column is a list.
    sick = pa.table({
        "id": [str(i) for i in range(len(PAIRS))],
        "sentence_A": pa.array([p[1] for p in PAIRS], pa.string()),
        "sentence_B": pa.array([p[2] for p in PAIRS], pa.string()),
        "label": pa.array([1 - x for x in labels], pa.int64()),
        "words": [p[1].split() for p in PAIRS],
        "relatedness_score": pa.array([4.0 * x + 1.0 for x in labels], pa.float64()),
    })
    # Small pages: each column has several, all with the one dictionary.
    pq.write_table(sick, out / "sick.parquet", data_page_version="2.0", data_page_size=64,
                   write_batch_size=4)
    nulls = glue(pa.array([None] + labels[1:], pa.int64()))
    pq.write_table(nulls, out / "null-score.parquet")
    pq.write_table(glue(pa.array(labels, pa.int64())), out / "zstd.parquet", compression="zstd")
    withheld = glue(pa.array([-1] * len(labels), pa.int64()))
    pq.write_table(withheld, out / "withheld.parquet")
    repeated = pa.table({
        "score": labels,
        "text1": [[p[1]] for p in PAIRS],
        "text2": pa.array([p[2] for p in PAIRS], pa.string()),
    })
    pq.write_table(repeated, out / "repeated.parquet")
    delta = {"sentence1": "DELTA_BYTE_ARRAY"}
    pq.write_table(glue(pa.array(labels, pa.int64())), out / "delta.parquet", use_dictionary=False,
                   column_encoding=delta)


if __name__ == "__main__":
    main()
