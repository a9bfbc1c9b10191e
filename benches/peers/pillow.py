"""torchvision's input pipeline with Pillow on one core: read, decode, RandomResizedCrop, flip, ToTensor, Normalize.

    python pillow.py data FOLDER --imgsz 224 --images 512 --json FILE

`compare.py data` runs it interleaved with `polyhead bench data`, with the same flags, on one core, over class folders. polyhead's crops keep
at least 0.35 of the area, like --least-area here. The time is the process's CPU time.
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
    parser.add_argument("work", choices=["data"])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--imgsz", type=int, default=224)
    parser.add_argument("--least-area", type=float, default=0.35)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--workers", choices=["1"], default="1")
    parser.add_argument("--jitter", choices=["0"], default="0")
    parser.add_argument("--json", metavar="FILE")
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

    if not files:
        parser.error(f"{args.folder}: no images")
    for file in files:
        read(file)
    start = time.process_time()
    for i in range(args.images):
        read(files[i % len(files)])
    rate = args.images / (time.process_time() - start)
    versions = {"torch": torch.__version__, "torchvision": torchvision.__version__, "pillow": pillow}
    result = json.dumps({"samples_per_sec": rate, "images": args.images, "img_size": args.imgsz, **versions})
    print(result)
    if args.json:
        with open(args.json, "w") as file:
            file.write(result + "\n")


if __name__ == "__main__":
    main()
