"""The work of `polyhead bench train|infer` with PyTorch: ResNet, channels_last; float32 on a CPU, bf16 autocast on a GPU.

    python pytorch.py train --imgsz 64 --batch 32 --threads 2 --repeats 10 [--device cuda] [--mode eager,compile] [--json FILE]
    python pytorch.py ceilings --device cuda

A training step is u8 images to the device, normalisation, forward, cross-entropy, backward and SGD with momentum, on one fixed
batch. Several modes are measured one after another in one process; `--json` then holds a list, written after each of them.
`ceilings` times a copy and a large matrix product, to measure the limits of the card. Needs torch and torchvision.
"""
import argparse
import json
import os
import statistics
import sys
import time
from functools import partial

import memory

# Otherwise importing the package onnxruntime would load the file next to this one.
sys.path.pop(0)

import torch
import torchvision

MEAN, DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def seconds(work, device):
    """One timing; waits for the device before and after."""
    if device != "cpu":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def best(work, device, repeats=10):
    work()
    return min(seconds(work, device) for _ in range(repeats))


def ceilings(device):
    """Bytes per second of a copy (reads and writes both count), and FLOP per second of a bf16 product of random matrices."""
    n = 1 << 30 if device != "cpu" else 1 << 26
    source = torch.empty(n, dtype=torch.uint8, device=device).random_()
    target = torch.empty_like(source)
    copy = 2 * n / best(lambda: target.copy_(source), device)
    side = 8192 if device != "cpu" else 1024
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    product = 2 * side**3 / best(lambda: a @ b, device)
    return dict(work="ceilings", gb_per_second=copy / 1e9, gflop_per_second=product / 1e9, torch=torch.__version__)


def step_of(args, mode):
    """A function that runs one step, and the network's number of parameters."""
    gpu = args.device != "cpu"
    memory = dict(memory_format=torch.channels_last)
    net = getattr(torchvision.models, args.backbone)().to(args.device).to(**memory)
    pixels = torch.randint(0, 256, (args.batch, args.imgsz, args.imgsz, 3), dtype=torch.uint8)
    pixels = pixels.pin_memory() if gpu else pixels
    y = (torch.arange(args.batch) % 1000).to(args.device)
    mean, deviation = (torch.tensor(v, device=args.device).view(1, 3, 1, 1) * 255 for v in (MEAN, DEVIATION))
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4, fused=gpu)
    training = args.work == "train"
    net.train(training)

    def forward():
        # NHWC bytes viewed as NCHW are already channels_last.
        x = pixels.to(args.device, non_blocking=True).permute(0, 3, 1, 2)
        x = (x.float() - mean) / deviation
        with torch.autocast(device_type="cuda", dtype=torch.bfloat16, enabled=gpu):
            out = net(x)
            return torch.nn.functional.cross_entropy(out, y) if training else out

    run = torch.compile(forward, mode=None if mode == "compile" else mode) if mode != "eager" else forward

    def train():
        optimizer.zero_grad(set_to_none=True)
        run().backward()
        optimizer.step()

    def infer():
        with torch.inference_mode():
            run()

    return train if training else infer, sum(p.numel() for p in net.parameters())


def measure(args, mode):
    base = memory.resident()
    step, parameters = step_of(args, mode)
    for _ in range(2 if args.device == "cpu" else 10):
        step()
    times = [seconds(step, args.device) * 1e3 for _ in range(args.repeats)]
    median = statistics.median(times)
    return dict(work=args.work, model=args.backbone, device=args.device, mode=mode, img_size=args.imgsz,
                batch_size=args.batch, threads=args.threads, param_count=parameters, repeats=args.repeats,
                step_time=median, step_time_min=min(times), step_time_max=max(times),
                samples_per_sec=args.batch / median * 1e3, base_memory_bytes=base, peak_memory_bytes=memory.peak(),
                torch=torch.__version__)


def write(results, path):
    """Writes a temporary file and renames it, so that a killed process keeps its measurements."""
    with open(path + ".part", "w") as file:
        json.dump(results[0] if len(results) == 1 else results, file, indent=2)
    os.replace(path + ".part", path)


MODES = ["eager", "compile", "max-autotune", "reduce-overhead"]


def modes(text):
    named = text.split(",")
    if not set(named) <= set(MODES):
        raise argparse.ArgumentTypeError(f"expected some of {','.join(MODES)}")
    return named


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("work", choices=["train", "infer", "ceilings"])
    parser.add_argument("--imgsz", type=int, default=224)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--mode", type=modes, default=["eager"], help="one, or several with commas between them")
    parser.add_argument("--json")
    args = parser.parse_args()
    torch.manual_seed(0)
    if args.device == "cpu":
        torch.set_num_threads(args.threads)
    else:
        torch.backends.cudnn.benchmark = True
    works = [partial(measure, args, mode) for mode in args.mode]
    results = []
    for work in [partial(ceilings, args.device)] if args.work == "ceilings" else works:
        results.append(work())
        print(json.dumps(results[-1]), flush=True)
        if args.json:
            write(results, args.json)


if __name__ == "__main__":
    main()
