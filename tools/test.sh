#!/usr/bin/env bash
# Sets up what is missing and runs every test. Tests on data that cannot be part of the project
# (MRPC, published checkpoints) run where RWKVQ_TEST_DATA names a folder that has it; elsewhere
# they say that they are skipped.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"

tools/setup.sh
cargo test --locked --workspace "$@"
