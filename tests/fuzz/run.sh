#!/usr/bin/env bash
# Fuzzes the targets of tests/fuzz/targets/ with libFuzzer. It needs a nightly toolchain and `cargo install cargo-fuzz`.
#
#   tests/fuzz/run.sh build                  builds the one program that holds all targets, with AddressSanitizer
#   tests/fuzz/run.sh run TARGET SECONDS     fuzzes from the kept inputs; adds what it finds to target/fuzz/found/TARGET
#   tests/fuzz/run.sh keep TARGET            makes the least set of inputs with the same coverage, and keeps the smallest in corpus/TARGET.zip
#
# A failing input stays in target/fuzz/failed/TARGET. Once it is mended, copy it to corpus/TARGET/ under a name that says what it is.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
built=$root/target/fuzz
program=${FUZZ_PROGRAM:-$built/$(rustc -vV | sed -n 's/^host: //p')/release/all}

# The inputs that are committed: files with names, the archive, and files of other tests.
kept() {
  cp "tests/fuzz/corpus/$1"/* "$2" 2>/dev/null || true
  if [ -e "tests/fuzz/corpus/$1.zip" ]; then python3 -m zipfile -e "tests/fuzz/corpus/$1.zip" "$2"; fi
  case $1 in
    image | jpeg) cp tests/golden/images/* "$2" ;;
    pickle) cp tests/golden/*.pth "$2" ;;
  esac
}

case ${1:-} in
  build)
    cargo +nightly fuzz build --fuzz-dir tests/fuzz --target-dir "$built" all
    ;;
  run)
    target=$2 seconds=$3
    found=$built/found/$target failed=$built/failed/$target
    # Targets write their files below TMPDIR and look for relative paths in the current folder, so both are an empty folder.
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    mkdir -p "$found" "$failed" "$scratch/kept" "$scratch/work"
    kept "$target" "$scratch/kept"
    cd "$scratch/work"
    TARGET=$target TMPDIR=$scratch/work RAYON_NUM_THREADS=1 "$program" "$found" "$scratch/kept" -max_total_time="$seconds" \
      -rss_limit_mb=1024 -timeout=10 -print_final_stats=1 -artifact_prefix="$failed/"
    ;;
  keep)
    target=$2
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    mkdir -p "$built/found/$target" "$scratch/kept" "$scratch/least" "$scratch/work"
    kept "$target" "$scratch/kept"
    (cd "$scratch/work" && TARGET=$target TMPDIR=$scratch/work RAYON_NUM_THREADS=1 "$program" -merge=1 -use_counters=0 -rss_limit_mb=1024 \
      -timeout=10 "$scratch/least" "$scratch/kept" "$built/found/$target")
    # Named files stay what they are, so the archive holds the others: the smallest, up to 120 kB.
    python3 - "$scratch/least" "tests/fuzz/corpus/$target" <<'END'
import os, sys, zipfile
least, corpus = sys.argv[1:]
read = lambda path: open(path, "rb").read()
named = {read(os.path.join(corpus, name)) for name in os.listdir(corpus)} if os.path.isdir(corpus) else set()
found = sorted((read(os.path.join(least, name)) for name in os.listdir(least)), key=lambda data: (len(data), data))
room = 120_000
with zipfile.ZipFile(corpus + ".zip", "w") as archive:
    for number, data in enumerate(data for data in found if data not in named):
        room -= len(data) + 100
        if room < 0:
            break
        archive.writestr(zipfile.ZipInfo(str(number)), data)
    print(f"{corpus}.zip: {len(archive.namelist())} of {len(found)} inputs")
END
    ;;
  *)
    sed -n '2,9s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
