#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "args.h"
#include "child-stack.h"
#include "errors.h"
#include "fd.h"

#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x00001000  // linux/sched.h, 5.2
#endif

namespace thaw {
namespace {

constexpr size_t kStack = 64 * 1024;
constexpr int kMostDescriptors = 16;
constexpr unsigned kCloseOnExec = 1u << 2;    // CLOSE_RANGE_CLOEXEC, linux/close_range.h, 5.11
constexpr unsigned kProcessGroup = 1u << 2;   // PIDFD_SIGNAL_PROCESS_GROUP, linux/pidfd.h, 6.9

struct Program {
  const char* file;
  char* const* arguments;
  char* const* environment;
  const char* directory;  // null: ours
  const int* descriptors;
  int count;
  rlim_t open_files;  // soft limit of descriptors; 0: ours
  pid_t parent;
  // Written by the child, which shares our memory until it executes the program.
  int error;
  const char* syscall;
};

// Runs in the child, on a stack of its own, while our thread waits in clone(2): other threads go on and may hold any
// lock, so nothing here allocates or takes one.
int Child(void* data) {
  Program& program = *static_cast<Program*>(data);
  const auto fail = [&program](const char* syscall) {
    program.error = errno;
    program.syscall = syscall;
    _exit(127);
    return 0;
  };
  // Safe: a handler of ours would run in our memory; the table is the child's own copy. SIGKILL and SIGSTOP refuse.
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  for (int signal = 1; signal < NSIG; signal++) sigaction(signal, &standard, nullptr);
  // Safe: a session of its own makes a group that one signal ends.
  if (setsid() < 0) return fail("setsid");
  // Safe: concerns the child alone. Without it a killed shim would leave a runc that nobody knows.
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) return fail("prctl");
  if (getppid() != program.parent) _exit(127);  // the parent ended before that

  // Safe: the descriptor table is the child's own copy. First out of the way of every target number, then into place.
  int sources[kMostDescriptors];
  for (int i = 0; i < program.count; i++) {
    sources[i] = program.descriptors[i] < 0 ? open("/dev/null", O_RDWR | O_CLOEXEC) : program.descriptors[i];
    if (sources[i] < 0) return fail("open");
    sources[i] = fcntl(sources[i], F_DUPFD_CLOEXEC, program.count);
    if (sources[i] < 0) return fail("fcntl");
  }
  for (int i = 0; i < program.count; i++) {
    if (dup2(sources[i], i) < 0) return fail("dup2");
  }
  // Safe: nothing but what was asked for is inherited, whatever opened it. Before 5.11 there is only O_CLOEXEC, which
  // Node and this addon set on all they open.
  syscall(SYS_close_range, program.count, ~0u, kCloseOnExec);

  if (program.open_files > 0) {
    rlimit limit{};
    // Safe: a soft limit may always be lowered.
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return fail("getrlimit");
    if (program.open_files < limit.rlim_cur) {
      limit.rlim_cur = program.open_files;
      if (setrlimit(RLIMIT_NOFILE, &limit) != 0) return fail("setrlimit");
    }
  }
  if (program.directory && chdir(program.directory) != 0) return fail("chdir");
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  execve(program.file, program.arguments, program.environment);
  return fail("execve");
}

std::vector<char*> Pointers(const std::vector<std::string>& strings, const std::string* first = nullptr) {
  std::vector<char*> pointers;
  if (first) pointers.push_back(const_cast<char*>(first->c_str()));
  for (const std::string& string : strings) pointers.push_back(const_cast<char*>(string.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

Failure Start(Program* program, pid_t* pid, int* pidfd) {
  const ChildStack stack(kStack);
  if (!stack.valid()) return {errno, "mmap", {}, {}};
  sigset_t all, old;
  sigfillset(&all);
  // Safe: no signal may run a handler in the child before it has given the handlers up.
  pthread_sigmask(SIG_SETMASK, &all, &old);
  // Safe: with CLONE_VFORK this thread continues only when the child has let go of our memory. No page table is copied,
  // which for a process of Node's size is most of what fork(2) costs. The descriptor is close-on-exec.
  *pid = clone(Child, stack.top(), CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, program, pidfd, nullptr, nullptr);
  const int error = errno;
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
  if (*pid < 0) return {error, "clone", {}, {}};
  if (program->error == 0) return {};
  // Safe: our own child, known by its pidfd, that has ended already.
  siginfo_t info;
  while (waitid(static_cast<idtype_t>(3 /* P_PIDFD */), static_cast<id_t>(*pidfd), &info, WEXITED) != 0 &&
         errno == EINTR) {
  }
  close(*pidfd);
  const bool names_directory = program->directory && std::string(program->syscall) == "chdir";
  return {program->error, program->syscall, names_directory ? program->directory : program->file, {}};
}

}  // namespace

Napi::Value Spawn(const Napi::CallbackInfo& info) {
  Args args(info);
  const std::string file = args.String(0);
  const std::vector<std::string> arguments = args.Strings(1);
  const std::vector<std::string> environment = args.Strings(2);
  const std::string directory = args.String(3);
  const std::vector<int> descriptors = args.Descriptors(4, kMostDescriptors);
  const int64_t open_files = args.Integer(5, 0, INT64_C(1) << 53, "a number of descriptors");
  if (!args.ok()) return info.Env().Undefined();

  const std::vector<char*> argument_pointers = Pointers(arguments, &file);
  const std::vector<char*> environment_pointers = Pointers(environment);
  Program program{file.c_str(),
                  argument_pointers.data(),
                  environment_pointers.data(),
                  directory.empty() ? nullptr : directory.c_str(),
                  descriptors.data(),
                  static_cast<int>(descriptors.size()),
                  static_cast<rlim_t>(open_files),
                  getpid(),
                  0,
                  ""};
  pid_t pid = -1;
  int pidfd = -1;
  if (const Failure failure = Start(&program, &pid, &pidfd)) return Throw(info.Env(), failure);
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("pid", Napi::Number::New(info.Env(), pid));
  result.Set("pidfd", Napi::Number::New(info.Env(), pidfd));
  return result;
}

Napi::Value SignalGroup(const Napi::CallbackInfo& info) {
  Args args(info);
  const int pidfd = args.Fd(0);
  const int pid = args.Pid(1);
  const int signal = static_cast<int>(args.Integer(2, 0, 64, "a signal number"));
  if (!args.ok()) return info.Env().Undefined();
  // Safe: the descriptor names one process for good, and with it its group.
  if (syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, kProcessGroup) == 0) return info.Env().Undefined();
  if (errno == EINVAL) {
    // Before 6.9. Safe: as long as the leader can be signalled it is not reaped, so its pid still names its group.
    if (syscall(SYS_pidfd_send_signal, pidfd, 0, nullptr, 0) == 0 && kill(-pid, signal) == 0)
      return info.Env().Undefined();
  }
  return Throw(info.Env(), {errno, "pidfd_send_signal", {}, {}});
}

Napi::Value MemoryFile(const Napi::CallbackInfo& info) {
  // Safe: memory of our own that goes with its last descriptor, which is close-on-exec.
  const int fd = memfd_create("thaw", MFD_CLOEXEC);
  if (fd < 0) return Throw(info.Env(), {errno, "memfd_create", {}, {}});
  return Napi::Number::New(info.Env(), fd);
}

}  // namespace thaw
