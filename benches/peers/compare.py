"""Compares polyhead with other programs on the same work, in interleaved rounds (A B C A B C …): images per second, the ratio of ours
to the fastest other of the round, and the memory of each program.

    python compare.py train --imgsz 64 --batch 32 --threads 2 --rounds 5
    python compare.py infer --imgsz 64,224 --batch 1,8 --peers pytorch,onnxruntime,candle --markdown table.md --json figures.json
    python compare.py train infer --device cuda --batch 256 --mode compile
    python compare.py data --data FOLDER --imgsz 224 --rounds 7

`data` needs class folders; every program uses one core for all stages from files to normalised floats.

Run it with the Python that has the peers' packages (listed in benches/README.md). Both files are written after every work.
"""
import argparse
import dataclasses
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))


@dataclasses.dataclass
class Program:
    """`name` is a key of the results; `command` accepts the flags that all programs share."""
    name: str
    title: str
    command: list
    works: tuple = ("train", "infer")
    devices: tuple = ("cpu", "cuda")


def programs(args):
    def script(name):
        return [sys.executable, os.path.join(HERE, name)]

    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(HERE, "candle", "target"))
    candle = args.candle or os.path.join(target, "release", "candle-peer")
    return [
        Program("polyhead", "polyhead", [args.polyhead, "bench"]),
        Program("pytorch", f"PyTorch {args.mode}", script("pytorch.py")),
        Program("onnxruntime", "ONNX Runtime", script("onnxruntime.py"), ("infer",), ("cpu",)),
        Program("candle", "candle", [candle], ("infer",), ("cpu",)),
        Program("pillow", "torchvision with Pillow", script("pillow.py"), ("data",), ("cpu",)),
    ]


def chosen(args):
    """Ours and its peers for each work; exits if a peer does not support a requested work."""
    ours, *known = programs(args)
    known = {peer.name: peer for peer in known}
    device = args.device.split(":")[0]

    def able(peer, work):
        return work in peer.works and device in peer.devices

    found = {}
    for work in args.work:
        if args.peers:
            peers = [known.get(name) or sys.exit(f"--peers {name}: expected one of {', '.join(known)}") for name in args.peers]
            for peer in peers:
                able(peer, work) or sys.exit(f"--peers {peer.name}: it does {' and '.join(peer.works)} on {' and '.join(peer.devices)} "
                                             f"only, and was asked to {work} on {args.device}")
        else:
            peers = [known[name] for name in ("pytorch", "onnxruntime", "pillow") if able(known[name], work)]
        found[work] = [ours, *peers]
    for program in {p.name: p for programs in found.values() for p in programs}.values():
        if not os.path.exists(program.command[0]):
            sys.exit(f"{program.title}: no {program.command[0]}: build it with `cargo build --release`, or say where it is")
    return found


def measure(program, flags, args):
    more = ["--mode", args.mode] if program.name == "pytorch" else []
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "result.json")
        command = [*program.command, *flags, *more, "--json", path]
        one_core = (lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})) if flags[0] == "data" else None
        done = subprocess.run(command, stdout=subprocess.DEVNULL, preexec_fn=one_core)
        if done.returncode != 0:
            sys.exit(f"{program.title} failed with exit code {done.returncode}: {' '.join(command)}")
        with open(path) as file:
            result = json.load(file)
    if "stages" in result:
        # Ours prints the milliseconds per image by stage; normalising belongs to the step, but is included here.
        result["samples_per_sec"] = 1000 / sum(result["stages"].values())
    return result


def spread(values):
    return dict(median=statistics.median(values), least=min(values), most=max(values))


def memory_of(rounds, name):
    """Medians over the rounds: the peak resident size, and its part beyond the program itself; or None."""
    seen = [(one[name].get("peak_memory_bytes"), one[name].get("base_memory_bytes")) for one in rounds]
    if any(peak is None or base is None for peak, base in seen):
        return None
    return dict(peak=statistics.median(p for p, _ in seen), without_base=statistics.median(p - b for p, b in seen))


