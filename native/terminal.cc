#include "terminal.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <memory>
#include <vector>

#include "args.h"
#include "bridge.h"
#include "errors.h"
#include "fd.h"

namespace thaw {
namespace {

constexpr size_t kMostFds = 253;   // SCM_MAX_FD: more never come with one message
constexpr size_t kMostText = 4096;  // runc sends the terminal's name along

// Waits for one connection and the one descriptor that comes through it.
class ConsoleReceiver : public Task {
 public:
  explicit ConsoleReceiver(int listener) : listener_(listener) {}

  Step Run(const Poller& poller, Outcome* outcome) override {
    outcome->kind = Outcome::Kind::kDescriptor;
    if (stopping_) return Fail({ECANCELED, "accept4", {}, {}}, outcome);
    if (!connection_.valid()) {
      const Step step = Accept(poller, outcome);
      if (step != Step::kAgain) return step;
    }
    return Receive(poller, outcome);
  }

  void Stop() override { stopping_ = true; }

  void Detach(const Poller& poller) override {
    poller.Forget(listener_.get(), &listener_watched_);
    poller.Forget(connection_.get(), &connection_watched_);
  }

  void Disown() { listener_.release(); }

 private:
  static Step Fail(Failure failure, Outcome* outcome) {
    outcome->failure = std::move(failure);
    return Step::kDone;
  }

  static Step Wait(const Poller& poller, int fd, bool* watched, Outcome* outcome) {
    const int refused = poller.Watch(fd, EPOLLIN | EPOLLONESHOT, watched);
    return refused == 0 ? Step::kWait : Fail({refused, "epoll_ctl", {}, {}}, outcome);
  }

  // kAgain: there is a connection.
  Step Accept(const Poller& poller, Outcome* outcome) {
    // Safe: the listener does not block, and nobody else may inherit the connection.
    UniqueFd connection(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!connection.valid()) {
      if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)
        return Wait(poller, listener_.get(), &listener_watched_, outcome);
      return Fail({errno, "accept4", {}, {}}, outcome);
    }
    ucred peer{};
    socklen_t length = sizeof peer;
    // Safe: fixed size. The socket's mode keeps others out already.
    if (getsockopt(connection.get(), SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0)
      return Fail({errno, "getsockopt", {}, {}}, outcome);
    if (peer.uid != geteuid())
      return Fail({EPERM, "accept4", {}, "a process of another user connected to the console socket"}, outcome);
    connection_ = std::move(connection);
    // There is one terminal: nobody else is listened to.
    poller.Forget(listener_.get(), &listener_watched_);
    listener_ = UniqueFd();
    return Step::kAgain;
  }

  Step Receive(const Poller& poller, Outcome* outcome) {
    char text[kMostText];
    alignas(cmsghdr) char control[CMSG_SPACE(kMostFds * sizeof(int))];
    iovec part{text, sizeof text};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    // Safe: does not block; what is received is close-on-exec from the start and owned below, whatever its number.
    const ssize_t count = recvmsg(connection_.get(), &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (count < 0) {
      if (errno == EAGAIN || errno == EINTR) return Wait(poller, connection_.get(), &connection_watched_, outcome);
      return Fail({errno, "recvmsg", {}, {}}, outcome);
    }
    std::vector<UniqueFd> received;
    for (cmsghdr* header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
      if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
      const size_t fds = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (size_t i = 0; i < fds; i++) {
        int fd;
        memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
        received.emplace_back(fd);
      }
    }
    if (count == 0 && received.empty())
      return Fail({ECONNRESET, "recvmsg", {}, "the console socket was closed before a terminal came"}, outcome);
    if (received.size() != 1 || (message.msg_flags & MSG_CTRUNC))
      return Fail({EPROTO, "recvmsg", {}, "exactly one descriptor is expected on the console socket"}, outcome);
    unsigned int number;
    // Safe: only a pty's master knows the number of its slave; everything else refuses the request.
    if (ioctl(received[0].get(), TIOCGPTN, &number) != 0)
      return Fail({ENOTTY, "ioctl", {}, "what came through the console socket is no terminal"}, outcome);
    outcome->descriptor = std::move(received[0]);
    return Step::kDone;
  }

  UniqueFd listener_, connection_;
  bool listener_watched_ = false, connection_watched_ = false;
  bool stopping_ = false;
};

}  // namespace

Napi::Value ConsoleListen(const Napi::CallbackInfo& info) {
  Args args(info);
  const std::string path = args.String(0);
  if (!args.ok()) return info.Env().Undefined();
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path)
    return Throw(info.Env(), {ENAMETOOLONG, "bind", path, {}});
  memcpy(address.sun_path, path.c_str(), path.size());
  // Safe: close-on-exec and non-blocking from the start.
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return Throw(info.Env(), {errno, "socket", {}, {}});
  // Safe: the file gets this mode (less the umask) at bind, so there is no moment in which others could connect.
  if (fchmod(fd.get(), 0600) != 0) return Throw(info.Env(), {errno, "fchmod", {}, {}});
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return Throw(info.Env(), {errno, "bind", path, {}});
  if (listen(fd.get(), 1) != 0) return Throw(info.Env(), {errno, "listen", path, {}});
  return Napi::Number::New(info.Env(), fd.release());
}

Napi::Value ConsoleReceive(const Napi::CallbackInfo& info) {
  Args args(info);
  const int listener = args.Fd(0);
  const Napi::Function done = args.Function(1);
  if (!args.ok()) return info.Env().Undefined();
  auto receiver = std::make_unique<ConsoleReceiver>(listener);
  ConsoleReceiver* const raw = receiver.get();
  std::unique_ptr<Task> task = std::move(receiver);
  const uint64_t id = Bridge::Of(info.Env()).Submit(task, done);
  if (id == 0) {
    raw->Disown();
    return info.Env().Undefined();
  }
  return Napi::Number::New(info.Env(), static_cast<double>(id));
}

Napi::Value ConsoleCancel(const Napi::CallbackInfo& info) {
  Args args(info);
  const int64_t id = args.Integer(0, 0, INT64_C(1) << 53, "the id of a console that is waited for");
  if (args.ok()) Bridge::Of(info.Env()).Stop(static_cast<uint64_t>(id));
  return info.Env().Undefined();
}

Napi::Value SetWindowSize(const Napi::CallbackInfo& info) {
  Args args(info);
  const int fd = args.Fd(0);
  winsize size{};
  size.ws_col = static_cast<unsigned short>(args.Integer(1, 0, UINT16_MAX, "a number of columns"));
  size.ws_row = static_cast<unsigned short>(args.Integer(2, 0, UINT16_MAX, "a number of rows"));
  if (!args.ok()) return info.Env().Undefined();
  // Safe: fixed size; sends SIGWINCH to the terminal's foreground group when the size changed.
  if (ioctl(fd, TIOCSWINSZ, &size) != 0) return Throw(info.Env(), {errno, "ioctl", {}, {}});
  return info.Env().Undefined();
}

}  // namespace thaw
