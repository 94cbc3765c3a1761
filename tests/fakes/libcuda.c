/* A libcuda.so.1 for the real pycuda and for ctypes on a machine without a GPU: what the harness calls, and no more.
 *
 * Device memory is host memory. Work is done when its stream is waited for, not before; what is copied may not change
 * until then. Captures are thread-local, and nothing is waited for or allocated in one. The context stack is the
 * driver's: a thread has its own, a release of the primary context pops nothing, and a context that was destroyed is
 * never valid again. Two kernels are known by name, those of `test_gpu.py`. What breaks a rule gets CUDA's error code and is counted; the first is kept (`fake_violation`).
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OK, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_CONTEXT = 201, INVALID_HANDLE = 400, NOT_READY = 600,
       CONTEXT_ACTIVE = 708, CONTEXT_IS_DESTROYED = 709, NOT_SUPPORTED = 801, CAPTURE_UNSUPPORTED = 900 };
enum kind { DEVICE = 1, PINNED, STREAM, EVENT, GRAPH, EXECUTABLE, MODULE };
enum work { TO_DEVICE, TO_HOST, RECORD, CALL, AFFINE, SPIN };

typedef struct { int alive; } context;
typedef struct { enum work what; char *to; const char *from; size_t size; struct object *event; void (*call)(void);
  uint64_t sum; struct object *graph; } job;
typedef struct { job *jobs; size_t count, room; } list;
typedef struct object {
  enum kind kind; context *owner; char *memory; size_t size; list waiting, captured; int mapped, capturing; double at;
  pthread_t capturer;
  struct object *next;
} object;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static context *primary;
static int holds, violations, broken, integrated, old;
static unsigned waits;
static long calls;
static double now;
static object *objects;
static char first[256];
static __thread context *stack[64];
static __thread int depth;

static int wrong(int code, const char *what) {
  if (!violations++) snprintf(first, sizeof first, "%s", what);
  return code;
}
static int current(const char *call) {
  char text[200];
  calls++;
  if (broken) return broken;
  if (depth && stack[depth - 1]->alive) return OK;
  snprintf(text, sizeof text, "%s with %s", call, depth ? "a context that was destroyed" : "no context in this thread");
  return wrong(depth ? CONTEXT_IS_DESTROYED : INVALID_CONTEXT, text);
}
#define CURRENT(call) do { int code_ = current(call); if (code_) return code_; } while (0)

static object *make(enum kind kind, size_t size) {
  object *made = calloc(1, sizeof *made);
  made->kind = kind, made->owner = stack[depth - 1], made->size = size;
  if (size) memset(made->memory = malloc(size), 255, size);
  pthread_mutex_lock(&lock);
  made->next = objects, objects = made;
  pthread_mutex_unlock(&lock);
  return made;
}
static object *known(const void *handle, enum kind kind) {
  for (object *each = objects; each; each = each->next)
    if (each == handle && each->kind == kind) return each;
  return NULL;
}
static object *holding(const char *address, size_t size, enum kind kind) {
  for (object *each = objects; each; each = each->next)
    if (each->kind == kind && address >= each->memory && address + size <= each->memory + each->size) return each;
  return NULL;
}
static object *reachable(const char *address, size_t size) { /* by a kernel */
  object *found = holding(address, size, DEVICE), *mapped = holding(address, size, PINNED);
  return found ? found : mapped && mapped->mapped ? mapped : NULL;
}
static int within(const char *address, const object *memory) {
  return memory->memory && address >= memory->memory && address < memory->memory + memory->size;
}
static int busy(const object *gone) { /* whether work that waits needs it; work of kernels may need any memory */
  for (object *each = objects; each; each = each->next)
    for (size_t i = 0; each->kind == STREAM && i < each->waiting.count; i++) {
      const job *one = &each->waiting.jobs[i];
      if (each == gone || one->event == gone || one->graph == gone) return 1;
      if (gone->memory && (one->what == CALL || within(one->to, gone) || within(one->from, gone))) return 1;
    }
  return 0;
}
static int capturing(void) { /* by this thread: captures are thread-local */
  for (object *each = objects; each; each = each->next)
    if (each->kind == STREAM && each->capturing && pthread_equal(each->capturer, pthread_self())) return 1;
  return 0;
}
static int drop(object *gone, const char *what) {
  CURRENT(what);
  if (!gone) return wrong(INVALID_HANDLE, what);
  if (busy(gone)) return wrong(INVALID_VALUE, what);
  pthread_mutex_lock(&lock);
  for (object **each = &objects; *each; each = &(*each)->next)
    if (*each == gone) { *each = gone->next; break; }
  pthread_mutex_unlock(&lock);
  if (gone->memory) memset(gone->memory, 254, gone->size), free(gone->memory);
  free(gone->waiting.jobs), free(gone->captured.jobs), free(gone);
  return OK;
}
static uint64_t sum(const char *from, size_t size) {
  uint64_t found = 14695981039346656037u;
  for (size_t i = 0; i < size; i++) found = (found ^ (uint8_t)from[i]) * 1099511628211u;
  return found;
}
static void add(list *to, job one) {
  if (to->count == to->room) to->jobs = realloc(to->jobs, (to->room = 2 * to->room + 4) * sizeof one);
  to->jobs[to->count++] = one;
}
static int submit(void *stream, job one) {
  object *queue = known(stream, STREAM);
  if (!queue) return wrong(INVALID_HANDLE, "work on a stream that does not exist, or on the default one");
  if (queue->capturing) {
    if (!capturing()) return wrong(CAPTURE_UNSUPPORTED, "work of another thread in a capture");
    if (one.what == RECORD) return wrong(INVALID_VALUE, "an event in a graph has no time");
    add(&queue->captured, one);
    return OK;
  }
  if (one.what == TO_HOST) memset(one.to, 255, one.size); /* nobody may read it before the stream is waited for */
  one.sum = one.what == TO_DEVICE ? sum(one.from, one.size) : 0;
  add(&queue->waiting, one);
  return OK;
}
static int copy_is_right(const job *one) {
  int up = one->what == TO_DEVICE;
  if (!holding(up ? one->from : one->to, one->size, PINNED)) return wrong(INVALID_VALUE, "a copy of pageable memory");
  if (!holding(up ? one->to : one->from, one->size, DEVICE)) return wrong(INVALID_VALUE, "a copy beyond the GPU's memory");
  return OK;
}
static int finish(object *queue) {
  for (size_t i = 0; i < queue->waiting.count; i++) {
    job one = queue->waiting.jobs[i];
    if (one.what == RECORD) { one.event->at = now; continue; }
    if (one.what == SPIN) { now += one.size / 1e6; continue; }
    now += 0.25;
    if (one.what == AFFINE) {
      if (!reachable(one.to, 4 * one.size) || !reachable(one.from, 4 * one.size))
        return wrong(INVALID_VALUE, "a kernel beyond the GPU's memory");
      for (size_t j = 0; j < one.size; j++) ((float *)one.to)[j] = 2 * ((const float *)one.from)[j] + 1;
      continue;
    }
    if (one.what == CALL) { one.call(); continue; }
    int code = copy_is_right(&one);
    if (code) return code;
    if (one.what == TO_DEVICE && sum(one.from, one.size) != one.sum)
      return wrong(INVALID_VALUE, "memory has changed while it was being copied");
    memcpy(one.to, one.from, one.size);
  }
  queue->waiting.count = 0;
  return OK;
}

