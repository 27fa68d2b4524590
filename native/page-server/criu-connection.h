// What CRIU sends to a lazy-pages server while it restores: a process number and its userfaultfd, for each task, then
// the end. Source: criu/uffd.c, 3.17.1 to 4.2. It never gets an answer.
#pragma once

#include <sys/types.h>

#include "../errors.h"
#include "../fd.h"

namespace thaw {

class CriuConnection {
 public:
  enum class Kind {
    kWait,      // nothing more for now
    kTask,      // *pid and *uffd
    kZombie,    // *pid, without memory
    kRestored,  // every task is there and about to run
    kEnd,       // closed without that: the restore has failed
    kError,     // *failure
  };

  CriuConnection() = default;
  explicit CriuConnection(UniqueFd fd) : fd_(std::move(fd)) {}

  Kind Next(pid_t* pid, UniqueFd* uffd, Failure* failure);
  int fd() const { return fd_.get(); }
  void Close() { fd_ = UniqueFd(); }

 private:
  UniqueFd fd_;
  unsigned char number_[4] = {};
  size_t have_ = 0;
  pid_t pid_ = 0;  // whose descriptor comes next
};

}  // namespace thaw
