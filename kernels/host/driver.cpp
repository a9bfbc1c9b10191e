// A stand-in for NVIDIA's driver, NVRTC and cuDNN, so that tests can run crates/engine/src/device/cuda/driver.rs without a GPU.
// Tests build it as libcuda.so.1, libnvrtc.so.13 and libcudnn.so.9 and start programs that find it first. The kernels run through
// the shim: POLYHEAD_STAND_IN_16 and POLYHEAD_STAND_IN_32 name the libraries that host/build.rs built from them.
//
// Work on a stream runs as late as the driver's manual allows, when something waits for it. That includes copies out of pageable
// memory, for which the manual only says that the driver may read the memory before the call returns.
//
// POLYHEAD_STAND_IN_FAULT names a kernel that accesses an illegal address. As on a GPU, the next call that waits reports the
// error, and every call after that fails. POLYHEAD_STAND_IN_CUDNN is the status with which cuDNN refuses to compute.
// POLYHEAD_STAND_IN_LOG names a file that gets a line for every attribute that is set.
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
#include "shim.h"

namespace {

enum Result {
  SUCCESS = 0,
  INVALID_VALUE = 1,
  OUT_OF_MEMORY = 2,
  NOT_FOUND = 500,
  ILLEGAL_ADDRESS = 700,
  MISALIGNED_ADDRESS = 716,
  LAUNCH_FAILED = 719,
  CAPTURE_UNSUPPORTED = 900,
};

typedef std::function<void()> Work;

struct Graph {
  std::vector<Work> work;
};

struct Stream {
  std::deque<Work> waiting;
  u64 given = 0, done = 0;
  Graph *recording = nullptr;
};

struct Event {
  Stream *stream = nullptr;
  u64 given = 0;  // The amount of work given to the stream so far, including this event.
  double milliseconds = 0;
};

struct Function {
  std::string name;
  int (*run)(const void *, const ph_dims *);
  u64 argument_bytes;
  int shared_bytes;
};

std::recursive_mutex everything;
Result fatal = SUCCESS;  // An error after which every call fails.
std::map<u64, u64> allocated;
std::map<void *, size_t> pinned;
std::map<std::pair<void *, std::string>, Function> functions;
std::vector<Stream *> streams;

// The library of kernels for activations of `bits` bits.
void *kernels(int bits) {
  const char *path = getenv(bits == 16 ? "POLYHEAD_STAND_IN_16" : "POLYHEAD_STAND_IN_32");
  return path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : nullptr;
}

// A function of the shim, which is the same in both libraries.
template <class F>
F *shim(const char *name) {
  static void *library = kernels(16) ? kernels(16) : kernels(32);
  return (F *)dlsym(library, name);
}

void run_until(Stream *stream, u64 given) {
  while (stream->done < given) {
    Work work = std::move(stream->waiting.front());
    stream->waiting.pop_front();
    stream->done++;
    if (fatal == SUCCESS) work();
  }
}

void run_all() {
  for (Stream *stream : streams) run_until(stream, stream->given);
}

Result give(Stream *stream, Work work) {
  if (fatal != SUCCESS) return fatal;
  if (stream->recording) {
    stream->recording->work.push_back(std::move(work));
  } else {
    stream->waiting.push_back(std::move(work));
    stream->given++;
  }
  return SUCCESS;
}

void log_line(const std::string &line) {
  const char *path = getenv("POLYHEAD_STAND_IN_LOG");
  FILE *file = path ? fopen(path, "a") : nullptr;
  if (!file) return;
  fprintf(file, "%s\n", line.c_str());
  fclose(file);
}

double now() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return 1e3 * (double)time.tv_sec + 1e-6 * (double)time.tv_nsec;
}

void run_kernel(const Function &function, const std::vector<char> &arguments, const ph_dims &dims) {
  const char *fault = getenv("POLYHEAD_STAND_IN_FAULT");
  if (fault && function.name == fault) {
    fatal = ILLEGAL_ADDRESS;
    return;
  }
  switch (function.run(arguments.data(), &dims)) {
    case 0: break;
    case 2: fatal = ILLEGAL_ADDRESS; break;
    case 4: fatal = MISALIGNED_ADDRESS; break;
    default: fatal = LAUNCH_FAILED;
  }
}

}  // namespace

