// The implementation of the shim: fibers, barriers and collectives, the matrix instructions, delayed copies, guarded memory. It
// knows no kernel. Every fiber is one CUDA thread; a launch runs its blocks one after another on the calling thread.
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
#include "shim.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <mutex>
#include <vector>

#if !defined(__x86_64__)
#error "the shim switches fibers with x86-64 instructions"
#endif

// Saves the callee-saved registers on the old stack and its stack pointer in *from, then continues on the other stack.
asm(R"(
.text
.globl ph_host_switch
.hidden ph_host_switch
ph_host_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");
extern "C" __attribute__((visibility("hidden"))) void ph_host_switch(void **from, void *to);

namespace {

const size_t STACK_BYTES = 128 << 10;
const size_t SHARED_BYTES = 232448;            // The most that a Hopper block can have,
const size_t SHARED_PAGES = 57 * (size_t)4096;  // and the same in whole pages.
const int WARP = 32;
const int MAX_THREADS = 1024;

enum Status { OK = 0, STUCK = 1, OUT_OF_BOUNDS = 2, UNDEFINED = 4 };
enum State { READY, AT_BARRIER, AT_COLLECTIVE, DONE };

struct Copy {
  void *to;
  const void *from;
  bool there;
};

struct Fiber {
  void *stack_pointer = nullptr;
  char *stack = nullptr;
  State state = READY;
  void *collective = nullptr;
  std::vector<Copy> open;
  std::vector<std::vector<Copy>> groups;
};

struct Block {
  std::vector<Fiber> fibers;
  void *scheduler = nullptr;
  int current = 0;
  int count = 0;
  int left = 0;  // The number of threads that have not ended.
  int arrived[MAX_THREADS / WARP] = {};  // For each warp, the number of threads that wait at a collective.
  u32 index[3] = {0, 0, 0};
  ph_dims dims = {};
  char *shared = nullptr;
  void (*body)(const void *) = nullptr;
  const void *args = nullptr;
  u64 random = 0;
  bool launching = false;
  sigjmp_buf escape;
};

thread_local Block block;
thread_local u64 schedule_seed = 0;
thread_local char fault[512];  // A description of the last launch's fault.
struct sigaction previous_segv;

// Pages between two guard pages. They cannot be accessed until mprotect allows it.
char *pages(size_t bytes) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  const size_t inside = (bytes + page - 1) / page * page;
  char *whole = (char *)mmap(nullptr, inside + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return whole == MAP_FAILED ? nullptr : whole + page;
}

char *usable_pages(size_t bytes) {
  char *start = pages(bytes);
  if (start) mprotect(start, bytes, PROT_READ | PROT_WRITE);
  return start;
}

// ---------------------------------------------------------------------------------------------------------------------
// Buffers. A reserved buffer uses memory only where it is touched. The first access to a chunk fills it; each number depends only
// on its index, so that a buffer of many gigabytes has contents everywhere.

const size_t CHUNK_BYTES = 64 << 10;

// The initial content of a buffer, numbered as in crates/engine/src/device/cuda/host.rs. Kernels may not write to TERNARY_BF16,
// TERNARY_F32 and FLOATS.
enum Contents { POISON = 0, TERNARY_BF16 = 1, TERNARY_F32 = 2, FLOATS = 3, SUMS = 4 };

struct Buffer {
  char *start, *pages;
  size_t bytes, inside;  // the requested size, and the same in whole pages
  bool reserved;
  Contents contents;
  u64 seed;
  u8 *touched;  // one byte per chunk
};

std::mutex buffers_lock;
std::vector<Buffer> buffers;

size_t whole_pages(size_t bytes) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  return (bytes + page - 1) / page * page;
}

size_t chunks_of(const Buffer &buffer) { return (buffer.inside + CHUNK_BYTES - 1) / CHUNK_BYTES; }

// −1, 0 or 1, computed from the number's index.
int ternary(u64 at, u64 seed) {
  u64 mixed = (at + seed * 0x632be59bd9b4e019ull) * 0x9e3779b97f4a7c15ull;
  mixed = (mixed ^ mixed >> 29) * 0xbf58476d1ce4e5b9ull;
  return (int)((mixed >> 32) * 3 >> 32) - 1;
}

void fill(const Buffer &buffer, char *from, char *end) {
  if (buffer.contents == POISON) {
    memset(from, 0xff, (size_t)(end - from));
    return;
  }
  const char *last = buffer.start + buffer.bytes;
  if (end > last) end = (char *)last;
  if (from < buffer.start) from = buffer.start;
  if (buffer.contents == TERNARY_BF16) {
    static const u16 bits[3] = {0xbf80, 0, 0x3f80};
    u64 at = (u64)(from - buffer.start) / 2;
    for (u16 *to = (u16 *)from; to < (u16 *)end; to++) *to = bits[ternary(at++, buffer.seed) + 1];
  } else {
    const int least = buffer.contents == TERNARY_F32 ? -1 : 1;  // FLOATS and SUMS: 1, 2 or 3
    u64 at = (u64)(from - buffer.start) / 4;
    for (float *to = (float *)from; to < (float *)end; to++) *to = (float)(ternary(at++, buffer.seed) + 1 + least);
  }
}

// Whether `address` lies in a reserved chunk that has not been accessed before; if so, fills the chunk.
bool first_touch(char *address) {
  std::lock_guard<std::mutex> alone(buffers_lock);
  for (const Buffer &buffer : buffers) {
    if (!buffer.reserved || address < buffer.pages || address >= buffer.pages + buffer.inside) continue;
    const size_t chunk = (size_t)(address - buffer.pages) / CHUNK_BYTES;
    if (buffer.touched[chunk]) return false;
    buffer.touched[chunk] = 1;
    char *from = buffer.pages + chunk * CHUNK_BYTES;
    char *end = chunk + 1 == chunks_of(buffer) ? buffer.pages + buffer.inside : from + CHUNK_BYTES;
    if (mprotect(from, (size_t)(end - from), PROT_READ | PROT_WRITE)) return false;
    fill(buffer, from, end);
    const bool writable = buffer.contents == POISON || buffer.contents == SUMS;
    if (!writable) mprotect(from, (size_t)(end - from), PROT_READ);
    return true;
  }
  return false;
}

void say(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(fault, sizeof fault, format, arguments);
  va_end(arguments);
}

// Describes an invalid address relative to the nearest buffer.
void describe_fault(const char *address, bool writes) {
  std::lock_guard<std::mutex> alone(buffers_lock);
  const char *verb = writes ? "wrote" : "read";
  const Buffer *nearest = nullptr;
  u64 least = ~0ull;
  for (const Buffer &buffer : buffers) {
    const char *end = buffer.start + buffer.bytes;
    const u64 apart = address < buffer.start ? (u64)(buffer.start - address) : address < end ? 0 : (u64)(address - end);
    if (apart < least) {
      least = apart;
      nearest = &buffer;
    }
  }
  if (!nearest)
    say("it %s at an address in no buffer", verb);
  else if (address < nearest->start)
    say("it %s %llu bytes before the start of a buffer of %zu bytes", verb, least, nearest->bytes);
  else if (least)
    say("it %s %llu bytes past the end of a buffer of %zu bytes", verb, least, nearest->bytes);
  else if (address == nearest->start + nearest->bytes)
    say("it %s directly past the end of a buffer of %zu bytes", verb, nearest->bytes);
  else
    say("it %s in a buffer of %zu bytes that it may only read", verb, nearest->bytes);
}

u64 next_random() {
  block.random ^= block.random << 13;
  block.random ^= block.random >> 7;
  block.random ^= block.random << 17;
  return block.random;
}

Fiber &self() { return block.fibers[block.current]; }

void pause_fiber(State state) {
  Fiber &fiber = self();
  fiber.state = state;
  ph_host_switch(&fiber.stack_pointer, block.scheduler);
}

void fiber_main() {
  block.body(block.args);
  pause_fiber(DONE);
}

void start_fiber(Fiber &fiber) {
  if (!fiber.stack) fiber.stack = usable_pages(STACK_BYTES);
  // Sets up the stack as if fiber_main had been called: a return address below six saved registers, aligned as at a call.
  void **top = (void **)(fiber.stack + STACK_BYTES) - 1;
  *top = nullptr;
  *--top = (void *)fiber_main;
  for (int i = 0; i < 6; i++) *--top = nullptr;
  fiber.stack_pointer = top;
  fiber.state = READY;
  fiber.collective = nullptr;
  fiber.open.clear();
  fiber.groups.clear();
}

void resume(int index) {
  block.current = index;
  ph_host_switch(&block.scheduler, block.fibers[index].stack_pointer);
}

// Opens a barrier if every thread that has not ended waits at it.
bool open_barrier() {
  bool any = false;
  for (int i = 0; i < block.count; i++) {
    if (block.fibers[i].state == READY || block.fibers[i].state == AT_COLLECTIVE) return false;
    any = any || block.fibers[i].state == AT_BARRIER;
  }
  for (int i = 0; i < block.count; i++)
    if (block.fibers[i].state == AT_BARRIER) block.fibers[i].state = READY;
  return any;
}

// Runs one thread until it waits or ends.
void run_thread(int index) {
  resume(index);
  if (block.fibers[index].state == DONE) block.left--;
}

// A round over all threads, either in order, or from a random one and skipping some that could run. All warps advance together.
bool round_of_threads() {
  bool moved = false;
  const int first = schedule_seed ? (int)(next_random() % block.count) : 0;
  for (int step = 0; step < block.count; step++) {
    const int index = (first + step) % block.count;
    if (block.fibers[index].state != READY) continue;
    moved = true;
    if (schedule_seed && next_random() % 4 == 0) continue;
    run_thread(index);
  }
  return moved;
}

// Runs one warp after the other, each as far as it gets, so that warps are as far apart as possible.
bool round_of_warps() {
  bool moved = false;
  const int warps = block.count / WARP, first = (int)(next_random() % warps);
  for (int step = 0; step < warps; step++) {
    const int base = (first + step) % warps * WARP;
    for (bool again = true; again;) {
      again = false;
      for (int index = base; index < base + WARP; index++) {
        if (block.fibers[index].state != READY) continue;
        run_thread(index);
        again = moved = true;
      }
    }
  }
  return moved;
}

Status run_block() {
  memset(block.shared, 0xCD, SHARED_PAGES);
  for (int i = 0; i < block.count; i++) start_fiber(block.fibers[i]);
  block.left = block.count;
  memset(block.arrived, 0, sizeof block.arrived);
  const bool by_warps = schedule_seed && schedule_seed % 2 == 0;
  while (block.left > 0) {
    const bool moved = by_warps ? round_of_warps() : round_of_threads();
    if (block.left > 0 && !moved && !open_barrier()) return STUCK;
  }
  return OK;
}

// Waits for the other 31 lanes; the last to arrive does the work for all.
template <class Work>
void collective(void *mine, Work work) {
  Fiber &fiber = self();
  fiber.collective = mine;
  const int warp = block.current / WARP, first = warp * WARP;
  if (++block.arrived[warp] < WARP) {
    pause_fiber(AT_COLLECTIVE);
    return;
  }
  block.arrived[warp] = 0;
  void *all[WARP];
  for (int lane = 0; lane < WARP; lane++) all[lane] = block.fibers[first + lane].collective;
  work(all);
  for (int lane = 0; lane < WARP; lane++)
    if (first + lane != block.current) block.fibers[first + lane].state = READY;
}

template <class T>
T shuffle_xor(T v, int mask) {
  struct Cell {
    T in, out;
  } cell = {v, v};
  collective(&cell, [mask](void **all) {
    for (int lane = 0; lane < WARP; lane++) ((Cell *)all[lane])->out = ((Cell *)all[lane ^ mask])->in;
  });
  return cell.out;
}

void load_matrices(u32 (&r)[4], const void *row, bool transposed) {
  struct Cell {
    u32 *r;
    const void *row;
  } cell = {r, row};
  collective(&cell, [transposed](void **all) {
    for (int matrix = 0; matrix < 4; matrix++) {
      u16 m[8][8];
      for (int i = 0; i < 8; i++) memcpy(m[i], ((Cell *)all[8 * matrix + i])->row, 16);
      for (int lane = 0; lane < WARP; lane++) {
        const int i = lane / 4, j = 2 * (lane % 4);
        const u32 low = transposed ? m[j][i] : m[i][j], high = transposed ? m[j + 1][i] : m[i][j + 1];
        ((Cell *)all[lane])->r[matrix] = low | high << 16;
      }
    }
  });
}

// Handles the first access to a chunk of a reserved buffer, or an invalid access.
void on_fault(int signal, siginfo_t *info, void *context) {
  char *address = (char *)info->si_addr;
  if (info->si_code == SEGV_ACCERR && first_touch(address)) return;
  if (block.launching) {
    // Bit 1 of the page fault's error code means a write.
    describe_fault(address, ((ucontext_t *)context)->uc_mcontext.gregs[REG_ERR] & 2);
    siglongjmp(block.escape, OUT_OF_BOUNDS);
  }
  if (previous_segv.sa_flags & SA_SIGINFO) return previous_segv.sa_sigaction(signal, info, context);
  sigaction(signal, &previous_segv, nullptr);
}

// Ends the launch because of behaviour that C++ or the device does not define.
[[noreturn]] void undefined(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(fault, sizeof fault, format, arguments);
  va_end(arguments);
  siglongjmp(block.escape, UNDEFINED);
}

// Signal handlers need their own stack, because the faulting stack is a fiber's.
void prepare_thread() {
  if (block.shared) return;
  block.shared = usable_pages(SHARED_PAGES);
  stack_t stack = {};
  stack.ss_size = 64 << 10;
  stack.ss_sp = mmap(nullptr, stack.ss_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  sigaltstack(&stack, nullptr);
  static bool installed = [] {
    struct sigaction action = {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, &previous_segv);
    return true;
  }();
  (void)installed;
}

void *add_buffer(size_t bytes, bool reserved, Contents contents, u64 seed) {
  prepare_thread();
  const size_t inside = whole_pages(bytes);
  Buffer buffer = {nullptr, pages(inside), bytes, inside, reserved, contents, seed, nullptr};
  if (!buffer.pages) return nullptr;
  buffer.start = buffer.pages + (inside - bytes) / 64 * 64;
  if (reserved) {
    buffer.touched = (u8 *)calloc(chunks_of(buffer), 1);
    if (!buffer.touched) return nullptr;
  } else {
    if (mprotect(buffer.pages, inside, PROT_READ | PROT_WRITE)) return nullptr;
    fill(buffer, buffer.pages, buffer.pages + inside);
  }
  std::lock_guard<std::mutex> alone(buffers_lock);
  buffers.push_back(buffer);
  return buffer.start;
}

}  // namespace

// ---------------------------------------------------------------------------------------------------------------------
// The handlers of the compiler's checks (-fsanitize=undefined without its runtime library). They end the launch and report the
// place. The data of every check begins with the place.

namespace {
struct Place {
  const char *file;
  u32 line, column;
};
struct AccessCheck {
  Place place;
  const void *type;
  u8 log_alignment, kind;
};

// The part of a path after the last folder kernels/.
const char *short_name(const char *file) {
  while (const char *kernels = strstr(file, "kernels/")) file = kernels + strlen("kernels/");
  return file;
}
}  // namespace

extern "C" void __ubsan_handle_type_mismatch_v1_abort(const AccessCheck *check, u64 address) {
  const Place &place = check->place;
  const u64 alignment = 1ull << check->log_alignment;
  if (address && address % alignment)
    undefined("%s:%u: access at an address that is not a multiple of %llu", short_name(place.file), place.line, alignment);
  undefined("%s:%u: access through a %s", short_name(place.file), place.line,
            address ? "pointer to something smaller" : "null pointer");
}

#define UNDEFINED_HANDLER(name, words)                                           \
  extern "C" void __ubsan_handle_##name(const Place *place) {                    \
    undefined("%s:%u: " words, short_name(place->file), place->line);            \
  }
