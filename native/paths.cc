#include "paths.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "args.h"
#include "errors.h"
#include "fd.h"

namespace thaw {

Napi::Value OpenBeneath(const Napi::CallbackInfo& info) {
  Args args(info);
  const std::string directory = args.String(0);
  const std::string path = args.String(1);
  const uint32_t flags = args.Flags(2);
  const uint32_t mode = static_cast<uint32_t>(args.Integer(3, 0, 07777, "permission bits"));
  if (!args.ok()) return info.Env().Undefined();

  // The directory itself is the caller's own and trusted.
  const UniqueFd root(open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root.valid()) return Throw(info.Env(), {errno, "open", directory, {}});
  open_how how{};
  how.flags = flags | O_CLOEXEC;
  // openat2 refuses a mode without a file to give it to.
  const bool creates = (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE;
  how.mode = creates ? mode : 0;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  int fd;
  // Safe: the kernel resolves the whole path under these rules in one go, so nothing can be swapped in between.
  // EAGAIN: a rename elsewhere made it unsure about "..", and trying again is what the manual asks for.
  int attempts = 0;
  do fd = static_cast<int>(syscall(SYS_openat2, root.get(), path.c_str(), &how, sizeof how));
  while (fd < 0 && (errno == EINTR || (errno == EAGAIN && attempts++ < 100)));
  if (fd < 0) return Throw(info.Env(), {errno, "openat2", directory + "/" + path, {}});
  return Napi::Number::New(info.Env(), fd);
}

}  // namespace thaw
