// The subset of CUDA that all kernels are written in: no CUDA headers, one parameter struct per kernel, warps of 32 lanes,
// bf16 or f32 activations chosen when a file is compiled (PH_ACTIVATION_BITS 16 or 32), sums always in f32 or f64.
//
// The same text is compiled in three ways: by NVRTC for a GPU, by a C++17 compiler with host/shim.h for tests without a
// GPU, and by NVRTC in the compile check.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#ifdef PH_HOST
#include "host/shim.h"
#else

#define PH_DEVICE static __device__ __forceinline__
/// A kernel: its name, the struct that it gets as `a`, and the number of threads per block.
#define PH_KERNEL(name, Args, threads) extern "C" __global__ void __launch_bounds__(threads) name(const Args a)
/// The same with the number of blocks that must fit on a multiprocessor. The compiler then uses exactly the registers that this
/// allows; by default it may keep too few values in registers, or spill to use fewer registers than needed.
#define PH_KERNEL_BLOCKS(name, Args, threads, blocks) \
  extern "C" __global__ void __launch_bounds__(threads, blocks) name(const Args a)
/// The block's dynamic shared memory, as an array of T.
#define PH_SHARED(T, name)                                \
  extern __shared__ __align__(16) unsigned char ph_raw[]; \
  T *name = (T *)ph_raw

PH_DEVICE int ph_thread() { return (int)threadIdx.x; }
PH_DEVICE int ph_threads() { return (int)blockDim.x; }
PH_DEVICE int ph_block_x() { return (int)blockIdx.x; }
PH_DEVICE int ph_block_y() { return (int)blockIdx.y; }
PH_DEVICE int ph_block_z() { return (int)blockIdx.z; }
PH_DEVICE int ph_blocks_x() { return (int)gridDim.x; }

PH_DEVICE void ph_sync() { __syncthreads(); }
PH_DEVICE void ph_sync_warp() { __syncwarp(); }
PH_DEVICE float ph_shuffle_xor(float v, int mask) { return __shfl_xor_sync(0xffffffffu, v, mask); }
PH_DEVICE double ph_shuffle_xor(double v, int mask) { return __shfl_xor_sync(0xffffffffu, v, mask); }

PH_DEVICE u32 ph_bits(float v) { return __float_as_uint(v); }
PH_DEVICE float ph_float(u32 bits) { return __uint_as_float(bits); }

/// Converts two floats to bf16, rounding to nearest even; `low` is in the low half.
PH_DEVICE u32 ph_pack_bf16(float low, float high) {
  u32 packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}

/// d += a·b over a 16×16 tile of a (rows × k) and an 8×16 tile of b (columns × k), bf16 in, f32 sums.
PH_DEVICE void ph_mma(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

PH_DEVICE u32 ph_shared_address(const void *p) { return (u32)__cvta_generic_to_shared(p); }

/// Loads four 8×8 matrices of 16-bit numbers; lanes 8i … 8i+7 give the rows of matrix i.
PH_DEVICE void ph_load_matrices(u32 (&r)[4], const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(ph_shared_address(row)));
}

/// The same, each matrix transposed.
PH_DEVICE void ph_load_matrices_transposed(u32 (&r)[4], const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(ph_shared_address(row)));
}

/// Starts a copy of 16 bytes from global to shared memory; writes zeros unless `there`. Both addresses must be multiples of 16.
PH_DEVICE void ph_copy_async(void *shared, const void *global, bool there) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(ph_shared_address(shared)), "l"(global),
               "r"(there ? 16 : 0)
               : "memory");
}
/// Closes the group of copies started since the last call.
PH_DEVICE void ph_copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Waits until at most N of this thread's groups are in flight.
template <int N>
PH_DEVICE void ph_copy_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

#endif

/// 16 bytes that are read and written in one instruction.
struct alignas(16) ph_16_bytes {
  u32 w[4];
};

PH_DEVICE float ph_from_bf16(u32 bits) { return ph_float(bits << 16); }
PH_DEVICE u16 ph_to_bf16(float v) { return (u16)(ph_pack_bf16(v, 0.0f) & 0xffffu); }

