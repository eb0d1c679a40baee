#!/usr/bin/env bash
# Runs the fuzz targets of tests/fuzz one after the other, 60 s each or SECONDS, all of them or
# those named, and prints the runs and the crashes of each. What it finds is kept in
# target/fuzz/found/TARGET; a file that breaks a reader belongs in tests/data/fuzz/TARGET then.
#
#     tools/fuzz.sh [SECONDS [TARGET..]]
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"

seconds="${1:-60}"
shift || true
read -ra targets <<<"${*:-$(sed -n 's|^path = "targets/\(.*\)\.rs"|\1|p' tests/fuzz/Cargo.toml | tr '\n' ' ')}"

tools/setup.sh
if ! command -v cargo-fuzz >/dev/null; then
    echo "please run: cargo install cargo-fuzz --locked" >&2
    exit 1
fi
# The sanitizers are behind flags that only a nightly compiler takes without being asked to.
export RUSTC_BOOTSTRAP=1
work="$PWD/target/fuzz"
mkdir -p "$work/found" "$work/corpus" "$work/logs"

echo "== valid files"
rm -rf "$work/seeds"
RWKVQ_WRITE_SEEDS="$work/seeds" cargo test --locked -q -p rwkvq --test fuzz_corpus every_target >/dev/null

echo "== targets"
build=(cargo fuzz build -O --fuzz-dir tests/fuzz --target-dir "$work")
"${build[@]}"
# The targets write and read small files.
scratch="$(mktemp -d "$([ -w /dev/shm ] && echo /dev/shm || echo /tmp)/rwkvq-fuzz.XXXXXX")"
trap 'rm -rf "$scratch"' EXIT
export TMPDIR="$scratch"
host="$(rustc -vV | sed -n 's/^host: //p')"

printf '%-12s %12s %8s\n' target runs crashes
failed=0
for target in "${targets[@]}"; do
    found="$work/found/$target" corpus="$work/corpus/$target" log="$work/logs/$target.log"
    mkdir -p "$found" "$corpus"
    rm -f "$found"/*
    "$work/$host/release/$target" "$corpus" "$work/seeds/$target" "tests/data/fuzz/$target" \
        -max_total_time="$seconds" -timeout=5 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="$found/" >"$log" 2>&1 || true
    runs="$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")"
    crashes="$(find "$found" -type f | wc -l)"
    # A target that does not say how many runs it made ended in a way of its own.
    if [ -z "$runs" ] || [ "$crashes" -gt 0 ]; then
        failed=1
    fi
    printf '%-12s %12s %8s\n' "$target" "${runs:-none}" "$crashes"
done
if [ "$failed" -ne 0 ]; then
    echo "what was found is in $work/found, what was said in $work/logs" >&2
fi
exit "$failed"
