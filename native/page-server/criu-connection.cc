#include "criu-connection.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

namespace thaw {
namespace {

constexpr uint32_t kRestored = 0x52535446;  // above every process number

CriuConnection::Kind Bad(Failure* failure, const char* what) {
  *failure = {EPROTO, "recvmsg", "lazy-pages.socket", what};
  return CriuConnection::Kind::kError;
}

}  // namespace

CriuConnection::Kind CriuConnection::Next(pid_t* pid, UniqueFd* uffd, Failure* failure) {
  for (;;) {
    const bool number = pid_ == 0;
    unsigned char dummy;
    iovec part{number ? number_ + have_ : &dummy, number ? sizeof number_ - have_ : 1};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    // Safe: never more than is due, into buffers of this object; descriptors arrive close-on-exec, at most one.
    const ssize_t size = recvmsg(fd_.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return Kind::kWait;
    if (size < 0 && errno != ECONNRESET) return *failure = {errno, "recvmsg", "lazy-pages.socket", {}}, Kind::kError;
    UniqueFd received;
    const cmsghdr* const header = size > 0 ? CMSG_FIRSTHDR(&message) : nullptr;
    if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
      int fd;
      memcpy(&fd, CMSG_DATA(header), sizeof fd);
      received = UniqueFd(fd);
    }
    if (size <= 0) return Kind::kEnd;
    if (message.msg_flags & MSG_CTRUNC) return Bad(failure, "more descriptors than one");
    if (!number) {
      if (!received.valid()) return Bad(failure, "a process without its userfaultfd");
      *pid = pid_;
      *uffd = std::move(received);
      pid_ = 0;
      return Kind::kTask;
    }
    if (received.valid()) return Bad(failure, "a descriptor without a process");
    have_ += static_cast<size_t>(size);
    if (have_ < sizeof number_) continue;
    have_ = 0;
    int32_t value;
    memcpy(&value, number_, sizeof value);
    if (static_cast<uint32_t>(value) == kRestored) return Kind::kRestored;
    if (value == 0 || value == INT32_MIN) return Bad(failure, "no process number");
    if (value < 0) return *pid = -value, Kind::kZombie;
    pid_ = value;
  }
}

}  // namespace thaw