UNDEFINED_HANDLER(add_overflow_abort, "an integer overflows in a sum")
UNDEFINED_HANDLER(sub_overflow_abort, "an integer overflows in a difference")
UNDEFINED_HANDLER(mul_overflow_abort, "an integer overflows in a product")
UNDEFINED_HANDLER(negate_overflow_abort, "an integer overflows in a negation")
UNDEFINED_HANDLER(divrem_overflow_abort, "division by zero, or a quotient that overflows")
UNDEFINED_HANDLER(shift_out_of_bounds_abort, "shift by more bits than the number has, or of a negative number")
UNDEFINED_HANDLER(out_of_bounds_abort, "index outside its array")
UNDEFINED_HANDLER(pointer_overflow_abort, "a pointer overflows")
UNDEFINED_HANDLER(load_invalid_value_abort, "a value that its type cannot have")
UNDEFINED_HANDLER(float_cast_overflow_abort, "a float that the integer cannot hold")
UNDEFINED_HANDLER(nonnull_arg_abort, "a null pointer as an argument that may not be null")
UNDEFINED_HANDLER(nonnull_return_v1_abort, "a null pointer returned where it may not be null")
UNDEFINED_HANDLER(invalid_builtin_abort, "a builtin with an invalid argument")
UNDEFINED_HANDLER(vla_bound_not_positive_abort, "an array without elements")
UNDEFINED_HANDLER(alignment_assumption_abort, "a pointer with less alignment than was promised")
UNDEFINED_HANDLER(function_type_mismatch_abort, "a function called with another type than its own")
UNDEFINED_HANDLER(missing_return, "a function that returns a value ends without a return")
UNDEFINED_HANDLER(builtin_unreachable, "a place that was declared unreachable")

