#include "guard-link.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

namespace thaw {

GuardLink::Kind GuardLink::Next(uint64_t* id) {
  GuardMessage message;
  for (;;) {
    // Safe: the socket keeps messages apart, and this one does not wait.
    const ssize_t size = recv(fd_.get(), &message, sizeof message, MSG_DONTWAIT);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0 && errno == EAGAIN) return Kind::kWait;
    if (size != sizeof message) return Kind::kLost;
    if (message.what == kGuardReady) return Kind::kReady;
    if (message.what != kGuardRelease) return Kind::kLost;
    *id = message.id;
    return Kind::kReleased;
  }
}

bool GuardLink::Send(uint32_t what, uint64_t id, int fd, const std::string& text) {
  if (!fd_.valid()) return false;
  GuardMessage head{what, 0, id};
  iovec parts[2] = {{&head, sizeof head}, {const_cast<char*>(text.data()), text.size()}};
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = text.empty() ? 1 : 2;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  if (fd >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
  }
  for (;;) {
    // Safe: copies what is sent. A guard that does not read for thousands of messages counts as lost.
    if (sendmsg(fd_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return true;
    if (errno != EINTR) return false;
  }
}

}  // namespace thaw
