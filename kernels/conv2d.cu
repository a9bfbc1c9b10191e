// Convolution in bf16 with f32 sums: fprop and dgrad as implicit matrix products on the tensor cores, with their epilogues in
// shared memory. Tiles and pipeline: conv2d.cuh. Contract and formulas: ops/conv2d. Launches: ops/conv2d/cuda. wgrad:
// conv2d_wgrad.cu. f32: conv2d_direct.cu.
//
//   fprop  y  [N·P·Q, K] = gathered x  [N·P·Q, R·S·C] × weightᵀ [R·S·C, K]
//   dgrad  dx [N·H·W, C] = gathered dy [N·H·W, R·S·K] × weight  [R·S·K, C]   one phase of pixels at a time
#include "conv2d.cuh"

#if PH_ACTIVATION_BITS == 16

// ---------------------------------------------------------------------------------------------------------------------
// The gather of fprop and dgrad: from a row to the source pixels that its taps read.

/// The source of a block's gather. At tap (i, j), row (n, y, x) of the written matrix reads the source pixel
/// (n, start_y + step·y + sign·i, start_x + step·x + sign·j).
struct Field {
  const act *source;  // [N, height, width, 8·vectors]
  int rows, grid_h, grid_w;
  int start_y, start_x, step, sign;
  int height, width, vectors;
  int taps_h, taps_w;
};

/// Converts a row of a tile's part of the matrix to an image and a position in the grid.
PH_DEVICE void locate(const Field &field, int row, int &image, int &y, int &x) {
  const int line = row / field.grid_w;
  x = row - line * field.grid_w;
  image = line / field.grid_h;
  y = line - image * field.grid_h;
}

/// A position in the reduction: tap (i, j) and the vector c of channels. It advances by one chunk; past the end, i ≥ taps_h.
struct Walk {
  int i, j, c;
  int step_i, step_j, step_c;
};

PH_DEVICE Walk walk_from(const Field &field, int vector) {
  const int across = larger(field.taps_w, 1);
  Walk walk;
  walk.c = vector % field.vectors;
  walk.j = vector / field.vectors % across;
  walk.i = vector / field.vectors / across;
  walk.step_c = CHUNK_VECTORS % field.vectors;
  walk.step_j = CHUNK_VECTORS / field.vectors % across;
  walk.step_i = CHUNK_VECTORS / field.vectors / across;
  return walk;
}

PH_DEVICE void advance(Walk &walk, const Field &field) {
  walk.c += walk.step_c;
  walk.j += walk.step_j;
  walk.i += walk.step_i;
  if (walk.c >= field.vectors) {
    walk.c -= field.vectors;
    walk.j++;
  }
  if (walk.j >= field.taps_w) {
    walk.j -= field.taps_w;
    walk.i++;
  }
}

/// A thread copies one vector of each of its rows; four threads share a row.
template <class T>
struct Gather {
  static constexpr int APART = T::THREADS / CHUNK_VECTORS;
  static constexpr int ROWS = T::ROWS / APART;
  Walk walk;
  u32 base[ROWS];  // source vector that tap (0, 0) reads; unsigned, because outside the source it may be any number
  u32 taps[ROWS];  // bit i: tap row i is inside; bit 16 + j: tap column j
};

/// The bits of the taps that stay inside 0 … limit.
PH_DEVICE u32 inside(int first, int sign, int limit, int taps) {
  const int from = larger(0, sign > 0 ? -first : first - limit + 1);
  const int to = smaller(taps, sign > 0 ? limit - first : first + 1);
  return from < to ? (1u << to) - (1u << from) : 0u;
}

template <class T>
PH_DEVICE void start(Gather<T> &gather, const Field &field, int first_row) {
  gather.walk = walk_from(field, ph_thread() % CHUNK_VECTORS);
#pragma unroll
  for (int i = 0; i < Gather<T>::ROWS; i++) {
    const int row = first_row + ph_thread() / CHUNK_VECTORS + i * Gather<T>::APART;
    int image, y, x;
    locate(field, row, image, y, x);
    y = field.start_y + field.step * y;
    x = field.start_x + field.step * x;
    gather.base[i] = (((u32)image * field.height + y) * field.width + x) * field.vectors;
    const u32 down = inside(y, field.sign, field.height, field.taps_h);
    const u32 across = inside(x, field.sign, field.width, field.taps_w);
    gather.taps[i] = row < field.rows ? down | across << 16 : 0u;
  }
}

