#include "collapse.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <memory>
#include <vector>

#include "args.h"
#include "errors.h"
#include "fd.h"
#include "promised-work.h"

namespace thaw {
namespace {

constexpr int kCollapse = 25;                 // MADV_COLLAPSE, asm-generic/mman-common.h, 6.1
constexpr uint64_t kHugePage = 2 << 20;       // on x86-64, and on arm64 with pages of 4 KiB
constexpr uint64_t kPage = 4096;
constexpr uint64_t kPresent = 1ULL << 63, kFileOrShared = 1ULL << 61;  // admin-guide/mm/pagemap.rst
constexpr uint64_t kLargestStep = 16 * kHugePage;  // a failure costs the rest of its step

struct Work : PromisedWork {
  UniqueFd pidfd;
  UniqueFd pagemap;  // if only whole huge pages are wanted
  std::vector<std::pair<uint64_t, uint64_t>> ranges;
  uint64_t bytes = 0;

  Failure Run() override {
    for (const auto& [from, to] : ranges) {
      const uint64_t end = to / kHugePage * kHugePage;
      for (uint64_t at = (from + kHugePage - 1) / kHugePage * kHugePage, step; at < end; at += step) {
        step = std::min(end - at, kLargestStep);
        if (pagemap.valid()) step = Whole(at, step);
        if (step == 0) {
          step = kHugePage;
          continue;
        }
        iovec part{reinterpret_cast<void*>(at), step};
        // Safe: advice; the memory keeps its content whatever comes of it. The pidfd names one process for good.
        const long done = syscall(SYS_process_madvise, pidfd.get(), &part, 1UL, kCollapse, 0U);
        if (done > 0) bytes += static_cast<uint64_t>(done);
        if (done >= 0) continue;
        // The process, or the kernel's ability, is not there at all; otherwise only this step's memory could not be had so.
        if (errno == ESRCH || errno == ENOSYS || errno == EPERM || errno == EBADF)
          return {errno, "process_madvise", {}, {}};
      }
    }
    return {};
  }

  Napi::Value Result(Napi::Env env) override { return Napi::BigInt::New(env, bytes); }

 private:
  // How much from `at` on, in huge pages, has all of its pages in memory, and as the process's own.
  uint64_t Whole(uint64_t at, uint64_t length) const {
    uint64_t pages[kHugePage / kPage];
    for (uint64_t done = 0; done < length; done += kHugePage) {
      const auto offset = static_cast<off_t>((at + done) / kPage * sizeof *pages);
      // Safe: into an array of this function. The file belongs to one address space for good.
      if (pread(pagemap.get(), pages, sizeof pages, offset) != static_cast<ssize_t>(sizeof pages)) return done;
      const auto is_own = [](uint64_t page) { return (page & (kPresent | kFileOrShared)) == kPresent; };
      if (!std::all_of(std::begin(pages), std::end(pages), is_own)) return done;
    }
    return length;
  }
};

}  // namespace

Napi::Value Collapse(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Args args(info);
  const int pidfd = args.Fd(0);
  const bool only_whole = !info[2].IsUndefined();
  const int pagemap = only_whole ? args.Fd(2) : -1;
  if (!args.ok()) return env.Undefined();
  napi_typedarray_type type = napi_int8_array;
  size_t length = 0;
  void* numbers = nullptr;
  if (!info[1].IsTypedArray() ||
      napi_get_typedarray_info(env, info[1], &type, &length, &numbers, nullptr, nullptr) != napi_ok ||
      type != napi_biguint64_array || length % 2 != 0) {
    Napi::TypeError::New(env, "Cannot use argument 2, expected a BigUint64Array of pairs").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  auto work = std::make_unique<Work>();
  const auto* const pairs = static_cast<const uint64_t*>(numbers);
  for (size_t i = 0; i < length; i += 2)
    if (pairs[i] < pairs[i + 1]) work->ranges.emplace_back(pairs[i], pairs[i + 1]);
  work->pidfd = UniqueFd(fcntl(pidfd, F_DUPFD_CLOEXEC, 0));
  if (!work->pidfd.valid()) return Throw(env, {errno, "fcntl", {}, {}});
  if (only_whole) {
    work->pagemap = UniqueFd(fcntl(pagemap, F_DUPFD_CLOEXEC, 0));
    if (!work->pagemap.valid()) return Throw(env, {errno, "fcntl", {}, {}});
  }
  return PromisedWork::Queue(env, "thaw:collapse", std::move(work));
}

}  // namespace thaw
