// Pooling and dropout. Contract: ops/pool. The max pool is the network's only one: 3×3, stride 2, padding 1.
#include "primitives.cuh"

// ---------------------------------------------------------------------------------------------------------------------
// Max pools over [N, H, W, C] → [N, P, Q, C]. A thread takes eight channels of one column of outputs and processes four of its
// rows from top to bottom, so that the input row between two windows is read once. Columns that windows share come from the L1
// cache. Blocks: [Q, C/8], strips of P, N.

#define POOL_THREADS 128
#define POOL_ROWS 4

/// The maxima so far and the taps of their first occurrence, for eight channels.
struct Maximum {
  float value[PH_VECTOR];
  int tap[PH_VECTOR];
};

PH_DEVICE float minus_infinity() { return ph_float(0xff800000u); }

/// NaN counts as larger, as in PyTorch.
PH_DEVICE bool better_than(float v, float best) { return v > best || v != v; }

PH_DEVICE void begin_maximum(Maximum &maximum, int tap) {
#pragma unroll
  for (int j = 0; j < PH_VECTOR; j++) {
    maximum.value[j] = minus_infinity();
    maximum.tap[j] = tap;
  }
}

/// Compares three pixels of a row, from tap `tap` on. `row` starts at the image's first column; pixels −1 and W are
/// padding.
PH_DEVICE void scan_row(const act *row, int column, int w, int c, int tap, Maximum &maximum) {
  float v[3][PH_VECTOR];
#pragma unroll
  for (int s = 0; s < 3; s++)
    if (column + s >= 0 && column + s < w) ph_load8(row + (size_t)(column + s) * c, v[s]);
#pragma unroll
  for (int s = 0; s < 3; s++) {
    if (column + s < 0 || column + s >= w) continue;
#pragma unroll
    for (int j = 0; j < PH_VECTOR; j++) {
      const bool better = better_than(v[s][j], maximum.value[j]);
      maximum.value[j] = better ? v[s][j] : maximum.value[j];
      maximum.tap[j] = better ? tap + s : maximum.tap[j];
    }
  }
}

/// Replaces a maximum where `below`, the window's last row, is greater.
PH_DEVICE void take_greater(Maximum &maximum, const Maximum &below) {
#pragma unroll
  for (int j = 0; j < PH_VECTOR; j++) {
    const bool better = better_than(below.value[j], maximum.value[j]);
    maximum.value[j] = better ? below.value[j] : maximum.value[j];
    maximum.tap[j] = better ? 6 + below.tap[j] : maximum.tap[j];
  }
}

PH_DEVICE u64 pack_taps(const int (&tap)[PH_VECTOR]) {
  u64 packed = 0;
#pragma unroll
  for (int j = 0; j < PH_VECTOR; j++) packed |= (u64)tap[j] << (8 * j);
  return packed;
}

// Moves one activation per input, and one activation and one byte per output.

struct MaxPoolArgs {
  const act *x;
  act *y;
  u8 *argmax;  // tap, row-major in the window; may be null
  int h, w, c, p, q;
};

PH_KERNEL(max_pool, MaxPoolArgs, POOL_THREADS) {
  const int groups = a.c / PH_VECTOR, place = ph_block_x() * POOL_THREADS + ph_thread();
  const int out_column = place / groups, channel = place % groups * PH_VECTOR, column = 2 * out_column - 1;
  if (out_column >= a.q) return;
  const int image = ph_block_z(), begin = ph_block_y() * POOL_ROWS;
  const act *x = a.x + (size_t)image * a.h * a.w * a.c + channel;
  const size_t row_length = (size_t)a.w * a.c;
  const int first_tap = column < 0 ? 1 : 0;  // of a row
  Maximum above;
  if (begin > 0) {
    begin_maximum(above, first_tap);
    scan_row(x + (2 * begin - 1) * row_length, column, a.w, a.c, 0, above);
  } else {
    begin_maximum(above, 3 + first_tap);
  }
#pragma unroll 1
  for (int row = begin; row < begin + POOL_ROWS && row < a.p; row++) {
    scan_row(x + 2 * row * row_length, column, a.w, a.c, 3, above);
    Maximum below;
    begin_maximum(below, first_tap);
    if (2 * row + 1 < a.h) scan_row(x + (2 * row + 1) * row_length, column, a.w, a.c, 0, below);
    take_greater(above, below);
    const size_t at = (((size_t)image * a.p + row) * a.q + out_column) * a.c + channel;
    ph_store8(a.y + at, above.value);
    if (a.argmax) *(u64 *)(a.argmax + at) = pack_taps(above.tap);
    above = below;
  }
}

// dx, gathered: the pixels (2i, 2j) … (2i+1, 2j+1) lie in the windows (i, j) … (i+1, j+1) and in no other. A thread therefore
// takes those four pixels and proceeds downwards like the forward. Moves one activation per input, and one activation and one
// byte per output.

struct MaxPoolBackwardArgs {
  const act *dy;
  const u8 *argmax;
  act *dx;
  int h, w, c, p, q;
};

/// The gradients and taps of two neighbouring windows.
struct WindowRow {
  float dy[2][PH_VECTOR];
  u64 taps[2];
};

PH_DEVICE void load_windows(const MaxPoolBackwardArgs &a, int row, int column, int channel, WindowRow &windows) {
#pragma unroll
  for (int side = 0; side < 2; side++) {
    windows.taps[side] = ~(u64)0;  // There is no window, so no tap matches.
#pragma unroll
    for (int j = 0; j < PH_VECTOR; j++) windows.dy[side][j] = 0.0f;
    if (row < a.p && column + side < a.q) {
      const size_t at = (((size_t)ph_block_z() * a.p + row) * a.q + column + side) * a.c + channel;
      ph_load8(a.dy + at, windows.dy[side]);
      windows.taps[side] = *(const u64 *)(a.argmax + at);
    }
  }
}

