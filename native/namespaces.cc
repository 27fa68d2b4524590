#include "namespaces.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "args.h"
#include "errors.h"
#include "fd.h"

namespace thaw {
namespace {

constexpr size_t kMaxBytes = 64 * 1024;
// Within one machine a connection is there at once, or refused; only a full queue of the listener takes longer.
constexpr int kConnectMs = 100;

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

Failure RaiseLoopback() {
  // Safe: a socket of this function, for an ioctl that names its interface.
  const UniqueFd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return {errno, "socket", {}, {}};
  ifreq request{};
  memcpy(request.ifr_name, "lo", sizeof "lo");
  // Safe: reads and writes `request` alone, of the network that this thread is in.
  if (ioctl(fd.get(), SIOCGIFFLAGS, &request) != 0) return {errno, "ioctl", "lo", {}};
  request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
  if (ioctl(fd.get(), SIOCSIFFLAGS, &request) != 0) return {errno, "ioctl", "lo", {}};
  return {};
}

Failure Connect(uint16_t port, UniqueFd* out) {
  // Safe: neither the socket nor its connection blocks; poll has a deadline.
  UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return {errno, "socket", {}, {}};
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    if (errno != EINPROGRESS) return {errno, "connect", {}, {}};
    pollfd ready{fd.get(), POLLOUT, 0};
    if (poll(&ready, 1, kConnectMs) != 1) return {ETIMEDOUT, "connect", {}, {}};
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
    if (error != 0) return {error, "connect", {}, {}};
  }
  *out = std::move(fd);
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

Napi::Value NetworkNamespace(const Napi::CallbackInfo& info) {
  UniqueFd network;
  const Failure failure = InThread({}, [&]() -> Failure {
    // Safe: changes only the calling thread, which is ours and ends right after.
    if (unshare(CLONE_NEWNET) != 0) return {errno, "unshare", {}, {}};
    if (Failure failure = RaiseLoopback()) return failure;
    // Safe: a descriptor of the thread's own network, which lives as long as it is open.
    network = UniqueFd(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    return network.valid() ? Failure{} : Failure{errno, "open", "/proc/thread-self/ns/net", {}};
  });
  if (failure) return Throw(info.Env(), failure);
  return Napi::Number::New(info.Env(), network.release());
}

Napi::Value LoopbackUp(const Napi::CallbackInfo& info) {
  Args args(info);
  const std::string network = args.String(0);
  if (!args.ok()) return info.Env().Undefined();
  if (const Failure failure = InThread({network}, RaiseLoopback)) return Throw(info.Env(), failure);
  return info.Env().Undefined();
}

Napi::Value ConnectInNamespace(const Napi::CallbackInfo& info) {
  Args args(info);
  const std::string network = args.String(0);
  const auto port = static_cast<uint16_t>(args.Integer(1, 1, UINT16_MAX, "a port"));
  if (!args.ok()) return info.Env().Undefined();
  UniqueFd fd;
  const Failure failure = InThread({network}, [&] { return Connect(port, &fd); });
  if (failure) return Throw(info.Env(), failure);
  return Napi::Number::New(info.Env(), fd.release());
}

}  // namespace thaw