/// One activation as it is stored in memory.
#if PH_ACTIVATION_BITS == 16
struct act {
  u16 bits;
};
PH_DEVICE float ph_load(const act *p) { return ph_from_bf16(p->bits); }
PH_DEVICE void ph_store(act *p, float v) { p->bits = ph_to_bf16(v); }
/// The value of v after it has been stored.
PH_DEVICE float ph_rounded(float v) { return ph_from_bf16(ph_to_bf16(v)); }
#else
struct act {
  float value;
};
PH_DEVICE float ph_load(const act *p) { return p->value; }
PH_DEVICE void ph_store(act *p, float v) { p->value = v; }
PH_DEVICE float ph_rounded(float v) { return v; }
#endif

/// The number of activations read and written together; every channel count in memory is a multiple of it.
#define PH_VECTOR 8

/// Loads eight neighbouring floats; p is a multiple of 16 bytes.
PH_DEVICE void ph_load8(const float *p, float (&v)[PH_VECTOR]) {
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const ph_16_bytes bytes = ((const ph_16_bytes *)p)[half];
#pragma unroll
    for (int i = 0; i < 4; i++) v[4 * half + i] = ph_float(bytes.w[i]);
  }
}

PH_DEVICE void ph_store8(float *p, const float (&v)[PH_VECTOR]) {
#pragma unroll
  for (int half = 0; half < 2; half++) {
    ph_16_bytes bytes;
#pragma unroll
    for (int i = 0; i < 4; i++) bytes.w[i] = ph_bits(v[4 * half + i]);
    ((ph_16_bytes *)p)[half] = bytes;
  }
}

/// Loads eight neighbouring activations; p is a multiple of eight activations from an aligned start.
PH_DEVICE void ph_load8(const act *p, float (&v)[PH_VECTOR]) {
#if PH_ACTIVATION_BITS == 16
  const ph_16_bytes bytes = *(const ph_16_bytes *)p;
#pragma unroll
  for (int i = 0; i < 4; i++) {
    v[2 * i] = ph_float(bytes.w[i] << 16);
    v[2 * i + 1] = ph_float(bytes.w[i] & 0xffff0000u);
  }
#else
  ph_load8(&p->value, v);
#endif
}

PH_DEVICE void ph_store8(act *p, const float (&v)[PH_VECTOR]) {
#if PH_ACTIVATION_BITS == 16
  ph_16_bytes bytes;
#pragma unroll
  for (int i = 0; i < 4; i++) bytes.w[i] = ph_pack_bf16(v[2 * i], v[2 * i + 1]);
  *(ph_16_bytes *)p = bytes;
#else
  ph_store8(&p->value, v);
#endif
}

/// NaN is passed on, so that a broken step is noticed.
PH_DEVICE float ph_relu(float v) { return v < 0.0f ? 0.0f : v; }

/// Σ over the block in a fixed order, returned to every thread; `scratch` holds one T per warp. The size of the block must be
/// a multiple of 32, and nothing else may be using `scratch`.
template <class T>
PH_DEVICE T ph_block_sum(T v, T *scratch) {
#pragma unroll
  for (int mask = 16; mask > 0; mask >>= 1) v += ph_shuffle_xor(v, mask);
  const int thread = ph_thread();
  if (thread % 32 == 0) scratch[thread / 32] = v;
  ph_sync();
  T total = 0;
  for (int warp = 0; warp < ph_threads() / 32; warp++) total += scratch[warp];
  ph_sync();
  return total;
}

PH_DEVICE float ph_block_max(float v, float *scratch) {
#pragma unroll
  for (int mask = 16; mask > 0; mask >>= 1) {
    const float other = ph_shuffle_xor(v, mask);
    v = other > v ? other : v;
  }
  const int thread = ph_thread();
  if (thread % 32 == 0) scratch[thread / 32] = v;
  ph_sync();
  float largest = scratch[0];
  for (int warp = 1; warp < ph_threads() / 32; warp++) largest = scratch[warp] > largest ? scratch[warp] : largest;
  ph_sync();
  return largest;
}
