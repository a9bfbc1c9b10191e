// Cross-entropy over [N, K] logits and its gradient in one pass. Contract: ops/class_loss.
// One warp per row, which reads the row three times (it stays in the L1 cache) and writes it once. Labels that are shares of all
// classes (class weights, smoothing) have their own kernel, and so do mixed labels, so that the bits of plain labels do not
// depend on these features.
#include "primitives.cuh"

#define THREADS 256
#define ROWS (THREADS / 32)

struct RowsArgs {
  const float *logits;       // [N, K]
  const int *label;          // [N], −1 unlabelled
  const float *denominator;  // [1]
  float *dlogits;            // [N, K]
  double *partials;          // per block: Σ cross-entropy of its rows
  int n, k;
};

/// The factor of a loss and its gradient; 0 if nothing is labelled.
PH_DEVICE double scale_of(int k, float denominator) {
  return denominator == 0.0f ? 0.0 : 1.0 / (log((double)k) * (double)denominator);
}

/// The row's cross-entropy, returned to its whole warp; writes its gradient times `scale`.
PH_DEVICE double row_loss(const float *logits, int label, int k, double scale, float *dlogits) {
  const int lane = ph_thread() % 32;
  // If every logit is −∞ or NaN, the differences are NaN, and so is the loss.
  float largest = ph_float(0xff800000u), own = 0.0f;
  for (int i = lane; i < k; i += 32) {
    largest = logits[i] > largest ? logits[i] : largest;
    own = i == label ? logits[i] : own;
  }
#pragma unroll
  for (int mask = 16; mask > 0; mask >>= 1) {
    const float other = ph_shuffle_xor(largest, mask);
    largest = other > largest ? other : largest;
    own += ph_shuffle_xor(own, mask);
  }
  double others = 0.0;
  for (int i = lane; i < k; i += 32) others += i == label ? 0.0f : expf(logits[i] - largest);
#pragma unroll
  for (int mask = 16; mask > 0; mask >>= 1) others += ph_shuffle_xor(others, mask);
  const double sum = others + (double)expf(own - largest);
  const float factor = (float)(scale / sum);
  // p − 1 = −(the sum of the other classes' p), which stays accurate when p is almost 1.
  const float of_label = (float)(-scale * others / sum);
  for (int i = lane; i < k; i += 32) dlogits[i] = i == label ? of_label : expf(logits[i] - largest) * factor;
  return log(sum) + (double)largest - (double)own;
}

PH_KERNEL(class_loss_rows, RowsArgs, THREADS) {
  PH_SHARED(double, scratch);
  const int row = ph_block_x() * ROWS + ph_thread() / 32, lane = ph_thread() % 32;
  const double scale = scale_of(a.k, a.denominator[0]);
  double loss = 0.0;
  if (row < a.n) {
    const float *logits = a.logits + (size_t)row * a.k;
    float *dlogits = a.dlogits + (size_t)row * a.k;
    const int label = a.label[row];
    if (scale == 0.0 || label < 0) {
      for (int i = lane; i < a.k; i += 32) dlogits[i] = 0.0f;
    } else {
      loss = row_loss(logits, label, a.k, scale, dlogits);
    }
  }
  const double total = ph_block_sum(lane == 0 ? loss : 0.0, scratch);
  if (ph_thread() == 0) a.partials[ph_block_x()] = total;
}

struct SharedRowsArgs {
  const float *logits;       // [N, K]
  const int *label;          // [N], −1 unlabelled
  const float *denominator;  // [1]
  float *dlogits;            // [N, K]
  double *partials;          // per block: Σ loss of its rows
  int n, k;
  const float *weights;      // [K], or null for 1 each
  float smoothing;
};

/// Like `row_loss` for a label that is a share q of every class: the loss is Σ q·(−ln p), the gradient (Σ q)·p − q.
PH_DEVICE double shared_row_loss(const SharedRowsArgs &a, const float *logits, int label, double scale, float *dlogits) {
  const int lane = ph_thread() % 32;
  float largest = ph_float(0xff800000u), own_logit = 0.0f;
  for (int i = lane; i < a.k; i += 32) {
    largest = logits[i] > largest ? logits[i] : largest;
    own_logit = i == label ? logits[i] : own_logit;
  }
#pragma unroll
  for (int mask = 16; mask > 0; mask >>= 1) {
    const float other = ph_shuffle_xor(largest, mask);
    largest = other > largest ? other : largest;
    own_logit += ph_shuffle_xor(own_logit, mask);
  }
  // Sums over all classes: Σ w, and Σ w·(x − largest).
  double others = 0.0, weights = 0.0, weighted = 0.0;
  for (int i = lane; i < a.k; i += 32) {
    const double weight = a.weights ? (double)a.weights[i] : 1.0;
    others += i == label ? 0.0f : expf(logits[i] - largest);
    weights += weight;
    weighted += weight * ((double)logits[i] - (double)largest);
  }
#pragma unroll
  for (int mask = 16; mask > 0; mask >>= 1) {
    others += ph_shuffle_xor(others, mask);
    weights += ph_shuffle_xor(weights, mask);
    weighted += ph_shuffle_xor(weighted, mask);
  }
  const double sum = others + (double)expf(own_logit - largest), of_label = a.weights ? (double)a.weights[label] : 1.0;
  const double spread = (double)a.smoothing / (double)a.k, own = (1.0 - (double)a.smoothing) * of_label;
  const double total = own + spread * weights, share = total / sum;
  for (int i = lane; i < a.k; i += 32) {
    const double q = spread * (a.weights ? (double)a.weights[i] : 1.0), power = expf(logits[i] - largest);
    // The gradient of the label's own class: the other classes' q minus their share of p.
    const double slope = i == label ? spread * (weights - of_label) - share * others : share * power - q;
    dlogits[i] = (float)(scale * slope);
  }
  return total * log(sum) - own * ((double)own_logit - (double)largest) - spread * weighted;
}

