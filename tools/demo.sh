#!/usr/bin/env bash
# The main job on data that comes with the project: convert models/finch-tiny to several presets,
# measure each on the demo sentence pairs, write a report and show it as a page, whose path comes
# last.
# Usage: tools/demo.sh [OUTDIR]      RWKVQ names a program to take instead of building one
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"

out="${1:-demo-out}"
rwkvq="${RWKVQ:-}"
if [ -z "$rwkvq" ]; then
    tools/setup.sh
    cargo build --release --locked --bin rwkvq
    rwkvq="${CARGO_TARGET_DIR:-target}/release/rwkvq"
fi

mkdir -p "$out"
"$rwkvq" eval models/finch-tiny \
    --preset f16 --preset q8_0 --preset q5_k --preset q4_k --keep "$out/models" --overwrite \
    --dataset tools/demo/sentence-pairs.tsv \
    --report "$out/report.json"
"$rwkvq" report "$out/report.json" --html "$out/report.html"
