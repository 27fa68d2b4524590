// thaw-cuda: asks the CUDA driver to take processes off the GPU and to put them back. A process of its own, so that a crash
// of the driver's library takes nobody with it and a call that never returns can be ended with it. Requests come on stdin,
// a line each (request.h); each is answered on stdout when it is done, in any order.
//
//   thaw-cuda [--libcuda PATH] [--nvml PATH] [--gpus]
//
// With --gpus it answers that one request, without its number, and ends.
// The first line out: `ready PATH VERSION`, or `problem TEXT` and the end. It ends with its stdin, whatever is under way.

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <mutex>
#include <string>
#include <thread>

#include "driver.h"
#include "request.h"

namespace thaw {
namespace {

constexpr size_t kLongestLine = 64 << 10;
std::mutex output;

// Whole lines, one at a time. Who no longer reads is gone, and so are we.
void Say(const std::string& line) {
  const std::string text = line + '\n';
  const std::lock_guard<std::mutex> guard(output);
  for (size_t at = 0; at < text.size();) {
    const ssize_t written = write(STDOUT_FILENO, text.data() + at, text.size() - at);
    if (written <= 0) _exit(1);
    at += static_cast<size_t>(written);
  }
}

void Serve(const Driver& driver, const std::string& management) {
  std::string buffer;
  char part[4096];
  for (;;) {
    const ssize_t size = read(STDIN_FILENO, part, sizeof part);
    if (size <= 0) return;
    buffer.append(part, static_cast<size_t>(size));
    for (size_t end; (end = buffer.find('\n')) != std::string::npos; buffer.erase(0, end + 1)) {
      // A thread each: a call on one process may wait for as long as that process is stopped.
      std::thread([request = Fields(std::string_view(buffer).substr(0, end)), &driver, &management] {
        Say(request[0] + '\t' + Answer(request, driver, management));
      }).detach();
    }
    if (buffer.size() > kLongestLine) return;
  }
}

int Run(int argc, char** argv) {
  std::string cuda, management;
  bool gpus = false;
  for (int at = 1; at < argc; at++) {
    const char* const value = at + 1 < argc ? argv[at + 1] : "";
    if (strcmp(argv[at], "--gpus") == 0) gpus = true;
    else if (strcmp(argv[at], "--libcuda") == 0) cuda = value, at++;
    else if (strcmp(argv[at], "--nvml") == 0) management = value, at++;
    else return Say(std::string("problem\tunknown argument ") + argv[at]), 1;
  }
  static Driver driver;
  const std::string problem = driver.Open(cuda);
  if (!problem.empty()) return Say("problem\t" + problem), 1;
  Say("ready\t" + driver.path() + '\t' + std::to_string(driver.version()));
  if (gpus) return Say(Answer({"", "gpus"}, driver, management)), 0;
  Serve(driver, management);
  return 0;
}

}  // namespace
}  // namespace thaw

int main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);
  // Devices are made with the mode that they are given.
  umask(0);
  // No destructors: threads may still be inside the driver.
  _exit(thaw::Run(argc, argv));
}
