#include "watch.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "args.h"
#include "bridge.h"
#include "errors.h"
#include "fd.h"

namespace thaw {
namespace {

constexpr size_t kLargestText = 64 * 1024;

// A task that reports each change and goes on until it is stopped or the descriptor fails.
class WatchTask : public Task {
 public:
  void Stop() override { stopped_ = true; }
  void Detach(const Poller& poller) override { poller.Forget(fd_.get(), &watched_); }

  Step Run(const Poller& poller, Outcome* outcome) override {
    outcome->kind = Outcome::Kind::kText;
    if (stopped_) return Step::kDone;
    if (!watched_) {
      if (const int error = poller.Watch(fd_.get(), Events(), &watched_)) {
        outcome->failure = {error, "epoll_ctl", path_, {}};
        return Step::kDone;
      }
    }
    bool changed = false;
    if (const int error = Look(&changed, &outcome->text)) {
      outcome->failure = {error, "read", path_, {}};
      return Step::kDone;
    }
    return changed ? Step::kReport : Step::kWait;
  }

 protected:
  WatchTask(UniqueFd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}
  virtual uint32_t Events() const = 0;
  // Reads what there is, which also arms the descriptor again. 0 or an errno.
  virtual int Look(bool* changed, std::string* text) = 0;

  UniqueFd fd_;
  const std::string path_;

 private:
  bool watched_ = false;
  bool stopped_ = false;
};

class EventTask : public WatchTask {
 public:
  EventTask(UniqueFd fd, std::string path) : WatchTask(std::move(fd), std::move(path)) {}

 private:
  uint32_t Events() const override { return EPOLLIN; }
  int Look(bool* changed, std::string*) override {
    uint64_t count;
    // Safe: an eventfd gives exactly eight bytes, and this one does not block.
    const ssize_t size = read(fd_.get(), &count, sizeof count);
    if (size < 0 && errno != EAGAIN && errno != EINTR) return errno;
    *changed = size == sizeof count;
    return 0;
  }
};

class FileTask : public WatchTask {
 public:
  FileTask(UniqueFd fd, std::string path) : WatchTask(std::move(fd), std::move(path)) {}

 private:
  // kernfs: exceptional condition means changed since this descriptor was read last. EPOLLERR comes with it.
  uint32_t Events() const override { return EPOLLPRI; }
  int Look(bool* changed, std::string* text) override {
    char part[4096];
    for (;;) {
      // Safe: reads at a position, into a buffer of this function.
      const ssize_t size = pread(fd_.get(), part, sizeof part, static_cast<off_t>(text->size()));
      if (size < 0 && errno == EINTR) continue;
      if (size < 0) return errno;
      if (size == 0) break;
      if (text->size() + static_cast<size_t>(size) > kLargestText) return EFBIG;
      text->append(part, static_cast<size_t>(size));
    }
    *changed = true;
    return 0;
  }
};

class OpensTask : public WatchTask {
 public:
  OpensTask(UniqueFd fd, std::string path) : WatchTask(std::move(fd), std::move(path)) {}

 private:
  uint32_t Events() const override { return EPOLLIN; }
  // Names, a line each.
  int Look(bool* changed, std::string* text) override {
    alignas(inotify_event) char events[4096];
    for (;;) {
      // Safe: whole events into a buffer of this function, which has room for the longest; it does not block.
      const ssize_t size = read(fd_.get(), events, sizeof events);
      if (size < 0 && errno == EINTR) continue;
      if (size < 0) return errno == EAGAIN ? 0 : errno;
      for (const char* at = events; at < events + size;) {
        const auto* const event = reinterpret_cast<const inotify_event*>(at);
        if (event->mask & IN_Q_OVERFLOW) return EOVERFLOW;
        if (event->len > 0) text->append(event->name).append("\n");
        at += sizeof *event + event->len;
      }
      *changed = !text->empty();
    }
  }
};

Napi::Value Submit(Napi::Env env, std::unique_ptr<Task> task, const Napi::Function& changed) {
  const uint64_t id = Bridge::Of(env).Submit(task, changed);
  return id == 0 ? env.Undefined() : Napi::Number::New(env, static_cast<double>(id));
}

}  // namespace

Napi::Value WatchCgroupEvent(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Args args(info);
  const std::string file = args.String(0);
  const std::string control = args.String(1);
  const Napi::Function changed = args.Function(2);
  if (!args.ok()) return env.Undefined();
  UniqueFd event(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event.valid()) return Throw(env, {errno, "eventfd", {}, {}});
  const UniqueFd source(open(file.c_str(), O_RDONLY | O_CLOEXEC));
  if (!source.valid()) return Throw(env, {errno, "open", file, {}});
  const UniqueFd target(open(control.c_str(), O_WRONLY | O_CLOEXEC));
  if (!target.valid()) return Throw(env, {errno, "open", control, {}});
  const std::string line = std::to_string(event.get()) + " " + std::to_string(source.get());
  // Safe: one short write to a control file. The kernel takes a reference of its own to the eventfd and none to `file`.
  if (write(target.get(), line.data(), line.size()) < 0) return Throw(env, {errno, "write", control, {}});
  return Submit(env, std::make_unique<EventTask>(std::move(event), file), changed);
}

Napi::Value WatchFile(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Args args(info);
  const std::string path = args.String(0);
  const Napi::Function changed = args.Function(1);
  if (!args.ok()) return env.Undefined();
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) return Throw(env, {errno, "open", path, {}});
  return Submit(env, std::make_unique<FileTask>(std::move(fd), path), changed);
}

Napi::Value WatchOpens(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Args args(info);
  const std::string path = args.String(0);
  const Napi::Function opened = args.Function(1);
  if (!args.ok()) return env.Undefined();
  UniqueFd fd(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!fd.valid()) return Throw(env, {errno, "inotify_init1", {}, {}});
  if (inotify_add_watch(fd.get(), path.c_str(), IN_OPEN | IN_ONLYDIR) < 0)
    return Throw(env, {errno, "inotify_add_watch", path, {}});
  return Submit(env, std::make_unique<OpensTask>(std::move(fd), path), opened);
}

Napi::Value WatchStop(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto id = static_cast<uint64_t>(args.Integer(0, 0, INT64_C(1) << 53, "a watch's number"));
  if (args.ok()) Bridge::Of(info.Env()).Forget(id);
  return info.Env().Undefined();
}

}  // namespace thaw
