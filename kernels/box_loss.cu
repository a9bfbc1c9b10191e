// The detection loss and its gradients: N images of A cells, C classes. Contract: ops/box_loss; formulas: its CPU code,
// Li et al. 2020 ("Generalized Focal Loss") eqs. 4 and 6, Rezatofighi et al. 2019.
//
// Four passes. Logits: treats every class logit as background, in f32, bound by memory (logits in, gradient out). Boxes: sets the
// box gradient to zero and computes the few foreground cells in f64, with four threads per cell. Finish: adds up the sums. Scale:
// multiplies the foreground's box gradients by 1/Σ score, which is known only then.
#include "primitives.cuh"

#define THREADS 256
#define BINS 17
#define SIDES (4 * BINS)
#define GIOU_GAIN 2.0
#define DISTRIBUTION_GAIN 0.25

/// For images annotated for some classes only: a bit for each region that a cell lies in, and for each class the bits of the
/// regions in which it was not annotated. If a cell and a class share a bit, the class has no loss in the cell. Null if all were
/// annotated.
struct Partial {
  const int *regions;   // [N, A]
  const int *left_out;  // [N, C]
};

/// The bits of a cell's regions.
PH_DEVICE int regions_of(const Partial &partial, int cell) { return partial.regions ? partial.regions[cell] : 0; }

/// Whether the class was not annotated in one of these regions of the cell's image.
PH_DEVICE bool is_left_out(const Partial &partial, int regions, int cell, int anchors, int c, int channel) {
  return regions != 0 && (partial.left_out[cell / anchors * c + channel] & regions) != 0;
}

/// The divisor of the quality focal loss.
PH_DEVICE double denominator(const float *num_foreground) { return fmax((double)num_foreground[0], 1.0); }

// ---------------------------------------------------------------------------------------------------------------------
// Logits. A thread takes four neighbouring logits at a time, which may belong to several cells.

struct LogitsArgs {
  const float *logits;          // [N, A, C]
  const int *label;             // [N, A]: ≥ 0 foreground, −1 background, −2 ignored
  const float *num_foreground;  // [1]
  float *dlogits;               // [N, A, C]; for a foreground cell's own class, the box pass writes it
  double *partials;             // each block's Σ
  Partial partial;
  int total, c, anchors;
};

#define WIDE 4
#define LOGIT_VECTORS 4  // per thread

/// ln(1 + t) for t in 0–1, accurate to a few units in the last place even if t is tiny: 2·artanh(t/(2 + t)).
PH_DEVICE float ln_1p(float t) {
  const float s = t / (2.0f + t), q = s * s;
  // The first omitted term is below 2⁻²⁹ of the first term at s = 1/3.
  float series = 1.0f / 15.0f;
  series = series * q + 1.0f / 13.0f;
  series = series * q + 1.0f / 11.0f;
  series = series * q + 1.0f / 9.0f;
  series = series * q + 1.0f / 7.0f;
  series = series * q + 1.0f / 5.0f;
  series = series * q + 1.0f / 3.0f;
  return 2.0f * (s + s * q * series);
}

/// −ln(1 − σ)·σ², and its derivative.
PH_DEVICE float background(float x, float *slope) {
  const float t = expf(-fabsf(x)), inverse = 1.0f / (1.0f + t);
  // σ and 1 − σ, both to full precision.
  const float score = x < 0.0f ? t * inverse : inverse, rest = x < 0.0f ? inverse : t * inverse;
  const float softplus = (x < 0.0f ? 0.0f : x) + ln_1p(t), square = score * score;
  *slope = square * (score + 2.0f * softplus * rest);
  return softplus * square;
}

