#!/usr/bin/env bash
# Installs what the build needs and is missing: a C++ compiler, cmake, libclang. Debian, Ubuntu and
# macOS; elsewhere it says what to install. Rust itself comes from https://rustup.rs.
set -euo pipefail

# bindgen looks for libclang where the loader or llvm-config does. libclang-cpp, which comes with
# LLVM, is another library.
libclang() { { ldconfig -p; ls /usr/lib/llvm-*/lib; } 2>/dev/null | grep -E 'libclang(-[0-9.]+)?\.so'; }

linux() {
    local missing=() sudo=""
    command -v c++ >/dev/null && command -v make >/dev/null || missing+=(build-essential)
    command -v cmake >/dev/null || missing+=(cmake)
    if [ -z "${LIBCLANG_PATH:-}" ] && [ -z "$(libclang)" ]; then
        missing+=(libclang-dev)
    fi
    [ ${#missing[@]} -gt 0 ] || return 0
    if ! command -v apt-get >/dev/null; then
        echo "please install: ${missing[*]} (names of Debian packages)" >&2
        exit 1
    fi
    [ "$(id -u)" -eq 0 ] || sudo="sudo"
    echo "installing ${missing[*]}" >&2
    $sudo apt-get update -q
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -q --no-install-recommends "${missing[@]}"
}

macos() {
    # The compiler, make and libclang.
    if ! xcode-select -p >/dev/null 2>&1; then
        echo "please run: xcode-select --install" >&2
        exit 1
    fi
    command -v cmake >/dev/null && return 0
    if ! command -v brew >/dev/null; then
        echo "please install cmake, by https://brew.sh or from https://cmake.org" >&2
        exit 1
    fi
    brew install cmake
}

case "$(uname -s)" in
    Darwin) macos ;;
    *) linux ;;
esac

if ! command -v cargo >/dev/null; then
    # rustup puts cargo here; a shell opened before it was installed does not know yet.
    [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ] || {
        echo "please install Rust from https://rustup.rs" >&2
        exit 1
    }
fi
