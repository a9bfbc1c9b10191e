// Normalises the images. Contract: ops/preprocess.
#include "primitives.cuh"

// x [pixels, 8] = images [pixels, 3] · scale + shift, with channels 3 to 7 zero. A thread takes four pixels, a block apart. It
// reads single bytes; those of a warp are contiguous. Moves 3 bytes and 8 activations per pixel.

#define PREPROCESS_THREADS 128
#define PREPROCESS_PIXELS 4

struct PreprocessArgs {
  const u8 *images;
  act *x;
  int pixels;
  float scale[3];
  float shift[3];
};

PH_KERNEL(preprocess, PreprocessArgs, PREPROCESS_THREADS) {
  const int first = ph_block_x() * PREPROCESS_THREADS * PREPROCESS_PIXELS + ph_thread();
  u8 colours[PREPROCESS_PIXELS][3];
#pragma unroll
  for (int i = 0; i < PREPROCESS_PIXELS; i++) {
    const int pixel = first + i * PREPROCESS_THREADS;
    if (pixel >= a.pixels) break;
#pragma unroll
    for (int k = 0; k < 3; k++) colours[i][k] = a.images[(size_t)pixel * 3 + k];
  }
#pragma unroll
  for (int i = 0; i < PREPROCESS_PIXELS; i++) {
    const int pixel = first + i * PREPROCESS_THREADS;
    if (pixel >= a.pixels) break;
    float v[PH_VECTOR] = {};
#pragma unroll
    for (int k = 0; k < 3; k++) v[k] = (float)colours[i][k] * a.scale[k] + a.shift[k];
    ph_store8(a.x + (size_t)pixel * PH_VECTOR, v);
  }
}
