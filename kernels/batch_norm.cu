// Batch normalisation over the rows of [rows, C]: statistics, merging them, the affine pass with residual and ReLU, and
// the backward. Contract and formulas: ops/batch_norm. The convolutions' epilogues compute the same partial sums.
#include "primitives.cuh"

// ---------------------------------------------------------------------------------------------------------------------
// Row sums: a block takes a tile of 128 rows × 64 channels. Its threads form a grid of 8 columns (each a vector of eight
// channels, 128 bytes of a bf16 row together) and 16 rows; a thread's rows are 16 apart. Neighbouring tiles of the same rows are
// neighbouring blocks, so that whole rows are read at about the same time.

#define TILE_ROWS 128  // STATISTICS_ROWS
#define TILE_SIDE 8    // threads per row
#define TILE_LANES 16  // rows of threads
#define TILE_THREADS 128
#define THREAD_ROWS 8  // TILE_ROWS / TILE_LANES
#define TILE_SUMS (TILE_THREADS / 32 * TILE_SIDE * PH_VECTOR)  // floats of scratch for one sum per channel

/// The position of a thread.
struct Tile {
  int block;    // index of the 128 rows
  int rows;     // number of them that exist
  int lane;     // the thread's first row
  int channel;  // its first channel
  bool exists;  // whether that channel exists
};

PH_DEVICE Tile tile_of_thread(int rows, int c) {
  const int across = (c + TILE_SIDE * PH_VECTOR - 1) / (TILE_SIDE * PH_VECTOR);
  Tile tile;
  tile.block = ph_block_x() / across;
  const int left = rows - tile.block * TILE_ROWS;
  tile.rows = left < TILE_ROWS ? left : TILE_ROWS;
  tile.lane = ph_thread() / TILE_SIDE;
  tile.channel = (ph_block_x() % across * TILE_SIDE + ph_thread() % TILE_SIDE) * PH_VECTOR;
  tile.exists = tile.channel < c;
  return tile;
}

/// Σ over the tile's rows; every thread gets the sums of its channels. `scratch` holds TILE_SUMS floats that no other sum of
/// this kernel uses.
PH_DEVICE void sum_over_rows(float (&v)[PH_VECTOR], float *scratch) {
#pragma unroll
  for (int mask = TILE_SIDE; mask < 32; mask *= 2) {
#pragma unroll
    for (int j = 0; j < PH_VECTOR; j++) v[j] += ph_shuffle_xor(v[j], mask);
  }
  const int thread = ph_thread(), side = thread % TILE_SIDE;
  if (thread % 32 < TILE_SIDE) ph_store8(scratch + (thread / 32 * TILE_SIDE + side) * PH_VECTOR, v);
  ph_sync();
#pragma unroll
  for (int warp = 0; warp < TILE_THREADS / 32; warp++) {
    float other[PH_VECTOR];
    ph_load8(scratch + (warp * TILE_SIDE + side) * PH_VECTOR, other);
#pragma unroll
    for (int j = 0; j < PH_VECTOR; j++) v[j] = warp == 0 ? other[j] : v[j] + other[j];
  }
}

// Mean and M2 of every 128 rows. The rows stay in registers for a second pass, which also corrects the mean of the first (Chan et
// al. 1983, eq. 1.7). Moves one activation per element.

struct StatisticsArgs {
  const act *y;
  float *partials;  // [B, 2, C]
  int rows;
  int c;
};

