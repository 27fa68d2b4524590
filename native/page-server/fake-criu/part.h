// The pages that one thread owns: everything that it may do to them, each operation with its effect on the model, and
// the check that memory is as the model says. Ranges are chosen at random. Nothing here allocates, so that the child of
// a fork of a process with threads can go on with its own copy.
#pragma once

#include <stdint.h>

#include <vector>

#include "memory.h"

namespace thaw {

struct Range {
  Span* span;
  uint64_t first, pages;

  uint64_t address() const { return span->AddressOf(first); }
  uint64_t end() const { return span->AddressOf(first + pages); }
  void* pointer() const { return reinterpret_cast<void*>(address()); }
  uint64_t bytes() const { return pages * kPageBytes; }
  PageModel* model() const { return span->model + first; }
};

class Part {
 public:
  Part(const Memory& memory, unsigned index, unsigned count, uint64_t seed);

  // A wrong page is reported, and ends the process with kWrong.
  void CheckAll();
  void CheckInRandomOrder();
  void CheckSome();
  // By write(2) and process_vm_readv(2): the kernel itself meets the missing page.
  void CheckThroughKernel();
  void Check(const Range& range);

  void WriteSome();
  void WriteThroughKernel();
  void WriteWhole();
  // Into about three of four pages.
  void WriteEverywhere();
  void Drop();  // MADV_DONTNEED
  // Right before the page that arrives next, if memory arrives in order.
  void DropAtFrontier();
  // About every second page, none twice.
  void DropHalf();
  void Free();  // MADV_FREE
  void Unmap();
  // About every second page is unmapped, and most of them come back as new pages of the mapping before them.
  void RenewHalf();
  void MapNew();  // over whatever is there
  void Protect();
  void Unprotect();
  // To another place over what is there; may shrink or grow on the way.
  void Move();
  // MREMAP_DONTUNMAP: the old range stays, empty.
  void MoveAndKeep();
  void Shrink();
  void Grow();
  void Advise();
  void Populate();

  // All of a mapping (not more than one, and only while it is one mapping).
  Range Whole(size_t span) { return {&spans_[span], 0, spans_[span].pages}; }
  void DropRange(const Range& range);
  void UnmapRange(const Range& range);
  void MoveRange(const Range& from, const Range& to, int flags);
  void UnprotectAll();

  // In the child of a fork: what it writes is told from what the parent writes.
  void BecomeChild();

  Random& random() { return random_; }
  std::vector<Span>& spans() { return spans_; }

 private:
  using Is = bool (*)(const PageModel&);
  Range Pick(uint64_t most);
  // The first pages of the range, and how many of those after it, that are so; none if no page is.
  static Range Fitting(Range range, Is is);
  static Range OneMapping(Range range);
  void GrowInto(const Range& last, const Range& hole);
  void CheckAtTimes(const Range& range);
  void CheckPage(const Span& span, uint64_t page);
  void Expect(const PageModel& model, uint64_t* words) const;
  void Differs(const Span& span, uint64_t page, const uint64_t* got, const uint64_t* expected) const;
  void Stamp(PageModel* model);
  uint64_t SlotWord(const PageModel& model, size_t word) const;
  void WriteSlot(const Range& page, unsigned how);

  const Content& content_;
  const uint32_t pid_;
  std::vector<Span> spans_;
  Random random_;
  uint32_t next_stamp_;
};

}  // namespace thaw
