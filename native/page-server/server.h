// Serves the memory of one restore: takes the userfaultfds from CRIU, answers faults, drains everything in the background.
// One thread reads events and never waits for anything else; the others copy.
#pragma once

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "../errors.h"
#include "../fd.h"
#include "criu-connection.h"
#include "guard-link.h"
#include "memory.h"
#include "pages-file.h"

namespace thaw {

// A task of the checkpoint: where its pages belong.
struct PagedProcess {
  pid_t pid;  // as in the images
  std::shared_ptr<const PagesFile> file;
  std::vector<Piece> pieces;
};

struct PageServerOptions {
  UniqueFd listener;
  std::vector<PagedProcess> processes;
  uint32_t chunks = 0;            // of all files, for the presence map
  std::vector<uint32_t> order;    // ordinals that are drained first
  std::vector<std::string> cgroups;  // what the guard ends
  unsigned copiers = 1;
  bool drain = true;              // from the moment CRIU is done; false: only what is faulted
};

struct PageServerCounts {
  uint64_t faults, zero_faults, fault_bytes, drained_bytes, missing_pages, processes;
  std::vector<uint32_t> touched;  // ordinals of chunks in the order of their first fault
};

struct PageServerEvent {
  enum class Kind {
    kGuardReady,
    kGuardLost,
    kRestored,  // CRIU is done: the processes run
    kWanted,    // `ordinals` are waited for by a process
    kFailed,    // memory cannot be had right: the processes must be ended
    kEnded,     // nothing of the restore is left to serve; the last event
  } kind;
  std::vector<uint32_t> ordinals;
  Failure failure;
};

class PageServer {
 public:
  // Called on any thread of the server.
  using Report = void (*)(void* context, PageServerEvent event);

  PageServer(PageServerOptions options, Report report, void* context);
  // After kEnded only.
  ~PageServer();

  Failure Start();
  void SetGuard(UniqueFd fd);
  void AddProcess(UniqueFd pidfd);
  void SetPresent(const uint8_t* bits, size_t length);
  void Drain();
  // The processes are ended, or CRIU will not come. What still lives is still served, and looked after often.
  void Finish();
  PageServerCounts Counts();

 private:
  using Clock = std::chrono::steady_clock;
  using MemoryPtr = std::shared_ptr<Memory>;
  struct Demand {
    MemoryPtr memory;
    uint64_t address;
  };
  struct Work {
    MemoryPtr memory;
    uint32_t chunk;
  };

  // The reader's.
  static void* ReaderMain(void* self);
  void Read();
  void Accept();
  void ReadConnection();
  void AddTask(pid_t pid, UniqueFd uffd);
  void AddMemory(const MemoryPtr& memory);
  void ReadMemory(uint64_t id);
  void ReadGuard();
  void LoseGuard();
  void LookAfter(bool probe);
  void TryUnmapped(const MemoryPtr& memory);
  void Remove(const MemoryPtr& memory);
  void EndRestore();
  int Timeout();

  // A copier's.
  static void* CopierMain(void* self);
  void CopyLoop();
  bool MayRest(bool first) const;
  bool Next(Work* work);
  void ServeFault(const Demand& demand);
  void DrainChunk(const Work& work);
  bool Settle(const MemoryPtr& memory, CopyResult result, const Failure& failure);

  void Watch(int fd, uint64_t tag);
  void Wake();
  void Tell(PageServerEvent::Kind kind, std::vector<uint32_t> ordinals = {}, Failure failure = {});
  void Fail(Failure failure);
  const std::vector<uint32_t>& OrderOf(const PagesFile& file);

  PageServerOptions options_;
  const Report report_;
  void* const context_;
  Presence presence_;
  UniqueFd epoll_, wake_;
  std::vector<pthread_t> threads_;

  // The reader's own.
  CriuConnection connection_;
  bool connected_ = false;
  uint64_t last_id_ = kFirstMemory;
  Clock::time_point probed_{}, tried_{};
  bool doubts_ = false;  // about what was unmapped

  std::mutex mutex_;  // guards all below
  std::condition_variable work_;
  GuardLink guard_;
  bool guard_ready_ = false;
  std::vector<UniqueFd> pidfds_;
  std::map<uint64_t, MemoryPtr> memories_;
  uint64_t turn_ = 0;  // the memory that was drained last
  std::deque<Demand> demands_;
  std::vector<Demand> waiting_;  // for chunks that are not here
  std::deque<Demand> later_;     // after the next events were read
  std::unordered_set<uint32_t> wanted_;
  std::unordered_map<const PagesFile*, std::vector<uint32_t>> orders_;
  bool listening_ = true, restored_ = false, draining_ = false, finishing_ = false, failed_ = false, ended_ = false;
  std::vector<uint32_t> touched_;
  std::unordered_set<uint32_t> touched_set_;
  Clock::time_point asked_{};  // when a process last waited for memory

  std::atomic<uint64_t> faults_{0}, zero_faults_{0}, fault_bytes_{0}, drained_bytes_{0};
  std::atomic<int> urgent_{0};  // demands that no copier has taken
  std::atomic<unsigned> copiers_{0};  // that have begun

  static constexpr uint64_t kListener = 0, kConnection = 1, kWake = 2, kGuard = 3, kFirstMemory = 16;
};

}  // namespace thaw
