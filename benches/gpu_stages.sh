#!/usr/bin/env bash
# The commands of each stage of benches/gpu.sh: bash benches/gpu_stages.sh STAGE. gpu.sh starts it in the folder for the
# stage's results. Exit code 77, with the reason on the last line, means that this machine cannot run the stage.
# shellcheck disable=SC2317
# Stages are called by name.
set -uo pipefail
programs=$POLYHEAD_PROGRAMS
others=$(cd "$(dirname "$0")/peers" && pwd)
NOT_HERE=77
# For temporary files; removed with the run.
beside=$(cd ../.. && pwd)

# NVRTC, cuBLAS and cuDNN come with PyTorch's wheels or with a toolkit. The wheels come first. polyhead opens libraries
# by the version in their names, which both have, and reports the files.
libraries() {
  local wheels
  wheels=$(python3 -c 'import nvidia, os; p = list(nvidia.__path__)[0]; print(*(os.path.join(p, d, "lib") for d in ("cu13", "cudnn")), sep=":")' 2> /dev/null)
  export LD_LIBRARY_PATH="${wheels:+$wheels:}/usr/local/cuda/lib64${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
}

# Ends the stage if a program or a Python package is missing.
need() {
  command -v "$1" > /dev/null || { echo "$1 is not there"; exit "$NOT_HERE"; }
}

need_torch() {
  need python3
  python3 -c 'import sys; from importlib.util import find_spec; sys.exit(not (find_spec("torch") and find_spec("torchvision")))' ||
    { echo "python3 has no torch and torchvision"; exit "$NOT_HERE"; }
}

polyhead() { "$programs/polyhead" "$@"; }

# Runs tests on the GPU only. The tests that run kernels on the CPU ran where they were built.
operations() { POLYHEAD_REQUIRE_GPU=1 CXX=false "$programs/tests-engine" "$@" --test-threads 4; }

describe() {
  need nvidia-smi
  nvidia-smi || return 1
  nvidia-smi -q -d CLOCK,POWER,PERFORMANCE
  uname -a
  nproc
  # Compiles nothing if the carried kernels match this machine's NVRTC.
  local capability
  capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1)
  polyhead bench kernels --architecture "sm_${capability/./}"
}

check() { operations conv2d::cuda batch_norm::cuda; }

steps() { polyhead bench train --device cuda --batch 256 --repeats 30 --json train.json --markdown train.md; }

ops() { polyhead bench ops --device cuda --batch 256 --repeats 10 --json ops.json --markdown ops.md; }

# The sixth launch, in the middle of the network, of each convolution kernel with the tiles that were chosen, and of batch norm's
# passes. A step is replayed as a CUDA graph; if the profiler does not show single launches of it, `bench ops` launches them one
# by one.
ncu() {
  need ncu
  local work kernels='^(conv2d_(fprop|dgrad|wgrad)_[0-9]+x[0-9]+|batch_norm_(apply|backward_apply|reduce))$'
  for work in train ops; do
    command ncu --clock-control none --import-source no --kernel-id "::regex:$kernels:6" --launch-count 8 --kill on \
      --section SpeedOfLight --section MemoryWorkloadAnalysis --section WarpStateStats --section Occupancy \
      --section LaunchStats --force-overwrite --export kernels \
      "$programs/polyhead" bench "$work" --device cuda --batch 256 --repeats 1
    # Its exit code is meaningless, because the program is killed after the last kernel.
    [ ! -s kernels.ncu-rep ] || break
  done
  command ncu --import kernels.ncu-rep --page raw --csv > kernels.csv &&
    command ncu --import kernels.ncu-rep --page details > kernels.txt || return 1
  grep -E '^  [a-z]|Duration|Compute \(SM\) Throughput|Memory Throughput|Achieved Occupancy' kernels.txt
}

torch() {
  need_torch
  python3 "$others/pytorch.py" train --device cuda --batch 256 --mode eager,compile --repeats 30 --json torch.json
}