int ph_thread() { return block.current; }
int ph_threads() { return block.count; }
int ph_block_x() { return (int)block.index[0]; }
int ph_block_y() { return (int)block.index[1]; }
int ph_block_z() { return (int)block.index[2]; }
int ph_blocks_x() { return (int)block.dims.grid[0]; }
void ph_sync() { pause_fiber(AT_BARRIER); }
void ph_sync_warp() {
  collective(nullptr, [](void **) {});
}
float ph_shuffle_xor(float v, int mask) { return shuffle_xor(v, mask); }
double ph_shuffle_xor(double v, int mask) { return shuffle_xor(v, mask); }
void ph_load_matrices(u32 (&r)[4], const void *row) { load_matrices(r, row, false); }
void ph_load_matrices_transposed(u32 (&r)[4], const void *row) { load_matrices(r, row, true); }

void ph_mma(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
  struct Cell {
    float *d;
    const u32 *a, *b;
  } cell = {d, a, b};
  collective(&cell, [](void **all) {
    float A[16][16], B[16][8], sums[16][8];
    for (int lane = 0; lane < WARP; lane++) {
      const Cell &c = *(Cell *)all[lane];
      const int group = lane / 4, pair = 2 * (lane % 4);
      for (int r = 0; r < 4; r++)
        for (int half = 0; half < 2; half++)
          A[group + (r & 1) * 8][pair + (r >> 1) * 8 + half] = ph_float(c.a[r] >> (16 * half) << 16);
      for (int r = 0; r < 2; r++)
        for (int half = 0; half < 2; half++) B[pair + r * 8 + half][group] = ph_float(c.b[r] >> (16 * half) << 16);
    }
    // Each sum is taken in the order of k, eight sums at a time.
    for (int i = 0; i < 16; i++) {
      float row[8] = {};
      for (int k = 0; k < 16; k++)
        for (int j = 0; j < 8; j++) row[j] += A[i][k] * B[k][j];
      memcpy(sums[i], row, sizeof row);
    }
    for (int lane = 0; lane < WARP; lane++) {
      float *d = ((Cell *)all[lane])->d;
      for (int r = 0; r < 4; r++) d[r] += sums[lane / 4 + (r >> 1) * 8][2 * (lane % 4) + (r & 1)];
    }
  });
}

