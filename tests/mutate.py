#!/usr/bin/env python3
"""Runs the program on damaged files: label files and declarations of every layout, images, and the files of a run.

    tests/mutate.py PROGRAM COUNT [SEED]

Each of the COUNT cases damages one file of a small valid data set or run and starts one command that reads it, with limits of time
and memory. A case fails if the program panics, ends by a signal, does not end, uses more memory than allowed, or refuses the file
with anything but one sentence. Failing cases are kept in a folder that is named at the end. The same seed makes the same cases.
Linux only, because memory is measured by wait4.
"""

import collections
import json
import os
import re
import resource
import shutil
import signal
import struct
import subprocess
import time

import trial

TIME_LIMIT_S = 20
# The largest memory that a process may use, and the address space at which the system refuses more. The latter also counts what is only reserved.
MOST_RSS_KIB = 1 << 20
ADDRESS_SPACE = 6 << 30
LONGEST_LINE = 1500
MOST_LINES = 12

TESTS = os.path.dirname(os.path.abspath(__file__))
CORPUS = os.path.join(TESTS, "fuzz", "corpus")
SMALL = ["--backbone", "tiny", "--imgsz", "32", "--batch", "2", "--threads", "1", "--workers", "1"]

TABLE = "file,kind,size,age,tags\n1.png,cat,12.5,1,red round\n2.png,dog,-3e2,2,\n3.png,cat,1,,red\n"
TASKS = """train: images
tasks:
  kind: {type: classify, from: {csv: labels.csv, column: kind}}
  size: {type: regress, from: {csv: labels.csv, column: [size, age]}}
  tags: {type: classify, multi_label: true, from: {csv: labels.csv, column: tags}}
"""
YOLO = "0 0.5 0.5 0.25 0.5\n1 0.25 0.25 0.125 0.125\n"
# The folder of the pictures, the damaged file, the target whose inputs it is made from, and the other files.
LAYOUTS = {
    "yolo": ("images", "labels/1.txt", "yolo", {"labels/2.txt": "1 0.5 0.5 1 1\n"}),
    "voc": ("JPEGImages", "Annotations/1.xml", "voc", {}),
    "coco": ("images", "annotations/labels.json", "coco", {}),
    "bdd": ("images", "labels/labels.json", "bdd", {}),
    "box rows": ("images", "boxes.csv", "box_rows", {}),
    "table": ("images", "labels.csv", "table", {"data.yaml": TASKS}),
    "metadata": ("train", "train/metadata.jsonl", "metadata", {}),
    "classes": ("train", "train/_classes.csv", "classes", {}),
    "data.yaml": ("images", "data.yaml", "data_yaml", {"labels.csv": TABLE, "labels/1.txt": YOLO}),
    "image list": ("images", "train.txt", "image_list",
                   {"data.yaml": "train: train.txt\nnames: [a, b, c]\n", "labels/1.txt": YOLO}),
}
ABSURD = [b"-1", b"1e999", b"NaN", b"inf", b"99999999999999999999", b"0", b"", b"\0", b"'", b"{", b"[", b"\xef\xbb\xbf",
          b"\xff", b"*a", b"\r", b'"', b"null", b"true", b"\x1b[31m"]


def damaged(data, others, draw):
    """One to three changes: bits, cuts, repetitions, absurd words, and parts of another file."""
    data = bytearray(data)
    for _ in range(draw.randint(1, 3)):
        at = draw.randint(0, len(data))
        end = min(len(data), at + draw.randint(0, 24))
        kind = draw.randrange(7)
        if kind == 0 and draw.random() < 0.3:
            del data[at:]
        elif kind == 1 and at < len(data):
            data[at] ^= 1 << draw.randrange(8)
        elif kind == 2:
            del data[at:end]
        elif kind == 3:
            data[at:at] = data[at:end] * draw.randint(1, 6)
        elif kind == 4:
            data[at:end] = draw.choice(ABSURD)
        elif kind == 5:
            other = draw.choice(others)
            start = draw.randint(0, len(other))
            data[at:at] = other[start:start + draw.randint(0, 64)]
        else:
            numbers = [m.span() for m in re.finditer(rb"\d+", bytes(data))]
            if numbers:
                start, stop = draw.choice(numbers)
                data[start:stop] = draw.choice(ABSURD)
    return bytes(data)


def read(path):
    with open(path, "rb") as file:
        return file.read()


def write(folder, name, data):
    path = os.path.join(folder, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data if isinstance(data, bytes) else data.encode())
    return path


def inputs(target):
    """The inputs that are kept for a fuzz target."""
    folder = os.path.join(CORPUS, target)
    return [read(os.path.join(folder, name)) for name in sorted(os.listdir(folder))]


def images():
    folder = os.path.join(TESTS, "golden", "images")
    return {name: read(os.path.join(folder, name)) for name in sorted(os.listdir(folder))}