PH_KERNEL(batch_norm_statistics, StatisticsArgs, TILE_THREADS) {
  PH_SHARED(float, scratch);
  const Tile tile = tile_of_thread(a.rows, a.c);
  const act *y = a.y + ((size_t)tile.block * TILE_ROWS + tile.lane) * a.c + tile.channel;
  float v[THREAD_ROWS][PH_VECTOR];
#pragma unroll
  for (int i = 0; i < THREAD_ROWS; i++)
    if (tile.exists && tile.lane + i * TILE_LANES < tile.rows) ph_load8(y + (size_t)i * TILE_LANES * a.c, v[i]);

  float centre[PH_VECTOR] = {};
#pragma unroll
  for (int i = 0; i < THREAD_ROWS; i++) {
    const bool there = tile.exists && tile.lane + i * TILE_LANES < tile.rows;
#pragma unroll
    for (int j = 0; j < PH_VECTOR; j++) centre[j] += there ? v[i][j] : 0.0f;
  }
  sum_over_rows(centre, scratch);
  const float share = 1.0f / (float)tile.rows;
#pragma unroll
  for (int j = 0; j < PH_VECTOR; j++) centre[j] *= share;

  float correction[PH_VECTOR] = {}, squares[PH_VECTOR] = {};
#pragma unroll
  for (int i = 0; i < THREAD_ROWS; i++) {
    const bool there = tile.exists && tile.lane + i * TILE_LANES < tile.rows;
#pragma unroll
    for (int j = 0; j < PH_VECTOR; j++) {
      const float apart = there ? v[i][j] - centre[j] : 0.0f;
      correction[j] += apart;
      squares[j] += apart * apart;
    }
  }
  sum_over_rows(correction, scratch + TILE_SUMS);
  sum_over_rows(squares, scratch + 2 * TILE_SUMS);
  if (!tile.exists || tile.lane > 0) return;
#pragma unroll
  for (int j = 0; j < PH_VECTOR; j++) {
    const float off = correction[j] * share;
    centre[j] += off;
    squares[j] -= correction[j] * off;
  }
  float *partial = a.partials + (size_t)tile.block * 2 * a.c + tile.channel;
  ph_store8(partial, centre);
  ph_store8(partial + a.c, squares);
}

// Σ dz and Σ dz·(y − mean)/deviation of every 128 rows; dz is g, or g where z is above zero. Moves 2 activations per element,
// 4 with the mask.

struct ReduceArgs {
  const act *g;
  const act *z;  // may be null: no mask
  const act *y;
  const float *moments;  // [2, C]: mean, 1/deviation
  act *dz;               // may be null
  float *partials;       // [B, 2, C]
  int rows;
  int c;
};

#define REDUCE_TOGETHER 2  // rows loaded at the same time

PH_KERNEL(batch_norm_reduce, ReduceArgs, TILE_THREADS) {
  PH_SHARED(float, scratch);
  const Tile tile = tile_of_thread(a.rows, a.c);
  const size_t first = ((size_t)tile.block * TILE_ROWS + tile.lane) * a.c + tile.channel;
  float mean[PH_VECTOR] = {}, sum[PH_VECTOR] = {}, dot[PH_VECTOR] = {};
  if (tile.exists) ph_load8(a.moments + tile.channel, mean);
#pragma unroll 1
  for (int i = 0; i < THREAD_ROWS; i += REDUCE_TOGETHER) {
    float g[REDUCE_TOGETHER][PH_VECTOR], y[REDUCE_TOGETHER][PH_VECTOR], z[REDUCE_TOGETHER][PH_VECTOR];
#pragma unroll
    for (int k = 0; k < REDUCE_TOGETHER; k++) {
      if (!tile.exists || tile.lane + (i + k) * TILE_LANES >= tile.rows) continue;
      const size_t at = first + (size_t)(i + k) * TILE_LANES * a.c;
      ph_load8(a.g + at, g[k]);
      ph_load8(a.y + at, y[k]);
      if (a.z) ph_load8(a.z + at, z[k]);
    }
#pragma unroll
    for (int k = 0; k < REDUCE_TOGETHER; k++) {
      if (!tile.exists || tile.lane + (i + k) * TILE_LANES >= tile.rows) continue;
      if (a.z) {
#pragma unroll
        for (int j = 0; j < PH_VECTOR; j++) g[k][j] = z[k][j] > 0.0f ? g[k][j] : 0.0f;
      }
      if (a.dz) ph_store8(a.dz + first + (size_t)(i + k) * TILE_LANES * a.c, g[k]);
#pragma unroll
      for (int j = 0; j < PH_VECTOR; j++) {
        sum[j] += g[k][j];
        dot[j] += g[k][j] * (y[k][j] - mean[j]);
      }
    }
  }
  sum_over_rows(sum, scratch);
  sum_over_rows(dot, scratch + TILE_SUMS);
  if (!tile.exists || tile.lane > 0) return;
  float rstd[PH_VECTOR];
  ph_load8(a.moments + a.c + tile.channel, rstd);
#pragma unroll
  for (int j = 0; j < PH_VECTOR; j++) dot[j] *= rstd[j];
  float *partial = a.partials + (size_t)tile.block * 2 * a.c + tile.channel;
  ph_store8(partial, sum);
  ph_store8(partial + a.c, dot);
}

// ---------------------------------------------------------------------------------------------------------------------
// Merging the partials: a block takes eight channels. Its threads form a grid of 2 columns of four channels (a sector of 32
// bytes) and 256 rows, which stride over the B partials. Sums in f64, in an order that depends only on B.

