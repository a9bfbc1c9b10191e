// Shared by the tensor-core kernels of the convolutions: sizes, tiles in shared memory, the pipelined product.
//
// A block computes a tile of the result; each warp computes 64 × 32 or 32 × 32 of it in registers. The reduction proceeds in
// chunks of 32 through stages in shared memory: while one chunk is multiplied, the copies of the next ones are in flight
// (cp.async). The unit of all copies is a vector of eight channels (16 bytes). The gather looks up a row vector by vector, so
// that a chunk may hold several taps (7×7 over 8 channels has one vector per tap) and no channel count wastes more than the last
// chunk.
//
// Bytes: with tiles of 128 × 128, a chunk of 16 KB feeds 2 · 128² · 32 FLOPs, which is 64 per byte from L2, and a third of that
// per byte from shared memory by ldmatrix. Three stages of the wide tile or four of the narrow one take 48 KB: two blocks fit on
// every multiprocessor from sm_80 to sm_120, so that one hides the epilogue of the other. 1×1 layers of early stages are bound by
// the bytes of their activations: tiles of the same rows are neighbours, so that x is read from memory once and by the other
// tiles from L2.
//
// Threads: in the mainloop a warp owns a part of the tile. For copying, four threads share a row's chunk, or neighbouring threads
// take neighbouring vectors of a line. In the epilogue neighbouring threads own neighbouring vectors of a row.
//
// Not timed yet. For sm_90 (NVRTC 13.2) the wide loop has 142 instructions for its 32 mma in fprop, 160 in dgrad, 174 in wgrad.
// Before the parts of ldmatrix's addresses that depend only on the lane were hoisted, fprop's had 155 and dgrad's 170.
//
// The idea comes from CUTLASS's implicit GEMM (multistage mainloop, swizzled tiles, staged epilogue).
#pragma once

#include "primitives.cuh"

/// x [N, H, W, C], weight [K, R, S, C], y [N, P, Q, K]; C and K multiples of 8.
struct ConvShape {
  int n, h, w, c, k, r, s, stride, padding, p, q;
};

#if PH_ACTIVATION_BITS == 16

#define CHUNK 32         // length of the reduction per stage
#define CHUNK_VECTORS 4  // the same in vectors

/// ROWS × COLUMNS of the result, computed by warps of WARP_ROWS × 32.
template <int ROWS_, int COLUMNS_, int WARP_ROWS, int STAGES_>
struct ConvTile {
  static constexpr int ROWS = ROWS_, COLUMNS = COLUMNS_, STAGES = STAGES_;
  static constexpr int WARPS_ACROSS = COLUMNS / 32;
  static constexpr int THREADS = 32 * (ROWS / WARP_ROWS) * WARPS_ACROSS;
  static constexpr int M = WARP_ROWS / 16, N = 32 / 8;  // mma tiles per warp
  static constexpr int STAGE = (ROWS + COLUMNS) * CHUNK_VECTORS;  // vectors: first a, then b
};

typedef ConvTile<128, 128, 64, 3> Wide;
typedef ConvTile<128, 64, 64, 4> Narrow;
typedef ConvTile<64, 64, 32, 4> Small;
#define WIDE_THREADS 256
#define NARROW_THREADS 128
static_assert(Wide::THREADS == WIDE_THREADS && Narrow::THREADS == NARROW_THREADS && Small::THREADS == NARROW_THREADS,
              "as launched");

/// A thread's part of the result.
template <class T>
struct Sums {
  float at[T::M][T::N][4];
};

/// Stores two neighbouring floats in one instruction; p is a multiple of 8 bytes.
PH_DEVICE void store_pair(float *p, float low, float high) {
  struct alignas(8) Pair {
    float low, high;
  };
  *(Pair *)p = Pair{low, high};
}

PH_DEVICE int smaller(int a, int b) { return a < b ? a : b; }
PH_DEVICE int larger(int a, int b) { return a > b ? a : b; }

// ---------------------------------------------------------------------------------------------------------------------
// Tiles in shared memory. There are eight bank groups of 16 bytes. ldmatrix reads a vector from each of eight rows, which must
// lie in different groups. So must the vectors that eight neighbouring threads copy.

/// A row holds a chunk (4 vectors), and two rows cover all groups: the vector's index is XORed with half the row's number.
PH_DEVICE int chunk_at(int row, int vector) { return row * CHUNK_VECTORS + (vector ^ (row >> 1 & 3)); }

