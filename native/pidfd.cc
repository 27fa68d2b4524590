#include "pidfd.h"

#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <memory>

#include "args.h"
#include "bridge.h"
#include "errors.h"
#include "fd.h"

#ifndef P_PIDFD
#define P_PIDFD 3  // linux/wait.h, 5.4
#endif

namespace thaw {
namespace {

// waitid(2) without waiting. False: nothing to reap yet, or *error is set.
bool Reap(idtype_t type, id_t id, Outcome* outcome, int* error) {
  siginfo_t info{};
  int result;
  // Safe: names exactly one process, so no other child's status can be taken, and WNOHANG never blocks.
  do result = waitid(type, id, &info, WEXITED | WNOHANG);
  while (result != 0 && errno == EINTR);
  if (result != 0) {
    *error = errno;
    return false;
  }
  if (info.si_pid == 0) return false;
  outcome->kind = Outcome::Kind::kExit;
  outcome->signal = info.si_code == CLD_EXITED ? 0 : info.si_status;
  outcome->code = info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
  return true;
}

class ExitTask : public Task {
 public:
  explicit ExitTask(int pidfd) : pidfd_(pidfd) {}

  Step Run(const Poller& poller, Outcome* outcome) override {
    outcome->kind = Outcome::Kind::kExit;
    int error = 0;
    if (Reap(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(pidfd_.get()), outcome, &error)) return Step::kDone;
    if (error != 0) {
      outcome->failure = {error, "waitid", {}, {}};
      return Step::kDone;
    }
    if (watched_) return Step::kWait;
    // Edge-triggered: a zombie that is still traced by another process makes the pidfd readable while the parent
    // cannot reap it. The kernel wakes the pidfd again when the tracer lets go (do_notify_parent).
    if (const int refused = poller.Watch(pidfd_.get(), EPOLLIN | EPOLLET, &watched_)) {
      outcome->failure = {refused, "epoll_ctl", {}, {}};
      return Step::kDone;
    }
    return Step::kWait;
  }

  void Detach(const Poller& poller) override { poller.Forget(pidfd_.get(), &watched_); }

  // Gives the descriptor back when the task could not be handed over.
  void Disown() { pidfd_.release(); }

 private:
  UniqueFd pidfd_;
  bool watched_ = false;
};

}  // namespace

Napi::Value PidfdOpen(const Napi::CallbackInfo& info) {
  Args args(info);
  const int pid = args.Pid(0);
  if (!args.ok()) return info.Env().Undefined();
  // Safe: takes a number, gives a new descriptor that is always close-on-exec.
  const long fd = syscall(SYS_pidfd_open, pid, 0);
  if (fd < 0) return Throw(info.Env(), {errno, "pidfd_open", {}, {}});
  return Napi::Number::New(info.Env(), static_cast<double>(fd));
}

Napi::Value PidfdSendSignal(const Napi::CallbackInfo& info) {
  Args args(info);
  const int pidfd = args.Fd(0);
  const int signal = static_cast<int>(args.Integer(1, 0, 64, "a signal number"));
  if (!args.ok()) return info.Env().Undefined();
  // Safe: the descriptor names one process for good, so a reused pid is never hit.
  if (syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0) != 0)
    return Throw(info.Env(), {errno, "pidfd_send_signal", {}, {}});
  return info.Env().Undefined();
}

Napi::Value PidfdWait(const Napi::CallbackInfo& info) {
  Args args(info);
  const int pidfd = args.Fd(0);
  const Napi::Function done = args.Function(1);
  if (!args.ok()) return info.Env().Undefined();
  auto exit = std::make_unique<ExitTask>(pidfd);
  ExitTask* const raw = exit.get();
  std::unique_ptr<Task> task = std::move(exit);
  if (Bridge::Of(info.Env()).Submit(task, done) == 0) raw->Disown();
  return info.Env().Undefined();
}

Napi::Value ReapZombie(const Napi::CallbackInfo& info) {
  Args args(info);
  const int pid = args.Pid(0);
  if (!args.ok()) return info.Env().Undefined();
  Outcome outcome;
  int error = 0;
  if (!Reap(P_PID, static_cast<id_t>(pid), &outcome, &error)) {
    if (error == 0 || error == ECHILD) return info.Env().Undefined();
    return Throw(info.Env(), {error, "waitid", {}, {}});
  }
  Napi::Object status = Napi::Object::New(info.Env());
  status.Set("code", outcome.code);
  status.Set("signal", outcome.signal);
  return status;
}

}  // namespace thaw
