// Nearest upsampling added to a lateral map, and its backward. Contract: ops/upsample.
#include "primitives.cuh"

#define UPSAMPLE_THREADS 128
#define UPSAMPLE_VECTORS 2  // per thread of the forward

// out [N, H, W, C] = lateral + top[i·h/H, j·w/W]. A thread takes two vectors of eight channels of a row. Blocks: [W, C/8], H,
// N. Moves 2 activations per output, and top once: repeated reads of it come from the L2 cache.

struct UpsampleAddArgs {
  const act *top;  // [N, h, w, C]
  const act *lateral;
  act *out;  // may be lateral
  int h, w, height, width, c;
};

PH_KERNEL(upsample_add, UpsampleAddArgs, UPSAMPLE_THREADS) {
  const int groups = a.c / PH_VECTOR, vectors = a.width * groups, i = ph_block_y(), image = ph_block_z();
  const int first = ph_block_x() * UPSAMPLE_THREADS * UPSAMPLE_VECTORS + ph_thread();
  const size_t row = ((size_t)image * a.height + i) * a.width * a.c;
  const int above = i * a.h / a.height;
  const act *top = a.top + ((size_t)image * a.h + above) * a.w * a.c;
  float sum[UPSAMPLE_VECTORS][PH_VECTOR], other[UPSAMPLE_VECTORS][PH_VECTOR];
#pragma unroll
  for (int k = 0; k < UPSAMPLE_VECTORS; k++) {
    const int vector = first + k * UPSAMPLE_THREADS;
    if (vector >= vectors) break;
    const int j = vector / groups, group = vector - j * groups;
    ph_load8(a.lateral + row + (size_t)vector * PH_VECTOR, sum[k]);
    ph_load8(top + ((size_t)(j * a.w / a.width) * groups + group) * PH_VECTOR, other[k]);
  }
#pragma unroll
  for (int k = 0; k < UPSAMPLE_VECTORS; k++) {
    const int vector = first + k * UPSAMPLE_THREADS;
    if (vector >= vectors) break;
#pragma unroll
    for (int j = 0; j < PH_VECTOR; j++) sum[k][j] += other[k][j];
    ph_store8(a.out + row + (size_t)vector * PH_VECTOR, sum[k]);
  }
}

// dtop [N, h, w, C]: the sum of dout [N, H, W, C] over each pixel's copies. A thread takes a vector of eight channels of a
// pixel. Blocks: [w, C/8], h, N. Moves one activation per input and one per output.

struct UpsampleBackwardArgs {
  const act *dout;
  act *dtop;
  int h, w, height, width, c;
};

/// The first of the `to` positions that copy position `at` of `from`.
PH_DEVICE int first_copy(int at, int to, int from) { return (at * to + from - 1) / from; }

PH_KERNEL(upsample_backward, UpsampleBackwardArgs, UPSAMPLE_THREADS) {
  const int groups = a.c / PH_VECTOR, vector = ph_block_x() * UPSAMPLE_THREADS + ph_thread();
  if (vector >= a.w * groups) return;
  const int i = ph_block_y(), image = ph_block_z(), j = vector / groups;
  const int left = first_copy(j, a.width, a.w), right = first_copy(j + 1, a.width, a.w);
  const act *dout = a.dout + (size_t)image * a.height * a.width * a.c + (size_t)(vector - j * groups) * PH_VECTOR;
  float sum[PH_VECTOR] = {};
  for (int row = first_copy(i, a.height, a.h); row < first_copy(i + 1, a.height, a.h); row++) {
#pragma unroll 2
    for (int column = left; column < right; column++) {
      float v[PH_VECTOR];
      ph_load8(dout + ((size_t)row * a.width + column) * a.c, v);
#pragma unroll
      for (int k = 0; k < PH_VECTOR; k++) sum[k] += v[k];
    }
  }
  ph_store8(a.dtop + ((size_t)image * a.h + i) * a.w * a.c + (size_t)vector * PH_VECTOR, sum);
}
