#!/usr/bin/env bash
# Builds, tests, checks and measures on a machine with a GPU and no network, in under nine minutes:
#   bench/gpu.sh [OUT]
# Rows and logs go to OUT (default build/gpu), rows to bench/results as well. Each part has its own
# time limit and may fail alone; the exit status is 1 if the build, a test, a checker or the
# correctness gate failed. Run it again at will: the build continues where it was.
# PYTHON picks the interpreter, CUDA_BIN the toolkit's programs where they are not on the PATH,
# DLACCEL_COMMIT names the commit where there is no git.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

readonly TOTAL=530 # seconds
readonly OUT=${1:-build/gpu}
readonly PYTHON=${PYTHON:-python3}
readonly LOGS=$OUT/logs
PATH=$PATH:${CUDA_BIN:-/usr/local/cuda/bin}
mkdir -p "$LOGS" || exit 1
failed=()
summary=()

left() { echo $((TOTAL - SECONDS)); }

# part NAME LIMIT COMMAND...: runs it within its limit and the time that is left, logs it, shows the
# log's end. Returns the command's status, 124 where time ran out.
part() {
  local name=$1 limit=$2 status start=$SECONDS
  shift 2
  if (($(left) < 5)); then
    summary+=("$name: left out, no time is left")
    return 124
  fi
  ((limit > $(left))) && limit=$(left)
  echo "== $name (at most $limit s)"
  timeout --kill-after=5 "$limit" "$@" >"$LOGS/$name.log" 2>&1
  status=$?
  tail -n "${TAIL:-15}" "$LOGS/$name.log"
  case $status in
    0) summary+=("$name: ok, $((SECONDS - start)) s") ;;
    124 | 137) summary+=("$name: cut off after $limit s, see $LOGS/$name.log") ;;
    *) summary+=("$name: FAILED with status $status, see $LOGS/$name.log") ;;
  esac
  return "$status"
}

# must NAME ...: a part whose failure fails the script. Running out of time does not.
must() {
  local status
  part "$@"
  status=$?
  if ((status != 0 && status != 124 && status != 137)); then
    failed+=("$1")
  fi
  return "$status"
}

skip() {
  echo "== $1: left out, $2"
  summary+=("$1: left out, $2")
}

has() { command -v "$1" >/dev/null 2>&1; }

finish() {
  echo "== summary, $SECONDS s"
  printf '%s\n' "${summary[@]}"
  if ((${#failed[@]})); then
    echo "failed: ${failed[*]}"
    exit 1
  fi
  exit 0
}

capability() { # of the first GPU, as 90
  nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1 | tr -d '. '
}

arch=$(capability)
if [[ ! $arch =~ ^[0-9]+$ ]] || ! has nvcc; then
  echo "bench/gpu.sh: nothing can run here: it needs an NVIDIA GPU (nvidia-smi) and nvcc on the PATH." >&2
  exit 2
fi
if ! "$PYTHON" -c 'import torch; raise SystemExit(not torch.cuda.is_available())'; then
  echo "bench/gpu.sh: nothing can run here: $PYTHON has no torch that can use the GPU." >&2
  exit 2
fi
((arch == 90)) && arch=90a # the architecture-specific instructions, as the wheel has them
echo "$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader | head -n 1), sm_$arch"

# The wheel goes beside the tree, its compiled modules into it: tests and benchmarks import the tree.
if ! TAIL=3 must build 210 "$PYTHON" -m pip install . --verbose --upgrade --target build/gpu-site \
  --no-index --no-build-isolation --no-deps -C cmake.define.DLACCEL_CUDA=ON \
  -C "cmake.define.DLACCEL_CUDA_ARCHITECTURES=$arch-real"; then
  failed=(build)
  finish
fi
cp --remove-destination build/gpu-site/dlaccel/*.so dlaccel/
part doctor 30 "$PYTHON" -c 'from dlaccel import _core
report = _core.report()
print(*report.lines, *report.missing, sep="\n")'

workers=()
"$PYTHON" -c 'import xdist' 2>/dev/null && workers=(-n 4)
must tests 130 "$PYTHON" -m pytest -q -m cuda -p no:cacheprovider "${workers[@]}" \
  tests/test_ops.py tests/test_procedures.py
must layers 30 "$PYTHON" -m pytest -q -m cuda -p no:cacheprovider "${workers[@]}" \
  tests/nn tests/collapse

# First a few figures: whatever fails or hangs below, these stand.
measure() { # measure NAME LIMIT ARGUMENTS...: the bench stops by itself a little earlier
  local name=$1 limit=$2
  shift 2
  ((limit > $(left) - 10)) && limit=$(($(left) - 10))
  if ((limit < 15)); then
    skip "$name" "no time is left"
    return
  fi
  TAIL=40 must "$name" "$limit" "$PYTHON" -m bench.run --device cuda --out "$OUT" \
    --budget $((limit * 4 / 5)) "$@"
}
measure overhead 30 --group overhead
measure ops 130 --group ops --no-compile

if has compute-sanitizer; then
  # Without torch's cache each tensor is an allocation of its own, whose ends the checker knows.
  for tool in memcheck racecheck; do
    must "$tool" 45 env PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool "$tool" \
      --error-exitcode 9 "$PYTHON" -m bench.exercise
  done
else
  skip memcheck "compute-sanitizer is not on the PATH"
fi

if has ncu; then
  # Clocks are left as they are. A machine that hides its counters makes this part fail, no more.
  TAIL=60 part ncu 35 ncu --clock-control none --set basic --kernel-name regex:elementwise_kernel \
    --launch-count 2 "$PYTHON" -m bench.exercise 8192x14336
else
  skip ncu "it is not on the PATH"
fi

measure gated_mlp 45 --group gated_mlp --dtype bfloat16
measure compiled $(($(left) - 10)) --group ops # the same beside torch.compile, as far as time goes
"$PYTHON" -m bench.table "$OUT"
finish
