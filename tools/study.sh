#!/usr/bin/env bash
# Makes the reports behind docs/study.md: seven levels of each model, all layers, on the demo pairs
# and on MRPC's dev split.
# Usage: tools/study.sh OUTDIR [demo|mrpc]     (both parts without a second argument)
# RWKVQ_TEST_DATA must name a folder with checkpoints/tiny-trained-6v0, data/mrpc/hf and data/glove.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"

out="$1"
parts="${2:-demo mrpc}"
data="${RWKVQ_TEST_DATA:?names the folder with MRPC and the models}"
rwkvq="${CARGO_TARGET_DIR:-target}/release/rwkvq"
[ -x "$rwkvq" ] || cargo build --release --locked --bin rwkvq
mkdir -p "$out"

presets=()
for level in f16 q8_0 q6_k q5_k q4_k q3_k q2_k; do presets+=(--preset "$level"); done
glove=(--baseline "glove=$data/data/glove/glove.6B.50d.mrpc-words.txt")

for model in models/finch-tiny "$data/checkpoints/tiny-trained-6v0"; do
    name="$(basename "$model")"
    for part in $parts; do
        case "$part" in
        # Three passes: the pairs are few, and the clock is to be steady.
        demo) what=(--dataset tools/demo/sentence-pairs.tsv --repeats 3) ;;
        mrpc) what=(--dataset "$data/data/mrpc/hf/dev.tsv" "${glove[@]}") ;;
        *) echo "$part: give demo or mrpc" >&2 && exit 2 ;;
        esac
        # One thread: what else the machine does disturbs the clock less.
        "$rwkvq" eval "$model" "${presets[@]}" "${what[@]}" --threads 1 --report "$out/$name-$part.json"
        "$rwkvq" report "$out/$name-$part.json" --html "$out/$name-$part.html" --svg "$out/figures-$name-$part"
    done
done
