"""torchvision's input pipeline with Pillow on one core: read, decode, RandomResizedCrop, flip, ToTensor, Normalize.

    python pillow.py FOLDER --imgsz 224 --seconds 5

To compare, run it in turn with `polyhead bench data FOLDER --workers 1` on one core (`taskset -c 1`) over class folders without
colour jitter; polyhead's crops keep at least 0.35 of the area, as --least-area here, and it normalises on the device.
"""
import argparse
import json
import pathlib
import time

import torch
import torchvision
from PIL import Image, __version__ as pillow
from torchvision import transforms


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--imgsz", type=int, default=224)
    parser.add_argument("--least-area", type=float, default=0.35)
    parser.add_argument("--seconds", type=float, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    transform = transforms.Compose([
        transforms.RandomResizedCrop(args.imgsz, scale=(args.least_area, 1.0)),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ])
    files = sorted(p for p in args.folder.rglob("*") if p.suffix.lower() in {".jpg", ".jpeg", ".png", ".bmp", ".webp"})

    def read(file):
        with open(file, "rb") as opened:
            return transform(Image.open(opened).convert("RGB"))

    for file in files:
        read(file)
    count, start = 0, time.process_time()
    while time.process_time() - start < args.seconds:
        for file in files:
            read(file)
        count += len(files)
    rate = count / (time.process_time() - start)
    versions = {"torch": torch.__version__, "torchvision": torchvision.__version__, "pillow": pillow}
    print(json.dumps({"samples_per_sec_per_core": rate, "images": count, "img_size": args.imgsz, **versions}))


if __name__ == "__main__":
    main()
