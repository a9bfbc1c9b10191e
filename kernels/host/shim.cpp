// The shim's machinery: fibers, meeting points, the matrix instructions, late copies, guarded memory. Nothing here knows a
// kernel. Every fiber is one CUDA thread; a launch runs its blocks one after another on the calling thread.
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
#include "shim.h"

#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <vector>

#if !defined(__x86_64__)
#error "the shim switches fibers with x86-64 instructions"
#endif

// Saves the callee-saved registers on the old stack, its pointer in *from, and goes on where the other stack left off.
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
const size_t SHARED_BYTES = 232448;            // What a Hopper block may have,
const size_t SHARED_PAGES = 57 * (size_t)4096;  // in whole pages.
const int WARP = 32;

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
  int left = 0;  // Threads that have not ended.
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
struct sigaction previous_segv, previous_ill;

// Pages between two that nobody may touch.
char *reserve(size_t bytes) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  const size_t inside = (bytes + page - 1) / page * page;
  char *whole = (char *)mmap(nullptr, inside + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (whole == MAP_FAILED) return nullptr;
  mprotect(whole + page, inside, PROT_READ | PROT_WRITE);
  return whole + page;
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
  if (!fiber.stack) fiber.stack = reserve(STACK_BYTES);
  // As if fiber_main had been called: an address to return to below six saved registers, the stack aligned as at a call.
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

// A barrier opens when every thread that has not ended stands at it.
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

// Lets one thread run up to where it waits or ends.
void take_turn(int index) {
  resume(index);
  if (block.fibers[index].state == DONE) block.left--;
}

// A round over all threads, in order, or from a random one and passing over some that could run: warps stay side by side.
bool round_of_threads() {
  bool moved = false;
  const int first = schedule_seed ? (int)(next_random() % block.count) : 0;
  for (int step = 0; step < block.count; step++) {
    const int index = (first + step) % block.count;
    if (block.fibers[index].state != READY) continue;
    moved = true;
    if (schedule_seed && next_random() % 4 == 0) continue;
    take_turn(index);
  }
  return moved;
}

// One warp after the other, each as far as it gets: as far apart as warps can be.
bool round_of_warps() {
  bool moved = false;
  const int warps = block.count / WARP, first = (int)(next_random() % warps);
  for (int step = 0; step < warps; step++) {
    const int base = (first + step) % warps * WARP;
    for (bool again = true; again;) {
      again = false;
      for (int index = base; index < base + WARP; index++) {
        if (block.fibers[index].state != READY) continue;
        take_turn(index);
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
  const bool by_warps = schedule_seed && schedule_seed % 2 == 0;
  while (block.left > 0) {
    const bool moved = by_warps ? round_of_warps() : round_of_threads();
    if (block.left > 0 && !moved && !open_barrier()) return STUCK;
  }
  return OK;
}

// Meets the other 31 lanes; the last to come does the work for all.
template <class Work>
void collective(void *mine, Work work) {
  Fiber &fiber = self();
  fiber.collective = mine;
  const int first = block.current / WARP * WARP;
  for (int lane = 0; lane < WARP; lane++) {
    const Fiber &other = block.fibers[first + lane];
    if (first + lane != block.current && other.state != AT_COLLECTIVE) {
      pause_fiber(AT_COLLECTIVE);
      return;
    }
  }
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

// A page that is nobody's, or what the compiler's checks run into: build.rs has them trap.
void on_fault(int signal, siginfo_t *info, void *context) {
  if (block.launching) siglongjmp(block.escape, signal == SIGILL ? UNDEFINED : OUT_OF_BOUNDS);
  const struct sigaction &previous = signal == SIGILL ? previous_ill : previous_segv;
  if (previous.sa_flags & SA_SIGINFO) return previous.sa_sigaction(signal, info, context);
  sigaction(signal, &previous, nullptr);
}

// Faults are taken on a stack of their own: the faulting one is a fiber's.
void prepare_thread() {
  if (block.shared) return;
  block.shared = reserve(SHARED_PAGES);
  stack_t stack = {};
  stack.ss_size = 64 << 10;
  stack.ss_sp = mmap(nullptr, stack.ss_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  sigaltstack(&stack, nullptr);
  static bool installed = [] {
    struct sigaction action = {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, &previous_segv);
    sigaction(SIGILL, &action, &previous_ill);
    return true;
  }();
  (void)installed;
}

}  // namespace

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
    float A[16][16], B[8][16];
    for (int lane = 0; lane < WARP; lane++) {
      const Cell &c = *(Cell *)all[lane];
      const int group = lane / 4, pair = 2 * (lane % 4);
      for (int r = 0; r < 4; r++)
        for (int half = 0; half < 2; half++)
          A[group + (r & 1) * 8][pair + (r >> 1) * 8 + half] = ph_float(c.a[r] >> (16 * half) << 16);
      for (int r = 0; r < 2; r++)
        for (int half = 0; half < 2; half++) B[group][pair + r * 8 + half] = ph_float(c.b[r] >> (16 * half) << 16);
    }
    for (int lane = 0; lane < WARP; lane++) {
      float *d = ((Cell *)all[lane])->d;
      for (int r = 0; r < 4; r++) {
        const float *row = A[lane / 4 + (r >> 1) * 8], *column = B[2 * (lane % 4) + (r & 1)];
        float sum = 0;
        for (int k = 0; k < 16; k++) sum += row[k] * column[k];
        d[r] += sum;
      }
    }
  });
}

static void land(const Copy &copy) {
  if (copy.there)
    memcpy(copy.to, copy.from, 16);
  else
    memset(copy.to, 0, 16);
}

// In order, every copy lands as late as it may; in a shuffled order some land at once, as they may too.
void ph_copy_async(void *shared, const void *global, bool there) {
  if ((u64)shared % 16 || (there && (u64)global % 16)) raise(SIGSEGV);  // As a misaligned copy does on the device.
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

/// The end of what a launch asked for is the end of the last page.
extern "C" void *ph_host_shared() { return block.shared + (SHARED_PAGES - block.dims.shared_bytes) / 16 * 16; }

/// 0 runs the threads of a block in order; an odd number is the seed of a shuffled order, an even one of an order of warps that
/// each run as far as they get.
extern "C" void ph_host_schedule(u64 seed) { schedule_seed = seed; }

/// Memory that ends at a page nobody may touch and starts behind another, filled with 0xff: NaN in every format.
extern "C" void *ph_host_allocate(u64 bytes) {
  const u64 page = (u64)sysconf(_SC_PAGESIZE);
  const u64 inside = (bytes + page - 1) / page * page;
  char *start = reserve(inside);
  if (!start) return nullptr;
  memset(start, 0xff, inside);
  return start + (inside - bytes) / 64 * 64;
}

extern "C" void ph_host_free(void *memory, u64 bytes) {
  const u64 page = (u64)sysconf(_SC_PAGESIZE);
  const u64 inside = (bytes + page - 1) / page * page;
  char *start = (char *)memory - (inside - bytes) / 64 * 64 - page;
  munmap(start, inside + 2 * page);
}

/// 0 done; 1 threads wait for each other for ever; 2 memory was touched that is nobody's; 3 the launch is larger than a device; 4 an
/// access at an address that is no multiple of its size, or something else that C++ does not define.
extern "C" int ph_host_launch(void (*body)(const void *), const void *args, const ph_dims *dims) {
  prepare_thread();
  if (dims->shared_bytes > SHARED_BYTES || dims->threads % WARP || dims->threads == 0) return 3;
  block.body = body;
  block.args = args;
  block.dims = *dims;
  block.count = (int)dims->threads;
  block.random = schedule_seed * 0x9e3779b97f4a7c15ull + 1;
  if ((int)block.fibers.size() < block.count) block.fibers.resize(block.count);
  if (const int fault = sigsetjmp(block.escape, 1)) {
    block.launching = false;
    return fault;
  }
  block.launching = true;
  Status status = OK;
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
