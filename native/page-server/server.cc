#include "server.h"

#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>

namespace thaw {

PageServer::PageServer(PageServerOptions options, Report report, void* context)
    : options_(std::move(options)),
      report_(report),
      context_(context),
      presence_(options_.chunks),
      draining_(false) {}

PageServer::~PageServer() {
  for (const pthread_t thread : threads_) pthread_join(thread, nullptr);
}

Failure PageServer::Start() {
  epoll_ = UniqueFd(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_.valid()) return {errno, "epoll_create1", {}, {}};
  wake_ = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake_.valid()) return {errno, "eventfd", {}, {}};
  Watch(wake_.get(), kWake);
  Watch(options_.listener.get(), kListener);

  sigset_t all, old;
  sigfillset(&all);
  // Safe: signals are for Node's own threads.
  pthread_sigmask(SIG_SETMASK, &all, &old);
  int error = 0;
  for (unsigned i = 0; i <= options_.copiers && error == 0; i++) {
    pthread_t thread;
    error = pthread_create(&thread, nullptr, i == 0 ? ReaderMain : CopierMain, this);
    if (error == 0) {
      pthread_setname_np(thread, i == 0 ? "thaw-pages" : "thaw-copy");
      threads_.push_back(thread);
    }
  }
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
  if (error != 0 && !threads_.empty()) {
    // Those that run end as if CRIU had never come.
    Finish();
  }
  return error == 0 ? Failure{} : Failure{error, "pthread_create", {}, {}};
}

void PageServer::Watch(int fd, uint64_t tag) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = tag;
  // Safe: descriptors of this object; a closed one leaves the set by itself, as none is shared with a child.
  epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event);
}

void PageServer::Wake() {
  const uint64_t one = 1;
  // Safe: at worst the counter is full, and the reader awake.
  [[maybe_unused]] const ssize_t written = write(wake_.get(), &one, sizeof one);
}

void PageServer::Tell(PageServerEvent::Kind kind, std::vector<uint32_t> ordinals, Failure failure) {
  report_(context_, {kind, std::move(ordinals), std::move(failure)});
}

void PageServer::Fail(Failure failure) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (std::exchange(failed_, true)) return;
    draining_ = false;
  }
  Tell(PageServerEvent::Kind::kFailed, {}, std::move(failure));
}

void PageServer::SetGuard(UniqueFd fd) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    guard_ = GuardLink(std::move(fd));
    guard_ready_ = false;
    bool reached = true;
    for (const std::string& cgroup : options_.cgroups) reached = reached && guard_.KillCgroup(cgroup);
    for (const UniqueFd& pidfd : pidfds_) reached = reached && guard_.Kill(pidfd.get());
    for (const auto& [id, memory] : memories_) {
      // A guard that is new has to let go of it too.
      memory->releasing = false;
      reached = reached && guard_.Hold(id, memory->fd());
    }
    // One that cannot be reached shows as closed at once.
    Watch(guard_.fd(), kGuard);
  }
  Wake();
}

void PageServer::AddProcess(UniqueFd pidfd) {
  const std::lock_guard<std::mutex> lock(mutex_);
  guard_.Kill(pidfd.get());
  pidfds_.push_back(std::move(pidfd));
}

void PageServer::SetPresent(const uint8_t* bits, size_t length) {
  presence_.Add(bits, length);
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const auto& [id, memory] : memories_) {
    const uint32_t first = memory->file ? memory->file->first_ordinal() : 0;
    auto& absent = memory->absent;
    const auto here = std::stable_partition(absent.begin(), absent.end(),
                                            [&](uint32_t chunk) { return !presence_.Has(first + chunk); });
    memory->ready.insert(memory->ready.end(), here, absent.end());
    absent.erase(here, absent.end());
  }
  urgent_ += static_cast<int>(waiting_.size());
  demands_.insert(demands_.end(), waiting_.begin(), waiting_.end());
  waiting_.clear();
  wanted_.clear();
  work_.notify_all();
}

void PageServer::Drain() {
  const std::lock_guard<std::mutex> lock(mutex_);
  options_.drain = true;
  draining_ = restored_;
  work_.notify_all();
}

void PageServer::Finish() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    finishing_ = true;
    listening_ = false;
  }
  Wake();
}

PageServerCounts PageServer::Counts() {
  const std::lock_guard<std::mutex> lock(mutex_);
  uint64_t missing = 0;
  for (const auto& [id, memory] : memories_) missing += memory->left();
  return {faults_, zero_faults_, fault_bytes_, drained_bytes_, missing, memories_.size(), touched_};
}

}  // namespace thaw
