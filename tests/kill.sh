#!/usr/bin/env bash
# Kills a run with -9 at random moments, COUNT times, resumes it each time, and compares the result with an undisturbed run: the
# same table except for times, the same bytes of the best weights, the same tensors of the last state.
#
#   tests/kill.sh COUNT PROGRAM [SEED]
set -euo pipefail
count=${1:?how often} program=${2:?the polyhead program} RANDOM=${3:-1}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
small=(--backbone tiny --imgsz 32 --batch 8 --workers 1 --threads 1 --epochs 40 --save-minutes 0.0005 --project "$folder/train")

"$program" data digits "$folder/all" > "$folder/log" 2>&1
# A small part of its scenes: two dozen per split.
mkdir -p "$folder/data/images/train" "$folder/data/images/val" "$folder/data/labels"
for split in train val; do
  mkdir -p "$folder/data/labels/$split"
  for image in $(find "$folder/all" -path "*$split*" -name '*.png' | sort | head -n 24); do
    name=$(basename "$image" .png)
    cp "$image" "$folder/data/images/$split/"
    label=$(find "$folder/all" -path "*labels/$split*" -name "$name.txt" | head -n 1)
    if [ -n "$label" ]; then cp "$label" "$folder/data/labels/$split/"; fi
  done
done
printf 'path: .\ntrain: images/train\nval: images/val\nnames: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]\n' > "$folder/data/data.yaml"

"$program" train "$folder/data" "${small[@]}" --name whole > "$folder/log" 2>&1

# A safetensors file consists of the length of its header in eight bytes, the header, which contains times, and the
# tensors.
tensors() {
  local header
  header=$(od -An -t u8 -N 8 "$1" | tr -d ' ')
  tail -c "+$((9 + header))" "$1"
}

run=$folder/train/cut killed=0 rounds=0
while [ "$killed" -lt "$count" ]; do
  rounds=$((rounds + 1))
  if [ -e "$run/weights/last.safetensors" ] || [ -e "$run/weights/previous.safetensors" ]; then
    "$program" train --resume "$run" > "$folder/log" 2>&1 &
  else
    "$program" train "$folder/data" "${small[@]}" --name cut --exist-ok > "$folder/log" 2>&1 &
  fi
  pid=$!
  # 0 to 299 ms: the kill may hit the start, training or saving.
  sleep "0.$(printf %03d $((RANDOM % 300)))"
  if kill -9 "$pid" 2> /dev/null; then killed=$((killed + 1)); fi
  code=0
  wait "$pid" 2> /dev/null || code=$?
  if [ "$code" -ne 0 ] && [ "$code" -ne 137 ]; then
    echo "after $killed kills a run ended with $code:"
    cat "$folder/log"
    exit 1
  fi
  if [ "$code" -eq 0 ]; then
    # The run finished, so another one starts from the beginning.
    mv "$run" "$run-$rounds"
  fi
done
if [ -e "$run/weights/last.safetensors" ] || [ -e "$run/weights/previous.safetensors" ]; then
  "$program" train --resume "$run" > "$folder/log" 2>&1
else
  "$program" train "$folder/data" "${small[@]}" --name cut --exist-ok > "$folder/log" 2>&1
fi

ends=0
for run in "$folder"/train/cut*; do
  ends=$((ends + 1))
  cmp <(cut -d, -f1,3- "$folder/train/whole/results.csv") <(cut -d, -f1,3- "$run/results.csv")
  cmp "$folder/train/whole/weights/best.safetensors" "$run/weights/best.safetensors"
  cmp <(tensors "$folder/train/whole/weights/last.safetensors") <(tensors "$run/weights/last.safetensors")
  if [ -n "$(find "$run" -name '*.part')" ]; then
    echo "half-written files were left: $(find "$run" -name '*.part')"
    exit 1
  fi
done
echo "killed $killed times in $rounds starts; $ends runs ended like the undisturbed one"