#define FINISH_THREADS 512
#define FINISH_LANES 256
#define FINISH_CHANNELS 8

/// Σ of N quantities of four channels over the block's lanes. Afterwards thread t < 8 gets quantity i of channel t from
/// `merged`. `scratch` holds 16 · 2 · 4N doubles.
template <int N>
PH_DEVICE void merge_lanes(double (&v)[N][4], double *scratch) {
#pragma unroll
  for (int mask = 2; mask < 32; mask *= 2) {
#pragma unroll
    for (int i = 0; i < N; i++) {
#pragma unroll
      for (int j = 0; j < 4; j++) v[i][j] += ph_shuffle_xor(v[i][j], mask);
    }
  }
  const int thread = ph_thread();
  if (thread % 32 < 2) {
#pragma unroll
    for (int i = 0; i < N; i++) {
#pragma unroll
      for (int j = 0; j < 4; j++) scratch[(thread / 32 * N + i) * FINISH_CHANNELS + thread % 2 * 4 + j] = v[i][j];
    }
  }
  ph_sync();
}

template <int N>
PH_DEVICE double merged(const double *scratch, int i) {
  double sum = 0;
  for (int warp = 0; warp < FINISH_THREADS / 32; warp++) sum += scratch[(warp * N + i) * FINISH_CHANNELS + ph_thread()];
  return sum;
}

// Moments, affine and running statistics from the partial means and M2, in one pass. Means are taken relative to the first
// block's mean, so that their squares cancel only as far as the means spread (Chan et al. 1983, eq. 1.7 again). Reads B·2·C
// floats.

struct FinishArgs {
  const float *partials;  // [B, 2, C], every 128 rows
  const float *gamma;
  const float *beta;
  float *running_mean;
  float *running_variance;
  float *moments;  // [2, C]: mean, 1/deviation
  float *affine;   // [2, C]: scale, shift
  int rows;
  int c;
  float epsilon;
  float momentum;
};

PH_KERNEL(batch_norm_finish, FinishArgs, FINISH_THREADS) {
  PH_SHARED(double, scratch);
  const int blocks = (a.rows + TILE_ROWS - 1) / TILE_ROWS;
  const float *partials = a.partials + ph_block_x() * FINISH_CHANNELS + ph_thread() % 2 * 4;
  const ph_16_bytes pivot = *(const ph_16_bytes *)partials;
  double v[3][4] = {};  // Σ n·d, Σ n·d², Σ M2, with d a block's mean from the pivot and n its rows
#pragma unroll 2
  for (int block = ph_thread() / 2; block < blocks; block += FINISH_LANES) {
    const float *partial = partials + (size_t)block * 2 * a.c;
    const ph_16_bytes means = *(const ph_16_bytes *)partial, m2s = *(const ph_16_bytes *)(partial + a.c);
    const int left = a.rows - block * TILE_ROWS;
    const double n = left < TILE_ROWS ? left : TILE_ROWS;
#pragma unroll
    for (int j = 0; j < 4; j++) {
      const double d = (double)ph_float(means.w[j]) - (double)ph_float(pivot.w[j]);
      v[0][j] += n * d;
      v[1][j] += n * d * d;
      v[2][j] += (double)ph_float(m2s.w[j]);
    }
  }
  merge_lanes<3>(v, scratch);
  if (ph_thread() >= FINISH_CHANNELS) return;
  const int channel = ph_block_x() * FINISH_CHANNELS + ph_thread();
  const double rows = a.rows;
  const double apart = merged<3>(scratch, 0), mean = (double)a.partials[channel] + apart / rows;
  const double m2 = merged<3>(scratch, 2) + (merged<3>(scratch, 1) - apart * apart / rows);
  const double rstd = 1.0 / sqrt(m2 / rows + (double)a.epsilon);
  const double scale = (double)a.gamma[channel] * rstd;
  a.moments[channel] = (float)mean;
  a.moments[a.c + channel] = (float)rstd;
  a.affine[channel] = (float)scale;
  a.affine[a.c + channel] = (float)((double)a.beta[channel] - mean * scale);
  const float unbiased = (float)(m2 / (double)((a.rows > 2 ? a.rows : 2) - 1));
  a.running_mean[channel] += a.momentum * ((float)mean - a.running_mean[channel]);
  a.running_variance[channel] += a.momentum * (unbiased - a.running_variance[channel]);
}

// Coefficients of dy = a·dz + b·y + c from partial Σ dz and Σ dz·ŷ; adds to dgamma and dbeta. Reads B·2·C floats.

