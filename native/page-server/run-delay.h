// How long a thread was ready to run while others had the processors.
#pragma once

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstdint>

#include "../fd.h"

namespace thaw {

class RunDelay {
 public:
  // Of the calling thread. Safe: opens what the kernel makes; a kernel without it is one where nothing is known.
  RunDelay() : file_(open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC)) {}

  // Nanoseconds since the last call; 0 where the kernel does not tell. Source: the kernel's scheduler/sched-stats.rst, the
  // second number.
  uint64_t Take() {
    char text[96];
    // Safe: fills a buffer of this function.
    const ssize_t size = file_.valid() ? pread(file_.get(), text, sizeof text - 1, 0) : -1;
    if (size <= 0) return 0;
    text[size] = '\0';
    char* second = nullptr;
    strtoull(text, &second, 10);
    const uint64_t total = strtoull(second, nullptr, 10), taken = total - total_;
    total_ = total;
    return taken;
  }

 private:
  const UniqueFd file_;
  uint64_t total_ = 0;
};

}  // namespace thaw
