#!/usr/bin/env bash
# Build the emulated device: a folder of libraries under the names of CUDA's, for LD_LIBRARY_PATH.
#
#   tests/cuda/build-emulator.sh OUT [SYMBOLS]
#
# SYMBOLS: a file with a name per line that a binary links. Those that the emulator does not have become functions that
# say so once on the standard error and return an error.
set -euo pipefail
[ $# -ge 1 ] || { echo "usage: build-emulator.sh OUT [SYMBOLS]" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"; out=$(cd "$1" && pwd)
symbols=$(mktemp); trap 'rm -rf "$symbols" "$out"/objects' EXIT
[ $# -lt 2 ] || cat "$2" >"$symbols"
mkdir -p "$out/objects"
objects=()
for source in "$here"/emulator/*.cpp; do
  object=$out/objects/$(basename "$source" .cpp).o
  c++ -O2 -std=c++17 -fPIC -fvisibility=hidden -Wall -Wextra -c "$source" -o "$object"
  objects+=("$object")
done
# The error of the library that a name belongs to: not supported, in its own numbers.
nm --defined-only "${objects[@]}" | awk '$2 == "T" { print $3 }' | sort -u >"$out/objects/defined"
{
  echo '#include "emulator.h"'
  sort -u "$symbols" | comm -23 - "$out/objects/defined" | { grep -E '^(cu|nvrtc|__cuda)[A-Za-z0-9_]+$' || true; } | while read -r name; do
    case $name in
      cublas*) error=15 ;;
      cudnn*) error=3000 ;;
      curand*) error=999 ;;
      nvrtc*) error=11 ;;
      *) error=801 ;;
    esac
    echo "API int $name() { return missing(\"$name\", $error); }"
  done
} >"$out/objects/missing.cpp"
c++ -O2 -std=c++17 -fPIC -fvisibility=hidden -Wall -I"$here/emulator" -c "$out/objects/missing.cpp" -o "$out/objects/missing.o"
# A binary asks for the runtime's functions by version; all the others have none.
echo 'EMULATED { global: cu[A-Z]*; cublas*; cudnn*; curand*; nvrtc*; local: *; }; libcudart.so.13 { global: cuda*; __cuda*; };' >"$out/objects/versions"
c++ -shared -o "$out/libemulated.so" "${objects[@]}" "$out/objects/missing.o" -Wl,-Bsymbolic -Wl,--version-script="$out/objects/versions" -ldl -pthread
for name in libcuda.so.1 libcudart.so.13 libcublas.so.13 libcublasLt.so.13 libcurand.so.10 libnvrtc.so.13 libcudnn.so.9; do
  ln -sf libemulated.so "$out/$name"
done
cp "$here/device.h" "$out/device.h"
