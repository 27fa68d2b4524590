// The tar of a lazy base layer in the node cache. Its frames arrive while it is read.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "../fd.h"
#include "../presence.h"

namespace thaw {

class LayerFile {
 public:
  // `node` is its inode number, never 0 or 1. `frame_bytes`: of every frame but the last. `records`: every reader who opens
  // it reads it anew, and what is read since is noted.
  LayerFile(uint64_t node, std::string name, UniqueFd fd, uint64_t size, uint32_t frame_bytes, bool records)
      : node(node),
        name(std::move(name)),
        fd(std::move(fd)),
        size(size),
        frame_bytes(frame_bytes),
        records(records),
        present(static_cast<uint32_t>((size + frame_bytes - 1) / frame_bytes)) {}

  // Of the bytes [offset, offset + length), which end within the file: the first frame that is not here and the last;
  // false if all are.
  bool Missing(uint64_t offset, uint64_t length, uint32_t* first, uint32_t* last) const {
    *last = static_cast<uint32_t>((offset + length - 1) / frame_bytes);
    for (*first = static_cast<uint32_t>(offset / frame_bytes); *first <= *last; ++*first)
      if (!present.Has(*first)) return true;
    return false;
  }

  // Only of a file that records. Any thread.
  void ForgetReads() {
    const std::lock_guard lock(reads_mutex_);
    seen_.clear();
    reads_.clear();
  }
  void NoteRead(uint64_t offset, uint64_t length) {
    const std::lock_guard lock(reads_mutex_);
    seen_.resize(present.chunks());
    for (uint64_t frame = offset / frame_bytes; frame <= (offset + length - 1) / frame_bytes; frame++) {
      if (seen_[frame]) continue;
      seen_[frame] = true;
      reads_.push_back(static_cast<uint32_t>(frame));
    }
  }
  // Frames in the order of their first reads.
  std::vector<uint32_t> reads() const {
    const std::lock_guard lock(reads_mutex_);
    return reads_;
  }

  const uint64_t node;
  const std::string name;
  const UniqueFd fd;
  const uint64_t size;
  const uint32_t frame_bytes;
  const bool records;
  Presence present;
  // How many have it open whom this server has seen opening it, and whether it goes with the last of them.
  std::atomic<uint32_t> opens{0};
  std::atomic<bool> removed{false};

 private:
  mutable std::mutex reads_mutex_;  // guards what follows
  std::vector<bool> seen_;
  std::vector<uint32_t> reads_;
};

}  // namespace thaw
