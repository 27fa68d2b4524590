// What the fake driver and the processes that use it have in common. README.md says what is imitated.
#pragma once

#include <stdint.h>
#include <sys/stat.h>

constexpr uint64_t kMagic = 0x74686177'66616b65;

enum Operation : uint32_t { kState = 1, kLock, kCheckpoint, kRestore, kUnlock };
enum State : uint32_t { kRunning, kLocked, kCheckpointed };
enum Result : int { kSuccess = 0, kInvalidValue = 1, kOutOfMemory = 2, kNotInitialized = 3, kOperatingSystem = 304,
                    kIllegalState = 401, kNotReady = 600, kNotSupported = 801 };

// At a fixed address of each fake CUDA process. The driver reaches it through /proc/PID/mem, and a thread of the process
// answers, as the real driver's restore thread does: one that is stopped answers when it goes on.
struct Cell {
  uint64_t magic;
  uint32_t state;
  // Work on the GPU that never ends: a lock waits for it.
  uint32_t busy;
  // Has managed memory, which cannot be saved.
  uint32_t managed;
  // A restore found too little memory: the process is lost.
  uint32_t stuck;
  uint32_t request;
  uint32_t answered;
  uint32_t operation;
  uint32_t timeout_ms;
  int32_t result;
  // How many GPUs it sees: a map must name each.
  uint32_t gpus;
  uint64_t bytes;
  // Of the directory that its GPUs are in: those of other tests are other machines.
  uint64_t world;
  // Names the file that is its GPU memory.
  uint64_t handle;
  char gpu[48];
  // What was in it, while the process is checkpointed.
  char saved[64];
};

constexpr uintptr_t kCellAddress = 0x200000000000;

// The same for each path by which the directory is reached, in a container too.
inline uint64_t WorldOf(const char* directory) {
  struct stat status{};
  return stat(directory, &status) == 0 ? status.st_ino ^ status.st_dev << 32 : 0;
}
