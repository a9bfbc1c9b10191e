// Concatenates pyramid levels along the cells, each times its learned scale, and the backward. Contract: ops/concat.
// Maps [N, cells, D] are padded to a multiple of eight channels; the concatenated output [N, A, D] in f32 has no padding.
#include "primitives.cuh"

#define CONCAT_THREADS 256
#define MAX_LEVELS 8

struct Levels {
  const act *x[MAX_LEVELS];
  const float *scale[MAX_LEVELS];  // null for 1
  act *dx[MAX_LEVELS];
  float *dscale[MAX_LEVELS];  // may be null
  int cells[MAX_LEVELS];
  int first[MAX_LEVELS];  // number of cells of the levels before
};

PH_DEVICE int padded(int d) { return (d + PH_VECTOR - 1) / PH_VECTOR * PH_VECTOR; }

/// Four neighbouring activations; p is a multiple of four activations from an aligned start.
PH_DEVICE void load4(const act *p, float (&v)[4]) {
#if PH_ACTIVATION_BITS == 16
  const u64 bits = *(const u64 *)p;
#pragma unroll
  for (int i = 0; i < 4; i++) v[i] = ph_from_bf16((u32)(bits >> (16 * i)) & 0xffffu);
#else
  const ph_16_bytes bytes = *(const ph_16_bytes *)p;
#pragma unroll
  for (int i = 0; i < 4; i++) v[i] = ph_float(bytes.w[i]);
#endif
}

// out [N, A, D] = scale·x. Blocks: [cells, D] of the largest level, N, levels. If D is a multiple of four, a thread takes four
// groups of four elements, otherwise sixteen elements; they are a block apart. Moves one activation and one float per element.

#define FORWARD_QUADS 4

struct ConcatForwardArgs {
  Levels levels;
  float *out;
  int total;  // A
  int d;
};

PH_KERNEL(concat_forward, ConcatForwardArgs, CONCAT_THREADS) {
  const int level = ph_block_z(), image = ph_block_y(), cells = a.levels.cells[level], stride = padded(a.d);
  const act *x = a.levels.x[level] + (size_t)image * cells * stride;
  float *out = a.out + ((size_t)image * a.total + a.levels.first[level]) * a.d;
  const float scale = a.levels.scale[level] ? *a.levels.scale[level] : 1.0f;
  if (a.d % 4 == 0) {
    const int quads = a.d / 4, first = ph_block_x() * CONCAT_THREADS * FORWARD_QUADS + ph_thread();
    float v[FORWARD_QUADS][4];
#pragma unroll
    for (int i = 0; i < FORWARD_QUADS; i++) {
      const int quad = first + i * CONCAT_THREADS, cell = quad / quads;
      if (cell >= cells) break;
      load4(x + (size_t)cell * stride + (quad - cell * quads) * 4, v[i]);
    }
#pragma unroll
    for (int i = 0; i < FORWARD_QUADS; i++) {
      const int quad = first + i * CONCAT_THREADS;
      if (quad >= cells * quads) break;
      ph_16_bytes bytes;
#pragma unroll
      for (int j = 0; j < 4; j++) bytes.w[j] = ph_bits(scale * v[i][j]);
      *(ph_16_bytes *)(out + (size_t)quad * 4) = bytes;
    }
  } else {
    const int first = ph_block_x() * CONCAT_THREADS * FORWARD_QUADS * 4 + ph_thread();
#pragma unroll 4
    for (int i = 0; i < 4 * FORWARD_QUADS; i++) {
      const int at = first + i * CONCAT_THREADS, cell = at / a.d;
      if (cell >= cells) break;
      out[at] = scale * ph_load(x + (size_t)cell * stride + (at - cell * a.d));
    }
  }
}

// dx = scale·dout with zero padding and, if the level has a dscale, the block's Σ dout·x. Blocks: [cells, D/8] of the largest
// level, N, levels; a thread takes two vectors of eight channels. Moves one float and one activation per element, and one more
// activation for the sum.

#define BACKWARD_VECTORS 2

struct ConcatBackwardArgs {
  Levels levels;
  const float *dout;
  float *sums;  // [levels, N, blocks along x]
  int images;   // N
  int total;    // A
  int d;
};

PH_KERNEL(concat_backward, ConcatBackwardArgs, CONCAT_THREADS) {
  PH_SHARED(float, scratch);
  const int level = ph_block_z(), image = ph_block_y(), cells = a.levels.cells[level], stride = padded(a.d);
  const int groups = stride / PH_VECTOR, first = ph_block_x() * CONCAT_THREADS * BACKWARD_VECTORS + ph_thread();
  const float *dout = a.dout + ((size_t)image * a.total + a.levels.first[level]) * a.d;
  const size_t begin = (size_t)image * cells * stride;
  const float scale = a.levels.scale[level] ? *a.levels.scale[level] : 1.0f;
  const bool summed = a.levels.dscale[level];
  float v[BACKWARD_VECTORS][PH_VECTOR], x[BACKWARD_VECTORS][PH_VECTOR];
#pragma unroll
  for (int i = 0; i < BACKWARD_VECTORS; i++) {
    const int vector = first + i * CONCAT_THREADS, cell = vector / groups, channel = (vector - cell * groups) * PH_VECTOR;
    if (cell >= cells) break;
    const float *from = dout + (size_t)cell * a.d + channel;
    if (a.d % 4 == 0) {
      // A vector that extends past D is split in the middle.
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const ph_16_bytes none = {{0, 0, 0, 0}};
        const ph_16_bytes bytes = channel + 4 * half < a.d ? ((const ph_16_bytes *)from)[half] : none;
#pragma unroll
        for (int j = 0; j < 4; j++) v[i][4 * half + j] = ph_float(bytes.w[j]);
      }
    } else {
#pragma unroll
      for (int j = 0; j < PH_VECTOR; j++) v[i][j] = channel + j < a.d ? from[j] : 0.0f;
    }
    if (summed) ph_load8(a.levels.x[level] + begin + (size_t)vector * PH_VECTOR, x[i]);
  }
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < BACKWARD_VECTORS; i++) {
    const int vector = first + i * CONCAT_THREADS;
    if (vector >= cells * groups) break;
#pragma unroll
    for (int j = 0; j < PH_VECTOR; j++) {
      if (summed) sum += v[i][j] * x[i][j];
      v[i][j] *= scale;
    }
    ph_store8(a.levels.dx[level] + begin + (size_t)vector * PH_VECTOR, v[i]);
  }
  if (!summed) return;
  sum = ph_block_sum(sum, scratch);
  const size_t at = ((size_t)level * a.images + image) * ph_blocks_x() + ph_block_x();
  if (ph_thread() == 0) a.sums[at] = sum;
}

// dscale += a level's sums, in f64 and in a fixed order. One block per level.

struct ConcatBackwardFinishArgs {
  Levels levels;
  const float *sums;  // [levels, count]
  int count;
};

PH_KERNEL(concat_backward_finish, ConcatBackwardFinishArgs, CONCAT_THREADS) {
  PH_SHARED(double, scratch);
  const int level = ph_block_x();
  if (!a.levels.dscale[level]) return;
  double sum = 0;
  for (int i = ph_thread(); i < a.count; i += CONCAT_THREADS) sum += (double)a.sums[(size_t)level * a.count + i];
  sum = ph_block_sum(sum, scratch);
  if (ph_thread() == 0) *a.levels.dscale[level] += (float)sum;
}
