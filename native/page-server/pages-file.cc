#include "pages-file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

namespace thaw {

Failure PagesFile::Open(int fd, uint64_t size, uint32_t first_ordinal, std::vector<PageChunk> chunks) {
  struct stat status;
  // Safe: writes to a structure of this function.
  if (fstat(fd, &status) != 0) return {errno, "fstat", {}, {}};
  if (!S_ISREG(status.st_mode) || size == 0 || static_cast<uint64_t>(status.st_size) != size || size % 4096 != 0)
    return {EINVAL, "open", {}, "the pages file is not one, or has another size than the index says"};
  uint64_t end = 0;
  for (const PageChunk& chunk : chunks) {
    if (chunk.pages == 0 || chunk.page < end || chunk.pages > size / 4096 || chunk.page > size / 4096 - chunk.pages)
      return {EINVAL, "open", {}, "a chunk lies outside of its pages file, or over another one"};
    end = chunk.page + chunk.pages;
  }
  // Safe: a descriptor of our own of the same open file.
  fd_ = UniqueFd(fcntl(fd, F_DUPFD_CLOEXEC, 3));
  if (!fd_.valid()) return {errno, "fcntl", {}, {}};
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

Failure PagesFile::Read(uint64_t page, uint64_t pages, void* buffer) const {
  auto* at = static_cast<uint8_t*>(buffer);
  for (uint64_t offset = page * 4096, left = pages * 4096; left > 0;) {
    // Safe: the caller has room for so many pages.
    const ssize_t size = pread(fd_.get(), at, left, static_cast<off_t>(offset));
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) return {size < 0 ? errno : EIO, "pread", {}, "the pages file"};
    at += size;
    offset += static_cast<uint64_t>(size);
    left -= static_cast<uint64_t>(size);
  }
  return {};
}

}  // namespace thaw
