#!/usr/bin/env bash
# Runs the tests of the rooms with unsafe code (mmap, ggml, simd) and of all that calls them under
# AddressSanitizer: reads and writes outside of allocations, uses after free, leaks. ggml's own C++
# is not instrumented; what it does to memory that it gets from here is seen at calls of the C
# library. Linux, x86-64 or AArch64.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"

tools/setup.sh
# The sanitizer is behind a flag that only a nightly compiler takes without being asked to.
export RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address"
# A test asks for more memory than there is, to see that it gets an error.
export ASAN_OPTIONS="allocator_may_return_null=1"
host="$(rustc -vV | sed -n 's/^host: //p')"
test=(cargo test --locked --target "$host" --target-dir target/asan)

"${test[@]}" -p rwkvq --lib -- ggml:: matmul:: mmap:: quant:: simd::
"${test[@]}" -p rwkvq --test concurrency --test embedding --test model_reject --test own_products \
    --test products --test quantize --test recurrence --test rwkv6_graph
# The handler of a mapped file that shrinks.
"${test[@]}" -p rwkvq-cli --no-default-features --test cli -- mapped_files
