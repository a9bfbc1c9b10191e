#!/usr/bin/env bash
# Tests and measures on a machine with a GPU, in stages under one deadline. Results are saved after every stage.
#
#   benches/gpu.sh build [ARCHITECTURE…]  on a machine with Rust: compiles programs, tests and kernels (sm_90) into target/gpu
#   benches/gpu.sh run A                  on the machine with the GPU, first: at most 380 s
#   benches/gpu.sh run B                  afterwards, with failures fixed: at most 240 s
#   benches/gpu.sh run STAGE…             any stages, in this order: at most 570 s, or --seconds N
#   benches/gpu.sh stages                 lists them
#
# Results go to the folder given by --out or the environment variable OUT: README.md (the table), results.tgz (all logs and
# results) and log.txt. The GPU's machine needs the folder target/gpu, bash 5, a driver and NVRTC, but no Rust and no network.
# Exit codes: 0; 1 if a stage failed, was stopped or had no time left; 2 usage; 128 + N if signal N ended the run.
set -uo pipefail
[ "${BASH_VERSINFO[0]}" -ge 5 ] || { echo "bash $BASH_VERSION is too old: 5 or newer is needed" >&2; exit 2; }
# Some locales put a comma into EPOCHREALTIME.
export LC_ALL=C
here=$(cd "$(dirname "$0")/.." && pwd)
programs=${POLYHEAD_PROGRAMS:-$here/target/gpu}
# Length of a second of the limits, in milliseconds. The rehearsal in tests/suite shortens it.
second=${POLYHEAD_SECOND_MS:-1000}

A="describe check steps ops ncu torch"
B="retest inference memcheck torch-inference"
OPTIONAL="batches ops-check peers digits sanitizer autotuned"
# Limits in seconds of part A, part B, other selections, and each stage. A stage is skipped if less than a third of its
# limit is left.
declare -A LIMIT=(
  [A]=380 [B]=240 [other]=570
  [describe]=15 [check]=40 [steps]=25 [ops]=60 [ncu]=60 [torch]=150
  [retest]=85 [inference]=25 [memcheck]=45 [torch-inference]=60
  [batches]=120 [ops-check]=300 [peers]=540 [digits]=300 [sanitizer]=420 [autotuned]=540
)
# Seconds between SIGTERM and SIGKILL, and again until a process that survives SIGKILL is given up; and seconds reserved for
# packing.
GRACE=3
PACKING=2
# Seconds between packings while a stage runs: the most that a sudden kill can lose.
PACK_EVERY=20
# Files larger than this are left out of results.tgz and listed.
LARGEST=8M
# 64 MiB can be carried, including the repository.
CARRIED_MIB=56
# Exit code of a stage that is not possible on this machine.
NOT_HERE=77

build() {
  set -e
  cd "$here"
  rm -rf "$programs"
  mkdir -p "$programs"
  cargo build --release
  cp "${CARGO_TARGET_DIR:-target}/release/polyhead" "$programs/polyhead"
  # cargo prints the test programs' paths.
  local json=--message-format=json-render-diagnostics
  { cargo test --no-run -p polyhead-engine --lib $json && cargo test --no-run -p polyhead --test main $json; } |
    sed -n 's/.*"name":"\(polyhead_engine\|main\)".*"test":true}.*"executable":"\([^"]*\)".*/\1 \2/p' |
    while read -r name path; do cp "$path" "$programs/tests-${name#polyhead_}"; done
  strip "$programs"/*
  compile "$@" || { find_nvrtc && compile "$@"; } || echo "no kernels were compiled: the GPU's machine will do it"
  du -h --apparent-size "$programs"/*
  local mib
  mib=$(du -sm --apparent-size "$programs" | cut -f1)
  echo "carry target/gpu: $mib MiB"
  [ "$mib" -lt "$CARRIED_MIB" ] || { echo "that is too much: at most $CARRIED_MIB MiB can be carried"; exit 1; }
}

# Compiles the kernels for each architecture with the NVRTC that is found.
compile() {
  [ $# -gt 0 ] || set -- sm_90
  local architecture
  for architecture; do
    POLYHEAD_CACHE=$programs/cache "$programs/polyhead" bench kernels --architecture "$architecture" || return 1
  done
}

# Installs NVRTC from PyPI in the version that the gate uses.
find_nvrtc() {
  local nvrtc=$here/target/nvrtc
  [ -e "$nvrtc/bin/pip" ] || python3 -m venv "$nvrtc" || return 1
  "$nvrtc/bin/pip" install -q --disable-pip-version-check nvidia-cuda-nvrtc==13.0.88 || return 1
  LD_LIBRARY_PATH="$(echo "$nvrtc"/lib/python3*/site-packages/nvidia/cu13/lib)${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
  export LD_LIBRARY_PATH
}

