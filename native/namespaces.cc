#include "namespaces.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "args.h"
#include "errors.h"
#include "fd.h"

namespace thaw {
namespace {

constexpr size_t kMaxBytes = 64 * 1024;

Failure Join(const std::vector<std::string>& namespaces) {
  for (const std::string& path : namespaces) {
    // Safe: read-only descriptor of a namespace file, close-on-exec.
    const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (fd.get() < 0) return {errno, "open", path, {}};
    // Safe: setns changes only the calling thread, which is ours and ends right after. Kind 0 takes any namespace that
    // a thread of a multi-threaded process may join (UTS, IPC, network).
    if (setns(fd.get(), 0) != 0) return {errno, "setns", path, {}};
  }
  return {};
}

// Runs `work` in a thread of its own and waits: the namespaces go away with the thread. Not std::thread, which could
// only end the process where no thread can be made.
template <typename Work>
Failure InThread(const std::vector<std::string>& namespaces, Work work) {
  struct Job {
    const std::vector<std::string>& namespaces;
    Work& work;
    Failure failure;
  } job{namespaces, work, {}};
  pthread_t thread;
  const int error = pthread_create(
      &thread, nullptr,
      [](void* data) -> void* {
        Job& job = *static_cast<Job*>(data);
        job.failure = Join(job.namespaces);
        if (!job.failure) job.failure = job.work();
        return nullptr;
      },
      &job);
  if (error != 0) return {error, "pthread_create", {}, {}};
  pthread_join(thread, nullptr);
  return job.failure;
}

Failure ReadAll(const std::string& path, std::string* out) {
  // Safe: opened in the joined namespaces, so /proc/sys resolves to theirs.
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) return {errno, "open", path, {}};
  char buffer[4096];
  while (out->size() < kMaxBytes) {
    // Safe: bounded by the buffer; files below /proc/sys do not block.
    const ssize_t n = read(fd.get(), buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return {errno, "read", path, {}};
    if (n == 0) return {};
    out->append(buffer, static_cast<size_t>(n));
  }
  return {EFBIG, "read", path, {}};
}

Failure WriteAll(const std::string& path, const std::string& value) {
  // Safe: no O_CREAT; a missing setting is an error, not a new file.
  const UniqueFd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (fd.get() < 0) return {errno, "open", path, {}};
  ssize_t n;
  // Safe: a setting below /proc/sys must be written by one call.
  do n = write(fd.get(), value.data(), value.size());
  while (n < 0 && errno == EINTR);
  if (n < 0) return {errno, "write", path, {}};
  if (static_cast<size_t>(n) != value.size()) return {EIO, "write", path, {}};
  return {};
}

}  // namespace

Napi::Value ReadInNamespaces(const Napi::CallbackInfo& info) {
  Args args(info);
  const std::string path = args.String(0);
  const std::vector<std::string> namespaces = args.Strings(1);
  if (!args.ok()) return info.Env().Undefined();
  std::string text;
  const Failure failure = InThread(namespaces, [&] { return ReadAll(path, &text); });
  if (failure.error == ENOENT && failure.path == path) return info.Env().Undefined();
  if (failure) return Throw(info.Env(), failure);
  return Napi::String::New(info.Env(), text);
}

Napi::Value WriteInNamespaces(const Napi::CallbackInfo& info) {
  Args args(info);
  const std::string path = args.String(0);
  const std::string value = args.String(1);
  const std::vector<std::string> namespaces = args.Strings(2);
  if (!args.ok()) return info.Env().Undefined();
  const Failure failure = InThread(namespaces, [&] { return WriteAll(path, value); });
  if (failure) return Throw(info.Env(), failure);
  return info.Env().Undefined();
}

}  // namespace thaw