struct BackwardFinishArgs {
  const float *partials;  // [B, 2, C]
  const float *moments;   // [2, C]
  const float *gamma;
  float *coefficients;  // [3, C]
  float *dgamma;
  float *dbeta;
  int rows;
  int blocks;  // B
  int c;
};

PH_KERNEL(batch_norm_backward_finish, BackwardFinishArgs, FINISH_THREADS) {
  PH_SHARED(double, scratch);
  const float *partials = a.partials + ph_block_x() * FINISH_CHANNELS + ph_thread() % 2 * 4;
  double v[2][4] = {};
#pragma unroll 4
  for (int block = ph_thread() / 2; block < a.blocks; block += FINISH_LANES) {
    const float *partial = partials + (size_t)block * 2 * a.c;
    const ph_16_bytes sums = *(const ph_16_bytes *)partial, dots = *(const ph_16_bytes *)(partial + a.c);
#pragma unroll
    for (int j = 0; j < 4; j++) {
      v[0][j] += (double)ph_float(sums.w[j]);
      v[1][j] += (double)ph_float(dots.w[j]);
    }
  }
  merge_lanes<2>(v, scratch);
  if (ph_thread() >= FINISH_CHANNELS) return;
  const int channel = ph_block_x() * FINISH_CHANNELS + ph_thread();
  const double sum = merged<2>(scratch, 0), dot = merged<2>(scratch, 1);
  const double mean = a.moments[channel], rstd = a.moments[a.c + channel], rows = a.rows;
  const double of_dz = (double)a.gamma[channel] * rstd, of_y = -of_dz * rstd * dot / rows;
  a.coefficients[channel] = (float)of_dz;
  a.coefficients[a.c + channel] = (float)of_y;
  a.coefficients[2 * a.c + channel] = (float)(-of_dz * sum / rows - of_y * mean);
  a.dgamma[channel] += (float)dot;
  a.dbeta[channel] += (float)sum;
}

// Folds the running statistics into an affine map, one thread per channel.

struct FoldArgs {
  const float *gamma;
  const float *beta;
  const float *running_mean;
  const float *running_variance;
  float *affine;  // [2, C]
  int c;
  float epsilon;
};

PH_KERNEL(batch_norm_fold, FoldArgs, 128) {
  const int channel = ph_block_x() * ph_threads() + ph_thread();
  if (channel >= a.c) return;
  const double scale = (double)a.gamma[channel] / sqrt((double)a.running_variance[channel] + (double)a.epsilon);
  a.affine[channel] = (float)scale;
  a.affine[a.c + channel] = (float)((double)a.beta[channel] - (double)a.running_mean[channel] * scale);
}

// ---------------------------------------------------------------------------------------------------------------------
// The elementwise passes, bound by memory. A thread takes two vectors of eight channels and reads both before it writes the
// first. If 256 is a multiple of C/8, both have the same channels, and the constants are loaded only once.

#define STREAM_THREADS 256
#define STREAM_VECTORS 2  // per thread

// z = act(y·scale + shift + residual). Moves 2 or 3 activations per element.

struct ApplyArgs {
  const act *y;
  const float *affine;  // [2, C]: scale, shift
  const act *residual;  // may be null
  act *z;
  int vectors;  // rows · C/8
  int c;
  int relu;
};

PH_KERNEL(batch_norm_apply, ApplyArgs, STREAM_THREADS) {
  const int groups = a.c / PH_VECTOR, step = STREAM_THREADS % groups;
  const int first = ph_block_x() * STREAM_THREADS * STREAM_VECTORS + ph_thread();
  float y[STREAM_VECTORS][PH_VECTOR], r[STREAM_VECTORS][PH_VECTOR], scale[PH_VECTOR], shift[PH_VECTOR];
#pragma unroll
  for (int i = 0; i < STREAM_VECTORS; i++) {
    const int vector = first + i * STREAM_THREADS;
    if (vector >= a.vectors) break;
    ph_load8(a.y + (size_t)vector * PH_VECTOR, y[i]);
    if (a.residual) ph_load8(a.residual + (size_t)vector * PH_VECTOR, r[i]);
  }
  int group = first % groups;
#pragma unroll
  for (int i = 0; i < STREAM_VECTORS; i++) {
    const int vector = first + i * STREAM_THREADS;
    if (vector >= a.vectors) break;
    if (i == 0 || step != 0) {
      ph_load8(a.affine + group * PH_VECTOR, scale);
      ph_load8(a.affine + a.c + group * PH_VECTOR, shift);
      group += step < groups - group ? step : step - groups;
    }
#pragma unroll
    for (int j = 0; j < PH_VECTOR; j++) {
      float v = y[i][j] * scale[j] + shift[j];
      if (a.residual) v += r[i][j];
      y[i][j] = a.relu ? ph_relu(v) : v;
    }
    ph_store8(a.z + (size_t)vector * PH_VECTOR, y[i]);
  }
}

