#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstdio>

#include "output.h"
#include "part.h"

namespace thaw {
namespace {

constexpr size_t kSlotWords = kPageWords / 64;

const char* NameOf(Did did) {
  switch (did) {
    case Did::kNothing: return "nothing";
    case Did::kWrote: return "written";
    case Did::kDropped: return "MADV_DONTNEED";
    case Did::kFreed: return "MADV_FREE";
    case Did::kUnmapped: return "munmap";
    case Did::kMapped: return "mmap";
    case Did::kMoved: return "moved here";
    case Did::kLeft: return "moved away with MREMAP_DONTUNMAP";
    case Did::kGrew: return "grown";
  }
  return "?";
}

bool IsZero(const uint64_t* words) {
  for (size_t i = 0; i < kPageWords; i++)
    if (words[i] != 0) return false;
  return true;
}

bool IsReadable(const PageModel& model) { return (model.access & kMapped) && (model.access & PROT_READ); }

}  // namespace

uint64_t Part::SlotWord(const PageModel& model, size_t word) const {
  return SplitMix64(static_cast<uint64_t>(model.stamp) << 16 ^ word);
}

void Part::Expect(const PageModel& model, uint64_t* words) const {
  if (model.file_page) content_.Fill(model.file_page - 1, words);
  else memset(words, 0, kPageBytes);
  if (!model.written) return;
  for (size_t word = 0; word < kPageWords; word++)
    if (model.written >> word / kSlotWords & 1) words[word] = SlotWord(model, word);
}

void Part::Differs(const Span& span, uint64_t page, const uint64_t* got, const uint64_t* expected) const {
  const PageModel& model = span.model[page];
  size_t word = 0;
  while (word + 1 < kPageWords && got[word] == expected[word]) word++;
  size_t wrong = 0;
  for (size_t i = 0; i < kPageWords; i++) wrong += got[i] != expected[i];
  char file_page[32] = "none";
  if (model.file_page) snprintf(file_page, sizeof file_page, "%lu", model.file_page - 1);
  Say("differs: process %u (pid %d) address %#lx file page %s word %zu: expected %#018lx, got %#018lx; "
      "%zu words of the page are wrong%s; last done to it: %s",
      pid_, getpid(), span.AddressOf(page), file_page, word, expected[word], got[word], wrong,
      IsZero(got) ? ", it is all zero" : "", NameOf(model.last));
  _exit(kWrong);
}

void Part::CheckPage(const Span& span, uint64_t page) {
  const PageModel& model = span.model[page];
  if (!IsReadable(model)) return;
  // A copy: a page that changes while it is looked at must not look right at the second look.
  uint64_t got[kPageWords], expected[kPageWords];
  memcpy(got, reinterpret_cast<const void*>(span.AddressOf(page)), kPageBytes);
  Expect(model, expected);
  if (memcmp(got, expected, kPageBytes) == 0 || (model.freed && IsZero(got))) return;
  Differs(span, page, got, expected);
}

void Part::Check(const Range& range) {
  for (uint64_t page = range.first; page < range.first + range.pages; page++) CheckPage(*range.span, page);
}

void Part::CheckAll() {
  // A mapping of gigabytes of which the checkpoint has next to nothing: its untouched zeros are sampled.
  constexpr uint64_t kMany = 1 << 18, kEach = 9973;
  UnprotectAll();
  for (const Span& span : spans_) {
    for (uint64_t page = 0; page < span.pages; page++) {
      const PageModel& model = span.model[page];
      if (span.pages >= kMany && !model.file_page && !model.written && page % kEach != 0) continue;
      CheckPage(span, page);
    }
  }
}

void Part::CheckInRandomOrder() {
  for (Span& span : spans_) {
    // A permutation without a table: a full-period generator modulo a power of two.
    uint64_t period = 1;
    while (period < span.pages) period *= 2;
    uint64_t at = random_.Below(period);
    const uint64_t step = random_.Next() | 1;
    for (uint64_t i = 0; i < period; i++) {
      at = (at * 5 + step) % period;
      if (at < span.pages) CheckPage(span, at);
    }
  }
}

void Part::CheckSome() { Check(Pick(16)); }

void Part::CheckThroughKernel() {
  const Range range = Fitting(Pick(4), [](const PageModel& model) { return IsReadable(model) && !model.freed; });
  if (!range.pages) return;
  uint64_t got[kPageWords], expected[kPageWords];
  if (random_.Below(2)) {
    iovec local{got, kPageBytes}, remote{range.pointer(), kPageBytes};
    if (process_vm_readv(getpid(), &local, 1, &remote, 1, 0) != static_cast<ssize_t>(kPageBytes))
      Die("process_vm_readv: %s", strerror(errno));
  } else {
    int ends[2];
    // Safe: a new pipe is empty and holds a page, so neither call waits for anybody but the page server.
    if (pipe2(ends, O_CLOEXEC) != 0) Die("pipe2: %s", strerror(errno));
    const bool passed = write(ends[1], range.pointer(), kPageBytes) == static_cast<ssize_t>(kPageBytes) &&
                        read(ends[0], got, kPageBytes) == static_cast<ssize_t>(kPageBytes);
    if (!passed) Die("a page does not pass through a pipe: %s", strerror(errno));
    close(ends[0]);
    close(ends[1]);
  }
  Expect(*range.model(), expected);
  if (memcmp(got, expected, kPageBytes) != 0) Differs(*range.span, range.first, got, expected);
}

void Part::Stamp(PageModel* model) {
  if (!model->written) model->stamp = next_stamp_++;
  model->last = Did::kWrote;
}

void Part::WriteSlot(const Range& page, unsigned how) {
  PageModel* const model = page.model();
  const size_t slot = random_.Below(64);
  Stamp(model);
  model->written |= uint64_t{1} << slot;
  uint64_t words[kSlotWords];
  for (size_t i = 0; i < kSlotWords; i++) words[i] = SlotWord(*model, slot * kSlotWords + i);
  uint64_t* const target = static_cast<uint64_t*>(page.pointer()) + slot * kSlotWords;
  constexpr ssize_t kBytes = sizeof words;
  if (how == 0) {
    memcpy(target, words, sizeof words);
  } else if (how == 1) {
    iovec local{words, sizeof words}, remote{target, sizeof words};
    if (process_vm_writev(getpid(), &local, 1, &remote, 1, 0) != kBytes) Die("process_vm_writev: %s", strerror(errno));
  } else {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) Die("pipe2: %s", strerror(errno));
    if (write(ends[1], words, sizeof words) != kBytes || read(ends[0], target, sizeof words) != kBytes)
      Die("words do not pass through a pipe: %s", strerror(errno));
    close(ends[0]);
    close(ends[1]);
  }
}