def summary(work, imgsz, batch, names, rounds):
    """Summarises the rounds of one work; a ratio of memory is ours over the smallest of the others."""
    rates = {name: [one[name]["samples_per_sec"] for one in rounds] for name in names}
    ratios = [rates["polyhead"][i] / max(rates[peer][i] for peer in names[1:]) for i in range(len(rounds))]
    memory = {name: memory_of(rounds, name) for name in names}
    ratio = {}
    if all(memory.values()):
        ratio = {key: memory["polyhead"][key] / min(memory[peer][key] for peer in names[1:]) for key in ("peak", "without_base")}
    return dict(work=work, img_size=imgsz, batch_size=batch, samples_per_sec={n: spread(v) for n, v in rates.items()},
                ratio=spread(ratios), memory_bytes=memory, memory_ratio=ratio or None, rounds=rounds)


def ratio_text(of):
    return f"{of['median']:.2f} ({of['least']:.2f}–{of['most']:.2f})"


def memory_text(of):
    return f"{of['peak'] / 2**20:.0f} ({of['without_base'] / 2**20:.0f})" if of else "?"


def markdown(summaries, titles, args):
    """Steps and input pipelines in separate tables."""
    steps, data = ([s for s in summaries if (s["work"] == "data") == is_data] for is_data in (False, True))
    return "\n".join(table(rows, titles, args) for table, rows in ((steps_table, steps), (data_table, data)) if rows)


def lines_of(table):
    return "".join(f"| {' | '.join(cells)} |\n" for cells in table)


def data_table(summaries, titles, args):
    names = list(summaries[0]["samples_per_sec"])
    table = [["imgsz", *(f"{titles[name]} images/s" for name in names), "ratio (range)"], ["---"] * (len(names) + 2)]
    for one in summaries:
        table.append([str(one["img_size"]), *(f"{one['samples_per_sec'][name]['median']:.0f}" for name in names), ratio_text(one["ratio"])])
    first = summaries[0]["rounds"][0]
    ours, versions = first["polyhead"], ", ".join(f"{n} {v}" for peer in first.values() for n, v in peer.items() if n in ("torchvision", "pillow"))
    return lines_of(table) + f"""
{args.data}: read, decoded, cropped, mirrored, resized, normalised, {args.images} images on one core each; {ours["machine"]["cpu"]}; polyhead \
{ours["version"]} ({ours["commit"]}), {versions}. {args.rounds} rounds in turn, medians over them; ours is one over the sum of its stages' wall time, \
the other's is the process's own time.
"""


def steps_table(summaries, titles, args):
    """One row per work; a program that did not run it has empty cells."""
    titles = {name: title for name, title in titles.items() if any(name in one["samples_per_sec"] for one in summaries)}
    head = ["work", "imgsz", "batch", *(f"{t} images/s" for t in titles.values()), "ratio (range)", *(f"{t} MiB" for t in titles.values()),
            "ratio of memory"]
    lines = [head, ["---"] * len(head)]
    for one in summaries:
        rates, memory, ratio = one["samples_per_sec"], one["memory_bytes"], one["memory_ratio"]
        lines.append([
            one["work"], str(one["img_size"]), str(one["batch_size"]),
            *(f"{rates[name]['median']:.2f}" if name in rates else "" for name in titles),
            ratio_text(one["ratio"]),
            *(memory_text(memory[name]) if name in rates else "" for name in titles),
            f"{ratio['peak']:.2f} ({ratio['without_base']:.2f})" if ratio else "?",
        ])
    table = lines_of(lines)
    first = summaries[0]["rounds"][0]
    machine, ours = first["polyhead"]["machine"], first["polyhead"]
    versions = {name: value for one in summaries for peer in one["rounds"][0].values() for name, value in peer.items()
                if name in ("torch", "onnxruntime", "candle")}
    return table + f"""
{ours["model"]}, {ours["dtype"]} on {args.device}, {args.threads} threads each; {machine["cpu"]}, {machine["cores"]} cores, {ours.get("isa", machine["instruction_set"])}; \
polyhead {ours["version"]} ({ours["commit"]}), {", ".join(f"{name} {version}" for name, version in versions.items())}. \
{args.rounds} rounds, in each the programs in turn and of each the median of {args.repeats} steps. Images per second and memory are medians over the \
rounds; the ratio is ours over the fastest other of a round: median and range. Memory is the largest resident size of the process, in brackets \
without what was resident before the model was made; its ratio is ours over the least of the others.
"""


