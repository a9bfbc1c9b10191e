// The inner products of the tasks' gradients of one feature or weight. Contract: ops/gramian.
//
// A block takes neighbouring elements of all gradients and multiplies every pair of them, so that each gradient is read from
// memory only once: up to four stay in registers, others are read again from the caches. Its f32 sums stay in the scratch memory
// until a second kernel adds up the blocks in order, in f64. Bound by memory: the gradients in.
#include "primitives.cuh"

#define THREADS 128
#define THREAD_VECTORS 8
/// The number of terms of a tile; a thread keeps the products of two tiles' terms.
#define TILE 4
#define TILE_PRODUCTS (TILE * TILE)
#define MAX_TERMS 32

struct GramianArgs {
  const void *gradients[MAX_TERMS];  // act [N, HW, C], float [N, pooled_c] if pooled, or float [len]
  int pooled[MAX_TERMS];
  float *partials;  // [tiles of products, TILE_PRODUCTS, blocks]
  int terms;
  int len;  // of an image, in elements
  int c, pooled_c;
  float share;  // 1/HW
  int blocks;
};

/// Eight neighbouring elements of a term at `at` of the block's image; zeros after the last term. A pooled term adds 1/HW of
/// itself at every pixel. FLOATS: the gradients are not maps, and `len` may be any number.
template <bool FLOATS>
PH_DEVICE void load(const GramianArgs &a, int term, int at, float (&v)[PH_VECTOR]) {
  if (term >= a.terms) {
#pragma unroll
    for (int j = 0; j < PH_VECTOR; j++) v[j] = 0.0f;
  } else if (FLOATS) {
    const float *gradient = (const float *)a.gradients[term] + at;
    if (at + PH_VECTOR <= a.len) {
      ph_load8(gradient, v);
    } else {
#pragma unroll
      for (int j = 0; j < PH_VECTOR; j++) v[j] = at + j < a.len ? gradient[j] : 0.0f;
    }
  } else if (a.pooled[term]) {
    const float *gradient = (const float *)a.gradients[term] + (size_t)ph_block_y() * a.pooled_c;
    const int channel = at % a.c;
#pragma unroll
    for (int j = 0; j < PH_VECTOR; j++) v[j] = channel + j < a.pooled_c ? a.share * gradient[channel + j] : 0.0f;
  } else {
    ph_load8((const act *)a.gradients[term] + (size_t)ph_block_y() * a.len + at, v);
  }
}

/// products[i][j] = Σ term (first + i)·term (second + j) over this thread's vectors; for a tile with itself, only j ≥ i.
template <bool FLOATS>
PH_DEVICE void multiply(const GramianArgs &a, int first, int second, float (&products)[TILE][TILE]) {
#pragma unroll
  for (int i = 0; i < TILE; i++)
#pragma unroll
    for (int j = 0; j < TILE; j++) products[i][j] = 0.0f;
#pragma unroll 1
  for (int i = 0; i < THREAD_VECTORS; i++) {
    const int at = ((ph_block_x() * THREAD_VECTORS + i) * THREADS + ph_thread()) * PH_VECTOR;
    if (at >= a.len) break;
    float terms[TILE][PH_VECTOR];
#pragma unroll
    for (int term = 0; term < TILE; term++) load<FLOATS>(a, first + term, at, terms[term]);
    if (first == second) {
#pragma unroll
      for (int term = 0; term < TILE; term++)
#pragma unroll
        for (int other = term; other < TILE; other++)
#pragma unroll
          for (int j = 0; j < PH_VECTOR; j++) products[term][other] += terms[term][j] * terms[other][j];
    } else {
#pragma unroll
      for (int other = 0; other < TILE; other++) {
        float v[PH_VECTOR];
        load<FLOATS>(a, second + other, at, v);
#pragma unroll
        for (int term = 0; term < TILE; term++)
#pragma unroll
          for (int j = 0; j < PH_VECTOR; j++) products[term][other] += terms[term][j] * v[j];
      }
    }
  }
}

/// Writes the block's sum of every product, added in a fixed order, to its place in the partials.
PH_DEVICE void store_sums(const GramianArgs &a, const float (&products)[TILE][TILE], float *shared, int tile) {
#pragma unroll
  for (int i = 0; i < TILE_PRODUCTS; i++) {
    float sum = products[i / TILE][i % TILE];
#pragma unroll
    for (int mask = 16; mask > 0; mask >>= 1) sum += ph_shuffle_xor(sum, mask);
    if (ph_thread() % 32 == 0) shared[ph_thread() / 32 * TILE_PRODUCTS + i] = sum;
  }
  ph_sync();
  if (ph_thread() < TILE_PRODUCTS) {
    float sum = 0.0f;
#pragma unroll
    for (int warp = 0; warp < THREADS / 32; warp++) sum += shared[warp * TILE_PRODUCTS + ph_thread()];
    const int block = ph_block_y() * ph_blocks_x() + ph_block_x();
    a.partials[((size_t)tile * TILE_PRODUCTS + ph_thread()) * a.blocks + block] = sum;
  }
  ph_sync();
}

/// Multiplies every tile of terms with itself and with the tiles after it.
template <bool FLOATS>
PH_DEVICE void multiply_all(const GramianArgs &a, float *shared) {
  int tile = 0;
#pragma unroll 1
  for (int first = 0; first < a.terms; first += TILE) {
#pragma unroll 1
    for (int second = first; second < a.terms; second += TILE) {
      float products[TILE][TILE];
      multiply<FLOATS>(a, first, second, products);
      store_sums(a, products, shared, tile);
      tile++;
    }
  }
}

// Maps. Grid: elements of an image, N.
PH_KERNEL(gramian, GramianArgs, THREADS) {
  PH_SHARED(float, shared);
  multiply_all<false>(a, shared);
}

// Gradients of a weight, or gradients that are all pooled. Grid: elements.
PH_KERNEL(gramian_floats, GramianArgs, THREADS) {
  PH_SHARED(float, shared);
  multiply_all<true>(a, shared);
}

// ---------------------------------------------------------------------------------------------------------------------
// out [K, K] = scale·Σ over the blocks and the terms of two tasks; the terms of a task are contiguous. Grid: K, K.

struct GramianFinishArgs {
  const float *partials;
  float *out;
  int starts[MAX_TERMS + 1];  // each task's first term; after the last task, the number of terms
  int tiles, blocks;
  float scale;
};

PH_KERNEL(gramian_finish, GramianFinishArgs, THREADS) {
  PH_SHARED(double, scratch);
  // The upper triangle is computed for both places of a product, so that both have the same bits.
  const int x = ph_block_x(), y = ph_block_y(), row = x < y ? x : y, column = x < y ? y : x;
  double sum = 0.0;
#pragma unroll 1
  for (int one = a.starts[row]; one < a.starts[row + 1]; one++) {
#pragma unroll 1
    for (int other = a.starts[column]; other < a.starts[column + 1]; other++) {
      const int first = one < other ? one : other, second = one < other ? other : one;
      const int before = first / TILE;
      const int tile = before * a.tiles - before * (before - 1) / 2 + second / TILE - before;
      const int product = first % TILE * TILE + second % TILE;
      const float *partials = a.partials + ((size_t)tile * TILE_PRODUCTS + product) * a.blocks;
#pragma unroll 4
      for (int block = ph_thread(); block < a.blocks; block += THREADS) sum += partials[block];
    }
  }
  const double total = ph_block_sum(sum, scratch);
  if (ph_thread() == 0) a.out[y * ph_blocks_x() + x] = (float)(a.scale * total);
}
