// What the memory of a pretended process holds: a pure function of seed, process and page, so that every byte can be
// checked without a file.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <vector>

namespace thaw {

constexpr uint64_t kPageBytes = 4096;
constexpr size_t kPageWords = kPageBytes / sizeof(uint64_t);

inline uint64_t SplitMix64(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

// Not for secrets; the same seed gives the same numbers.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t Next() { return SplitMix64(state_++); }
  uint64_t Below(uint64_t limit) { return Next() % limit; }

 private:
  uint64_t state_;
};

struct ZeroRun {
  uint64_t first, pages;
};

// The pages file of one process.
class Content {
 public:
  Content(uint64_t seed, uint32_t pid, std::vector<ZeroRun> zeros)
      : key_(seed ^ static_cast<uint64_t>(pid) << 48), zeros_(std::move(zeros)) {}

  void Fill(uint64_t page, uint64_t* words) const {
    if (IsZero(page)) {
      memset(words, 0, kPageBytes);
      return;
    }
    for (size_t i = 0; i < kPageWords; i++) words[i] = SplitMix64(key_ ^ (page * kPageWords + i));
  }

 private:
  // Every seventh page, so that there are zero pages of which no pagemap tells, and the declared runs.
  bool IsZero(uint64_t page) const {
    if (page % 7 == 3) return true;
    for (const ZeroRun& run : zeros_)
      if (page >= run.first && page - run.first < run.pages) return true;
    return false;
  }

  uint64_t key_;
  std::vector<ZeroRun> zeros_;
};

}  // namespace thaw
