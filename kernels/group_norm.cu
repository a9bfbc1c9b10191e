// Group normalisation with its ReLU over [N, HW, C]: sums, merging them to groups, the affine pass, and the backward.
// Contract and formulas: ops/group_norm. Groups may be narrower than the eight channels of a vector, so all steps before the
// merging are per channel.
//
// Forward: x is read twice and y written once. Backward: dy, x and y are read twice and dx is written once. The rest is small.
#include "primitives.cuh"

#define THREADS 256

// ---------------------------------------------------------------------------------------------------------------------
// Sums over rows. Grid: row blocks of an image, slices of a row, images. A thread keeps to eight channels and takes 16 rows of
// its block at a fixed distance. The threads of one channel then combine their sums in shared memory. The first threads of a
// block hold the slice of one row, so that reads are coalesced.

/// The position of a thread of the sums.
struct place {
  int channel;  // its first channel
  int lane, lanes;
  int first_row, end_row;  // of the image
  bool works;
};

PH_DEVICE place place_of(int columns, int rows, int hw, int c) {
  place p;
  const int column = ph_thread() % columns;
  p.channel = (ph_block_y() * columns + column) * PH_VECTOR;
  p.lanes = THREADS / columns;
  p.lane = ph_thread() / columns;
  p.first_row = ph_block_x() * rows;
  p.end_row = p.first_row + rows < hw ? p.first_row + rows : hw;
  p.works = p.lane < p.lanes && p.channel < c;
  return p;
}

/// Σ over the lanes of the slice's channel ph_thread(); `shared` is [lanes, columns · 8].
PH_DEVICE float sum_of_lanes(const float *shared, int columns) {
  const int width = columns * PH_VECTOR;
  float sum = 0.0f;
  for (int lane = 0; lane < THREADS / columns; lane++) sum += shared[lane * width + ph_thread()];
  return sum;
}

struct SumsArgs {
  const act *x;
  float *partials;  // [N, blocks, 2, C]: mean of the block's rows, Σ of squared deviations from it
  int hw, c;
  int columns;  // vectors per slice
  int rows;     // per block
};

