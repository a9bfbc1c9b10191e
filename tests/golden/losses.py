"""Writes losses.json: values and gradients of the losses by PyTorch's autograd in float64.

    python losses.py         # needs numpy, torch, torchvision

class_loss   logits [N, K], class [N] (-1 unlabelled): sum over labelled rows of cross_entropy / ln K / denominator.
weighted_class_loss   the same with class weights w and smoothing e: cross_entropy(weight=w, label_smoothing=e, reduction="mean") / ln K;
             `denominator` is the sum of the labelled rows' weights, which that mean divides by.
multi_label_loss      logits [N, K], target [N, K] (null unlabelled): sum over labelled entries of
             binary_cross_entropy_with_logits / ln 2 / denominator.
squared_value_loss    as value_loss with mse_loss.
value_loss   values [N, R], target [N, R] (null unlabelled): sum over labelled entries of huber_loss(delta=1) / denominator.
box_loss     as `box_loss` below (Li 2020, "Generalized Focal Loss"; mmdet's GFLHead); `parts` is before the gains:
             quality focal, GIoU, distribution focal. total = parts . [1, 2, .25]. Where `regions` [N, A] and `left_out` [N, C] share
             a bit, the class was not annotated in that cell: weight 0 in the focal loss, and no best score, except for the cell's own class.
Logits have few decimals, boxes are multiples of 1/4: f32 and f64 read nearly the same numbers.
"""
import json
import math
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torchvision.ops import generalized_box_iou_loss

SEED = 20253
BINS = 17
LEVELS = [[8, 4, 4], [16, 2, 2], [32, 1, 1]]
GAINS = [1.0, 2.0, 0.25]


def rounded(tensor, digits=9):
    """Nested lists with significant digits; an exact zero as 0."""
    if isinstance(tensor, torch.Tensor):
        tensor = tensor.tolist()
    if isinstance(tensor, list):
        return [rounded(v, digits) for v in tensor]
    if isinstance(tensor, float) and math.isfinite(tensor):
        return 0 if tensor == 0 else float(f"{tensor:.{digits}g}")
    return None if isinstance(tensor, float) else tensor


def logits(rng, shape, scale):
    return torch.tensor(np.round(rng.normal(0, scale, shape), 3), requires_grad=True)


def class_case(rng, name, n, k, unlabelled, denominator, scale=2.):
    x = logits(rng, (n, k), scale)
    c = torch.tensor(np.where(rng.random(n) < unlabelled, -1, rng.integers(0, k, n)))
    loss = F.cross_entropy(x, c, ignore_index=-1, reduction="sum") / math.log(k) / denominator
    loss.backward()
    return dict(name=name, logits=rounded(x), **{"class": c.tolist()}, denominator=denominator, loss=loss.item(),
                gradient=rounded(x.grad))


def weighted_class_case(rng, name, n, k, unlabelled, weights, smoothing, scale=2.):
    x = logits(rng, (n, k), scale)
    c = torch.tensor(np.where(rng.random(n) < unlabelled, -1, rng.integers(0, k, n)))
    w = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    loss = F.cross_entropy(x, c, weight=w, ignore_index=-1, label_smoothing=smoothing) / math.log(k)
    loss.backward()
    of_rows = torch.ones(int((c >= 0).sum())) if w is None else w[c[c >= 0]]
    return dict(name=name, logits=rounded(x), **{"class": c.tolist()}, weights=weights, smoothing=smoothing,
                denominator=of_rows.sum().item(), loss=loss.item(), gradient=rounded(x.grad))


def multi_label_case(rng, name, n, k, entries, denominator, scale=2., classes=()):
    """`entries`: share of unlabelled entries; `classes` are unlabelled in every row."""
    x = logits(rng, (n, k), scale)
    t = (rng.random((n, k)) < .4).astype(float)
    t[rng.random((n, k)) < entries] = np.nan
    t[:, list(classes)] = np.nan
    t = torch.tensor(t)
    ok = ~t.isnan()
    loss = F.binary_cross_entropy_with_logits(x[ok], t[ok], reduction="sum") / math.log(2) / denominator
    loss.backward()
    assert bool(x.grad.isfinite().all())
    return dict(name=name, logits=rounded(x), target=rounded(t), denominator=denominator, loss=loss.item(), gradient=rounded(x.grad))


