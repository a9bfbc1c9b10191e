// Runs the kernels on a CPU for tests: one fiber per thread of a block, which switch at barriers and warp collectives, mma and
// ldmatrix with the fragment layouts of the PTX manual, asynchronous copies that land as late as they may, and shared memory that
// is poisoned at the start of every block. primitives.cuh includes it instead of CUDA.
#pragma once

#include <cmath>
#include <cstring>

#define PH_DEVICE static inline
#define __restrict__ __restrict

/// The grid, block and shared memory of a launch. If a list of blocks is given (x, y and z of each), only those run.
struct ph_dims {
  u32 grid[3];
  u32 threads;
  u32 shared_bytes;
  u32 block_count;
  const u32 *blocks;
};

extern "C" int ph_host_launch(void (*body)(const void *), const void *args, const ph_dims *dims);

#define PH_KERNEL(name, Args, max_threads)                                                      \
  static void name##_body(const Args &a);                                                       \
  static void name##_entry(const void *args) { name##_body(*(const Args *)args); }              \
  extern "C" u64 name##_argument_bytes() { return sizeof(Args); }                               \
  extern "C" int name(const void *args, const ph_dims *dims) {                                  \
    return dims->threads > (max_threads) ? 3 : ph_host_launch(name##_entry, args, dims);        \
  }                                                                                             \
  static void name##_body(const Args &a)

#define PH_KERNEL_BLOCKS(name, Args, max_threads, blocks) PH_KERNEL(name, Args, max_threads)

#define PH_SHARED(T, name) T *name = (T *)ph_host_shared()

extern "C" void *ph_host_shared();
int ph_thread();
int ph_threads();
int ph_block_x();
int ph_block_y();
int ph_block_z();
int ph_blocks_x();
void ph_sync();
void ph_sync_warp();
float ph_shuffle_xor(float v, int mask);
double ph_shuffle_xor(double v, int mask);
void ph_mma(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]);
void ph_load_matrices(u32 (&r)[4], const void *row);
void ph_load_matrices_transposed(u32 (&r)[4], const void *row);
void ph_copy_async(void *shared, const void *global, bool there);
void ph_copy_commit();
void ph_host_copy_wait(int groups);
template <int N>
static inline void ph_copy_wait() {
  ph_host_copy_wait(N);
}

static inline u32 ph_bits(float v) {
  u32 bits;
  memcpy(&bits, &v, 4);
  return bits;
}
static inline float ph_float(u32 bits) {
  float v;
  memcpy(&v, &bits, 4);
  return v;
}
/// Rounds to nearest even; NaN stays NaN.
static inline u32 ph_host_bf16(float v) {
  const u32 bits = ph_bits(v);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fffu;
  return (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
}
static inline u32 ph_pack_bf16(float low, float high) { return ph_host_bf16(low) | (ph_host_bf16(high) << 16); }
