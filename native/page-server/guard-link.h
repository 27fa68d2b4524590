// The server's end of the socket to its guard (launcher/guard.cc), a process that holds every userfaultfd too: when the
// last descriptor of one closes, what is missing reads as zeros. Wire format: launcher/guard.h.
#pragma once

#include <cstdint>
#include <string>

#include "../errors.h"
#include "../fd.h"
#include "../launcher/guard.h"

namespace thaw {

class GuardLink {
 public:
  GuardLink() = default;
  explicit GuardLink(UniqueFd fd) : fd_(std::move(fd)) {}

  enum class Kind { kWait, kReady, kReleased, kLost };
  // kReleased: the guard has closed *id's descriptor.
  Kind Next(uint64_t* id);

  // False if the guard cannot be reached. Descriptors stay the caller's.
  bool Hold(uint64_t id, int uffd) { return Send(kGuardHold, id, uffd, {}); }
  bool Release(uint64_t id) { return Send(kGuardRelease, id, -1, {}); }
  // Whom to end if this process ends: a process, and all in a cgroup.
  bool Kill(int pidfd) { return Send(kGuardKill, 0, pidfd, {}); }
  bool KillCgroup(const std::string& directory) { return Send(kGuardKillCgroup, 0, -1, directory); }

  int fd() const { return fd_.get(); }
  bool valid() const { return fd_.valid(); }
  void Close() { fd_ = UniqueFd(); }

 private:
  bool Send(uint32_t what, uint64_t id, int fd, const std::string& text);
  UniqueFd fd_;
};

}  // namespace thaw
