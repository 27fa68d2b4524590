// A fake of libcuda.so.1 and libnvidia-ml.so.1 for tests: the functions that thaw-cuda calls, and no GPU. README.md says
// what is imitated. No number from it means anything.

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "device.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

struct FakeGpu {
  char uuid[48];
  unsigned minor;
  unsigned long long bytes;
  unsigned mig, persistence, vgpu;
  char name[64];
};

struct Uuid {
  unsigned char bytes[16];
};
struct Pair {
  Uuid from, to;
};

std::string PathOf(const char* name) {
  const char* const directory = getenv("THAW_FAKE_CUDA");
  return std::string(directory ? directory : "/nonexistent") + "/" + name;
}

std::string Read(const std::string& path) {
  std::string text;
  char part[4096];
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return text;
  for (ssize_t size; (size = read(fd, part, sizeof part)) > 0;) text.append(part, static_cast<size_t>(size));
  close(fd);
  return text;
}

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t at = 0, end; (end = text.find('\n', at)) != std::string::npos; at = end + 1) lines.push_back(text.substr(at, end - at));
  return lines;
}

// UUID MINOR BYTES MIG PERSISTENCE VGPU NAME, a line each.
std::vector<FakeGpu> Gpus() {
  std::vector<FakeGpu> gpus;
  for (const std::string& line : Lines(Read(PathOf("gpus")))) {
    FakeGpu gpu{};
    if (sscanf(line.c_str(), "%47s %u %llu %u %u %u %63[^\n]", gpu.uuid, &gpu.minor, &gpu.bytes, &gpu.mig, &gpu.persistence, &gpu.vgpu,
               gpu.name) == 7)
      gpus.push_back(gpu);
  }
  return gpus;
}

