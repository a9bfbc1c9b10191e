#!/usr/bin/env python3
"""Kills every command that writes files with -9 at random moments, and looks at what it leaves.

    tests/kills.py PROGRAM KILLS [SEED] [COMMAND]…

A file under its final name must be whole: the same bytes as without a kill. The command is then started again, and must succeed with
the same result, or refuse with one sentence because the result is already there. Runs are resumed until they end, and must end bit for
bit like the undisturbed run. KILLS are divided among the commands in proportion to their shares below; with COMMANDs, only those are
killed. `tests/kill.sh` is the short form for `train` that the tests run.
"""

import json
import os
import re
import shutil
import signal
import struct
import subprocess
import time

import trial

# A share of the kills, in per cent.
SHARES = {"train": 20, "train --balance auto": 15, "compare": 15, "predict": 12, "evaluate": 8, "data convert": 10,
          "data check --fix": 8, "data digits": 6, "data preview": 3, "bench": 3}
SMALL = ["--backbone", "tiny", "--imgsz", "32", "--batch", "8", "--workers", "1", "--threads", "1"]
# Runs that last long enough to be hit, and save often.
LONG = ["--epochs", "40", "--save-minutes", "0.0005"]


def read(path):
    with open(path, "rb") as file:
        return file.read()


def files(folder):
    """Every file below a folder by its relative name."""
    found = {}
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            found[os.path.relpath(path, folder)] = path
    return found


def is_aside(name):
    """Whether the name says that the file is not finished, or belongs to no result."""
    parts = name.split(os.sep)
    return name.endswith(".part") or any(part.startswith(".") for part in parts)


class Failed(Exception):
    pass


