// One bit a page. Bits are only ever cleared once it is shared, by any thread.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>

namespace thaw {

class PageBits {
 public:
  explicit PageBits(uint64_t pages) : words_(new std::atomic<uint64_t>[(pages + 63) / 64]()), pages_(pages) {}
  PageBits(const PageBits& other) : PageBits(other.pages_) {
    for (uint64_t i = 0; i < (pages_ + 63) / 64; i++)
      words_[i].store(other.words_[i].load(std::memory_order_relaxed), std::memory_order_relaxed);
  }
  PageBits& operator=(const PageBits&) = delete;

  bool Has(uint64_t page) const {
    return page < pages_ && (words_[page / 64].load(std::memory_order_acquire) >> (page % 64) & 1);
  }

  // Returns how many were not set before.
  uint64_t Set(uint64_t from, uint64_t end) {
    return Change(from, end, [](std::atomic<uint64_t>& word, uint64_t mask) { return ~word.fetch_or(mask) & mask; });
  }
  // Returns how many were set before.
  uint64_t Clear(uint64_t from, uint64_t end) {
    return Change(from, end, [](std::atomic<uint64_t>& word, uint64_t mask) { return word.fetch_and(~mask) & mask; });
  }

  // The first page of [from, end) whose bit is set; `end` if there is none.
  uint64_t First(uint64_t from, uint64_t end) const { return Find(from, end, 0); }
  // The first page of [from, end) whose bit is not set; `end` if there is none.
  uint64_t FirstClear(uint64_t from, uint64_t end) const { return Find(from, end, ~uint64_t{0}); }

 private:
  template <typename Apply>
  uint64_t Change(uint64_t from, uint64_t end, Apply apply) {
    uint64_t changed = 0;
    for (end = std::min(end, pages_); from < end;) {
      const uint64_t bit = from % 64, count = std::min(64 - bit, end - from);
      const uint64_t mask = (count == 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1) << bit;
      changed += static_cast<uint64_t>(__builtin_popcountll(apply(words_[from / 64], mask)));
      from += count;
    }
    return changed;
  }

  uint64_t Find(uint64_t from, uint64_t end, uint64_t flip) const {
    for (end = std::min(end, pages_); from < end; from = (from / 64 + 1) * 64) {
      const uint64_t word = (words_[from / 64].load(std::memory_order_acquire) ^ flip) >> (from % 64);
      if (word) return std::min(end, from + static_cast<uint64_t>(__builtin_ctzll(word)));
    }
    return end;
  }

  const std::unique_ptr<std::atomic<uint64_t>[]> words_;
  const uint64_t pages_;
};

}  // namespace thaw
