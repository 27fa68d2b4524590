// One restored address space: its userfaultfd, where its pages belong, and which of them are still missing.
#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "../fd.h"
#include "page-bits.h"
#include "pages-file.h"
#include "range-map.h"
#include "rw-lock.h"

namespace thaw {

enum class CopyResult {
  kMore,      // went forward to *next
  kNothing,   // nothing is missing up to *next
  kBusy,      // the address space changes: an event has to be read first
  kUnmapped,  // nothing is registered at the page's address now
  kDead,      // the address space is gone
  kFailed,    // *failure says why; the page is still missing
};

class Memory {
 public:
  Memory(uint64_t id, UniqueFd uffd, std::shared_ptr<const PagesFile> file);
  // The child's memory right after the fork. The caller holds `parent`'s lock exclusively since before the event was read.
  Memory(uint64_t id, UniqueFd uffd, const Memory& parent);

  // Before anything is served. False if it overlaps what is there.
  bool Add(const Piece& piece);

  // Copies what is missing of file pages [from, end), one piece of at most kLargestCopy. Present chunks only: the caller
  // knows. *bytes: how much went in.
  CopyResult Copy(uint64_t from, uint64_t end, uint64_t* next, uint64_t* bytes, Failure* failure);
  // The file pages around a faulting address that are worth a copy; false if what is there is zero.
  bool Missing(uint64_t address, uint64_t* page, uint64_t* end);
  // Answers a fault with zeros, and what follows it up to the next page of the file.
  CopyResult Zero(uint64_t address, Failure* failure);
  // Reads what the kernel has to say, and changes the map; nothing of that may happen between a copier's look-up and the
  // end of its copy. Addresses of faults and the memories of forked processes are appended.
  Failure ReadEvents(std::vector<uint64_t>* faults, std::vector<std::shared_ptr<Memory>>* forked, uint64_t* last_id);
  // Decides on what was unmapped, or not, once no event is under way; false if that has to wait.
  bool Settle();
  // Takes a page out for good if nothing is registered where it belongs.
  void GiveUp(uint64_t page);
  // Whether the address space still exists.
  bool Exists();
  // Lets go of the userfaultfd; what is missing then reads as zeros. The caller knows that nothing is.
  void Close();

  uint64_t left() const { return left_.load(std::memory_order_acquire); }

  const uint64_t id;
  const std::shared_ptr<const PagesFile> file;
  int fd() const { return uffd_.get(); }

  // The server's, under its lock.
  size_t next_chunk = 0;             // position in the file's drain order
  std::deque<uint32_t> ready;        // chunks to drain before that
  std::vector<uint32_t> absent;      // chunks that are not here yet
  std::vector<uint64_t> unmapped;    // pages that nothing was registered at when last tried
  int tries = 0;                     // of the pages in `unmapped`
  bool releasing = false;
  bool dead = false;

 private:
  void Drop(const std::vector<Piece>& pieces);
  void Cleared(uint64_t count) { left_.fetch_sub(count, std::memory_order_acq_rel); }
  void Wake(uint64_t address, uint64_t length);
  // An ioctl that copies nothing, whatever is there: the errno that it gets.
  int Probe(uint64_t address, uint64_t length) const;
  void Unmapped(uint64_t start, uint64_t end);
  void SettleLocked();
  void DropUnregistered(uint64_t start, uint64_t end);

  RwLock lock_;
  UniqueFd uffd_;   // guarded by lock_
  RangeMap map_;    // guarded by lock_
  // The reader's own, [start, end): what was moved to where something of the map still was since no event was last known
  // to be under way, and what of that was then said to be unmapped.
  std::vector<std::pair<uint64_t, uint64_t>> moved_, doubtful_;
  PageBits missing_;
  std::atomic<uint64_t> left_{0};
};

}  // namespace thaw
