// Huber's loss with δ = 1, or the squared error, over [N, R] values and its gradient in one pass. Contract: ops/value_loss.
// N·R is at most a few thousand, so there is a single block, in f64 like the CPU.
#include "primitives.cuh"

#define THREADS 256

struct ValueArgs {
  const float *values, *target;  // [N, R], target NaN if unlabelled
  const float *denominator;      // [1]
  float *loss;                   // [1]
  float *dvalues;                // [N, R]
  int len;
  int squared;
};

PH_KERNEL(value_loss, ValueArgs, THREADS) {
  PH_SHARED(double, scratch);
  const double denominator = a.denominator[0];
  double sum = 0.0;
  for (int i = ph_thread(); i < a.len; i += THREADS) {
    const float target = a.target[i];
    if (denominator == 0.0 || target != target) {
      a.dvalues[i] = 0.0f;
      continue;
    }
    const double apart = (double)a.values[i] - (double)target, size = fabs(apart);
    const double huber = size <= 1.0 ? 0.5 * apart * apart : size - 0.5;
    sum += a.squared ? apart * apart : huber;
    // Written so that NaN is passed on.
    const double bounded = apart < -1.0 ? -1.0 : apart > 1.0 ? 1.0 : apart;
    const double slope = a.squared ? 2.0 * apart : bounded;
    a.dvalues[i] = (float)(slope / denominator);
  }
  sum = ph_block_sum(sum, scratch);
  if (ph_thread() == 0) a.loss[0] = denominator == 0.0 ? 0.0f : (float)(sum / denominator);
}
