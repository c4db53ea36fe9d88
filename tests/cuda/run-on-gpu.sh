#!/usr/bin/env bash
# Run the GPU's tests and benchmarks on a machine that has a GPU, and maybe no Rust.
#
#   run-on-gpu.sh BINARIES [RESULTS]
#
# BINARIES: a folder with the test binary `cuda-tests` and the program `shrinklab-cuda` (or `shrinklab`), built elsewhere.
# RESULTS: where the reports go (default: $OUT, else a folder `results` here). SECONDS_EACH: time of a benchmark (3).
# CUDA's libraries are looked for on LD_LIBRARY_PATH and in the folders of a PyTorch installation; PYTHON names its
# interpreter. PEERS: a folder with compare.py, for the comparison with PyTorch on the same card
# (default: ../shared/peers beside this working tree). PARTS: which of "tests bench compare" (all; together they take a
# quarter of an hour, and some machines end a command after ten minutes). ROUNDS: of the comparison (1).
#
# Ends with 1 if a test fails or a program cannot start; what could run has run by then.
set -uo pipefail
[ $# -ge 1 ] || { echo "usage: run-on-gpu.sh BINARIES [RESULTS]" >&2; exit 2; }
binaries=$(cd "$1" && pwd) || exit 2
results=${2:-${OUT:-results}}
mkdir -p "$results" && results=$(cd "$results" && pwd) || exit 2
here=$(cd "$(dirname "$0")" && pwd)
peers=${PEERS:-$here/../../../shared/peers}
seconds=${SECONDS_EACH:-3}
parts=" ${PARTS:-tests bench compare} "
status=0
asks() { [ "$parts" != "${parts/ $1 /}" ]; }

# The first Python that has PyTorch.
python=
for candidate in ${PYTHON:-} python3 python /opt/*/bin/python; do
  if "$candidate" -c 'import torch' 2>/dev/null; then python=$candidate; break; fi
done
if [ -n "$python" ]; then
  site=$("$python" -c 'import os, torch; print(os.path.dirname(os.path.dirname(torch.__file__)))')
  for lib in "$site"/nvidia/*/lib "$site"/torch/lib; do
    [ -d "$lib" ] && LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$lib
  done
  export LD_LIBRARY_PATH
fi
export XDG_CACHE_HOME=$results/cache SHRINKLAB_NEEDS_GPU=1

program=
for candidate in "$binaries/shrinklab-cuda" "$binaries/shrinklab"; do
  if [ -x "$candidate" ]; then program=$candidate; break; fi
done
{
  nvidia-smi || echo "no nvidia-smi here"
  echo "python: ${python:-none with PyTorch}"
  echo "LD_LIBRARY_PATH: ${LD_LIBRARY_PATH:-}"
  for binary in "$binaries/cuda-tests" $program; do
    echo "$binary:"; ldd "$binary" | grep -E 'not found|cuda|cublas|cudnn|curand|nvrtc' || true
  done
} >"$results/machine.txt" 2>&1

if ! asks tests; then
  echo "the tests were not asked for" >"$results/tests.txt"
elif [ -x "$binaries/cuda-tests" ]; then
  # In turns: tests that share a card share its memory.
  "$binaries/cuda-tests" --test-threads 1 >"$results/tests.txt" 2>&1 || status=1
  tail -n 5 "$results/tests.txt"
else
  echo "no $binaries/cuda-tests" | tee "$results/tests.txt"; status=1
fi

if [ -n "$program" ]; then
  "$program" doctor >"$results/doctor.txt" 2>&1 || status=1
  architectures="lenet5 cnn8 resnet18 mobilenet-v1"
  asks bench || architectures=
  : >"$results/bench.txt"
  for arch in $architectures; do
    for phase in train eval attack; do
      for batch in 64 256; do
        # With CUDA graphs and without: whether they pay is for the card to say.
        for graphs in 1 0; do
          SHRINKLAB_CUDA_GRAPHS=$graphs "$program" bench train --arch "$arch" --device cuda --phase "$phase" \
            --batch "$batch" --seconds "$seconds" 2>&1 |
            sed "s/^/$arch $phase $batch: /" >>"$results/bench.txt" || status=1
        done
      done
    done
  done
  if ! asks compare; then
    echo "the comparison was not asked for" >"$results/compare.txt"
  elif [ -n "$python" ] && [ -f "$peers/compare.py" ]; then
    for batch in 64 256; do
      "$python" "$peers/compare.py" --device cuda --batch "$batch" --shrinklab "$program" \
        --rounds "${ROUNDS:-1}" --seconds "$seconds" || status=1
    done >"$results/compare.txt" 2>&1
  else
    echo "no compare.py or no PyTorch: nothing is compared" >"$results/compare.txt"
  fi
else
  echo "no program in $binaries" | tee "$results/doctor.txt"; status=1
fi
rm -rf "$results/cache"
exit $status