#define API extern "C" __attribute__((visibility("default"))) int
#define ALONE std::lock_guard<std::recursive_mutex> alone(everything)

API cuInit(u32) { return kernels(16) || kernels(32) ? SUCCESS : NOT_FOUND; }
API cuDeviceGetCount(int *count) {
  *count = 1;
  return SUCCESS;
}
API cuDeviceGet(int *device, int) {
  *device = 0;
  return SUCCESS;
}
API cuDeviceGetName(char *name, int bytes, int) {
  snprintf(name, (size_t)bytes, "a stand-in");
  return SUCCESS;
}
API cuDeviceTotalMem_v2(size_t *bytes, int) {
  *bytes = (size_t)4 << 30;
  return SUCCESS;
}
// An H200's attributes, except for the number of multiprocessors: a small network must be able to fill them.
API cuDeviceGetAttribute(int *value, int attribute, int) {
  switch (attribute) {
    case 16: *value = 2; break;         // multiprocessors
    case 38: *value = 60 << 20; break;  // bytes of L2
    case 39: *value = 2048; break;      // threads per multiprocessor
    case 75: *value = 9; break;         // compute capability, major
    case 76: *value = 0; break;         // compute capability, minor
    case 81: *value = 233472; break;    // shared memory per multiprocessor
    case 97: *value = 232448; break;    // shared memory per block, at most
    case 111: *value = 1024; break;     // shared memory per block reserved by the system
    default: return INVALID_VALUE;
  }
  return SUCCESS;
}
API cuDevicePrimaryCtxRetain(void **context, int) {
  *context = &everything;
  return SUCCESS;
}
API cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
API cuCtxSetCurrent(void *) { return SUCCESS; }

API cuGetErrorName(int error, const char **name) {
  switch (error) {
    case INVALID_VALUE: *name = "CUDA_ERROR_INVALID_VALUE"; break;
    case OUT_OF_MEMORY: *name = "CUDA_ERROR_OUT_OF_MEMORY"; break;
    case NOT_FOUND: *name = "CUDA_ERROR_NOT_FOUND"; break;
    case ILLEGAL_ADDRESS: *name = "CUDA_ERROR_ILLEGAL_ADDRESS"; break;
    case MISALIGNED_ADDRESS: *name = "CUDA_ERROR_MISALIGNED_ADDRESS"; break;
    case LAUNCH_FAILED: *name = "CUDA_ERROR_LAUNCH_FAILED"; break;
    case CAPTURE_UNSUPPORTED: *name = "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"; break;
    default: return INVALID_VALUE;
  }
  return SUCCESS;
}
API cuGetErrorString(int error, const char **words) {
  *words = error == ILLEGAL_ADDRESS ? "an illegal memory access was encountered" : "an error of the stand-in";
  return SUCCESS;
}

API cuMemGetInfo_v2(size_t *free, size_t *total) {
  *free = *total = (size_t)4 << 30;
  return SUCCESS;
}
API cuMemAlloc_v2(u64 *address, size_t bytes) {
  ALONE;
  if (fatal != SUCCESS) return fatal;
  *address = (u64)shim<void *(u64)>("ph_host_allocate")(bytes);
  if (!*address) return OUT_OF_MEMORY;
  allocated[*address] = bytes;
  return SUCCESS;
}
API cuMemFree_v2(u64 address) {
  ALONE;
  run_all();
  shim<void(void *)>("ph_host_free")((void *)address);
  allocated.erase(address);
  return fatal;
}
API cuMemHostAlloc(void **start, size_t bytes, u32) {
  ALONE;
  *start = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (*start == MAP_FAILED) return OUT_OF_MEMORY;
  pinned[*start] = bytes;
  return SUCCESS;
}
// An access after this is a fault.
API cuMemFreeHost(void *start) {
  ALONE;
  munmap(start, pinned[start]);
  pinned.erase(start);
  return SUCCESS;
}
API cuMemsetD8Async(u64 to, unsigned char value, size_t bytes, Stream *stream) {
  ALONE;
  return give(stream, [=] { memset((void *)to, value, bytes); });
}
API cuMemcpyHtoDAsync_v2(u64 to, const void *from, size_t bytes, Stream *stream) {
  ALONE;
  return give(stream, [=] { memcpy((void *)to, from, bytes); });
}
API cuMemcpyDtoHAsync_v2(void *to, u64 from, size_t bytes, Stream *stream) {
  ALONE;
  return give(stream, [=] { memcpy(to, (const void *)from, bytes); });
}
API cuMemcpyDtoDAsync_v2(u64 to, u64 from, size_t bytes, Stream *stream) {
  ALONE;
  return give(stream, [=] { memcpy((void *)to, (const void *)from, bytes); });
}