usage() {
  sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"
  exit 2
}

refuse() {
  echo "$1" >&2
  exit 2
}

# Sets `now`, in milliseconds.
tick() { now=$((${EPOCHREALTIME/./} / 1000)); }

# Prints to the terminal and into log.txt.
say() {
  echo "$*" >> "$out/log.txt"
  echo "$*"
}

run() {
  out=${OUT:-}
  words=$* asked="" deadline="" part="" current=""
  local word
  while [ $# -gt 0 ]; do
    word=$1
    shift
    case "$word" in
      --out | --seconds)
        [ $# -gt 0 ] || refuse "$word: its value is missing"
        if [ "$word" = --out ]; then out=$1; else deadline=$1; fi
        shift
        ;;
      A | B) asked="$asked ${!word}"; part=${part:+other}; part=${part:-$word} ;;
      *)
        [[ " $A $B $OPTIONAL " == *" $word "* ]] || refuse "$word is not a stage: expected A, B, or some of $A $B $OPTIONAL"
        asked="$asked $word" part=other
        ;;
    esac
  done
  [ -n "$asked" ] || usage
  [ -n "$out" ] || refuse "no folder for the results: name one with --out or in the environment variable OUT"
  deadline=${deadline:-${LIMIT[$part]}}
  [[ $deadline =~ ^0*[0-9]{1,6}$ ]] || refuse "--seconds $deadline: expected a number of seconds, at most 999999"
  deadline=$((10#$deadline))
  # The copied files may have lost their modes.
  chmod +x "$programs/polyhead" "$programs"/tests-* 2> /dev/null
  [ -x "$programs/polyhead" ] || refuse "$programs/polyhead is not there: run benches/gpu.sh build where Rust is, and carry target/gpu"
  mkdir -p "$out" && out=$(cd "$out" && pwd) || exit 2
  tick
  begun=$now
  end=$((begun + deadline * second))
  begin
  local stage
  for stage in $asked; do attempt "$stage"; done
  finish
}

# Makes the folder for the results, continuing from those of an earlier run, and starts the background processes of the run.
begin() {
  work=$(mktemp -d) || exit 2
  results=$work/results
  mkdir "$results"
  rm -f "$out"/*.part
  if [ -e "$out/results.tgz" ] && ! tar -C "$results" -xzf "$out/results.tgz"; then
    rm -rf "$work"
    refuse "$out/results.tgz cannot be unpacked: move it away"
  fi
  local result
  for result in "$results"/*/result; do
    [ ! -e "$result" ] || sed -i '/ (an earlier run)/!s/\t/ (an earlier run)\t/' "$result"
  done
  : > "$out/log.txt"
  export POLYHEAD_CACHE=${POLYHEAD_CACHE:-$here/target/gpu-cache}
  # Kernels compiled by `build`; newer ones are kept.
  mkdir -p "$POLYHEAD_CACHE" && cp -rn "$programs/cache/." "$POLYHEAD_CACHE" 2> /dev/null
  # Every process of this run has this in its environment, so that processes in other sessions are found as well.
  mark=POLYHEAD_RUN=$$-$begun
  stage_mark=POLYHEAD_STAGE=$$-$begun
  # The pipe closes when this process ends for any reason; the guard outlives it.
  mkfifo "$work/alive"
  exec 9<> "$work/alive"
  exec 8< "$work/alive"
  set -m
  guard <&8 8<&- 9>&- > /dev/null 2>&1 &
  guard=$!
  exec 8<&-
  if command -v nvidia-smi > /dev/null; then
    local fields=timestamp,clocks.sm,clocks.mem,power.draw,temperature.gpu,utilization.gpu,clocks_throttle_reasons.active
    # A line twice a second, written immediately.
    env "$mark" stdbuf -oL nvidia-smi --query-gpu=$fields --format=csv,nounits -lms 500 \
      > "$results/clocks-$part.csv" 2>&1 < /dev/null 9>&- &
    # Suppresses the message about its end.
    disown $!
  fi
  set +m
  trap 'stop 143 SIGTERM' TERM
  trap 'stop 130 SIGINT' INT
  trap 'stop 129 SIGHUP' HUP
  trap 'exec > /dev/null; stop 141 SIGPIPE' PIPE
  say "benches/gpu.sh run $words: at most $deadline s, results in $out"
}

# If the run was killed without warning, ends the remaining processes.
guard() {
  trap '' TERM INT HUP
  read -r _
  # Twice, because a new process may not have its environment yet.
  sweep "$mark"
  sleep 0.2
  sweep "$mark"
  rm -rf "$work"
}

# Kills every process with this in its environment. If one starts another meanwhile, the next round finds it.
sweep() {
  local found
  for _ in {1..50}; do
    found=$(grep -lzxF -- "$1" /proc/[0-9]*/environ 2> /dev/null | tr -dc '0-9\n')
    [ -n "$found" ] || return 0
    # shellcheck disable=SC2086
    kill -9 $found 2> /dev/null
    sleep 0.02
  done
}

# Runs one stage if there is time, and prints its result.
attempt() {
  local stage=$1 left limit earlier=""
  tick
  left=$(((end - now) / second - 2 * GRACE - PACKING))
  limit=${LIMIT[$stage]}
  if [ $((left * 3)) -lt "$limit" ]; then
    [ ! -e "$results/$stage/result" ] || earlier="; $(cut -f1 "$results/$stage/result")"
    mkdir -p "$results/$stage"
    note "$stage" "skipped: $((left > 0 ? left : 0)) s were left of $deadline, it may take $limit$earlier"
    return
  fi
  limit=$((left < limit ? left : limit))
  rm -rf "${results:?}/$stage"
  mkdir "$results/$stage"
  note "$stage" "running"
  local started=$now
  set -m
  (
    cd "$results/$stage" || exit 1
    exec env "$mark" "$stage_mark-$stage" "POLYHEAD_PROGRAMS=$programs" bash "$here/benches/gpu_stages.sh" "$stage"
  ) > "$results/$stage/log.txt" 2>&1 < /dev/null 9>&- &
  child=$! current=$stage
  set +m
  local stop_at=$((now + limit * second)) pack_at=$((now + PACK_EVERY * second)) code result
  while kill -0 "$child" 2> /dev/null && [ "$now" -lt "$stop_at" ]; do
    sleep 0.05
    tick
    if [ "$now" -ge "$pack_at" ]; then
      pack
      pack_at=$((now + PACK_EVERY * second))
    fi
  done
  result=""
  if kill -0 "$child" 2> /dev/null; then result="stopped at its limit of $limit s"; fi
  end_stage
  code=$?
  current=""
  tick
  case "${result:+stopped}$code" in
    stopped*) ;;
    0) result="passed" ;;
    "$NOT_HERE") result="not possible here: $(tail -n 1 "$results/$stage/log.txt")" ;;
    *) result="failed with exit code $code" ;;
  esac
  note "$stage" "$result" "$(((now - started) / second))"
}