static void land(const Copy &copy) {
  if (copy.there)
    memcpy(copy.to, copy.from, 16);
  else
    memset(copy.to, 0, 16);
}

// With threads in order, every copy lands as late as it may. In a shuffled order some land at once, which is allowed too.
void ph_copy_async(void *shared, const void *global, bool there) {
  if ((u64)shared % 16 || (there && (u64)global % 16))
    undefined("a copy of 16 bytes from or to an address that is not a multiple of 16");
  const Copy copy = {shared, global, there};
  if (schedule_seed && next_random() % 2 == 0)
    land(copy);
  else
    self().open.push_back(copy);
}

void ph_copy_commit() {
  Fiber &fiber = self();
  fiber.groups.push_back(std::move(fiber.open));
  fiber.open.clear();
}

void ph_host_copy_wait(int groups) {
  Fiber &fiber = self();
  while ((int)fiber.groups.size() > groups) {
    for (const Copy &copy : fiber.groups.front()) land(copy);
    fiber.groups.erase(fiber.groups.begin());
  }
}

/// The shared memory of a launch ends where the last page ends.
extern "C" void *ph_host_shared() { return block.shared + (SHARED_PAGES - block.dims.shared_bytes) / 16 * 16; }

/// 0 runs the threads of a block in order. An odd number is the seed of a shuffled order, an even number the seed of an order of
/// warps that each run as far as they get.
extern "C" void ph_host_schedule(u64 seed) { schedule_seed = seed; }

