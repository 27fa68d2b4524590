#include "idmap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include "args.h"
#include "child-stack.h"
#include "errors.h"
#include "fd.h"

#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x00001000  // linux/sched.h, 5.2
#endif
#ifndef P_PIDFD
#define P_PIDFD 3  // linux/wait.h, 5.4
#endif

namespace thaw {
namespace {

constexpr size_t kStack = 16 * 1024;

// Runs in the child, on a stack of its own in our memory, and is killed there. System calls alone, and not through libc's
// cancellation points: those write into the thread's control block, which is ours too.
int Sleep(void* parent) {
  // Safe: concerns the child alone. It does not outlive a shim that is killed.
  syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  if (syscall(SYS_getppid) != *static_cast<const pid_t*>(parent)) _exit(0);  // that was before
  for (;;) syscall(SYS_ppoll, nullptr, 0, nullptr, nullptr, 0);
  return 0;
}

Failure WriteMap(const std::string& path, const std::string& map) {
  // Safe: the process is our child, not waited for yet, so the number is its own.
  const UniqueFd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd.valid()) return {errno, "open", path, {}};
  // Safe: the kernel takes a map whole, in one write, or not at all (user_namespaces(7)).
  if (write(fd.get(), map.data(), map.size()) != static_cast<ssize_t>(map.size())) return {errno, "write", path, map};
  return {};
}

Failure OpenMapped(pid_t pid, const std::string& users, const std::string& groups, UniqueFd* result) {
  const std::string proc = "/proc/" + std::to_string(pid);
  if (Failure failure = WriteMap(proc + "/uid_map", users)) return failure;
  if (Failure failure = WriteMap(proc + "/gid_map", groups)) return failure;
  const std::string path = proc + "/ns/user";
  // Safe: the descriptor keeps the namespace, which needs no process.
  *result = UniqueFd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!result->valid()) return {errno, "open", path, {}};
  return {};
}

Failure MakeNamespace(const std::string& users, const std::string& groups, UniqueFd* result) {
  const ChildStack stack(kStack);
  if (!stack.valid()) return {errno, "mmap", {}, {}};
  sigset_t all, old;
  sigfillset(&all);
  // Safe: the child starts with every signal blocked, so no handler of ours runs in it; only SIGKILL gets through.
  pthread_sigmask(SIG_SETMASK, &all, &old);
  int pidfd = -1;
  pid_t self = getpid();
  // Safe: shares our memory but writes none of it. No exit signal: nobody else is told of this child, or waits for it.
  const pid_t pid =
      clone(Sleep, stack.top(), CLONE_VM | CLONE_NEWUSER | CLONE_PIDFD, &self, &pidfd, nullptr, nullptr);
  const int error = errno;
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
  if (pid < 0) return {error, "clone", {}, "a user namespace"};
  const UniqueFd child(pidfd);
  const Failure failure = OpenMapped(pid, users, groups, result);
  // Safe: by descriptor; the child only sleeps, so it is gone at once, and then nothing uses the stack.
  syscall(SYS_pidfd_send_signal, child.get(), SIGKILL, nullptr, 0);
  siginfo_t info;
  while (waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(child.get()), &info, WEXITED | __WALL) != 0) {
    if (errno != EINTR) break;
  }
  return failure;
}

Failure Map(const std::string& source, const std::string& target, int users) {
  // Safe: a copy of the mount of which nobody but this descriptor knows; it goes with it if a later step fails.
  const UniqueFd tree(static_cast<int>(
      syscall(SYS_open_tree, AT_FDCWD, source.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW)));
  if (!tree.valid()) return {errno, "open_tree", source, {}};
  mount_attr attributes{};
  attributes.attr_set = MOUNT_ATTR_IDMAP;
  attributes.userns_fd = static_cast<uint64_t>(users);
  // Safe: changes the copy alone. EINVAL where the file system cannot (before 5.12 none can).
  if (syscall(SYS_mount_setattr, tree.get(), "", AT_EMPTY_PATH, &attributes, sizeof attributes) != 0)
    return {errno, "mount_setattr", source, "this file system or kernel cannot map users"};
  if (syscall(SYS_move_mount, tree.get(), "", AT_FDCWD, target.c_str(), MOVE_MOUNT_F_EMPTY_PATH) != 0)
    return {errno, "move_mount", target, {}};
  return {};
}

}  // namespace

Napi::Value UserNamespace(const Napi::CallbackInfo& info) {
  Args args(info);
  const std::string users = args.String(0);
  const std::string groups = args.String(1);
  if (!args.ok()) return info.Env().Undefined();
  UniqueFd result;
  if (const Failure failure = MakeNamespace(users, groups, &result)) return Throw(info.Env(), failure);
  return Napi::Number::New(info.Env(), result.release());
}

Napi::Value MountMapped(const Napi::CallbackInfo& info) {
  Args args(info);
  const std::string source = args.String(0);
  const std::string target = args.String(1);
  const int users = args.Fd(2);
  if (!args.ok()) return info.Env().Undefined();
  if (const Failure failure = Map(source, target, users)) return Throw(info.Env(), failure);
  return info.Env().Undefined();
}

}  // namespace thaw
