#!/usr/bin/env bash
# The library as others depend on it: a crate outside this workspace, with a lock file of its own,
# takes rwkvq as a package, by path and by git, and must print the embeddings that the command
# line prints, number by number.
# Usage: tools/check-dependent.sh RWKVQ    (the binary to compare with)
set -euo pipefail
rwkvq="$(realpath "${1:?usage: tools/check-dependent.sh RWKVQ}")"
cd "$(dirname "$0")/.."
root="$PWD"
# Canonical, as cargo writes paths.
work="$(cd "$(mktemp -d)" && pwd -P)"
# cargo keeps a copy of every git dependency below its home, named after the repository.
trap 'rm -rf "$work" "${CARGO_HOME:-$HOME/.cargo}"/git/{db,checkouts}/check-dependent-*' EXIT
target="$work/target"

# The tracked files as they are now: what anybody else would get.
snapshot="$work/check-dependent"
mkdir "$snapshot"
git ls-files -z | tar --null -T - -cf - | tar -xf - -C "$snapshot"

printf '%s\n' "Hello world!" "Good morning." >"$work/sentences.txt"
"$rwkvq" convert tests/data/finch-fixture --preset q8_0 -o "$work/model.gguf" 2>/dev/null
"$rwkvq" embed "$work/model.gguf" --input "$work/sentences.txt" --layers all --threads 1 |
    grep -o '\[[^]]*\]' >"$work/expected"
# Two texts, eight layers and the output norm.
test "$(grep -c . "$work/expected")" -eq 18

# Makes the crate $1, which depends on rwkvq as $2 says, builds it and compares what it prints. The
# rest of its manifest comes from stdin.
dependent() {
    local dir="$work/$1"
    mkdir -p "$dir/src"
    # Every such crate is a workspace, as many are; not optimised, as it need not be fast.
    cat >"$dir/Cargo.toml" <<TOML
[package]
name = "dependent"
version = "0.0.0"
edition = "2021"

[workspace]

[dependencies]
rwkvq = $2
serde_json = "1"

[profile.dev]
debug = false

TOML
    cat >>"$dir/Cargo.toml"
    cp tools/dependent/main.rs "$dir/src/main.rs"
    # The versions that this repository was tested with; cargo takes out what the crate has no use
    # for and writes the rest anew.
    cp Cargo.lock "$dir/Cargo.lock"
    (cd "$dir" && CARGO_TARGET_DIR="$target" cargo build --quiet)
    grep -q '^name = "dependent"' "$dir/Cargo.lock"
    "$target/debug/dependent" "$work/model.gguf" "$work/sentences.txt" >"$work/found"
    cmp "$work/expected" "$work/found"
    echo "$1: $(grep -c . "$work/found") vectors, equal ($SECONDS s)"
}

# Packages, unpacked into a folder of the crate that uses them. ggml is built from the source that
# cargo finds for it there.
(cd "$snapshot" && CARGO_TARGET_DIR="$work/package" cargo package --quiet --allow-dirty \
    --no-verify -p ggml-sys -p rwkvq)
mkdir -p "$work/packaged/vendor"
for package in "$work"/package/package/*.crate; do
    tar -xzf "$package" -C "$work/packaged/vendor"
    echo "$(basename "$package"): $(wc -c <"$package") bytes"
done
for crate in "$work"/packaged/vendor/*; do
    # A crate without its licences or readme may not be handed on.
    for file in LICENSE-MIT LICENSE-APACHE README.md Cargo.lock; do
        test -s "$crate/$file" || { echo "$(basename "$crate") lacks $file" >&2; exit 1; }
    done
done
(
    unset GGML_SYS_PREFIX GGML_SRC_DIR
    dependent packaged '"0.1"' <<TOML
[patch.crates-io]
ggml-sys = { path = "$(cd "$work" && echo packaged/vendor/ggml-sys-* | cut -d/ -f2-)" }
rwkvq = { path = "$(cd "$work" && echo packaged/vendor/rwkvq-* | cut -d/ -f2-)" }
TOML
)

# The other two ways use that build of ggml: it is the same source.
built="$(echo "$target"/debug/build/ggml-sys-*/out/lib/libggml.a)"
export GGML_SYS_PREFIX="${built%/lib/libggml.a}"
dependent path "{ path = \"$root\" }" </dev/null

git -C "$snapshot" init --quiet
git -C "$snapshot" add --all
git -C "$snapshot" -c user.name=test -c user.email=test@example.invalid commit --quiet -m snapshot
dependent git "{ git = \"file://$snapshot\" }" </dev/null