/* What tests ask. */
void fake_break(int code) { broken = code; }
void fake_integrated(int yes) { integrated = yes; }
void fake_old(int yes) { old = yes; }
const char *fake_violation(void) { return first; }
int fake_depth(void) { return depth; }
int fake_holds(void) { return holds; }
long fake_calls(void) { return calls; }
int fake_objects(void) { int n = 0; for (object *each = objects; each; each = each->next) n++; return n; }
int fake_call(void *stream, void (*call)(void)) {
  CURRENT("a kernel");
  job one = {CALL, NULL, NULL, 0, NULL, call, 0, NULL};
  return submit(stream, one);
}

int cuInit(unsigned flags) { (void)flags; return OK; }
int cuDriverGetVersion(int *version) { *version = 13000; return OK; }
int cuGetErrorName(int code, const char **text) {
  *text = code == CAPTURE_UNSUPPORTED ? "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED" : code == INVALID_CONTEXT
        ? "CUDA_ERROR_INVALID_CONTEXT" : "CUDA_ERROR_OF_ANOTHER_KIND";
  return OK;
}
int cuGetErrorString(int code, const char **text) { return cuGetErrorName(code, text); }
int cuDeviceGetCount(int *count) { *count = 1; return OK; }
int cuDeviceGet(int *device, int index) { *device = index; return index ? INVALID_VALUE : OK; }
int cuDeviceGetName(char *name, int length, int device) { (void)device; snprintf(name, length, "Paper GPU"); return OK; }
int cuDeviceGetPCIBusId(char *id, int length, int device) {
    (void)device; snprintf(id, length, "0000:3B:00.0"); return OK;
}
int cuDeviceTotalMem_v2(size_t *bytes, int device) { (void)device; *bytes = (size_t)8 << 30; return OK; }
int cuDeviceGetAttribute(int *value, int which, int device) {
  (void)device;
  *value = which == 75 ? 8 : which == 76 ? 6 : which == 16 ? 28 : which == 18 ? integrated : which == 19;
  return OK;
}

