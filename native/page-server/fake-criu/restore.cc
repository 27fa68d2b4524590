#include "restore.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "../../launcher/clock.h"
#include "memory.h"
#include "output.h"
#include "protocol.h"
#include "scenarios.h"

namespace thaw {
namespace {

struct Child {
  const Process* process;
  pid_t pid;
  UniqueFd control;
  bool is_victim;  // of the scenario `exit`
};

void Tell(int control) {
  const char byte = 0;
  static_cast<void>(send(control, &byte, 1, MSG_NOSIGNAL));
}

// False if the other side is gone.
bool Hear(int control) {
  char byte;
  ssize_t got;
  do got = read(control, &byte, 1);
  while (got < 0 && errno == EINTR);
  return got == 1;
}

// The life of a restored process. Like CRIU's restorer it opens its userfaultfd itself and hands it away before its
// memory is mapped and registered, and has closed it before anything of the process runs.
[[noreturn]] void Live(const Options& options, const Layout& layout, const Process& process, unsigned index,
                       int control) {
  static char who[64];
  snprintf(who, sizeof who, "process %u (pid %d) in %s", process.pid, getpid(), options.scenario.c_str());
  LimitTime(options.timeout, who);
  Memory memory(layout, process);
  {
    const UniqueFd uffd = OpenUserfault();
    SendDescriptor(control, uffd.get());
    // A page server that starts at once finds nothing registered.
    SleepMs(static_cast<int>(options.map_delay_ms));
    memory.Map(uffd.get());
  }
  Tell(control);
  if (!Hear(control)) _exit(kBroken);
  LimitTime(options.timeout, who);
  const Actor actor{memory, options, index};
  FindScenario(options.scenario)(actor);
  Tell(control);
  if (options.keep) {
    if (!Hear(control)) _exit(kBroken);
    Recheck(actor);
  }
  _exit(kRight);
}

Child StartChild(const Options& options, const Layout& layout, const Process& process, unsigned index,
                 int connection) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) Die("socketpair: %s", strerror(errno));
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) Die("fork: %s", strerror(errno));
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(kBroken);
    close(ends[0]);
    // The end of the connection is CRIU's to say.
    close(connection);
    Live(options, layout, process, index, ends[1]);
  }
  close(ends[1]);
  return {&process, pid, UniqueFd(ends[0]), options.scenario == "exit" && index % 2 == 0};
}

std::vector<Child> StartAll(const Options& options, const Layout& layout) {
  std::vector<Child> children;
  const UniqueFd connection = Connect(options.socket.c_str());
  for (const Process& process : layout.processes) {
    if (process.zombie) {
      SendZombie(connection.get(), process.pid);
      continue;
    }
    Child child = StartChild(options, layout, process, static_cast<unsigned>(children.size()), connection.get());
    const UniqueFd uffd = ReceiveDescriptor(child.control.get());
    if (!uffd.valid()) Die("process %u has no userfaultfd", process.pid);
    SendTask(connection.get(), process.pid, uffd.get());
    Say("pid %u %d", process.pid, child.pid);
    children.push_back(std::move(child));
  }
  for (const Child& child : children)
    if (!Hear(child.control.get())) Die("process %u has no memory", child.process->pid);
  if (options.early)
    for (const Child& child : children) Tell(child.control.get());
  SendFinished(connection.get());
  return children;
}

// While they fault and change their memory.
void KillVictims(const std::vector<Child>& children, uint64_t seed) {
  Random random(seed);
  for (const Child& child : children) {
    if (!child.is_victim) continue;
    SleepMs(static_cast<int>(random.Below(20)));
    // Safe: a child that nobody has waited for keeps its number.
    kill(child.pid, SIGKILL);
  }
}

int StatusOf(const Child& child) {
  int status;
  while (waitpid(child.pid, &status, 0) < 0)
    if (errno != EINTR) Die("waitpid: %s", strerror(errno));
  if (!WIFSIGNALED(status)) return WEXITSTATUS(status);
  if (child.is_victim && WTERMSIG(status) == SIGKILL) return kRight;
  Say("killed: process %u (pid %d) by signal %d", child.process->pid, child.pid, WTERMSIG(status));
  return kKilled;
}

// Of those that say something, a wrong byte counts most: that a process was killed may be what a test wants.
int Worse(int a, int b) {
  constexpr int kOrder[] = {kRight, kKilled, kBroken, kWrong};
  const auto rank = [&](int status) { return std::find(kOrder, kOrder + 3, status); };
  return std::max(rank(a), rank(b)) == rank(a) ? a : b;
}

}  // namespace

int Restore(const Options& options) {
  if (!FindScenario(options.scenario)) Die("unknown scenario %s", options.scenario.c_str());
  const Layout layout = ReadLayout(options.layout.c_str());
  // Twice: what is said to stand by is not part of the scenario. The processes themselves end a little earlier.
  LimitTime(2 * options.timeout + 2, "all processes");
  std::vector<Child> children = StartAll(options, layout);
  Say("ready");
  if (options.wait && getchar() == EOF) Die("standard input ended before the scenario began");
  if (!options.early)
    for (const Child& child : children) Tell(child.control.get());
  KillVictims(children, options.seed);
  int result = kRight;
  if (options.keep) {
    // One that ended instead says nothing any more; its status tells.
    for (const Child& child : children) Hear(child.control.get());
    Say("done");
    while (getchar() != EOF) continue;
    for (const Child& child : children) Tell(child.control.get());
  }
  for (const Child& child : children) result = Worse(result, StatusOf(child));
  if (result == kRight) Say("right");
  return result;
}

}  // namespace thaw
