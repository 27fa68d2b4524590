#include "driver.h"

namespace thaw {
namespace {

// Every argument struct has 64 bytes, and what a driver does not know yet must be zero.
struct LockArguments {
  uint32_t timeout_ms = 0;
  uint32_t reserved = 0;
  uint64_t more[7] = {};
};

struct RestoreArguments {
  const GpuPair* pairs = nullptr;
  uint32_t count = 0;
  char reserved[52] = {};
};

struct Reserved {
  uint64_t reserved[8] = {};
};

static_assert(sizeof(LockArguments) == 64 && sizeof(RestoreArguments) == 64 && sizeof(Reserved) == 64);
static_assert(sizeof(GpuPair) == 32);

}  // namespace

std::string Driver::Open(const std::string& path) {
  std::string problem = library_.Open(path, "libcuda.so.1");
  if (!problem.empty()) return problem;
  state_ = library_.Find<decltype(state_)>("cuCheckpointProcessGetState");
  thread_ = library_.Find<decltype(thread_)>("cuCheckpointProcessGetRestoreThreadId");
  lock_ = library_.Find<decltype(lock_)>("cuCheckpointProcessLock");
  checkpoint_ = library_.Find<decltype(checkpoint_)>("cuCheckpointProcessCheckpoint");
  restore_ = library_.Find<decltype(restore_)>("cuCheckpointProcessRestore");
  unlock_ = library_.Find<decltype(unlock_)>("cuCheckpointProcessUnlock");
  name_ = library_.Find<decltype(name_)>("cuGetErrorName");
  if (!state_ || !thread_ || !lock_ || !checkpoint_ || !restore_ || !unlock_)
    return library_.path() + ": the driver is older than 570, which was the first that can checkpoint a process";
  const auto version = library_.Find<Result (*)(int*)>("cuDriverGetVersion");
  if (version) version(&version_);
  return "";
}

Result Driver::State(int pid, int* state) const { return state_(pid, state); }

Result Driver::RestoreThread(int pid, int* tid) const { return thread_(pid, tid); }

Result Driver::Lock(int pid, uint32_t timeout_ms) const {
  LockArguments arguments;
  arguments.timeout_ms = timeout_ms;
  return lock_(pid, &arguments);
}

Result Driver::Checkpoint(int pid) const {
  Reserved arguments;
  return checkpoint_(pid, &arguments);
}

Result Driver::Restore(int pid, const std::vector<GpuPair>& pairs) const {
  RestoreArguments arguments;
  arguments.pairs = pairs.empty() ? nullptr : pairs.data();
  arguments.count = static_cast<uint32_t>(pairs.size());
  return restore_(pid, &arguments);
}

Result Driver::Unlock(int pid) const {
  Reserved arguments;
  return unlock_(pid, &arguments);
}

std::string Driver::NameOf(Result result) const {
  const char* name = nullptr;
  if (!name_ || name_(result, &name) != kSuccess || !name) return "";
  return name;
}

}  // namespace thaw