namespace {
bool IsWritable(const PageModel& model) {
  return (model.access & kMapped) && (model.access & PROT_WRITE) && (model.access & PROT_READ);
}
// Whether MADV_FREE emptied it is not known, so what lies around a few words is not either.
bool TakesWords(const PageModel& model) { return IsWritable(model) && !model.freed; }
}  // namespace

void Part::WriteSome() {
  const Range range = Fitting(Pick(8), TakesWords);
  for (uint64_t i = 0; i < range.pages; i++) WriteSlot({range.span, range.first + i, 1}, 0);
}

void Part::WriteThroughKernel() {
  const Range range = Fitting(Pick(4), TakesWords);
  for (uint64_t i = 0; i < range.pages; i++)
    WriteSlot({range.span, range.first + i, 1}, 1 + static_cast<unsigned>(random_.Below(2)));
}

void Part::WriteWhole() {
  const Range range = Fitting(Pick(4), IsWritable);
  for (uint64_t i = 0; i < range.pages; i++) {
    PageModel* const model = range.model() + i;
    model->written = 0;
    Stamp(model);
    *model = {0, ~uint64_t{0}, model->stamp, model->access, false, Did::kWrote};
    uint64_t* const words = reinterpret_cast<uint64_t*>(range.address() + i * kPageBytes);
    for (size_t word = 0; word < kPageWords; word++) words[word] = SlotWord(*model, word);
  }
}

void Part::WriteEverywhere() {
  for (Span& span : spans_) {
    const uint64_t odd = random_.Next() | 1;
    for (uint64_t i = 0; i < span.pages; i++) {
      // Not quite every page once, in no order.
      const uint64_t page = i * odd % span.pages;
      if (TakesWords(span.model[page]) && random_.Below(4) != 0)
        WriteSlot({&span, page, 1}, static_cast<unsigned>(random_.Below(3)));
    }
  }
}

}  // namespace thaw
