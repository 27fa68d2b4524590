// A pages file of the node cache. Its bytes arrive while it is read: a chunk may be read once it is present.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "../errors.h"
#include "../fd.h"
#include "../presence.h"

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

}  // namespace thaw