def value_case(rng, name, n, r, rows, entries, denominator, squared=False):
    """`rows` and `entries`: share of unlabelled rows and entries."""
    x = logits(rng, (n, r), 1.5)
    t = np.round(rng.normal(0, 1, (n, r)), 3)
    t[rng.random(n) < rows] = np.nan
    t[rng.random((n, r)) < entries] = np.nan
    t = torch.tensor(t)
    ok = ~t.isnan()
    summed = F.mse_loss(x[ok], t[ok], reduction="sum") if squared else F.huber_loss(x[ok], t[ok], delta=1., reduction="sum")
    loss = summed / denominator
    loss.backward()
    return dict(name=name, values=rounded(x), target=rounded(t), denominator=denominator, loss=loss.item(), gradient=rounded(x.grad))


def cells():
    points, strides = [], []
    for stride, h, w in LEVELS:
        for y in range(h):
            for x in range(w):
                points.append([(x + .5) * stride, (y + .5) * stride])
                strides.append(stride)
    return torch.tensor(points, dtype=torch.float64), torch.tensor(strides, dtype=torch.float64)


def iou_and_giou(a, b):
    area = lambda v: (v[..., 2] - v[..., 0]) * (v[..., 3] - v[..., 1])
    inter = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    hull = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).prod(-1)
    union = area(a) + area(b) - inter
    return inter / union, inter / union - (hull - union) / hull


def box_loss(class_logits, box_logits, cls, target, num_foreground, regions, left_out):
    """The whole detection loss: class_logits [N, A, C], box_logits [N, A, 4*17], cls [N, A], target [N, A, 4]."""
    points, strides = cells()
    n, a, c = class_logits.shape
    points, strides = points.expand(n, a, 2), strides.expand(n, a)
    foreground, counted = cls >= 0, cls >= -1
    zero = class_logits.sum() * 0 + box_logits.sum() * 0
    counts = (regions[:, :, None] & left_out[:, None, :]) == 0
    counts |= F.one_hot(cls.clamp(min=0), c).bool() & foreground[:, :, None]
    quality = torch.zeros_like(class_logits)
    giou_sum = dfl_sum = zero
    weight_sum = torch.zeros(())
    if foreground.any():
        bins = box_logits[foreground].view(-1, 4, BINS)
        p, s, t = points[foreground], strides[foreground][:, None], target[foreground]
        ltrb = s * (bins.softmax(-1) * torch.arange(BINS, dtype=torch.float64)).sum(-1)
        decoded = torch.cat([p - ltrb[:, :2], p + ltrb[:, 2:]], 1)
        iou, giou = iou_and_giou(decoded, t)
        check = generalized_box_iou_loss(decoded, t)
        assert torch.allclose(1 - giou, check, atol=1e-6), (1 - giou - check).abs().max()
        n_index, a_index = foreground.nonzero(as_tuple=True)
        quality[n_index, a_index, cls[foreground]] = iou.detach()

        weight = (class_logits.sigmoid() * counts)[foreground].max(1).values.detach()
        weight_sum = weight.sum()
        giou_sum = (weight * (1 - giou)).sum()
        distance = torch.cat([p - t[:, :2], t[:, 2:] - p], 1) / s
        distance = distance.clamp(0, BINS - 1 - 1e-3)
        left = distance.floor().long()
        up = distance - left
        ce = lambda bin: F.cross_entropy(bins.reshape(-1, BINS), bin.reshape(-1), reduction="none").view(-1, 4)
        dfl = (ce(left) * (1 - up) + ce(left + 1) * up).mean(1)
        dfl_sum = (weight * dfl).sum()
    x, y, w = class_logits[counted], quality[counted], counts[counted].double()
    focal = F.binary_cross_entropy_with_logits(x, y, weight=w, reduction="none") * (y - x.sigmoid()).abs() ** 2
    parts = [focal.sum() / max(num_foreground, 1), giou_sum / weight_sum.clamp(min=1), dfl_sum / weight_sum.clamp(min=1)]
    return sum(g * p for g, p in zip(GAINS, parts)) + zero, parts


