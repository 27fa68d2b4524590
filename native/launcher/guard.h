// `guard`: holds the userfaultfds of a restore beside the shim, on descriptor 3. When the last descriptor of a userfaultfd
// closes, memory that is still missing reads as zeros. So when the shim is gone, the guard ends the processes first, and
// lets go only of address spaces that no longer exist.
#pragma once

#include <cstdint>

#include "error.h"

namespace thaw {

// One message each on a SOCK_SEQPACKET; a cgroup's directory follows as text.
struct GuardMessage {
  uint32_t what;
  uint32_t unused;
  uint64_t id;
};

constexpr uint32_t kGuardReady = 0;       // to the shim: it has outgrown its parent
constexpr uint32_t kGuardHold = 1;        // with a userfaultfd
constexpr uint32_t kGuardRelease = 2;     // answered with the same once it is closed
constexpr uint32_t kGuardKill = 3;        // with a pidfd
constexpr uint32_t kGuardKillCgroup = 4;  // with the path of a directory that has cgroup.procs

Error Guard();

}  // namespace thaw