template <class T>
PH_DEVICE void load(Gather<T> &gather, const Field &field, ph_16_bytes *to) {
  const Walk &walk = gather.walk;
  const int offset = field.sign * (walk.i * field.width + walk.j) * field.vectors + walk.c;
#pragma unroll
  for (int i = 0; i < Gather<T>::ROWS; i++) {
    const int row = ph_thread() / CHUNK_VECTORS + i * Gather<T>::APART;
    const bool there = gather.taps[i] >> walk.i & gather.taps[i] >> (16 + walk.j) & 1u;
    const act *from = field.source + (size_t)(gather.base[i] + offset) * PH_VECTOR;
    ph_copy_async(to + chunk_at(row, ph_thread() % CHUNK_VECTORS), from, there);
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// From registers to memory: half of each warp's rows at a time go through shared memory as f32, so that global memory is read and
// written 16 bytes per thread, with neighbouring threads along a row.
//
// A row's floats are stored in two halves: first four floats of every vector, then the other four. Eight threads that read 16
// bytes each then use all banks once. The padding does the same for writing the fragments.

template <class T>
struct Epilogue {
  static constexpr int ROWS = T::ROWS / 2;                // staged at a time
  static constexpr int VECTORS = T::COLUMNS / PH_VECTOR;  // per row
  static constexpr int LANES = T::THREADS / VECTORS;      // rows read at a time
  static constexpr int PASSES = ROWS / LANES;
  static constexpr int PITCH = T::COLUMNS + 8, HALF = T::COLUMNS / 2 + 4;  // floats
  float *stage;    // [ROWS][PITCH]
  float *scratch;  // [LANES][COLUMNS]
  int vector, lane;
};

template <class T>
PH_DEVICE Epilogue<T> epilogue_of(ph_16_bytes *shared) {
  static_assert(4 * (Epilogue<T>::ROWS * Epilogue<T>::PITCH + Epilogue<T>::LANES * T::COLUMNS) <=
                    16 * T::STAGES * T::STAGE,
                "the epilogue fits in the stages' memory");
  Epilogue<T> epilogue;
  epilogue.stage = (float *)shared;
  epilogue.scratch = epilogue.stage + Epilogue<T>::ROWS * Epilogue<T>::PITCH;
  epilogue.vector = ph_thread() % Epilogue<T>::VECTORS;
  epilogue.lane = ph_thread() / Epilogue<T>::VECTORS;
  return epilogue;
}

/// The tile's row for row number `row` of the staged rows: each warp stages the first or the second half of its own rows.
template <class T>
PH_DEVICE int tile_row(int half, int row) {
  constexpr int OWN = T::M * 8;
  return row / OWN * 2 * OWN + half * OWN + row % OWN;
}

template <class T>
PH_DEVICE void stage_sums(const Epilogue<T> &epilogue, const Sums<T> &sums, int half) {
  const int warp = ph_thread() / 32, lane = ph_thread() % 32;
  const int row = warp / T::WARPS_ACROSS * T::M * 8 + lane / 4, vector = warp % T::WARPS_ACROSS * T::N;
  float *corner =
      epilogue.stage + row * Epilogue<T>::PITCH + lane % 4 / 2 * Epilogue<T>::HALF + 4 * vector + lane % 2 * 2;
#pragma unroll
  for (int i = 0; i < T::M / 2; i++)
#pragma unroll
    for (int j = 0; j < T::N; j++)
#pragma unroll
      for (int r = 0; r < 2; r++) {
        float *to = corner + (16 * i + 8 * r) * Epilogue<T>::PITCH + 4 * j;
        const float *from = sums.at[half * (T::M / 2) + i][j] + 2 * r;
        store_pair(to, from[0], from[1]);
      }
}

template <class T>
PH_DEVICE void read_row(const Epilogue<T> &epilogue, int row, float (&v)[PH_VECTOR]) {
  const float *from = epilogue.stage + row * Epilogue<T>::PITCH + 4 * epilogue.vector;
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const ph_16_bytes bytes = *(const ph_16_bytes *)(from + half * Epilogue<T>::HALF);
#pragma unroll
    for (int i = 0; i < 4; i++) v[4 * half + i] = ph_float(bytes.w[i]);
  }
}

/// Σ over the lanes of each column, returned to the thread with the column's number; all threads must call it.
template <class T>
PH_DEVICE float column_sum(const Epilogue<T> &epilogue, const float (&v)[PH_VECTOR]) {
  ph_sync();
  ph_store8(epilogue.scratch + epilogue.lane * T::COLUMNS + epilogue.vector * PH_VECTOR, v);
  ph_sync();
  float sum = 0.0f;
  if (ph_thread() < T::COLUMNS)
#pragma unroll
    for (int lane = 0; lane < Epilogue<T>::LANES; lane++) sum += epilogue.scratch[lane * T::COLUMNS + ph_thread()];
  return sum;
}

PH_DEVICE ph_16_bytes packed(const float (&v)[PH_VECTOR]) {
  ph_16_bytes bytes;
#pragma unroll
  for (int i = 0; i < 4; i++) bytes.w[i] = ph_pack_bf16(v[2 * i], v[2 * i + 1]);
  return bytes;
}

PH_DEVICE void unpacked(const ph_16_bytes &bytes, float (&v)[PH_VECTOR]) {
#pragma unroll
  for (int i = 0; i < 4; i++) {
    v[2 * i] = ph_float(bytes.w[i] << 16);
    v[2 * i + 1] = ph_float(bytes.w[i] & 0xffff0000u);
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// fprop. Blocks: tiles of 128 rows (one block of statistics) × tiles of columns; tiles of the same rows are neighbours.

struct FpropArgs {
  const act *x, *weight;
  act *y;
  const float *bias;      // [bias_channels], or null
  const float *affine;    // [2, K], or null
  const act *residual;    // [N, P, Q, K], or null
  float *partials;        // [tiles of rows, 2, K], or null
  ConvShape shape;
  int bias_channels;
  int relu;
};

/// x is gathered; the weight's rows are read in their own layout.
template <class T>
struct FpropSource {
  static constexpr int ROWS = T::COLUMNS / Gather<T>::APART;
  Field field;
  Gather<T> gather;
  const act *weight;  // this thread's vector of its first row
  int apart;          // vectors between two of its rows
  int vector, depth;  // of the reduction
  u32 rows;           // bit i: row i exists
};

template <class T>
PH_DEVICE void load(FpropSource<T> &source, ph_16_bytes *stage) {
  load(source.gather, source.field, stage);
  ph_16_bytes *to = stage + T::ROWS * CHUNK_VECTORS;
#pragma unroll
  for (int i = 0; i < FpropSource<T>::ROWS; i++) {
    const int row = ph_thread() / CHUNK_VECTORS + i * Gather<T>::APART;
    const bool there = source.vector < source.depth && (source.rows >> i & 1u);
    const act *from = source.weight + (size_t)(i * source.apart) * PH_VECTOR;
    ph_copy_async(to + chunk_at(row, ph_thread() % CHUNK_VECTORS), from, there);
  }
  advance(source.gather.walk, source.field);
  source.vector += CHUNK_VECTORS;
  source.weight += CHUNK;
}

/// Mean and Σ of squared deviations of the tile's `rows` rows, as stored: two passes over the vectors that the threads have kept.
template <class T>
PH_DEVICE void statistics(const Epilogue<T> &epilogue, const ph_16_bytes (&kept)[2][Epilogue<T>::PASSES], int rows,
                          int columns, float *partials, int width) {
  const int own = epilogue.vector * PH_VECTOR < columns ? rows : 0;  // rows of which this thread has kept a part
  float v[PH_VECTOR], mean[PH_VECTOR], sums[PH_VECTOR] = {};
#pragma unroll
  for (int i = 0; i < 2 * Epilogue<T>::PASSES; i++) {
    const int half = i / Epilogue<T>::PASSES, pass = i % Epilogue<T>::PASSES;
    if (tile_row<T>(half, epilogue.lane + pass * Epilogue<T>::LANES) >= own) continue;
    unpacked(kept[half][pass], v);
#pragma unroll
    for (int j = 0; j < PH_VECTOR; j++) sums[j] += v[j];
  }
  const float middle = column_sum(epilogue, sums) / (float)rows;
  if (ph_thread() < T::COLUMNS) epilogue.stage[ph_thread()] = middle;
  ph_sync();
  ph_load8(epilogue.stage + epilogue.vector * PH_VECTOR, mean);
#pragma unroll
  for (int j = 0; j < PH_VECTOR; j++) sums[j] = 0.0f;
#pragma unroll
  for (int i = 0; i < 2 * Epilogue<T>::PASSES; i++) {
    const int half = i / Epilogue<T>::PASSES, pass = i % Epilogue<T>::PASSES;
    if (tile_row<T>(half, epilogue.lane + pass * Epilogue<T>::LANES) >= own) continue;
    unpacked(kept[half][pass], v);
#pragma unroll
    for (int j = 0; j < PH_VECTOR; j++) sums[j] += (v[j] - mean[j]) * (v[j] - mean[j]);
  }
  const float squares = column_sum(epilogue, sums);
  if (ph_thread() < columns) {
    partials[ph_thread()] = middle;
    partials[width + ph_thread()] = squares;
  }
}

template <class T>
PH_DEVICE void fprop(const FpropArgs &a) {
  PH_SHARED(ph_16_bytes, shared);
  const ConvShape &z = a.shape;
  const int across = (z.k + T::COLUMNS - 1) / T::COLUMNS;
  const int tile = ph_block_x() / across, column = ph_block_x() % across * T::COLUMNS, first = tile * T::ROWS;
  const int warp = ph_thread() / 32;

  FpropSource<T> source;
  source.field = {a.x,        z.n * z.p * z.q, z.p, z.q, -z.padding, -z.padding, z.stride, 1, z.h, z.w,
                  z.c / PH_VECTOR, z.r,        z.s};
  start(source.gather, source.field, first);
  source.vector = ph_thread() % CHUNK_VECTORS;
  source.depth = z.r * z.s * source.field.vectors;
  source.apart = Gather<T>::APART * source.depth;
  const int row = column + ph_thread() / CHUNK_VECTORS;
  source.weight = a.weight + ((size_t)row * source.depth + source.vector) * PH_VECTOR;
  source.rows = 0;
#pragma unroll
  for (int i = 0; i < FpropSource<T>::ROWS; i++) source.rows |= (row + i * Gather<T>::APART < z.k ? 1u : 0u) << i;

  Sums<T> sums;
  const int chunks = (source.depth + CHUNK_VECTORS - 1) / CHUNK_VECTORS;
  mainloop<T, false, false>(sums, source, shared, chunks, warp / T::WARPS_ACROSS * T::M * 16,
                            warp % T::WARPS_ACROSS * 32);

  const Epilogue<T> epilogue = epilogue_of<T>(shared);
  const int channel = column + epilogue.vector * PH_VECTOR, rows = smaller(z.n * z.p * z.q - first, T::ROWS);
  const bool within = channel < z.k;
  float scale[PH_VECTOR], shift[PH_VECTOR];
#pragma unroll
  for (int j = 0; j < PH_VECTOR; j++) {
    scale[j] = 1.0f;
    shift[j] = a.bias && channel + j < a.bias_channels ? a.bias[channel + j] : 0.0f;
  }
  if (a.affine && within) {
    ph_load8(a.affine + channel, scale);
    ph_load8(a.affine + z.k + channel, shift);
  }
  ph_16_bytes kept[2][Epilogue<T>::PASSES];
#pragma unroll
  for (int half = 0; half < 2; half++) {
    if (half) ph_sync();
    stage_sums(epilogue, sums, half);
    ph_sync();
#pragma unroll
    for (int pass = 0; pass < Epilogue<T>::PASSES; pass++) {
      const int staged = epilogue.lane + pass * Epilogue<T>::LANES, row = tile_row<T>(half, staged);
      if (!within || row >= rows) continue;
      const size_t at = (size_t)(first + row) * z.k + channel;
      float v[PH_VECTOR];
      read_row(epilogue, staged, v);
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
      kept[half][pass] = packed(v);
      *(ph_16_bytes *)(a.y + at) = kept[half][pass];
    }
  }
  if (a.partials)
    statistics<T>(epilogue, kept, rows, smaller(T::COLUMNS, z.k - column),
                  a.partials + (size_t)tile * 2 * z.k + column, z.k);
}

PH_KERNEL_BLOCKS(conv2d_fprop_128x128, FpropArgs, WIDE_THREADS, 2) { fprop<Wide>(a); }
PH_KERNEL(conv2d_fprop_128x64, FpropArgs, NARROW_THREADS) { fprop<Narrow>(a); }

// ---------------------------------------------------------------------------------------------------------------------
// dgrad. With a stride, all pixels (h, w) of one phase ((h + padding) mod stride, (w + padding) mod stride) read the same taps,
// every stride-th one. A block's rows are pixels of one phase, so that no product with an inserted zero is computed. Blocks: the
// tiles of all phases, one after another, × tiles of columns. The weight is read in its own layout: a vector of the reduction is
// eight output channels k of one tap, each a line of input channels.

struct DgradArgs {
  const act *dy, *weight;
  act *dx;
  const act *addend;     // [N, H, W, C], or null
  const act *mask;       // z, of the same shape, or null
  const act *y;          // of the same shape, or null; if given, so are moments [2, C] and partials [tiles of rows, 2, C]
  const float *moments;
  float *partials;
  ConvShape shape;
};

template <class T>
struct DgradSource {
  static constexpr int TEAM = T::THREADS / CHUNK_VECTORS;  // threads that share a vector of the reduction
  static constexpr int VECTORS = T::COLUMNS / PH_VECTOR;   // per line
  static constexpr int APART = TEAM / VECTORS;             // lines
  static constexpr int LINES = PH_VECTOR / APART;          // per thread
  Field field;
  Gather<T> gather;
  Walk walk;          // position in the weight
  const act *weight;  // this thread's column, of the phase's first tap of its first output channel
  int line;           // vectors of an output channel: R·S·C/8
  int tap, tap_down;  // vectors from one tap of the phase to the next
  bool column;        // whether the column exists
};

template <class T>
PH_DEVICE void load(DgradSource<T> &source, ph_16_bytes *stage) {
  typedef DgradSource<T> S;
  load(source.gather, source.field, stage);
  advance(source.gather.walk, source.field);
  ph_16_bytes *to = stage + T::ROWS * CHUNK_VECTORS;
  const Walk &walk = source.walk;
  const int team = ph_thread() / S::TEAM, member = ph_thread() % S::TEAM;
  const bool there = source.column && walk.i < source.field.taps_h;
  const int offset = walk.c * PH_VECTOR * source.line + walk.i * source.tap_down + walk.j * source.tap;
#pragma unroll
  for (int i = 0; i < S::LINES; i++) {
    const int line = member / S::VECTORS + i * S::APART;
    const act *from = source.weight + (long long)(offset + i * S::APART * source.line) * PH_VECTOR;
    ph_copy_async(to + line_at<S::VECTORS>(team * PH_VECTOR + line, member % S::VECTORS), from, there);
  }
  advance(source.walk, source.field);
}

/// The phase that a tile of rows belongs to; `tile` becomes its index within the phase.
PH_DEVICE Field phase_of(const DgradArgs &a, int tile_rows, int &tile, int &phase_h, int &phase_w) {
  const ConvShape &z = a.shape;
  Field field = {a.dy, 0, 0, 0, 0, 0, 1, -1, z.p, z.q, z.k / PH_VECTOR, 0, 0};
  phase_h = 0;
  phase_w = -1;
  int tiles = 0, first_h = 0, first_w = 0;
  do {
    tile -= tiles;
    phase_w++;
    if (phase_w == z.stride) {
      phase_w = 0;
      phase_h++;
    }
    // The first pixel of the phase, and the number of pixels.
    first_h = (phase_h + z.stride - z.padding % z.stride) % z.stride;
    first_w = (phase_w + z.stride - z.padding % z.stride) % z.stride;
    field.grid_h = larger(z.h - first_h + z.stride - 1, 0) / z.stride;
    field.grid_w = larger(z.w - first_w + z.stride - 1, 0) / z.stride;
    field.rows = z.n * field.grid_h * field.grid_w;
    tiles = (field.rows + tile_rows - 1) / tile_rows;
  } while (tile >= tiles);
  field.start_y = (first_h + z.padding) / z.stride;
  field.start_x = (first_w + z.padding) / z.stride;
  field.taps_h = larger(z.r - phase_h + z.stride - 1, 0) / z.stride;
  field.taps_w = larger(z.s - phase_w + z.stride - 1, 0) / z.stride;
  return field;
}

template <class T>
PH_DEVICE void dgrad(const DgradArgs &a) {
  typedef DgradSource<T> S;
  PH_SHARED(ph_16_bytes, shared);
  const ConvShape &z = a.shape;
  const int across = (z.c + T::COLUMNS - 1) / T::COLUMNS, vectors = z.c / PH_VECTOR;
  const int partial = ph_block_x() / across, column = ph_block_x() % across * T::COLUMNS;
  const int warp = ph_thread() / 32;

  S source;
  int tile = partial, phase_h, phase_w;
  source.field = phase_of(a, T::ROWS, tile, phase_h, phase_w);
  const int first = tile * T::ROWS;
  start(source.gather, source.field, first);
  source.walk = walk_from(source.field, ph_thread() / S::TEAM);
  source.line = z.r * z.s * vectors;
  source.tap = z.stride * vectors;
  source.tap_down = z.s * source.tap;
  const int member = ph_thread() % S::TEAM, own = column / PH_VECTOR + member % S::VECTORS;
  source.column = own < vectors;
  source.weight = a.weight + ((size_t)(member / S::VECTORS) * source.line + (phase_h * z.s + phase_w) * vectors + own) *
                                 PH_VECTOR;

  Sums<T> sums;
  const int depth = source.field.taps_h * source.field.taps_w * source.field.vectors;
  mainloop<T, false, true>(sums, source, shared, (depth + CHUNK_VECTORS - 1) / CHUNK_VECTORS,
                           warp / T::WARPS_ACROSS * T::M * 16, warp % T::WARPS_ACROSS * 32);

  const Epilogue<T> epilogue = epilogue_of<T>(shared);
  const int channel = column + epilogue.vector * PH_VECTOR;
  const bool within = channel < z.c;
  float mean[PH_VECTOR] = {}, total[PH_VECTOR] = {}, product[PH_VECTOR] = {};
  if (a.partials && within) ph_load8(a.moments + channel, mean);
#pragma unroll
  for (int half = 0; half < 2; half++) {
    if (half) ph_sync();
    stage_sums(epilogue, sums, half);
    ph_sync();
#pragma unroll
    for (int pass = 0; pass < Epilogue<T>::PASSES; pass++) {
      const int staged = epilogue.lane + pass * Epilogue<T>::LANES, row = first + tile_row<T>(half, staged);
      if (!within || row >= source.field.rows) continue;
      size_t pixel = row;
      if (z.stride > 1) {
        int image, h, w;
        locate(source.field, row, image, h, w);
        h = (source.field.start_y + h) * z.stride + phase_h - z.padding;
        w = (source.field.start_x + w) * z.stride + phase_w - z.padding;
        pixel = (size_t)(image * z.h + h) * z.w + w;
      }
      const size_t at = pixel * z.c + channel;
      float v[PH_VECTOR], other[PH_VECTOR];
      read_row(epilogue, staged, v);
      if (a.addend) {
        ph_load8(a.addend + at, other);
#pragma unroll
        for (int j = 0; j < PH_VECTOR; j++) v[j] += other[j];
      }
      if (a.mask) {
        ph_load8(a.mask + at, other);
#pragma unroll
        for (int j = 0; j < PH_VECTOR; j++) v[j] = other[j] > 0.0f ? v[j] : 0.0f;
      }
      const ph_16_bytes stored = packed(v);
      *(ph_16_bytes *)(a.dx + at) = stored;
      if (a.partials) {
        unpacked(stored, v);
        ph_load8(a.y + at, other);
#pragma unroll
        for (int j = 0; j < PH_VECTOR; j++) {
          total[j] += v[j];
          product[j] += v[j] * (other[j] - mean[j]);
        }
      }
    }
  }
  if (a.partials) {
    float *partials = a.partials + (size_t)partial * 2 * z.c + column;
    const bool mine = ph_thread() < smaller(T::COLUMNS, z.c - column);
    const float sum = column_sum(epilogue, total);
    if (mine) partials[ph_thread()] = sum;
    const float moment = column_sum(epilogue, product);
    if (mine) partials[z.c + ph_thread()] = moment * a.moments[z.c + column + ph_thread()];
  }
}

PH_KERNEL_BLOCKS(conv2d_dgrad_128x128, DgradArgs, WIDE_THREADS, 2) { dgrad<Wide>(a); }
PH_KERNEL(conv2d_dgrad_128x64, DgradArgs, NARROW_THREADS) { dgrad<Narrow>(a); }

#endif