def box_case(rng, name, objects, denominator, unlabelled=(), ignored=0., scale=1., huge=0., side=(6, 40), partial=False):
    """`objects` foreground cells per image, `huge` the share of logits that are +-60, `partial`: two regions in the first image."""
    n, c = 2, 3
    points, strides = cells()
    a = len(points)
    cls = np.where(rng.random((n, a)) < ignored, -2, -1)
    target = np.zeros((n, a, 4))
    for i in range(n):
        for cell in rng.choice(a, objects, replace=False):
            near = np.round(rng.uniform(*side, 4)) / 2 + rng.integers(0, 4, 4) / 4
            p = points[cell].numpy()
            cls[i, cell] = rng.integers(c)
            target[i, cell] = [*(p - near[:2]), *(p + near[2:])]
        if i in unlabelled:
            cls[i], target[i] = -2, 0
    class_logits = np.round(rng.normal(-1, scale, (n, a, c)), 3)
    box_logits = np.round(rng.normal(0, scale, (n, a, 4, BINS)) - .15 * np.arange(BINS), 1).reshape(n, a, -1)
    for v in (class_logits, box_logits):
        at = rng.random(v.shape) < huge
        v[at] = np.where(rng.random(at.sum()) < .5, 60, -60)
    x, b = torch.tensor(class_logits, requires_grad=True), torch.tensor(box_logits, requires_grad=True)
    cls, target = torch.tensor(cls), torch.tensor(target)
    regions, left_out = np.zeros((n, a), int), np.zeros((n, c), int)
    if partial:
        regions[0] = rng.integers(0, 4, a)
        left_out[:] = [[1, 2, 0], [3, 3, 3]]  # no cell of the second image lies in a region
    regions, left_out = torch.tensor(regions), torch.tensor(left_out)
    loss, parts = box_loss(x, b, cls, target, denominator, regions, left_out)
    loss.backward()
    assert bool((target[..., 2:] - target[..., :2])[cls >= 0].gt(0).all())
    assert bool(x.grad.isfinite().all() and b.grad.isfinite().all())
    return dict(name=name, class_logits=rounded(x), box_logits=rounded(b), **{"class": cls.tolist()}, target=rounded(target),
                num_foreground=denominator, loss=loss.item(), parts=[p.item() + 0. for p in parts],
                class_gradient=rounded(x.grad), box_gradient=rounded(b.grad, 7),
                **(dict(regions=regions.tolist(), left_out=left_out.tolist()) if partial else {}))


def main():
    rng = np.random.default_rng(SEED)
    golden = dict(
        seed=SEED, python=sys.version.split()[0], versions={p: version(p) for p in ("numpy", "torch", "torchvision")},
        class_loss=[class_case(rng, "some unlabelled", 7, 5, .3, 11.), class_case(rng, "two classes", 5, 2, 0, 5.),
                    class_case(rng, "all unlabelled", 3, 4, 1.1, 1.), class_case(rng, "huge logits", 6, 9, .2, 6., 60.)],
        value_loss=[value_case(rng, "some rows unlabelled", 9, 1, .3, 0, 6.), value_case(rng, "some entries unlabelled", 8, 3, .2, .2, 20.),
                    value_case(rng, "all unlabelled", 3, 2, 1.1, 0, 1.)],
        box_loss=dict(levels=LEVELS, bins=BINS, gains=GAINS, cases=[
            box_case(rng, "several foreground cells", 6, 9.),
            box_case(rng, "no foreground", 0, 0.),
            box_case(rng, "one image unlabelled", 4, 4., unlabelled=(1,), ignored=.2),
            box_case(rng, "huge logits", 5, 3., scale=3., huge=.1),
            # Objects farther away than 16 strides, and centres outside their own object.
            box_case(rng, "beyond the bins", 3, 6., side=(-12, 330)),
        ]))
    # A separate random stream, so that the cases above do not change.
    rng = np.random.default_rng(SEED + 1)
    golden["weighted_class_loss"] = [
        weighted_class_case(rng, "weights", 7, 5, .3, [.5, 2., 1., .25, 3.], 0.), weighted_class_case(rng, "smoothing", 6, 4, .2, None, .1),
        weighted_class_case(rng, "both", 8, 3, .2, [4., .5, 1.25], .2), weighted_class_case(rng, "huge logits", 6, 9, .2, [1.5] * 9, .1, 60.)]
    golden["multi_label_loss"] = [
        multi_label_case(rng, "some entries unlabelled", 8, 5, .3, 28.), multi_label_case(rng, "one class", 5, 1, 0, 5.),
        multi_label_case(rng, "a class nobody labelled", 6, 4, .1, 17., classes=(2,)), multi_label_case(rng, "all unlabelled", 3, 2, 1.1, 1.),
        multi_label_case(rng, "huge logits", 6, 7, .2, 33., 100.)]
    golden["squared_value_loss"] = [value_case(rng, "some entries unlabelled", 8, 3, .2, .2, 20., squared=True)]
    rng = np.random.default_rng(SEED + 2)
    golden["box_loss"]["cases"].append(box_case(rng, "some classes not looked for", 6, 9., ignored=.1, partial=True))
    Path(__file__).with_suffix(".json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")
    for case in golden["box_loss"]["cases"]:
        print(case["name"], case["loss"], case["parts"])


if __name__ == "__main__":
    main()
