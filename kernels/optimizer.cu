// The update over the Store's flat buffers: gradient norm, SGD or AdamW, averages, and the packed copies of the weights.
// Contract: ops/optimizer; its cuda.rs builds the table of pieces and the scalars.
//
// One block per piece (≤ 4096 elements of one parameter); a thread takes four neighbours at a time. Bound by memory: AdamW reads
// and writes values, gradients, two moments and averages, 40 bytes per element, SGD 32; the norm reads 4.
#include "primitives.cuh"

#define THREADS 256
#define WIDE 4

/// The layout is that of ops/optimizer/cuda.rs.
struct alignas(16) Piece {
  int start, len;
  int group;
  int decay;
  int packed_start;  // −1: no copy
  int first;         // index of the piece's first element in the parameter
  int c, c8;
};

/// The scalars of a step, in floats: the head, then GROUP_LEN for each group.
enum { CLIP_NORM, AVERAGE_DECAY, BETA1, BETA2, EPSILON, WEIGHT_DECAY, HEAD_LEN };
enum { FACTOR, ACTIVE, LEARNING_RATE, BIAS_CORRECTION1, BIAS_CORRECTION2, GROUP_LEN };
#define MOMENTUM BETA1

struct Outcome {
  double norm;
  float clip;
  int finite;
};

/// Four neighbours, of which the first `count` exist; p is a multiple of 16 bytes.
PH_DEVICE void load(const float *p, int count, float (&v)[WIDE]) {
  if (count >= WIDE) {
    const ph_16_bytes bytes = *(const ph_16_bytes *)p;
#pragma unroll
    for (int j = 0; j < WIDE; j++) v[j] = ph_float(bytes.w[j]);
  } else {
#pragma unroll
    for (int j = 0; j < WIDE; j++) v[j] = j < count ? p[j] : 0.0f;
  }
}

PH_DEVICE void store(float *p, int count, const float (&v)[WIDE]) {
  if (count >= WIDE) {
    ph_16_bytes bytes;
#pragma unroll
    for (int j = 0; j < WIDE; j++) bytes.w[j] = ph_bits(v[j]);
    *(ph_16_bytes *)p = bytes;
  } else {
#pragma unroll
    for (int j = 0; j < WIDE; j++)
      if (j < count) p[j] = v[j];
  }
}

/// Four activations, p a multiple of four.
PH_DEVICE void store_packed(act *p, const float (&v)[WIDE]) {
#if PH_ACTIVATION_BITS == 16
  *(u64 *)p = (u64)ph_pack_bf16(v[2], v[3]) << 32 | ph_pack_bf16(v[0], v[1]);
#else
  store((float *)p, WIDE, v);
#endif
}

