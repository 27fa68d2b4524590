#include "copy-pages.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "args.h"
#include "errors.h"
#include "fd.h"
#include "promised-work.h"

namespace thaw {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kBlock = 64;  // pages that one thread takes at a time: they stay in its cache between read and write
constexpr int kMostThreads = 64;

struct Piece {
  uint64_t target;  // bytes
  uint64_t page, pages;
};

struct Work : PromisedWork {
  UniqueFd target, source;
  std::vector<Piece> pieces;  // in order of `page`, none over another
  unsigned threads = 1;
  std::atomic<uint64_t> next{0}, bytes{0};
  std::atomic<bool> failed{false};
  std::mutex mutex;
  Failure failure;  // the first one

  Failure Run() override {
    std::vector<pthread_t> helpers;
    for (unsigned i = 1; i < threads; i++) {
      pthread_t helper;
      // One that cannot be had is one less.
      if (pthread_create(&helper, nullptr, [](void* self) -> void* {
            static_cast<Work*>(self)->Loop();
            return nullptr;
          }, this) != 0)
        break;
      helpers.push_back(helper);
    }
    Loop();
    for (const pthread_t helper : helpers) pthread_join(helper, nullptr);
    return failure;
  }

  Napi::Value Result(Napi::Env env) override { return Napi::BigInt::New(env, bytes.load()); }

 private:
  void Loop() {
    // Safe: freed with the deleter; aligned as the kernel copies best.
    const std::unique_ptr<uint8_t, decltype(&free)> block(
        static_cast<uint8_t*>(aligned_alloc(kPage, kBlock * kPage)), free);
    if (!block) return Fail({ENOMEM, "aligned_alloc", {}, {}});
    const uint64_t end = pieces.empty() ? 0 : pieces.back().page + pieces.back().pages;
    while (!failed) {
      const uint64_t from = next.fetch_add(kBlock);
      if (from >= end) return;
      if (!CopyBlock(from, std::min(from + kBlock, end), block.get())) return;
    }
  }

  bool CopyBlock(uint64_t from, uint64_t to, uint8_t* block) {
    auto piece = std::upper_bound(pieces.begin(), pieces.end(), from,
                                  [](uint64_t page, const Piece& other) { return page < other.page + other.pages; });
    for (; piece != pieces.end() && piece->page < to; piece++) {
      const uint64_t first = std::max(from, piece->page), last = std::min(to, piece->page + piece->pages);
      const size_t size = (last - first) * kPage;
      // Safe: at most a block.
      if (!All(pread, source, block, size, first * kPage, "pread")) return false;
      // What is all zeros stays a hole.
      if (block[0] == 0 && memcmp(block, block + 1, size - 1) == 0) continue;
      const uint64_t at = piece->target + (first - piece->page) * kPage;
      // Safe: the descriptor names what it writes to for good, also where that is the memory of a process.
      if (!All(pwrite, target, block, size, at, "pwrite")) return false;
      bytes += size;
    }
    return true;
  }

  template <typename Call>
  bool All(Call call, const UniqueFd& fd, uint8_t* at, size_t left, uint64_t offset, const char* name) {
    while (left > 0) {
      const ssize_t size = call(fd.get(), at, left, static_cast<off_t>(offset));
      if (size < 0 && errno == EINTR) continue;
      if (size <= 0) {
        // Nothing: the file is too short, or the process is gone.
        Fail({size < 0 ? errno : EIO, name, {}, size < 0 ? "" : "it ends before that"});
        return false;
      }
      at += size;
      offset += static_cast<uint64_t>(size);
      left -= static_cast<size_t>(size);
    }
    return true;
  }

  void Fail(Failure what) {
    const std::lock_guard<std::mutex> lock(mutex);
    if (!failed.exchange(true)) failure = std::move(what);
  }
};

// From numbers of JavaScript; false unless they are in order, do not overlap and stay within what an off_t can say.
bool ToPieces(const std::vector<uint64_t>& numbers, std::vector<Piece>* pieces) {
  constexpr uint64_t kMost = UINT64_C(1) << 62;
  uint64_t page = 0;
  for (size_t i = 0; i < numbers.size(); i += 3) {
    const Piece piece{numbers[i], numbers[i + 1], numbers[i + 2]};
    if (piece.pages == 0 || piece.page < page || piece.page > kMost / kPage || piece.pages > kMost / kPage ||
        piece.target > kMost)
      return false;
    page = piece.page + piece.pages;
    pieces->push_back(piece);
  }
  return true;
}

}  // namespace

Napi::Value CopyPages(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Args args(info);
  const int target = args.Fd(0), source = args.Fd(1);
  const std::vector<uint64_t> numbers = args.Numbers(2, 3);
  auto work = std::make_unique<Work>();
  work->threads = static_cast<unsigned>(args.Integer(3, 1, kMostThreads, "a number of threads"));
  if (!args.ok()) return env.Undefined();
  if (!ToPieces(numbers, &work->pieces)) {
    Napi::TypeError::New(env, "Cannot use argument 3, its pieces are not in order").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  work->target = UniqueFd(fcntl(target, F_DUPFD_CLOEXEC, 0));
  work->source = UniqueFd(fcntl(source, F_DUPFD_CLOEXEC, 0));
  if (!work->target.valid() || !work->source.valid()) return Throw(env, {errno, "fcntl", {}, {}});
  return PromisedWork::Queue(env, "thaw:copy", std::move(work));
}

}  // namespace thaw