PH_KERNEL(box_loss_logits, LogitsArgs, THREADS) {
  PH_SHARED(double, scratch);
  const float scale = (float)(1.0 / denominator(a.num_foreground));
  const int first = (ph_block_x() * THREADS * LOGIT_VECTORS + ph_thread()) * WIDE;
  float x[LOGIT_VECTORS][WIDE];
#pragma unroll
  for (int i = 0; i < LOGIT_VECTORS; i++) {
    const int at = first + i * THREADS * WIDE;
    if (at + WIDE <= a.total) {
      const ph_16_bytes bytes = *(const ph_16_bytes *)(a.logits + at);
#pragma unroll
      for (int j = 0; j < WIDE; j++) x[i][j] = ph_float(bytes.w[j]);
    } else {
#pragma unroll
      for (int j = 0; j < WIDE; j++) x[i][j] = at + j < a.total ? a.logits[at + j] : 0.0f;
    }
  }
  float sum = 0.0f;  // of 16 losses
#pragma unroll
  for (int i = 0; i < LOGIT_VECTORS; i++) {
    const int at = first + i * THREADS * WIDE;
    if (at < a.total) {
      int cell = at / a.c, channel = at % a.c, label = a.label[cell], regions = regions_of(a.partial, cell);
      ph_16_bytes slopes;
#pragma unroll
      for (int j = 0; j < WIDE; j++) {
        float slope;
        const float loss = background(x[i][j], &slope);
        const bool counts = label != -2 && channel != label && at + j < a.total &&
                            !is_left_out(a.partial, regions, cell, a.anchors, a.c, channel);
        sum += counts ? loss : 0.0f;
        slopes.w[j] = ph_bits(counts ? scale * slope : 0.0f);
        if (++channel == a.c && at + j + 1 < a.total) {
          channel = 0;
          label = a.label[++cell];
          regions = regions_of(a.partial, cell);
        }
      }
      if (at + WIDE <= a.total) {
        *(ph_16_bytes *)(a.dlogits + at) = slopes;
      } else {
#pragma unroll
        for (int j = 0; j < WIDE; j++)
          if (at + j < a.total) a.dlogits[at + j] = ph_float(slopes.w[j]);
      }
    }
  }
  const double total = ph_block_sum((double)sum, scratch);
  if (ph_thread() == 0) a.partials[ph_block_x()] = total;
}

// ---------------------------------------------------------------------------------------------------------------------
// Boxes. A warp processes 32 cells, eight at a time with four threads each, one thread per side (left, top, right, bottom).

struct Level {
  int cells, w, stride;
};

#define MAX_LEVELS 8

struct BoxesArgs {
  const float *class_logits;  // [N, A, C]
  const float *box_logits;    // [N, A, 4·BINS]
  const int *label;           // [N, A]
  const float *target;        // [N, A, 4] xyxy in pixels
  const float *num_foreground;
  float *dclass, *dbox;
  double *partials;  // [blocks, 4]: quality focal, GIoU, distribution focal, score
  Partial partial;
  int cells, c, anchors;
  Level levels[MAX_LEVELS];
};

#define BOX_THREADS 128
#define BLOCK_CELLS 128
#define WARP_CELLS (BLOCK_CELLS / (BOX_THREADS / 32))

PH_DEVICE double sigmoid(double x) { return 1.0 / (1.0 + exp(-x)); }

/// Σ over the four threads of a cell.
PH_DEVICE double sum_of_sides(double v) {
  v += ph_shuffle_xor(v, 1);
  return v + ph_shuffle_xor(v, 2);
}

/// The cell's centre along this side's axis, and its stride, both in pixels.
PH_DEVICE void place_cell(const BoxesArgs &a, int cell, int axis, double *centre, double *stride) {
  int left = cell % a.anchors, w = 1, pixels = 1;
  bool found = false;
#pragma unroll
  for (int i = 0; i < MAX_LEVELS; i++) {
    const bool here = !found && left < a.levels[i].cells;
    if (here) {
      w = a.levels[i].w;
      pixels = a.levels[i].stride;
    }
    found = found || here;
    if (!found) left -= a.levels[i].cells;
  }
  const int index = axis == 0 ? left % w : left / w;
  *centre = (double)(((float)index + 0.5f) * (float)pixels);
  *stride = (double)pixels;
}

