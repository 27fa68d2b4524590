// The reader's thread: CRIU's connection, the events of every userfaultfd, the guard. It never copies memory.
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

#include "server.h"

namespace thaw {
namespace {

using std::chrono::milliseconds;

// How often the reader looks whether processes still exist: while all is well, and while they are being ended.
constexpr int kProbeMs = 1000, kProbeSoonMs = 10;
// What nothing was registered at is tried again so often, so many times: then it is no memory of the process any more (a
// mapping that fork does not copy, above all).
constexpr int kUnmappedMs = 50, kUnmappedTries = 20;
constexpr size_t kMostEvents = 32;

}  // namespace

void* PageServer::ReaderMain(void* self) {
  static_cast<PageServer*>(self)->Read();
  return nullptr;
}

void PageServer::Read() {
  for (;;) {
    epoll_event events[kMostEvents];
    // Safe: fills an array of this function.
    const int count = epoll_wait(epoll_.get(), events, kMostEvents, Timeout());
    for (int i = 0; i < count; i++) {
      const uint64_t tag = events[i].data.u64;
      if (tag == kListener) Accept();
      else if (tag == kConnection) ReadConnection();
      else if (tag == kGuard) ReadGuard();
      else if (tag != kWake) ReadMemory(tag);
      else {
        uint64_t ignored;
        [[maybe_unused]] const ssize_t size = read(wake_.get(), &ignored, sizeof ignored);
      }
    }
    const bool probe = Clock::now() - probed_ >= milliseconds(kProbeMs);
    LookAfter(probe);
    std::unique_lock<std::mutex> lock(mutex_);
    if (listening_ || connected_ || !memories_.empty()) continue;
    ended_ = true;
    guard_.Close();
    work_.notify_all();
    lock.unlock();
    Tell(PageServerEvent::Kind::kEnded);
    return;
  }
}

int PageServer::Timeout() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (memories_.empty()) return -1;
  if (!later_.empty() || doubts_) return 1;
  if (finishing_) return kProbeSoonMs;
  for (const auto& [id, memory] : memories_)
    if (!memory->unmapped.empty()) return kUnmappedMs;
  return kProbeMs;
}

void PageServer::Accept() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!listening_) return;
  }
  // Safe: the listener does not block. The socket lies in a folder of root's, and only root may speak to it.
  UniqueFd fd(accept4(options_.listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!fd.valid()) return;
  ucred peer{};
  socklen_t size = sizeof peer;
  if (getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 || peer.uid != geteuid()) return;
  // CRIU connects exactly once.
  options_.listener = UniqueFd();
  connection_ = CriuConnection(std::move(fd));
  connected_ = true;
  Watch(connection_.fd(), kConnection);
  const std::lock_guard<std::mutex> lock(mutex_);
  listening_ = false;
}

void PageServer::ReadConnection() {
  for (;;) {
    pid_t pid = 0;
    UniqueFd uffd;
    Failure failure;
    switch (connection_.Next(&pid, &uffd, &failure)) {
      case CriuConnection::Kind::kWait:
        return;
      case CriuConnection::Kind::kTask:
        AddTask(pid, std::move(uffd));
        break;
      case CriuConnection::Kind::kZombie:
        break;
      case CriuConnection::Kind::kRestored:
        EndRestore();
        return;
      case CriuConnection::Kind::kEnd:
        // The restore has failed. Whoever asked for it ends what is left.
        connection_.Close();
        connected_ = false;
        return;
      case CriuConnection::Kind::kError:
        connection_.Close();
        connected_ = false;
        Fail(std::move(failure));
        return;
    }
  }
}

void PageServer::EndRestore() {
  connection_.Close();
  connected_ = false;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    restored_ = true;
    draining_ = options_.drain;
    work_.notify_all();
  }
  Tell(PageServerEvent::Kind::kRestored);
}

void PageServer::AddTask(pid_t pid, UniqueFd uffd) {
  const auto process = std::find_if(options_.processes.begin(), options_.processes.end(),
                                    [pid](const PagedProcess& candidate) { return candidate.pid == pid; });
  if (process == options_.processes.end()) {
    // Held all the same: closed, its memory would be zeros.
    AddMemory(std::make_shared<Memory>(++last_id_, std::move(uffd), nullptr));
    Fail({ESRCH, "recvmsg", "lazy-pages.socket", "no page map of process " + std::to_string(pid)});
    return;
  }
  auto memory = std::make_shared<Memory>(++last_id_, std::move(uffd), process->file);
  bool added = true;
  for (const Piece& piece : process->pieces) added = memory->Add(piece) && added;
  AddMemory(memory);
  if (!added) Fail({EINVAL, "recvmsg", "lazy-pages.socket", "the page map of process " + std::to_string(pid)});
}

