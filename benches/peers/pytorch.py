"""The same work as `polyhead bench train|infer`, by PyTorch: ResNet-50, channels_last, float32, CPU.

    python pytorch.py train --imgsz 64 --batch 32 --threads 2 --repeats 10 [--json FILE]

A training step is forward, cross-entropy, backward and SGD with momentum, on one fixed batch. Needs torch and torchvision.
"""
import argparse
import json
import statistics
import time

import torch
import torchvision


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("work", choices=["train", "infer"])
    parser.add_argument("--imgsz", type=int, default=224)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--json")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    net = getattr(torchvision.models, args.backbone)().to(memory_format=torch.channels_last)
    x = torch.randn(args.batch, 3, args.imgsz, args.imgsz).to(memory_format=torch.channels_last)
    y = torch.arange(args.batch) % 1000
    if args.work == "train":
        net.train()
        optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)

        def step():
            optimizer.zero_grad(set_to_none=True)
            torch.nn.functional.cross_entropy(net(x), y).backward()
            optimizer.step()
    else:
        net.eval()

        def step():
            with torch.inference_mode():
                net(x)

    for _ in range(2):
        step()
    times = []
    for _ in range(args.repeats):
        start = time.perf_counter()
        step()
        times.append((time.perf_counter() - start) * 1e3)
    median = statistics.median(times)
    result = dict(work=args.work, model=args.backbone, img_size=args.imgsz, batch_size=args.batch, threads=args.threads,
                  repeats=args.repeats, step_time=median, step_time_min=min(times), step_time_max=max(times),
                  samples_per_sec=args.batch / median * 1e3, torch=torch.__version__)
    print(json.dumps(result))
    if args.json:
        with open(args.json, "w") as file:
            json.dump(result, file, indent=2)


if __name__ == "__main__":
    main()