// Writes down the call and looks for its fault: "FUNCTION SKIP TIMES RESULT" concerns the calls after the first SKIP ones.
// The log is what counts, so that it holds over several processes. -1: none.
int Fault(const char* function, int pid) {
  const int fd = open(PathOf("log").c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (fd < 0) return -1;
  flock(fd, LOCK_EX);
  int calls = 1;
  for (const std::string& line : Lines(Read(PathOf("log")))) calls += line.rfind(std::string(function) + ' ', 0) == 0;
  const std::string entry = std::string(function) + ' ' + std::to_string(pid) + '\n';
  if (write(fd, entry.data(), entry.size()) < 0) calls = 0;
  close(fd);
  for (const std::string& line : Lines(Read(PathOf("faults")))) {
    char name[32] = {}, result[16] = {};
    int skip = 0, times = 0;
    if (sscanf(line.c_str(), "%31s %d %d %15s", name, &skip, &times, result) != 4 || strcmp(name, function) != 0) continue;
    if (calls <= skip || calls > skip + times) continue;
    if (strcmp(result, "hang") == 0)
      for (;;) pause();
    if (strcmp(result, "crash") == 0) raise(SIGSEGV);
    if (strcmp(result, "die") == 0) kill(pid, SIGKILL), usleep(100000);
    else return atoi(result);
  }
  return -1;
}

class Process {
 public:
  explicit Process(int pid) : fd_(open(("/proc/" + std::to_string(pid) + "/mem").c_str(), O_RDWR | O_CLOEXEC)) {}
  ~Process() {
    if (fd_ >= 0) close(fd_);
  }
  Process(const Process&) = delete;

  Result Find(Cell* cell) const {
    if (fd_ < 0) return kOperatingSystem;
    if (pread(fd_, cell, sizeof *cell, kCellAddress) != sizeof *cell || cell->magic != kMagic) return kNotInitialized;
    return kSuccess;
  }

  template <typename Value>
  bool Put(size_t offset, const Value& value) const {
    return pwrite(fd_, &value, sizeof value, static_cast<off_t>(kCellAddress + offset)) == sizeof value;
  }

  Result Ask(Operation operation, uint32_t timeout_ms, Cell* cell) const {
    if (const Result result = Find(cell)) return result;
    const uint32_t request = cell->request + 1;
    if (!Put(offsetof(Cell, operation), operation) || !Put(offsetof(Cell, timeout_ms), timeout_ms) || !Put(offsetof(Cell, request), request))
      return kOperatingSystem;
    for (;; usleep(1000)) {
      if (Find(cell) != kSuccess) return kOperatingSystem;
      if (cell->answered == request) return static_cast<Result>(cell->result);
    }
  }

 private:
  const int fd_;
};

int Run(const char* function, int pid, Operation operation, uint32_t timeout_ms = 0) {
  if (const int fault = Fault(function, pid); fault >= 0) return fault;
  Cell cell;
  return Process(pid).Ask(operation, timeout_ms, &cell);
}

Uuid Parse(const char* text) {
  Uuid uuid{};
  size_t at = 0;
  for (text += 4; *text && at < 32; text++) {
    if (*text == '-') continue;
    const int value = *text <= '9' ? *text - '0' : *text - 'a' + 10;
    uuid.bytes[at / 2] = static_cast<unsigned char>(at % 2 == 0 ? value << 4 : uuid.bytes[at / 2] | value);
    at++;
  }
  return uuid;
}

bool Same(const Uuid& a, const Uuid& b) { return memcmp(&a, &b, sizeof a) == 0; }

const FakeGpu* FindGpu(const std::vector<FakeGpu>& gpus, const Uuid& uuid) {
  for (const FakeGpu& gpu : gpus)
    if (Same(Parse(gpu.uuid), uuid)) return &gpu;
  return nullptr;
}

// How often the driver was started.
__attribute__((constructor)) void Loaded() {
  const int fd = open(PathOf("starts").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (fd < 0) return;
  const std::string entry = std::to_string(getpid()) + '\n';
  if (write(fd, entry.data(), entry.size()) < 0) unlink(PathOf("starts").c_str());
  close(fd);
}

}  // namespace

EXPORT int cuDriverGetVersion(int* version) {
  *version = 13000;
  return kSuccess;
}

EXPORT int cuGetErrorName(int result, const char** name) {
  switch (result) {
    case kInvalidValue: *name = "CUDA_ERROR_INVALID_VALUE"; return kSuccess;
    case kOutOfMemory: *name = "CUDA_ERROR_OUT_OF_MEMORY"; return kSuccess;
    case kNotInitialized: *name = "CUDA_ERROR_NOT_INITIALIZED"; return kSuccess;
    case kOperatingSystem: *name = "CUDA_ERROR_OPERATING_SYSTEM"; return kSuccess;
    case kIllegalState: *name = "CUDA_ERROR_ILLEGAL_STATE"; return kSuccess;
    case kNotReady: *name = "CUDA_ERROR_NOT_READY"; return kSuccess;
    case kNotSupported: *name = "CUDA_ERROR_NOT_SUPPORTED"; return kSuccess;
    default: return kInvalidValue;
  }
}

EXPORT int cuCheckpointProcessGetState(int pid, int* state) {
  if (const int fault = Fault("state", pid); fault >= 0) return fault;
  Cell cell;
  const Result result = Process(pid).Ask(kState, 0, &cell);
  if (result == kSuccess) *state = static_cast<int>(cell.state);
  return result;
}

// Answers for a stopped process too.
EXPORT int cuCheckpointProcessGetRestoreThreadId(int pid, int* tid) {
  if (const int fault = Fault("thread", pid); fault >= 0) return fault;
  Cell cell;
  const Result result = Process(pid).Find(&cell);
  if (result == kSuccess) *tid = pid + 1;
  return result;
}

EXPORT int cuCheckpointProcessLock(int pid, const uint32_t* arguments) { return Run("lock", pid, kLock, arguments[0]); }

EXPORT int cuCheckpointProcessCheckpoint(int pid, void*) { return Run("checkpoint", pid, kCheckpoint); }

EXPORT int cuCheckpointProcessUnlock(int pid, void*) { return Run("unlock", pid, kUnlock); }

EXPORT int cuCheckpointProcessRestore(int pid, void* arguments) {
  const int fault = Fault("restore", pid);
  if (fault == kOutOfMemory) Process(pid).Put(offsetof(Cell, stuck), uint32_t{1});
  if (fault >= 0) return fault;
  const Process process(pid);
  Cell cell;
  if (const Result result = process.Find(&cell)) return result;
  const Pair* pairs = nullptr;
  uint32_t count = 0;
  memcpy(&pairs, arguments, sizeof pairs);
  memcpy(&count, static_cast<char*>(arguments) + 8, sizeof count);
  const std::vector<FakeGpu> gpus = Gpus();
  Uuid target = Parse(cell.gpu);
  bool mapped = count == 0;
  for (uint32_t at = 0; at < count; at++)
    if (Same(pairs[at].from, Parse(cell.gpu))) {
      target = pairs[at].to;
      mapped = true;
    }
  const FakeGpu* const gpu = FindGpu(gpus, target);
  if (!mapped || !gpu || (count != 0 && count != cell.gpus)) return kInvalidValue;
  if (cell.bytes > gpu->bytes) {
    process.Put(offsetof(Cell, stuck), uint32_t{1});
    return kOutOfMemory;
  }
  const Result result = process.Ask(kRestore, 0, &cell);
  if (result == kSuccess) {
    char name[sizeof cell.gpu] = {};
    strncpy(name, gpu->uuid, sizeof name - 1);
    process.Put(offsetof(Cell, gpu), name);
  }
  return result;
}

EXPORT int nvmlInit_v2() { return 0; }
EXPORT int nvmlShutdown() { return 0; }
EXPORT const char* nvmlErrorString(int) { return "fake error"; }

EXPORT int nvmlSystemGetDriverVersion(char* text, unsigned length) {
  const std::string version = Read(PathOf("driver"));
  snprintf(text, length, "%s", version.empty() ? "580.159.04" : version.c_str());
  return 0;
}

EXPORT int nvmlDeviceGetCount_v2(unsigned* count) {
  *count = static_cast<unsigned>(Gpus().size());
  return 0;
}

EXPORT int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** device) {
  *device = reinterpret_cast<void*>(static_cast<uintptr_t>(index) + 1);
  return 0;
}