class Kills:
    def __init__(self, program, folder, draw):
        self.program, self.folder, self.draw = program, folder, draw
        self.table = {}
        # The duration of each command, by name. Lowered whenever one ended before its kill, since the machine may be quicker by then.
        self.lasts_s = {}

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def succeed(self, command):
        done = subprocess.run([self.program, *command], stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode:
            raise Failed(f"{' '.join(command)}: {done.returncode}\n{done.stderr}")
        return done

    def again(self, command):
        """Runs a command to its end; returns its code after checking that a refusal is one sentence."""
        done = subprocess.run([self.program, *command], stdin=subprocess.DEVNULL, capture_output=True, text=True)
        lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        if done.returncode not in (0, 1, 2) or (done.returncode and len(lines) != 1) or "panicked" in done.stderr:
            raise Failed(f"{' '.join(command)}: {done.returncode}\n{done.stderr}")
        return done.returncode, lines[0] if lines else ""

    def kill(self, name, command):
        """Starts a command and kills it at a random moment: alone, or with the processes that it started. Whether it was hit."""
        with open(self.path("log"), "wb") as log:
            process = subprocess.Popen([self.program, *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                       start_new_session=True)
        alone = self.draw.random() < 0.5
        try:
            process.wait(self.draw.uniform(0, self.lasts_s[name]))
        except subprocess.TimeoutExpired:
            process.kill() if alone else os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if process.returncode not in (0, -signal.SIGKILL):
            raise Failed(f"{' '.join(command)}: {process.returncode}\n{read(self.path('log')).decode()}")
        if process.returncode == 0:
            self.lasts_s[name] *= 0.8
        return process.returncode != 0

    def time(self, name, command, share):
        """Runs a command without a kill. Later kills hit within this share of its time."""
        begun = time.monotonic()
        self.succeed(command)
        self.lasts_s[name] = share * (time.monotonic() - begun)

    def count(self, name, **numbers):
        row = self.table.setdefault(name, {"kills": 0, "result whole": 0, "refused": 0, "leftovers": 0})
        for key, number in numbers.items():
            row[key.replace("_", " ")] += number

    # Commands that write a folder or a file once.

    def outputs(self, name, kills, command, out, clean):
        """Kills `command`, which writes `out`. `clean` makes the bytes of a file comparable."""
        def content():
            if os.path.isfile(out):
                return {"": clean("", read(out))}
            return {file: clean(file, read(path)) for file, path in files(out).items() if not is_aside(file)}

        def remove():
            shutil.rmtree(out, ignore_errors=True)
            if os.path.isfile(out):
                os.remove(out)

        self.time(name, command, 1.1)
        whole = content()
        remove()
        killed = 0
        while killed < kills:
            beside = set(os.listdir(os.path.dirname(out)))
            if not self.kill(name, command):
                remove()
                continue
            killed += 1
            left = content()
            for file, data in left.items():
                if whole.get(file) != data:
                    raise Failed(f"{name}: {out}/{file} is not whole after a kill")
            aside = [f for f in files(out) if is_aside(f)] if os.path.isdir(out) else []
            aside += set(os.listdir(os.path.dirname(out))) - beside - {os.path.basename(out)}
            code, sentence = self.again(command)
            if content() != whole:
                raise Failed(f"{name}: another result after a kill; {sentence}")
            self.count(name, kills=1, result_whole=left == whole, refused=code != 0, leftovers=bool(aside))
            remove()
            for leftover in set(os.listdir(os.path.dirname(out))) - beside:
                path = os.path.join(os.path.dirname(out), leftover)
                shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)

    def predict(self, name, kills):
        out = self.path("out", "predictions")
        command = ["predict", self.path("runs", "train", "model"), self.path("digits", "test"), "--out", out,
                   "--format", "jsonl,coco,yolo,csv", "--threads", "1"]
        self.outputs(name, kills, command, out, lambda _, data: data)

    def evaluate(self, name, kills):
        out = self.path("out", "report")
        command = ["evaluate", self.path("runs", "train", "model"), self.path("data"), "--out", out, "--threads", "1"]
        self.outputs(name, kills, command, out, without_times)

    def convert(self, name, kills):
        out = self.path("out", "converted")
        command = ["data", "convert", self.path("digits"), "--to", "coco", "--out", out, "--force", "--copy"]
        self.outputs(name, kills, command, out, lambda _, data: data)

    def fix(self, name, kills):
        out = self.path("out", "fixed")
        self.outputs(name, kills, ["data", "check", self.path("digits"), "--fix", out], out, lambda _, data: data)

    def digits(self, name, kills):
        out = self.path("out", "digits")
        self.outputs(name, kills, ["data", "digits", out], out, lambda _, data: data)

    def preview(self, name, kills):
        out = self.path("out", "preview.png")
        self.outputs(name, kills, ["data", "preview", self.path("data"), "--out", out], out, lambda _, data: data)

    def bench(self, name, kills):
        out = self.path("out", "bench.json")
        command = ["bench", "infer", "--backbone", "tiny", "--imgsz", "32", "--batch", "1", "--repeats", "1", "--json", out]
        # The times differ; the file must be whole JSON.
        self.outputs(name, kills, command, out, lambda _, data: sorted(json.loads(data)))

    # Commands that continue.

    def run(self, name, kills, more):
        def command(to):
            return ["train", self.path("data"), *SMALL, *LONG, *more, "--project", self.path("runs", "train"), "--name", to]

        # A run is killed several times before it ends.
        self.time(name, command("whole" + name), 0.4)
        whole, cut = (self.path("runs", "train", part + name) for part in ["whole", "cut"])
        killed = 0
        while killed < kills:
            shutil.rmtree(cut, ignore_errors=True)
            done = False
            while not done:
                if killed >= kills:
                    self.succeed(self.next_command(cut, command("cut" + name)))
                    break
                resumed = self.has_state(cut)
                row = f"{name}, resumed" if resumed else name
                if self.kill(name, self.next_command(cut, command("cut" + name))):
                    killed += 1
                    self.count(row, kills=1, leftovers=any(f.endswith(".part") for f in files(cut)))
                    if os.path.exists(cut) and not self.has_state(cut):
                        # Nothing was saved, which must be said.
                        code, sentence = self.again(["train", "--resume", cut])
                        if code == 0 or "no weights/last.safetensors" not in sentence:
                            raise Failed(f"{cut}: resumed without a state: {sentence}")
                        self.count(row, refused=1)
                else:
                    done = True
            self.same_run(whole, cut)
            self.count(name, result_whole=1)

    def has_state(self, run):
        return any(os.path.exists(os.path.join(run, "weights", f"{state}.safetensors")) for state in ["last", "previous"])

    def next_command(self, run, begin):
        return ["train", "--resume", run] if self.has_state(run) else [*begin, "--exist-ok"]

    def same_run(self, whole, cut):
        expected = files(whole)
        if "weights/last.safetensors" not in expected:
            raise Failed(f"{whole}: no run is there to compare with")
        for file, path in expected.items():
            if file.endswith(".safetensors"):
                same = without_header(read(path)) == without_header(read(os.path.join(cut, file)))
            elif file.endswith(".csv"):
                same = without_time_column(read(path)) == without_time_column(read(os.path.join(cut, file)))
            else:
                same = os.path.exists(os.path.join(cut, file)) or is_aside(file)
            if not same and not file.endswith("previous.safetensors"):
                raise Failed(f"{cut}: {file} is not that of the undisturbed run")
        left = [file for file in files(cut) if file.endswith(".part")]
        if left:
            raise Failed(f"{cut}: half-written files stay: {left}")

    def compare(self, name, kills):
        def command(out):
            return ["compare", self.path("data"), *SMALL, "--epochs", "6", "--save-minutes", "0.0005", "--seeds", "0",
                    "--methods", "fixed", "--jobs", "2", "--out", out]

        whole, cut = self.path("out", "whole"), self.path("out", "cut")
        self.time(name, command(whole), 1)
        killed = 0
        while killed < kills:
            shutil.rmtree(cut, ignore_errors=True)
            while killed < kills:
                hit = self.kill(name, command(cut))
                if not hit:
                    break
                killed += 1
                self.count(name, kills=1, leftovers=any(f.endswith(".part") for f in files(cut)))
                json_file = os.path.join(cut, "compare.json")
                if os.path.exists(json_file):
                    json.loads(read(json_file))
            self.settle(cut)
            self.succeed(command(cut))
            for run in sorted(run for run in os.listdir(os.path.join(whole, "train")) if not run.startswith(".")):
                self.same_run(os.path.join(whole, "train", run), os.path.join(cut, "train", run))
            if figures(whole) != figures(cut):
                raise Failed(f"{cut}: other figures than without kills")
            self.count(name, result_whole=1)

    def settle(self, out):
        """Waits until no process of a killed comparison writes into its folder."""
        for _ in range(200):
            busy = subprocess.run(["pgrep", "-f", f"{self.program} train.*{re.escape(out)}"], capture_output=True)
            if busy.returncode:
                return
            time.sleep(0.1)
        raise Failed(f"{out}: runs of the killed comparison do not end")


def without_times(name, data):
    """A report without the numbers that differ between any two evaluations."""
    return re.sub(rb'"(seconds|images_per_second|elapsed_s)": [0-9.e+-]+', b"", data) if name.endswith(".json") else data


def without_header(data):
    """The tensors of a safetensors file, whose header holds times."""
    return data[8 + struct.unpack("<Q", data[:8])[0]:]


def without_time_column(data):
    lines = data.decode().splitlines()
    times = {index for index, cell in enumerate(lines[0].split(",")) if cell in ("time", "seconds")}
    return [[cell for index, cell in enumerate(line.split(",")) if index not in times] for line in lines]


def figures(out):
    """The comparison without times, what follows from them, and places."""
    def kept(value):
        if isinstance(value, dict):
            return {key: kept(inner) for key, inner in value.items() if "second" not in key and key not in ("costs", "folder", "equal_compute")}
        return [kept(inner) for inner in value] if isinstance(value, list) else value

    return kept(json.loads(read(os.path.join(out, "compare.json")).replace(out.encode(), b"OUT")))


def prepare(kills):
    """The digits, a small part of them to train on, and a model."""
    kills.succeed(["data", "digits", kills.path("all")])
    for name, counts in [("digits", (300, 60, 60)), ("data", (24, 24, 8))]:
        names = []
        for split, count in zip(["train", "val", "test"], counts):
            pictures = sorted(os.listdir(kills.path("all", split)))[:count]
            names += [f"{split}/{picture}" for picture in pictures]
            for picture in pictures:
                for part in [f"{split}/{picture}", f"labels/{split}/{picture[:-4]}.txt"]:
                    if os.path.exists(kills.path("all", part)):
                        os.makedirs(os.path.dirname(kills.path(name, part)), exist_ok=True)
                        shutil.copy(kills.path("all", part), kills.path(name, part))
        lines = read(kills.path("all", "labels.csv")).decode().splitlines()
        rows = [line for line in lines[1:] if line.split(",")[0] in names]
        with open(kills.path(name, "labels.csv"), "w", encoding="utf-8") as table:
            table.write("\n".join([lines[0], *rows]) + "\n")
        shutil.copy(kills.path("all", "data.yaml"), kills.path(name))
    shutil.rmtree(kills.path("all"))
    os.makedirs(kills.path("out"))
    kills.succeed(["train", kills.path("data"), *SMALL, "--epochs", "2", "--project", kills.path("runs", "train"), "--name",
                   "model"])


def main():
    program, count, draw, words = trial.arguments()
    chosen = words or list(SHARES)
    folder = trial.folder("kills")
    kills = Kills(program, folder, draw)
    prepare(kills)
    ways = {"train": lambda name, n: kills.run(name, n, []), "compare": kills.compare, "predict": kills.predict,
            "train --balance auto": lambda name, n: kills.run(name.replace(" ", ""), n, ["--balance", "auto"]),
            "evaluate": kills.evaluate, "data convert": kills.convert, "data check --fix": kills.fix,
            "data digits": kills.digits, "data preview": kills.preview, "bench": kills.bench}
    of_all = sum(SHARES[name] for name in chosen)
    failed = []
    for name in chosen:
        begun = time.monotonic()
        try:
            ways[name](name, max(1, round(count * SHARES[name] / of_all)))
        except Failed as problem:
            failed.append(name)
            print(f"FAILED {name}: {problem}", flush=True)
        print(f"{name}: {time.monotonic() - begun:.0f} s", flush=True)
    print(f"{'command':28} {'kills':>6} {'result whole':>13} {'refused':>8} {'leftovers':>10}")
    for name, row in kills.table.items():
        print(f"{name:28} {row['kills']:6} {row['result whole']:13} {row['refused']:8} {row['leftovers']:10}")
    print(f"{sum(row['kills'] for row in kills.table.values())} kills, {len(failed)} commands failed")
    trial.end(folder, failed)


if __name__ == "__main__":
    main()
