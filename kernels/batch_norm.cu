// Batch normalisation over the rows of [rows, C]: statistics, their merging, the affine pass with residual and ReLU, and
// the backward. Contract and formulas: src/ops/batch_norm. The convolutions' epilogues make the same partial sums.
#include "primitives.cuh"

// ---------------------------------------------------------------------------------------------------------------------
// z = act(y·scale + shift + residual). One pass, bound by memory: 2 or 3 activations move per element.
// A thread takes eight channels of a row at a time; where 256 is a multiple of C/8 they are the same channels every time,
// and scale and shift stay in registers.

struct ApplyArgs {
  const act *y;
  const float *affine;  // [2, C]: scale, shift
  const act *residual;  // may be null
  act *z;
  int vectors;  // rows · C/8
  int c;
  int relu;
};

#define APPLY_THREADS 256
#define APPLY_VECTORS 4  // a thread's

PH_KERNEL(batch_norm_apply, ApplyArgs, APPLY_THREADS) {
  const int groups = a.c / PH_VECTOR;
  const int first = ph_block_x() * APPLY_THREADS * APPLY_VECTORS + ph_thread();
  float scale[PH_VECTOR], shift[PH_VECTOR];
  int loaded = -1;
#pragma unroll
  for (int i = 0; i < APPLY_VECTORS; i++) {
    const int vector = first + i * APPLY_THREADS;
    if (vector >= a.vectors) return;
    const int group = vector % groups;
    if (group != loaded) {
      ph_load8(a.affine + group * PH_VECTOR, scale);
      ph_load8(a.affine + a.c + group * PH_VECTOR, shift);
      loaded = group;
    }
    const size_t at = (size_t)vector * PH_VECTOR;
    float v[PH_VECTOR];
    ph_load8(a.y + at, v);
#pragma unroll
    for (int j = 0; j < PH_VECTOR; j++) v[j] = v[j] * scale[j] + shift[j];
    if (a.residual) {
      float r[PH_VECTOR];
      ph_load8(a.residual + at, r);
#pragma unroll
      for (int j = 0; j < PH_VECTOR; j++) v[j] += r[j];
    }
    if (a.relu) {
#pragma unroll
      for (int j = 0; j < PH_VECTOR; j++) v[j] = ph_relu(v[j]);
    }
    ph_store8(a.z + at, v);
  }
}