def write(summaries, titles, args):
    if args.markdown:
        with open(args.markdown, "w") as file:
            file.write(markdown(summaries, titles, args))
    if args.json:
        with open(args.json, "w") as file:
            json.dump(dict(command=sys.argv, works=summaries), file, indent=2)
            file.write("\n")


def names(text):
    return text.split(",")


def numbers(text):
    return [int(number) for number in text.split(",")]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("work", nargs="+", choices=["train", "infer", "data"])
    parser.add_argument("--imgsz", type=numbers, default=[224], help="one, or several as in 64,224")
    parser.add_argument("--batch", type=numbers, default=[8], help="one, or several as in 1,8")
    parser.add_argument("--threads", default="2")
    parser.add_argument("--repeats", default="5")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--data", metavar="FOLDER", help="class folders, for data")
    parser.add_argument("--images", default="512", help="how many, for data")
    parser.add_argument("--peers", type=names, help="of pytorch, onnxruntime, candle, pillow; without it pytorch, and for infer on a CPU "
                        "onnxruntime, and for data pillow")
    parser.add_argument("--mode", default="eager", help="PyTorch's: eager, compile, max-autotune")
    parser.add_argument("--polyhead", default="target/release/polyhead")
    parser.add_argument("--candle", metavar="PROGRAM", help="candle-peer, where it is not where cargo puts it")
    parser.add_argument("--markdown", metavar="FILE")
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error("--rounds: expected at least 1")
    if "data" in args.work and not args.data:
        parser.error("data: expected --data FOLDER")
    found = chosen(args)
    titles = {program.name: program.title for programs in found.values() for program in programs}
    summaries = []
    works = [one for work in args.work for one in itertools.product([work], args.imgsz, [None] if work == "data" else args.batch)]
    for work, imgsz, batch in works:
        if work == "data":
            flags = [work, args.data, "--imgsz", str(imgsz), "--images", args.images, "--workers", "1", "--jitter", "0"]
        else:
            flags = [work, "--imgsz", str(imgsz), "--batch", str(batch), "--threads", args.threads, "--repeats", args.repeats,
                     "--device", args.device]
        print(" ".join(flags), flush=True)
        rounds = []
        for _ in range(args.rounds):
            rounds.append({program.name: measure(program, flags, args) for program in found[work]})
            rates = {name: one["samples_per_sec"] for name, one in rounds[-1].items()}
            fastest = max((name for name in rates if name != "polyhead"), key=rates.get)
            said = "  ".join(f"{titles[name]} {rate:.2f}" for name, rate in rates.items())
            print(f"  {said} images/s  ratio to {titles[fastest]} {rates['polyhead'] / rates[fastest]:.3f}", flush=True)
        one = summary(work, imgsz, batch, list(rates), rounds)
        summaries.append(one)
        said = "  ".join(f"{titles[name]} {memory_text(memory)}" for name, memory in one["memory_bytes"].items())
        memory = one["memory_ratio"]
        memory = f"  ratio {memory['peak']:.2f} ({memory['without_base']:.2f})" if memory else ""
        said = f"; peak memory, and without the program's own, MiB: {said}{memory}" if work != "data" else ""
        print(f"  median ratio {ratio_text(one['ratio'])}{said}", flush=True)
        write(summaries, titles, args)


if __name__ == "__main__":
    main()
