#include "relay.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <memory>

#include "args.h"
#include "bridge.h"
#include "errors.h"
#include "fd.h"

namespace thaw {
namespace {

constexpr size_t kTurn = 1 << 20;      // bytes a relay may move before the others get their turn
constexpr size_t kBuffer = 64 * 1024;  // a pipe's default capacity

// Only a pty's master knows the number of its slave.
bool IsMaster(int fd) {
  unsigned int number;
  return ioctl(fd, TIOCGPTN, &number) == 0;
}

bool IsNull(const struct stat& status) {
  return S_ISCHR(status.st_mode) && status.st_rdev == makedev(1, 3);
}

class Relay : public Task {
 public:
  Relay(int from, int to) : from_(from), to_(to) {}

  // Looks at both ends; on failure the descriptors stay the caller's.
  Failure Prepare() {
    struct stat from, to;
    if (fstat(from_.get(), &from) != 0 || fstat(to_.get(), &to) != 0) return Refuse("fstat");
    from_is_regular_ = S_ISREG(from.st_mode);
    to_is_regular_ = S_ISREG(to.st_mode);
    from_is_master_ = S_ISCHR(from.st_mode) && IsMaster(from_.get());
    to_is_master_ = S_ISCHR(to.st_mode) && IsMaster(to_.get());
    const bool from_pipe = S_ISFIFO(from.st_mode);
    const bool to_pipe = S_ISFIFO(to.st_mode);
    // Only where SPLICE_F_NONBLOCK alone keeps the call from blocking; a terminal or socket would need O_NONBLOCK.
    splice_ = (from_pipe && (to_pipe || to_is_regular_ || IsNull(to))) || (from_is_regular_ && to_pipe);
    if (!splice_) {
      if (const Failure failure = UseBuffer()) {
        Disown();
        return failure;
      }
    }
    return {};
  }

  Step Run(const Poller& poller, Outcome* outcome) override {
    outcome->kind = Outcome::Kind::kBytes;
    size_t budget = stopping_ ? DrainLimit() : kTurn;
    while (budget > 0) {
      size_t moved = 0;
      const State state = splice_ ? Splice(&moved, outcome) : Copy(&moved, outcome);
      bytes_ += moved;
      outcome->bytes = bytes_;
      budget -= std::min(budget, moved);
      if (state == State::kMoved) continue;
      if (state == State::kEnded || stopping_) return Step::kDone;
      if (state == State::kEmpty && draining_) return Step::kDone;
      const int refused = state == State::kEmpty
                              ? Watch(poller, from_.get(), EPOLLIN, from_is_master_, &from_watched_)
                              : Watch(poller, to_.get(), EPOLLOUT, to_is_master_, &to_watched_);
      if (refused == 0) return Step::kWait;
      outcome->failure = {refused, "epoll_ctl", {}, {}};
      return Step::kDone;
    }
    return stopping_ ? Step::kDone : Step::kAgain;
  }

  bool MayWaitForDisk() const override { return from_is_regular_ || to_is_regular_; }

  void Stop() override { stopping_ = true; }

  void Drain() override { draining_ = true; }

  void Detach(const Poller& poller) override {
    poller.Forget(from_.get(), &from_watched_);
    poller.Forget(to_.get(), &to_watched_);
  }

  void Disown() {
    from_.release();
    to_.release();
  }

 private:
  enum class State { kMoved, kEmpty, kFull, kEnded };

  // One-shot: whatever else the descriptor reports (a fifo's hang-up, say) waits until it is asked for again, so this
  // thread cannot spin. A master without an open slave reports a hang-up all the time, and yet a process may open the
  // slave again: so it is asked once for changes only.
  static int Watch(const Poller& poller, int fd, uint32_t events, bool master, bool* watched) {
    if (!master) return poller.Watch(fd, events | EPOLLONESHOT, watched);
    return *watched ? 0 : poller.Watch(fd, events | EPOLLET, watched);
  }

  Failure Refuse(const char* syscall) {
    const Failure failure{errno, syscall, {}, {}};
    Disown();
    return failure;
  }

  State Fail(int error, const char* syscall, Outcome* outcome) {
    outcome->failure = {error, syscall, {}, {}};
    return State::kEnded;
  }

  // What can be in the source at the moment of a stop. Bounded, because a process that outlives its container's init
  // may write for ever.
  size_t DrainLimit() const {
    const int capacity = fcntl(from_.get(), F_GETPIPE_SZ);
    return std::max(kTurn, static_cast<size_t>(std::max(capacity, 0)));
  }

