// Binary cross-entropy over [N, K] logits and its gradient in one pass. Contract: ops/multi_label_loss.
// A block takes CHUNK entries; terms are computed in f32, sums in f64.
#include "primitives.cuh"

#define THREADS 256
#define CHUNK 2048

struct EntriesArgs {
  const float *logits, *target;  // [N, K], target 1, 0, or NaN where unlabelled
  const float *denominator;      // [1]
  float *dlogits;                // [N, K]
  double *partials;              // per block: Σ cross-entropy of its entries
  int len;
};

/// The factor of a loss and its gradient, 1 / (ln 2 · denominator); 0 if nothing is labelled.
PH_DEVICE double scale_of(float denominator) {
  return denominator == 0.0f ? 0.0 : 1.4426950408889634 / (double)denominator;
}

PH_KERNEL(multi_label_loss_entries, EntriesArgs, THREADS) {
  PH_SHARED(double, scratch);
  const double scale = scale_of(a.denominator[0]);
  const int start = ph_block_x() * CHUNK, end = start + CHUNK < a.len ? start + CHUNK : a.len;
  double sum = 0.0;
  for (int i = start + ph_thread(); i < end; i += THREADS) {
    const float target = a.target[i];
    if (scale == 0.0 || target != target) {
      a.dlogits[i] = 0.0f;
      continue;
    }
    // The distance by which the logit is on the wrong side: the loss is ln(1 + e^wrong), its derivative sigmoid(wrong).
    const float sign = target > 0.5f ? -1.0f : 1.0f, wrong = sign * a.logits[i];
    const float power = expf(-fabsf(wrong));
    sum += (double)(wrong > 0.0f ? wrong : 0.0f) + (double)log1pf(power);
    const float slope = (wrong > 0.0f ? 1.0f : power) / (1.0f + power);
    a.dlogits[i] = (float)((double)(sign * slope) * scale);
  }
  sum = ph_block_sum(sum, scratch);
  if (ph_thread() == 0) a.partials[ph_block_x()] = sum;
}

struct FinishArgs {
  const double *partials;
  const float *denominator;
  float *loss;  // [1]
  int blocks;
};

// A single block.
PH_KERNEL(multi_label_loss_finish, FinishArgs, THREADS) {
  PH_SHARED(double, scratch);
  double sum = 0.0;
  for (int i = ph_thread(); i < a.blocks; i += THREADS) sum += a.partials[i];
  sum = ph_block_sum(sum, scratch);
  if (ph_thread() == 0) a.loss[0] = (float)(sum * scale_of(a.denominator[0]));
}
