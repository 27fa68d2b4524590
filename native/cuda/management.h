// What NVML says of the GPUs of this node: libcuda says nothing without cuInit.
// Source of names, layouts and numbers: "NVML API Reference Guide".
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace thaw {

struct Gpu {
  std::string uuid;
  std::string name;
  uint64_t memory_bytes = 0;
  unsigned minor = 0;
  bool mig = false;
  bool persistence = false;
  // It is a share of a GPU that a hypervisor divides.
  bool vgpu = false;
};

// What a process has on one GPU.
struct Use {
  std::string gpu;
  uint32_t pid = 0;
  // 0 where NVML cannot tell.
  uint64_t bytes = 0;
};

// Empty on success, else what is wrong. Initialises NVML for the call only, so that no device is held open after it.
std::string ListGpus(const std::string& library, std::string* driver, std::vector<Gpu>* gpus);
// Every process that computes on a GPU: one that has several is there for each.
std::string ListUse(const std::string& library, std::vector<Use>* uses);

}  // namespace thaw
