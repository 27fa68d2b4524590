#include "write-back.h"

#include <errno.h>
#include <fcntl.h>

#include <memory>

#include "args.h"
#include "errors.h"
#include "fd.h"
#include "promised-work.h"

namespace thaw {
namespace {

struct Piece : PromisedWork {
  UniqueFd fd;  // a duplicate: the caller may close its own at any time
  int64_t offset;
  int64_t length;

  Failure Run() override {
    // Safe: starts writing what is dirty in the range and waits for it; neither contents nor sizes change.
    if (sync_file_range(fd.get(), offset, length,
                        SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER) != 0)
      return {errno, "sync_file_range", {}, {}};
    return {};
  }
};

}  // namespace

Napi::Value WriteBack(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Args args(info);
  const int fd = args.Fd(0);
  auto piece = std::make_unique<Piece>();
  piece->offset = static_cast<int64_t>(args.Offset(1));
  piece->length = static_cast<int64_t>(args.Offset(2));
  if (!args.ok()) return env.Undefined();
  piece->fd = UniqueFd(fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!piece->fd.valid()) return Throw(env, {errno, "fcntl", {}, {}});
  return PromisedWork::Queue(env, "thaw:write-back", std::move(piece));
}

}  // namespace thaw