/// The best score among a cell's own class and the classes that are not left out, over its four threads.
PH_DEVICE double best_score(const BoxesArgs &a, int cell, int side) {
  const float *logits = a.class_logits + (size_t)cell * a.c;
  const int regions = regions_of(a.partial, cell), label = a.label[cell];
  float best = ph_float(0xff800000u);
  for (int i = side; i < a.c; i += 4) {
    const bool counts = i == label || !is_left_out(a.partial, regions, cell, a.anchors, a.c, i);
    best = counts && logits[i] > best ? logits[i] : best;
  }
#pragma unroll
  for (int mask = 1; mask < 4; mask *= 2) {
    const float other = ph_shuffle_xor(best, mask);
    best = other > best ? other : best;
  }
  return sigmoid((double)best);
}

/// One side's softmax over the bins. The exponentials are recomputed where they are needed: seventeen doubles do not fit into
/// registers with the rest, and foreground is rare.
struct distribution {
  double largest;
  double sum;   // Σ exp(logits − largest)
  double mean;  // expected bin
};

PH_DEVICE distribution read_distribution(const float *logits) {
  float largest = ph_float(0xff800000u);
#pragma unroll 4
  for (int bin = 0; bin < BINS; bin++) largest = logits[bin] > largest ? logits[bin] : largest;
  double sum = 0.0, moment = 0.0;
#pragma unroll 2
  for (int bin = 0; bin < BINS; bin++) {
    const double power = exp((double)logits[bin] - (double)largest);
    sum += power;
    moment += bin * power;
  }
  return distribution{(double)largest, sum, moment / sum};
}

struct overlap {
  double iou, giou;
  double slope;  // derivative of GIoU by this side's coordinate of the first box
};

/// `own` and `wanted` are this side's coordinates of the two boxes; the other three sides come from the cell's other threads.
PH_DEVICE overlap overlap_of(double own, double wanted, int side) {
  const double smallest = 1e-9;  // Keeps the ratios of empty boxes finite.
  double a[4], b[4];
  {
    const double a1 = ph_shuffle_xor(own, 1), a2 = ph_shuffle_xor(own, 2), a3 = ph_shuffle_xor(own, 3);
    const double b1 = ph_shuffle_xor(wanted, 1), b2 = ph_shuffle_xor(wanted, 2), b3 = ph_shuffle_xor(wanted, 3);
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const int from = side ^ i;
      a[i] = from == 0 ? own : from == 1 ? a1 : from == 2 ? a2 : a3;
      b[i] = from == 0 ? wanted : from == 1 ? b1 : from == 2 ? b2 : b3;
    }
  }
  double inner[2], outer[2], size[2];
#pragma unroll
  for (int i = 0; i < 2; i++) {
    inner[i] = fmax(fmin(a[2 + i], b[2 + i]) - fmax(a[i], b[i]), 0.0);
    outer[i] = fmax(a[2 + i], b[2 + i]) - fmin(a[i], b[i]);
    size[i] = a[2 + i] - a[i];
  }
  const double intersection = inner[0] * inner[1];
  const double both = size[0] * size[1] + (b[2] - b[0]) * (b[3] - b[1]) - intersection;
  const double united = fmax(both, smallest), hull = fmax(outer[0] * outer[1], smallest);
  // The derivative of each area by this coordinate: its sign times the length of the other axis.
  const bool vertical = side % 2 == 1, low = side < 2;
  const double sign = low ? -1.0 : 1.0;
  const double inner_along = vertical ? inner[1] : inner[0], inner_across = vertical ? inner[0] : inner[1];
  const double size_across = vertical ? size[0] : size[1], outer_across = vertical ? outer[0] : outer[1];
  // 1 if the first box's coordinate is larger, 0 if smaller, ½ if they are equal; NaN stays NaN.
  const double larger = own > wanted ? 1.0 : own < wanted ? 0.0 : own == wanted ? 0.5 : own - wanted;
  const double bounds_inner = low ? larger : 1.0 - larger, bounds_outer = low ? 1.0 - larger : larger;
  const double d_inner = inner_along > 0.0 ? sign * bounds_inner * inner_across : 0.0;
  const double d_united = sign * size_across - d_inner;
  const double d_hull = sign * bounds_outer * outer_across;
  overlap result;
  result.iou = intersection / united;
  result.giou = result.iou - (hull - united) / hull;
  result.slope = d_inner / united + d_united * (1.0 / hull - intersection / (united * united)) -
                 d_hull * united / (hull * hull);
  return result;
}