/// Memory between two pages that cannot be accessed. It ends at the second and is filled with 0xff, which is NaN in every format.
extern "C" void *ph_host_allocate(u64 bytes) { return add_buffer(bytes, false, POISON, 0); }

/// The same as reserved address space, filled on first access with `contents` as numbered above. Two buffers with the same seed
/// hold the same numbers.
extern "C" void *ph_host_reserve(u64 bytes, u32 contents, u64 seed) {
  return add_buffer(bytes, true, (Contents)contents, seed);
}

extern "C" void ph_host_free(void *memory) {
  std::lock_guard<std::mutex> alone(buffers_lock);
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  for (size_t i = 0; i < buffers.size(); i++) {
    if (buffers[i].start != memory) continue;
    munmap(buffers[i].pages - page, buffers[i].inside + 2 * page);
    free(buffers[i].touched);
    buffers.erase(buffers.begin() + (long)i);
    return;
  }
}

/// The first range of touched bytes of a reserved buffer at or after `from`, as [range[0], range[1]); returns 0 if there is none.
extern "C" int ph_host_touched(void *memory, u64 from, u64 *range) {
  std::lock_guard<std::mutex> alone(buffers_lock);
  for (const Buffer &buffer : buffers) {
    if (buffer.start != memory) continue;
    const u64 before = (u64)(buffer.start - buffer.pages);
    for (size_t chunk = (from + before) / CHUNK_BYTES; chunk < chunks_of(buffer); chunk++) {
      if (!buffer.touched[chunk]) continue;
      const u64 first = chunk * CHUNK_BYTES, end = first + CHUNK_BYTES - before;
      range[0] = first > before + from ? first - before : from;
      range[1] = end < buffer.bytes ? end : buffer.bytes;
      if (range[0] < range[1]) return 1;
    }
  }
  return 0;
}

