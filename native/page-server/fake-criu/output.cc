#include "output.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>

namespace thaw {
namespace {

const char* g_who = "";

// No malloc: also called in the child of a fork of a process with threads.
void WriteLine(int fd, const char* format, va_list arguments) {
  char line[512];
  const int length = vsnprintf(line, sizeof line - 1, format, arguments);
  const size_t end = std::min(static_cast<size_t>(std::max(length, 0)), sizeof line - 2);
  line[end] = '\n';
  // A reader that is gone is no reason to stop.
  static_cast<void>(!write(fd, line, end + 1));
}

void OnAlarm(int) {
  // Safe in a handler: nothing but write(2) and _exit(2).
  const char* const text = "timed out: ";
  static_cast<void>(!write(STDOUT_FILENO, text, strlen(text)));
  static_cast<void>(!write(STDOUT_FILENO, g_who, strlen(g_who)));
  static_cast<void>(!write(STDOUT_FILENO, "\n", 1));
  _exit(kWrong);
}

}  // namespace

void Say(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  WriteLine(STDOUT_FILENO, format, arguments);
  va_end(arguments);
}

void Die(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  WriteLine(STDERR_FILENO, format, arguments);
  va_end(arguments);
  _exit(kBroken);
}

void LimitTime(unsigned seconds, const char* who) {
  g_who = who;
  struct sigaction action {};
  action.sa_handler = OnAlarm;
  sigaction(SIGALRM, &action, nullptr);
  alarm(seconds);
}

}  // namespace thaw