/// A row holds VECTORS vectors, a multiple of eight: the vector's index is XORed with the row's number.
template <int VECTORS>
PH_DEVICE int line_at(int row, int vector) {
  return row * VECTORS + (vector ^ (row & 7));
}

/// Adds a stage's product to the warp's sums. a is stored as rows of the reduction's vectors [ROWS][CHUNK] or, with A_LINES, as
/// lines [CHUNK][ROWS]; b is stored the same way with columns in place of rows.
template <class T, bool A_LINES, bool B_LINES>
PH_DEVICE void multiply(Sums<T> &sums, const ph_16_bytes *a, const ph_16_bytes *b, int row, int column) {
  const int lane = ph_thread() % 32;
  // `row`, `column` and the steps are multiples of 16 and do not change the swizzle of a vector, so everything that depends on
  // the lane is the same for every chunk and stays in registers.
#pragma unroll
  for (int step = 0; step < CHUNK / 16; step++) {
    u32 left[T::M][4], right[T::N][2];
#pragma unroll
    for (int i = 0; i < T::M; i++) {
      // Order of the matrices: rows 0–7 and 8–15 of the reduction's first eight, then of its second eight.
      if (A_LINES)
        ph_load_matrices_transposed(left[i], a + 16 * step * (T::ROWS / 8) +
                                                 line_at<T::ROWS / 8>(lane / 16 * 8 + lane % 8,
                                                                      row / 8 + 2 * i + lane / 8 % 2));
      else
        ph_load_matrices(left[i],
                         a + (row + 16 * i) * CHUNK_VECTORS + chunk_at(lane % 16, 2 * step + lane / 16));
    }
#pragma unroll
    for (int j = 0; j < T::N; j += 2) {
      // Order of the matrices: both halves of the reduction for columns 0–7, then for columns 8–15.
      u32 two[4];
      if (B_LINES)
        ph_load_matrices_transposed(two, b + 16 * step * (T::COLUMNS / 8) +
                                             line_at<T::COLUMNS / 8>(lane % 16, column / 8 + j + lane / 16));
      else
        ph_load_matrices(two, b + (column + 8 * j) * CHUNK_VECTORS +
                                  chunk_at(lane / 16 * 8 + lane % 8, 2 * step + lane / 8 % 2));
      right[j][0] = two[0];
      right[j][1] = two[1];
      right[j + 1][0] = two[2];
      right[j + 1][1] = two[3];
    }
#pragma unroll
    for (int i = 0; i < T::M; i++)
#pragma unroll
      for (int j = 0; j < T::N; j++) ph_mma(sums.at[i][j], left[i], right[j]);
  }
}

/// Σ over `chunks`, which `load` copies one after another. The warp's part starts at `row` and `column`. Afterwards the
/// memory of the stages is free.
template <class T, bool A_LINES, bool B_LINES, class Source>
PH_DEVICE void mainloop(Sums<T> &sums, Source &source, ph_16_bytes *shared, int chunks, int row, int column) {
#pragma unroll
  for (int i = 0; i < T::M; i++)
#pragma unroll
    for (int j = 0; j < T::N; j++)
#pragma unroll
      for (int r = 0; r < 4; r++) sums.at[i][j][r] = 0.0f;
#pragma unroll
  for (int stage = 0; stage < T::STAGES - 1; stage++) {
    if (stage < chunks) load(source, shared + stage * T::STAGE);
    ph_copy_commit();
  }
  int read = 0, write = T::STAGES - 1;
  for (int chunk = 0; chunk < chunks; chunk++) {
    ph_copy_wait<T::STAGES - 2>();
    ph_sync();  // All copies of this chunk have landed, and nobody reads the stage of the previous one any more.
    if (chunk + T::STAGES - 1 < chunks) load(source, shared + write * T::STAGE);
    ph_copy_commit();
    const ph_16_bytes *stage = shared + read * T::STAGE;
    multiply<T, A_LINES, B_LINES>(sums, stage, stage + T::ROWS * CHUNK_VECTORS, row, column);
    read = read + 1 == T::STAGES ? 0 : read + 1;
    write = write + 1 == T::STAGES ? 0 : write + 1;
  }
  ph_copy_wait<0>();
  ph_sync();
}

#endif