/// Writes elements i … i + 3 of a piece into its copy, whose rows are c8 long.
PH_DEVICE void copy(act *packed, const Piece &piece, int i, int count, const float (&v)[WIDE]) {
  if (piece.packed_start < 0) return;
  const int element = piece.first + i;
  int column = element % piece.c;
  act *row = packed + piece.packed_start + (size_t)(element / piece.c) * piece.c8;
  if (piece.c % WIDE == 0 && count >= WIDE) {
    store_packed(row + column, v);
    return;
  }
#pragma unroll
  for (int j = 0; j < WIDE; j++) {
    if (j < count) {
      ph_store(row + column, v[j]);
      if (++column == piece.c) {
        column = 0;
        row += piece.c8;
      }
    }
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// The norm: Σ (factor·g)² of each piece, then the sum of all pieces in one block. 16 squares are added in f32, the rest in f64.

struct NormArgs {
  const Piece *pieces;
  const float *scalars;
  const float *gradients;
  double *partials;  // [pieces]
};

PH_KERNEL(gradient_norm, NormArgs, THREADS) {
  PH_SHARED(double, scratch);
  const Piece piece = a.pieces[ph_block_x()];
  const float *group = a.scalars + HEAD_LEN + piece.group * GROUP_LEN;
  float sum = 0.0f;
  // The gradients of a skipped group are ignored.
  if (group[ACTIVE] != 0.0f) {
#pragma unroll 4
    for (int i = ph_thread() * WIDE; i < piece.len; i += THREADS * WIDE) {
      float g[WIDE];
      load(a.gradients + piece.start + i, piece.len - i, g);
#pragma unroll
      for (int j = 0; j < WIDE; j++) sum += g[j] * g[j];
    }
  }
  const double squares = ph_block_sum((double)sum, scratch), factor = group[FACTOR];
  if (ph_thread() == 0) a.partials[ph_block_x()] = group[ACTIVE] != 0.0f ? factor * factor * squares : 0.0;
}

struct NormFinishArgs {
  const double *partials;
  const float *scalars;
  Outcome *outcome;
  int pieces;
};

PH_KERNEL(gradient_norm_finish, NormFinishArgs, THREADS) {
  PH_SHARED(double, scratch);
  double sum = 0.0;
#pragma unroll 4
  for (int i = ph_thread(); i < a.pieces; i += THREADS) sum += a.partials[i];
  const double norm = sqrt(ph_block_sum(sum, scratch)), largest = a.scalars[CLIP_NORM];
  if (ph_thread() == 0) {
    a.outcome->norm = norm;
    a.outcome->clip = largest > 0.0 && norm > largest ? (float)(largest / norm) : 1.0f;
    a.outcome->finite = norm - norm == 0.0;
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// The update. Afterwards all gradients are 0 and all averages are updated; parameters and moments of an inactive group do not
// change.

struct UpdateArgs {
  const Piece *pieces;
  const float *scalars;
  const Outcome *outcome;
  float *values, *gradients, *first_moment, *second_moment, *average;
  act *packed;
};

/// PyTorch's SGD: g += decay·p, b = momentum·b + g, p −= rate·b.
struct Sgd {
  static const bool TWO_MOMENTS = false;
  float scale, decay, momentum, rate;

  PH_DEVICE Sgd of(const UpdateArgs &a, const float *group, float scale, float decay) {
    return Sgd{scale, decay, a.scalars[MOMENTUM], group[LEARNING_RATE]};
  }
  PH_DEVICE void step(const Sgd &rule, float gradient, float &p, float &b, float &) {
    const float g = rule.scale * gradient + rule.decay * p;
    b = rule.momentum * b + g;
    p -= rule.rate * b;
  }
};

/// PyTorch's AdamW: p *= 1 − rate·decay, then p −= rate/c₁·m/(√(v/c₂) + ε), where c₁ and c₂ are the bias corrections.
struct AdamW {
  static const bool TWO_MOMENTS = true;
  float scale, kept, beta1, beta2, epsilon, rate, root;

  PH_DEVICE AdamW of(const UpdateArgs &a, const float *group, float scale, float decay) {
    const float kept = 1.0f - group[LEARNING_RATE] * decay, rate = group[LEARNING_RATE] / group[BIAS_CORRECTION1];
    const float root = 1.0f / sqrtf(group[BIAS_CORRECTION2]);
    return AdamW{scale, kept, a.scalars[BETA1], a.scalars[BETA2], a.scalars[EPSILON], rate, root};
  }
  PH_DEVICE void step(const AdamW &rule, float gradient, float &p, float &m, float &v) {
    const float g = rule.scale * gradient;
    m += (1.0f - rule.beta1) * (g - m);
    v = rule.beta2 * v + (1.0f - rule.beta2) * (g * g);
    p = rule.kept * p - rule.rate * m / (sqrtf(v) * rule.root + rule.epsilon);
  }
};

template <class Rule>
PH_DEVICE void update(const UpdateArgs &a) {
  if (!a.outcome->finite) return;
  const Piece piece = a.pieces[ph_block_x()];
  const float *group = a.scalars + HEAD_LEN + piece.group * GROUP_LEN;
  const bool active = group[ACTIVE] != 0.0f;
  const float decay = piece.decay ? a.scalars[WEIGHT_DECAY] : 0.0f, moves = 1.0f - a.scalars[AVERAGE_DECAY];
  const Rule rule = Rule::of(a, group, group[FACTOR] * a.outcome->clip, decay);
  for (int i = ph_thread() * WIDE; i < piece.len; i += THREADS * WIDE) {
    const int at = piece.start + i, count = piece.len - i;
    float p[WIDE], average[WIDE];
    load(a.values + at, count, p);
    load(a.average + at, count, average);
    if (active) {
      float g[WIDE], first[WIDE], second[WIDE];
      load(a.gradients + at, count, g);
      load(a.first_moment + at, count, first);
      if (Rule::TWO_MOMENTS) load(a.second_moment + at, count, second);
#pragma unroll
      for (int j = 0; j < WIDE; j++) Rule::step(rule, g[j], p[j], first[j], second[j]);
      store(a.values + at, count, p);
      store(a.first_moment + at, count, first);
      if (Rule::TWO_MOMENTS) store(a.second_moment + at, count, second);
    }
    const float zeros[WIDE] = {0.0f, 0.0f, 0.0f, 0.0f};
    store(a.gradients + at, count, zeros);
#pragma unroll
    for (int j = 0; j < WIDE; j++) average[j] += moves * (p[j] - average[j]);
    store(a.average + at, count, average);
    copy(a.packed, piece, i, count, p);
  }
}

PH_KERNEL(update_sgd, UpdateArgs, THREADS) { update<Sgd>(a); }

PH_KERNEL(update_adamw, UpdateArgs, THREADS) { update<AdamW>(a); }

// ---------------------------------------------------------------------------------------------------------------------
// The averages of the running statistics, and the packed copies of any values.

struct RunningArgs {
  const float *scalars;
  const Outcome *outcome;
  const float *running;
  float *average;
  int len;
};

PH_KERNEL(ema_running, RunningArgs, THREADS) {
  const int i = (ph_block_x() * THREADS + ph_thread()) * WIDE;
  if (!a.outcome->finite || i >= a.len) return;
  const float moves = 1.0f - a.scalars[AVERAGE_DECAY];
  float value[WIDE], average[WIDE];
  load(a.running + i, a.len - i, value);
  load(a.average + i, a.len - i, average);
#pragma unroll
  for (int j = 0; j < WIDE; j++) average[j] += moves * (value[j] - average[j]);
  store(a.average + i, a.len - i, average);
}

struct PackArgs {
  const Piece *pieces;
  const float *values;
  act *packed;
};

PH_KERNEL(pack, PackArgs, THREADS) {
  const Piece piece = a.pieces[ph_block_x()];
  if (piece.packed_start < 0) return;
  for (int i = ph_thread() * WIDE; i < piece.len; i += THREADS * WIDE) {
    float v[WIDE];
    load(a.values + piece.start + i, piece.len - i, v);
    copy(a.packed, piece, i, piece.len - i, v);
  }
}
