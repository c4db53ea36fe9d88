#!/usr/bin/env bash
# Run the GPU's tests on an emulated device, on a machine that has no GPU.
#
#   tests/cuda/check.sh TESTS [FOLDER]
#
# TESTS: the test binary (`cargo test --release --features cudnn --test cuda --no-run` prints its path), linked against
# stubs or against the real libraries. FOLDER: where the emulated device is built and its kernels are kept (default: a
# temporary one).
set -euo pipefail
[ $# -ge 1 ] || { echo "usage: check.sh TESTS [FOLDER]" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
tests=$(readlink -f "$1")
if [ $# -ge 2 ]; then
  mkdir -p "$2"; folder=$(cd "$2" && pwd)
else
  folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
fi
nm -D --undefined-only "$tests" | awk '{ print $2 }' | sed 's/@.*//' | { grep -E '^(cu|nvrtc|__cuda)' || true; } >"$folder/symbols"
"$here/build-emulator.sh" "$folder/device" "$folder/symbols"
export LD_LIBRARY_PATH=$folder/device XDG_CACHE_HOME=$folder/cache SHRINKLAB_NEEDS_GPU=1
"$tests"
EMULATED_MEMORY=12M SHRINKLAB_SMALL_GPU=1 "$tests" --test-threads 1 memory::
# Without a device each test says so and passes.
env -u SHRINKLAB_NEEDS_GPU EMULATED_MEMORY=none "$tests" --nocapture >"$folder/skipped" 2>&1
grep -q '^skipped: GPU 0 cannot be used: there is none' "$folder/skipped"
echo "without a device all tests are skipped"
