// Convolution in f32, one thread per element of the result: used for training in f32, and as the reference for the bf16 kernels.
// Also the sum over wgrad's splits, which both precisions share. Contract: ops/conv2d. Launches: ops/conv2d/cuda. Nothing here is
// optimised for speed; a thread loads eight neighbouring channels.
#include "conv2d.cuh"

#define DIRECT_THREADS 256

#if PH_ACTIVATION_BITS == 32

// y[n, p, q, k] = Σ over taps and channels, + bias[k]. One thread per element, neighbouring threads along k.
struct FpropArgs {
  const act *x, *weight;
  act *y;
  const float *bias;  // [bias_channels], or null
  ConvShape shape;
  int bias_channels;
};

PH_KERNEL(conv2d_fprop_direct, FpropArgs, DIRECT_THREADS) {
  const ConvShape &z = a.shape;
  const size_t at = (size_t)ph_block_x() * DIRECT_THREADS + ph_thread();
  const int row = (int)(at / z.k), k = (int)(at % z.k);
  if (row >= z.n * z.p * z.q) return;
  const int q = row % z.q, p = row / z.q % z.p, n = row / z.q / z.p;
  float sum = 0.0f;
  for (int r = 0; r < z.r; r++) {
    const int h = p * z.stride + r - z.padding;
    if (h < 0 || h >= z.h) continue;
    for (int s = 0; s < z.s; s++) {
      const int w = q * z.stride + s - z.padding;
      if (w < 0 || w >= z.w) continue;
      const act *x = a.x + ((size_t)(n * z.h + h) * z.w + w) * z.c;
      const act *weight = a.weight + ((size_t)(k * z.r + r) * z.s + s) * z.c;
      for (int c = 0; c < z.c; c += PH_VECTOR) {
        float u[PH_VECTOR], v[PH_VECTOR];
        ph_load8(x + c, u);
        ph_load8(weight + c, v);
#pragma unroll
        for (int i = 0; i < PH_VECTOR; i++) sum += u[i] * v[i];
      }
    }
  }
  if (a.bias && k < a.bias_channels) sum += a.bias[k];
  ph_store(a.y + at, sum);
}

// dx[n, h, w, c] = Σ over the taps that read the pixel and over output channels. One thread per element, neighbouring threads
// along c.
struct DgradArgs {
  const act *dy, *weight;
  act *dx;
  ConvShape shape;
};

PH_KERNEL(conv2d_dgrad_direct, DgradArgs, DIRECT_THREADS) {
  const ConvShape &z = a.shape;
  const size_t at = (size_t)ph_block_x() * DIRECT_THREADS + ph_thread();
  const int row = (int)(at / z.c), c = (int)(at % z.c);
  if (row >= z.n * z.h * z.w) return;
  const int w = row % z.w, h = row / z.w % z.h, n = row / z.w / z.h;
  const size_t apart = (size_t)z.r * z.s * z.c;  // from one output channel's weights to the next
  float sum = 0.0f;
  for (int r = 0; r < z.r; r++) {
    const int down = h + z.padding - r, p = down / z.stride;
    if (down < 0 || down % z.stride || p >= z.p) continue;
    for (int s = 0; s < z.s; s++) {
      const int across = w + z.padding - s, q = across / z.stride;
      if (across < 0 || across % z.stride || q >= z.q) continue;
      const act *dy = a.dy + ((size_t)(n * z.p + p) * z.q + q) * z.k;
      const act *weight = a.weight + (size_t)(r * z.s + s) * z.c + c;
      for (int k = 0; k < z.k; k += PH_VECTOR) {
        float u[PH_VECTOR];
        ph_load8(dy + k, u);
#pragma unroll
        for (int i = 0; i < PH_VECTOR; i++) sum += u[i] * ph_load(weight + (k + i) * apart);
      }
    }
  }
  ph_store(a.dx + at, sum);
}

// workspace[split, k, r, s, c] = Σ over the split's rows. Blocks: x elements, y splits; neighbouring threads along c.
struct WgradArgs {
  const act *dy, *x;
  float *workspace;
  ConvShape shape;
  int split_rows;
};

PH_KERNEL(conv2d_wgrad_direct, WgradArgs, DIRECT_THREADS) {
  const ConvShape &z = a.shape;
  const int at = ph_block_x() * DIRECT_THREADS + ph_thread(), elements = z.k * z.r * z.s * z.c;
  if (at >= elements) return;
  const int c = at % z.c, s = at / z.c % z.s, r = at / z.c / z.s % z.r, k = at / z.c / z.s / z.r;
  const int rows = z.n * z.p * z.q, first = ph_block_y() * a.split_rows;
  const int end = a.split_rows < rows - first ? first + a.split_rows : rows;
  float sum = 0.0f;
  for (int row = first; row < end; row++) {
    const int q = row % z.q, p = row / z.q % z.p, n = row / z.q / z.p;
    const int h = p * z.stride + r - z.padding, w = q * z.stride + s - z.padding;
    if (h < 0 || h >= z.h || w < 0 || w >= z.w) continue;
    sum += ph_load(a.dy + (size_t)row * z.k + k) * ph_load(a.x + ((size_t)(n * z.h + h) * z.w + w) * z.c + c);
  }
  a.workspace[(size_t)ph_block_y() * elements + at] = sum;
}

#endif

// ---------------------------------------------------------------------------------------------------------------------
// gradient[k, r, s, c] += Σ over the splits, in a fixed order; the gradient has no padding. With many splits, `lanes` threads
// share an element: each adds every lanes-th split, and the first adds up their sums. Bytes: the workspace once, the gradient
// twice.

struct WgradReduceArgs {
  const float *workspace;  // [splits, K, R·S, C]
  float *gradient;         // [logical K, R·S, logical C]
  int splits;
  int apart;     // elements per split
  int elements;  // of the gradient
  int logical_c, c;
  int lanes;  // 1, 2, 4 or 8
};

PH_KERNEL(conv2d_wgrad_reduce, WgradReduceArgs, DIRECT_THREADS) {
  PH_SHARED(float, shared);  // [lanes][256 / lanes]
  const int width = DIRECT_THREADS / a.lanes, lane = ph_thread() / width, column = ph_thread() % width;
  const int at = ph_block_x() * width + column;
  float sum = 0.0f;
  if (at < a.elements) {
    const float *from = a.workspace + (at / a.logical_c * a.c + at % a.logical_c);
#pragma unroll 4
    for (int split = lane; split < a.splits; split += a.lanes) sum += from[(size_t)split * a.apart];
  }
  if (a.lanes > 1) {
    shared[ph_thread()] = sum;
    ph_sync();
    if (lane > 0) return;
    for (int other = 1; other < a.lanes; other++) sum += shared[other * width + column];
  }
  if (at < a.elements) a.gradient[at] += sum;
}