def with_metadata(data, change):
    """A safetensors file with other metadata and without its checksum, which would refuse every change."""
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + length])
    header["__metadata__"].pop("polyhead.checksum", None)
    change(header["__metadata__"])
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data[8 + length:]


class Cases:
    """Valid files, and the commands that read them."""

    def __init__(self, program, folder, draw):
        self.program, self.folder, self.draw = program, folder, draw
        self.images = images()
        self.picture = self.images["plain.png"]
        self.seeds = {layout: inputs(parts[2]) for layout, parts in LAYOUTS.items()}
        self.run = os.path.join(folder, "project", "train", "whole")
        data = os.path.join(folder, "valid")
        for number in range(1, 9):
            write(data, f"images/{number}.png", self.picture)
        write(data, "labels.csv", "file,kind,size\n" + "".join(f"{n}.png,{'ab'[n % 2]},{n}\n" for n in range(1, 9)))
        write(data, "data.yaml", "train: images\ntasks:\n  kind: {type: classify, from: {csv: labels.csv, column: kind}}\n"
                                 "  size: {type: regress, from: {csv: labels.csv, column: size}}\n")
        self.data = data
        subprocess.run([program, "train", data, *SMALL, "--epochs", "2", "--project", os.path.dirname(self.run),
                        "--name", "whole"], check=True, capture_output=True)

    def layout(self, case):
        layout = self.draw.choice(list(LAYOUTS))
        pictures, file, _, others = LAYOUTS[layout]
        for number in range(1, 4):
            write(case, f"{pictures}/{number}.png", self.picture)
        for name, text in others.items():
            write(case, name, text)
        seeds = self.seeds[layout]
        text = damaged(self.draw.choice(seeds), seeds, self.draw)
        # A declaration must not name a folder elsewhere, whose images would all be listed.
        write(case, file, re.sub(rb"(^|[^\w.-])/", rb"\1", text.replace(b"..", b".")))
        commands = [["data", "check", case], ["data", "check", case, "--fix", case + "-fixed"], ["data", "describe", case],
                    ["train", case, "--dry-run", *SMALL, "--project", case + "-project"],
                    ["data", "convert", case, "--to", self.draw.choice(["coco", "yolo", "voc", "jsonl"]), "--out", case + "-out"],
                    ["data", "preview", case, "--out", case + ".png"]]
        return layout, self.draw.choice(commands)

    def image(self, case):
        name = self.draw.choice(list(self.images))
        path = write(case, f"a/{name}", damaged(self.images[name], list(self.images.values()), self.draw))
        write(case, "b/whole.png", self.picture)
        commands = [["predict", self.run, path, "--out", case + "-out", "--threads", "1"], ["data", "check", case],
                    ["train", case, "--dry-run", *SMALL, "--project", case + "-project"]]
        return "image", self.draw.choice(commands)

    def run_file(self, case):
        """Damages a text file of a copy of the run."""
        run = shutil.copytree(self.run, os.path.join(case, "project", "train", "whole"))
        name = self.draw.choice(["args.yaml", "args.yaml", "results.csv", "log.txt", ".polyhead-lock"])
        path = os.path.join(run, name)
        write(run, name, damaged(read(path), [read(path)], self.draw))
        commands = [["train", "--resume", run], ["train", self.data, "--config", os.path.join(run, "args.yaml"), *SMALL, "--dry-run"],
                    ["predict", run, os.path.join(self.data, "images/1.png"), "--out", case + "-out", "--threads", "1"],
                    ["evaluate", run, "--threads", "1"], ["compare", "--runs", run, self.run, "--out", case + "-out"]]
        return name, self.draw.choice(commands)

    def weights(self, case):
        """Damages the card or the state in a copy of the run, or the file as it is."""
        run = shutil.copytree(self.run, os.path.join(case, "project", "train", "whole"))
        os.remove(os.path.join(run, "weights", "previous.safetensors"))
        path = os.path.join(run, "weights", self.draw.choice(["best", "last"]) + ".safetensors")
        data = read(path)
        kind = self.draw.choice(["card", "state", "weights"])
        if kind == "weights":
            changed = damaged(data, [data[:4096]], self.draw)
        else:
            key = {"card": "polyhead", "state": "polyhead.run"}[kind]

            def change(metadata):
                text = metadata.get(key, "").encode()
                metadata[key] = damaged(text, [text], self.draw).decode("utf-8", "replace")

            changed = with_metadata(data, change)
        write(case, path, changed)
        commands = [["predict", path, os.path.join(self.data, "images/1.png"), "--out", case + "-out", "--threads", "1"],
                    ["evaluate", path, self.data, "--threads", "1"], ["train", "--resume", run],
                    ["train", self.data, "--weights", path, "--dry-run", *SMALL, "--project", case + "-project"]]
        return kind, self.draw.choice(commands)

    def torch(self, case):
        kind = self.draw.choice(["pickle", "safetensors"])
        seeds = inputs(kind)
        seeds += [read(os.path.join(TESTS, "golden", name)) for name in sorted(os.listdir(os.path.join(TESTS, "golden")))
                  if name.endswith(".pth")]
        path = write(case, "w.pth", damaged(self.draw.choice(seeds), seeds, self.draw))
        commands = [["predict", path, os.path.join(self.data, "images/1.png"), "--out", case + "-out", "--threads", "1"],
                    ["train", self.data, "--weights", path, "--dry-run", *SMALL, "--project", case + "-project"]]
        return "file of another program", self.draw.choice(commands)

    def coco_results(self, case):
        seeds = inputs("coco_results")
        parts = damaged(self.draw.choice(seeds), seeds, self.draw).split(b"\0", 1)
        valid = next(seed for seed in seeds if b"\0" in seed and b'"categories"' in seed).split(b"\0", 1)[1]
        results = write(case, "results.json", parts[0])
        annotations = write(case, "annotations.json", parts[1] if len(parts) > 1 else valid)
        return "COCO results", ["evaluate", "--coco", annotations, "--detections", results]

    def make(self, case):
        kinds = [self.layout] * 8 + [self.image] * 3 + [self.run_file] * 4 + [self.weights] * 5 + [self.torch, self.coco_results]
        return self.draw.choice(kinds)(case)


