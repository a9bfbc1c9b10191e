// The weighted sum of the tasks' gradients at the seam, the plain sum of two values, and zeros to add to. Contract: ops/combine.
#include "primitives.cuh"

#define VECTOR_THREADS 128
#define THREAD_VECTORS 4

// out [N, HW, C] = Σ weight·gradient, terms in order; a pooled term [N, C] adds weight/HW of itself to every pixel. A thread
// takes four vectors of eight channels of one image and keeps their sums in registers for all terms. A term whose weight is
// exactly 0 is not read, which is the same for every thread. Blocks: [HW, C/8], N. Moves one activation per dense term and one
// more.

#define MAX_TERMS 32

struct CombineArgs {
  const void *gradients[MAX_TERMS];  // act [N, HW, C], or float [N, C] if pooled
  int tasks[MAX_TERMS];
  int pooled[MAX_TERMS];
  const float *task_weights;
  act *out;
  int terms;
  int hw;
  int c;
};

PH_KERNEL(combine, CombineArgs, VECTOR_THREADS) {
  const int groups = a.c / PH_VECTOR, vectors = a.hw * groups, image = ph_block_y();
  const int first = ph_block_x() * VECTOR_THREADS * THREAD_VECTORS + ph_thread();
  const size_t begin = (size_t)image * vectors * PH_VECTOR;
  float sum[THREAD_VECTORS][PH_VECTOR] = {};
#pragma unroll 1
  for (int term = 0; term < a.terms; term++) {
    const float weight = a.task_weights[a.tasks[term]];
    if (weight == 0.0f) continue;
    if (a.pooled[term]) {
      const float *gradient = (const float *)a.gradients[term] + (size_t)image * a.c;
      const float share = weight / (float)a.hw;
#pragma unroll
      for (int i = 0; i < THREAD_VECTORS; i++) {
        const int vector = first + i * VECTOR_THREADS;
        if (vector >= vectors) break;
        float v[PH_VECTOR];
        ph_load8(gradient + vector % groups * PH_VECTOR, v);
#pragma unroll
        for (int j = 0; j < PH_VECTOR; j++) sum[i][j] += share * v[j];
      }
    } else {
      const act *gradient = (const act *)a.gradients[term] + begin;
#pragma unroll
      for (int i = 0; i < THREAD_VECTORS; i++) {
        const int vector = first + i * VECTOR_THREADS;
        if (vector >= vectors) break;
        float v[PH_VECTOR];
        ph_load8(gradient + (size_t)vector * PH_VECTOR, v);
#pragma unroll
        for (int j = 0; j < PH_VECTOR; j++) sum[i][j] += weight * v[j];
      }
    }
  }
#pragma unroll
  for (int i = 0; i < THREAD_VECTORS; i++) {
    const int vector = first + i * VECTOR_THREADS;
    if (vector >= vectors) break;
    ph_store8(a.out + begin + (size_t)vector * PH_VECTOR, sum[i]);
  }
}

// out = a + b. Moves 3 activations per element; a thread reads its four vectors before it writes the first.

struct AddArgs {
  const act *a;
  const act *b;
  act *out;  // may be a or b
  int vectors;
};

PH_KERNEL(add, AddArgs, VECTOR_THREADS) {
  const int first = ph_block_x() * VECTOR_THREADS * THREAD_VECTORS + ph_thread();
  float sum[THREAD_VECTORS][PH_VECTOR], other[THREAD_VECTORS][PH_VECTOR];
#pragma unroll
  for (int i = 0; i < THREAD_VECTORS; i++) {
    const int vector = first + i * VECTOR_THREADS;
    if (vector >= a.vectors) break;
    ph_load8(a.a + (size_t)vector * PH_VECTOR, sum[i]);
    ph_load8(a.b + (size_t)vector * PH_VECTOR, other[i]);
  }
#pragma unroll
  for (int i = 0; i < THREAD_VECTORS; i++) {
    const int vector = first + i * VECTOR_THREADS;
    if (vector >= a.vectors) break;
#pragma unroll
    for (int j = 0; j < PH_VECTOR; j++) sum[i][j] += other[i][j];
    ph_store8(a.out + (size_t)vector * PH_VECTOR, sum[i]);
  }
}

// The same for floats, of which there are few.

struct AddFloatsArgs {
  const float *a;
  const float *b;
  float *out;  // may be a or b
  int len;
};

PH_KERNEL(add_floats, AddFloatsArgs, 256) {
  const int i = ph_block_x() * ph_threads() + ph_thread();
  if (i < a.len) a.out[i] = a.a[i] + a.b[i];
}

// out = 0, one thread per element: gradients of a few parameters.

struct ClearArgs {
  float *out;
  int len;
};

PH_KERNEL(clear, ClearArgs, 256) {
  const int i = ph_block_x() * ph_threads() + ph_thread();
  if (i < a.len) a.out[i] = 0.0f;
}
