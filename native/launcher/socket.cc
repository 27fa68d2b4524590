#include "socket.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "clock.h"
#include "files.h"

namespace thaw {
namespace {

// As long as containerd's own shim tries.
constexpr int kProbeMs = 100;
// Longer than anybody holds the lock; after that we go on without it, as containerd's own shim always does: one process
// that was stopped at the wrong moment must not keep every pod of the node from starting.
constexpr int kLockMs = 2000;

sockaddr_un AddressOf(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  // Safe: SocketPath refuses longer ones, and RemoveDeadSocket looks.
  memcpy(address.sun_path, path.c_str(), std::min(path.size(), sizeof address.sun_path - 1));
  return address;
}

// Two callers that both find a dead server's socket would each unlink what the other has just bound, so the look, the
// unlink, the bind and the listen are one step. The lock is the directory's own and goes with the descriptor: nothing
// is left behind, whatever happens to its holder.
UniqueFd LockDirectory(const std::string& path) {
  UniqueFd directory(open(ParentPath(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory.valid()) return directory;
  for (const Deadline deadline(kLockMs); !deadline.over(); SleepMs(1)) {
    // Safe: LOCK_NB never waits.
    if (flock(directory.get(), LOCK_EX | LOCK_NB) == 0 || (errno != EWOULDBLOCK && errno != EINTR)) break;
  }
  return directory;
}

enum class Owner { kGone, kAlive, kMute };

Owner Probe(const sockaddr_un& address) {
  const UniqueFd probe(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!probe.valid()) return Owner::kMute;
  for (const Deadline deadline(kProbeMs);; SleepMs(5)) {
    // Safe: never waits. EAGAIN: somebody listens, but has not accepted as many connections as the queue holds.
    if (connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return Owner::kAlive;
    if (errno == EINTR) continue;
    if (errno != EAGAIN) return Owner::kGone;
    if (deadline.over()) return Owner::kMute;
  }
}

// 0, or an errno.
int Listen(const sockaddr_un& address, UniqueFd* listener) {
  UniqueFd made(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!made.valid()) return errno;
  // Nobody else may connect, not even between bind and chmod.
  const mode_t umask_before = umask(0177);
  const int bound = bind(made.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  const int error = errno;
  umask(umask_before);
  if (bound != 0) return error;
  // The kernel lowers it to net.core.somaxconn.
  if (listen(made.get(), 4096) != 0) {
    const int refused = errno;
    unlink(address.sun_path);
    return refused;
  }
  *listener = std::move(made);
  return 0;
}

}  // namespace

Error ListenOrShare(const std::string& path, UniqueFd* listener) {
  if (Error error = MakeDirectories(ParentPath(path), 0700)) return error;
  const UniqueFd lock = LockDirectory(path);
  const sockaddr_un address = AddressOf(path);
  int error = Listen(address, listener);
  if (error == EADDRINUSE) {
    if (Probe(address) == Owner::kAlive) return {};
    if (unlink(address.sun_path) != 0 && errno != ENOENT) return Cannot("remove the old socket", path, errno);
    error = Listen(address, listener);
  }
  return error == 0 ? Error() : Cannot("listen on", path, error);
}

Error RemoveDeadSocket(const std::string& path) {
  struct stat info {};
  if (path.size() >= sizeof sockaddr_un().sun_path || lstat(path.c_str(), &info) != 0 || !S_ISSOCK(info.st_mode))
    return {};
  const UniqueFd lock = LockDirectory(path);
  const sockaddr_un address = AddressOf(path);
  if (Probe(address) != Owner::kGone) return {};
  if (unlink(path.c_str()) != 0 && errno != ENOENT) return Cannot("remove the socket", path, errno);
  return {};
}

void RemoveOwnSocket(const std::string& path) { unlink(path.c_str()); }

}  // namespace thaw
