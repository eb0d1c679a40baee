#!/usr/bin/env bash
# Runs under Miri what reads bytes and makes blocks in Rust alone. Needs a nightly toolchain with
# the miri component. Miri runs no C: tests that ask ggml for the size of a tensor type, or that
# open files, are not among these.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"

tools/setup.sh
if ! cargo miri --version >/dev/null 2>&1; then
    echo "please run: rustup toolchain install nightly --component miri --component rust-src" >&2
    exit 1
fi
# Tests of properties look for a file of earlier failures; what runs a hundred times slower is tried
# on fewer values.
export MIRIFLAGS="-Zmiri-disable-isolation" PROPTEST_CASES=16
cargo miri test --locked -p rwkvq --lib -- on_slices eval::dataset::parquet:: recipe::layers:: \
    tokenizer::byte_level:: tokenizer::literal:: tokenizer::trie::
