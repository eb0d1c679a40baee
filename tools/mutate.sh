#!/usr/bin/env bash
# Changes valid files of every kind at random, 5,000 of each unless another number is given, and
# prints how many were read and how many refused. A crash, a hang or too much memory fails it.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"

tools/setup.sh
RWKVQ_MUTATIONS="${1:-5000}" cargo test --locked -p rwkvq --test mutations -- --nocapture
