// Which page of a file belongs where in one address space, for all pages that have not arrived there.
#pragma once

#include <stdint.h>

#include <map>
#include <optional>

namespace thaw {

class Pending {
 public:
  // Replaces what was said about these addresses before.
  void Add(uint64_t start, uint64_t end, uint64_t first_page);
  void Remove(uint64_t start, uint64_t end);
  // What belongs at FROM belongs at TO from now on.
  void Move(uint64_t from, uint64_t to, uint64_t bytes);

  std::optional<uint64_t> PageAt(uint64_t address) const;
  // The first address that is not below `from`, or else the very first. None if all has arrived.
  std::optional<uint64_t> NextAddress(uint64_t from) const;
  bool empty() const { return runs_.empty(); }

 private:
  struct Run {
    uint64_t end, first_page;
  };
  void SplitAt(uint64_t address);

  std::map<uint64_t, Run> runs_;  // by start
};

}  // namespace thaw
