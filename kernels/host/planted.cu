// Kernels with deliberate bugs, each enabled by an argument: the shim must detect every one of them. They are never part of the
// product. Each kernel's comment says what it computes; tests/suite/kernels.rs runs them.
#include "../primitives.cuh"

#define THREADS 64

struct PlantedArgs {
  const u16 *in;
  float *out;
  int n;
  int bug;
};

// out[i] = in[63 − i] of 64 numbers, through shared memory. Bug 1: no barrier between writing and reading. Bug 2: one
// element is never written. Bug 3: half of the block returns before the barrier, and the rest uses a warp that is missing.
// Bug 4: one store is past the end of out. Bug 5: eight bytes are written at a multiple of four. Bug 6: a shift by more bits than
// the number has.
PH_KERNEL(planted_reverse, PlantedArgs, THREADS) {
  PH_SHARED(float, cells);
  const int thread = ph_thread();
  if (!(a.bug == 2 && thread == 7)) cells[thread] = ph_from_bf16(a.in[thread]);
  if (a.bug != 1) ph_sync();
  if (a.bug == 3 && thread % 2) return;
  float v = cells[THREADS - 1 - thread];
  if (a.bug == 3) v = ph_shuffle_xor(v, 0);
  a.out[a.bug == 4 && thread == 63 ? a.n + 1024 : thread] = v;
  if (a.bug == 5 && thread == 1) *(u64 *)(a.out + thread) = 0;
  if (a.bug == 6) a.out[thread] += (float)(1 << (31 + a.bug));
}

// out = the sum of n tiles of 512 numbers of in, one tile after another through two stages of shared memory. Bug 1: waits for one
// copy too few. Bug 2: no barrier before a stage is filled again. Bug 3: copies from an odd address.
PH_KERNEL(planted_pipeline, PlantedArgs, THREADS) {
  PH_SHARED(u16, stages);
  const int thread = ph_thread();
  const int tile = THREADS * 8;
  float sum[8] = {};
  for (int i = 0; i <= a.n; i++) {
    if (i < a.n) {
      const u16 *from = a.in + (size_t)i * tile + 8 * thread + (a.bug == 3 ? 1 : 0);
      ph_copy_async(stages + (i % 2) * tile + 8 * thread, from, true);
    }
    ph_copy_commit();
    if (i == 0) continue;
    if (a.bug == 1)
      ph_copy_wait<2>();
    else
      ph_copy_wait<1>();
    ph_sync();
    // Each thread reads elements that another thread copied.
    const u16 *stage = stages + ((i - 1) % 2) * tile + 8 * (THREADS - 1 - thread);
    for (int j = 0; j < 8; j++) sum[j] += ph_from_bf16(stage[j]);
    if (a.bug != 2) ph_sync();
  }
  for (int j = 0; j < 8; j++) a.out[8 * (THREADS - 1 - thread) + j] = sum[j];
}

// out [16, 8] = A·Bᵀ, with A [16, 16] followed by B [8, 16] in in. Bug 1: two of A's fragments are swapped. Bug 2:
// B's rows are read transposed.
PH_KERNEL(planted_product, PlantedArgs, 32) {
  PH_SHARED(u16, tiles);
  const int lane = ph_thread();
  for (int i = lane; i < 16 * 16 + 8 * 16; i += 32) tiles[i] = a.in[i];
  ph_sync();
  u32 fragment[4], other[4];
  ph_load_matrices(fragment, tiles + (lane % 16) * 16 + (lane / 16) * 8);
  // Matrices 0 and 1 are B's two halves of k; 2 and 3 repeat them.
  const u16 *row = tiles + 16 * 16 + (lane % 8) * 16 + (lane / 8 % 2) * 8;
  if (a.bug == 2)
    ph_load_matrices_transposed(other, row);
  else
    ph_load_matrices(other, row);
  if (a.bug == 1) {
    const u32 kept = fragment[1];
    fragment[1] = fragment[2];
    fragment[2] = kept;
  }
  float d[4] = {};
  const u32 b[2] = {other[0], other[1]};
  ph_mma(d, fragment, b);
  const int r = lane / 4, c = 2 * (lane % 4);
  for (int half = 0; half < 2; half++)
    for (int i = 0; i < 2; i++) a.out[(r + 8 * half) * 8 + c + i] = d[2 * half + i];
}

struct PlantedIndexArgs {
  const act *in;  // [blocks, apart]
  float *out;     // [blocks, 64]
  int apart, blocks;
  int bug;
};

// out[block, i] = in[block, i] of a matrix of more than 2³² elements. Bug 1: the index is an int. Bug 2: it is a u32, which wraps
// silently. Bug 3: sixteen bytes are read at a multiple of two. Bug 4: the last row is read past the end. Bug 5: in is
// written to. Bug 6: a result is also written to another block's row.
PH_KERNEL(planted_index, PlantedIndexArgs, THREADS) {
  const int block = ph_block_x(), thread = ph_thread();
  size_t at = (size_t)block * a.apart + thread;
  if (a.bug == 1) at = block * a.apart + thread;
  if (a.bug == 2) at = (u32)block * (u32)a.apart + (u32)thread;
  if (a.bug == 4 && block == a.blocks - 1) at += a.apart;
  if (a.bug == 3 && thread == 1) a.out[0] = ph_float(((const ph_16_bytes *)(a.in + at))->w[0]);
  if (a.bug == 5) ((act *)a.in)[at].bits = 0;
  a.out[(size_t)block * THREADS + thread] = ph_load(a.in + at);
  if (a.bug == 6) a.out[(size_t)(block / 2 + 1) * THREADS + thread] = 0.0f;
}
