// The tar of a lazy base layer in the node cache. Its frames arrive while it is read.
#pragma once

#include <cstdint>
#include <string>

#include "../fd.h"
#include "../presence.h"

namespace thaw {

class LayerFile {
 public:
  // `node` is its inode number, never 0 or 1. `frame_bytes`: of every frame but the last.
  LayerFile(uint64_t node, std::string name, UniqueFd fd, uint64_t size, uint32_t frame_bytes)
      : node(node),
        name(std::move(name)),
        fd(std::move(fd)),
        size(size),
        frame_bytes(frame_bytes),
        present(static_cast<uint32_t>((size + frame_bytes - 1) / frame_bytes)) {}

  // Of the bytes [offset, offset + length), which end within the file: the first frame that is not here and the last;
  // false if all are.
  bool Missing(uint64_t offset, uint64_t length, uint32_t* first, uint32_t* last) const {
    *last = static_cast<uint32_t>((offset + length - 1) / frame_bytes);
    for (*first = static_cast<uint32_t>(offset / frame_bytes); *first <= *last; ++*first)
      if (!present.Has(*first)) return true;
    return false;
  }

  const uint64_t node;
  const std::string name;
  const UniqueFd fd;
  const uint64_t size;
  const uint32_t frame_bytes;
  Presence present;
};

}  // namespace thaw
