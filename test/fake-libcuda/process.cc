// A process that "uses CUDA" through the fake driver: one token in its memory, one in a file, one in GPU memory.
//
//   fake-cuda-process DIRECTORY TOKEN [busy|managed]… [children N] [mib N]
//
// DIRECTORY is that of THAW_FAKE_CUDA, mounted into the container. Writes what it sees to /state, again and again. Maps
// /libcuda.so.1, by which a CUDA process is known. THAW_FAKE_ROOT is put before both.

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include <string>

#include "device.h"

namespace {

constexpr uint64_t kBytes = 64 << 20;
Cell* const cell = reinterpret_cast<Cell*>(kCellAddress);
std::string directory;

void Sleep(long ms) {
  const timespec pause{ms / 1000, ms % 1000 * 1000000};
  nanosleep(&pause, nullptr);
}

std::string Memory() {
  char name[32];
  snprintf(name, sizeof name, "/memory-%016llx", static_cast<unsigned long long>(cell->handle));
  return directory + name;
}

std::string Read(const std::string& path) {
  char text[64] = {};
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  const ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
  if (fd >= 0) close(fd);
  return size < 0 ? "lost" : text;
}

uint32_t Count(const std::string& path) {
  uint32_t lines = 0;
  char text[4096];
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  const ssize_t size = fd < 0 ? 0 : read(fd, text, sizeof text);
  for (ssize_t at = 0; at < size; at++) lines += text[at] == '\n';
  if (fd >= 0) close(fd);
  return lines;
}

bool Write(const std::string& path, const char* text) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  const bool written = fd >= 0 && write(fd, text, strlen(text)) >= 0;
  if (fd >= 0) close(fd);
  return written;
}

Result Do(Operation operation, uint32_t timeout_ms) {
  switch (operation) {
    case kState:
      return kSuccess;
    case kLock:
      if (cell->state != kRunning) return kIllegalState;
      for (uint32_t waited = 0; cell->busy; waited += 10) {
        if (timeout_ms && waited >= timeout_ms) return kNotReady;
        Sleep(10);
      }
      cell->state = kLocked;
      return kSuccess;
    case kCheckpoint:
      if (cell->state != kLocked) return kIllegalState;
      if (cell->managed) return kNotSupported;
      strncpy(cell->saved, Read(Memory()).c_str(), sizeof cell->saved - 1);
      unlink(Memory().c_str());
      cell->state = kCheckpointed;
      return kSuccess;
    case kRestore:
      if (cell->state != kCheckpointed || cell->stuck) return kIllegalState;
      if (!Write(Memory(), cell->saved)) return kOperatingSystem;
      memset(cell->saved, 0, sizeof cell->saved);
      cell->state = kLocked;
      return kSuccess;
    case kUnlock:
      if (cell->state != kLocked) return kIllegalState;
      cell->state = kRunning;
      return kSuccess;
  }
  return kInvalidValue;
}

void* RestoreThread(void*) {
  for (;; Sleep(2)) {
    const uint32_t request = __atomic_load_n(&cell->request, __ATOMIC_ACQUIRE);
    if (request == cell->answered) continue;
    cell->result = Do(static_cast<Operation>(cell->operation), cell->timeout_ms);
    __atomic_store_n(&cell->answered, request, __ATOMIC_RELEASE);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return 64;
  directory = argv[1];
  const std::string token = argv[2];
  int children = 0;
  uint64_t bytes = kBytes;
  bool busy = false, managed = false;
  for (int at = 3; at < argc; at++) {
    busy |= strcmp(argv[at], "busy") == 0;
    managed |= strcmp(argv[at], "managed") == 0;
    // More than there is: what is in GPU memory is the token.
    if (strcmp(argv[at], "mib") == 0 && at + 1 < argc) bytes = strtoull(argv[at + 1], nullptr, 10) << 20;
    if (strcmp(argv[at], "children") == 0 && at + 1 < argc) children = atoi(argv[++at]);
  }
  const char* const root = getenv("THAW_FAKE_ROOT");
  const std::string library_path = std::string(root ? root : "") + "/libcuda.so.1";
  std::string name = std::string(root ? root : "") + "/state";
  for (int child = 1; child <= children; child++)
    if (fork() == 0) {
      name += '-' + std::to_string(child);
      break;
    }
  const int library = open(library_path.c_str(), O_RDONLY | O_CLOEXEC);
  if (library < 0 || mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE, library, 0) == MAP_FAILED) return 1;
  close(library);
  if (mmap(cell, sizeof *cell, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != cell)
    return 1;
  cell->bytes = bytes;
  cell->world = WorldOf(directory.c_str());
  if (getrandom(&cell->handle, sizeof cell->handle, 0) != sizeof cell->handle) return 1;
  cell->gpus = Count(directory + "/gpus");
  strncpy(cell->gpu, Read(directory + "/gpus").c_str(), 40);
  if (!Write(Memory(), token.c_str()) || !Write(name + "-file", token.c_str())) return 1;
  cell->busy = busy;
  cell->managed = managed;
  pthread_t thread;
  if (pthread_create(&thread, nullptr, RestoreThread, nullptr) != 0) return 1;
  __atomic_store_n(&cell->magic, kMagic, __ATOMIC_RELEASE);
  for (unsigned long long seq = 1;; seq++) {
    // A call of CUDA, which stands still while the process is locked.
    while (__atomic_load_n(&cell->state, __ATOMIC_ACQUIRE) != kRunning) Sleep(5);
    const std::string seen = std::to_string(seq) + " cpu=" + token + " file=" + Read(name + "-file") + " gpu=" + Read(Memory()) +
                             " on=" + std::string(cell->gpu, 40) + "\n";
    Write(name + ".new", seen.c_str());
    rename((name + ".new").c_str(), name.c_str());
    Sleep(50);
  }
}
