// Starts one program: the server, which outlives us, or runc, which does not.
#pragma once

#include <limits.h>
#include <sys/types.h>

#include <string>
#include <vector>

#include "../fd.h"
#include "clock.h"
#include "error.h"
#include "tree.h"

namespace thaw {

struct ChildPlan {
  const Command& command;
  int standard[3];             // become its descriptors 0, 1 and 2; close-on-exec themselves
  int listener = -1;           // becomes its descriptor 3
  std::vector<UniqueFd> joins = {};  // cgroups it is in before the program runs, see OpenCgroup
  int oom_score = INT_MIN;     // INT_MIN: as it is. Best effort
  bool sched_core = false;     // a core scheduling cookie of its own, which everything it starts inherits. Best effort
  bool outlives_us = true;     // otherwise the kernel kills it when this process ends
};

struct Child {
  pid_t pid = -1;
  std::string warning;  // what was tried in vain
};

// In a session and process group of its own. Returns once the program runs; an error means that nothing is left of it.
Error Spawn(const ChildPlan& plan, Child* child);

struct RunResult {
  int status = -1;  // exit code, or 128 + signal
  bool timed_out = false;
  std::string output;  // at most 4 MiB
  std::string errors;
};

// Runs a program to its end, without input. At the deadline its whole process group is killed.
Error Run(const Command& command, const Deadline& deadline, RunResult* result);

}  // namespace thaw
