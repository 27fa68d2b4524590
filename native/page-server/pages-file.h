// A pages file of the node cache. Its bytes arrive while it is read: a chunk may be read once it is present.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "../errors.h"
#include "../fd.h"

namespace thaw {

// Pages that arrive together. What no chunk of the file covers is zero.
struct PageChunk {
  uint64_t page;
  uint64_t pages;
};

class PagesFile {
 public:
  // `fd` stays the caller's. `chunks` are in order and do not overlap; their ordinals count from `first_ordinal`.
  Failure Open(int fd, uint64_t size, uint32_t first_ordinal, std::vector<PageChunk> chunks);

  uint64_t pages() const { return pages_; }
  uint32_t first_ordinal() const { return first_ordinal_; }
  const std::vector<PageChunk>& chunks() const { return chunks_; }
  // Position of the chunk that has the page in chunks(), or chunks().size() for a page of zeros.
  size_t ChunkOf(uint64_t page) const;
  // Waits for the disk where it has to.
  Failure Read(uint64_t page, uint64_t pages, void* buffer) const;

 private:
  UniqueFd fd_;
  uint64_t pages_ = 0;
  uint32_t first_ordinal_ = 0;
  std::vector<PageChunk> chunks_;
};

// Which chunks of all files are here, by ordinal. Any thread; bits are only set.
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
  uint32_t chunks() const { return chunks_; }

 private:
  const std::unique_ptr<std::atomic<uint8_t>[]> bytes_;
  const uint32_t chunks_;
};

}  // namespace thaw