void PageServer::AddMemory(const MemoryPtr& memory) {
  bool lost = false;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    lost = guard_.valid() && !guard_.Hold(memory->id, memory->fd());
    if (memory->file) OrderOf(*memory->file);
    memories_.emplace(memory->id, memory);
    work_.notify_all();
  }
  Watch(memory->fd(), memory->id);
  if (lost) LoseGuard();
}

void PageServer::ReadMemory(uint64_t id) {
  MemoryPtr memory;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = memories_.find(id);
    if (found == memories_.end()) return;
    memory = found->second;
  }
  std::vector<uint64_t> faults;
  std::vector<MemoryPtr> forked;
  const Failure failure = memory->ReadEvents(&faults, &forked, &last_id_);
  for (const MemoryPtr& child : forked) AddMemory(child);
  if (failure) Fail(failure);
  const std::lock_guard<std::mutex> lock(mutex_);
  // What had to wait for an event is tried again.
  urgent_ += static_cast<int>(later_.size() + faults.size());
  demands_.insert(demands_.end(), later_.begin(), later_.end());
  later_.clear();
  for (const uint64_t address : faults) demands_.push_back({memory, address});
  faults_ += faults.size();
  if (!faults.empty()) asked_ = Clock::now();
  work_.notify_all();
}

void PageServer::ReadGuard() {
  for (;;) {
    uint64_t id = 0;
    GuardLink::Kind kind;
    MemoryPtr memory;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      kind = guard_.valid() ? guard_.Next(&id) : GuardLink::Kind::kWait;
      if (kind == GuardLink::Kind::kReady) guard_ready_ = true;
      if (kind == GuardLink::Kind::kReleased) {
        const auto found = memories_.find(id);
        if (found != memories_.end() && found->second->releasing) memory = found->second;
      }
    }
    if (memory) Remove(memory);
    if (kind == GuardLink::Kind::kWait) return;
    if (kind == GuardLink::Kind::kReady) Tell(PageServerEvent::Kind::kGuardReady);
    if (kind == GuardLink::Kind::kLost) return LoseGuard();
  }
}

void PageServer::LoseGuard() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    guard_.Close();
    guard_ready_ = false;
    for (const auto& [id, memory] : memories_) memory->releasing = false;
  }
  Tell(PageServerEvent::Kind::kGuardLost);
}

// Lets go of what is complete or gone, and brings back what has to be tried again.
void PageServer::LookAfter(bool probe) {
  std::vector<MemoryPtr> all, gone;
  bool finishing;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    finishing = finishing_;
    for (const auto& [id, memory] : memories_) all.push_back(memory);
    // An event may never come for what was busy: the kernel was about to change its mind.
    urgent_ += static_cast<int>(later_.size());
    demands_.insert(demands_.end(), later_.begin(), later_.end());
    later_.clear();
    work_.notify_all();
  }
  if (probe) probed_ = Clock::now();
  const bool again = Clock::now() - tried_ >= milliseconds(kUnmappedMs);
  if (again) tried_ = Clock::now();
  doubts_ = false;
  for (const MemoryPtr& memory : all) {
    if (again) TryUnmapped(memory);
    if (!memory->Settle()) doubts_ = true;
    const bool dead = (probe || finishing || memory->dead) && !memory->Exists();
    const std::lock_guard<std::mutex> lock(mutex_);
    if (dead) memory->dead = true;
    if (memory->dead) {
      gone.push_back(memory);
      continue;
    }
    if (!restored_ || failed_ || memory->left() > 0 || memory->releasing) continue;
    // With nothing missing, letting go ends every registration at once. The guard first: as long as one descriptor is
    // open the process waits for its events to be read, and we read them.
    memory->releasing = guard_.valid() && guard_.Release(memory->id);
    if (!memory->releasing) gone.push_back(memory);
  }
  for (const MemoryPtr& memory : gone) Remove(memory);
}

void PageServer::TryUnmapped(const MemoryPtr& memory) {
  std::vector<uint64_t> pages;
  bool last;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    pages.swap(memory->unmapped);
    if (pages.empty()) memory->tries = 0;
    last = restored_ && ++memory->tries > kUnmappedTries;
    if (!last && !pages.empty()) {
      uint32_t before = UINT32_MAX;
      for (const uint64_t page : pages) {
        const auto chunk = static_cast<uint32_t>(memory->file->ChunkOf(page));
        if (chunk != before) memory->ready.push_back(chunk);
        before = chunk;
      }
      work_.notify_all();
    }
  }
  if (last)
    for (const uint64_t page : pages) memory->GiveUp(page);
}

void PageServer::Remove(const MemoryPtr& memory) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (memories_.erase(memory->id) == 0) return;
    if (memory->dead && guard_.valid()) guard_.Release(memory->id);
  }
  memory->Close();
}

}  // namespace thaw
