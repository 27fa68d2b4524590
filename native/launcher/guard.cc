#include "guard.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <map>
#include <string>
#include <vector>

#include "files.h"

namespace thaw {
namespace {

constexpr int kSocket = 3;
constexpr int kAgainMs = 20;
constexpr size_t kLongestPath = 4096;
constexpr size_t kMostProcs = 1 << 20;

class Held {
 public:
  // False when the shim is gone.
  bool Receive();
  bool empty() const { return uffds_.empty(); }
  void EndProcesses() const;
  void DropDead();

 private:
  std::map<uint64_t, int> uffds_;
  std::vector<int> pidfds_;
  std::vector<std::string> cgroups_;
};

bool Send(uint32_t what, uint64_t id) {
  const GuardMessage message{what, 0, id};
  // Safe: copies what is sent; the shim reads all the time.
  return send(kSocket, &message, sizeof message, MSG_NOSIGNAL) == sizeof message;
}

bool Held::Receive() {
  struct {
    GuardMessage head;
    char text[kLongestPath];
  } data;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  iovec part{&data, sizeof data};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  // Safe: into buffers of this function; at most one descriptor arrives, close-on-exec.
  const ssize_t size = recvmsg(kSocket, &message, MSG_CMSG_CLOEXEC);
  // A shim that closes its end with answers of ours unread makes this one call fail, before what it had still sent is
  // given out (unix_release_sock). Taken for its end, the processes of memory that it had let go of would be killed.
  if (size < 0 && (errno == EINTR || errno == ECONNRESET)) return true;
  if (size < static_cast<ssize_t>(sizeof data.head)) return false;
  int fd = -1;
  const cmsghdr* const header = CMSG_FIRSTHDR(&message);
  if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS)
    memcpy(&fd, CMSG_DATA(header), sizeof fd);
  switch (data.head.what) {
    case kGuardHold:
      if (fd >= 0) uffds_[data.head.id] = fd;
      return true;
    case kGuardRelease: {
      const auto found = uffds_.find(data.head.id);
      if (found != uffds_.end()) {
        close(found->second);
        uffds_.erase(found);
      }
      // It needs no answer where it has gone; what else it had sent has to be read all the same.
      static_cast<void>(Send(kGuardRelease, data.head.id));
      return true;
    }
    case kGuardKill:
      if (fd >= 0) pidfds_.push_back(fd);
      return true;
    case kGuardKillCgroup:
      cgroups_.emplace_back(data.text, static_cast<size_t>(size) - sizeof data.head);
      return true;
    default:
      return true;
  }
}

void Held::EndProcesses() const {
  // Safe: a pidfd names one process for good.
  for (const int pidfd : pidfds_) syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, nullptr, 0);
  for (const std::string& cgroup : cgroups_) {
    const std::string file = cgroup + "/cgroup.procs";
    std::string before, after;
    if (ReadFile(file, kMostProcs, &before) != 0) continue;
    for (const char* at = before.c_str(); *at; at++) {
      const int pid = atoi(at);
      const int pidfd = pid > 0 ? static_cast<int>(syscall(SYS_pidfd_open, pid, 0)) : -1;
      // Safe: read again with the process held, so that the number still means one of the cgroup.
      if (pidfd >= 0 && ReadFile(file, kMostProcs, &after) == 0 &&
          ('\n' + after).find('\n' + std::to_string(pid) + '\n') != std::string::npos)
        syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, nullptr, 0);
      if (pidfd >= 0) close(pidfd);
      if (!(at = strchr(at, '\n'))) break;
    }
  }
}

void Held::DropDead() {
  static void* const unreadable = mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  for (auto held = uffds_.begin(); held != uffds_.end();) {
    uffdio_copy copy{};
    copy.dst = 1 << 20;
    copy.src = reinterpret_cast<uint64_t>(unreadable);
    copy.len = 4096;
    // Safe: whether the address space exists is looked at before the source, and from this source nothing is ever copied.
    const bool gone = ioctl(held->second, UFFDIO_COPY, &copy) != 0 && (errno == ESRCH || errno == ENOSPC);
    if (gone) close(held->second);
    held = gone ? uffds_.erase(held) : std::next(held);
  }
}

}  // namespace

Error Guard() {
  // It was started to die with the shim; from now on it must not.
  if (prctl(PR_SET_PDEATHSIG, 0) != 0) return Cannot("outlive the shim", "", errno);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) ::signal(signal, SIG_IGN);
  if (!Send(kGuardReady, 0)) return Cannot("reach the shim", "", errno);
  Held held;
  while (held.Receive()) {
  }
  while (!held.empty()) {
    held.EndProcesses();
    held.DropDead();
    if (!held.empty()) poll(nullptr, 0, kAgainMs);
  }
  return {};
}

}  // namespace thaw
