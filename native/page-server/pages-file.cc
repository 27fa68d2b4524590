#include "pages-file.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22  // asm-generic/mman-common.h, 5.14
#endif

namespace thaw {

PagesFile::~PagesFile() {
  // Safe: the mapping is this object's own, and no copier outlives it.
  if (base_) munmap(base_, size_);
}

Failure PagesFile::Map(int fd, uint64_t size, uint32_t first_ordinal, std::vector<PageChunk> chunks) {
  struct stat status;
  // Safe: writes to a structure of this function.
  if (fstat(fd, &status) != 0) return {errno, "fstat", {}, {}};
  if (!S_ISREG(status.st_mode) || size == 0 || static_cast<uint64_t>(status.st_size) != size || size % 4096 != 0)
    return {EINVAL, "mmap", {}, "the pages file is not one, or has another size than the index says"};
  uint64_t end = 0;
  for (const PageChunk& chunk : chunks) {
    if (chunk.pages == 0 || chunk.page < end || chunk.pages > size / 4096 || chunk.page > size / 4096 - chunk.pages)
      return {EINVAL, "mmap", {}, "a chunk lies outside of its pages file, or over another one"};
    end = chunk.page + chunk.pages;
  }
  // Safe: read-only. The file is only ever unlinked, never cut, so no access can end in SIGBUS for want of bytes.
  void* const base = mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0);
  if (base == MAP_FAILED) return {errno, "mmap", {}, {}};
  base_ = static_cast<uint8_t*>(base);
  size_ = size;
  pages_ = size / 4096;
  first_ordinal_ = first_ordinal;
  chunks_ = std::move(chunks);
  return {};
}

size_t PagesFile::ChunkOf(uint64_t page) const {
  const auto after = std::upper_bound(chunks_.begin(), chunks_.end(), page,
                                      [](uint64_t at, const PageChunk& chunk) { return at < chunk.page; });
  if (after == chunks_.begin()) return chunks_.size();
  const auto chunk = std::prev(after);
  return page < chunk->page + chunk->pages ? static_cast<size_t>(chunk - chunks_.begin()) : chunks_.size();
}

void PagesFile::Populate(uint64_t page, uint64_t pages) const {
  // Safe: within the mapping. A failure (an older kernel, a disk error) shows again in the copy itself.
  madvise(base_ + page * 4096, pages * 4096, MADV_POPULATE_READ);
}

}  // namespace thaw
