#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "files.h"

#ifndef PR_SCHED_CORE
#define PR_SCHED_CORE 62  // linux/prctl.h, 5.14
#define PR_SCHED_CORE_CREATE 1
#define PR_SCHED_CORE_SCOPE_THREAD_GROUP 1
#endif

namespace thaw {
namespace {

// What the child could not do, told through a pipe that closes when the program runs.
struct Report {
  enum Step { kDescriptor, kCgroup, kExec, kSchedCore } step;
  int error;
};

constexpr int kServerListener = 3;
// Above every number that the child gives away, so that dup2(2) hits none of its own.
constexpr int kOutOfTheWay = 10;

std::vector<char*> Pointers(const std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (const std::string& text : texts) pointers.push_back(const_cast<char*>(text.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

struct Prepared {
  const char* program;
  char* const* arguments;
  char* const* environment;
  char oom_score[16];
  size_t oom_score_size;
  pid_t parent;
  int listener;
  int reports;
};

void Tell(int reports, Report::Step step, int error) {
  const Report report{step, error};
  // Safe: shorter than PIPE_BUF, so it is whole or not there; the parent reads to the end.
  if (write(reports, &report, sizeof report) < 0) return;
}

[[noreturn]] void Give(int reports, Report::Step step, int error) {
  Tell(reports, step, error);
  _exit(127);
}

// Between fork and exec: system calls alone. Nothing here allocates, locks or uses stdio.
[[noreturn]] void RunChild(const ChildPlan& plan, const Prepared& prepared) {
  const int reports = prepared.reports;
  // Safe: a fresh child leads no process group, so this cannot fail. Signals for containerd's group do not reach it.
  setsid();
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  signal(SIGPIPE, SIG_DFL);
  if (!plan.outlives_us) {
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (getppid() != prepared.parent) _exit(127);  // it ended before the request
  }
  // "0" is the writer itself: in its cgroup before it has any memory or thread to account for.
  for (const UniqueFd& join : plan.joins)
    if (write(join.get(), "0", 1) != 1) Give(reports, Report::kCgroup, errno);
  if (prepared.oom_score_size > 0) {
    // Without CAP_SYS_RESOURCE it cannot be lowered below what it was started with.
    const int file = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (file >= 0 && write(file, prepared.oom_score, prepared.oom_score_size) < 0) errno = 0;
  }
  // Safe: for this one thread; what it starts inherits the cookie.
  if (plan.sched_core &&
      prctl(PR_SCHED_CORE, PR_SCHED_CORE_CREATE, 0, PR_SCHED_CORE_SCOPE_THREAD_GROUP, 0) != 0)
    Tell(reports, Report::kSchedCore, errno);
  for (int fd = 0; fd < 3; fd++)
    if (dup2(plan.standard[fd], fd) < 0) Give(reports, Report::kDescriptor, errno);
  if (prepared.listener >= 0 && dup2(prepared.listener, kServerListener) < 0)
    Give(reports, Report::kDescriptor, errno);
  execve(prepared.program, prepared.arguments, prepared.environment);
  Give(reports, Report::kExec, errno);
}

// The same open file under a number that the child does not give away. Close-on-exec.
UniqueFd MoveAway(int fd) { return UniqueFd(fcntl(fd, F_DUPFD_CLOEXEC, kOutOfTheWay)); }

Error ReadReports(int reports, const ChildPlan& plan, Child* child) {
  std::string text;
  if (const int error = ReadAll(reports, 4096, &text)) return Cannot("start", plan.command.program, error);
  for (size_t at = 0; at + sizeof(Report) <= text.size(); at += sizeof(Report)) {
    Report report;
    memcpy(&report, text.data() + at, sizeof report);
    switch (report.step) {
      case Report::kSchedCore:
        child->warning = Cannot("enable core scheduling for", plan.command.program, report.error).text;
        break;
      case Report::kCgroup:
        return Cannot("move into its cgroup", plan.command.program, report.error);
      case Report::kDescriptor:
      case Report::kExec:
        return Cannot("run", plan.command.program, report.error);
    }
  }
  return {};
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
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return Cannot("start", plan.command.program, errno);
  const UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  UniqueFd reports = MoveAway(writer.get());
  UniqueFd listener = plan.listener >= 0 ? MoveAway(plan.listener) : UniqueFd();
  if (!reports.valid() || (plan.listener >= 0 && !listener.valid()))
    return Cannot("start", plan.command.program, errno);
  const std::vector<char*> arguments = Pointers(plan.command.arguments);
  const std::vector<char*> environment = Pointers(plan.command.environment);
  Prepared prepared{plan.command.program.c_str(), arguments.data(), environment.data(), {}, 0, getpid(),
                    listener.get(), reports.get()};
  if (plan.oom_score != INT_MIN) {
    const std::string score = std::to_string(plan.oom_score);
    prepared.oom_score_size = score.copy(prepared.oom_score, sizeof prepared.oom_score);
  }
  child->pid = fork();
  if (child->pid < 0) return Cannot("start", plan.command.program, errno);
  if (child->pid == 0) RunChild(plan, prepared);
  writer = UniqueFd();
  reports = UniqueFd();
  Error error = ReadReports(reader.get(), plan, child);
  if (!error) return {};
  // It has ended by itself, or never got as far as the program.
  kill(child->pid, SIGKILL);
  waitpid(child->pid, nullptr, 0);
  return error;
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
