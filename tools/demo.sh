#!/usr/bin/env bash
# The main job on data that comes with the project: make a Finch checkpoint (random weights),
# convert it to several presets, measure each on the demo sentence pairs, write a report
# and show it as a page, whose path comes last.
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
[ -f "$out/finch-demo/config.json" ] || "$rwkvq" make-checkpoint "$out/finch-demo"
rm -f "$out"/models/finch-demo-*.gguf
"$rwkvq" eval "$out/finch-demo" \
    --preset f16 --preset q8_0 --preset q5_k --preset q4_k --keep "$out/models" \
    --dataset tools/demo/sentence-pairs.tsv \
    --report "$out/report.json"
"$rwkvq" report "$out/report.json" --html "$out/report.html"
