#include "memory.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <algorithm>
#include <mutex>
#include <shared_mutex>

namespace thaw {
namespace {

// Holds up a fault or an event for some 0.1 ms. Larger ones are no faster: the kernel copies page by page.
constexpr uint64_t kLargestCopy = (256 << 10) / kPage;
// Around a fault: its neighbours are likely next, and one copy of this size costs little more than a page.
constexpr uint64_t kFaultCluster = (64 << 10) / kPage;
// Memory that was never there, or was given up, is often taken in order.
constexpr uint64_t kZeroCluster = 16;
constexpr int kMostMessages = 64;

// Where a copier reads what it copies. It stays in its core's cache and in its page table: copied straight from a mapping of
// the file, each page would have to be mapped first, which costs more than reading it (1 GiB by two copiers in 0.39 s, and
// read in 0.17 s; medians of 7 and 5 on a virtual machine with shadow page tables).
void* Buffer() {
  // Safe: memory of our own, for as long as the thread lives.
  struct Mapping {
    void* const at = mmap(nullptr, kLargestCopy * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ~Mapping() {
      if (at != MAP_FAILED) munmap(at, kLargestCopy * kPage);
    }
  };
  static thread_local const Mapping mapping;
  return mapping.at == MAP_FAILED ? nullptr : mapping.at;
}

// An address that no copy can be made from. A read-only page of our own never becomes readable.
const void* Unreadable() {
  // Safe: memory without any access, for as long as the process lives.
  static void* const page = mmap(nullptr, kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return page;
}

// The kernel before 4.11 said ENOSPC for an address space that is gone.
bool IsGone(int error) { return error == ESRCH || error == ENOSPC; }

}  // namespace

Memory::Memory(uint64_t id, UniqueFd uffd, std::shared_ptr<const PagesFile> file)
    : id(id), file(std::move(file)), uffd_(std::move(uffd)), missing_(this->file ? this->file->pages() : 0) {}

// The kernel refuses copies into the parent from the fork until its event is read, so the child lacks what the parent
// lacks now.
Memory::Memory(uint64_t id, UniqueFd uffd, const Memory& parent)
    : id(id),
      file(parent.file),
      uffd_(std::move(uffd)),
      map_(parent.map_),
      missing_(parent.missing_),
      left_(parent.left()) {
  next_chunk = 0;
}

bool Memory::Add(const Piece& piece) {
  if (!file || piece.page > file->pages() || piece.pages > file->pages() - piece.page) return false;
  if (!map_.Add(piece)) return false;
  // Pages of zeros need no copy: whoever touches one gets zeros, during the drain from us and then from the kernel.
  for (uint64_t page = piece.page, end = piece.page + piece.pages; page < end;) {
    const auto& chunks = file->chunks();
    const auto chunk = std::upper_bound(chunks.begin(), chunks.end(), page, [](uint64_t at, const PageChunk& chunk) {
      return at < chunk.page + chunk.pages;
    });
    if (chunk == chunks.end() || chunk->page >= end) break;
    const uint64_t last = std::min(end, chunk->page + chunk->pages);
    left_ += missing_.Set(std::max(page, chunk->page), last);
    page = last;
  }
  return true;
}

CopyResult Memory::Copy(uint64_t from, uint64_t end, uint64_t* next, uint64_t* bytes, Failure* failure) {
  *bytes = 0;
  *next = end;
  uint64_t page = missing_.First(from, end);
  if (page == end) return CopyResult::kNothing;
  // Before the lock: this may wait for the disk. What is present never changes.
  void* const buffer = Buffer();
  if (buffer == nullptr) return *failure = {ENOMEM, "mmap", {}, {}}, CopyResult::kFailed;
  const uint64_t first = page, read = missing_.FirstClear(page, std::min(end, page + kLargestCopy)) - page;
  *failure = file->Read(first, read, buffer);
  if (*failure) return *next = page, CopyResult::kFailed;

  std::shared_lock<RwLock> lock(lock_);
  if (!uffd_.valid()) return CopyResult::kNothing;
  // What an event took away is neither in the map nor missing.
  page = missing_.First(page, end);
  Piece piece;
  if (page == end || !map_.FromPage(page, &piece) || piece.page >= end) return CopyResult::kNothing;
  page = piece.page;
  // Others have copied, or an event has taken away, all that was read.
  if (page >= first + read) return *next = page, CopyResult::kMore;
  uint64_t count = std::min(piece.pages, std::min(end, first + read) - page);
  count = missing_.FirstClear(page, page + count) - page;
  if (count == 0) return *next = page + 1, CopyResult::kMore;
  for (;;) {
    uffdio_copy copy{};
    copy.dst = piece.address;
    copy.src = reinterpret_cast<uint64_t>(buffer) + (page - first) * kPage;
    copy.len = count * kPage;
    // Safe: the source is a buffer of this thread; the destination is in another address space, where the kernel checks that
    // it is registered and missing.
    const int result = ioctl(uffd_.get(), UFFDIO_COPY, &copy);
    const int error = errno;
    if (result == 0 || copy.copy > 0) {
      const uint64_t done = static_cast<uint64_t>(copy.copy) / kPage;
      Cleared(missing_.Clear(page, page + done));
      *bytes = done * kPage;
      *next = page + done;
      return CopyResult::kMore;
    }
    switch (error) {
      case EEXIST:
        // Somebody else was first: CRIU, or another copier that has not counted it yet. It wakes nobody.
        Cleared(missing_.Clear(page, page + 1));
        Wake(piece.address, kPage);
        *next = page + 1;
        return CopyResult::kMore;
      case ENOENT:
        // Not registered, or more than one mapping: mprotect and madvise split them without an event.
        if (count > 1) {
          count /= 2;
          continue;
        }
        *next = page;
        return CopyResult::kUnmapped;
      case EAGAIN:
        *next = page;
        return CopyResult::kBusy;
      case EINTR:
        continue;
      default:
        if (IsGone(error)) return CopyResult::kDead;
        *next = page;
        *failure = {error == EFAULT ? EIO : error, "UFFDIO_COPY", {}, {}};
        return CopyResult::kFailed;
    }
  }
}

bool Memory::Missing(uint64_t address, uint64_t* page, uint64_t* end) {
  std::shared_lock<RwLock> lock(lock_);
  Piece piece;
  if (!map_.AtAddress(address, &piece) || !missing_.Has(piece.page)) return false;
  *page = piece.page;
  *end = piece.page + std::min(piece.pages, kFaultCluster);
  return true;
}

CopyResult Memory::Zero(uint64_t address, Failure* failure) {
  std::shared_lock<RwLock> lock(lock_);
  if (!uffd_.valid()) return CopyResult::kNothing;
  // What the caller knew of the page may be old; under the lock it is not.
  Piece piece;
  if (map_.AtAddress(address, &piece) && missing_.Has(piece.page)) return CopyResult::kMore;
  uint64_t count = 1;
  while (count < kZeroCluster) {
    const uint64_t at = address + count * kPage;
    if (map_.AtAddress(at, &piece) ? missing_.Has(piece.page) : false) break;
    count++;
  }
  for (;;) {
    uffdio_zeropage zero{};
    zero.range = {address, count * kPage};
    // Safe: as a copy; nothing of ours is read.
    if (ioctl(uffd_.get(), UFFDIO_ZEROPAGE, &zero) == 0 || zero.zeropage > 0) return CopyResult::kNothing;
    const int error = errno;
    switch (error) {
      case EEXIST:
        Wake(address, kPage);
        return CopyResult::kNothing;
      case ENOENT:
        if (count > 1) {
          count = 1;
          continue;
        }
        // Unmapped since: the thread that waited gets its signal.
        Wake(address, kPage);
        return CopyResult::kUnmapped;
      case EAGAIN:
        return CopyResult::kBusy;
      case EINTR:
        continue;
      default:
        if (IsGone(error)) return CopyResult::kDead;
        *failure = {error, "UFFDIO_ZEROPAGE", {}, {}};
        return CopyResult::kFailed;
    }
  }
}

void Memory::Wake(uint64_t address, uint64_t length) {
  uffdio_range range{address, length};
  // Safe: at worst a thread looks again at a page that is still missing, and waits again.
  ioctl(uffd_.get(), UFFDIO_WAKE, &range);
}

void Memory::Drop(const std::vector<Piece>& pieces) {
  for (const Piece& piece : pieces) Cleared(missing_.Clear(piece.page, piece.page + piece.pages));
}

Failure Memory::ReadEvents(std::vector<uint64_t>* faults, std::vector<std::shared_ptr<Memory>>* forked,
                           uint64_t* last_id) {
  // From before the read: it lets the process go on, and a copy by the old map would then bring back what it gave up.
  std::unique_lock<RwLock> lock(lock_);
  if (!uffd_.valid()) return {};
  SettleLocked();
  uffd_msg messages[kMostMessages];
  // Safe: the descriptor does not block, and gives whole messages.
  const ssize_t size = read(uffd_.get(), messages, sizeof messages);
  if (size < 0) return errno == EAGAIN || errno == EINTR ? Failure{} : Failure{errno, "read", "userfaultfd", {}};
  for (const uffd_msg* message = messages; message < messages + static_cast<size_t>(size) / sizeof *message; message++) {
    switch (message->event) {
      case UFFD_EVENT_PAGEFAULT:
        faults->push_back(message->arg.pagefault.address / kPage * kPage);
        break;
      case UFFD_EVENT_FORK: {
        UniqueFd child(static_cast<int>(message->arg.fork.ufd));
        forked->push_back(std::make_shared<Memory>(++*last_id, std::move(child), *this));
        break;
      }
      case UFFD_EVENT_REMAP: {
        const auto& remap = message->arg.remap;
        const std::vector<Piece> displaced = map_.Move(remap.from, remap.to, remap.len);
        // Whoever moves something tells first what had to go from there. So somebody else's munmap is still to be told.
        if (!displaced.empty()) moved_.emplace_back(remap.to, remap.to + remap.len);
        Drop(displaced);
        break;
      }
      case UFFD_EVENT_REMOVE:
        Drop(map_.Remove(message->arg.remove.start, message->arg.remove.end));
        break;
      case UFFD_EVENT_UNMAP:
        Unmapped(message->arg.remove.start, message->arg.remove.end);
        break;
      default:
        return {EPROTO, "read", "userfaultfd", "event " + std::to_string(message->event)};
    }
  }
  return {};
}

// The kernel says that something was unmapped after it has let go of the address space: another thread's mremap may have
// taken the addresses meanwhile, and be told first (seen with 6.18, once in some 10,000 times that addresses are used
// again). Dropped, what was moved there would read as zeros.
void Memory::Unmapped(uint64_t start, uint64_t end) {
  for (auto moved = moved_.begin(); moved != moved_.end(); ++moved) {
    const auto [from, to] = *moved;
    if (from >= end || to <= start) continue;
    // This is what was to be told; the next one means what it says.
    moved_.erase(moved);
    if (start < from) Unmapped(start, from);
    doubtful_.emplace_back(std::max(start, from), std::min(end, to));
    if (to < end) Unmapped(to, end);
    return;
  }
  Drop(map_.Remove(start, end));
}

int Memory::Probe(uint64_t address, uint64_t length) const {
  uffdio_copy copy{};
  copy.dst = address;
  copy.src = reinterpret_cast<uint64_t>(Unreadable());
  copy.len = length;
  // Safe: whether the address space exists, changes, and has room is looked at before the source, and from this source
  // nothing is ever copied.
  return ioctl(uffd_.get(), UFFDIO_COPY, &copy) == 0 ? 0 : errno;
}

bool Memory::Settle() {
  std::unique_lock<RwLock> lock(lock_);
  if (!doubtful_.empty() && uffd_.valid()) SettleLocked();
  return doubtful_.empty() || !uffd_.valid();
}

// From the change of an address space until its event is read, the kernel answers EAGAIN to everything.
void Memory::SettleLocked() {
  if ((moved_.empty() && doubtful_.empty()) || Probe(1 << 20, kPage) == EAGAIN) return;
  moved_.clear();
  for (const auto& [start, end] : std::exchange(doubtful_, {})) DropUnregistered(start, end);
}

void Memory::DropUnregistered(uint64_t start, uint64_t end) {
  Piece piece;
  for (uint64_t at = map_.NextAddress(start); at < end && map_.AtAddress(at, &piece); at = map_.NextAddress(at)) {
    uint64_t length = std::min(end, piece.end()) - at;
    // A probe that goes over the end of a mapping says the same as one where there is none.
    while (Probe(at, length) == ENOENT && length > kPage) length = length / kPage / 2 * kPage;
    if (Probe(at, length) == ENOENT) Drop(map_.Remove(at, at + length));
    at += length;
  }
}

void Memory::GiveUp(uint64_t page) {
  std::unique_lock<RwLock> lock(lock_);
  Piece piece;
  if (!uffd_.valid() || !missing_.Has(page) || !map_.FromPage(page, &piece) || piece.page != page) return;
  if (Probe(piece.address, kPage) == ENOENT) Drop(map_.Remove(piece.address, piece.address + kPage));
}

bool Memory::Exists() {
  std::shared_lock<RwLock> lock(lock_);
  if (!uffd_.valid()) return false;
  return !IsGone(Probe(1 << 20, kPage));
}

void Memory::Close() {
  std::unique_lock<RwLock> lock(lock_);
  uffd_ = UniqueFd();
}

}  // namespace thaw
