#include "protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "output.h"

namespace thaw {
namespace {

UniqueFd OpenWithEvents(int* error) {
  UniqueFd uffd(static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)));
  uffdio_api api{};
  api.api = UFFD_API;
  // Of these only fork needs a capability (CAP_SYS_PTRACE): its event hands out a descriptor to another's memory.
  api.features =
      UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_UNMAP | UFFD_FEATURE_EVENT_REMOVE;
  *error = 0;
  if (!uffd.valid() || ioctl(uffd.get(), UFFDIO_API, &api) != 0) *error = errno;
  return uffd;
}

sockaddr_un AddressOf(const char* path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (strlen(path) >= sizeof address.sun_path) Die("the socket's path is too long: %s", path);
  strcpy(address.sun_path, path);
  return address;
}

UniqueFd NewSocket() {
  UniqueFd made(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!made.valid()) Die("socket: %s", strerror(errno));
  return made;
}

void SendNumber(int connection, uint32_t number) {
  if (send(connection, &number, sizeof number, MSG_NOSIGNAL) != sizeof number)
    Die("cannot send %#x to the page server: %s", number, strerror(errno));
}

union Control {
  cmsghdr align;
  char bytes[CMSG_SPACE(sizeof(int))];
};

}  // namespace

UniqueFd OpenUserfault() {
  int error;
  UniqueFd uffd = OpenWithEvents(&error);
  if (error) Die("userfaultfd with events: %s", strerror(error));
  return uffd;
}

int ProbeUserfault() {
  int error;
  OpenWithEvents(&error);
  return error;
}

void RegisterMissing(int uffd, uint64_t address, uint64_t bytes) {
  uffdio_register request{};
  request.range = {address, bytes};
  request.mode = UFFDIO_REGISTER_MODE_MISSING;
  if (ioctl(uffd, UFFDIO_REGISTER, &request) != 0) Die("UFFDIO_REGISTER: %s", strerror(errno));
}

UniqueFd Connect(const char* path) {
  const sockaddr_un address = AddressOf(path);
  UniqueFd made = NewSocket();
  if (connect(made.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    Die("cannot connect to %s: %s", path, strerror(errno));
  return made;
}

UniqueFd Listen(const char* path) {
  const sockaddr_un address = AddressOf(path);
  UniqueFd made = NewSocket();
  if (bind(made.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 || listen(made.get(), 1) != 0)
    Die("cannot listen on %s: %s", path, strerror(errno));
  return made;
}

void SendDescriptor(int socket, int fd) {
  char dummy = 0;
  iovec data{&dummy, 1};
  Control control{};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control.bytes;
  message.msg_controllen = sizeof control.bytes;
  cmsghdr* const header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof fd);
  memcpy(CMSG_DATA(header), &fd, sizeof fd);
  if (sendmsg(socket, &message, MSG_NOSIGNAL) != 1) Die("cannot hand over a descriptor: %s", strerror(errno));
}

UniqueFd ReceiveDescriptor(int socket) {
  char dummy;
  iovec data{&dummy, 1};
  Control control{};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control.bytes;
  message.msg_controllen = sizeof control.bytes;
  if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC) != 1) return UniqueFd();
  const cmsghdr* const header = CMSG_FIRSTHDR(&message);
  if (!header || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) return UniqueFd();
  int fd;
  memcpy(&fd, CMSG_DATA(header), sizeof fd);
  return UniqueFd(fd);
}

void SendTask(int connection, uint32_t pid, int uffd) {
  SendNumber(connection, pid);
  SendDescriptor(connection, uffd);
}

void SendZombie(int connection, uint32_t pid) { SendNumber(connection, -pid); }

void SendFinished(int connection) { SendNumber(connection, kFinished); }

}  // namespace thaw