API cuStreamCreate(Stream **stream, u32) {
  ALONE;
  streams.push_back(*stream = new Stream);
  return fatal;
}
API cuStreamDestroy_v2(Stream *stream) {
  ALONE;
  run_all();
  for (size_t i = 0; i < streams.size(); i++)
    if (streams[i] == stream) streams.erase(streams.begin() + (long)i--);
  delete stream;
  return fatal;
}
API cuStreamSynchronize(Stream *stream) {
  ALONE;
  if (stream->recording) return CAPTURE_UNSUPPORTED;
  run_until(stream, stream->given);
  return fatal;
}
API cuStreamWaitEvent(Stream *stream, Event *event, u32) {
  ALONE;
  Stream *other = event->stream;
  const u64 given = event->given;
  return other ? give(stream, [=] { run_until(other, given); }) : fatal;
}

API cuEventCreate(Event **event, u32) {
  *event = new Event;
  return SUCCESS;
}
API cuEventDestroy_v2(Event *event) {
  ALONE;
  if (event->stream) run_until(event->stream, event->given);
  delete event;
  return fatal;
}
API cuEventRecord(Event *event, Stream *stream) {
  ALONE;
  if (stream->recording) return CAPTURE_UNSUPPORTED;
  const Result given = (Result)give(stream, [=] { event->milliseconds = now(); });
  event->stream = stream;
  event->given = stream->given;
  return given;
}
API cuEventSynchronize(Event *event) {
  ALONE;
  if (event->stream) run_until(event->stream, event->given);
  return fatal;
}
API cuEventElapsedTime_v2(float *milliseconds, Event *from, Event *to) {
  ALONE;
  *milliseconds = (float)(to->milliseconds - from->milliseconds);
  return fatal;
}

// The machine code is just the number of bits that the kernels were compiled for.
API cuModuleLoadData(void **module, const char *image) {
  ALONE;
  *module = kernels(atoi(image));
  return *module ? fatal : NOT_FOUND;
}
API cuModuleUnload(void *) { return SUCCESS; }
API cuModuleGetFunction(Function **function, void *module, const char *name) {
  ALONE;
  auto *run = (int (*)(const void *, const ph_dims *))dlsym(module, name);
  auto *bytes = (u64(*)())dlsym(module, (std::string(name) + "_argument_bytes").c_str());
  if (!run || !bytes) return NOT_FOUND;
  const Function found = {name, run, bytes(), 48 << 10};
  *function = &functions.emplace(std::make_pair(module, std::string(name)), found).first->second;
  return fatal;
}
API cuFuncSetAttribute(Function *function, int attribute, int value) {
  ALONE;
  switch (attribute) {
    case 8:
      function->shared_bytes = value;
      log_line("shared_bytes " + function->name + " " + std::to_string(value));
      return fatal;
    case 9: log_line("carveout " + function->name + " " + std::to_string(value)); return fatal;
    default: return INVALID_VALUE;
  }
}
// The arguments are copied before the call returns, as the manual says.
API cuLaunchKernel(Function *function, u32 x, u32 y, u32 z, u32 threads, u32, u32, u32 shared_bytes, Stream *stream,
                   void **parameters, void **) {
  ALONE;
  if ((int)shared_bytes > function->shared_bytes) return INVALID_VALUE;
  const char *start = (const char *)parameters[0];
  const std::vector<char> arguments(start, start + function->argument_bytes);
  const ph_dims dims = {{x, y, z}, threads, shared_bytes, 0, nullptr};
  return give(stream, [=] { run_kernel(*function, arguments, dims); });
}

