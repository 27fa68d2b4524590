#include "management.h"

#include <mutex>

#include "library.h"

namespace thaw {
namespace {

using Return = int;
using Device = void*;
constexpr Return kInsufficientSize = 7;
constexpr unsigned kVgpu = 2;

struct Memory {
  uint64_t total, free, used;
};

struct ProcessInfo {
  uint32_t pid;
  uint64_t bytes;
  uint32_t gpu_instance, compute_instance;
};
constexpr uint64_t kUnknownBytes = ~0ULL;

// One at a time: nvmlShutdown ends it for every thread.
std::mutex one_at_a_time;

class Management {
 public:
  ~Management() {
    if (open_) Call("nvmlShutdown");
  }

  std::string Open(const std::string& path) {
    std::string problem = library_.Open(path, "libnvidia-ml.so.1");
    if (!problem.empty()) return problem;
    if (const Return result = Call("nvmlInit_v2")) return Failed("nvmlInit_v2", result);
    open_ = true;
    return "";
  }

  // NVML_ERROR_FUNCTION_NOT_FOUND where the driver is too old or too new for it.
  template <typename... A>
  Return Call(const char* name, A... arguments) const {
    const auto function = library_.Find<Return (*)(A...)>(name);
    return function ? function(arguments...) : 13;
  }

  std::string Failed(const char* name, Return result) const {
    const auto text = library_.Find<const char* (*)(Return)>("nvmlErrorString");
    return std::string(name) + ": " + (text ? text(result) : std::to_string(result));
  }

  std::string Devices(std::vector<Device>* devices) const {
    unsigned count = 0;
    if (const Return result = Call("nvmlDeviceGetCount_v2", &count)) return Failed("nvmlDeviceGetCount_v2", result);
    for (unsigned index = 0; index < count; index++) {
      Device device = nullptr;
      if (const Return result = Call("nvmlDeviceGetHandleByIndex_v2", index, &device))
        return Failed("nvmlDeviceGetHandleByIndex_v2", result);
      devices->push_back(device);
    }
    return "";
  }

 private:
  Library library_;
  bool open_ = false;
};

std::string Describe(const Management& nvml, Device device, Gpu* gpu) {
  char text[96] = {};
  if (const Return result = nvml.Call("nvmlDeviceGetUUID", device, static_cast<char*>(text), 96U))
    return nvml.Failed("nvmlDeviceGetUUID", result);
  gpu->uuid = text;
  if (const Return result = nvml.Call("nvmlDeviceGetName", device, static_cast<char*>(text), 96U))
    return nvml.Failed("nvmlDeviceGetName", result);
  gpu->name = text;
  Memory memory{};
  if (const Return result = nvml.Call("nvmlDeviceGetMemoryInfo", device, &memory))
    return nvml.Failed("nvmlDeviceGetMemoryInfo", result);
  gpu->memory_bytes = memory.total;
  if (const Return result = nvml.Call("nvmlDeviceGetMinorNumber", device, &gpu->minor))
    return nvml.Failed("nvmlDeviceGetMinorNumber", result);
  // Not every GPU has these; one that has not has them switched off.
  unsigned now = 0, pending = 0, mode = 0;
  gpu->mig = nvml.Call("nvmlDeviceGetMigMode", device, &now, &pending) == 0 && now == 1;
  gpu->persistence = nvml.Call("nvmlDeviceGetPersistenceMode", device, &mode) == 0 && mode == 1;
  mode = 0;
  gpu->vgpu = nvml.Call("nvmlDeviceGetVirtualizationMode", device, &mode) == 0 && mode == kVgpu;
  return "";
}

}  // namespace

std::string ListGpus(const std::string& library, std::string* driver, std::vector<Gpu>* gpus) {
  const std::lock_guard<std::mutex> guard(one_at_a_time);
  Management nvml;
  std::string problem = nvml.Open(library);
  if (!problem.empty()) return problem;
  char version[80] = {};
  if (const Return result = nvml.Call("nvmlSystemGetDriverVersion", static_cast<char*>(version), 80U))
    return nvml.Failed("nvmlSystemGetDriverVersion", result);
  *driver = version;
  std::vector<Device> devices;
  problem = nvml.Devices(&devices);
  for (size_t at = 0; problem.empty() && at < devices.size(); at++) {
    Gpu gpu;
    problem = Describe(nvml, devices[at], &gpu);
    gpus->push_back(gpu);
  }
  return problem;
}

std::string ListUse(const std::string& library, std::vector<Use>* uses) {
  const std::lock_guard<std::mutex> guard(one_at_a_time);
  Management nvml;
  std::string problem = nvml.Open(library);
  if (!problem.empty()) return problem;
  std::vector<Device> devices;
  problem = nvml.Devices(&devices);
  if (!problem.empty()) return problem;
  for (const Device device : devices) {
    char uuid[96] = {};
    if (const Return result = nvml.Call("nvmlDeviceGetUUID", device, static_cast<char*>(uuid), 96U))
      return nvml.Failed("nvmlDeviceGetUUID", result);
    std::vector<ProcessInfo> found(64);
    Return result = kInsufficientSize;
    while (result == kInsufficientSize && found.size() < 65536) {
      auto count = static_cast<unsigned>(found.size());
      result = nvml.Call("nvmlDeviceGetComputeRunningProcesses_v3", device, &count, found.data());
      found.resize(result == kInsufficientSize ? found.size() * 2 : count);
    }
    if (result) return nvml.Failed("nvmlDeviceGetComputeRunningProcesses_v3", result);
    for (const ProcessInfo& info : found) uses->push_back({uuid, info.pid, info.bytes == kUnknownBytes ? 0 : info.bytes});
  }
  return "";
}

}  // namespace thaw
