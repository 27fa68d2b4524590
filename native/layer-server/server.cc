#include "server.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <optional>

namespace thaw {
namespace {

// Linux 6.9; not in the headers of Debian 12.
constexpr uint64_t kHasResend = UINT64_C(1) << 39;
constexpr int kNotifyResend = 7;
constexpr uint32_t kMinor = 31;

constexpr uint64_t kRoot = FUSE_ROOT_ID;
constexpr size_t kRequestBuffer = 64 << 10;
constexpr uint32_t kLargestRead = 1 << 20;
constexpr uint16_t kLargestReadPages = kLargestRead / 4096;
constexpr uint16_t kMostBackground = 64;
// Nothing of a layer ever changes.
constexpr uint64_t kForever = UINT64_C(1) << 30;

fuse_attr AttributesOf(uint64_t node, const LayerFile* file) {
  fuse_attr attr{};
  attr.ino = node;
  attr.mode = file ? S_IFREG | 0400 : S_IFDIR | 0500;
  attr.nlink = file ? 1 : 2;
  attr.size = file ? file->size : 0;
  attr.blocks = (attr.size + 511) / 512;
  attr.blksize = 4096;
  return attr;
}

}  // namespace

// Buffers of one thread.
struct LayerServer::Worker {
  alignas(8) uint8_t request[kRequestBuffer];
  std::vector<uint8_t> data = std::vector<uint8_t>(kLargestRead);
  UniqueFd pipe_read, pipe_write;
  // What the pipe takes at once beside an answer's header, which needs a page of its own; 0 without a pipe.
  size_t pipe_bytes = 0;

  // Also empties it.
  void OpenPipe() {
    int ends[2];
    pipe_bytes = 0;
    if (pipe2(ends, O_CLOEXEC) != 0) return;
    pipe_read = UniqueFd(ends[0]);
    pipe_write = UniqueFd(ends[1]);
    const int size = fcntl(ends[1], F_SETPIPE_SZ, static_cast<int>(kLargestRead));
    if (size > 2 * 4096) pipe_bytes = static_cast<size_t>(size) - 2 * 4096;
  }
};

LayerServer::~LayerServer() {
  const uint64_t one = 1;
  // Safe: an eventfd of this object, which its threads watch; it stays readable, so each of them sees it.
  if (stop_.valid() && write(stop_.get(), &one, sizeof one) != sizeof one) abort();
  for (const pthread_t thread : threads_) pthread_join(thread, nullptr);
}

Failure LayerServer::Open(UniqueFd device) {
  device_ = std::move(device);
  const int flags = fcntl(device_.get(), F_GETFL);
  if (flags < 0 || fcntl(device_.get(), F_SETFL, flags | O_NONBLOCK) != 0) return {errno, "fcntl", {}, {}};
  epoll_ = UniqueFd(epoll_create1(EPOLL_CLOEXEC));
  stop_ = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  wake_ = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!epoll_.valid() || !stop_.valid() || !wake_.valid()) return {errno, "eventfd", {}, {}};
  for (const int fd : {device_.get(), stop_.get(), wake_.get()}) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return {errno, "epoll_ctl", {}, {}};
  }
  return {};
}

Failure LayerServer::Start(unsigned threads) {
  for (unsigned i = 0; i < threads; i++) {
    pthread_t thread;
    if (const int error = pthread_create(&thread, nullptr, Main, this)) return {error, "pthread_create", {}, {}};
    pthread_setname_np(thread, "thaw-layers");
    threads_.push_back(thread);
  }
  return {};
}

Failure LayerServer::Add(std::shared_ptr<LayerFile> file) {
  const std::unique_lock lock(files_mutex_);
  for (const auto& [node, known] : files_)
    if (!known->removed && (node == file->node || known->name == file->name))
      return {EEXIST, "", file->name, "the layer is served already"};
  auto& place = files_[file->node];
  if (place) file->opens = place->opens.load();
  place = std::move(file);
  return {};
}

void LayerServer::Remove(uint64_t node) {
  const std::unique_lock lock(files_mutex_);
  const auto found = files_.find(node);
  if (found == files_.end()) return;
  found->second->removed = true;
  if (found->second->opens == 0) files_.erase(found);
}

void LayerServer::Present(uint64_t node, uint32_t frame) {
  if (const auto file = Find(node)) file->present.Set(frame);
}

std::vector<uint32_t> LayerServer::Reads(uint64_t node) const {
  const auto file = Find(node);
  return file ? file->reads() : std::vector<uint32_t>();
}

void LayerServer::Answer(uint64_t ticket, int error) {
  {
    const std::lock_guard lock(waiting_mutex_);
    const auto found = waiting_.find(ticket);
    if (found == waiting_.end()) return;
    ready_.push_back({found->second, error});
    waiting_.erase(found);
  }
  const uint64_t one = 1;
  // Safe: an eventfd of this object; it cannot be full, as its threads take what is in it.
  static_cast<void>(!write(wake_.get(), &one, sizeof one));
}