int cuDevicePrimaryCtxRetain(context **found, int device) {
  (void)device;
  if (!holds++) (primary = calloc(1, sizeof *primary))->alive = 1; /* never freed: a stale one must be told apart */
  *found = primary;
  return OK;
}
int cuDevicePrimaryCtxRelease_v2(int device) {
  (void)device;
  if (!holds) return wrong(INVALID_CONTEXT, "the primary context is released more often than it was retained");
  if (--holds) return OK;
  if (objects) wrong(OK, "the primary context is destroyed before what is on it");
  primary->alive = 0;
  return OK;
}
int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) {
  (void)device;
  *flags = waits, *active = holds > 0;
  return OK;
}
int cuDevicePrimaryCtxSetFlags_v2(int device, unsigned flags) {
  (void)device;
  if (holds && old) return CONTEXT_ACTIVE;
  if ((flags & 7) == 3 || (flags & 7) > 4) return wrong(INVALID_VALUE, "more than one way to wait");
  waits = flags;
  return OK;
}
int cuCtxGetCurrent(context **found) { *found = depth ? stack[depth - 1] : NULL; return OK; }
int cuCtxPushCurrent_v2(context *one) {
  calls++;
  if (broken) return broken;
  if (!one->alive) return wrong(CONTEXT_IS_DESTROYED, "a context that was destroyed is pushed");
  stack[depth++] = one;
  return OK;
}
int cuCtxPopCurrent_v2(context **popped) {
  calls++;
  if (!depth) return wrong(INVALID_CONTEXT, "a context is popped off an empty stack");
  if (!stack[depth - 1]->alive) return wrong(CONTEXT_IS_DESTROYED, "a context is popped after it was destroyed");
  *popped = stack[--depth];
  return OK;
}

