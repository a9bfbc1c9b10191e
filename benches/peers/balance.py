"""Times a training step of three tasks that combines their gradients by UPGrad: polyhead and PyTorch with TorchJD, interleaved.

    python balance.py --imgsz 224 --batch 8 --threads 2 --rounds 5 --repeats 3 [--markdown FILE] [--json FILE]

Both train ResNet-50 with a classification of 1000 classes, a detection head (pyramid and towers of 128 channels, two deep) and a
regression. TorchJD 0.18 runs one backward through the trunk for each task (`autojac.mtl_backward`), one after another or all at once,
whichever is faster. Its detection losses are simpler than ours, so its step does less work. `torch fixed` is the sum of the
losses and one backward. Needs torch, torchvision and torchjd, qpsolvers and quadprog.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version

HERE = sys.path.pop(0)

import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torchjd.aggregation import UPGrad
from torchjd.autojac import jac_to_grad, mtl_backward

WIDTH, DEPTH, GROUPS, BINS, CLASSES = 128, 2, 32, 17, 10


class Detection(nn.Module):
    """Class and box logits of the levels P3 to P7, concatenated."""

    def __init__(self):
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c, WIDTH, 1) for c in (512, 1024, 2048))
        self.output = nn.ModuleList(nn.Conv2d(WIDTH, WIDTH, 3, stride, 1) for stride in (1, 1, 1, 2, 2))

        def tower():
            layers = [(nn.Conv2d(WIDTH, WIDTH, 3, 1, 1, bias=False), nn.GroupNorm(GROUPS, WIDTH), nn.ReLU(True)) for _ in range(DEPTH)]
            return nn.Sequential(*(layer for block in layers for layer in block))

        self.class_tower, self.box_tower = tower(), tower()
        self.class_logits, self.box_logits = nn.Conv2d(WIDTH, CLASSES, 3, 1, 1), nn.Conv2d(WIDTH, 4 * BINS, 3, 1, 1)

    def forward(self, c3, c4, c5):
        laterals = [conv(c) for conv, c in zip(self.lateral, (c3, c4, c5))]
        p5 = laterals[2]
        p4 = laterals[1] + F.interpolate(p5, laterals[1].shape[2:])
        p3 = laterals[0] + F.interpolate(p4, laterals[0].shape[2:])
        maps = [conv(p) for conv, p in zip(self.output, (p3, p4, p5))]
        maps.append(self.output[3](maps[2]))
        maps.append(self.output[4](maps[3]))
        flat = lambda x: x.flatten(2).transpose(1, 2)
        classes = torch.cat([flat(self.class_logits(self.class_tower(p))) for p in maps], 1)
        boxes = torch.cat([flat(self.box_logits(self.box_tower(p))) for p in maps], 1)
        return classes, boxes


def step_of(args, how):
    """A function that runs one step: `fixed`, or UPGrad with the tasks' backwards `in turn` or `at once`."""
    torch.manual_seed(0)
    net = torchvision.models.resnet50().to(memory_format=torch.channels_last)
    heads = nn.ModuleList([nn.Linear(2048, 1000), Detection().to(memory_format=torch.channels_last), nn.Linear(2048, 1)])
    net.fc = nn.Identity()
    parameters = [*net.parameters(), *heads.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.0, momentum=0.9, weight_decay=1e-4)
    pixels = torch.randint(0, 256, (args.batch, args.imgsz, args.imgsz, 3), dtype=torch.uint8)
    mean, deviation = (torch.tensor(v).view(1, 3, 1, 1) * 255 for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    label = torch.arange(args.batch) % 1000
    value = torch.randn(args.batch)
    aggregator = UPGrad()
    shared = list(net.parameters())

    def losses():
        x = (pixels.permute(0, 3, 1, 2).float() - mean) / deviation
        x = net.maxpool(net.relu(net.bn1(net.conv1(x))))
        c3 = net.layer2(net.layer1(x))
        c4 = net.layer3(c3)
        c5 = net.layer4(c4)
        # The heads read copies: with the maps themselves mtl_backward would count the path from c3 to c4 twice.
        features = [c.clone() for c in (c3, c4, c5)]
        pooled = features[2].mean((2, 3))
        classes, boxes = heads[1](*features)
        boxes = F.log_softmax(boxes.view(args.batch, -1, 4, BINS), -1)
        detection = F.binary_cross_entropy_with_logits(classes, torch.zeros_like(classes)) - boxes[..., 0].mean()
        each = [F.cross_entropy(heads[0](pooled), label), detection, F.mse_loss(heads[2](pooled)[:, 0], value)]
        return each, features

    def step():
        optimizer.zero_grad(set_to_none=True)
        each, features = losses()
        if how == "fixed":
            sum(each).backward()
        else:
            mtl_backward(each, features=features, parallel_chunk_size=1 if how == "in turn" else None)
            jac_to_grad(shared, aggregator)
        optimizer.step()

    return step


def theirs(args, how):
    step = step_of(args, how)
    step()
    times = []
    for _ in range(args.repeats):
        start = time.perf_counter()
        step()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def ours(args):
    """Milliseconds per step with fixed weights, and with UPGrad at either place."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "figures.json")
        flags = ["--balance", "fixed,upgrad", "--imgsz", args.imgsz, "--batch", args.batch, "--threads", args.threads,
                 "--repeats", args.repeats, "--json", path]
        subprocess.run([args.polyhead, "bench", "train", *map(str, flags)], stdout=subprocess.DEVNULL, check=True)
        with open(path) as file:
            found = json.load(file)
    return {" ".join(filter(None, (m["method"], m["gradients"].replace("nowhere", "")))): m["step_time"]["median"] for m in found["methods"]}, found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--imgsz", type=int, default=224)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--polyhead", default=os.path.join(HERE, "..", "..", "target", "release", "polyhead"))
    parser.add_argument("--markdown")
    parser.add_argument("--json")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rounds, found = [], None
    for index in range(args.rounds):
        own, found = ours(args)
        times = {f"polyhead {name}": ms for name, ms in own.items()}
        times |= {f"torch {how}": theirs(args, how) for how in ("fixed", "in turn", "at once")}
        rounds.append(times)
        print(f"round {index + 1} of {args.rounds}: " + ", ".join(f"{name} {ms:.0f} ms" for name, ms in times.items()), flush=True)
    fastest = [min(r["torch in turn"], r["torch at once"]) for r in rounds]
    titles = {"torch fixed": "PyTorch, sum of losses", "torch in turn": "TorchJD UPGrad, one task after another", "torch at once": "TorchJD UPGrad, all tasks at once"}
    table = "| step | ms | range | TorchJD's ÷ this |\n|---|---|---|---|\n"
    for name in rounds[0]:
        times = [r[name] for r in rounds]
        ratios = [t / r[name] for t, r in zip(fastest, rounds)]
        table += (f"| {titles.get(name, name)} | {statistics.median(times):.0f} | {min(times):.0f}–{max(times):.0f} | "
                  f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f}) |\n")
    table += (f"\nResNet-50 at {args.imgsz}², batch {args.batch}, three tasks, float32, {args.threads} threads each; {found['machine']['cpu']}, "
              f"{found['machine']['instruction_set']}; polyhead {found['version']} ({found['commit']}), torch {torch.__version__}, torchjd "
              f"{version('torchjd')}. {args.rounds} rounds, in each every program in turn with the median of {args.repeats} steps; milliseconds are "
              "medians over the rounds, the last column is the faster way of TorchJD over the step of the same round: median and range.\n")
    print(table)
    for path, text in ((args.markdown, table), (args.json, json.dumps(dict(command=sys.argv, rounds=rounds), indent=2) + "\n")):
        if path:
            with open(path, "w") as file:
                file.write(text)


if __name__ == "__main__":
    main()
