#include "remove.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "address.h"
#include "container-cgroup.h"
#include "files.h"
#include "helpers.h"
#include "json.h"
#include "mounts.h"
#include "processes.h"
#include "protobuf.h"
#include "server-errors.h"
#include "socket.h"
#include "spawn.h"
#include "traces.h"

namespace thaw {
namespace {

// containerd kills us after five seconds.
constexpr int kAllMs = 4600;
constexpr int kHelpersMs = 500;
constexpr int kRuncMs = 3500;
// As if by SIGKILL.
constexpr uint64_t kExitStatus = 137;
constexpr char kDefaultRoot[] = "/run/containerd/runc";

// What the server left for us, see shim/task/bundle.ts.
struct Saved {
  bool found = false;  // there is a container, or there was one and the server did not remove it
  std::string binary_name;
  std::string root;
  bool systemd_cgroup = false;
};

struct Container {
  const Flags& flags;
  std::string bundle;
  Saved saved;
  std::string root;   // runc's state of the namespace
  std::string state;  // and of the container
  Deadline deadline;

  std::string binary() const { return saved.binary_name.empty() ? "runc" : saved.binary_name; }
  // Whether `state` is where the program keeps what it knows: a container that is not there is unknown to it.
  bool keeps_state() const { return binary().substr(binary().rfind('/') + 1) == "runc"; }
};

// One line for containerd's log.
void Warn(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  static_cast<void>(WriteAll(STDERR_FILENO, text + '\n'));
}
void Warn(const Error& error) {
  if (error) Warn(error.text);
}

Saved ReadSaved(const std::string& bundle) {
  constexpr size_t kMostBytes = 1 << 20;
  Saved saved;
  std::string text;
  if (ReadFile(JoinPath({bundle, "options.json"}), kMostBytes, &text) != 0) return saved;
  saved.found = true;
  // Defaults for a file that a crash cut off.
  static_cast<void>(PickJson(std::move(text), {
                                                  {nullptr, "binary_name", &saved.binary_name, nullptr},
                                                  {nullptr, "root", &saved.root, nullptr},
                                                  {nullptr, "systemd_cgroup", nullptr, &saved.systemd_cgroup},
                                              }));
  return saved;
}

// 0 if runc never wrote one.
pid_t ReadPid(const std::string& bundle) {
  std::string text;
  if (ReadFile(JoinPath({bundle, "init.pid"}), 64, &text) != 0) return 0;
  return std::max(atoi(text.c_str()), 0);
}

// Message of the last error in runc's log, or its last line.
std::string LastError(const std::string& log) {
  std::string message, last;
  for (size_t at = 0; at < log.size();) {
    const size_t end = std::min(log.find('\n', at), log.size());
    const std::string line = log.substr(at, end - at);
    at = end + 1;
    std::string level, text;
    const bool json = !PickJson(line, {{nullptr, "level", &level, nullptr}, {nullptr, "msg", &text, nullptr}});
    if (json && level == "error") message = text;
    if (!line.empty()) last = line;
  }
  return message.empty() ? last : message;
}

// runc knows no such container: the same words in all of its releases.
bool MeansGone(const std::string& message) { return message.find("does not exist") != std::string::npos; }

Error RuncDelete(const Container& container) {
  std::string tree;
  Command command;
  if (Error error = FindTree(&tree)) return error;
  std::vector<std::string> arguments = {"--root", container.root, "--log-format", "json"};
  if (container.saved.systemd_cgroup) arguments.emplace_back("--systemd-cgroup");
  for (const std::string& word : {std::string("delete"), std::string("--force"), container.flags.id})
    arguments.push_back(word);
  if (Error error = RuncCommand(tree, container.binary(), arguments, &command)) return error;
  RunResult result;
  if (Error error = Run(command, container.deadline.Within(kRuncMs), &result)) return error;
  if (result.timed_out) return {"runc did not end within " + std::to_string(kRuncMs) + " ms"};
  if (result.status == 0) return {};
  const std::string message = LastError(result.errors);
  if (MeansGone(message)) return {};
  return {message.empty() ? "runc ended with exit status " + std::to_string(result.status) : message};
}

// Where neither runc nor a cgroup led to it. runc writes the file when the process runs, so one that started later has
// its number only by chance; and a container's first process is never in our own mount namespace.
void KillInit(pid_t pid, const Container& container) {
  struct stat file {};
  if (pid <= 1 || stat(JoinPath({container.bundle, "init.pid"}).c_str(), &file) != 0) return;
  constexpr int64_t kSecond = 1'000'000'000, kTick = kSecond / 100;
  const int64_t written = file.st_mtim.tv_sec * kSecond + file.st_mtim.tv_nsec;
  Victims init;
  init.Add(pid, [=] {
    const int64_t started = StartedAt(pid);
    const std::string ns = LinkOf(pid, "ns/mnt");
    return started > 0 && started <= written + kTick && !ns.empty() && ns != LinkOf(getpid(), "ns/mnt");
  });
  init.Kill();
  init.Wait(container.deadline);
}

// What a server leaves that was killed at the wrong moment.
void RemoveLeftovers(const Container& container, pid_t pid) {
  const std::string bundle = RealPath(container.bundle);
  const std::string work = RealPath(JoinPath({container.bundle, "work"}));
  // First of all: a `runc create` that still runs would make what we then do not see.
  if (!EndHelpers({container.root, container.flags.id, bundle, work}, container.deadline.Within(kHelpersMs)))
    Warn("Cannot end the container's runc: it does not react to SIGKILL");
  if (IsDirectory(container.state) || !container.keeps_state()) {
    if (Error error = RuncDelete(container)) Warn("Cannot delete the container in runc: " + error.text);
  }
  Spec spec;
  if (IsDirectory(container.bundle)) Warn(ReadSpec(container.bundle, &spec));
  const ContainerCgroup cgroup = CgroupOf(spec.cgroups_path, container.flags.id);
  if (!cgroup.path.empty()) Warn(RemoveCgroup(cgroup, container.deadline));
  KillInit(pid, container);
  if (container.keeps_state() && IsDirectory(container.state)) {
    // CRIU's bind mount of the root file system lies in there.
    Warn(UnmountAll(container.state, container.deadline));
    Warn(RemoveTree(container.state));
  }
  if (work.empty()) return;
  // CRIU mounts the cgroup hierarchies in there; containerd removes the directory next, and with them it would remove
  // cgroups.
  Warn(UnmountAll(work, container.deadline));
  Warn(RemoveCriuFolders(work, container.deadline));
}

// A server that was killed leaves its socket; one that still serves the pod's other containers keeps it.
Error RemoveSocket(const Container& container) {
  constexpr size_t kMostBytes = 4096, kScheme = sizeof kUnix - 1;
  std::string address, path;
  if (ReadFile(JoinPath({container.bundle, "address"}), kMostBytes, &address) == 0 &&
      address.compare(0, kScheme, kUnix) == 0) {
    path = address.substr(kScheme);
  } else {
    Spec spec;
    if (!IsDirectory(container.bundle) || ReadSpec(container.bundle, &spec)) return {};
    if (Error error = SocketPath(container.flags, spec, "", &path)) return error;
  }
  return RemoveDeadSocket(path);
}

std::string DeleteResponse(pid_t pid) {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  std::string timestamp, response;
  PutVarint(1, static_cast<uint64_t>(now.tv_sec), &timestamp);
  PutVarint(2, static_cast<uint64_t>(now.tv_nsec), &timestamp);
  if (pid > 0) PutVarint(1, static_cast<uint64_t>(pid), &response);
  PutVarint(2, kExitStatus, &response);
  PutBytes(3, timestamp, &response);
  return response;
}

// With pod grouping containerd may run us in another container's bundle.
Error FindBundle(const Flags& flags, std::string* bundle) {
  if (!flags.bundle.empty()) return *bundle = flags.bundle, Error();
  char cwd[PATH_MAX];
  if (!getcwd(cwd, sizeof cwd)) return Cannot("find the current directory", "", errno);
  *bundle = JoinPath({ParentPath(cwd), flags.id});
  return {};
}

}  // namespace

Error Remove(const Flags& flags) {
  Container container{flags, {}, {}, {}, {}, Deadline(kAllMs)};
  if (Error error = FindBundle(flags, &container.bundle)) return error;
  container.saved = ReadSaved(container.bundle);
  const std::string& root = container.saved.root;
  container.root = JoinPath({root.empty() ? kDefaultRoot : root, flags.ns});
  container.state = JoinPath({container.root, flags.id});
  const pid_t pid = ReadPid(container.bundle);
  // containerd runs us after every task that its server deleted, too. Then there is nothing to look for.
  const bool thorough = container.saved.found || IsDirectory(container.state);
  if (thorough) RemoveLeftovers(container, pid);
  const std::string rootfs = JoinPath({container.bundle, "rootfs"});
  if (!UnmountTop(rootfs) || thorough) Warn(UnmountAll(rootfs, container.deadline));
  Warn(RemoveSocket(container));
  const std::string said = ReadServerErrors(container.bundle);
  if (!said.empty()) Warn("The shim's server wrote: " + said);
  if (const int error = WriteAll(STDOUT_FILENO, DeleteResponse(pid))) return Cannot("print the answer", "", error);
  return {};
}

}  // namespace thaw
