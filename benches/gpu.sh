#!/usr/bin/env bash
# Everything that needs a GPU, in stages that go on where they stopped.
#
#   benches/gpu.sh build              where Rust is: the program and its tests, stripped, into target/gpu
#   benches/gpu.sh run FOLDER [STAGE…]  where the GPU is, without Rust: results and a table of what passed into FOLDER
#
# The stages, most telling first: describe, check, steps, ops, inference, digits, sanitizer, autotuned. Each is stopped after
# STAGE_SECONDS (540); one that has passed in FOLDER is not run again, and all results are packed into FOLDER/results.tgz after each.
# Needs a driver and NVRTC, and cuBLAS for one ceiling; `steps`, `inference` and `autotuned` compare with PyTorch where python3 has it, `sanitizer` runs
# where compute-sanitizer is found. Keep FOLDER under benches/results/.
set -uo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
programs=$here/target/gpu
# What a stage says that could not be done here at all.
SKIPPED=77
ALL="describe check steps ops inference digits sanitizer autotuned"

build() {
  set -e
  cd "$here"
  mkdir -p "$programs"
  cargo build --release
  cp target/release/polyhead "$programs/polyhead"
  # The test programs' paths, from cargo itself.
  cargo test --no-run --lib --test main --message-format=json 2>/dev/null |
    sed -n 's/.*"name":"\(polyhead\|main\)".*"test":true}.*"executable":"\([^"]*\)".*/\1 \2/p' |
    while read -r name path; do cp "$path" "$programs/tests-$name"; done
  strip "$programs"/*
  du -ch "$programs"/* | tail -1
}

have_torch() { python3 -c 'import torch, torchvision' 2>/dev/null; }

describe() {
  nvidia-smi || return 1
  nvidia-smi -q -d CLOCK,POWER,PERFORMANCE
  python3 -c 'import torch, torchvision; print("torch", torch.__version__, "torchvision", torchvision.__version__)'
  uname -a
  nproc
}

# On the GPU only: what runs the kernels on the CPU has been seen where they were built.
check() {
  export POLYHEAD_REQUIRE_GPU=1 CXX=false
  "$programs/tests-polyhead" cuda --test-threads 4 &&
    "$programs/tests-main" cuda:: devices::prediction partial::gpu_kernels \
      heads::other_losses heads::a_step_with_full --test-threads 1 --nocapture
}

steps() {
  local ok=0
  "$programs/polyhead" bench train --device cuda --batch 64,128,256 --repeats 30 --json "$out/train.json" \
    --markdown "$out/train.md" || ok=1
  "$programs/polyhead" bench train --device cuda --batch 128 --heads all --repeats 20 --json "$out/train-all-128.json" || ok=1
  if have_torch; then
    for mode in eager compile; do
      python3 "$here/benches/peers/compare.py" train --device cuda --batch 256 --mode $mode --repeats 30 --rounds 2 \
        --polyhead "$programs/polyhead" || ok=1
    done
  else
    echo "PyTorch is not there: no comparison"
  fi
  return $ok
}

ops() {
  have_torch && python3 "$here/benches/peers/pytorch.py" ceilings --device cuda --json "$out/ceilings.json"
  # 32 images: most of the tiles a batch of 256 gets, in seconds on a CPU.
  "$programs/polyhead" bench ops --device cuda --batch 256 --check=32 --repeats 10 --json "$out/ops-256.json" \
    --markdown "$out/ops-256.md"
}

inference() {
  local ok=0
  "$programs/polyhead" bench infer --device cuda --batch 1,256 --repeats 30 --json "$out/infer.json" \
    --markdown "$out/infer.md" || ok=1
  if have_torch; then
    for mode in eager compile; do
      python3 "$here/benches/peers/compare.py" infer --device cuda --batch 256 --mode $mode --repeats 30 --rounds 2 \
        --polyhead "$programs/polyhead" || ok=1
    done
  fi
  return $ok
}

# Last: PyTorch's search takes minutes.
autotuned() {
  have_torch || { echo "PyTorch is not there: no comparison"; return $SKIPPED; }
  python3 "$here/benches/peers/compare.py" infer --device cuda --batch 256 --mode max-autotune --repeats 30 --rounds 1 \
    --polyhead "$programs/polyhead"
}

# The built-in set to the figures it reaches on a CPU, and whether its images come fast enough.
digits() {
  rm -rf "$out/runs"
  "$programs/polyhead" train --device cuda --workers "$(nproc)" --project "$out/runs" --name digits &&
    "$programs/polyhead" evaluate "$out/runs/train/digits" --device cuda --json "$out/digits-gpu.json" &&
    "$programs/polyhead" evaluate "$out/runs/train/digits" --device cpu --json "$out/digits-cpu.json"
  local ok=$?
  "$programs/polyhead" data digits "$out/runs/scenes" &&
    "$programs/polyhead" bench train --device cuda --data "$out/runs/scenes" --workers "$(nproc)" --backbone resnet18 --imgsz 96 \
      --batch 32,128 --repeats 50 --json "$out/fed.json" --markdown "$out/fed.md" || ok=1
  # Pictures and checkpoints are not results.
  [ -d "$out/runs/train/digits" ] && cp "$out/runs/train/digits/results.csv" "$out/digits.csv"
  rm -rf "$out/runs"
  return $ok
}

sanitizer() {
  command -v compute-sanitizer >/dev/null || { echo "compute-sanitizer is not there"; return $SKIPPED; }
  local tool ok=0
  # Once without, so that tiles are chosen by true times, and kept, before times are the sanitizer's.
  "$programs/polyhead" bench train --device cuda --backbone resnet18 --imgsz 64 --batch 8 --heads all --repeats 1 || return 1
  for tool in memcheck racecheck; do
    echo "== $tool"
    timeout 180 compute-sanitizer --tool $tool --error-exitcode 9 \
      "$programs/polyhead" bench train --device cuda --backbone resnet18 --imgsz 64 --batch 8 --heads all --repeats 1
    case $? in
      0) ;;
      124) echo "$tool did not end within 180 s, which says nothing" ;;
      *) ok=1 ;;
    esac
  done
  return $ok
}

run() {
  out=${1:?a folder for the results}
  shift
  mkdir -p "$out"
  out=$(cd "$out" && pwd)
  # NVRTC, cuBLAS and cuDNN lie with PyTorch's wheels or in a toolkit.
  local wheels
  wheels=$(python3 -c 'import nvidia, os; p = list(nvidia.__path__)[0]; print(*(os.path.join(p, d, "lib") for d in ("cu13", "cudnn")), sep=":")' 2>/dev/null || true)
  export LD_LIBRARY_PATH="${wheels:+$wheels:}/usr/local/cuda/lib64${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
  export POLYHEAD_CACHE="${POLYHEAD_CACHE:-$out/cache}"
  local stage
  for stage in ${*:-$ALL}; do
    [ -e "$out/$stage.passed" ] && continue
    echo "== $stage"
    rm -f "$out/$stage.skipped"
    timeout "${STAGE_SECONDS:-540}" bash "$0" stage "$out" "$stage" > "$out/$stage.txt" 2>&1
    case $? in
      0) touch "$out/$stage.passed" ;;
      "$SKIPPED") touch "$out/$stage.skipped" ;;
    esac
    tail -n 40 "$out/$stage.txt"
    table > "$out/README.md"
    tar -C "$out" --exclude cache --exclude runs --exclude results.tgz -czf "$out/results.tgz" .
  done
  cat "$out/README.md"
}

# What passed.
table() {
  local stage result
  echo "| stage | result |"
  echo "|---|---|"
  for stage in $ALL; do
    if [ -e "$out/$stage.passed" ]; then result=passed
    elif [ -e "$out/$stage.skipped" ]; then result="skipped, see $stage.txt"
    elif [ -e "$out/$stage.txt" ]; then result="failed, see $stage.txt"
    else result="not run"
    fi
    echo "| $stage | $result |"
  done
}

case "${1:-}" in
  build) build ;;
  run) shift; run "$@" ;;
  stage) out=$2; "$3" ;;
  *) sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
