"""polyhead and PyTorch in turn, A B A B …, on the same work; prints the ratio of each pair and their median.

    python compare.py train --imgsz 64 --batch 32 --threads 2 --rounds 5 --polyhead ../../target/release/polyhead
    python compare.py train --device cuda --batch 256 --mode compile
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile


def images_per_second(command):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "result.json")
        subprocess.run([*command, "--json", path], check=True, stdout=subprocess.DEVNULL)
        with open(path) as file:
            return json.load(file)["samples_per_sec"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("work", choices=["train", "infer"])
    parser.add_argument("--imgsz", default="224")
    parser.add_argument("--batch", default="8")
    parser.add_argument("--threads", default="2")
    parser.add_argument("--repeats", default="5")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--mode", default="eager", help="PyTorch's: eager, compile, max-autotune")
    parser.add_argument("--polyhead", default="target/release/polyhead")
    args = parser.parse_args()
    same = [args.work, "--imgsz", args.imgsz, "--batch", args.batch, "--threads", args.threads, "--repeats", args.repeats,
            "--device", args.device]
    ours, theirs = [], []
    peer = os.path.join(os.path.dirname(os.path.abspath(__file__)), "pytorch.py")
    for _ in range(args.rounds):
        ours.append(images_per_second([args.polyhead, "bench", *same]))
        theirs.append(images_per_second([sys.executable, peer, *same, "--mode", args.mode]))
        print(f"polyhead {ours[-1]:.2f}  PyTorch {args.mode} {theirs[-1]:.2f} images/s  ratio {ours[-1] / theirs[-1]:.3f}", flush=True)
    ratios = [a / b for a, b in zip(ours, theirs)]
    print(f"median: polyhead {statistics.median(ours):.2f}, PyTorch {args.mode} {statistics.median(theirs):.2f} images/s, "
          f"ratio {statistics.median(ratios):.3f} ({min(ratios):.3f}–{max(ratios):.3f})")


if __name__ == "__main__":
    main()
