"""The work of `polyhead bench infer` with ONNX Runtime, in float32 on a CPU, on torchvision's ResNet with random weights.

    python onnxruntime.py infer --imgsz 224 --batch 8 --threads 2 --repeats 10 [--json FILE]

u8 [N, H, W, 3] in, normalised inside the graph, logits out; all graph optimisations. PyTorch exports the network in a separate process,
whose memory is not counted. Its logits on the same images must match ONNX Runtime's. Needs torch, torchvision, onnx and onnxruntime.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import memory

# This file has the name of the package it imports.
sys.path.pop(0)

OPSET = 20  # the newest that PyTorch exports without onnxscript
# Relative to PyTorch's largest logit. Both compute in float32, but one of them with batch norm folded into the weights.
TOLERANCE = 1e-3


def export(args, folder):
    """Writes network.onnx, pixels.npy and PyTorch's output for them, logits.npy."""
    import numpy
    import torch
    import torchvision
    import warnings

    class Normalised(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = getattr(torchvision.models, args.backbone)()
            for name, values in dict(mean=[0.485, 0.456, 0.406], deviation=[0.229, 0.224, 0.225]).items():
                self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1) * 255)

        def forward(self, pixels):
            return self.net((pixels.permute(0, 3, 1, 2).float() - self.mean) / self.deviation)

    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    net = Normalised().eval()
    pixels = torch.randint(0, 256, (args.batch, args.imgsz, args.imgsz, 3), dtype=torch.uint8)
    with warnings.catch_warnings():
        # The deprecated exporter needs one package less, and folds batch norm itself.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(net, (pixels,), os.path.join(folder, "network.onnx"), opset_version=OPSET, dynamo=False,
                          input_names=["pixels"], output_names=["logits"])
    with torch.inference_mode():
        logits = net(pixels).numpy()
    numpy.save(os.path.join(folder, "pixels.npy"), pixels.numpy())
    numpy.save(os.path.join(folder, "logits.npy"), logits)
    with open(os.path.join(folder, "about.json"), "w") as file:
        json.dump(dict(torch=torch.__version__, param_count=sum(p.numel() for p in net.parameters())), file)


def measure(args, folder):
    import numpy
    import onnxruntime

    def read(name):
        return numpy.load(os.path.join(folder, name))

    base = memory.resident()
    pixels, expected = read("pixels.npy"), read("logits.npy")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = args.threads, 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(os.path.join(folder, "network.onnx"), options, providers=["CPUExecutionProvider"])

    def step():
        return session.run(None, {"pixels": pixels})[0]

    error = abs(step() - expected).max() / abs(expected).max()
    assert error <= TOLERANCE, f"ONNX Runtime's logits are {error:.1e} of the largest away from PyTorch's"
    step()
    times = []
    for _ in range(args.repeats):
        start = time.perf_counter()
        step()
        times.append((time.perf_counter() - start) * 1e3)
    median = statistics.median(times)
    with open(os.path.join(folder, "about.json")) as file:
        about = json.load(file)
    return dict(work=args.work, model=args.backbone, device=args.device, mode="all optimisations", img_size=args.imgsz,
                batch_size=args.batch, threads=args.threads, param_count=about["param_count"], repeats=args.repeats,
                step_time=median, step_time_min=min(times), step_time_max=max(times), samples_per_sec=args.batch / median * 1e3,
                base_memory_bytes=base, peak_memory_bytes=memory.peak(), logits_error=float(error),
                onnxruntime=onnxruntime.__version__, torch=about["torch"])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("work", choices=["infer"])
    parser.add_argument("--imgsz", type=int, default=224)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--device", default="cpu", choices=["cpu"])
    parser.add_argument("--json")
    parser.add_argument("--export", metavar="FOLDER", help="only write the network, images and expected logits there")
    args = parser.parse_args()
    if args.export:
        return export(args, args.export)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, *sys.argv, "--export", folder], check=True)
        result = measure(args, folder)
    print(json.dumps(result))
    if args.json:
        with open(args.json, "w") as file:
            json.dump(result, file, indent=2)


if __name__ == "__main__":
    main()
