#include "processes.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>

#include "files.h"

namespace thaw {
namespace {

std::string ProcPath(pid_t pid, const char* name) { return "/proc/" + std::to_string(pid) + '/' + name; }

std::vector<pid_t> NumbersIn(const std::string& directory) {
  std::vector<pid_t> numbers;
  DIR* const stream = opendir(directory.c_str());
  if (!stream) return numbers;
  while (const dirent* const entry = readdir(stream)) {
    const int number = atoi(entry->d_name);
    if (number > 0) numbers.push_back(number);
  }
  closedir(stream);
  return numbers;
}

// Fields of /proc/PID/stat from the third on: the name before them may hold anything, also parentheses.
std::vector<std::string> StatOf(pid_t pid) {
  std::vector<std::string> fields;
  std::string text;
  if (ReadFile(ProcPath(pid, "stat"), 4096, &text) != 0) return fields;
  const size_t name_end = text.rfind(')');
  for (size_t at = name_end; at != std::string::npos && at + 2 < text.size();) {
    const size_t begin = at == name_end ? at + 2 : at + 1;
    at = text.find(' ', begin);
    fields.push_back(text.substr(begin, at - begin));
  }
  return fields;
}

pid_t ParentOf(pid_t pid) {
  const std::vector<std::string> fields = StatOf(pid);
  return fields.size() > 1 ? atoi(fields[1].c_str()) : -1;
}

std::vector<pid_t> ChildrenOf(pid_t pid) {
  std::vector<pid_t> children;
  for (const pid_t thread : NumbersIn(ProcPath(pid, "task"))) {
    std::string text;
    if (ReadFile(ProcPath(pid, "task/") + std::to_string(thread) + "/children", 1 << 20, &text) != 0) continue;
    for (const char* at = text.c_str(); *at;) {
      char* end;
      const long child = strtol(at, &end, 10);
      if (end == at) break;
      children.push_back(static_cast<pid_t>(child));
      at = *end ? end + 1 : end;
    }
  }
  return children;
}

}  // namespace

bool Victims::Add(pid_t pid, const std::function<bool()>& still) {
  // A victim that somebody moved into our own cgroup, for example, must not take containerd along.
  if (pid <= 1 || pid == getpid() || pid == getppid()) return false;
  for (const Held& held : held_)
    if (held.pid == pid) return false;
  // Safe: takes a number, gives a new descriptor that is always close-on-exec.
  UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd.valid() || !still()) return false;
  held_.push_back({pid, std::move(pidfd)});
  return true;
}

void Victims::AddDescendants() {
  constexpr int kMostRounds = 20;
  size_t before = 0;
  for (int round = 0; round < kMostRounds && before != held_.size(); round++) {
    before = held_.size();
    // Grows while it is walked.
    for (size_t at = 0; at < held_.size(); at++) {
      const pid_t parent = held_[at].pid;
      Signal(held_[at], SIGSTOP);
      for (const pid_t child : ChildrenOf(parent)) Add(child, [=] { return ParentOf(child) == parent; });
    }
    SleepMs(1);
  }
}

void Victims::Signal(const Held& held, int signal) const {
  // Safe: the descriptor names one process for good.
  syscall(SYS_pidfd_send_signal, held.pidfd.get(), signal, nullptr, 0);
}

// A stopped or traced process is killed as any other.
void Victims::Kill() const {
  for (const Held& held : held_) Signal(held, SIGKILL);
}

bool Victims::Wait(const Deadline& deadline) const {
  for (const Held& held : held_) {
    pollfd ended{held.pidfd.get(), POLLIN, 0};
    int result;
    do result = poll(&ended, 1, deadline.LeftMs());
    while (result < 0 && errno == EINTR);
    if (result == 0) return false;
  }
  return true;
}

std::vector<pid_t> AllProcesses() { return NumbersIn("/proc"); }

std::vector<std::string> ArgumentsOf(pid_t pid) {
  std::vector<std::string> arguments;
  std::string text;
  constexpr size_t kMostBytes = 1 << 20;
  if (ReadFile(ProcPath(pid, "cmdline"), kMostBytes, &text) != 0) return arguments;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\0', at), text.size());
    arguments.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return arguments;
}

std::string LinkOf(pid_t pid, const char* name) {
  char target[PATH_MAX];
  const ssize_t length = readlink(ProcPath(pid, name).c_str(), target, sizeof target);
  return length < 0 ? std::string() : std::string(target, static_cast<size_t>(length));
}

pid_t SessionOf(pid_t pid) {
  const std::vector<std::string> fields = StatOf(pid);
  return fields.size() > 3 ? atoi(fields[3].c_str()) : -1;
}

bool HasEnded(pid_t pid) {
  const std::vector<std::string> fields = StatOf(pid);
  // One that is ending has given up its memory, and its arguments with it, some time before it is a zombie.
  return fields.empty() || fields[0] == "Z" || fields[0] == "X" || ArgumentsOf(pid).empty();
}

int64_t StartedAt(pid_t pid) {
  constexpr size_t kStartTime = 19;  // field 22 of proc_pid_stat(5), in clock ticks since boot
  const std::vector<std::string> fields = StatOf(pid);
  if (fields.size() <= kStartTime) return 0;
  constexpr int64_t kSecond = 1'000'000'000;
  timespec now{}, since_boot{};
  clock_gettime(CLOCK_REALTIME, &now);
  clock_gettime(CLOCK_BOOTTIME, &since_boot);
  const int64_t boot = (now.tv_sec - since_boot.tv_sec) * kSecond + now.tv_nsec - since_boot.tv_nsec;
  return boot + atoll(fields[kStartTime].c_str()) * (kSecond / sysconf(_SC_CLK_TCK));
}

}  // namespace thaw
