// The FUSE server of lazy base layers: a directory with one file a layer, read-only. It speaks the protocol of
// /dev/fuse itself (linux/fuse.h) and keeps nothing that a successor would need: inode numbers follow from the layers'
// digests, and there are no file handles. What it had read and not answered when it died the kernel sends again.
#pragma once

#include <pthread.h>

#include <deque>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <unordered_map>
#include <vector>

#include "../errors.h"
#include "../fd.h"
#include "layer-file.h"

struct fuse_in_header;

namespace thaw {

// A reader waits for frames that are not here, until Answer(ticket).
struct MissingFrames {
  uint64_t ticket;
  uint64_t node;
  uint32_t first;
  uint32_t last;
};

class LayerServer {
 public:
  // On a thread of the server.
  using Report = void (*)(void* context, const MissingFrames& missing);

  LayerServer(Report report, void* context) : report_(report), context_(context) {}
  // Ends the threads. Requests that wait stay unanswered, for the one who serves the device next.
  ~LayerServer();

  // `device` is /dev/fuse, mounted; it becomes non-blocking. Nothing is read of it yet.
  Failure Open(UniqueFd device);
  // Requests are answered from now on. What the kernel has kept while nobody served comes at once: a file that is added only
  // afterwards is one that does not exist for it.
  Failure Start(unsigned threads);
  // EEXIST if the inode number or the name is taken. In place of one that was removed and is still open.
  Failure Add(std::shared_ptr<LayerFile> file);
  // Nobody finds it any more; who has it open reads what is here to the end.
  void Remove(uint64_t node);
  void Present(uint64_t node, uint32_t frame);
  // Of a file that records: its frames in the order in which they were read since it was opened last.
  std::vector<uint32_t> Reads(uint64_t node) const;
  // Ends a wait: with an errno, or with 0 when the frames are here.
  void Answer(uint64_t ticket, int error);
  // Has the kernel send again what a server before this one did not answer (Linux 6.9).
  Failure Resend();

 private:
  struct Read {
    uint64_t unique;
    uint64_t node;
    uint64_t offset;
    uint32_t size;
  };
  struct Ready {
    Read read;
    int error;
  };
  struct Worker;

  static void* Main(void* self);
  void Serve();
  void ServeReady(Worker& worker);
  bool TakeRequest(Worker& worker);
  void Handle(Worker& worker, const fuse_in_header& header, const uint8_t* body, size_t length);
  void Initialize(const fuse_in_header& header, const uint8_t* body, size_t length);
  void Lookup(const fuse_in_header& header, const char* name);
  void Open(const fuse_in_header& header);
  void Release(const fuse_in_header& header);
  void Attributes(const fuse_in_header& header);
  void HandleRead(Worker& worker, const Read& read, bool waited);
  bool ReplyBySplice(Worker& worker, const LayerFile& file, const Read& read, size_t length);
  void Reply(uint64_t unique, int error, const void* data, size_t length);
  std::shared_ptr<LayerFile> Find(uint64_t node) const;

  const Report report_;
  void* const context_;
  UniqueFd device_, epoll_, stop_, wake_;
  std::vector<pthread_t> threads_;

  mutable std::shared_mutex files_mutex_;
  std::unordered_map<uint64_t, std::shared_ptr<LayerFile>> files_;

  std::mutex waiting_mutex_;  // guards what follows
  std::unordered_map<uint64_t, Read> waiting_;
  std::deque<Ready> ready_;
  uint64_t last_ticket_ = 0;
};

}  // namespace thaw
