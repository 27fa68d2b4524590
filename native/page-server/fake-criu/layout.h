// The processes of a pretended checkpoint and their memory, as a text of one fact a line:
//   seed NUMBER
//   process PID                    the lines up to the next process are about this one
//   zombie PID                     a process without memory
//   vma ADDRESS PAGES              a private anonymous mapping
//   lazy ADDRESS PAGES FIRST       pages of it whose content is page FIRST and the following of the process's file
//   eager ADDRESS PAGES FIRST      the same, but CRIU fills them itself before it registers the mapping
//   zero FIRST PAGES               pages of the process's file that are all zero
// Numbers are decimal or 0x…; '#' begins a comment.
#pragma once

#include <stdint.h>

#include <string>
#include <vector>

#include "content.h"

namespace thaw {

// Each mapping has as much room again this far above it, for what the process moves there.
constexpr uint64_t kAway = uint64_t{1} << 44;

struct Vma {
  uint64_t address, pages;
};

struct PageRun {
  uint64_t address, pages, first;
  bool eager;
};

struct Process {
  uint32_t pid = 0;
  bool zombie = false;
  std::vector<Vma> vmas;
  std::vector<PageRun> runs;
  std::vector<ZeroRun> zeros;

  uint64_t FilePages() const;
};

struct Layout {
  uint64_t seed = 0;
  std::vector<Process> processes;

  Content ContentOf(const Process& process) const { return {seed, process.pid, process.zeros}; }
};

// Ends the program if the file cannot be read or makes no sense.
Layout ReadLayout(const char* path);

}  // namespace thaw
