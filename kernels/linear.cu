// The fully connected layer, all in f32, and the convolution's bias gradient. Contracts: ops/linear, and ChannelSum in
// ops/conv2d.
#include "primitives.cuh"

#define THREADS 256

// ---------------------------------------------------------------------------------------------------------------------
// Products in tiles of 64×64 outputs, 16 deep, through shared memory. A thread has 4×4 outputs and fetches the elements of the
// next tiles while it multiplies. Plain f32 is enough: heads are small, and their results are compared with the CPU's.

#define TILE 64
#define DEPTH 16
#define PITCH (TILE + 4)                      // The 4 avoid bank conflicts; a multiple of 16 bytes.
#define OF_THREAD (TILE * DEPTH / THREADS)    // Elements of an operand's tile that one thread fetches.

/// An operand of `lines` lines. Its element (line, depth) is at line·depths + depth if BY_LINE, otherwise at depth·lines + line.
template <bool BY_LINE>
struct operand {
  const float *data;
  int lines, depths;

  PH_DEVICE int line_of(int i) {
    return BY_LINE ? (ph_thread() + i * THREADS) / DEPTH : (ph_thread() + i * THREADS) % TILE;
  }
  PH_DEVICE int depth_of(int i) {
    return BY_LINE ? (ph_thread() + i * THREADS) % DEPTH : (ph_thread() + i * THREADS) / TILE;
  }
};

/// This thread's part of the tile that starts at (line, depth); zeros past the operand's ends.
template <bool BY_LINE>
PH_DEVICE void fetch(const operand<BY_LINE> &from, int line, int depth, float (&v)[OF_THREAD]) {
#pragma unroll
  for (int i = 0; i < OF_THREAD; i++) {
    const int l = line + from.line_of(i), d = depth + from.depth_of(i);
    const bool there = l < from.lines && d < from.depths;
    const size_t at = BY_LINE ? (size_t)l * from.depths + d : (size_t)d * from.lines + l;
    v[i] = there ? from.data[at] : 0.0f;
  }
}

template <bool BY_LINE>
PH_DEVICE void store_tile(const operand<BY_LINE> &from, const float (&v)[OF_THREAD], float *tile) {
#pragma unroll
  for (int i = 0; i < OF_THREAD; i++) tile[from.depth_of(i) * PITCH + from.line_of(i)] = v[i];
}

/// sums[i][j] = Σ over depth of a(row + i)·b(column + j), for this thread's row and column of the block's tile.
template <bool A_BY_LINE, bool B_BY_LINE>
PH_DEVICE void product(const operand<A_BY_LINE> &a, const operand<B_BY_LINE> &b, float *shared, float (&sums)[4][4]) {
  const int row = ph_block_y() * TILE, column = ph_block_x() * TILE;
  float *a_tile = shared, *b_tile = shared + DEPTH * PITCH;
  float a_next[OF_THREAD], b_next[OF_THREAD];
#pragma unroll
  for (int i = 0; i < 4; i++)
#pragma unroll
    for (int j = 0; j < 4; j++) sums[i][j] = 0.0f;
  fetch(a, row, 0, a_next);
  fetch(b, column, 0, b_next);
  for (int depth = 0; depth < a.depths; depth += DEPTH) {
    store_tile(a, a_next, a_tile);
    store_tile(b, b_next, b_tile);
    ph_sync();
    fetch(a, row, depth + DEPTH, a_next);
    fetch(b, column, depth + DEPTH, b_next);
#pragma unroll
    for (int d = 0; d < DEPTH; d++) {
      const ph_16_bytes left = *(const ph_16_bytes *)(a_tile + d * PITCH + ph_thread() / 16 * 4);
      const ph_16_bytes right = *(const ph_16_bytes *)(b_tile + d * PITCH + ph_thread() % 16 * 4);
#pragma unroll
      for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) sums[i][j] += ph_float(left.w[i]) * ph_float(right.w[j]);
    }
    ph_sync();
  }
}

/// Calls to(row, column, sum) for this thread's outputs within [rows, columns].
template <class To>
PH_DEVICE void each_output(const float (&sums)[4][4], int rows, int columns, To to) {
  const int row = ph_block_y() * TILE + ph_thread() / 16 * 4, column = ph_block_x() * TILE + ph_thread() % 16 * 4;
#pragma unroll
  for (int i = 0; i < 4; i++)
#pragma unroll
    for (int j = 0; j < 4; j++)
      if (row + i < rows && column + j < columns) to(row + i, column + j, sums[i][j]);
}

struct ForwardArgs {
  const float *x;       // [N, C]
  const float *weight;  // [K, C]
  const float *bias;    // [K]
  float *y;             // [N, K]
  int n, c, k;
};

PH_KERNEL_BLOCKS(linear_forward, ForwardArgs, THREADS, 2) {
  PH_SHARED(float, shared);
  float sums[4][4];
  product(operand<true>{a.x, a.n, a.c}, operand<true>{a.weight, a.k, a.c}, shared, sums);
  each_output(sums, a.n, a.k, [&](int row, int column, float sum) {
    a.y[(size_t)row * a.k + column] = sum + a.bias[column];
  });
}

