// The weight gradient in bf16 with f32 sums, one split of the rows at a time:
//
//   dw [K, R·S·C] = dyᵀ [K, N·P·Q] × gathered x [N·P·Q, R·S·C]
//
// Blocks: x tiles of [K, R·S·C], y splits of the rows. Both operands are stored as lines of channels, where a line is a row of
// the reduction, and ldmatrix transposes them. The sum of a split is written to the workspace, and conv2d_wgrad_reduce
// (conv2d_direct.cu) adds the splits up. Tiles and pipeline: conv2d.cuh. Contract: ops/conv2d. Launches: ops/conv2d/cuda.
#include "conv2d.cuh"

#if PH_ACTIVATION_BITS == 16

struct WgradArgs {
  const act *dy, *x;
  float *workspace;  // [splits, K, R·S·C]
  ConvShape shape;
  int split_rows;  // a multiple of CHUNK
};

template <class T>
struct WgradSource {
  static constexpr int A_VECTORS = T::ROWS / PH_VECTOR, B_VECTORS = T::COLUMNS / PH_VECTOR;
  static constexpr int A_APART = T::THREADS / A_VECTORS, B_APART = T::THREADS / B_VECTORS;
  static constexpr int A_LINES = CHUNK / A_APART, B_LINES = CHUNK / B_APART;
  const act *dy;                     // this thread's vector of its first row
  int row, end;                      // the first row of the chunk, the end of the split
  int image[B_LINES], p[B_LINES], q[B_LINES];
  int step_image, step_p, step_q;    // per chunk
  int down, across, vector;          // the tap's offset from a pixel's corner, the vector of channels
  bool a_column, b_column;           // whether the columns exist
};

template <class T>
PH_DEVICE void load(WgradSource<T> &source, const WgradArgs &a, ph_16_bytes *stage) {
  typedef WgradSource<T> S;
  const ConvShape &z = a.shape;
#pragma unroll
  for (int i = 0; i < S::A_LINES; i++) {
    const int line = ph_thread() / S::A_VECTORS + i * S::A_APART;
    const bool there = source.a_column && source.row + line < source.end;
    ph_copy_async(stage + line_at<S::A_VECTORS>(line, ph_thread() % S::A_VECTORS),
                  source.dy + (size_t)(i * S::A_APART) * z.k, there);
  }
  ph_16_bytes *to = stage + T::ROWS * CHUNK_VECTORS;
#pragma unroll
  for (int i = 0; i < S::B_LINES; i++) {
    const int line = ph_thread() / S::B_VECTORS + i * S::B_APART;
    const int h = source.p[i] * z.stride + source.down, w = source.q[i] * z.stride + source.across;
    const bool there = source.b_column && source.row + line < source.end && (u32)h < (u32)z.h && (u32)w < (u32)z.w;
    // Unsigned, because rows past the end and taps outside the image may exceed the largest int.
    const u32 from = (((u32)source.image[i] * z.h + h) * z.w + w) * (z.c / PH_VECTOR) + source.vector;
    ph_copy_async(to + line_at<S::B_VECTORS>(line, ph_thread() % S::B_VECTORS), a.x + (size_t)from * PH_VECTOR, there);
    source.q[i] += source.step_q;
    source.p[i] += source.step_p;
    source.image[i] += source.step_image;
    if (source.q[i] >= z.q) {
      source.q[i] -= z.q;
      source.p[i]++;
    }
    if (source.p[i] >= z.p) {
      source.p[i] -= z.p;
      source.image[i]++;
    }
  }
  source.row += CHUNK;
  source.dy += (size_t)CHUNK * z.k;
}

/// The source together with its arguments, for `mainloop`.
template <class T>
struct WgradLoad {
  WgradSource<T> source;
  const WgradArgs &a;
};

template <class T>
PH_DEVICE void load(WgradLoad<T> &both, ph_16_bytes *stage) {
  load(both.source, both.a, stage);
}

template <class T>
PH_DEVICE void wgrad(const WgradArgs &a) {
  typedef WgradSource<T> S;
  PH_SHARED(ph_16_bytes, shared);
  const ConvShape &z = a.shape;
  const int vectors = z.c / PH_VECTOR, width = z.r * z.s * z.c;
  const int down = (z.k + T::ROWS - 1) / T::ROWS;
  const int row = ph_block_x() % down * T::ROWS, column = ph_block_x() / down * T::COLUMNS;
  const int first = ph_block_y() * a.split_rows;
  const int warp = ph_thread() / 32, lane = ph_thread() % 32;

  WgradLoad<T> both = {{}, a};
  S &source = both.source;
  source.row = first;
  source.end = first + smaller(z.n * z.p * z.q - first, a.split_rows);
  const int k = row + ph_thread() % S::A_VECTORS * PH_VECTOR;
  source.a_column = k < z.k;
  source.dy = a.dy + (size_t)(first + ph_thread() / S::A_VECTORS) * z.k + k;
  const int own = column / PH_VECTOR + ph_thread() % S::B_VECTORS, tap = own / vectors;
  source.vector = own % vectors;
  source.down = tap / z.s - z.padding;
  source.across = tap % z.s - z.padding;
  source.b_column = tap < z.r * z.s;
  source.step_q = CHUNK % z.q;
  source.step_p = CHUNK / z.q % z.p;
  source.step_image = CHUNK / z.q / z.p;
#pragma unroll
  for (int i = 0; i < S::B_LINES; i++) {
    const int at = first + ph_thread() / S::B_VECTORS + i * S::B_APART;
    source.q[i] = at % z.q;
    source.p[i] = at / z.q % z.p;
    source.image[i] = at / z.q / z.p;
  }

  Sums<T> sums;
  const int from_row = warp / T::WARPS_ACROSS * T::M * 16, from_column = warp % T::WARPS_ACROSS * 32;
  mainloop<T, true, true>(sums, both, shared, (source.end - first + CHUNK - 1) / CHUNK, from_row, from_column);

  // Four lanes write 32 bytes of a row, which is a whole sector, directly from registers.
  float *to = a.workspace + (size_t)ph_block_y() * z.k * width;
#pragma unroll
  for (int i = 0; i < T::M; i++)
#pragma unroll
    for (int j = 0; j < T::N; j++)
#pragma unroll
      for (int r = 0; r < 2; r++) {
        const int y = row + from_row + 16 * i + 8 * r + lane / 4, x = column + from_column + 8 * j + lane % 4 * 2;
        if (y < z.k && x < width) store_pair(to + (size_t)y * width + x, sums.at[i][j][2 * r], sums.at[i][j][2 * r + 1]);
      }
}

PH_KERNEL_BLOCKS(conv2d_wgrad_128x128, WgradArgs, WIDE_THREADS, 2) { wgrad<Wide>(a); }
PH_KERNEL_BLOCKS(conv2d_wgrad_128x64, WgradArgs, NARROW_THREADS, 3) { wgrad<Narrow>(a); }
PH_KERNEL(conv2d_wgrad_64x64, WgradArgs, NARROW_THREADS) { wgrad<Small>(a); }

#endif