API cuStreamBeginCapture_v2(Stream *stream, int) {
  ALONE;
  stream->recording = new Graph;
  return fatal;
}
API cuStreamEndCapture(Stream *stream, Graph **graph) {
  ALONE;
  *graph = stream->recording;
  stream->recording = nullptr;
  return fatal;
}
API cuGraphInstantiateWithFlags(Graph **executable, Graph *graph, u64) {
  *executable = new Graph(*graph);
  return fatal;
}
API cuGraphLaunch(Graph *executable, Stream *stream) {
  ALONE;
  Result result = fatal;
  for (const Work &work : executable->work) result = give(stream, work);
  return result;
}
API cuGraphExecDestroy(Graph *executable) {
  delete executable;
  return SUCCESS;
}
API cuGraphDestroy(Graph *graph) {
  delete graph;
  return SUCCESS;
}

// NVRTC: every text compiles successfully.
API nvrtcVersion(int *major, int *minor) {
  *major = 13;
  *minor = 0;
  return 0;
}
API nvrtcCreateProgram(int **program, const char *, const char *, int, const char *const *, const char *const *) {
  *program = new int(0);
  return 0;
}
API nvrtcCompileProgram(int *program, int count, const char *const *options) {
  const std::string bits = "-DPH_ACTIVATION_BITS=";
  for (int i = 0; i < count; i++)
    if (options[i] == bits + "16" || options[i] == bits + "32") *program = atoi(options[i] + bits.size());
  return 0;
}
API nvrtcGetProgramLogSize(int *, size_t *bytes) {
  *bytes = 1;
  return 0;
}
API nvrtcGetProgramLog(int *, char *log) {
  *log = 0;
  return 0;
}
API nvrtcGetCUBINSize(int *, size_t *bytes) {
  *bytes = 3;
  return 0;
}
API nvrtcGetCUBIN(int *program, char *cubin) {
  snprintf(cubin, 3, "%d", *program);
  return 0;
}
API nvrtcDestroyProgram(int **program) {
  delete *program;
  return 0;
}

// cuDNN: plans everything and computes nothing.
extern "C" __attribute__((visibility("default"))) size_t cudnnGetVersion() { return 91900; }

struct Performance {
  int algorithm, status;
  float milliseconds;
  size_t workspace_bytes;
  int is_deterministic, arithmetic, reserved[3];
};

static int plan(int *found, Performance *performance) {
  *found = 1;
  *performance = {1, SUCCESS, 1.0f, 0, 1, 1, {0, 0, 0}};
  return SUCCESS;
}

static int compute() {
  const char *status = getenv("POLYHEAD_STAND_IN_CUDNN");
  return status ? atoi(status) : SUCCESS;
}

#define HANDLE(name) \
  API cudnnCreate##name(void **handle) { \
    *handle = &everything; \
    return SUCCESS; \
  } \
  API cudnnDestroy##name(void *) { return SUCCESS; }
HANDLE()
HANDLE(TensorDescriptor)
HANDLE(FilterDescriptor)
HANDLE(ConvolutionDescriptor)

API cudnnSetStream(...) { return SUCCESS; }
API cudnnSetTensor4dDescriptor(...) { return SUCCESS; }
API cudnnSetFilter4dDescriptor(...) { return SUCCESS; }
API cudnnSetConvolution2dDescriptor(...) { return SUCCESS; }
API cudnnSetConvolutionMathType(...) { return SUCCESS; }
API cudnnConvolutionForward(...) { return compute(); }
API cudnnConvolutionBackwardData(...) { return compute(); }
API cudnnConvolutionBackwardFilter(...) { return compute(); }

#define PLAN(name) \
  API cudnnGetConvolution##name##Algorithm_v7(void *, void *, void *, void *, void *, int, int *found, Performance *p) { \
    return plan(found, p); \
  }
PLAN(Forward)
PLAN(BackwardData)
PLAN(BackwardFilter)
