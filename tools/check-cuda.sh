#!/usr/bin/env bash
# Compiles and links the program with CUDA for one architecture, without a GPU, a driver or an
# installed toolkit: the compiler and the libraries come from PyPI. Then runs an evaluation on the
# CPU, as the program must where there is no driver. About 70 CPU minutes and 3 GB of disk.
# Usage: tools/check-cuda.sh [WORKDIR]      ARCH=75-real by default; CARGO_TARGET_DIR as usual
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"
work="$(mkdir -p "${1:-target/cuda-toolkit}" && realpath "${1:-target/cuda-toolkit}")"
toolkit="$work/nvidia/cu13"

tools/setup.sh
if [ ! -x "$toolkit/bin/nvcc" ]; then
    python3 -m pip download --quiet --no-deps --dest "$work/wheels" \
        nvidia-cuda-nvcc==13.5.37 nvidia-cuda-crt==13.5.37 nvidia-nvvm==13.5.37 \
        nvidia-cuda-runtime==13.5.37 nvidia-cuda-cccl==13.3.5.0.6 nvidia-cublas==13.10.0.20
    for wheel in "$work"/wheels/*.whl; do
        python3 -m zipfile -e "$wheel" "$work"
    done
    chmod +x "$toolkit"/bin/* "$toolkit"/nvvm/bin/*
    for library in cudart cublas cublasLt; do
        ln -sf "lib$library.so.13" "$toolkit/lib/lib$library.so"
    done
fi

# The wheels have no stub of the driver's library, which the virtual memory pool needs.
export CUDAToolkit_ROOT="$toolkit" CUDACXX="$toolkit/bin/nvcc"
export GGML_CUDA_FA=OFF GGML_CUDA_NO_VMM=ON CMAKE_CUDA_ARCHITECTURES="${ARCH:-75-real}"
cargo build --release --locked --bin rwkvq --features rwkvq-cli/cuda
rwkvq="${CARGO_TARGET_DIR:-target}/release/rwkvq"

export LD_LIBRARY_PATH="$toolkit/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
"$rwkvq" devices
out="$(mktemp -d)"
trap 'rm -rf "$out"' EXIT
RWKVQ="$rwkvq" tools/demo.sh "$out" 2> >(tee "$out/log" >&2)
grep -q "no GPU found by cuda; running on the CPU" "$out/log"
echo "built with CUDA, ran on the CPU: $(du -h "$rwkvq" | cut -f1)"
