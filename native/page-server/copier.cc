// The copiers' threads: what a process waits for first, then everything else.
#include <errno.h>
#include <unistd.h>

#include <algorithm>

#include "run-delay.h"
#include "server.h"

namespace thaw {
namespace {

using std::chrono::milliseconds;

constexpr useconds_t kBusyUs = 50, kNoMemoryUs = 10'000;
// A copier that waited so long for a processor while it copied a chunk, some 0.4 ms of work, has taken one that others want.
constexpr uint64_t kDelayNs = 500'000;
// Then it leaves it to them for so long, unless a process waits for memory; the last one only where none did for so long.
constexpr milliseconds kRest{10}, kUnasked{50};

}  // namespace

void* PageServer::CopierMain(void* self) {
  static_cast<PageServer*>(self)->CopyLoop();
  return nullptr;
}

void PageServer::CopyLoop() {
  const bool first = copiers_++ == 0;
  RunDelay delay;
  std::unique_lock<std::mutex> lock(mutex_);
  while (!ended_) {
    if (!demands_.empty()) {
      const Demand demand = demands_.front();
      demands_.pop_front();
      urgent_--;
      lock.unlock();
      ServeFault(demand);
      lock.lock();
      continue;
    }
    Work work;
    if (draining_ && Next(&work)) {
      lock.unlock();
      // What it waited for after a rest is no sign.
      delay.Take();
      DrainChunk(work);
      const bool delayed = delay.Take() > kDelayNs;
      lock.lock();
      // Not by a nice value: it would be preempted with a lock that the reader waits for, and be let run late.
      if (delayed && MayRest(first)) work_.wait_for(lock, kRest, [this] { return urgent_ > 0 || ended_; });
      continue;
    }
    work_.wait(lock);
  }
}

// One goes on as long as a process asks for memory: it keeps ahead of what runs on the other processors. Without that a
// process that computes as fast as memory arrives had half of a processor (seen with PyTorch on two).
bool PageServer::MayRest(bool first) const { return !first || Clock::now() - asked_ > kUnasked; }

// Memories in turn, so that every process goes forward.
bool PageServer::Next(Work* work) {
  if (memories_.empty()) return false;
  auto at = memories_.upper_bound(turn_);
  for (size_t i = 0; i < memories_.size(); i++, at++) {
    if (at == memories_.end()) at = memories_.begin();
    const MemoryPtr& memory = at->second;
    if (memory->dead || !memory->file || memory->left() == 0) continue;
    const PagesFile& file = *memory->file;
    const std::vector<uint32_t>& order = OrderOf(file);
    while (!memory->ready.empty() || memory->next_chunk < order.size()) {
      uint32_t chunk;
      if (memory->ready.empty()) {
        chunk = order[memory->next_chunk++];
      } else {
        chunk = memory->ready.front();
        memory->ready.pop_front();
      }
      if (!presence_.Has(file.first_ordinal() + chunk)) {
        memory->absent.push_back(chunk);
        continue;
      }
      turn_ = memory->id;
      *work = {memory, chunk};
      return true;
    }
  }
  return false;
}

const std::vector<uint32_t>& PageServer::OrderOf(const PagesFile& file) {
  auto& order = orders_[&file];
  if (!order.empty() || file.chunks().empty()) return order;
  std::vector<bool> listed(file.chunks().size());
  order.reserve(listed.size());
  for (const uint32_t ordinal : options_.order) {
    const uint32_t chunk = ordinal - file.first_ordinal();
    if (ordinal < file.first_ordinal() || chunk >= listed.size() || listed[chunk]) continue;
    listed[chunk] = true;
    order.push_back(chunk);
  }
  for (uint32_t chunk = 0; chunk < listed.size(); chunk++)
    if (!listed[chunk]) order.push_back(chunk);
  return order;
}

void PageServer::ServeFault(const Demand& demand) {
  Memory& memory = *demand.memory;
  Failure failure;
  uint64_t page = 0, end = 0;
  if (!memory.Missing(demand.address, &page, &end)) {
    zero_faults_++;
    const CopyResult result = memory.Zero(demand.address, &failure);
    if (result == CopyResult::kNothing || result == CopyResult::kUnmapped) return;
    if (!Settle(demand.memory, result, failure) && result == CopyResult::kDead) return;
    const std::lock_guard<std::mutex> lock(mutex_);
    later_.push_back(demand);
    Wake();
    return;
  }
  const PagesFile& file = *memory.file;
  const auto chunk = static_cast<uint32_t>(file.ChunkOf(page));
  const uint32_t ordinal = file.first_ordinal() + chunk;
  end = std::min(end, file.chunks()[chunk].page + file.chunks()[chunk].pages);
  {
    std::unique_lock<std::mutex> lock(mutex_);
    if (touched_set_.insert(ordinal).second) touched_.push_back(ordinal);
    if (!presence_.Has(ordinal)) {
      waiting_.push_back(demand);
      if (!wanted_.insert(ordinal).second) return;
      lock.unlock();
      return Tell(PageServerEvent::Kind::kWanted, {ordinal});
    }
    // The rest of the chunk next.
    if (draining_) memory.ready.push_front(chunk);
  }
  uint64_t bytes = 0, next = page;
  const CopyResult result = memory.Copy(page, end, &next, &bytes, &failure);
  fault_bytes_ += bytes;
  // Looked at anew when events were read: it may be memory no more. After a failure it waits until it is ended.
  if (result != CopyResult::kMore && result != CopyResult::kNothing && (Settle(demand.memory, result, failure) ||
      result == CopyResult::kFailed)) {
    const std::lock_guard<std::mutex> lock(mutex_);
    later_.push_back(demand);
    Wake();
  }
  if (memory.left() == 0) Wake();
}

void PageServer::DrainChunk(const Work& work) {
  Memory& memory = *work.memory;
  const PageChunk& chunk = memory.file->chunks()[work.chunk];
  uint64_t page = chunk.page;
  const uint64_t end = chunk.page + chunk.pages;
  while (page < end) {
    if (urgent_ > 0) {
      const std::lock_guard<std::mutex> lock(mutex_);
      memory.ready.push_front(work.chunk);
      break;
    }
    Failure failure;
    uint64_t bytes = 0;
    const CopyResult result = memory.Copy(page, end, &page, &bytes, &failure);
    drained_bytes_ += bytes;
    if (result == CopyResult::kMore) continue;
    if (result == CopyResult::kNothing) break;
    if (result == CopyResult::kUnmapped) {
      const std::lock_guard<std::mutex> lock(mutex_);
      memory.unmapped.push_back(page++);
      continue;
    }
    if (!Settle(work.memory, result, failure)) break;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      memory.ready.push_back(work.chunk);
    }
    // The event is the reader's to read, and memory the kernel's to find: a moment for them.
    usleep(result == CopyResult::kBusy ? kBusyUs : kNoMemoryUs);
    break;
  }
  if (memory.left() == 0) Wake();
}

// Whether it is worth another try.
bool PageServer::Settle(const MemoryPtr& memory, CopyResult result, const Failure& failure) {
  if (result == CopyResult::kDead) {
    const std::lock_guard<std::mutex> lock(mutex_);
    memory->dead = true;
    Wake();
    return false;
  }
  if (result != CopyResult::kFailed || failure.error == ENOMEM) return true;
  Fail(failure);
  return false;
}

}  // namespace thaw
