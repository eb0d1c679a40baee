#!/usr/bin/env bash
# Installs what the build needs and is missing: a C++ compiler, cmake, libclang. Debian and Ubuntu;
# elsewhere it says what to install. Rust itself comes from https://rustup.rs.
set -euo pipefail

missing=()
command -v c++ >/dev/null && command -v make >/dev/null || missing+=(build-essential)
command -v cmake >/dev/null || missing+=(cmake)
# bindgen looks for libclang where the loader or llvm-config does. libclang-cpp, which comes with
# LLVM, is another library.
libclang() { { ldconfig -p; ls /usr/lib/llvm-*/lib; } 2>/dev/null | grep -E 'libclang(-[0-9.]+)?\.so'; }
if [ -z "${LIBCLANG_PATH:-}" ] && [ -z "$(libclang)" ]; then
    missing+=(libclang-dev)
fi

if [ ${#missing[@]} -gt 0 ]; then
    if ! command -v apt-get >/dev/null; then
        echo "please install: ${missing[*]} (names of Debian packages)" >&2
        exit 1
    fi
    sudo=""
    [ "$(id -u)" -eq 0 ] || sudo="sudo"
    echo "installing ${missing[*]}" >&2
    $sudo apt-get update -q
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -q --no-install-recommends "${missing[@]}"
fi

if ! command -v cargo >/dev/null; then
    # rustup puts cargo here; a shell opened before it was installed does not know yet.
    [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ] || {
        echo "please install Rust from https://rustup.rs" >&2
        exit 1
    }
fi
