#include "touch-cost.h"

#include <errno.h>
#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "errors.h"

namespace thaw {
namespace {

constexpr int kPopulateWrite = 23;           // MADV_POPULATE_WRITE, asm-generic/mman-common.h, 5.14
constexpr size_t kStride = 64 << 10;         // further than any hypervisor looks ahead
constexpr size_t kTouches = 33;
constexpr size_t kLength = kTouches * kStride;

int64_t Now() {
  timespec now;
  // Safe: writes to a structure of this function.
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000'000LL + now.tv_nsec;
}

}  // namespace

Napi::Value TouchCost(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  // Safe: memory of our own, until the end of this function.
  void* const memory = mmap(nullptr, kLength, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return Throw(env, {errno, "mmap", {}, {}});
  // Safe: advice on that memory. Where there are no huge pages it fails, and there are none to avoid.
  madvise(memory, kLength, MADV_NOHUGEPAGE);
  // Safe: the same. Now the kernel has mapped every page, and the processor has seen none of it.
  if (madvise(memory, kLength, kPopulateWrite) != 0) {
    const int error = errno;
    munmap(memory, kLength);
    return Throw(env, {error, "madvise", {}, {}});
  }
  std::vector<int64_t> costs;
  costs.reserve(kTouches);
  for (size_t at = 0; at < kLength; at += kStride) {
    const int64_t before = Now();
    static_cast<void>(static_cast<volatile uint8_t*>(memory)[at]);
    costs.push_back(Now() - before);
  }
  munmap(memory, kLength);
  // Whoever was interrupted in one or the other touch does not count.
  const auto middle = costs.begin() + kTouches / 2;
  std::nth_element(costs.begin(), middle, costs.end());
  return Napi::Number::New(env, static_cast<double>(*middle));
}

}  // namespace thaw
