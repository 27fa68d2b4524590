// Chunks of the node cache that are verified and written.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace thaw {

// Which chunks are here, by ordinal. Any thread; bits are only set.
class Presence {
 public:
  explicit Presence(uint32_t chunks) : bytes_(new std::atomic<uint8_t>[(chunks + 7) / 8]()), chunks_(chunks) {}
  bool Has(uint32_t ordinal) const {
    return ordinal < chunks_ && (bytes_[ordinal / 8].load(std::memory_order_acquire) >> (ordinal % 8) & 1);
  }
  // One bit a chunk, lowest first.
  void Add(const uint8_t* bits, size_t length) {
    for (size_t i = 0; i < length && i < (chunks_ + 7) / 8; i++)
      if (bits[i]) bytes_[i].fetch_or(bits[i], std::memory_order_release);
  }
  void Set(uint32_t ordinal) {
    if (ordinal < chunks_)
      bytes_[ordinal / 8].fetch_or(static_cast<uint8_t>(1u << (ordinal % 8)), std::memory_order_release);
  }
  uint32_t chunks() const { return chunks_; }

 private:
  const std::unique_ptr<std::atomic<uint8_t>[]> bytes_;
  const uint32_t chunks_;
};

}  // namespace thaw
