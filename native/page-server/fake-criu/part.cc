#include "part.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include <algorithm>

#include "maps.h"
#include "output.h"

// Of kernels that the headers here may not know.
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

namespace thaw {
namespace {

bool IsMapped(const PageModel& model) { return model.access & kMapped; }

void SetZero(const Range& range, Did did) {
  for (uint64_t i = 0; i < range.pages; i++) {
    PageModel* const model = range.model() + i;
    *model = {0, 0, 0, model->access, false, did};
  }
}

[[noreturn]] void Failed(const char* what, const Range& range) {
  Die("%s of %lu pages at %#lx: %s", what, range.pages, range.address(), strerror(errno));
}

}  // namespace

Part::Part(const Memory& memory, unsigned index, unsigned count, uint64_t seed)
    : content_(memory.content()),
      pid_(memory.pid()),
      spans_(memory.Share(index, count)),
      random_(SplitMix64(seed ^ static_cast<uint64_t>(memory.pid()) << 32 ^ static_cast<uint64_t>(index) << 56)),
      next_stamp_(1 + (index << 24)) {}

void Part::BecomeChild() {
  random_ = Random(random_.Next() ^ 0x5eed);
  next_stamp_ ^= 1 << 23;
}

// Mostly a few pages, seldom many.
Range Part::Pick(uint64_t most) {
  Span* const span = &spans_[random_.Below(spans_.size())];
  const uint64_t first = random_.Below(span->pages);
  const uint64_t pages = 1 + random_.Below(random_.Below(8) == 0 ? most * 8 : most);
  return {span, first, std::min(pages, span->pages - first)};
}

Range Part::Fitting(Range range, Is is) {
  while (range.pages && !is(*range.model())) {
    range.first++;
    range.pages--;
  }
  uint64_t pages = 0;
  while (pages < range.pages && is(range.model()[pages])) pages++;
  range.pages = pages;
  return range;
}

// mremap(2) takes only ranges of one mapping.
Range Part::OneMapping(Range range) {
  range = Fitting(range, IsMapped);
  if (!range.pages) return range;
  const uint64_t end = MappingEnd(range.address());
  if (end <= range.address()) Die("%#lx is not mapped", range.address());
  range.pages = std::min(range.pages, (end - range.address()) / kPageBytes);
  return range;
}

void Part::DropRange(const Range& range) {
  if (madvise(range.pointer(), range.bytes(), MADV_DONTNEED) != 0) Failed("MADV_DONTNEED", range);
  SetZero(range, Did::kDropped);
}

// What was wrong must not go unseen because it is thrown away; but pages that nobody touched before are wanted, too.
void Part::CheckAtTimes(const Range& range) {
  if (random_.Below(2)) Check(range);
}

void Part::Drop() {
  const Range range = Fitting(Pick(16), IsMapped);
  if (!range.pages) return;
  CheckAtTimes(range);
  DropRange(range);
}

void Part::DropAtFrontier() {
  constexpr uint64_t kSeen = 1024;
  const Range around = Pick(1);
  const uint64_t pages = std::min(kSeen, around.span->pages - around.first);
  uint8_t resident[kSeen];
  // ENOMEM: there is a hole in it. Safe: it reads no memory, so nothing is waited for.
  if (mincore(around.pointer(), pages * kPageBytes, resident) != 0) return;
  for (uint64_t i = 0; i + 1 < pages; i++) {
    if (!(resident[i] & 1) || (resident[i + 1] & 1) || !around.model()[i + 1].file_page) continue;
    DropRange({around.span, around.first + i + 1, std::min(1 + random_.Below(16), pages - i - 1)});
    return;
  }
}

void Part::DropHalf() {
  for (Span& span : spans_) {
    for (uint64_t at = 0; at < span.pages;) {
      const Range range = Fitting({&span, at, std::min(1 + random_.Below(16), span.pages - at)}, IsMapped);
      at = range.first + std::max<uint64_t>(range.pages, 1);
      if (range.pages && random_.Below(2)) DropRange(range);
    }
  }
}

void Part::Free() {
  const Range range = Fitting(Pick(16), IsMapped);
  if (!range.pages) return;
  if (madvise(range.pointer(), range.bytes(), MADV_FREE) != 0) Failed("MADV_FREE", range);
  for (uint64_t i = 0; i < range.pages; i++) {
    range.model()[i].freed = true;
    range.model()[i].last = Did::kFreed;
  }
}

void Part::UnmapRange(const Range& range) {
  if (munmap(range.pointer(), range.bytes()) != 0) Failed("munmap", range);
  for (uint64_t i = 0; i < range.pages; i++) range.model()[i] = {0, 0, 0, 0, false, Did::kUnmapped};
}

void Part::Unmap() {
  const Range range = Pick(32);
  CheckAtTimes(range);
  UnmapRange(range);
}

void Part::MapNew() {
  const Range range = Pick(32);
  CheckAtTimes(range);
  const bool hole = std::none_of(range.model(), range.model() + range.pages, IsMapped);
  // Where the model knows of nothing, nothing must be.
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | (hole ? MAP_FIXED_NOREPLACE : MAP_FIXED);
  if (mmap(range.pointer(), range.bytes(), PROT_READ | PROT_WRITE, flags, -1, 0) != range.pointer())
    Failed("mmap", range);
  for (uint64_t i = 0; i < range.pages; i++)
    range.model()[i] = {0, 0, 0, kMapped | PROT_READ | PROT_WRITE, false, Did::kMapped};
}

void Part::Protect() {
  const Range range = Fitting(Pick(32), IsMapped);
  if (!range.pages) return;
  constexpr int kProtections[] = {PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE};
  const int protection = kProtections[random_.Below(4)];
  if (mprotect(range.pointer(), range.bytes(), protection) != 0) Failed("mprotect", range);
  for (uint64_t i = 0; i < range.pages; i++) range.model()[i].access = static_cast<uint8_t>(kMapped | protection);
}

void Part::UnprotectAll() {
  constexpr uint8_t kAll = kMapped | PROT_READ | PROT_WRITE;
  for (Span& span : spans_) {
    for (uint64_t at = 0; at < span.pages;) {
      const Range range = Fitting({&span, at, span.pages - at}, IsMapped);
      if (!range.pages) break;
      at = range.first + range.pages;
      if (std::all_of(range.model(), range.model() + range.pages,
                      [](const PageModel& model) { return model.access == kAll; }))
        continue;
      if (mprotect(range.pointer(), range.bytes(), PROT_READ | PROT_WRITE) != 0) Failed("mprotect", range);
      for (uint64_t i = 0; i < range.pages; i++) range.model()[i].access = kAll;
    }
  }
}

void Part::MoveRange(const Range& from, const Range& to, int flags) {
  if (mremap(from.pointer(), from.bytes(), to.bytes(), MREMAP_MAYMOVE | MREMAP_FIXED | flags, to.pointer()) !=
      to.pointer())
    Failed("mremap", from);
  const uint8_t access = from.model()->access;
  for (uint64_t i = 0; i < to.pages; i++) {
    PageModel* const target = to.model() + i;
    if (i < from.pages) {
      *target = from.model()[i];
      target->last = Did::kMoved;
    } else {
      *target = {0, 0, 0, access, false, Did::kGrew};
    }
  }
  const bool stays = flags & MREMAP_DONTUNMAP;
  for (uint64_t i = 0; i < from.pages; i++)
    from.model()[i] = {0, 0, 0, stays ? access : uint8_t{0}, false, stays ? Did::kLeft : Did::kUnmapped};
}

void Part::Move() {
  const Range from = OneMapping(Pick(64));
  Range to = Pick(64);
  if (!from.pages) return;
  // Half of them keep their size.
  if (random_.Below(2)) to.pages = std::min(from.pages, to.span->pages - to.first);
  if (to.address() < from.end() && from.address() < to.end()) return;
  CheckAtTimes(to);
  MoveRange(from, to, 0);
}

void Part::MoveAndKeep() {
  Range from = OneMapping(Pick(32));
  Range to = Pick(1);
  if (!from.pages) return;
  to.pages = from.pages = std::min(from.pages, to.span->pages - to.first);
  if (to.address() < from.end() && from.address() < to.end()) return;
  MoveRange(from, to, MREMAP_DONTUNMAP);
}

void Part::Shrink() {
  const Range range = OneMapping(Pick(32));
  if (range.pages < 2) return;
  const uint64_t keep = 1 + random_.Below(range.pages - 1);
  if (mremap(range.pointer(), range.bytes(), keep * kPageBytes, 0) != range.pointer()) Failed("mremap", range);
  for (uint64_t i = keep; i < range.pages; i++) range.model()[i] = {0, 0, 0, 0, false, Did::kUnmapped};
}

void Part::GrowInto(const Range& last, const Range& hole) {
  if (mremap(last.pointer(), last.bytes(), last.bytes() + hole.bytes(), 0) != last.pointer()) Failed("mremap", last);
  for (uint64_t page = 0; page < hole.pages; page++)
    hole.model()[page] = {0, 0, 0, last.model()->access, false, Did::kGrew};
}

// Of the last page before the next hole, into the hole.
void Part::Grow() {
  const Range around = Pick(256);
  for (uint64_t i = 0; i + 1 < around.pages; i++) {
    if (!IsMapped(around.model()[i]) || IsMapped(around.model()[i + 1])) continue;
    const Range last{around.span, around.first + i, 1};
    const Range hole = Fitting({around.span, last.first + 1, std::min<uint64_t>(32, around.pages - i - 1)},
                               [](const PageModel& model) { return !IsMapped(model); });
    GrowInto(last, hole);
    return;
  }
}

void Part::RenewHalf() {
  for (Span& span : spans_) {
    for (uint64_t at = 0; at < span.pages;) {
      const Range range = Fitting({&span, at, std::min(2 + random_.Below(16), span.pages - at)}, IsMapped);
      at = range.first + std::max<uint64_t>(range.pages, 1);
      if (range.pages < 2 || random_.Below(2)) continue;
      const Range hole{&span, range.first + 1, range.pages - 1};
      UnmapRange(hole);
      if (random_.Below(4)) GrowInto({&span, range.first, 1}, hole);
    }
  }
}

// Splits mappings as mprotect does, and has the kernel look for huge pages in half-arrived memory. Content stays.
void Part::Advise() {
  const Range range = Fitting(Pick(512), IsMapped);
  if (!range.pages) return;
  constexpr int kAdvice[] = {MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_COLLAPSE, MADV_WILLNEED};
  static_cast<void>(madvise(range.pointer(), range.bytes(), kAdvice[random_.Below(4)]));
}

// May stop half-way with an error; whatever it brings must be right.
void Part::Populate() {
  const Range range = Fitting(Pick(16), IsMapped);
  if (range.pages) static_cast<void>(madvise(range.pointer(), range.bytes(), MADV_POPULATE_READ));
}

}  // namespace thaw
