// Deadlines on the monotonic clock.
#pragma once

#include <stdint.h>
#include <time.h>

namespace thaw {

inline int64_t MonotonicMs() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<int64_t>(now.tv_sec) * 1000 + now.tv_nsec / 1'000'000;
}

class Deadline {
 public:
  explicit Deadline(int64_t ms) : at_(MonotonicMs() + ms) {}
  // The earlier of this one and one in `ms`.
  Deadline Within(int64_t ms) const {
    Deadline other(ms);
    if (at_ < other.at_) other.at_ = at_;
    return other;
  }
  // Never negative, so that poll(2) takes it.
  int LeftMs() const {
    const int64_t left = at_ - MonotonicMs();
    return left > 0 ? static_cast<int>(left) : 0;
  }
  bool over() const { return LeftMs() == 0; }

 private:
  int64_t at_;
};

inline void SleepMs(int ms) {
  timespec pause{ms / 1000, ms % 1000 * 1'000'000};
  nanosleep(&pause, nullptr);
}

}  // namespace thaw
