#include "start.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>

#include "address.h"
#include "cgroup.h"
#include "files.h"
#include "log.h"
#include "options.h"
#include "server-errors.h"
#include "socket.h"
#include "spawn.h"

namespace thaw {
namespace {

// containerd sends kilobytes at most.
constexpr size_t kMostInput = 16 << 20;
constexpr int kMostOomScore = 1000;

// One more than containerd's, which is our parent, so that the kernel ends shims first.
int OomScore() {
  std::string text;
  if (ReadFile("/proc/" + std::to_string(getppid()) + "/oom_score_adj", 64, &text) != 0) return INT_MIN;
  return std::min(atoi(text.c_str()) + 1, kMostOomScore);
}

Error StartServer(const Flags& flags, const std::string& path, const Options& options, int listener, pid_t* pid) {
  std::string tree;
  Command command;
  if (Error error = FindTree(&tree)) return error;
  std::vector<std::string> arguments = {"-namespace", flags.ns,  "-id", flags.id, "-address",
                                        flags.address, "-socket", path};
  if (flags.debug) arguments.emplace_back("-debug");
  arguments.emplace_back("serve");
  if (Error error = ServerCommand(tree, arguments, &command)) return error;

  const UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null.valid()) return Cannot("open", "/dev/null", errno);
  const UniqueFd errors = OpenServerErrors(".");
  // containerd reads until the last holder of `start`'s output closes it, so the server inherits none of it.
  ChildPlan plan{command, {null.get(), null.get(), errors.valid() ? errors.get() : null.get()}};
  plan.listener = listener;
  plan.oom_score = OomScore();
  const char* const sched_core = getenv("SCHED_CORE");
  plan.sched_core = sched_core && *sched_core;
  if (!options.shim_cgroup.empty())
    if (Error error = OpenCgroup(options.shim_cgroup, &plan.joins)) return error;
  Child child;
  if (Error error = Spawn(plan, &child)) return error;
  // Into containerd's log: 1.6 takes everything that `start` prints, on stderr too, for the address.
  if (!child.warning.empty()) LogWarning(".", flags.id, child.warning);
  *pid = child.pid;
  return {};
}

}  // namespace

Error Start(const Flags& flags) {
  Spec spec;
  StartInput input;
  Options options;
  std::string text, path;
  if (Error error = ReadSpec(".", &spec)) return error;
  if (const int error = ReadAll(STDIN_FILENO, kMostInput, &text))
    return Cannot("read the options on standard input", "", error);
  if (Error error = ParseStartInput(text, flags, &input)) return error;
  if (Error error = ParseOptions(input.options, &options)) return error;
  if (Error error = SocketPath(flags, spec, input.socket_dir, &path)) return error;

  UniqueFd listener;
  if (Error error = ListenOrShare(path, &listener)) return error;
  const std::string address = kUnix + path;
  pid_t server = -1;
  // containerd 1.6 and 1.7 find the shim again by this file.
  Error error = ReplaceFile(".", "address", address);
  if (!error && listener.valid()) error = StartServer(flags, path, options, listener.get(), &server);
  if (!error) {
    if (const int failed = WriteAll(STDOUT_FILENO, address)) error = Cannot("print the address", "", failed);
  }
  if (error && server > 0) kill(server, SIGKILL);
  if (error && listener.valid()) RemoveOwnSocket(path);
  return error;
}

}  // namespace thaw
