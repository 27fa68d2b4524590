#include "server.h"

#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

namespace thaw {
namespace {

using std::chrono::milliseconds;

// How often the reader looks whether processes still exist: while all is well, and while they are being ended.
constexpr int kProbeMs = 1000, kProbeSoonMs = 10;
// What nothing was registered at is tried again so often, so many times: then it is no memory of the process any more (a
// mapping that fork does not copy, above all).
constexpr int kUnmappedMs = 50, kUnmappedTries = 20;
constexpr size_t kMostEvents = 32;
constexpr useconds_t kBusyUs = 50, kNoMemoryUs = 10'000;

}  // namespace

PageServer::PageServer(PageServerOptions options, Report report, void* context)
    : options_(std::move(options)),
      report_(report),
      context_(context),
      presence_(options_.chunks),
      draining_(false) {}

PageServer::~PageServer() {
  for (const pthread_t thread : threads_) pthread_join(thread, nullptr);
}

Failure PageServer::Start() {
  epoll_ = UniqueFd(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_.valid()) return {errno, "epoll_create1", {}, {}};
  wake_ = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake_.valid()) return {errno, "eventfd", {}, {}};
  Watch(wake_.get(), kWake);
  Watch(options_.listener.get(), kListener);

  sigset_t all, old;
  sigfillset(&all);
  // Safe: signals are for Node's own threads.
  pthread_sigmask(SIG_SETMASK, &all, &old);
  int error = 0;
  for (unsigned i = 0; i <= options_.copiers && error == 0; i++) {
    pthread_t thread;
    error = pthread_create(&thread, nullptr, i == 0 ? ReaderMain : CopierMain, this);
    if (error == 0) {
      pthread_setname_np(thread, i == 0 ? "thaw-pages" : "thaw-copy");
      threads_.push_back(thread);
    }
  }
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
  if (error != 0 && !threads_.empty()) {
    // Those that run end as if CRIU had never come.
    Finish();
  }
  return error == 0 ? Failure{} : Failure{error, "pthread_create", {}, {}};
}

void PageServer::Watch(int fd, uint64_t tag) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = tag;
  // Safe: descriptors of this object; a closed one leaves the set by itself, as none is shared with a child.
  epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event);
}

void PageServer::Wake() {
  const uint64_t one = 1;
  // Safe: at worst the counter is full, and the reader awake.
  [[maybe_unused]] const ssize_t written = write(wake_.get(), &one, sizeof one);
}

void PageServer::Tell(PageServerEvent::Kind kind, std::vector<uint32_t> ordinals, Failure failure) {
  report_(context_, {kind, std::move(ordinals), std::move(failure)});
}

void PageServer::Fail(Failure failure) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (std::exchange(failed_, true)) return;
    draining_ = false;
  }
  Tell(PageServerEvent::Kind::kFailed, {}, std::move(failure));
}

// ---- From JavaScript's thread

void PageServer::SetGuard(UniqueFd fd) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    guard_ = GuardLink(std::move(fd));
    guard_ready_ = false;
    bool reached = true;
    for (const std::string& cgroup : options_.cgroups) reached = reached && guard_.KillCgroup(cgroup);
    for (const UniqueFd& pidfd : pidfds_) reached = reached && guard_.Kill(pidfd.get());
    for (const auto& [id, memory] : memories_) {
      // A guard that is new has to let go of it too.
      memory->releasing = false;
      reached = reached && guard_.Hold(id, memory->fd());
    }
    // One that cannot be reached shows as closed at once.
    Watch(guard_.fd(), kGuard);
  }
  Wake();
}

void PageServer::AddProcess(UniqueFd pidfd) {
  const std::lock_guard<std::mutex> lock(mutex_);
  guard_.Kill(pidfd.get());
  pidfds_.push_back(std::move(pidfd));
}

void PageServer::SetPresent(const uint8_t* bits, size_t length) {
  presence_.Add(bits, length);
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const auto& [id, memory] : memories_) {
    const uint32_t first = memory->file ? memory->file->first_ordinal() : 0;
    auto& absent = memory->absent;
    const auto here = std::stable_partition(absent.begin(), absent.end(),
                                            [&](uint32_t chunk) { return !presence_.Has(first + chunk); });
    memory->ready.insert(memory->ready.end(), here, absent.end());
    absent.erase(here, absent.end());
  }
  urgent_ += static_cast<int>(waiting_.size());
  demands_.insert(demands_.end(), waiting_.begin(), waiting_.end());
  waiting_.clear();
  wanted_.clear();
  work_.notify_all();
}

void PageServer::Drain() {
  const std::lock_guard<std::mutex> lock(mutex_);
  options_.drain = true;
  draining_ = restored_;
  work_.notify_all();
}

void PageServer::Finish() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    finishing_ = true;
    listening_ = false;
  }
  Wake();
}

PageServerCounts PageServer::Counts() {
  const std::lock_guard<std::mutex> lock(mutex_);
  uint64_t missing = 0;
  for (const auto& [id, memory] : memories_) missing += memory->left();
  return {faults_, zero_faults_, fault_bytes_, drained_bytes_, missing, memories_.size(), touched_};
}

// ---- The reader

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

// ---- The copiers

void* PageServer::CopierMain(void* self) {
  static_cast<PageServer*>(self)->CopyLoop();
  return nullptr;
}

void PageServer::CopyLoop() {
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
      DrainChunk(work);
      lock.lock();
      continue;
    }
    work_.wait(lock);
  }
}

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