# Ends the current stage with all of its processes; returns its exit code.
end_stage() {
  kill -TERM -- "-$child" 2> /dev/null
  grace
  kill -KILL -- "-$child" 2> /dev/null
  sweep "$stage_mark-$current"
  # A process that waits in a hanging driver cannot be killed; the run continues without it.
  grace || { disown "$child"; return 137; }
  wait "$child" 2> /dev/null
}

# Waits until the stage's own process has ended.
grace() {
  tick
  local until=$((now + GRACE * second))
  while kill -0 "$child" 2> /dev/null; do
    [ "$now" -lt "$until" ] || return 1
    sleep 0.02
    tick
  done
}

# Saves the result of a stage, and everything so far.
note() {
  printf '%s\t%s\n' "$2" "${3:-}" > "$results/$1/result"
  [ "$2" = running ] || say "$1: $2"
  pack
}

# Writes the table and results.tgz, each under a temporary name first.
pack() {
  local large
  large=$(cd "$results" && find . -type f -size "+$LARGEST")
  # The tuner's choices and times.
  [ ! -d "$POLYHEAD_CACHE/tuning" ] || cp -r "$POLYHEAD_CACHE/tuning" "$results"
  table "$large" > "$results/README.md"
  cp "$out/log.txt" "$results/log.txt"
  tar -C "$results" --exclude-from <(echo "$large") -czf "$out/results.tgz.part" . 2> /dev/null
  # tar exits with 1 if a file grew while it was read, such as the log of a running stage.
  if [ $? -le 1 ] && mv -f "$out/results.tgz.part" "$out/results.tgz" &&
    cp "$results/README.md" "$out/README.md.part" && mv -f "$out/README.md.part" "$out/README.md"; then
    return
  fi
  echo "the results cannot be written to $out" >&2
  unwritten=1
}