def limit():
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def start(command, folder):
    """Exit code (negative for a signal), standard error, peak memory in KiB, seconds, and whether it had to be interrupted."""
    with open(os.path.join(folder, "stderr"), "wb") as err:
        process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=err,
                                   preexec_fn=limit)
    begun, told = time.monotonic(), None
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        waited = time.monotonic() - begun
        if told is None and waited > TIME_LIMIT_S:
            # A changed number may ask for more epochs: such a run must stop when it is told to.
            process.send_signal(signal.SIGINT)
            told = waited
        elif told is not None and waited > told + 5:
            process.kill()
            told = float("inf")
        time.sleep(0.002)
    process.returncode = os.waitstatus_to_exitcode(status)
    text = read(os.path.join(folder, "stderr")).decode("utf-8", "replace")
    return process.returncode, text, usage.ru_maxrss, time.monotonic() - begun, told


def fault(code, said, rss, told):
    """What is wrong with an outcome; None if nothing is."""
    lines = [line for line in said.splitlines() if line.strip()]
    if "panicked" in said and "the decoder panicked" not in said or code == 101:
        return "panic"
    if told == float("inf"):
        return "hang"
    if code < 0 or code not in (0, 1, 2, 130):
        return "signal" if code < 0 else f"exit code {code}"
    if rss > MOST_RSS_KIB:
        return "memory"
    if code in (1, 2) and not (lines and lines[-1].startswith("error: ")):
        return "no sentence"
    errors = [line for line in lines if line.startswith("error: ")]
    if len(errors) > 1 or any(len(line) > LONGEST_LINE for line in lines) or (code and len(lines) > MOST_LINES):
        return "long message"
    return "control characters" if re.search(r"[\x00-\x08\x0b-\x1f\x7f]", said.replace("\r\n", "\n")) else None


def main():
    program, count, draw, _ = trial.arguments()
    folder = trial.folder("mutate")
    cases = Cases(program, folder, draw)
    codes, faults, per_kind = collections.Counter(), collections.Counter(), collections.Counter()
    largest, slowest = (0, ""), (0.0, "")
    for number in range(count):
        case = os.path.join(folder, f"case-{number}")
        os.makedirs(case)
        kind, command = cases.make(case)
        code, said, rss, took, told = start([program, *command], case)
        codes[code] += 1
        per_kind[kind] += 1
        largest, slowest = max(largest, (rss, kind)), max(slowest, (took, kind))
        wrong = fault(code, said, rss, told)
        if wrong:
            faults[wrong] += 1
            print(f"{wrong}: case {number}, {kind}: {' '.join(command)}\n    {said.strip()[-600:]}", flush=True)
        else:
            for path in [case, case + "-out", case + "-fixed", case + "-project"]:
                shutil.rmtree(path, ignore_errors=True)
            if os.path.exists(case + ".png"):
                os.remove(case + ".png")
    print(f"{count} cases; exit codes {dict(sorted(codes.items()))}")
    print("cases per kind:", ", ".join(f"{kind} {number}" for kind, number in sorted(per_kind.items())))
    print(f"largest memory {largest[0] / 1024:.0f} MiB ({largest[1]}), longest {slowest[0]:.1f} s ({slowest[1]})")
    print("faults:", dict(faults) or "none")
    trial.end(folder, faults)


if __name__ == "__main__":
    main()
