// CUDA's checkpoint functions. They work on another process, through its restore thread, and need neither cuInit nor a
// context here: seen with driver 580, where they answer within a millisecond of dlopen.
// Source of names, layouts and numbers: "CUDA Driver API", section "CUDA Checkpointing" (CUDA 12.8; 13.0 for GPU pairs).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "library.h"

namespace thaw {

// A CUresult.
using Result = int;
constexpr Result kSuccess = 0;
constexpr Result kNotFound = 500;

struct Uuid {
  unsigned char bytes[16];
};

struct GpuPair {
  Uuid old_gpu;
  Uuid new_gpu;
};

class Driver {
 public:
  // Empty on success, else what is wrong.
  std::string Open(const std::string& path);
  const std::string& path() const { return library_.path(); }
  // As in CUDA_VERSION: 13000 is 13.0.
  int version() const { return version_; }

  Result State(int pid, int* state) const;
  Result RestoreThread(int pid, int* tid) const;
  // 0 milliseconds: for as long as it takes.
  Result Lock(int pid, uint32_t timeout_ms) const;
  Result Checkpoint(int pid) const;
  // With pairs, one for each GPU that the process saw when it was checkpointed.
  Result Restore(int pid, const std::vector<GpuPair>& pairs) const;
  Result Unlock(int pid) const;
  // "CUDA_ERROR_…", or empty.
  std::string NameOf(Result result) const;

 private:
  Library library_;
  int version_ = 0;
  Result (*state_)(int, int*) = nullptr;
  Result (*thread_)(int, int*) = nullptr;
  Result (*lock_)(int, void*) = nullptr;
  Result (*checkpoint_)(int, void*) = nullptr;
  Result (*restore_)(int, void*) = nullptr;
  Result (*unlock_)(int, void*) = nullptr;
  Result (*name_)(Result, const char**) = nullptr;
};

}  // namespace thaw