int cuMemAlloc_v2(char **address, size_t size) {
  CURRENT("cuMemAlloc");
  if (capturing()) return wrong(CAPTURE_UNSUPPORTED, "memory is asked for during a capture");
  if (size >> 33) return OUT_OF_MEMORY;
  *address = make(DEVICE, size)->memory;
  return OK;
}
int cuMemFree_v2(char *address) { return drop(holding(address, 1, DEVICE), "cuMemFree"); }
int cuMemGetInfo_v2(size_t *free_bytes, size_t *total) {
  CURRENT("cuMemGetInfo");
  *free_bytes = *total = (size_t)8 << 30;
  for (object *each = objects; each; each = each->next)
    if (each->kind == DEVICE) *free_bytes -= each->size;
  return OK;
}
int cuMemHostAlloc(void **address, size_t size, unsigned flags) {
  CURRENT("cuMemHostAlloc");
  if (capturing()) return wrong(CAPTURE_UNSUPPORTED, "memory is asked for during a capture");
  object *made = make(PINNED, size);
  made->mapped = flags & 2, *address = made->memory;
  return OK;
}
int cuMemHostGetDevicePointer_v2(char **address, char *memory, unsigned flags) {
  CURRENT("cuMemHostGetDevicePointer");
  object *pinned = holding(memory, 1, PINNED);
  if (!pinned || !pinned->mapped || flags) return wrong(INVALID_VALUE, "the address of memory that is not mapped");
  *address = memory;
  return OK;
}
int cuMemFreeHost(void *address) { return drop(holding(address, 1, PINNED), "cuMemFreeHost"); }
int cuMemcpyHtoDAsync_v2(char *to, const void *from, size_t size, void *stream) {
  job one = {TO_DEVICE, to, from, size, NULL, NULL, 0, NULL};
  CURRENT("cuMemcpyHtoDAsync");
  int code = copy_is_right(&one);
  return code ? code : submit(stream, one);
}
int cuMemcpyDtoHAsync_v2(void *to, const char *from, size_t size, void *stream) {
  job one = {TO_HOST, to, from, size, NULL, NULL, 0, NULL};
  CURRENT("cuMemcpyDtoHAsync");
  int code = copy_is_right(&one);
  return code ? code : submit(stream, one);
}

int cuStreamCreate(object **stream, unsigned flags) {
  CURRENT("cuStreamCreate");
  if (flags != 1) return wrong(INVALID_VALUE, "a stream that waits for the default one");
  *stream = make(STREAM, 0);
  return OK;
}
int cuStreamDestroy_v2(object *stream) { return drop(known(stream, STREAM), "cuStreamDestroy"); }
int cuStreamSynchronize(object *stream) {
  CURRENT("cuStreamSynchronize");
  if (!known(stream, STREAM)) return wrong(INVALID_HANDLE, "waiting for a stream that does not exist");
  if (stream->capturing || capturing()) return wrong(CAPTURE_UNSUPPORTED, "waiting for a stream during a capture");
  return finish(stream);
}
int cuStreamBeginCapture_v2(object *stream, int mode) {
  CURRENT("cuStreamBeginCapture");
  if (!known(stream, STREAM) || stream->capturing) return wrong(INVALID_HANDLE, "cuStreamBeginCapture");
  if (mode != 1) return wrong(INVALID_VALUE, "a capture that other threads spoil");
  if (capturing()) return wrong(CAPTURE_UNSUPPORTED, "a capture within a capture");
  stream->capturing = 1, stream->captured.count = 0, stream->capturer = pthread_self();
  return OK;
}
int cuStreamEndCapture(object *stream, object **graph) {
  CURRENT("cuStreamEndCapture");
  if (!known(stream, STREAM) || !stream->capturing) return wrong(INVALID_HANDLE, "cuStreamEndCapture");
  stream->capturing = 0;
  *graph = make(GRAPH, 0);
  for (size_t i = 0; i < stream->captured.count; i++) add(&(*graph)->captured, stream->captured.jobs[i]);
  return OK;
}
int cuGraphInstantiateWithFlags(object **executable, object *graph, unsigned long long flags) {
  CURRENT("cuGraphInstantiate");
  if (!known(graph, GRAPH) || flags) return wrong(INVALID_HANDLE, "cuGraphInstantiate");
  *executable = make(EXECUTABLE, 0);
  for (size_t i = 0; i < graph->captured.count; i++) add(&(*executable)->captured, graph->captured.jobs[i]);
  return OK;
}
int cuGraphDestroy(object *graph) { return drop(known(graph, GRAPH), "cuGraphDestroy"); }
int cuGraphExecDestroy(object *executable) { return drop(known(executable, EXECUTABLE), "cuGraphExecDestroy"); }
int cuGraphLaunch(object *executable, object *stream) {
  CURRENT("cuGraphLaunch");
  if (!known(executable, EXECUTABLE)) return wrong(INVALID_HANDLE, "a graph that does not exist is launched");
  for (size_t i = 0; i < executable->captured.count; i++) {
    job one = executable->captured.jobs[i];
    one.graph = executable;
    int code = submit(stream, one);
    if (code) return code;
  }
  return OK;
}