/// Quality focal loss of one logit for the target `quality`, β = 2, and its derivative.
PH_DEVICE double quality_focal(double x, double quality, double *slope) {
  const double score = sigmoid(x), apart = score - quality;
  const double entropy = fmax(x, 0.0) + log1p(exp(-fabs(x))) - x * quality;
  *slope = apart * apart * apart + 2.0 * entropy * apart * score * sigmoid(-x);
  return entropy * apart * apart;
}

/// The losses of some cells, kept by the first of each cell's threads.
struct sums {
  double quality, giou, distribution, score;
};

/// Computes one cell. If `counts`, adds its losses and writes this thread's side of the box gradient. All threads of a warp call
/// this together, including those whose cell does not count.
PH_DEVICE void box_of_cell(const BoxesArgs &a, int cell, bool counts, sums *total) {
  const int side = ph_thread() % 4;
  const double sign = side < 2 ? -1.0 : 1.0;
  double centre, stride;
  place_cell(a, cell, side % 2, &centre, &stride);
  const float *class_logits = a.class_logits + (size_t)cell * a.c;
  const double score = best_score(a, cell, side), target = a.target[(size_t)cell * 4 + side];

  const float *logits = a.box_logits + (size_t)cell * SIDES + side * BINS;
  float *dlogits = a.dbox + (size_t)cell * SIDES + side * BINS;
  const distribution d = read_distribution(logits);
  // Left and top lie before the centre, right and bottom after it.
  const overlap o = overlap_of(centre + sign * d.mean * stride, target, side);

  const double distance = fmin(fmax(sign * (target - centre) / stride, 0.0), (BINS - 1) - 1e-3);
  const double below = floor(distance), above = distance - below;
  const int lower = counts ? (int)below : 0;
  // ln Σ exp(logits) minus the two logits around the distance, weighted by how near each is.
  const double of_logits = (1.0 - above) * (double)logits[lower] + above * (double)logits[lower + 1];
  double focal = d.largest + log(d.sum) - of_logits;
  if (counts) {
    const double slope = -GIOU_GAIN * o.slope * sign * stride, inverse = 1.0 / d.sum;
#pragma unroll 2
    for (int bin = 0; bin < BINS; bin++) {
      const double p = exp((double)logits[bin] - d.largest) * inverse;
      const double wanted = bin == lower ? 1.0 - above : bin == lower + 1 ? above : 0.0;
      dlogits[bin] = (float)(score * (slope * p * (bin - d.mean) + DISTRIBUTION_GAIN / 4.0 * (p - wanted)));
    }
  }
  focal = sum_of_sides(focal);
  if (counts && side == 0) {
    const int label = a.label[cell];
    double slope_of_class;
    total->quality += quality_focal((double)class_logits[label], o.iou, &slope_of_class);
    a.dclass[(size_t)cell * a.c + label] = (float)(slope_of_class * (1.0 / denominator(a.num_foreground)));
    total->giou += score * GIOU_GAIN * (1.0 - o.giou);
    total->distribution += score * DISTRIBUTION_GAIN * focal / 4.0;
    total->score += score;
  }
}