static bool Device(void* device, FakeGpu* gpu) {
  const std::vector<FakeGpu> gpus = Gpus();
  const size_t index = reinterpret_cast<uintptr_t>(device) - 1;
  if (index >= gpus.size()) return false;
  *gpu = gpus[index];
  return true;
}

static int Number(void* device, unsigned FakeGpu::*field, unsigned* value) {
  FakeGpu gpu;
  if (!Device(device, &gpu)) return 2;
  *value = gpu.*field;
  return 0;
}

static int Text(const char* from, char* text, unsigned length) {
  snprintf(text, length, "%s", from);
  return 0;
}

EXPORT int nvmlDeviceGetUUID(void* device, char* text, unsigned length) {
  FakeGpu gpu;
  return Device(device, &gpu) ? Text(gpu.uuid, text, length) : 2;
}

EXPORT int nvmlDeviceGetName(void* device, char* text, unsigned length) {
  FakeGpu gpu;
  return Device(device, &gpu) ? Text(gpu.name, text, length) : 2;
}

EXPORT int nvmlDeviceGetMemoryInfo(void* device, unsigned long long* memory) {
  FakeGpu gpu;
  if (!Device(device, &gpu)) return 2;
  memory[0] = memory[1] = gpu.bytes;
  memory[2] = 0;
  return 0;
}

EXPORT int nvmlDeviceGetMinorNumber(void* device, unsigned* minor) { return Number(device, &FakeGpu::minor, minor); }
EXPORT int nvmlDeviceGetPersistenceMode(void* device, unsigned* on) { return Number(device, &FakeGpu::persistence, on); }
EXPORT int nvmlDeviceGetMigMode(void* device, unsigned* now, unsigned* pending) {
  *pending = 0;
  return Number(device, &FakeGpu::mig, now);
}
EXPORT int nvmlDeviceGetVirtualizationMode(void* device, unsigned* mode) {
  const int result = Number(device, &FakeGpu::vgpu, mode);
  *mode = *mode ? 2 : 1;
  return result;
}

struct FakeProcessInfo {
  uint32_t pid;
  uint64_t bytes;
  uint32_t instances[2];
};

EXPORT int nvmlDeviceGetComputeRunningProcesses_v3(void* device, unsigned* count, FakeProcessInfo* infos) {
  FakeGpu gpu;
  if (!Device(device, &gpu)) return 2;
  unsigned found = 0;
  const uint64_t world = WorldOf(PathOf("").c_str());
  DIR* const proc = opendir("/proc");
  for (const dirent* entry; proc && (entry = readdir(proc));) {
    const int pid = atoi(entry->d_name);
    Cell cell;
    if (pid <= 0 || Process(pid).Find(&cell) != kSuccess || cell.world != world || cell.state == kCheckpointed) continue;
    if (strncmp(cell.gpu, gpu.uuid, 40) != 0) continue;
    if (found < *count) infos[found] = {static_cast<uint32_t>(pid), cell.bytes, {}};
    found++;
  }
  if (proc) closedir(proc);
  const int result = found > *count ? 7 : 0;
  *count = found;
  return result;
}
