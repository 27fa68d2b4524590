// Children of a pretended process.
#pragma once

#include <sys/types.h>

#include "part.h"
#include "scenarios.h"

namespace thaw {

// Forks. In the child, `work` is called and then the child ends; it does not outlive the thread that forked it, nor the
// time limit.
pid_t Fork(const Actor& actor, Part& part, void (*work)(const Actor&, Part&));
// Ends this process with kWrong if the child did not end right.
void WaitFor(pid_t child);
// A child that runs another program at once.
void SpawnAndWait();
void ForkAndExec();

// At most one child at a time that goes on with the pages of its thread while the thread does, too.
class Family {
 public:
  Family(const Actor& actor, Part& part) : actor_(actor), part_(part) {}
  // After the end of the one before.
  void HaveChild();
  void Wait();

 private:
  const Actor& actor_;
  Part& part_;
  pid_t child_ = 0;
  unsigned children_ = 0;
};

}  // namespace thaw
