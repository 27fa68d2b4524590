// Processes of others, held by descriptor while they are looked at and killed: a number that is used again never hits
// a process that it was not meant for.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

#include "../fd.h"
#include "clock.h"

namespace thaw {

struct Held {
  pid_t pid;
  UniqueFd pidfd;
};

// Kills and waits for what it is given.
class Victims {
 public:
  // Holds the process if `still` says that it is the one that is meant, asked once the number cannot change hands any
  // more. This process and its parent (containerd) never are. False if it is not held, or was already.
  bool Add(pid_t pid, const std::function<bool()>& still);
  // Also all that descend from them. They are stopped first, top down and again until no new one shows up, so that none
  // can fork away between the look and the kill.
  void AddDescendants();
  void Kill() const;
  // False if one has not ended by the deadline.
  bool Wait(const Deadline& deadline) const;
  bool empty() const { return held_.empty(); }

 private:
  void Signal(const Held& held, int signal) const;

  std::vector<Held> held_;
};

std::vector<pid_t> AllProcesses();

// Arguments; empty for a kernel thread, a zombie, or nobody.
std::vector<std::string> ArgumentsOf(pid_t pid);

// Target of /proc/PID/NAME; empty if there is none.
std::string LinkOf(pid_t pid, const char* name);

// Leader of its session; 0 if that is outside our PID namespace, -1 if there is no such process.
pid_t SessionOf(pid_t pid);

// There is no such process, or it is ending, or only its parent has not waited for it yet.
bool HasEnded(pid_t pid);

// When it started, in nanoseconds since 1970; 0 if there is no such process.
int64_t StartedAt(pid_t pid);

}  // namespace thaw