/// Adds the gradient of window `side` to the pixel at tap `tap`.
PH_DEVICE void add_gradient(const WindowRow &windows, int side, int tap, float (&sum)[PH_VECTOR]) {
#pragma unroll
  for (int j = 0; j < PH_VECTOR; j++) {
    const bool taken = (int)(windows.taps[side] >> (8 * j) & 255) == tap;
    sum[j] += taken ? windows.dy[side][j] : 0.0f;
  }
}

PH_KERNEL(max_pool_backward, MaxPoolBackwardArgs, POOL_THREADS) {
  const int groups = a.c / PH_VECTOR, place = ph_block_x() * POOL_THREADS + ph_thread();
  const int column = place / groups, channel = place % groups * PH_VECTOR;
  if (column >= a.q) return;
  const int begin = ph_block_y() * POOL_ROWS;
  WindowRow above, below;
  load_windows(a, begin, column, channel, above);
#pragma unroll 1
  for (int row = begin; row < begin + POOL_ROWS && row < a.p; row++) {
    load_windows(a, row + 1, column, channel, below);
    act *dx = a.dx + (((size_t)ph_block_z() * a.h + 2 * row) * a.w + 2 * column) * a.c + channel;
    act *next = dx + (size_t)a.w * a.c;
    const bool right = 2 * column + 1 < a.w, under = 2 * row + 1 < a.h;
    float sum[4][PH_VECTOR] = {};
    add_gradient(above, 0, 4, sum[0]);
    ph_store8(dx, sum[0]);
    if (right) {
      add_gradient(above, 0, 5, sum[1]);
      add_gradient(above, 1, 3, sum[1]);
      ph_store8(dx + a.c, sum[1]);
    }
    if (under) {
      add_gradient(above, 0, 7, sum[2]);
      add_gradient(below, 0, 1, sum[2]);
      ph_store8(next, sum[2]);
    }
    if (right && under) {
      add_gradient(above, 0, 8, sum[3]);
      add_gradient(above, 1, 6, sum[3]);
      add_gradient(below, 0, 2, sum[3]);
      add_gradient(below, 1, 0, sum[3]);
      ph_store8(next + a.c, sum[3]);
    }
    above = below;
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// y [N, C] = the mean over the pixels of x [N, HW, C]. A block takes 64 channels of an image. Its threads form a grid of 8
// columns, each a vector of eight channels, and 16 rows that stride over the pixels. Moves one activation per input.

#define MEAN_THREADS 128
#define MEAN_SIDE 8
#define MEAN_LANES 16

struct GlobalPoolArgs {
  const act *x;
  float *y;
  int hw;
  int c;
};

PH_KERNEL(global_pool, GlobalPoolArgs, MEAN_THREADS) {
  PH_SHARED(float, scratch);
  const int thread = ph_thread(), side = thread % MEAN_SIDE, lane = thread / MEAN_SIDE;
  const int channel = (ph_block_x() * MEAN_SIDE + side) * PH_VECTOR, image = ph_block_y();
  const act *x = a.x + (size_t)image * a.hw * a.c + channel;
  float sum[PH_VECTOR] = {};
  if (channel < a.c) {
#pragma unroll 4
    for (int pixel = lane; pixel < a.hw; pixel += MEAN_LANES) {
      float v[PH_VECTOR];
      ph_load8(x + (size_t)pixel * a.c, v);
#pragma unroll
      for (int j = 0; j < PH_VECTOR; j++) sum[j] += v[j];
    }
  }
#pragma unroll
  for (int mask = MEAN_SIDE; mask < 32; mask *= 2) {
#pragma unroll
    for (int j = 0; j < PH_VECTOR; j++) sum[j] += ph_shuffle_xor(sum[j], mask);
  }
  if (thread % 32 < MEAN_SIDE) ph_store8(scratch + (thread / 32 * MEAN_SIDE + side) * PH_VECTOR, sum);
  ph_sync();
  if (thread >= MEAN_SIDE || channel >= a.c) return;
  const float share = 1.0f / (float)a.hw;
#pragma unroll
  for (int j = 0; j < PH_VECTOR; j++) {
    float total = 0.0f;
#pragma unroll
    for (int warp = 0; warp < MEAN_THREADS / 32; warp++)
      total += scratch[(warp * MEAN_SIDE + side) * PH_VECTOR + j];
    sum[j] = total * share;
  }
  ph_store8(a.y + (size_t)image * a.c + channel, sum);
}

// ---------------------------------------------------------------------------------------------------------------------
// y = x·scale if a hash of the step's counter and the position keeps the element, else 0; the bits are the same as the CPU's.
// One thread per element, because the features are small.

#define DROPOUT_THREADS 256

struct DropoutArgs {
  const u64 *counter;
  const float *x;
  float *y;
  u64 salt;
  u64 threshold;  // of the hash's 24 high bits
  int len;
  float scale;
};

/// SplitMix64's step and finaliser (Steele, Lea & Flood 2014).
PH_DEVICE u64 mix(u64 state) {
  u64 z = (state + 1) * 0x9e3779b97f4a7c15ull;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

PH_KERNEL(dropout, DropoutArgs, DROPOUT_THREADS) {
  const int i = ph_block_x() * DROPOUT_THREADS + ph_thread();
  if (i >= a.len) return;
  const u64 key = mix(*a.counter ^ a.salt);
  a.y[i] = mix(key + (u64)i) >> 40 >= a.threshold ? a.x[i] * a.scale : 0.0f;
}