int cuModuleLoadDataEx(object **module, const void *image, unsigned count, int *options, void **values) {
  (void)count, (void)options, (void)values;
  CURRENT("cuModuleLoadData");
  if (!strstr(image, ".visible .entry")) return wrong(INVALID_VALUE, "PTX without a kernel");
  *module = make(MODULE, 0);
  return OK;
}
int cuModuleLoadData(object **module, const void *image) { return cuModuleLoadDataEx(module, image, 0, NULL, NULL); }
int cuModuleUnload(object *module) { return drop(known(module, MODULE), "cuModuleUnload"); }
int cuModuleGetFunction(char **function, object *module, const char *name) {
  static char names[2][8] = {"affine", "spin"};
  if (!known(module, MODULE)) return wrong(INVALID_HANDLE, "cuModuleGetFunction");
  for (int i = 0; i < 2; i++) if (!strcmp(name, names[i])) { *function = names[i]; return OK; }
  return INVALID_VALUE;
}
int cuFuncSetBlockShape(void *function, int x, int y, int z) { return !function || x * y * z < 1; }
int cuLaunchKernel(const char *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void *stream, void **parameters, void **extra) {
  (void)gy, (void)gz, (void)by, (void)bz, (void)shared;
  job one = {SPIN, NULL, NULL, 0, NULL, NULL, 0, NULL};
  CURRENT("cuLaunchKernel");
  if (parameters || !extra || extra[0] != (void *)1) return wrong(INVALID_VALUE, "cuLaunchKernel without a buffer");
  const char *buffer = extra[1];
  if (!strcmp(function, "affine")) {
    unsigned count;
    one.what = AFFINE;
    memcpy(&one.to, buffer, 8), memcpy(&one.from, buffer + 8, 8), memcpy(&count, buffer + 16, 4);
    if ((size_t)gx * bx < count) return wrong(INVALID_VALUE, "a grid that is too small");
    one.size = count;
  } else memcpy(&one.size, buffer, 8);
  return submit(stream, one);
}

int cuEventCreate(object **event, unsigned flags) {
  CURRENT("cuEventCreate");
  if (flags) return wrong(INVALID_VALUE, "an event that takes no time, or blocks");
  *event = make(EVENT, 0);
  (*event)->at = -1;
  return OK;
}
int cuEventDestroy_v2(object *event) { return drop(known(event, EVENT), "cuEventDestroy"); }
int cuEventRecord(object *event, void *stream) {
  job one = {RECORD, NULL, NULL, 0, event, NULL, 0, NULL};
  CURRENT("cuEventRecord");
  if (!known(event, EVENT)) return wrong(INVALID_HANDLE, "cuEventRecord");
  event->at = -1;
  return submit(stream, one);
}
int cuEventElapsedTime(float *milliseconds, object *begun, object *ended) {
  if (!known(begun, EVENT) || !known(ended, EVENT)) return wrong(INVALID_HANDLE, "cuEventElapsedTime");
  if (begun->at < 0 || ended->at < 0) return NOT_READY;
  *milliseconds = (float)(ended->at - begun->at);
  return OK;
}
int cuEventElapsedTime_v2(float *milliseconds, object *begun, object *ended) {
  return cuEventElapsedTime(milliseconds, begun, ended);
}