Failure LayerServer::Resend() {
  fuse_out_header header{};
  header.len = sizeof header;
  header.error = kNotifyResend;
  // Safe: a notification of no content; a kernel that does not know it says EINVAL.
  if (write(device_.get(), &header, sizeof header) != sizeof header) return {errno, "write", "/dev/fuse", {}};
  return {};
}

void* LayerServer::Main(void* self) {
  static_cast<LayerServer*>(self)->Serve();
  return nullptr;
}

void LayerServer::Serve() {
  const auto worker = std::make_unique<Worker>();
  worker->OpenPipe();
  for (;;) {
    epoll_event event;
    // One event a thread: the threads share the set, and the kernel wakes one of them for each.
    const int count = epoll_wait(epoll_.get(), &event, 1, -1);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 || event.data.fd == stop_.get()) return;
    if (event.data.fd == wake_.get()) ServeReady(*worker);
    else if (!TakeRequest(*worker)) return;
  }
}

void LayerServer::ServeReady(Worker& worker) {
  uint64_t count;
  // Safe: takes what is in an eventfd of this object. Another thread may have been faster.
  static_cast<void>(!read(wake_.get(), &count, sizeof count));
  for (;;) {
    std::optional<Ready> next;
    {
      const std::lock_guard lock(waiting_mutex_);
      if (ready_.empty()) return;
      next = ready_.front();
      ready_.pop_front();
    }
    if (next->error) Reply(next->read.unique, next->error, nullptr, 0);
    else HandleRead(worker, next->read, true);
  }
}

// False when nothing is mounted any more.
bool LayerServer::TakeRequest(Worker& worker) {
  // Safe: the kernel writes whole requests only, none of which is longer than what INIT was answered with.
  const ssize_t size = read(device_.get(), worker.request, sizeof worker.request);
  if (size < 0) return errno != ENODEV && errno != EBADF;
  fuse_in_header header;
  if (static_cast<size_t>(size) < sizeof header) return true;
  memcpy(&header, worker.request, sizeof header);
  Handle(worker, header, worker.request + sizeof header, static_cast<size_t>(size) - sizeof header);
  return true;
}

void LayerServer::Handle(Worker& worker, const fuse_in_header& header, const uint8_t* body, size_t length) {
  switch (header.opcode) {
    case FUSE_INIT:
      return Initialize(header, body, length);
    case FUSE_LOOKUP:
      return Lookup(header, reinterpret_cast<const char*>(body));
    case FUSE_GETATTR:
      return Attributes(header);
    case FUSE_OPEN:
      return Open(header);
    case FUSE_READ: {
      fuse_read_in in;
      if (length < sizeof in) return Reply(header.unique, EINVAL, nullptr, 0);
      memcpy(&in, body, sizeof in);
      return HandleRead(worker, {header.unique, header.nodeid, in.offset, std::min(in.size, kLargestRead)}, false);
    }
    case FUSE_OPENDIR: {
      const fuse_open_out out{};
      return Reply(header.unique, 0, &out, sizeof out);
    }
    case FUSE_RELEASE:
      return Release(header);
    case FUSE_READDIR:
    case FUSE_RELEASEDIR:
    case FUSE_FLUSH:
    case FUSE_DESTROY:
      return Reply(header.unique, 0, nullptr, 0);
    case FUSE_STATFS: {
      const fuse_statfs_out out{};
      return Reply(header.unique, 0, &out, sizeof out);
    }
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
      return;  // not answered
    default:
      // INTERRUPT is among them: a read that a signal broke off would be an I/O error above, in EROFS.
      return Reply(header.unique, ENOSYS, nullptr, 0);
  }
}

void LayerServer::Initialize(const fuse_in_header& header, const uint8_t* body, size_t length) {
  fuse_init_in in{};
  memcpy(&in, body, std::min(length, sizeof in));
  if (in.major != FUSE_KERNEL_VERSION) return Reply(header.unique, EPROTO, nullptr, 0);
  fuse_init_out out{};
  out.major = FUSE_KERNEL_VERSION;
  out.minor = std::min(in.minor, kMinor);
  out.max_readahead = in.max_readahead;
  const uint64_t offered = in.flags | (in.flags & FUSE_INIT_EXT ? static_cast<uint64_t>(in.flags2) << 32 : 0);
  const uint64_t wanted = FUSE_ASYNC_READ | FUSE_MAX_PAGES | FUSE_PARALLEL_DIROPS | FUSE_INIT_EXT | kHasResend;
  out.flags = static_cast<uint32_t>(offered & wanted);
  out.flags2 = static_cast<uint32_t>((offered & wanted) >> 32);
  out.max_background = kMostBackground;
  out.congestion_threshold = kMostBackground * 3 / 4;
  // Nobody writes; the kernel takes no less.
  out.max_write = 4096;
  out.max_pages = kLargestReadPages;
  out.time_gran = 1;
  Reply(header.unique, 0, &out, sizeof out);
}

void LayerServer::Lookup(const fuse_in_header& header, const char* name) {
  std::shared_ptr<LayerFile> found;
  if (header.nodeid == kRoot) {
    const std::shared_lock lock(files_mutex_);
    for (const auto& [node, file] : files_)
      if (file->name == name && !file->removed) found = file;
  }
  if (!found) return Reply(header.unique, ENOENT, nullptr, 0);
  fuse_entry_out out{};
  out.nodeid = found->node;
  out.entry_valid = kForever;
  out.attr_valid = kForever;
  out.attr = AttributesOf(found->node, found.get());
  Reply(header.unique, 0, &out, sizeof out);
}

