#include "sys.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <climits>
#include <cstdlib>
#include <string>
#include <vector>

#include "args.h"
#include "errors.h"
#include "fd.h"

namespace thaw {
namespace {

// The list of one thread's children: decimal pids, each followed by a space (proc(5)).
Failure ReadChildren(const std::string& path, std::string* text) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return {errno, "open", path, {}};
  char part[4096];
  for (;;) {
    const ssize_t count = read(fd.get(), part, sizeof part);
    if (count == 0) return {};
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return {errno, "read", path, {}};
    text->append(part, static_cast<size_t>(count));
  }
}

}  // namespace

Napi::Value SetChildSubreaper(const Napi::CallbackInfo& info) {
  Args args(info);
  const bool on = args.Boolean(0);
  if (!args.ok()) return info.Env().Undefined();
  // Safe: changes only who inherits orphans of this process.
  if (prctl(PR_SET_CHILD_SUBREAPER, on ? 1UL : 0UL, 0UL, 0UL, 0UL) != 0)
    return Throw(info.Env(), {errno, "prctl", {}, {}});
  return info.Env().Undefined();
}

Napi::Value Children(const Napi::CallbackInfo& info) {
  const std::string tasks = "/proc/self/task";
  DIR* const directory = opendir(tasks.c_str());
  if (!directory) return Throw(info.Env(), {errno, "opendir", tasks, {}});
  Napi::Array pids = Napi::Array::New(info.Env());
  const std::string self = std::to_string(getpid());
  Failure failure;
  // Safe: this DIR is used by this thread alone.
  while (const dirent* entry = readdir(directory)) {
    if (entry->d_name[0] == '.') continue;
    std::string text;
    failure = ReadChildren(tasks + "/" + entry->d_name + "/children", &text);
    if (failure && entry->d_name != self && (failure.error == ENOENT || failure.error == ESRCH)) {
      failure = {};  // a thread that has ended since the directory was read
      continue;
    }
    if (failure) break;
    for (const char* at = text.c_str(); *at;) {
      char* end;
      const long pid = strtol(at, &end, 10);
      if (end == at) break;
      pids.Set(pids.Length(), Napi::Number::New(info.Env(), static_cast<double>(pid)));
      at = *end ? end + 1 : end;
    }
  }
  closedir(directory);
  if (failure) return Throw(info.Env(), failure);
  return pids;
}

Napi::Value Pipe(const Napi::CallbackInfo& info) {
  int ends[2];
  // Safe: close-on-exec from the start, so a child spawned at the same moment cannot inherit an end.
  if (pipe2(ends, O_CLOEXEC) != 0) return Throw(info.Env(), {errno, "pipe2", {}, {}});
  Napi::Array pair = Napi::Array::New(info.Env(), 2);
  pair.Set(0u, Napi::Number::New(info.Env(), ends[0]));
  pair.Set(1u, Napi::Number::New(info.Env(), ends[1]));
  return pair;
}

Napi::Value Duplicate(const Napi::CallbackInfo& info) {
  Args args(info);
  const int fd = args.Fd(0);
  if (!args.ok()) return info.Env().Undefined();
  // Safe: close-on-exec from the start.
  const int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (copy < 0) return Throw(info.Env(), {errno, "fcntl", {}, {}});
  return Napi::Number::New(info.Env(), copy);
}

Napi::Value TrimMemory(const Napi::CallbackInfo& info) {
  // Safe: gives free pages of the allocator back; what is allocated stays.
  malloc_trim(0);
  return info.Env().Undefined();
}

Napi::Value Fchown(const Napi::CallbackInfo& info) {
  Args args(info);
  const int fd = args.Fd(0);
  const auto uid = static_cast<uid_t>(args.Integer(1, 0, UINT32_MAX, "a user id"));
  const auto gid = static_cast<gid_t>(args.Integer(2, 0, UINT32_MAX, "a group id"));
  if (!args.ok()) return info.Env().Undefined();
  // Safe: acts on the open file, so no name can be swapped.
  if (fchown(fd, uid, gid) != 0) return Throw(info.Env(), {errno, "fchown", {}, {}});
  return info.Env().Undefined();
}

Napi::Value PeerCredentials(const Napi::CallbackInfo& info) {
  Args args(info);
  const int fd = args.Fd(0);
  if (!args.ok()) return info.Env().Undefined();
  ucred peer{};
  socklen_t length = sizeof peer;
  // Safe: fixed size; the kernel noted these when the connection was made, so the peer cannot change them.
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0)
    return Throw(info.Env(), {errno, "getsockopt", {}, {}});
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("pid", Napi::Number::New(info.Env(), peer.pid));
  result.Set("uid", Napi::Number::New(info.Env(), peer.uid));
  result.Set("gid", Napi::Number::New(info.Env(), peer.gid));
  return result;
}

Napi::Value TryLock(const Napi::CallbackInfo& info) {
  Args args(info);
  const int fd = args.Fd(0);
  const bool exclusive = args.Boolean(1);
  if (!args.ok()) return info.Env().Undefined();
  // Safe: LOCK_NB never waits.
  if (flock(fd, (exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB) == 0) return Napi::Boolean::New(info.Env(), true);
  if (errno == EWOULDBLOCK) return Napi::Boolean::New(info.Env(), false);
  return Throw(info.Env(), {errno, "flock", {}, {}});
}

Napi::Value Realtime(const Napi::CallbackInfo& info) {
  timespec now{};
  // Safe: cannot fail for this clock.
  clock_gettime(CLOCK_REALTIME, &now);
  return Napi::BigInt::New(info.Env(), static_cast<int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec);
}

Napi::Value Syncfs(const Napi::CallbackInfo& info) {
  Args args(info);
  const int fd = args.Fd(0);
  if (!args.ok()) return info.Env().Undefined();
  // Safe, but as slow as the file system has dirty data: the caller chooses the moment.
  if (syncfs(fd) != 0) return Throw(info.Env(), {errno, "syncfs", {}, {}});
  return info.Env().Undefined();
}

}  // namespace thaw
