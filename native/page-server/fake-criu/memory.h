// The mapped memory of one pretended process, and beside it what must be there.
#pragma once

#include <stdint.h>
#include <stdlib.h>

#include <memory>
#include <vector>

#include "layout.h"

namespace thaw {

// What was done to a page last, for the message when it is wrong.
enum class Did : uint8_t { kNothing, kWrote, kDropped, kFreed, kUnmapped, kMapped, kMoved, kLeft, kGrew };

constexpr uint8_t kMapped = 0x80;

// All zero: not mapped.
struct PageModel {
  // 1 + the page of the process's file that is here; 0: zeros.
  uint64_t file_page;
  // One bit for each slot of eight words that the process wrote over that.
  uint64_t written;
  // What it wrote there.
  uint32_t stamp;
  // kMapped | PROT_*.
  uint8_t access;
  // After MADV_FREE the kernel may keep a page or make it zero at any time.
  bool freed;
  Did last;
};

// Consecutive pages of address space, mapped or not.
struct Span {
  uint64_t address, pages;
  PageModel* model;

  uint64_t AddressOf(uint64_t page) const { return address + page * kPageBytes; }
};

class Memory {
 public:
  Memory(const Layout& layout, const Process& process);

  // As CRIU's restorer: maps everything, fills what is eager, then registers.
  void Map(int uffd);

  // The `index`th of `count` disjoint parts of the address space: some of every mapping, and of the room for moves.
  std::vector<Span> Share(unsigned index, unsigned count) const;

  const Content& content() const { return content_; }
  uint32_t pid() const { return process_.pid; }

 private:
  struct Free {
    void operator()(PageModel* model) const { free(model); }
  };

  const Process& process_;
  Content content_;
  std::vector<Span> spans_;
  std::vector<std::unique_ptr<PageModel, Free>> models_;
};

}  // namespace thaw