PH_KERNEL(box_loss_boxes, BoxesArgs, BOX_THREADS) {
  PH_SHARED(double, scratch);
  const int lane = ph_thread() % 32, begin = ph_block_x() * BLOCK_CELLS + ph_thread() / 32 * WARP_CELLS;
  sums total = {0.0, 0.0, 0.0, 0.0};
  for (int first = begin; first < begin + WARP_CELLS && first < a.cells; first += 8) {
    const int cells = a.cells - first < 8 ? a.cells - first : 8;
    ph_16_bytes *zeros = (ph_16_bytes *)(a.dbox + (size_t)first * SIDES);
    for (int i = lane; i < cells * (SIDES / WIDE); i += 32) zeros[i] = ph_16_bytes{{0, 0, 0, 0}};
    ph_sync_warp();  // The gradients below overwrite zeros that other threads wrote.
    const bool there = lane / 4 < cells;
    const int cell = there ? first + lane / 4 : first;
    const bool counts = there && a.label[cell] >= 0;
    float any = counts ? 1.0f : 0.0f;
#pragma unroll
    for (int mask = 4; mask < 32; mask *= 2) any += ph_shuffle_xor(any, mask);
    if (any > 0.0f) box_of_cell(a, cell, counts, &total);
  }
  const double quality = ph_block_sum(total.quality, scratch), giou = ph_block_sum(total.giou, scratch);
  const double focal = ph_block_sum(total.distribution, scratch), score = ph_block_sum(total.score, scratch);
  if (ph_thread() == 0) {
    double *partials = a.partials + (size_t)ph_block_x() * 4;
    partials[0] = quality;
    partials[1] = giou;
    partials[2] = focal;
    partials[3] = score;
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Finish. A single block.

struct FinishArgs {
  const double *of_logits;  // [logit_blocks]
  const double *of_cells;   // [cell_blocks, 4]
  const float *num_foreground;
  const float *share;  // of the step's micro-batches
  float *scale;        // share/Σ score
  float *loss;   // [1]
  float *parts;  // [3]
  int logit_blocks, cell_blocks;
};

#define FINISH_THREADS 512

PH_KERNEL(box_loss_finish, FinishArgs, FINISH_THREADS) {
  PH_SHARED(double, scratch);
  sums total = {0.0, 0.0, 0.0, 0.0};
#pragma unroll 4
  for (int i = ph_thread(); i < a.logit_blocks; i += FINISH_THREADS) total.quality += a.of_logits[i];
#pragma unroll 2
  for (int i = ph_thread(); i < a.cell_blocks; i += FINISH_THREADS) {
    const double *of = a.of_cells + (size_t)i * 4;
    total.quality += of[0];
    total.giou += of[1];
    total.distribution += of[2];
    total.score += of[3];
  }
  const double quality = ph_block_sum(total.quality, scratch) / denominator(a.num_foreground);
  const double score = ph_block_sum(total.score, scratch), scale = (double)a.share[0] / fmax(score, 1.0);
  const double giou = ph_block_sum(total.giou, scratch) * scale;
  const double focal = ph_block_sum(total.distribution, scratch) * scale;
  if (ph_thread() == 0) {
    a.scale[0] = (float)scale;
    a.parts[0] = (float)quality;
    a.parts[1] = (float)giou;
    a.parts[2] = (float)focal;
    a.loss[0] = (float)(quality + giou + focal);
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Scale. A thread checks four vectors of the box gradient and multiplies those of foreground cells.

struct ScaleArgs {
  const float *scale;  // [1]
  const int *label;    // [N, A]
  float *dbox;         // [N, A, 4·BINS]
  int vectors;         // of four floats, 17 per cell
};

#define SCALE_VECTORS 4

PH_KERNEL(box_loss_scale, ScaleArgs, THREADS) {
  const int first = ph_block_x() * THREADS * SCALE_VECTORS + ph_thread();
  const float scale = a.scale[0];
#pragma unroll
  for (int i = 0; i < SCALE_VECTORS; i++) {
    const int vector = first + i * THREADS;
    if (vector < a.vectors && a.label[vector / BINS] >= 0) {
      ph_16_bytes *at = (ph_16_bytes *)a.dbox + vector;
      ph_16_bytes bytes = *at;
#pragma unroll
      for (int j = 0; j < WIDE; j++) bytes.w[j] = ph_bits(ph_float(bytes.w[j]) * scale);
      *at = bytes;
    }
  }
}