# The result of each stage, and the end of its output.
table() {
  local stage result seconds
  echo "# benches/gpu.sh run $words"
  echo
  tick
  echo "Begun $(date -u -d "@$((begun / 1000))" +%FT%TZ), $(((now - begun) / second)) of $deadline s. All logs and figures are in results.tgz."
  echo
  echo "| stage | result | seconds |"
  echo "|---|---|---|"
  for stage in $A $B $OPTIONAL; do
    if [ -e "$results/$stage/result" ]; then
      IFS=$'\t' read -r result seconds < "$results/$stage/result"
      [ "$result" != running ] || result="had not ended when this was written"
    elif [[ " $asked " == *" $stage "* ]]; then
      result="not begun" seconds=""
    else
      continue
    fi
    echo "| $stage | $result | $seconds |"
  done
  [ -z "$1" ] || printf '\nLeft out of results.tgz, above %s: %s\n' "$LARGEST" "$(echo "$1" | tr '\n' ' ')"
  for stage in $A $B $OPTIONAL; do
    [ -s "$results/$stage/log.txt" ] || continue
    printf '\n## %s\n\n```text\n' "$stage"
    tail -c 4000 "$results/$stage/log.txt" | tail -n 15
    printf '```\n'
  done
}

# On a signal, ends the current stage and saves everything so far.
# shellcheck disable=SC2317
stop() {
  trap '' TERM INT HUP PIPE
  if [ -n "$current" ]; then
    local stage=$current
    end_stage
    note "$stage" "stopped with the run by $2"
  else
    pack
  fi
  leave "$1"
}

finish() {
  local stage result code=${unwritten:-0}
  for stage in $asked; do
    result=""
    IFS=$'\t' read -r result _ < "$results/$stage/result"
    case "$result" in passed | "not possible here"*) ;; *) code=1 ;; esac
  done
  # Includes the lines of the clocks' log since the last stage.
  pack
  # Prints the table again at the end of the output.
  cat "$out/README.md"
  echo
  sed '/^## /,$d' "$out/README.md"
  leave "$code"
}

# Ends the script and all its processes.
leave() {
  sweep "$mark"
  rm -rf "$work"
  kill -9 "$guard"
  wait "$guard" 2> /dev/null
  exit "$1"
}

# A single command, read completely before it runs, because the file may change meanwhile.
case "${1:-}" in
  build) shift; build "$@"; exit ;;
  run) shift; run "$@" ;;
  stages) printf '%s\n' "A: $A" "B: $B" "by name: $OPTIONAL"; exit ;;
  *) usage ;;
esac
