#include "fifo.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/stat.h>

#include <memory>
#include <string>

#include "args.h"
#include "bridge.h"
#include "errors.h"
#include "fd.h"

namespace thaw {
namespace {

class FifoTask : public Task {
 public:
  explicit FifoTask(UniqueFd fifo) : fifo_(std::move(fifo)) {}

  Step Run(const Poller& poller, Outcome* outcome) override {
    outcome->kind = Outcome::Kind::kBytes;
    // A read would report an end as long as no writer has come; epoll tells only of writers that did, or went.
    if (!watched_ && !stopping_) {
      if (const int refused = poller.Watch(fifo_.get(), EPOLLIN, &watched_)) {
        outcome->failure = {refused, "epoll_ctl", {}, {}};
        return Step::kDone;
      }
      return Step::kWait;
    }
    char buffer[256];
    for (;;) {
      // Safe: opened with O_NONBLOCK.
      const ssize_t count = read(fifo_.get(), buffer, sizeof buffer);
      if (count > 0) {
        bytes_ += static_cast<uint64_t>(count);
        continue;
      }
      outcome->bytes = bytes_;
      if (count == 0) return Step::kDone;
      if (errno == EINTR) continue;
      if (errno == EAGAIN) return stopping_ ? Step::kDone : Step::kWait;
      outcome->failure = {errno, "read", {}, {}};
      return Step::kDone;
    }
  }

  void Stop() override { stopping_ = true; }
  void Detach(const Poller& poller) override { poller.Forget(fifo_.get(), &watched_); }

 private:
  UniqueFd fifo_;
  bool watched_ = false, stopping_ = false;
  uint64_t bytes_ = 0;
};

}  // namespace

Napi::Value MakeFifo(const Napi::CallbackInfo& info) {
  Args args(info);
  const std::string path = args.String(0);
  if (!args.ok()) return info.Env().Undefined();
  // Safe: fails where anything of that name is there.
  if (mkfifo(path.c_str(), 0600) != 0) return Throw(info.Env(), {errno, "mkfifo", path, {}});
  return info.Env().Undefined();
}

Napi::Value FifoRead(const Napi::CallbackInfo& info) {
  Args args(info);
  const std::string path = args.String(0);
  const Napi::Function done = args.Function(1);
  if (!args.ok()) return info.Env().Undefined();
  // Safe: never waits, and lets a writer that waits for a reader go on. Not through a link.
  UniqueFd fifo(open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW));
  if (!fifo.valid()) return Throw(info.Env(), {errno, "open", path, {}});
  std::unique_ptr<Task> task = std::make_unique<FifoTask>(std::move(fifo));
  const uint64_t id = Bridge::Of(info.Env()).Submit(task, done);
  if (id == 0) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), static_cast<double>(id));
}

}  // namespace thaw
