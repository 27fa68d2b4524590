#include "family.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mixture.h"
#include "output.h"

namespace thaw {
namespace {

char* const kNothing[] = {const_cast<char*>("fake-criu"), const_cast<char*>("nothing"), nullptr};
constexpr char kSelf[] = "/proc/self/exe";

void WorkOn(const Actor&, Part& part) {
  for (int i = 0; i < 60; i++) DoOne(part, kEverything);
  part.CheckAll();
}

void WorkAndHaveChild(const Actor& actor, Part& part) {
  for (int i = 0; i < 20; i++) DoOne(part, kEverything);
  const pid_t child = Fork(actor, part, WorkOn);
  for (int i = 0; i < 20; i++) DoOne(part, kEverything);
  part.CheckAll();
  WaitFor(child);
}

void EndAtOnce(const Actor&, Part&) {}

}  // namespace

pid_t Fork(const Actor& actor, Part& part, void (*work)(const Actor&, Part&)) {
  const pid_t parent = getpid();
  const pid_t child = fork();
  if (child < 0) Die("fork: %s", strerror(errno));
  if (child > 0) return child;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(kBroken);
  LimitTime(actor.options.timeout, "a child of a fork");
  part.BecomeChild();
  work(actor, part);
  _exit(kRight);
}

void WaitFor(pid_t child) {
  int status;
  while (waitpid(child, &status, 0) < 0)
    if (errno != EINTR) Die("waitpid: %s", strerror(errno));
  if (WIFSIGNALED(status)) {
    Say("killed: child %d by signal %d", child, WTERMSIG(status));
    _exit(kKilled);
  }
  if (WEXITSTATUS(status) != kRight) _exit(WEXITSTATUS(status));
}

// posix_spawn(3) is vfork and exec.
void SpawnAndWait() {
  pid_t child;
  const int error = posix_spawn(&child, kSelf, nullptr, nullptr, kNothing, nullptr);
  if (error) Die("posix_spawn: %s", strerror(error));
  WaitFor(child);
}

void ForkAndExec() {
  const pid_t child = fork();
  if (child < 0) Die("fork: %s", strerror(errno));
  if (child == 0) {
    execve(kSelf, kNothing, nullptr);
    _exit(kBroken);
  }
  WaitFor(child);
}

void Family::Wait() {
  if (child_) WaitFor(child_);
  child_ = 0;
}

void Family::HaveChild() {
  Wait();
  switch (children_++ % 4) {
    case 0: child_ = Fork(actor_, part_, WorkOn); break;
    case 1: child_ = Fork(actor_, part_, EndAtOnce); break;
    case 2: child_ = Fork(actor_, part_, WorkAndHaveChild); break;
    case 3: SpawnAndWait(); break;
  }
}

}  // namespace thaw
