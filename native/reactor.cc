#include "reactor.h"

#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <utility>

namespace thaw {
namespace {

constexpr uint64_t kWakeId = 0;  // tasks count from 1

}  // namespace

int Poller::Watch(int fd, uint32_t events, bool* added) const {
  epoll_event event{};
  event.events = events;
  event.data.u64 = id_;
  // Safe: the descriptor is the task's own and open until Forget.
  if (epoll_ctl(epoll_, *added ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event) != 0) return errno;
  *added = true;
  return 0;
}

void Poller::Forget(int fd, bool* added) const {
  if (!*added) return;
  epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, nullptr);
  *added = false;
}

Failure Reactor::Start(const char* name) {
  epoll_ = UniqueFd(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_.valid()) return {errno, "epoll_create1", {}, {}};
  wake_ = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake_.valid()) return {errno, "eventfd", {}, {}};
  bool added = false;
  if (const int error = Poller(epoll_.get(), kWakeId).Watch(wake_.get(), EPOLLIN, &added))
    return {error, "epoll_ctl", {}, {}};

  // Signals are for Node's main thread: a thread inherits the mask, so it is full while this one is made.
  sigset_t all, old;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  // Shallow calls only; 8 MiB would count against the container's overhead where memory is overcommitted strictly.
  pthread_attr_setstacksize(&attributes, 256 * 1024);
  const int error = pthread_create(&thread_, &attributes, Main, this);
  pthread_attr_destroy(&attributes);
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
  if (error != 0) return {error, "pthread_create", {}, {}};
  pthread_setname_np(thread_, name);
  started_ = true;
  return {};
}

Reactor::~Reactor() {
  if (!started_) return;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    ending_ = true;
  }
  Wake();
  // Ends soon: the thread blocks in epoll_wait only, and in writes to regular files.
  pthread_join(thread_, nullptr);
}

void Reactor::Wake() {
  const uint64_t one = 1;
  // Fails only when the counter is full, and then the thread is awake anyway.
  [[maybe_unused]] const ssize_t ignored = write(wake_.get(), &one, sizeof one);
}

void Reactor::Post(Command command) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    commands_.push_back(std::move(command));
  }
  Wake();
}

void Reactor::Add(uint64_t id, std::unique_ptr<Task> task) { Post({Command::Kind::kAdd, id, std::move(task)}); }

void Reactor::Stop(uint64_t id) { Post({Command::Kind::kStop, id, nullptr}); }

void Reactor::Drain(uint64_t id) { Post({Command::Kind::kDrain, id, nullptr}); }

void* Reactor::Main(void* self) {
  static_cast<Reactor*>(self)->Loop();
  return nullptr;
}

void Reactor::Loop() {
  epoll_event events[64];
  for (;;) {
    const int count = epoll_wait(epoll_.get(), events, 64, again_.empty() ? -1 : 0);
    std::vector<uint64_t> turn = std::exchange(again_, {});
    for (int i = 0; i < count; i++) {
      if (events[i].data.u64 != kWakeId) turn.push_back(events[i].data.u64);
    }
    std::vector<Command> commands;
    {
      uint64_t ignored;
      [[maybe_unused]] const ssize_t drained = read(wake_.get(), &ignored, sizeof ignored);
      std::lock_guard<std::mutex> lock(mutex_);
      if (ending_) break;
      commands.swap(commands_);
    }
    for (Command& command : commands) Execute(std::move(command));
    for (const uint64_t id : turn) RunTask(id);
  }
  for (auto& [id, task] : tasks_) task->Detach(Poller(epoll_.get(), id));
  tasks_.clear();
}

void Reactor::Execute(Command command) {
  if (command.kind == Command::Kind::kAdd) {
    tasks_[command.id] = std::move(command.task);
  } else {
    const auto found = tasks_.find(command.id);
    if (found == tasks_.end()) return;
    if (command.kind == Command::Kind::kStop) found->second->Stop();
    else found->second->Drain();
  }
  RunTask(command.id);
}

void Reactor::RunTask(uint64_t id) {
  // An event may be left over from a task that has ended earlier in this turn.
  const auto found = tasks_.find(id);
  if (found == tasks_.end()) return;
  const Poller poller(epoll_.get(), id);
  Outcome outcome;
  switch (found->second->Run(poller, &outcome)) {
    case Task::Step::kWait:
      return;
    case Task::Step::kAgain:
      again_.push_back(id);
      return;
    case Task::Step::kReport:
      outcome.more = true;
      report_(context_, id, std::move(outcome));
      return;
    case Task::Step::kDone:
      found->second->Detach(poller);
      // Closes the descriptors before anybody hears of the end: who is told "done" may count on the other side
      // seeing end-of-file.
      tasks_.erase(found);
      report_(context_, id, std::move(outcome));
      return;
  }
}

}  // namespace thaw
