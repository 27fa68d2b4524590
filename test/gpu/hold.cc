// A process with a state to lose: one token in CPU memory, in a file and in a CUDA allocation, and as much device memory as
// asked for, filled from the token. Writes what it sees to OUT, one line a time. Needs libcuda.so.1 and no CUDA toolkit.
//
//   hold --token TOKEN --file FILE --out OUT [--mib N] [--pinned MIB] [--managed] [--ipc | --peer] [--spin MS]
//        [--open HANDLE] [--second [--access]] [--host MIB [--memfd]] [--no-gpu]
//
// --ipc: writes the handle of the token on the GPU to OUT. --open: a child opens the memory of such a handle.
// --second: the token is on a second GPU too, and is looked at there. --access: the GPUs have access to each other's memory.
// --peer: a child has some of the device memory open too (CUDA IPC), and says what it sees there.
// --host: as much memory of the host, private or of a memfd. --no-gpu: nothing but that.
// SIGUSR1: the checksum of all device memory, of that and of pinned memory. SIGUSR2: starts a kernel of `--spin` milliseconds.

#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <string>
#include <vector>

namespace {

using DevicePointer = unsigned long long;
constexpr size_t kMiB = 1 << 20;
constexpr size_t kBlock = 64 * kMiB;
constexpr size_t kAllocation = 1024 * kMiB;

const char kSpin[] =
    ".version 7.0\n.target sm_70\n.address_size 64\n"
    ".visible .entry spin(.param .u64 cycles) {\n"
    "  .reg .u64 %r<4>; .reg .pred %p;\n"
    "  ld.param.u64 %r0, [cycles];\n  mov.u64 %r1, %clock64;\n"
    "AGAIN:\n  mov.u64 %r2, %clock64;\n  sub.u64 %r3, %r2, %r1;\n"
    "  setp.lt.u64 %p, %r3, %r0;\n  @%p bra AGAIN;\n  ret;\n}\n";

void* cuda = nullptr;
int out = -1;
volatile sig_atomic_t wants_sum = 0, wants_spin = 0;

void Say(const char* format, ...) {
  char line[512];
  va_list arguments;
  va_start(arguments, format);
  const int length = vsnprintf(line, sizeof line - 1, format, arguments);
  va_end(arguments);
  line[length] = '\n';
  if (write(out, line, static_cast<size_t>(length) + 1) < 0) _exit(3);
}

template <typename... A>
void Call(const char* name, A... arguments) {
  const auto function = reinterpret_cast<int (*)(A...)>(dlsym(cuda, name));
  const int result = function ? function(arguments...) : -1;
  if (result == 0) return;
  Say("failed %s %d", name, result);
  _exit(2);
}

// splitmix64: what a block holds follows from its seed alone, and compresses badly.
uint64_t Next(uint64_t* state) {
  uint64_t z = (*state += 0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

// Private, or of a memfd; a block of it is like one of device memory.
uint64_t* MapHost(size_t size, bool memfd) {
  const int fd = memfd ? memfd_create("host", MFD_CLOEXEC) : -1;
  if (memfd && (fd < 0 || ftruncate(fd, static_cast<off_t>(size)) != 0)) return nullptr;
  const int flags = memfd ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
  void* const memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, flags, fd, 0);
  return memory == MAP_FAILED ? nullptr : static_cast<uint64_t*>(memory);
}

struct Handle {
  char bytes[64];
};

std::string Hex(const Handle& handle) {
  std::string text;
  for (const char byte : handle.bytes) {
    char digits[3];
    snprintf(digits, sizeof digits, "%02x", static_cast<unsigned char>(byte));
    text += digits;
  }
  return text;
}

Handle FromHex(const std::string& text) {
  Handle handle{};
  for (size_t at = 0; at < sizeof handle.bytes && 2 * at + 1 < text.size(); at++)
    handle.bytes[at] = static_cast<char>(strtoul(text.substr(2 * at, 2).c_str(), nullptr, 16));
  return handle;
}

// In a process that has not used CUDA yet.
void WatchMemory(Handle handle) {
  cuda = dlopen("libcuda.so.1", RTLD_NOW);
  if (!cuda) _exit(2);
  int device = 0;
  void* context = nullptr;
  DevicePointer memory = 0;
  Call("cuInit", 0U);
  Call("cuDeviceGet", &device, 0);
  Call("cuDevicePrimaryCtxRetain", &context, device);
  Call("cuCtxSetCurrent", context);
  Call("cuIpcOpenMemHandle_v2", &memory, handle, 1U);
  for (;;) {
    char seen[33] = {};
    Call("cuMemcpyDtoH_v2", static_cast<void*>(seen), memory, size_t{32});
    Say("peer gpu=%s", seen);
    const timespec pause{0, 100000000};
    nanosleep(&pause, nullptr);
  }
}

std::string ReadFile(const char* path) {
  char text[128] = {};
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  const ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
  if (fd >= 0) close(fd);
  return size < 0 ? "missing" : text;
}

}  // namespace

int main(int argc, char** argv) {
  std::string token, file, output;
  size_t mib = 64, pinned = 0, host = 0;
  uint64_t spin = 0;
  bool managed = false, ipc = false, peer = false, second = false, access = false, memfd = false, gpu = true;
  std::string opened;
  for (int at = 1; at < argc; at++) {
    const std::string flag = argv[at];
    const char* const value = at + 1 < argc ? argv[at + 1] : "";
    if (flag == "--managed") managed = true;
    else if (flag == "--ipc") ipc = true;
    else if (flag == "--peer") peer = ipc = true;
    else if (flag == "--second") second = true;
    else if (flag == "--access") access = true;
    else if (flag == "--memfd") memfd = true;
    else if (flag == "--no-gpu") gpu = false;
    else if (flag == "--open") opened = value, at++;
    else if (flag == "--token") token = value, at++;
    else if (flag == "--file") file = value, at++;
    else if (flag == "--out") output = value, at++;
    else if (flag == "--mib") mib = strtoull(value, nullptr, 10), at++;
    else if (flag == "--pinned") pinned = strtoull(value, nullptr, 10), at++;
    else if (flag == "--host") host = strtoull(value, nullptr, 10) * kMiB, at++;
    else if (flag == "--spin") spin = strtoull(value, nullptr, 10), at++;
    else return 64;
  }
  out = output.empty() ? 1 : open(output.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (out < 0 || token.empty() || file.empty()) return 64;
  token.resize(32, '.');
  signal(SIGUSR1, [](int) { wants_sum = 1; });
  signal(SIGUSR2, [](int) { wants_spin = 1; });
  const int fd = open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0 || write(fd, token.data(), token.size()) < 0) return 3;
  close(fd);

  int handles[2] = {-1, -1};
  if (peer && pipe(handles) != 0) return 4;
  if (peer && fork() == 0) {
    Handle handle;
    if (read(handles[0], &handle, sizeof handle) != sizeof handle) _exit(5);
    WatchMemory(handle);
  }
  if (!opened.empty() && fork() == 0) WatchMemory(FromHex(opened));
  uint64_t* pinned_memory = nullptr;
  int device = 0;
  void *context = nullptr, *other = nullptr, *module = nullptr, *kernel = nullptr;
  DevicePointer small = 0, copied = 0, shared = 0;
  if (gpu) {
    cuda = dlopen("libcuda.so.1", RTLD_NOW);
    if (!cuda) return Say("no libcuda"), 2;
    Call("cuInit", 0U);
    Call("cuDeviceGet", &device, 0);
    Call("cuDevicePrimaryCtxRetain", &context, device);
    Call("cuCtxSetCurrent", context);
    Call("cuModuleLoadData", &module, static_cast<const void*>(kSpin));
    Call("cuModuleGetFunction", &kernel, module, "spin");
    Call("cuMemAlloc_v2", &small, size_t{4096});
    Call("cuMemcpyHtoD_v2", small, static_cast<const void*>(token.data()), token.size());
    if (managed) {
      Call("cuMemAllocManaged", &shared, size_t{16} * kMiB, 1U);
      Call("cuMemsetD8_v2", shared, static_cast<unsigned char>(7), size_t{16} * kMiB);
    }
    if (ipc) {
      Handle handle;
      Call("cuIpcGetMemHandle", static_cast<void*>(&handle), small);
      if (peer && write(handles[1], &handle, sizeof handle) != sizeof handle) return 4;
      Say("handle %s", Hex(handle).c_str());
    }
    if (second) {
      Call("cuDeviceGet", &device, 1);
      Call("cuDevicePrimaryCtxRetain", &other, device);
      if (access) Call("cuCtxEnablePeerAccess", other, 0U);
      Call("cuCtxSetCurrent", other);
      if (access) Call("cuCtxEnablePeerAccess", context, 0U);
      Call("cuMemAlloc_v2", &copied, size_t{4096});
      Call("cuMemcpyPeer", copied, other, small, context, token.size());
      Call("cuCtxSetCurrent", context);
    }
    if (pinned > 0) {
      Call("cuMemHostAlloc", &pinned_memory, pinned * kMiB, 0U);
      for (size_t word = 0; word < pinned * kMiB / 8; word++) pinned_memory[word] = word * 0x9e3779b97f4a7c15;
    }
  }
  std::vector<uint64_t> block(kBlock / 8);
  std::vector<std::pair<DevicePointer, size_t>> memory;
  uint64_t seed = 0;
  for (const char c : token) seed = seed * 131 + static_cast<unsigned char>(c);
  for (uint64_t& word : block) word = Next(&seed);
  uint64_t* const host_memory = host > 0 ? MapHost(host, memfd) : nullptr;
  if (host > 0 && !host_memory) return Say("failed mmap"), 2;
  for (size_t at = 0; at < host; at += kBlock) {
    block[0] = Next(&seed);
    memcpy(host_memory + at / 8, block.data(), host - at < kBlock ? host - at : kBlock);
  }
  for (size_t left = gpu ? mib * kMiB : 0; left > 0;) {
    const size_t size = left < kAllocation ? left : kAllocation;
    DevicePointer base = 0;
    Call("cuMemAlloc_v2", &base, size);
    for (size_t at = 0; at < size; at += kBlock) {
      block[0] = Next(&seed);
      Call("cuMemcpyHtoD_v2", base + at, static_cast<const void*>(block.data()), size - at < kBlock ? size - at : kBlock);
    }
    memory.emplace_back(base, size);
    left -= size;
  }
  Say("ready %d", getpid());

  for (uint64_t seq = 0;; seq++) {
    if (wants_spin) {
      wants_spin = 0;
      uint64_t cycles = spin * 1500000;  // H100 runs at 1.2 to 2 GHz
      void* parameters[] = {&cycles};
      Call("cuLaunchKernel", kernel, 1U, 1U, 1U, 1U, 1U, 1U, 0U, static_cast<void*>(nullptr), parameters, static_cast<void**>(nullptr));
      Say("spinning %llu", static_cast<unsigned long long>(seq));
    }
    if (wants_sum) {
      wants_sum = 0;
      uint64_t sum = 0;
      std::vector<uint64_t> copy(kBlock / 8);
      for (const auto& [base, size] : memory)
        for (size_t at = 0; at < size; at += kBlock) {
          const size_t part = size - at < kBlock ? size - at : kBlock;
          Call("cuMemcpyDtoH_v2", static_cast<void*>(copy.data()), base + at, part);
          for (size_t word = 0; word < part / 8; word++) sum = sum * 31 + copy[word];
        }
      for (size_t word = 0; word < host / 8; word++) sum = sum * 31 + host_memory[word];
      for (size_t word = 0; word < pinned * kMiB / 8; word++) sum = sum * 31 + pinned_memory[word];
      Say("sum %016llx", static_cast<unsigned long long>(sum));
    }
    char seen[33] = "none";
    if (gpu) Call("cuMemcpyDtoH_v2", static_cast<void*>(seen), small, size_t{32});
    char seen_there[33] = "none";
    if (second) {
      Call("cuCtxSetCurrent", other);
      Call("cuMemcpyDtoH_v2", static_cast<void*>(seen_there), copied, size_t{32});
      Call("cuCtxSetCurrent", context);
    }
    Say("observation %llu cpu=%s file=%s gpu=%s second=%s", static_cast<unsigned long long>(seq), token.c_str(),
        ReadFile(file.c_str()).c_str(), seen, seen_there);
    const timespec pause{0, 100000000};
    nanosleep(&pause, nullptr);
  }
}