// The block's first row is subtracted before anything is squared, so that a mean far from 0 costs no digits.
PH_KERNEL(group_norm_sums, SumsArgs, THREADS) {
  PH_SHARED(float, shared);
  const place p = place_of(a.columns, a.rows, a.hw, a.c);
  const act *x = a.x + (size_t)ph_block_z() * a.hw * a.c + p.channel;
  float sum[PH_VECTOR] = {}, square[PH_VECTOR] = {};
  if (p.works) {
    float origin[PH_VECTOR];
    ph_load8(x + (size_t)p.first_row * a.c, origin);
#pragma unroll 2
    for (int row = p.first_row + p.lane; row < p.end_row; row += p.lanes) {
      float v[PH_VECTOR];
      ph_load8(x + (size_t)row * a.c, v);
#pragma unroll
      for (int j = 0; j < PH_VECTOR; j++) {
        const float apart = v[j] - origin[j];
        sum[j] += apart;
        square[j] += apart * apart;
      }
    }
    ph_store8(shared + ph_thread() * PH_VECTOR, sum);
    ph_store8(shared + (THREADS + ph_thread()) * PH_VECTOR, square);
  }
  ph_sync();
  const int channel = ph_block_y() * a.columns * PH_VECTOR + ph_thread();
  if (ph_thread() < a.columns * PH_VECTOR && channel < a.c) {
    const float count = (float)(p.end_row - p.first_row);
    const float s = sum_of_lanes(shared, a.columns), q = sum_of_lanes(shared + THREADS * PH_VECTOR, a.columns);
    const float mean = s / count, m2 = q - s * mean;
    const act *first = a.x + ((size_t)ph_block_z() * a.hw + p.first_row) * a.c + channel;
    float *out = a.partials + ((size_t)ph_block_z() * ph_blocks_x() + ph_block_x()) * 2 * a.c + channel;
    out[0] = ph_load(first) + mean;
    out[a.c] = m2 < 0.0f ? 0.0f : m2;
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Merging. One block per (group, image): the means and deviations of its channels over all row blocks, in f64.

struct MergeArgs {
  const float *partials;  // [N, blocks, 2, C]
  const float *gamma, *beta;
  float *moments;  // [N, groups, 2]: mean, 1/deviation
  float *affine;   // [N, 2, C]: scale, shift
  int hw, c, groups;
  int rows, blocks;
  float epsilon;
};

#define MERGE_THREADS 128

PH_KERNEL(group_norm_merge, MergeArgs, MERGE_THREADS) {
  PH_SHARED(double, scratch);
  const int width = a.c / a.groups, first = ph_block_x() * width;
  const float *partials = a.partials + (size_t)ph_block_y() * a.blocks * 2 * a.c + first;
  const double count = (double)a.hw * width;
  double sum = 0.0;
  for (int i = ph_thread(); i < width * a.blocks; i += MERGE_THREADS) {
    const int block = i / width, left = a.hw - block * a.rows;
    sum += (double)partials[(size_t)block * 2 * a.c + i % width] * (left < a.rows ? left : a.rows);
  }
  const double mean = ph_block_sum(sum, scratch) / count;
  double m2 = 0.0;
  for (int i = ph_thread(); i < width * a.blocks; i += MERGE_THREADS) {
    const int block = i / width, left = a.hw - block * a.rows;
    const float *of_block = partials + (size_t)block * 2 * a.c + i % width;
    const double apart = of_block[0] - mean;
    m2 += of_block[a.c] + (left < a.rows ? left : a.rows) * apart * apart;
  }
  const double rstd = 1.0 / sqrt(ph_block_sum(m2, scratch) / count + (double)a.epsilon);
  if (ph_thread() == 0) {
    float *moments = a.moments + 2 * (ph_block_y() * a.groups + ph_block_x());
    moments[0] = (float)mean;
    moments[1] = (float)rstd;
  }
  float *affine = a.affine + (size_t)ph_block_y() * 2 * a.c;
  for (int channel = first + ph_thread(); channel < first + width; channel += MERGE_THREADS) {
    const double scale = a.gamma[channel] * rstd;
    affine[channel] = (float)scale;
    affine[a.c + channel] = (float)(a.beta[channel] - mean * scale);
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// y = relu(x·scale + shift). Grid: blocks of an image's vectors, images. Bound by memory: x in, y out.

struct ApplyArgs {
  const act *x;
  const float *affine;  // [N, 2, C]
  act *y;
  int vectors;  // per image: HW · C/8
  int c;
};

#define APPLY_VECTORS 4  // per thread

PH_KERNEL(group_norm_apply, ApplyArgs, THREADS) {
  const int first = ph_block_x() * THREADS * APPLY_VECTORS + ph_thread();
  const size_t image = (size_t)ph_block_y() * a.vectors;
  const float *affine = a.affine + (size_t)ph_block_y() * 2 * a.c;
#pragma unroll
  for (int i = 0; i < APPLY_VECTORS; i++) {
    const int vector = first + i * THREADS;
    if (vector >= a.vectors) return;
    const int channel = vector % (a.c / PH_VECTOR) * PH_VECTOR;
    float v[PH_VECTOR], scale[PH_VECTOR], shift[PH_VECTOR];
    ph_load8(a.x + (image + vector) * PH_VECTOR, v);
    ph_load8(affine + channel, scale);
    ph_load8(affine + a.c + channel, shift);
#pragma unroll
    for (int j = 0; j < PH_VECTOR; j++) v[j] = ph_relu(v[j] * scale[j] + shift[j]);
    ph_store8(a.y + (image + vector) * PH_VECTOR, v);
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Backward, first pass: Σ dz and Σ dz·(x − mean) per channel and block of rows, dz = dy where y > 0. Works like group_norm_sums.

struct GradientSumsArgs {
  const act *dy, *x, *y;
  const float *moments;  // [N, groups, 2]
  float *partials;       // [N, blocks, 2, C]
  int hw, c, groups;
  int columns, rows;
};

PH_DEVICE void mask(float (&dy)[PH_VECTOR], const float (&y)[PH_VECTOR]) {
#pragma unroll
  for (int j = 0; j < PH_VECTOR; j++) dy[j] = y[j] > 0.0f ? dy[j] : 0.0f;
}

PH_KERNEL(group_norm_gradient_sums, GradientSumsArgs, THREADS) {
  PH_SHARED(float, shared);
  const place p = place_of(a.columns, a.rows, a.hw, a.c);
  const size_t image = (size_t)ph_block_z() * a.hw * a.c + p.channel;
  float sum[PH_VECTOR] = {}, dot[PH_VECTOR] = {};
  if (p.works) {
    float mean[PH_VECTOR];
#pragma unroll
    for (int j = 0; j < PH_VECTOR; j++) {
      const int group = (p.channel + j) / (a.c / a.groups);
      mean[j] = a.moments[2 * (ph_block_z() * a.groups + group)];
    }
#pragma unroll 2
    for (int row = p.first_row + p.lane; row < p.end_row; row += p.lanes) {
      const size_t at = image + (size_t)row * a.c;
      float dz[PH_VECTOR], x[PH_VECTOR], y[PH_VECTOR];
      ph_load8(a.dy + at, dz);
      ph_load8(a.x + at, x);
      ph_load8(a.y + at, y);
      mask(dz, y);
#pragma unroll
      for (int j = 0; j < PH_VECTOR; j++) {
        sum[j] += dz[j];
        dot[j] += dz[j] * (x[j] - mean[j]);
      }
    }
    ph_store8(shared + ph_thread() * PH_VECTOR, sum);
    ph_store8(shared + (THREADS + ph_thread()) * PH_VECTOR, dot);
  }
  ph_sync();
  const int channel = ph_block_y() * a.columns * PH_VECTOR + ph_thread();
  if (ph_thread() < a.columns * PH_VECTOR && channel < a.c) {
    float *out = a.partials + ((size_t)ph_block_z() * ph_blocks_x() + ph_block_x()) * 2 * a.c + channel;
    out[0] = sum_of_lanes(shared, a.columns);
    out[a.c] = sum_of_lanes(shared + THREADS * PH_VECTOR, a.columns);
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Adds up pairs [rows, 2, C] per channel in f64. A block takes 32 channels, and each of its eight warps every eighth row; the
// eight sums are then added in shared memory, in order.

#define COLUMNS 32
#define COLUMN_LANES (THREADS / COLUMNS)

struct pair {
  double sum, dot;
};

/// Both sums of this thread's channel, in the block's first warp; `shared` holds one pair per thread.
PH_DEVICE pair sum_of_rows(const float *rows, int count, int c, int channel, pair *shared) {
  pair total = {0.0, 0.0};
  if (channel < c) {
#pragma unroll 4
    for (int row = ph_thread() / COLUMNS; row < count; row += COLUMN_LANES) {
      total.sum += rows[(size_t)row * 2 * c + channel];
      total.dot += rows[((size_t)row * 2 + 1) * c + channel];
    }
  }
  shared[ph_thread()] = total;
  ph_sync();
  if (ph_thread() < COLUMNS) {
    for (int lane = 1; lane < COLUMN_LANES; lane++) {
      total.sum += shared[lane * COLUMNS + ph_thread()].sum;
      total.dot += shared[lane * COLUMNS + ph_thread()].dot;
    }
  }
  return total;
}

struct GradientImageArgs {
  const float *partials;  // [N, blocks, 2, C]
  const float *moments;   // [N, groups, 2]
  float *of_image;        // [N, 2, C]: Σ dz, Σ dz·(x − mean)/deviation
  int c, groups, blocks;
};

// Grid: columns, images.
PH_KERNEL(group_norm_gradient_image, GradientImageArgs, THREADS) {
  PH_SHARED(pair, shared);
  const int channel = ph_block_x() * COLUMNS + ph_thread() % COLUMNS;
  const float *partials = a.partials + (size_t)ph_block_y() * a.blocks * 2 * a.c;
  const pair total = sum_of_rows(partials, a.blocks, a.c, channel, shared);
  if (ph_thread() < COLUMNS && channel < a.c) {
    const int group = channel / (a.c / a.groups);
    const double rstd = a.moments[2 * (ph_block_y() * a.groups + group) + 1];
    float *out = a.of_image + (size_t)ph_block_y() * 2 * a.c + channel;
    out[0] = (float)total.sum;
    out[a.c] = (float)(total.dot * rstd);
  }
}

struct GradientParametersArgs {
  const float *of_image;  // [N, 2, C]
  float *dgamma, *dbeta;  // added to
  int n, c;
};

PH_KERNEL(group_norm_gradient_parameters, GradientParametersArgs, THREADS) {
  PH_SHARED(pair, shared);
  const int channel = ph_block_x() * COLUMNS + ph_thread() % COLUMNS;
  const pair total = sum_of_rows(a.of_image, a.n, a.c, channel, shared);
  if (ph_thread() < COLUMNS && channel < a.c) {
    a.dbeta[channel] += (float)total.sum;
    a.dgamma[channel] += (float)total.dot;
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Coefficients of dx = a·dz + b·x + c, one warp per (image, group).

struct GradientGroupsArgs {
  const float *of_image;  // [N, 2, C]
  const float *moments, *gamma;
  float *coefficients;  // [N, 3, C]
  int n, hw, c, groups;
};

PH_KERNEL(group_norm_gradient_groups, GradientGroupsArgs, THREADS) {
  const int index = ph_block_x() * (THREADS / 32) + ph_thread() / 32, lane = ph_thread() % 32;
  if (index >= a.n * a.groups) return;  // the same for a whole warp
  const int image = index / a.groups, width = a.c / a.groups, first = index % a.groups * width;
  const float *of_image = a.of_image + (size_t)image * 2 * a.c;
  double sum = 0.0, dot = 0.0;
  for (int channel = first + lane; channel < first + width; channel += 32) {
    sum += (double)a.gamma[channel] * of_image[channel];
    dot += (double)a.gamma[channel] * of_image[a.c + channel];
  }
#pragma unroll
  for (int mask = 16; mask > 0; mask >>= 1) {
    sum += ph_shuffle_xor(sum, mask);
    dot += ph_shuffle_xor(dot, mask);
  }
  const double mean = a.moments[2 * index], rstd = a.moments[2 * index + 1];
  const double count = (double)a.hw * width, b = -rstd * rstd * dot / count;
  float *out = a.coefficients + (size_t)image * 3 * a.c;
  for (int channel = first + lane; channel < first + width; channel += 32) {
    out[channel] = (float)(a.gamma[channel] * rstd);
    out[a.c + channel] = (float)b;
    out[2 * a.c + channel] = (float)(-rstd * sum / count - b * mean);
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Backward, second pass. Grid: blocks of an image's vectors, images. Bound by memory: dy, x, y in, dx out.

struct GradientApplyArgs {
  const act *dy, *x, *y;
  const float *coefficients;  // [N, 3, C]
  act *dx;
  int vectors;
  int c;
};

PH_KERNEL(group_norm_gradient_apply, GradientApplyArgs, THREADS) {
  const int first = ph_block_x() * THREADS * APPLY_VECTORS + ph_thread();
  const size_t image = (size_t)ph_block_y() * a.vectors;
  const float *coefficients = a.coefficients + (size_t)ph_block_y() * 3 * a.c;
#pragma unroll
  for (int i = 0; i < APPLY_VECTORS; i++) {
    const int vector = first + i * THREADS;
    if (vector >= a.vectors) return;
    const size_t at = (image + vector) * PH_VECTOR;
    const float *of = coefficients + vector % (a.c / PH_VECTOR) * PH_VECTOR;
    float dz[PH_VECTOR], x[PH_VECTOR], other[PH_VECTOR];
    ph_load8(a.dy + at, dz);
    ph_load8(a.x + at, x);
    ph_load8(a.y + at, other);
    mask(dz, other);
    ph_load8(of, other);
#pragma unroll
    for (int j = 0; j < PH_VECTOR; j++) dz[j] *= other[j];
    ph_load8(of + a.c, other);
#pragma unroll
    for (int j = 0; j < PH_VECTOR; j++) dz[j] += other[j] * x[j];
    ph_load8(of + 2 * a.c, other);
#pragma unroll
    for (int j = 0; j < PH_VECTOR; j++) dz[j] += other[j];
    ph_store8(a.dx + at, dz);
  }
}