  State Splice(size_t* moved, Outcome* outcome) {
    for (int attempt = 0; attempt < 3; attempt++) {
      // Safe: both descriptors are this relay's own; the flag keeps pipes from blocking, whatever O_NONBLOCK says.
      const ssize_t count = splice(from_.get(), nullptr, to_.get(), nullptr, kTurn, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
      if (count > 0) {
        *moved = static_cast<size_t>(count);
        return State::kMoved;
      }
      if (count == 0) return State::kEnded;
      if (errno == EINTR) continue;
      if (errno == EINVAL) break;  // O_APPEND, or a file system without splice
      if (errno != EAGAIN) return Fail(errno, "splice", outcome);
      // EAGAIN does not say which end it was.
      pollfd ends[2] = {{from_.get(), POLLIN, 0}, {to_.get(), POLLOUT, 0}};
      if (poll(ends, 2, 0) < 0 && errno != EINTR) return Fail(errno, "poll", outcome);
      if (ends[0].revents == 0) return State::kEmpty;
      if (ends[1].revents == 0) return State::kFull;
      // Both became ready in between: once more. Should they claim so for ever, the buffer below cannot be fooled.
    }
    if (const Failure failure = UseBuffer()) {
      outcome->failure = failure;
      return State::kEnded;
    }
    splice_ = false;
    return Copy(moved, outcome);
  }

  State Copy(size_t* moved, Outcome* outcome) {
    if (begin_ == end_) {
      const ssize_t count = read(from_.get(), buffer_.get(), kBuffer);
      if (count == 0) return State::kEnded;
      if (count < 0) {
        if (errno == EINTR) return State::kMoved;
        // EIO: no process has the terminal open now.
        if (errno == EAGAIN || (errno == EIO && from_is_master_)) return State::kEmpty;
        return Fail(errno, "read", outcome);
      }
      begin_ = 0;
      end_ = static_cast<size_t>(count);
    }
    const ssize_t count = write(to_.get(), buffer_.get() + begin_, end_ - begin_);
    if (count < 0) {
      if (errno == EINTR) return State::kMoved;
      if (errno == EAGAIN) return State::kFull;
      return Fail(errno, "write", outcome);
    }
    begin_ += static_cast<size_t>(count);
    *moved = static_cast<size_t>(count);
    return State::kMoved;
  }

  // read(2) and write(2) have no flag for one call, so the open files become non-blocking. Pipe ends of a container
  // are open files of their own, apart from those that we hold.
  Failure UseBuffer() {
    for (const auto& [fd, regular] : {std::pair{from_.get(), from_is_regular_}, std::pair{to_.get(), to_is_regular_}}) {
      if (regular) continue;
      const int flags = fcntl(fd, F_GETFL);
      if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) return {errno, "fcntl", {}, {}};
    }
    buffer_ = std::make_unique<char[]>(kBuffer);
    return {};
  }

  UniqueFd from_, to_;
  bool from_is_regular_ = false, to_is_regular_ = false;
  bool from_is_master_ = false, to_is_master_ = false;
  bool from_watched_ = false, to_watched_ = false;
  bool splice_ = false;
  bool stopping_ = false, draining_ = false;
  uint64_t bytes_ = 0;
  // Bytes that were read and not yet written.
  std::unique_ptr<char[]> buffer_;
  size_t begin_ = 0, end_ = 0;
};

}  // namespace

Napi::Value RelayStart(const Napi::CallbackInfo& info) {
  Args args(info);
  const int from = args.Fd(0);
  const int to = args.Fd(1);
  const Napi::Function done = args.Function(2);
  if (!args.ok()) return info.Env().Undefined();
  auto relay = std::make_unique<Relay>(from, to);
  if (const Failure failure = relay->Prepare()) return Throw(info.Env(), failure);
  Relay* const raw = relay.get();
  std::unique_ptr<Task> task = std::move(relay);
  const uint64_t id = Bridge::Of(info.Env()).Submit(task, done);
  if (id == 0) {
    raw->Disown();
    return info.Env().Undefined();
  }
  return Napi::Number::New(info.Env(), static_cast<double>(id));
}

Napi::Value RelayDrain(const Napi::CallbackInfo& info) {
  Args args(info);
  const int64_t id = args.Integer(0, 0, INT64_C(1) << 53, "a relay id");
  if (args.ok()) Bridge::Of(info.Env()).Drain(static_cast<uint64_t>(id));
  return info.Env().Undefined();
}

Napi::Value RelayStop(const Napi::CallbackInfo& info) {
  Args args(info);
  const int64_t id = args.Integer(0, 0, INT64_C(1) << 53, "a relay id");
  if (args.ok()) Bridge::Of(info.Env()).Stop(static_cast<uint64_t>(id));
  return info.Env().Undefined();
}

}  // namespace thaw
