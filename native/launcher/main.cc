// containerd-shim-thaw-v2: everything between containerd and a pod's server. containerd starts it two or three times a
// container, so it is static, small, and leaves only `serve` to JavaScript.

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <vector>

#include "error.h"
#include "files.h"
#include "flags.h"
#include "guard.h"
#include "hold.h"
#include "info.h"
#include "remove.h"
#include "start.h"
#include "tree.h"

namespace thaw {
namespace {

// Whatever containerd left open for us is not the server's either. Standard descriptors that are closed would get the
// numbers of files that we open.
void TidyDescriptors() {
  for (int fd = 0; fd < 3; fd++)
    if (fcntl(fd, F_GETFD) < 0 && errno == EBADF && open("/dev/null", O_RDWR) < 0) return;
  // Kernels before 5.9 have no such call; there, what containerd opens is close-on-exec, as everything in Go.
  syscall(SYS_close_range, 3U, ~0U, 0U);
}

Error PrintVersion() {
  if (const int error = WriteAll(STDOUT_FILENO, "containerd-shim-thaw-v2:\n  Version:  " THAW_VERSION "\n"))
    return Cannot("print the version", "", error);
  return {};
}

// Becomes the server, for who starts one by hand: the listening socket is descriptor 3.
Error Serve(int argc, char** argv) {
  std::string tree;
  Command command;
  if (Error error = FindTree(&tree)) return error;
  if (Error error = ServerCommand(tree, {argv + 1, argv + argc}, &command)) return error;
  std::vector<char*> arguments, environment;
  for (std::string& argument : command.arguments) arguments.push_back(argument.data());
  for (std::string& entry : command.environment) environment.push_back(entry.data());
  arguments.push_back(nullptr);
  environment.push_back(nullptr);
  signal(SIGPIPE, SIG_DFL);
  execve(command.program.c_str(), arguments.data(), environment.data());
  return Cannot("run", command.program, errno);
}

Error Run(int argc, char** argv) {
  Flags flags;
  if (Error error = ParseFlags(argc, argv, &flags)) return error;
  switch (flags.action) {
    case Action::kVersion:
      return PrintVersion();
    case Action::kServe:
      return Serve(argc, argv);
    case Action::kInfo:
      TidyDescriptors();
      return Info();
    case Action::kGuard:
      return Guard();
    case Action::kHold:
      return Hold();
    case Action::kStart:
    case Action::kDelete:
      break;
  }
  if (Error error = RequireContainer(flags)) return error;
  TidyDescriptors();
  return flags.action == Action::kStart ? Start(flags) : Remove(flags);
}

}  // namespace
}  // namespace thaw

int main(int argc, char** argv) {
  // A closed output is an error to report, not a reason to vanish half-way.
  signal(SIGPIPE, SIG_IGN);
  const thaw::Error error = thaw::Run(argc, argv);
  if (!error) return 0;
  static_cast<void>(thaw::WriteAll(STDERR_FILENO, error.text + '\n'));
  return 1;
}
