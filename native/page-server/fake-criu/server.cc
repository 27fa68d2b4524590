#include "server.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <vector>

#include "layout.h"
#include "output.h"
#include "pages.h"
#include "pending.h"
#include "protocol.h"

namespace thaw {
namespace {

// No mapping of a process can be here: its program is not position-independent, and starts above.
constexpr uint64_t kNowhere = 1 << 16;

// How often it is looked whether a process has ended.
constexpr int64_t kLookUs = 2000;

int64_t MonotonicUs() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<int64_t>(now.tv_sec) * 1'000'000 + now.tv_nsec / 1000;
}

// A mapped pages file. Stays as long as the program.
const uint8_t* MapFile(const std::string& path, uint64_t pages) {
  const UniqueFd file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat info {};
  if (!file.valid() || fstat(file.get(), &info) != 0) Die("cannot read %s: %s", path.c_str(), strerror(errno));
  if (static_cast<uint64_t>(info.st_size) != pages * kPageBytes) Die("%s has the wrong size", path.c_str());
  if (pages == 0) return nullptr;
  void* const mapped = mmap(nullptr, pages * kPageBytes, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (mapped == MAP_FAILED) Die("cannot map %s: %s", path.c_str(), strerror(errno));
  return static_cast<const uint8_t*>(mapped);
}

// One address space.
struct Space {
  UniqueFd uffd;
  const uint8_t* file;
  Pending pending;
  std::deque<uint64_t> faults;
  uint64_t cursor = 0;
  bool gone = false;
};

class Server {
 public:
  explicit Server(const Options& options) : options_(options), layout_(ReadLayout(options.layout.c_str())) {
    for (const Process& process : layout_.processes)
      if (!process.zombie) files_[process.pid] = MapFile(PagesFileOf(options.pages, process.pid), process.FilePages());
  }
  int Run();

 private:
  bool HasBug(const char* name) const { return options_.bug == name; }
  void ReadConnection(int connection);
  void AddSpace(uint32_t pid, UniqueFd uffd);
  void ReadMessages(Space* space);
  void OnEvent(Space* space, const uffd_msg& message);
  // 0 or the errno; reads the events that are in its way.
  int Install(Space* space, uint64_t address);
  int CopyInto(Space* space, uint64_t address, std::optional<uint64_t> page);
  void AnswerFaults(Space* space);
  void Drain(Space* space);
  void CopyLate();

  struct Late {
    Space* space;
    uint64_t address, page;
  };

  const Options& options_;
  const Layout layout_;
  std::map<uint32_t, const uint8_t*> files_;
  std::vector<std::unique_ptr<Space>> spaces_;
  std::deque<Late> late_;
  bool finished_ = false;
  uint64_t copies_ = 0;
  size_t next_ = 0;
};

void Server::AddSpace(uint32_t pid, UniqueFd uffd) {
  const auto process = std::find_if(layout_.processes.begin(), layout_.processes.end(),
                                    [&](const Process& other) { return other.pid == pid && !other.zombie; });
  if (process == layout_.processes.end()) Die("process %u is not in the layout", pid);
  auto space = std::make_unique<Space>();
  space->uffd = std::move(uffd);
  space->file = files_[pid];
  for (const PageRun& run : process->runs)
    space->pending.Add(run.address, run.address + run.pages * kPageBytes, run.first);
  spaces_.push_back(std::move(space));
}

void Server::ReadConnection(int connection) {
  int32_t number;
  // Never more: a byte with a descriptor follows. What was sent comes whole.
  if (recv(connection, &number, sizeof number, MSG_WAITALL) != sizeof number) Die("the restore failed");
  if (static_cast<uint32_t>(number) == kFinished) {
    finished_ = true;
    return;
  }
  const uint32_t pid = static_cast<uint32_t>(number < 0 ? -number : number);
  if (number < 0) {
    if (std::none_of(layout_.processes.begin(), layout_.processes.end(),
                     [&](const Process& process) { return process.pid == pid && process.zombie; }))
      Die("process %u is no zombie in the layout", pid);
    return;
  }
  UniqueFd uffd = ReceiveDescriptor(connection);
  if (!uffd.valid()) Die("no userfaultfd came for process %u", pid);
  AddSpace(pid, std::move(uffd));
}

void Server::OnEvent(Space* space, const uffd_msg& message) {
  const auto length = [&](uint64_t bytes) -> uint64_t {
    return HasBug("int-length") ? std::max(static_cast<int32_t>(bytes), 0) : bytes;
  };
  const auto drop = [&](uint64_t start, uint64_t end) { space->pending.Remove(start, start + length(end - start)); };
  switch (message.event) {
    case UFFD_EVENT_PAGEFAULT:
      space->faults.push_back(message.arg.pagefault.address & ~(kPageBytes - 1));
      break;
    case UFFD_EVENT_FORK: {
      auto child = std::make_unique<Space>();
      child->uffd = UniqueFd(static_cast<int>(message.arg.fork.ufd));
      child->file = space->file;
      child->pending = space->pending;
      if (!HasBug("ignore-fork")) spaces_.push_back(std::move(child));
      break;
    }
    case UFFD_EVENT_REMAP:
      if (!HasBug("ignore-remap"))
        space->pending.Move(message.arg.remap.from, message.arg.remap.to, length(message.arg.remap.len));
      break;
    case UFFD_EVENT_REMOVE:
      if (!HasBug("ignore-remove")) drop(message.arg.remove.start, message.arg.remove.end);
      break;
    case UFFD_EVENT_UNMAP:
      if (!HasBug("ignore-unmap")) drop(message.arg.remove.start, message.arg.remove.end);
      break;
    default:
      Die("unknown event %#x", message.event);
  }
}

void Server::ReadMessages(Space* space) {
  for (;;) {
    uffd_msg message;
    // Safe: the descriptor is O_NONBLOCK, one that came of a fork too.
    const ssize_t got = read(space->uffd.get(), &message, sizeof message);
    if (got == sizeof message) OnEvent(space, message);
    else if (errno != EINTR) return;
  }
}

int Server::CopyInto(Space* space, uint64_t address, std::optional<uint64_t> page) {
  if (page && HasBug("other-page") && ++copies_ % 97 == 0 && *page > 0) --*page;
  if (!page) {
    uffdio_zeropage zero{};
    zero.range = {address, kPageBytes};
    return ioctl(space->uffd.get(), UFFDIO_ZEROPAGE, &zero) == 0 ? 0 : errno;
  }
  uffdio_copy copy{};
  copy.dst = address;
  copy.src = reinterpret_cast<uint64_t>(space->file + *page * kPageBytes);
  copy.len = kPageBytes;
  return ioctl(space->uffd.get(), UFFDIO_COPY, &copy) == 0 ? 0 : errno;
}

int Server::Install(Space* space, uint64_t address) {
  for (;;) {
    // Looked up again each time: an event may have changed what belongs there.
    const int error = CopyInto(space, address, space->pending.PageAt(address));
    if (error == 0 || error == EEXIST) {
      space->pending.Remove(address, address + kPageBytes);
      uffdio_range page{address, kPageBytes};
      // A copy that finds the page there wakes nobody.
      if (error) ioctl(space->uffd.get(), UFFDIO_WAKE, &page);
      return 0;
    }
    if (error == ESRCH) space->gone = true;
    if (error != EAGAIN) return error;
    // The address space is changing until its event is read.
    ReadMessages(space);
  }
}

void Server::AnswerFaults(Space* space) {
  while (!space->gone && !space->faults.empty()) {
    const uint64_t address = space->faults.front();
    space->faults.pop_front();
    const int error = Install(space, address);
    // ENOENT: unmapped since, and who faulted there tries again, or moved, and then too.
    uffdio_range page{address, kPageBytes};
    if (error == ENOENT) ioctl(space->uffd.get(), UFFDIO_WAKE, &page);
    else if (error && error != ESRCH) Die("cannot fill %#lx: %s", address, strerror(error));
  }
}

// One page that nobody asked for.
void Server::Drain(Space* space) {
  const std::optional<uint64_t> next = space->pending.NextAddress(space->cursor);
  if (!next) {
    // There is no event for the end of a process; a copy to nowhere tells.
    if (CopyInto(space, kNowhere, std::nullopt) == ESRCH) space->gone = true;
    return;
  }
  space->cursor = *next + kPageBytes;
  if (HasBug("late-copy")) {
    if (const std::optional<uint64_t> page = space->pending.PageAt(*next)) late_.push_back({space, *next, *page});
    return;
  }
  const int error = Install(space, *next);
  // Before the restore is through, an address need not be registered yet.
  if (error == ENOENT && HasBug("give-up")) space->pending.Remove(*next, *next + kPageBytes);
}

void Server::CopyLate() {
  constexpr size_t kHeld = 32;
  while (late_.size() > kHeld) {
    const Late late = late_.front();
    late_.pop_front();
    const int error = CopyInto(late.space, late.address, late.page);
    if (error == 0 || error == EEXIST) late.space->pending.Remove(late.address, late.address + kPageBytes);
    if (error == ESRCH) late.space->gone = true;
  }
}

int Server::Run() {
  const UniqueFd listener = Listen(options_.socket.c_str());
  Say("listening");
  UniqueFd connection(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!connection.valid()) Die("accept: %s", strerror(errno));
  int64_t drained = MonotonicUs();
  while (!finished_ || !spaces_.empty()) {
    std::vector<pollfd> polled{{finished_ ? -1 : connection.get(), POLLIN, 0}};
    bool pending = false;
    for (const auto& space : spaces_) {
      polled.push_back({space->uffd.get(), POLLIN, 0});
      pending = pending || !space->pending.empty();
    }
    const int64_t pause = pending ? options_.pause_us : kLookUs;
    const int64_t patience = std::max<int64_t>(drained + pause - MonotonicUs(), 0);
    const timespec timeout{patience / 1'000'000, patience % 1'000'000 * 1000};
    if (ppoll(polled.data(), polled.size(), &timeout, nullptr) < 0 && errno != EINTR)
      Die("ppoll: %s", strerror(errno));
    const size_t known = spaces_.size();
    if (polled[0].revents) ReadConnection(connection.get());
    for (size_t i = 0; i < known; i++)
      if (polled[1 + i].revents) ReadMessages(spaces_[i].get());
    // Those that came of a fork in the meantime, too.
    for (size_t i = 0; i < spaces_.size(); i++) AnswerFaults(spaces_[i].get());
    // So few that those who fault are not kept waiting when there are many processes.
    if (MonotonicUs() >= drained + pause) {
      for (int i = 0; i < 4 && !spaces_.empty(); i++) Drain(spaces_[next_++ % spaces_.size()].get());
      drained = MonotonicUs();
    }
    CopyLate();
    const auto is_gone = [](const Late& late) { return late.space->gone; };
    late_.erase(std::remove_if(late_.begin(), late_.end(), is_gone), late_.end());
    spaces_.erase(std::remove_if(spaces_.begin(), spaces_.end(), [](const auto& space) { return space->gone; }),
                  spaces_.end());
  }
  return kRight;
}

}  // namespace

int Serve(const Options& options) {
  LimitTime(2 * options.timeout + 4, "serve-slow");
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  return Server(options).Run();
}

}  // namespace thaw