// dy = a·dz + b·y + c. Moves 3 activations per element.

struct BackwardApplyArgs {
  const act *dz;
  const act *y;
  const float *coefficients;  // [3, C]
  act *dy;
  int vectors;  // rows · C/8
  int c;
};

PH_KERNEL(batch_norm_backward_apply, BackwardApplyArgs, STREAM_THREADS) {
  const int groups = a.c / PH_VECTOR, step = STREAM_THREADS % groups;
  const int first = ph_block_x() * STREAM_THREADS * STREAM_VECTORS + ph_thread();
  float dz[STREAM_VECTORS][PH_VECTOR], y[STREAM_VECTORS][PH_VECTOR];
  float of_dz[PH_VECTOR], of_y[PH_VECTOR], constant[PH_VECTOR];
#pragma unroll
  for (int i = 0; i < STREAM_VECTORS; i++) {
    const int vector = first + i * STREAM_THREADS;
    if (vector >= a.vectors) break;
    ph_load8(a.dz + (size_t)vector * PH_VECTOR, dz[i]);
    ph_load8(a.y + (size_t)vector * PH_VECTOR, y[i]);
  }
  int group = first % groups;
#pragma unroll
  for (int i = 0; i < STREAM_VECTORS; i++) {
    const int vector = first + i * STREAM_THREADS;
    if (vector >= a.vectors) break;
    if (i == 0 || step != 0) {
      ph_load8(a.coefficients + group * PH_VECTOR, of_dz);
      ph_load8(a.coefficients + a.c + group * PH_VECTOR, of_y);
      ph_load8(a.coefficients + 2 * a.c + group * PH_VECTOR, constant);
      group += step < groups - group ? step : step - groups;
    }
#pragma unroll
    for (int j = 0; j < PH_VECTOR; j++) dz[i][j] = of_dz[j] * dz[i][j] + of_y[j] * y[i][j] + constant[j];
    ph_store8(a.dy + (size_t)vector * PH_VECTOR, dz[i]);
  }
}

// dy = scale·dz with dz = g·[z > 0], which is also written if `dz` is given: the backward of a norm that uses running statistics
// and whose parameters are frozen. Moves 2 to 4 activations per element.

struct ApplyBackwardArgs {
  const act *g;
  const act *z;         // may be null: no mask
  const float *affine;  // [2, C]: scale, shift
  act *dz;              // may be null
  act *dy;
  int vectors;  // rows · C/8
  int c;
};

PH_KERNEL(batch_norm_apply_backward, ApplyBackwardArgs, STREAM_THREADS) {
  const int groups = a.c / PH_VECTOR;
  const int first = ph_block_x() * STREAM_THREADS * STREAM_VECTORS + ph_thread();
  float g[STREAM_VECTORS][PH_VECTOR], z[STREAM_VECTORS][PH_VECTOR], scale[PH_VECTOR];
#pragma unroll
  for (int i = 0; i < STREAM_VECTORS; i++) {
    const int vector = first + i * STREAM_THREADS;
    if (vector >= a.vectors) break;
    ph_load8(a.g + (size_t)vector * PH_VECTOR, g[i]);
    if (a.z) ph_load8(a.z + (size_t)vector * PH_VECTOR, z[i]);
  }
#pragma unroll
  for (int i = 0; i < STREAM_VECTORS; i++) {
    const int vector = first + i * STREAM_THREADS;
    if (vector >= a.vectors) break;
    if (a.z) {
#pragma unroll
      for (int j = 0; j < PH_VECTOR; j++) g[i][j] = z[i][j] > 0.0f ? g[i][j] : 0.0f;
    }
    if (a.dz) ph_store8(a.dz + (size_t)vector * PH_VECTOR, g[i]);
    ph_load8(a.affine + vector % groups * PH_VECTOR, scale);
#pragma unroll
    for (int j = 0; j < PH_VECTOR; j++) g[i][j] *= scale[j];
    ph_store8(a.dy + (size_t)vector * PH_VECTOR, g[i]);
  }
}
