#!/usr/bin/env bash
# Builds the archive that is handed on: the program, ggml with a CPU backend for every family of
# processors, completions, manual pages, licences. The program takes the best backend where it
# runs. About ten CPU minutes more than a build for this machine alone.
# Usage: tools/dist.sh [OUTDIR]      writes OUTDIR/rwkvq-VERSION-TARGET.tar.gz
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"

out="${1:-dist}"
tools/setup.sh
# Where the libraries are, seen from the program.
case "$(uname -s)" in
    Darwin) origin="@loader_path" library="dylib" ;;
    *) origin="\$ORIGIN" library="so" ;;
esac
# cargo's messages name what was built: the program, and where the build script has ggml.
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
messages="$scratch/messages.json"
cargo rustc --locked --profile dist -p rwkvq-cli --bin rwkvq --features dynamic-backends \
    --message-format json-render-diagnostics -- -C link-arg="-Wl,-rpath,$origin/../lib" >"$messages"
program="$(sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' "$messages")"
libraries="$(grep '"build-script-executed"' "$messages" | grep ggml-sys |
    sed -n 's/.*"linked_paths":\["native=\([^"]*\)".*/\1/p')"
test -x "$program" && test -e "$libraries/libggml.$library"

package="$(cargo pkgid --locked -p rwkvq-cli)"
name="rwkvq-${package##*@}-$(rustc -vV | sed -n 's/^host: //p')"
root="$out/$name"
rm -rf "$root"
mkdir -p "$root"/bin "$root"/lib "$root"/share/{man/man1,bash-completion/completions,zsh/site-functions,fish/vendor_completions.d,doc/rwkvq}
cp "$program" "$root/bin/rwkvq"
# Links among them are kept: the loader looks for names with a version.
cp -P "$libraries"/libggml*."$library"* "$root/lib/"
for module in "$libraries"/libggml-*.so; do
    [ -e "$root/lib/$(basename "$module")" ] || cp -P "$module" "$root/lib/"
done
rwkvq="$root/bin/rwkvq"
"$rwkvq" man "$root/share/man/man1"
"$rwkvq" completions bash >"$root/share/bash-completion/completions/rwkvq"
"$rwkvq" completions zsh >"$root/share/zsh/site-functions/_rwkvq"
"$rwkvq" completions fish >"$root/share/fish/vendor_completions.d/rwkvq.fish"
cp README.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE "$root/share/doc/rwkvq/"
# The licences of what is in the program: ggml's, and those of the crates.
manifests="$(cargo metadata --locked --format-version 1 | grep -o '"manifest_path":"[^"]*"' | cut -d '"' -f 4)"
copy_licences() { # NAME FOLDER
    local to="$root/share/doc/rwkvq/licences/$1"
    mkdir -p "$to"
    find "$2" -maxdepth 1 -type f \( -iname 'licen[sc]e*' -o -iname 'copying*' -o -iname 'unlicense*' -o -iname 'notice*' \) \
        -exec cp {} "$to/" \;
}
cargo tree --locked -p rwkvq-cli --features dynamic-backends --edges normal --prefix none --format '{p}' |
    sed -n 's/^\([^ ]*\) v\([^ ]*\)\( (proc-macro)\)*$/\1-\2/p' | sort -u |
    while read -r crate; do
        copy_licences "$crate" "$(dirname "$(grep "/$crate/Cargo.toml$" <<<"$manifests")")"
    done
# Some crates only name theirs.
cargo tree --locked -p rwkvq-cli --features dynamic-backends --edges normal --prefix none --format '{p}: {l}' |
    sed 's/ ([^)]*)//g' | sort -u >"$root/share/doc/rwkvq/licences/list.txt"
copy_licences ggml "$(dirname "$(grep '/llama-cpp-sys-2-[^/]*/Cargo.toml$' <<<"$manifests")")/llama.cpp"
tar -czf "$root.tar.gz" -C "$out" "$name"

# Tried as its user would: unpacked somewhere else.
tar -xzf "$root.tar.gz" -C "$scratch"
RWKVQ="$scratch/$name/bin/rwkvq" tools/demo.sh "$scratch/demo"
"$scratch/$name/bin/rwkvq" --version
ls -l "$root.tar.gz"