/// A description of the fault of this thread's last launch; empty if the shim does not know it.
extern "C" const char *ph_host_fault() { return fault; }

/// Returns 0 for success; 1: a deadlock; 2: an access outside all buffers; 3: the launch is larger than a device supports; 4: an
/// access at an address that is not a multiple of its size, or something else that C++ does not define.
extern "C" int ph_host_launch(void (*body)(const void *), const void *args, const ph_dims *dims) {
  prepare_thread();
  if (dims->shared_bytes > SHARED_BYTES || dims->threads % WARP || dims->threads == 0 || dims->threads > MAX_THREADS)
    return 3;
  block.body = body;
  block.args = args;
  block.dims = *dims;
  block.count = (int)dims->threads;
  block.random = schedule_seed * 0x9e3779b97f4a7c15ull + 1;
  fault[0] = 0;
  if ((int)block.fibers.size() < block.count) block.fibers.resize(block.count);
  if (const int ended = sigsetjmp(block.escape, 1)) {
    block.launching = false;
    return ended;
  }
  block.launching = true;
  Status status = OK;
  for (u32 i = 0; i < dims->block_count && status == OK; i++) {
    memcpy(block.index, dims->blocks + 3 * i, sizeof block.index);
    status = run_block();
  }
  if (dims->block_count) {
    block.launching = false;
    return status;
  }
  for (u32 z = 0; z < dims->grid[2] && status == OK; z++)
    for (u32 y = 0; y < dims->grid[1] && status == OK; y++)
      for (u32 x = 0; x < dims->grid[0] && status == OK; x++) {
        block.index[0] = x;
        block.index[1] = y;
        block.index[2] = z;
        status = run_block();
      }
  block.launching = false;
  return status;
}