retest() {
  local ok=0
  operations cuda || ok=1
  steps || ok=1
  POLYHEAD_REQUIRE_GPU=1 CXX=false "$programs/tests-main" cuda:: devices::prediction partial::gpu_kernels \
    heads::other_losses heads::a_step_with_full --test-threads 1 || ok=1
  return $ok
}

inference() { polyhead bench infer --device cuda --batch 1,256 --repeats 30 --json infer.json --markdown infer.md; }

# A separate cache, because the checker tries every tile and its times are meaningless.
memcheck() {
  need compute-sanitizer
  local cache=$beside/memcheck-cache
  mkdir "$cache"
  cp -r "$POLYHEAD_CACHE/kernels" "$cache" 2> /dev/null
  POLYHEAD_CACHE=$cache compute-sanitizer --tool memcheck --error-exitcode 9 \
    "$programs/polyhead" bench train --device cuda --backbone tiny --imgsz 64 --batch 2 --heads all --repeats 1
}

torch-inference() {
  need_torch
  python3 "$others/pytorch.py" infer --device cuda --batch 256 --mode eager,compile --repeats 30 --json torch.json
}

batches() {
  polyhead bench train --device cuda --batch 64,128,512 --repeats 30 --json train.json --markdown train.md &&
    polyhead bench train --device cuda --batch 128 --heads all --repeats 20 --json train-all.json
}

# 32 images: most of the tiles of a batch of 256, in seconds on a CPU.
ops-check() {
  polyhead bench ops --device cuda --batch 256 --check=32 --repeats 10 --json ops.json --markdown ops.md
}

# Interleaved, as the protocol requires.
peers() {
  need_torch
  local work mode ok=0
  for work in train infer; do
    for mode in eager compile; do
      python3 "$others/compare.py" $work --device cuda --batch 256 --mode $mode --repeats 30 --rounds 2 \
        --polyhead "$programs/polyhead" || ok=1
    done
  done
  return $ok
}

# PyTorch's search takes minutes.
autotuned() {
  need_torch
  python3 "$others/compare.py" infer --device cuda --batch 256 --mode max-autotune --repeats 30 --rounds 1 \
    --polyhead "$programs/polyhead"
}

# Trains the built-in set, to compare with the results on a CPU, and checks that images are supplied
# fast enough.
digits() {
  # Pictures and checkpoints are not kept as results.
  local runs=$beside/runs
  polyhead train --device cuda --workers "$(nproc)" --project "$runs/train" --name digits &&
    polyhead evaluate "$runs/train/digits" --device cuda --json digits-gpu.json &&
    polyhead evaluate "$runs/train/digits" --device cpu --json digits-cpu.json
  local ok=$?
  polyhead data digits "$runs/scenes" &&
    polyhead bench train --device cuda --data "$runs/scenes" --workers "$(nproc)" --backbone resnet18 --imgsz 96 \
      --batch 32,128 --repeats 50 --json fed.json --markdown fed.md || ok=1
  cp "$runs/train/digits/results.csv" digits.csv || ok=1
  return $ok
}

sanitizer() {
  need compute-sanitizer
  local tool ok=0 small="bench train --device cuda --backbone resnet18 --imgsz 64 --batch 8 --heads all --repeats 1"
  # One run without the tools, so that tiles are chosen, and saved, by true times and not by the
  # sanitizer's.
  # shellcheck disable=SC2086
  polyhead $small || return 1
  for tool in memcheck racecheck; do
    echo "== $tool"
    # shellcheck disable=SC2086
    timeout 180 compute-sanitizer --tool $tool --error-exitcode 9 "$programs/polyhead" $small
    case $? in
      0) ;;
      124) echo "$tool did not end within 180 s, so it has no result" ;;
      *) ok=1 ;;
    esac
  done
  return $ok
}

libraries
"$1"