PH_KERNEL_BLOCKS(class_loss_shared_rows, SharedRowsArgs, THREADS, 2) {
  PH_SHARED(double, scratch);
  const int row = ph_block_x() * ROWS + ph_thread() / 32, lane = ph_thread() % 32;
  const double scale = scale_of(a.k, a.denominator[0]);
  double loss = 0.0;
  if (row < a.n) {
    const float *logits = a.logits + (size_t)row * a.k;
    float *dlogits = a.dlogits + (size_t)row * a.k;
    const int label = a.label[row];
    if (scale == 0.0 || label < 0) {
      for (int i = lane; i < a.k; i += 32) dlogits[i] = 0.0f;
    } else {
      loss = shared_row_loss(a, logits, label, scale, dlogits);
    }
  }
  const double total = ph_block_sum(lane == 0 ? loss : 0.0, scratch);
  if (ph_thread() == 0) a.partials[ph_block_x()] = total;
}

struct MixedRowsArgs {
  const float *logits;       // [N, K]
  const int *label;          // [N], −1 unlabelled
  const float *denominator;  // [1]
  float *dlogits;            // [N, K]
  double *partials;          // per block: Σ loss of its rows
  int n, k;
  const float *weights;      // [K], or null for 1 each
  float smoothing;
  const int *other;          // [N], −1 for none
  const float *part;         // [N], the part of the first label
};

/// Like `shared_row_loss` for a label of two classes. `first` and `second` are their shares, including weight and smoothing.
PH_DEVICE double mixed_row_loss(const MixedRowsArgs &a, const float *logits, int label, int other, double first, double second,
                                double scale, float *dlogits) {
  const int lane = ph_thread() % 32;
  float largest = ph_float(0xff800000u);
  for (int i = lane; i < a.k; i += 32) largest = logits[i] > largest ? logits[i] : largest;
#pragma unroll
  for (int mask = 16; mask > 0; mask >>= 1) {
    const float theirs = ph_shuffle_xor(largest, mask);
    largest = theirs > largest ? theirs : largest;
  }
  const double spread = (double)a.smoothing / (double)a.k;
  // Sums over all classes: Σ eˣ, Σ q, and Σ q·(x − largest), where a share of 0 times −∞ counts as 0.
  double sum = 0.0, total = 0.0, crossed = 0.0;
  for (int i = lane; i < a.k; i += 32) {
    const double weight = a.weights ? (double)a.weights[i] : 1.0;
    const double q = (i == label ? first : 0.0) + (i == other ? second : 0.0) + spread * weight;
    sum += expf(logits[i] - largest);
    total += q;
    crossed += q > 0.0 ? q * ((double)logits[i] - (double)largest) : 0.0;
  }
#pragma unroll
  for (int mask = 16; mask > 0; mask >>= 1) {
    sum += ph_shuffle_xor(sum, mask);
    total += ph_shuffle_xor(total, mask);
    crossed += ph_shuffle_xor(crossed, mask);
  }
  for (int i = lane; i < a.k; i += 32) {
    const double weight = a.weights ? (double)a.weights[i] : 1.0;
    const double q = (i == label ? first : 0.0) + (i == other ? second : 0.0) + spread * weight;
    dlogits[i] = (float)(scale * (total * (double)expf(logits[i] - largest) / sum - q));
  }
  return total * log(sum) - crossed;
}

PH_KERNEL_BLOCKS(class_loss_mixed_rows, MixedRowsArgs, THREADS, 2) {
  PH_SHARED(double, scratch);
  const int row = ph_block_x() * ROWS + ph_thread() / 32, lane = ph_thread() % 32;
  const double scale = scale_of(a.k, a.denominator[0]);
  double loss = 0.0;
  if (row < a.n) {
    const float *logits = a.logits + (size_t)row * a.k;
    float *dlogits = a.dlogits + (size_t)row * a.k;
    const int label = a.label[row], other = a.other[row];
    if (scale == 0.0 || label < 0) {
      for (int i = lane; i < a.k; i += 32) dlogits[i] = 0.0f;
    } else {
      const double part = other < 0 ? 1.0 : (double)a.part[row], hard = 1.0 - (double)a.smoothing;
      const double first = hard * part * (a.weights ? (double)a.weights[label] : 1.0);
      const double second = other < 0 ? 0.0 : hard * (1.0 - part) * (a.weights ? (double)a.weights[other] : 1.0);
      loss = mixed_row_loss(a, logits, label, other, first, second, scale, dlogits);
    }
  }
  const double total = ph_block_sum(lane == 0 ? loss : 0.0, scratch);
  if (ph_thread() == 0) a.partials[ph_block_x()] = total;
}

struct FinishArgs {
  const double *partials;
  const float *denominator;
  float *loss;  // [1]
  int blocks, k;
};

// A single block.
PH_KERNEL(class_loss_finish, FinishArgs, THREADS) {
  PH_SHARED(double, scratch);
  double sum = 0.0;
  for (int i = ph_thread(); i < a.blocks; i += THREADS) sum += a.partials[i];
  sum = ph_block_sum(sum, scratch);
  if (ph_thread() == 0) a.loss[0] = (float)(sum * scale_of(a.k, a.denominator[0]));
}