void LayerServer::Open(const fuse_in_header& header) {
  fuse_open_out out{};
  {
    // Exclusive, like a removal: it must not go between the look and the count.
    const std::unique_lock lock(files_mutex_);
    const auto found = files_.find(header.nodeid);
    if (found == files_.end() || found->second->removed) return Reply(header.unique, ENOENT, nullptr, 0);
    LayerFile& file = *found->second;
    file.opens++;
    if (file.records) file.ForgetReads();
    out.open_flags = file.records ? 0 : FOPEN_KEEP_CACHE;
  }
  Reply(header.unique, 0, &out, sizeof out);
}

void LayerServer::Release(const fuse_in_header& header) {
  {
    const std::unique_lock lock(files_mutex_);
    const auto found = files_.find(header.nodeid);
    // What a server before this one has opened is not counted.
    if (found != files_.end() && found->second->opens > 0 && --found->second->opens == 0 && found->second->removed)
      files_.erase(found);
  }
  Reply(header.unique, 0, nullptr, 0);
}

void LayerServer::Attributes(const fuse_in_header& header) {
  const auto file = Find(header.nodeid);
  if (!file && header.nodeid != kRoot) return Reply(header.unique, ENOENT, nullptr, 0);
  fuse_attr_out out{};
  out.attr_valid = kForever;
  out.attr = AttributesOf(header.nodeid, file.get());
  Reply(header.unique, 0, &out, sizeof out);
}

// `waited`: what it waited for is said to be here.
void LayerServer::HandleRead(Worker& worker, const Read& request, bool waited) {
  const auto file = Find(request.node);
  if (!file) return Reply(request.unique, EIO, nullptr, 0);
  if (request.offset >= file->size || request.size == 0) return Reply(request.unique, 0, nullptr, 0);
  const size_t length = static_cast<size_t>(std::min<uint64_t>(request.size, file->size - request.offset));
  if (file->records && !waited) file->NoteRead(request.offset, length);
  MissingFrames missing{0, request.node, 0, 0};
  if (file->Missing(request.offset, length, &missing.first, &missing.last)) {
    // Never what is in a hole of the file.
    if (waited) return Reply(request.unique, EIO, nullptr, 0);
    {
      const std::lock_guard lock(waiting_mutex_);
      missing.ticket = ++last_ticket_;
      waiting_[missing.ticket] = request;
    }
    return report_(context_, missing);
  }
  if (length <= worker.pipe_bytes && ReplyBySplice(worker, *file, request, length)) return;
  for (size_t done = 0; done < length;) {
    // Safe: at most the buffer's length.
    const ssize_t count = pread(file->fd.get(), worker.data.data() + done, length - done,
                                static_cast<off_t>(request.offset + done));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return Reply(request.unique, count < 0 ? errno : EIO, nullptr, 0);
    done += static_cast<size_t>(count);
  }
  Reply(request.unique, 0, worker.data.data(), length);
}

// From page cache to page cache, through no memory of this process. False if nothing was answered.
bool LayerServer::ReplyBySplice(Worker& worker, const LayerFile& file, const Read& read, size_t length) {
  fuse_out_header header{};
  header.unique = read.unique;
  header.len = static_cast<uint32_t>(sizeof header + length);
  // Safe: an empty pipe of this thread, which takes header and data.
  bool filled = write(worker.pipe_write.get(), &header, sizeof header) == sizeof header;
  auto offset = static_cast<loff_t>(read.offset);
  for (size_t done = 0; filled && done < length;) {
    const ssize_t count = splice(file.fd.get(), &offset, worker.pipe_write.get(), nullptr, length - done, 0);
    if (count < 0 && errno == EINTR) continue;
    filled = count > 0;
    if (filled) done += static_cast<size_t>(count);
  }
  if (!filled) {
    worker.OpenPipe();
    return false;
  }
  // Safe: one whole answer, as the kernel demands; see Reply for what it refuses.
  if (splice(worker.pipe_read.get(), nullptr, device_.get(), nullptr, header.len, 0) != header.len) worker.OpenPipe();
  return true;
}

void LayerServer::Reply(uint64_t unique, int error, const void* data, size_t length) {
  fuse_out_header header{};
  header.unique = unique;
  header.error = -error;
  header.len = static_cast<uint32_t>(sizeof header + length);
  const iovec parts[2] = {{&header, sizeof header}, {const_cast<void*>(data), length}};
  // Safe: one whole answer. ENOENT: nobody waits for it any more, or another server has answered what was sent again.
  static_cast<void>(!writev(device_.get(), parts, length ? 2 : 1));
}

std::shared_ptr<LayerFile> LayerServer::Find(uint64_t node) const {
  const std::shared_lock lock(files_mutex_);
  const auto found = files_.find(node);
  return found == files_.end() ? nullptr : found->second;
}

}  // namespace thaw