// Few outputs give few tiles; one warp per output keeps more of the device busy (32 images and 10 classes: 40 blocks, not one).
PH_KERNEL(linear_forward_few, ForwardArgs, THREADS) {
  const int index = ph_block_x() * (THREADS / 32) + ph_thread() / 32, lane = ph_thread() % 32;
  if (index >= a.n * a.k) return;  // the same for a whole warp
  const int row = index / a.k, column = index % a.k;
  const float *x = a.x + (size_t)row * a.c, *weight = a.weight + (size_t)column * a.c;
  float sum = 0.0f;
#pragma unroll 4
  for (int i = lane; i < a.c; i += 32) sum += x[i] * weight[i];
#pragma unroll
  for (int mask = 16; mask > 0; mask >>= 1) sum += ph_shuffle_xor(sum, mask);
  if (lane == 0) a.y[index] = sum + a.bias[column];
}

struct WeightGradientArgs {
  const float *dy;  // [N, K]
  const float *x;   // [N, C]
  float *dweight;   // [K, C], added to
  int n, c, k;
};

PH_KERNEL_BLOCKS(linear_weight_gradient, WeightGradientArgs, THREADS, 2) {
  PH_SHARED(float, shared);
  float sums[4][4];
  product(operand<false>{a.dy, a.k, a.n}, operand<false>{a.x, a.c, a.n}, shared, sums);
  each_output(sums, a.k, a.c, [&](int row, int column, float sum) { a.dweight[(size_t)row * a.c + column] += sum; });
}

struct InputGradientArgs {
  const float *dy;      // [N, K]
  const float *weight;  // [K, C]
  float *dx;            // [N, C]
  int n, c, k;
};

PH_KERNEL_BLOCKS(linear_input_gradient, InputGradientArgs, THREADS, 2) {
  PH_SHARED(float, shared);
  float sums[4][4];
  product(operand<true>{a.dy, a.n, a.k}, operand<false>{a.weight, a.c, a.k}, shared, sums);
  each_output(sums, a.n, a.c, [&](int row, int column, float sum) { a.dx[(size_t)row * a.c + column] = sum; });
}

// ---------------------------------------------------------------------------------------------------------------------
// out [K] += Σ over the rows of x [rows, stride], in f64. A block takes 32 columns, and each of its eight warps every eighth row;
// the eight sums are then added in shared memory, in order.

struct ColumnSumsArgs {
  const float *x;
  float *out;
  int rows, stride, k;
};

#define COLUMNS 32

PH_KERNEL(linear_column_sums, ColumnSumsArgs, THREADS) {
  PH_SHARED(double, shared);
  const int column = ph_block_x() * COLUMNS + ph_thread() % COLUMNS;
  double sum = 0.0;
  if (column < a.k) {
#pragma unroll 4
    for (int row = ph_thread() / COLUMNS; row < a.rows; row += THREADS / COLUMNS)
      sum += a.x[(size_t)row * a.stride + column];
  }
  shared[ph_thread()] = sum;
  ph_sync();
  if (ph_thread() < COLUMNS && column < a.k) {
    for (int lane = 1; lane < THREADS / COLUMNS; lane++) sum += shared[lane * COLUMNS + ph_thread()];
    a.out[column] += (float)sum;
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// The first pass of the bias gradient: Σ over a block's rows of dy [rows, C]. Grid: row blocks, slices of a row. A thread keeps
// to eight channels; the threads of one channel combine their sums in shared memory. Bound by memory: dy in.

struct ChannelSumArgs {
  const act *dy;
  float *partials;  // [blocks, C]
  int rows, c;
  int columns;     // vectors per slice
  int block_rows;
};

PH_KERNEL(channel_sum, ChannelSumArgs, THREADS) {
  PH_SHARED(float, shared);
  const int lanes = THREADS / a.columns, lane = ph_thread() / a.columns;
  const int channel = (ph_block_y() * a.columns + ph_thread() % a.columns) * PH_VECTOR;
  const int first = ph_block_x() * a.block_rows;
  const int end = first + a.block_rows < a.rows ? first + a.block_rows : a.rows;
  if (lane < lanes && channel < a.c) {
    float sum[PH_VECTOR] = {};
#pragma unroll 4
    for (int row = first + lane; row < end; row += lanes) {
      float v[PH_VECTOR];
      ph_load8(a.dy + (size_t)row * a.c + channel, v);
#pragma unroll
      for (int j = 0; j < PH_VECTOR; j++) sum[j] += v[j];
    }
    ph_store8(shared + ph_thread() * PH_VECTOR, sum);
  }
  ph_sync();
  const int width = a.columns * PH_VECTOR, own = ph_block_y() * width + ph_thread();
  if (ph_thread() < width && own < a.c) {
    float sum = 0.0f;
    for (int l = 0; l < lanes; l++) sum += shared[l * width + ph_thread()];
    a.partials[(size_t)ph_block_x() * a.c + own] = sum;
  }
}
